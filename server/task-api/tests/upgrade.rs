//! The binary on stores of other versions.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use rusqlite::Connection;
use tempfile::TempDir;

/// A store of the first schema, as its `taskwatchd` left it. Never changes.
const FIRST: &str = include_str!("first-schema.sql");
const EVENTS: u64 = 6000;

fn taskwatchd(args: &[&str], data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatchd"));
    command.args(args).arg("--data").arg(data);
    command
}

fn verify(data: &Path) -> Output {
    taskwatchd(&["verify"], data).output().unwrap()
}

/// A server, and the word that it listens.
struct Starting {
    child: Child,
    listens: Receiver<()>,
}

impl Starting {
    fn new(data: &Path) -> Self {
        let mut command = taskwatchd(&["--listen", "127.0.0.1:0"], data);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (say, listens) = channel();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            let listens = lines.any(|line| line.is_ok_and(|line| line.contains("listening on ")));
            listens.then(|| say.send(()))
        });
        Self { child, listens }
    }

    /// Kills it when `now` says so, or when it listens: whether it did.
    fn kill_when(mut self, now: impl Fn() -> bool) -> bool {
        let listened = loop {
            match self.listens.try_recv() {
                Ok(()) => break true,
                Err(TryRecvError::Disconnected) => panic!("it did not start"),
                Err(TryRecvError::Empty) if now() => break false,
                Err(TryRecvError::Empty) => std::thread::yield_now(),
            }
        };
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        listened
    }
}

fn number(data: &Path, sql: &str) -> u64 {
    let conn = Connection::open(data.join("taskwatch.db")).unwrap();
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_store_of_a_newer_version_is_refused_in_words_and_left_alone() {
    let dir = TempDir::new().unwrap();
    Starting::new(dir.path()).kill_when(|| false);
    let known = number(dir.path(), "PRAGMA user_version");
    let database = dir.path().join("taskwatch.db");
    let conn = Connection::open(&database).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let before = fs::read(&database).unwrap();
    let refused = taskwatchd(&["--listen", "127.0.0.1:0"], dir.path()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let words = String::from_utf8(refused.stderr).unwrap();
    let expected = format!("the store has schema 99 and this version knows {known}; use the newer");
    assert!(words.contains(&expected) && words.lines().count() == 1, "{words}");
    assert_eq!(fs::read(&database).unwrap(), before);

    let refused = verify(dir.path());
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(words.contains("schema 99") && words.contains("use the newer version"), "{words}");
}

/// The server is killed at a random place of its way from the first schema to today's.
#[test]
fn a_migration_that_is_killed_leaves_the_old_store_or_the_new() {
    let old = TempDir::new().unwrap();
    let conn = Connection::open(old.path().join("taskwatch.db")).unwrap();
    conn.execute_batch(&FIRST.replace(":events", &EVENTS.to_string())).unwrap();
    drop(conn);
    let whole = TempDir::new().unwrap();
    fs::copy(old.path().join("taskwatch.db"), whole.path().join("taskwatch.db")).unwrap();
    assert!(Starting::new(whole.path()).kill_when(|| false));
    let new = number(whole.path(), "PRAGMA user_version");
    // How long the journal gets, before it is emptied.
    let longest = 2 * fs::metadata(old.path().join("taskwatch.db")).unwrap().len();

    let mut in_between = 0;
    for round in 0..8 {
        let dir = TempDir::new().unwrap();
        fs::copy(old.path().join("taskwatch.db"), dir.path().join("taskwatch.db")).unwrap();
        let journal = dir.path().join("taskwatch.db-wal");
        let len = || fs::metadata(&journal).map_or(0, |journal| journal.len());
        let at = if round == 0 { 1 } else { rand::random_range(1..longest) };
        let listened = Starting::new(dir.path()).kill_when(|| len() >= at);
        let version = number(dir.path(), "PRAGMA user_version");
        assert!(version == 1 || version == new, "schema {version}, killed at {at}");
        assert!(!listened || version == new, "schema {version}, killed at {at}");
        in_between += u64::from(version == 1);
        let rows =
            number(dir.path(), "SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM task)");
        assert_eq!(rows, 2 * EVENTS, "killed at {at}");

        assert!(Starting::new(dir.path()).kill_when(|| false));
        assert_eq!(number(dir.path(), "PRAGMA user_version"), new);
        let good = verify(dir.path());
        assert!(good.status.success(), "killed at {at}: {good:?}");
        let words = String::from_utf8(good.stdout).unwrap();
        assert!(words.contains(&format!("{EVENTS} events, {EVENTS} tasks")), "{words}");
    }
    assert!(in_between > 0, "no kill came before the end of the migration");
}
