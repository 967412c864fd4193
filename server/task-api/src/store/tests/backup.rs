//! Copies of the store, and what is found out about damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;

use super::*;
use crate::store::backup::{BackupError, backup, restore, verify_file, verify_store};
use crate::store::checksum::COVERED;
use crate::store::schema;
use rusqlite::config::DbConfig;

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// A store in which everything has happened: answers, deletions, tasks whose events are gone.
fn lived_in() -> Bench {
    let mut bench = Bench::keeping(30, WEEK);
    bench.create(20);
    bench.turn();
    let mut bench = bench.restart();
    let key = |n: u8| once::key_of("ana", &n.to_string(), n);
    for n in 0..10 {
        let id = Uuid::now_v7();
        bench.set_clock(i64::from(n));
        bench.make_once(vec![(Change::Create { id, task: new_task("acme/web") }, key(n))]);
        bench.make(vec![retitle(id, &format!("Title {n} é \u{1b}"), None)]);
        if n % 3 == 0 {
            bench.make_once(vec![(Change::Delete { id, if_match: None }, key(100 + n))]);
        }
    }
    // Nobody asks: what is too old goes.
    bench.turn();
    assert_eq!((bench.writer.state.floor, bench.writer.state.head), (14, 44));
    bench
}

/// Stops without a word, and moves the journal into the database, as the next start would.
fn stopped(bench: Bench) -> TempDir {
    let Bench { dir, store, writer, .. } = bench;
    drop((store, writer));
    let conn = Connection::open(dir.path().join(DATABASE)).unwrap();
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    dir
}

fn good(report: &verify::Report) {
    assert!(report.is_good() && report.notes.is_empty(), "{report:#?}");
}

#[test]
fn a_copy_holds_one_moment_and_is_never_made_over_another_by_a_slip() {
    let mut bench = lived_in();
    let (dir, to) = (bench.dir.path().to_owned(), TempDir::new().unwrap());
    good(&verify_store(&dir).unwrap());
    let file = to.path().join("copy");
    let made = backup(&dir, &file, false).unwrap();
    assert_eq!((made.contents.events, made.contents.tasks), (30, 26));
    assert_eq!(made.contents.head, bench.store.cursor(44).as_str());
    assert_eq!(made.bytes, fs::metadata(&file).unwrap().len());
    let report = verify_file(&file).unwrap();
    good(&report);
    assert_eq!(report.contents, made.contents);

    bench.create(1);
    let before = fs::read(&file).unwrap();
    let refused = backup(&dir, &file, false).unwrap_err();
    assert!(matches!(refused, BackupError::Exists { .. }), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), before);
    let made = backup(&dir, &file, true).unwrap();
    assert_eq!(made.contents.head, bench.store.cursor(45).as_str());
    // Nothing else is left, on either side.
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
    let itself = backup(&dir, &dir.join(DATABASE), true).unwrap_err();
    assert!(matches!(itself, BackupError::Itself { .. }), "{itself}");
    let missing = backup(to.path(), &to.path().join("other"), false).unwrap_err();
    assert!(matches!(missing, BackupError::NoStore { .. }), "{missing}");
}

/// A backup, and the bytes of it.
static BACKUP: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let (bench, to) = (lived_in(), TempDir::new().unwrap());
    let file = to.path().join("copy");
    backup(bench.dir.path(), &file, false).unwrap();
    fs::read(&file).unwrap()
});

/// The database of a closed store, and all its rows.
static STORE: LazyLock<(Vec<u8>, String)> = LazyLock::new(|| {
    let dir = stopped(lived_in());
    let database = dir.path().join(DATABASE);
    (fs::read(&database).unwrap(), rows(&database).unwrap())
});

/// All that the store reads, as text.
fn rows(database: &Path) -> rusqlite::Result<String> {
    let conn = Connection::open(database)?;
    let mut all = String::new();
    for (table, columns) in COVERED {
        let mut statement =
            conn.prepare(&format!("SELECT {columns} FROM {table} ORDER BY rowid"))?;
        let count = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..count {
                all += &format!("{:?} ", row.get_ref(column)?);
            }
        }
    }
    Ok(all)
}

