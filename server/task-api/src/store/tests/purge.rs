//! A task whose text is forgotten.

use super::once::key_of;
use super::*;
use crate::scrub::MARK;
use crate::store::backup::verify_store;

const SECRET: &str = "hunter2-of-nobody";

/// Hands an order in, with its answer in the writer's next turn.
async fn purge(bench: &mut Bench, id: Uuid) -> Result<Purged, PurgeError> {
    let store = bench.store.clone();
    let mut purge = std::pin::pin!(store.purge(id));
    loop {
        if let Some(purged) = purge.as_mut().now_or_never() {
            return purged;
        }
        bench.turn();
    }
}

/// The files of the store that have these bytes somewhere.
fn files_with(bench: &Bench, text: &str) -> Vec<String> {
    let files = std::fs::read_dir(bench.dir.path()).unwrap().map(|file| file.unwrap());
    let has = |file: &std::fs::DirEntry| {
        let bytes = std::fs::read(file.path()).unwrap();
        String::from_utf8_lossy(&bytes).contains(text)
    };
    files.filter(has).map(|file| file.file_name().into_string().unwrap()).collect()
}

fn secret(repository: &str) -> Change {
    let text = || SECRET.to_owned();
    let task = NewTask {
        title: text(),
        description: SECRET.repeat(1_000),
        assignee: Some(text()),
        tags: vec![text()],
        ..new_task(repository)
    };
    Change::Create { id: Uuid::now_v7(), task }
}

/// A task with a history, with a kept answer for it, another one beside it, and samples of both.
async fn with_secrets() -> (Bench, Uuid, Option<Once>) {
    let mut bench = Bench::new();
    let once = key_of("api", "k", 0);
    bench.create(2);
    let made = bench.make_once(vec![(secret("acme/api"), once.clone())]).remove(0).unwrap();
    let id = made.task.id;
    bench.make(vec![retitle(id, &format!("{SECRET} again"), None), create("acme/api")]);
    // Some is in the file by now, and some in the journal.
    bench.writer.conn.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
    // What is freed is not wiped.
    let short = TaskPatch { description: Some("short".into()), ..TaskPatch::default() };
    bench.make(vec![Change::Update { id, patch: short, if_match: None }]);
    bench.writer.conn.execute_batch("ANALYZE").unwrap();
    (bench, id, once)
}

#[tokio::test]
async fn its_text_is_in_no_file_and_in_no_answer() {
    let (mut bench, id, once) = with_secrets().await;
    assert!(files_with(&bench, SECRET).contains(&DATABASE.to_owned()));
    assert!(files_with(&bench, SECRET).contains(&JOURNAL.to_owned()));

    let purged = purge(&mut bench, id).await.unwrap();
    let expected = Purged { deleted: true, events: 3, answers: 1, left: vec![] };
    assert_eq!(purged, expected);
    assert_eq!(files_with(&bench, SECRET), [""; 0]);
    assert_eq!(bench.store.get(id).await.unwrap(), None);

    // The places stay, and their cursors; the task is gone by an event as any.
    assert_eq!(bench.read(0).await.unwrap(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(bench.seqs(), [1, 2, 3, 4, 5, 6, 7]);
    let page = bench.store.read(0, 7, EVERYTHING).await.unwrap();
    let (_, last) = event(&page.events[6]);
    assert_eq!((last.version, last.task().title.as_str()), (4, MARK));
    assert_eq!(page.events[6].envelope(), bench.published.borrow()[6].envelope());
    let versions = page.events.iter().map(event).filter(|(_, event)| event.task_id == id);
    let versions: Vec<_> = versions
        .map(|(frame, event)| {
            assert!(!frame.encode().contains(SECRET));
            event.version
        })
        .collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    for (log, seq) in page.events.iter().zip(1..) {
        assert_eq!(event(log).0.cursor, Some(bench.store.cursor(seq)));
    }

    // What was asked for once is not done again.
    let again = bench.make_once(vec![(secret("acme/api"), once)]).remove(0).unwrap();
    assert_eq!((again.task.id, again.task.title.as_str()), (id, MARK));
    assert_eq!(bench.store.head(), 7);

    let bench = bench.restart();
    assert_eq!(files_with(&bench, SECRET), [""; 0]);
    assert_eq!(bench.read(0).await.unwrap(), [1, 2, 3, 4, 5, 6, 7]);
    // Each row has its checksum anew.
    let report = verify_store(bench.dir.path()).unwrap();
    assert!(report.is_good() && report.notes.is_empty(), "{report:#?}");
}

#[tokio::test]
async fn what_others_wrote_is_as_it_was() {
    let (mut bench, id, _) = with_secrets().await;
    let others = |page: Page| {
        let other = page.events.into_iter().filter(|log| event(log).1.task_id != id);
        other.map(|log| log.envelope().to_vec()).collect::<Vec<_>>()
    };
    let before = others(bench.store.read(0, 6, EVERYTHING).await.unwrap());
    let tasks = bench.store.list(list_of(10)).await.unwrap().tasks;
    purge(&mut bench, id).await.unwrap();
    assert_eq!(others(bench.store.read(0, 7, EVERYTHING).await.unwrap()), before);
    let left = bench.store.list(list_of(10)).await.unwrap().tasks;
    assert_eq!(left, tasks.into_iter().filter(|task| task.id != id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_task_that_was_deleted_is_purged_too_and_once_is_enough() {
    let (mut bench, id, _) = with_secrets().await;
    bench.make(vec![Change::Delete { id, if_match: None }]);
    let purged = purge(&mut bench, id).await.unwrap();
    assert_eq!((purged.deleted, purged.events, purged.answers), (false, 4, 1));
    assert_eq!(files_with(&bench, SECRET), [""; 0]);
    assert_eq!(purge(&mut bench, id).await.unwrap(), Purged::default());
    assert_eq!(purge(&mut bench, Uuid::now_v7()).await.unwrap(), Purged::default());
    assert_eq!(bench.store.head(), 7);
}

#[tokio::test]
async fn somebody_who_reads_the_file_keeps_the_journal_and_that_is_told() {
    let (mut bench, id, _) = with_secrets().await;
    bench.writer.conn.busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(bench.dir.path().join(DATABASE)).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM task").unwrap();
    assert_eq!(purge(&mut bench, id).await, Err(PurgeError::Journal));
    assert_ne!(files_with(&bench, SECRET), [""; 0]);
    drop(other);
    assert_eq!(purge(&mut bench, id).await, Ok(Purged::default()));
    assert_eq!(files_with(&bench, SECRET), [""; 0]);
}

#[tokio::test]
async fn what_was_set_aside_is_named() {
    let (mut bench, id, _) = with_secrets().await;
    std::fs::write(bench.dir.path().join("taskwatch.db-wal.replaced"), SECRET).unwrap();
    std::fs::create_dir(bench.dir.path().join("replaced-1")).unwrap();
    let purged = purge(&mut bench, id).await.unwrap();
    assert_eq!(purged.left, ["replaced-1", "taskwatch.db-wal.replaced"]);
    std::fs::remove_dir(bench.dir.path().join("replaced-1")).unwrap();
    assert_eq!(files_with(&bench, SECRET), ["taskwatch.db-wal.replaced"]);
}
