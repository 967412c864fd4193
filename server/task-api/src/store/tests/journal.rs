//! What stands in the journal, and to whom it belongs.

use super::*;

#[tokio::test]
async fn a_restart_resets_nobody_and_a_copied_back_file_resets_who_saw_more() {
    let mut bench = Bench::new();
    bench.create(2);
    let seen = bench.store.cursor(2);
    let mut bench = bench.restart();
    assert_eq!(bench.store.validate(&seen), Ok(2));

    let copy = TempDir::new().unwrap();
    let vacuum = format!("VACUUM INTO '{}'", copy.path().join(DATABASE).display());
    bench.writer.conn.execute_batch(&vacuum).unwrap();
    let at_the_copy = bench.store.cursor(2);
    bench.create(1);
    let after_the_copy = bench.store.cursor(3);

    let mut restored = Bench::at(copy, 1000, DAY);
    assert_eq!(restored.store.validate(&seen), Ok(2));
    assert_eq!(restored.store.validate(&at_the_copy), Ok(2));
    restored.create(5);
    assert_eq!(restored.store.validate(&after_the_copy), Err(ResetReason::Incarnation));
    assert_eq!(restored.store.validate(&restored.store.cursor(3)), Ok(3));
}

#[tokio::test]
async fn a_journal_is_replayed_into_the_database_it_belongs_to_and_into_no_other() {
    let (retention, backup) = (Retention { events: 1000, age: DAY }, TempDir::new().unwrap());
    let mut bench = Bench::new();
    bench.create(2);
    let Bench { dir, store, writer, .. } = bench;
    writer.start(drop).unwrap();
    store.close().await;
    copy(dir.path(), backup.path());

    let mut bench = Bench::at(dir, 1000, DAY);
    bench.create(3);
    let lost = bench.store.cursor(5);
    let killed = TempDir::new().unwrap();
    copy(bench.dir.path(), killed.path());
    assert!(killed.path().join("taskwatch.db-wal").metadata().unwrap().len() > 0);

    let crashed = TempDir::new().unwrap();
    copy(killed.path(), crashed.path());
    let (store, _writer) = Store::open(crashed.path(), retention).unwrap();
    assert_eq!((store.head(), store.validate(&lost)), (5, Ok(5)));

    copy(backup.path(), killed.path());
    let mut restored = Bench::at(killed, 1000, DAY);
    assert_eq!(restored.store.head(), 2);
    assert_eq!(restored.store.validate(&lost), Err(ResetReason::Incarnation));
    restored.create(1);
    assert_eq!(restored.read(0).await.unwrap(), [1, 2, 3]);
    let check = restored.writer.conn.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    assert_eq!(check, Ok("ok".to_owned()));
}

#[test]
fn a_journal_is_not_replayed_into_a_copy_made_by_vacuum() {
    let mut bench = Bench::new();
    bench.create(2);
    let vacuumed = TempDir::new().unwrap();
    let vacuumed = vacuumed.path().join("copy.db");
    let vacuum = format!("VACUUM INTO '{}'", vacuumed.display());
    bench.writer.conn.execute_batch(&vacuum).unwrap();
    bench.create(3);
    let lost = bench.store.cursor(5);
    let killed = TempDir::new().unwrap();
    copy(bench.dir.path(), killed.path());
    assert!(killed.path().join("taskwatch.db-wal").metadata().unwrap().len() > 0);

    std::fs::copy(&vacuumed, killed.path().join("taskwatch.db")).unwrap();
    let mut restored = Bench::at(killed, 1000, DAY);
    assert_eq!(restored.store.head(), 2);
    restored.create(1);
    assert_eq!(restored.store.validate(&lost), Err(ResetReason::Incarnation));
    let check = restored.writer.conn.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    assert_eq!(check, Ok("ok".to_owned()));
}

#[test]
fn what_was_acknowledged_while_somebody_else_read_survives_a_kill() {
    let bench = Bench::new();
    let path = bench.dir.path().join("taskwatch.db");
    let Bench { dir, store, writer, .. } = bench;
    drop((store, writer));
    // A backup, which holds a snapshot from before the start to after the end.
    let reader = rusqlite::Connection::open(path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM event;").unwrap();
    let mut bench = Bench::at(dir, 1000, DAY);
    bench.create(3);
    let killed = TempDir::new().unwrap();
    copy(bench.dir.path(), killed.path());
    assert_eq!(Bench::at(killed, 1000, DAY).store.head(), 3);
}

#[tokio::test]
async fn a_long_journal_is_emptied_though_one_reader_begins_before_another_ends() {
    const LONG: u64 = 256 << 10;
    let mut bench = Bench::new();
    bench.writer.long_journal = LONG;
    let journal = bench.dir.path().join(JOURNAL);
    let len = || journal.metadata().unwrap().len();
    let mut others = tokio::task::JoinSet::new();
    let store = bench.store.clone();
    others.spawn(async move { store.keep_journal_short().await });
    // Begins to read, says so, and does not end before it is told to.
    let mut reader = |store: Store| {
        let ((has_begun, begins), (end, ends)) = (oneshot::channel(), std::sync::mpsc::channel());
        others.spawn(async move {
            let read = move |tx: &rusqlite::Transaction<'_>| {
                schema::load_state(tx)?;
                let _ = has_begun.send(());
                let _: Result<(), _> = ends.recv();
                Ok(())
            };
            store.open.long_readers.read(read).await.unwrap();
        });
        (begins, end)
    };

    let (begins, end_first) = reader(bench.store.clone());
    begins.await.unwrap();
    let mut task = new_task("foo");
    task.description = "x".repeat(60_000);
    while len() <= LONG {
        bench.make(vec![Change::Create { id: Uuid::now_v7(), task: task.clone() }]);
    }
    // The wish for a pause stands before the next reader.
    tokio::task::yield_now().await;
    let (mut begins, end_second) = reader(bench.store.clone());
    tokio::task::yield_now().await;
    end_first.send(()).unwrap();
    while begins.try_recv().is_err() {
        let store = bench.store.clone();
        let mut waiting = std::pin::pin!(change(&store, create("foo"), None));
        // The journal's turn may come first.
        while waiting.as_mut().now_or_never().is_none() {
            bench.turn();
            tokio::task::yield_now().await;
        }
    }
    // What comes now is written over what was there.
    let before = len();
    bench.make(vec![create("foo")]);
    assert_eq!(len(), before);
    end_second.send(()).unwrap();
}