fn found_in(bytes: &[u8]) -> Option<verify::Report> {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join(DATABASE);
    fs::write(&file, bytes).unwrap();
    // A byte that says "newer version" is not damage by itself.
    verify_file(&file).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_byte_of_a_backup_that_is_not_as_it_was_written_is_found(
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let mut spoilt = BACKUP.clone();
        let at = at.index(spoilt.len());
        spoilt[at] ^= flip;
        prop_assert!(!found_in(&spoilt).unwrap().is_good(), "byte {}", at);
    }

    /// Bytes between rows, such as those of rows that are gone, say nothing, and may be any.
    #[test]
    fn a_byte_of_a_row_is_found_without_a_seal_though_it_still_reads(
        at in any::<prop::sample::Index>(),
        letter in b'0'..=b'z',
    ) {
        let (database, original) = &*STORE;
        // Most bytes of a text are lower-case letters: one of them turns into another.
        let letters: Vec<_> =
            (0..database.len()).filter(|&n| database[n].is_ascii_alphanumeric()).collect();
        let mut spoilt = database.clone();
        spoilt[letters[at.index(letters.len())]] = letter;
        let dir = TempDir::new().unwrap();
        let file = dir.path().join(DATABASE);
        fs::write(&file, &spoilt).unwrap();
        let report = verify_file(&file);
        prop_assume!(rows(&file).is_ok_and(|rows| rows != *original));
        prop_assert!(!report.unwrap().is_good());
    }
}

#[test]
fn what_is_no_backup_is_judged_by_its_rows_alone() {
    let len = BACKUP.len() - BACKUP.len() % 512;
    let report = found_in(&BACKUP[..len]).unwrap();
    assert!(report.is_good() && report.notes.len() == 1, "{report:#?}");
    for cut in [len - 512, 512, 100, 0] {
        assert!(found_in(&BACKUP[..cut]).is_none_or(|report| !report.is_good()), "{cut} bytes");
    }
}

/// Rows that contradict each other, though each has the checksum of what it says.
#[test]
fn rows_that_do_not_agree_are_found() {
    let dir = stopped(lived_in());
    for (sql, expected) in [
        ("DELETE FROM event WHERE seq = 30", "31 follows 29"),
        ("DELETE FROM event WHERE seq = 44", "ends at 43"),
        ("DELETE FROM event WHERE seq <= 20", "21 follows 14"),
        ("UPDATE event SET seq = 1044 WHERE seq = 44", "1044 follows 43"),
        ("UPDATE event SET repository = 'acme/other' WHERE seq = 20", "on the repository"),
        ("UPDATE event SET kind = 'task.deleted' WHERE seq = 20", "on the type"),
        ("UPDATE event SET ts = ts + 1 WHERE seq = 20", "on the time"),
        ("UPDATE event SET ts = ts - 1000 WHERE seq = 20", "before that of the event before"),
        ("UPDATE event SET task_id = zeroblob(16) WHERE seq = 20", "on the task"),
        (
            "UPDATE event SET envelope = replace(envelope, '\"version\":2', '\"version\":3')",
            "follows version",
        ),
        (
            "UPDATE event SET envelope = replace(envelope, 'Title', 'Tilte')",
            "as its last event says",
        ),
        ("UPDATE event SET envelope = '{' || envelope", "cannot be read"),
        (
            "UPDATE event SET envelope = (SELECT envelope FROM event WHERE seq = 22) WHERE seq = 21",
            "on the position",
        ),
        ("UPDATE task SET title = 'Another' WHERE seq = 44 OR seq > 40", "as its last event says"),
        ("UPDATE task SET seq = 40 WHERE seq < 15", "as its last event says"),
        ("UPDATE task SET seq = 3 WHERE seq > 40", "as its last event says"),
        ("DELETE FROM task WHERE seq > 40", "it is not there"),
        ("UPDATE task SET tags = 'a' WHERE seq < 15", "cannot be read"),
        ("UPDATE task SET checksum = NULL", "have no checksum"),
        ("UPDATE task SET checksum = checksum + 1 WHERE seq < 15", "not as it was written"),
        ("UPDATE answer SET changes = '[' || changes", "table answer"),
        ("UPDATE state SET head = 45", "the head is 45"),
        ("UPDATE state SET floor = 13", "15 follows 13"),
        ("UPDATE state SET floor = 50", "is above the head"),
        ("UPDATE state SET last_ts = last_ts + 1", "not that of the last event"),
        ("UPDATE incarnation SET first = 1 WHERE ordinal = 2", "on the position"),
        ("UPDATE incarnation SET first = 100 WHERE ordinal = 2", "out of order"),
        ("UPDATE incarnation SET id = 7", "have one id"),
        ("UPDATE incarnation SET id = 7 WHERE ordinal = 2", "on the position"),
        ("DROP INDEX event_by_task", "not those of its schema"),
    ] {
        let copied = TempDir::new().unwrap();
        copy(dir.path(), copied.path());
        let conn = Connection::open(copied.path().join(DATABASE)).unwrap();
        checksum::register(&conn).unwrap();
        conn.execute_batch(sql).unwrap();
        if !sql.contains("checksum") {
            for (table, columns) in COVERED {
                let renew = format!("UPDATE {table} SET checksum = row_checksum({columns})");
                conn.execute_batch(&renew).unwrap();
            }
        }
        drop(conn);
        let report = verify_store(copied.path()).unwrap();
        let found = report.damage.iter().any(|what| what.contains(expected));
        assert!(found, "{sql}: {expected:?} is not in {report:#?}");
    }
}

#[test]
fn findings_are_counted_where_they_are_too_many_to_tell() {
    let mut report = verify::Report::default();
    (0..250).for_each(|n| report.damage(n.to_string()));
    assert_eq!((report.damage.len(), report.more), (100, 150));
}

#[tokio::test]
async fn a_backup_is_restored_over_what_a_kill_left_and_that_is_kept() {
    let (mut bench, to) = (lived_in(), TempDir::new().unwrap());
    let file = to.path().join("copy");
    let made = backup(bench.dir.path(), &file, false).unwrap();
    let seen = bench.store.cursor(44);
    bench.create(3);
    let lost = bench.store.cursor(47);
    let refused = restore(&file, bench.dir.path()).unwrap_err();
    assert!(matches!(refused, BackupError::Locked { .. }), "{refused}");

    let killed = TempDir::new().unwrap();
    copy(bench.dir.path(), killed.path());
    assert!(killed.path().join(JOURNAL).metadata().unwrap().len() > 0);
    let database = killed.path().join(DATABASE);
    fs::set_permissions(&database, fs::Permissions::from_mode(0o640)).unwrap();
    let restored = restore(&file, killed.path()).unwrap();
    // A copy is for its owner, a store for whoever it was for.
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&database)), (0o600, 0o640));
    assert_eq!(restored.contents, made.contents);
    let aside = restored.aside.unwrap();

    // What was there is a store with all it held, its journal included.
    let old = Bench::at(copied(&aside), 1000, WEEK);
    assert_eq!((old.store.head(), old.store.validate(&lost)), (47, Ok(47)));
    let mut new = Bench::at(killed, 1000, WEEK);
    assert_eq!(new.store.head(), 44);
    assert_eq!(new.store.validate(&seen), Ok(44));
    assert_eq!(new.store.validate(&lost), Err(ResetReason::Incarnation));
    new.create(3);
    assert_eq!(new.store.validate(&lost), Err(ResetReason::Incarnation));
    good(&verify_store(new.dir.path()).unwrap());

    // Once more, over a store that was stopped well.
    let dir = stopped(new);
    let again = restore(&file, dir.path()).unwrap();
    assert_ne!(again.aside.as_deref(), Some(aside.as_path()));
    assert_eq!(verify_store(dir.path()).unwrap().contents, made.contents);
}

fn copied(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    copy(from, to.path());
    to
}

#[test]
fn what_is_damaged_replaces_nothing() {
    let (dir, to) = (stopped(lived_in()), TempDir::new().unwrap());
    let file = to.path().join("copy");
    let mut spoilt = BACKUP.clone();
    spoilt[BACKUP.len() / 2] ^= 1;
    fs::write(&file, spoilt).unwrap();
    let before = fs::read(dir.path().join(DATABASE)).unwrap();
    let refused = restore(&file, dir.path()).unwrap_err();
    assert!(matches!(refused, BackupError::Damaged { .. }), "{refused}");
    assert_eq!(fs::read(dir.path().join(DATABASE)).unwrap(), before);
    // A copy of a damaged store is none.
    let conn = Connection::open(dir.path().join(DATABASE)).unwrap();
    conn.execute_batch("UPDATE task SET title = 'Another'").unwrap();
    drop(conn);
    let refused = backup(dir.path(), &to.path().join("other"), false).unwrap_err();
    assert!(matches!(refused, BackupError::Damaged { .. }), "{refused}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
}

/// A restore that is killed at any of its steps leaves the old store, or the new one.
#[test]
fn a_database_is_exchanged_before_its_journal_goes() {
    let mut bench = Bench::new();
    bench.create(3);
    let killed = copied(bench.dir.path());
    let new = TempDir::new().unwrap();
    fs::write(new.path().join("copy"), &*BACKUP).unwrap();
    restore(&new.path().join("copy"), new.path()).unwrap();
    // Killed between the two.
    fs::copy(new.path().join(DATABASE), killed.path().join(DATABASE)).unwrap();
    let store = Bench::at(killed, 1000, WEEK);
    assert_eq!(store.store.head(), 44);
    good(&verify_store(store.dir.path()).unwrap());
}

#[test]
fn the_database_of_a_store_is_no_backup_and_a_foreign_journal_is_told() {
    let mut bench = Bench::new();
    bench.create(3);
    let killed = copied(bench.dir.path());
    let database = killed.path().join(DATABASE);
    let refused = verify_file(&database).unwrap_err();
    assert!(matches!(refused, BackupError::HasJournal { .. }), "{refused}");
    fs::write(&database, &BACKUP[..BACKUP.len() - BACKUP.len() % 512]).unwrap();
    let refused = verify_store(killed.path()).unwrap_err();
    assert!(matches!(refused, BackupError::ForeignJournal { .. }), "{refused}");
}

/// Each schema there was, with rows that were written in the first, or that its migrations made.
#[test]
fn a_store_of_each_older_schema_is_copied_restored_and_brought_up_to_date() {
    for version in 1..schema::KNOWN {
        let dir = TempDir::new().unwrap();
        let conn = Connection::open(dir.path().join(DATABASE)).unwrap();
        schema::tests::fill_of_version(&conn, version);
        drop(conn);
        let report = verify_store(dir.path()).unwrap();
        assert!(report.is_good() && report.notes.len() == 1, "{report:#?}");
        let made = &report.contents;
        assert_eq!((made.schema, made.events, made.tasks), (version, 3, 2));
        assert_eq!(made.head, "c1-00000000000000ff-3");
        let file = dir.path().join("copy");
        backup(dir.path(), &file, false).unwrap();
        restore(&file, dir.path()).unwrap();
        let mut bench = Bench::at(dir, 1000, DAY);
        assert_eq!(bench.store.head(), 3, "schema {version}");
        bench.create(1);
        let report = verify_store(bench.dir.path()).unwrap();
        assert!(report.is_good(), "schema {version}: {report:#?}");
        assert_eq!((report.contents.events, report.contents.tasks), (4, 3));
        // Of the events of before it is said that they have no checksum.
        assert_eq!(report.notes.len(), 1, "{report:#?}");
    }
}

#[test]
fn a_newer_schema_is_neither_judged_nor_copied() {
    let dir = stopped(lived_in());
    let conn = Connection::open(dir.path().join(DATABASE)).unwrap();
    conn.pragma_update(None, "user_version", schema::KNOWN + 1).unwrap();
    drop(conn);
    for refused in [
        verify_store(dir.path()).map(drop),
        backup(dir.path(), &dir.path().join("copy"), false).map(drop),
        restore(&dir.path().join(DATABASE), TempDir::new().unwrap().path()).map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, BackupError::NewerSchema { .. }), "{refused}");
    }
}

/// Somebody who reads when a store is exchanged may not take the new one's journal with him.
#[test]
fn who_reads_a_store_deletes_no_journal() {
    let bench = lived_in();
    let killed = copied(bench.dir.path());
    let len = || killed.path().join(JOURNAL).metadata().unwrap().len();
    let before = len();
    assert!(before > 0);
    good(&verify_store(killed.path()).unwrap());
    assert_eq!(len(), before);
    let conn = Connection::open(killed.path().join(DATABASE)).unwrap();
    assert!(!conn.db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE).unwrap());
    conn.query_row("SELECT head FROM state", [], |_| Ok(())).unwrap();
    drop(conn);
    assert!(!killed.path().join(JOURNAL).exists(), "as others do");
}
