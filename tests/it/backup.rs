//! Copies of a store that is in use, and what becomes of those who watch when one is put back.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use serde_json::{Value, json};
use taskwatch_client::{Cursor, WatchError};
use taskwatch_tests::{Daemon, LoggedEvent, RawClient, Rest, binary, read_log, within};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::support::{client, cursor, envelopes, events};

/// Runs a command of `taskwatchd` to its end.
async fn taskwatchd(args: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(binary("taskwatchd"));
    command.args(args).args(paths).kill_on_drop(true);
    within("the end of a command", command.output()).await.unwrap()
}

/// What a command says that goes well.
async fn said(args: &[&str], paths: &[&Path]) -> String {
    let output = taskwatchd(args, paths).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn backup(data: &Path, file: &Path) -> String {
    said(&["backup", "--data"], &[data, file]).await
}

async fn restore(file: &Path, data: &Path) -> String {
    said(&["restore", "--data"], &[data, file]).await
}

async fn verify_file(file: &Path) -> String {
    said(&["verify"], &[file]).await
}

async fn verify_store(data: &Path) -> String {
    said(&["verify", "--data"], &[data]).await
}

/// People who make, change and delete tasks until they are told to stop or nobody answers.
struct Writers {
    stop: Arc<AtomicBool>,
    all: JoinSet<()>,
}

impl Writers {
    fn start(url: &str, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut all = JoinSet::new();
        for writer in 0..count {
            let (rest, stop) = (Rest::new(url), Arc::clone(&stop));
            all.spawn(async move {
                for round in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let title = format!("{round} of {writer}");
                    let Ok(task) = rest.try_create("foo", &title).await else { break };
                    let path = format!("/api/v1/tasks/{}", task.id);
                    let patch = rest.request("PATCH", &path).json(&json!({"title": "changed"}));
                    let delete = rest.request("DELETE", &path);
                    if patch.send().await.is_err()
                        || (round % 3 == 0 && delete.send().await.is_err())
                    {
                        break;
                    }
                }
            });
        }
        Self { stop, all }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        within("the writers", self.all.join_all()).await;
    }
}

/// The tasks that a log leaves, by id.
fn tasks_of(log: &[LoggedEvent]) -> Vec<Value> {
    let mut tasks = std::collections::BTreeMap::new();
    for event in log {
        let data: Value = serde_json::from_str(&event.envelope).unwrap();
        let data = &data["data"];
        let id = data["task_id"].as_str().unwrap().to_owned();
        match data.get("task") {
            Some(task) => tasks.insert(id, task.clone()),
            None => tasks.remove(&id),
        };
    }
    tasks.into_values().collect()
}

/// The tasks that a server has, by id.
async fn tasks_at(url: &str) -> Vec<Value> {
    let (rest, mut tasks, mut after) = (Rest::new(url), vec![], String::new());
    loop {
        let path = format!("/api/v1/tasks?limit=1000{after}");
        let answer = within("a list", rest.request("GET", &path).send()).await.unwrap();
        let page: Value = answer.error_for_status().unwrap().json().await.unwrap();
        tasks.extend(page["tasks"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&page={next}");
    }
    tasks.sort_by_key(|task| task["id"].as_str().unwrap().to_owned());
    tasks
}

/// How a server takes a position.
async fn answer(url: &str, since: &str) -> Value {
    let mut client = RawClient::connect(url, "/ws").await;
    let data = json!({"repositories": ["*"], "since": since, "on_gap": "error"});
    client.send(json!({"type": "subscribe", "data": data})).await;
    client.until("subscribed").await
}

/// What a restored server must be: its log begins the original's, its tasks are those of the log, and
/// positions hold up to its head and not behind it.
async fn is_a_beginning_of(original: &[LoggedEvent], copy: &[LoggedEvent], url: &str) {
    assert!(!copy.is_empty() && copy.len() < original.len(), "{} events", copy.len());
    assert_eq!(copy, &original[..copy.len()]);
    assert_eq!(tasks_at(url).await, tasks_of(copy));
    for seen in [0, copy.len() / 2, copy.len() - 1] {
        let since = cursor(&original[seen].envelope);
        let answer = answer(url, &since).await;
        assert_eq!(answer["data"]["mode"], "resumed", "{answer}");
    }
    for seen in [copy.len(), original.len() - 1] {
        let since = cursor(&original[seen].envelope);
        let answer = answer(url, &since).await;
        assert_eq!(answer["data"]["mode"], "reset", "{answer}");
        assert_eq!(answer["data"]["reason"], "incarnation", "{answer}");
    }
}

/// Waits until a store has grown by some events since.
async fn grown(data: &Path, events: usize) {
    let before = read_log(data).len();
    let grown = async {
        while read_log(data).len() < before + events {
            tokio::task::yield_now().await;
        }
    };
    within("the log grows", grown).await;
}

#[tokio::test]
async fn a_backup_taken_under_load_restores_to_a_beginning_of_the_log() {
    let (data, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut daemon = Daemon::start(data.path()).await;
    let writers = Writers::start(daemon.url(), 6);
    let mut files = vec![];
    for number in 0..3 {
        grown(data.path(), 30).await;
        let file = copies.path().join(number.to_string());
        let line = backup(data.path(), &file).await;
        assert!(line.contains(" events, ") && line.contains("verified"), "{line}");
        assert!(verify_store(data.path()).await.starts_with("good: "));
        files.push(file);
    }
    // The last one is of what a kill has left, with a journal and no server.
    grown(data.path(), 30).await;
    daemon.kill().await;
    writers.stop().await;
    let after_the_kill = copies.path().join("killed");
    backup(data.path(), &after_the_kill).await;
    let addr = daemon.addr().to_owned();
    let mut daemon = Daemon::start_with(data.path(), &addr, &[]).await;
    let writers = Writers::start(daemon.url(), 3);
    grown(data.path(), 30).await;
    writers.stop().await;
    files.push(after_the_kill);
    daemon.signal("TERM");
    daemon.wait().await;
    let original = read_log(data.path());

    let mut heads = BTreeSet::new();
    for file in &files {
        let restored = tempfile::tempdir().unwrap();
        assert!(restore(file, restored.path()).await.starts_with("restored: "));
        let daemon = Daemon::start(restored.path()).await;
        let copy = read_log(restored.path());
        is_a_beginning_of(&original, &copy, daemon.url()).await;
        heads.insert(copy.len());
        assert!(verify_store(restored.path()).await.starts_with("good: "));
    }
    assert_eq!(heads.len(), files.len(), "each is of another moment");
}

/// Over the data of a server that was stopped or killed, while watchers of the SDK wait for it.
async fn restored_over(signal: &str) {
    let (data, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = copies.path().join("copy");
    let mut daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    for n in 0..5 {
        rest.create("foo", &format!("in the copy {n}")).await;
    }
    backup(data.path(), &file).await;

    // Who has seen more than the copy holds, and where who has not.
    let client = client(daemon.url());
    let mut further = client.subscribe(["foo"]).unwrap();
    further.ready().await.unwrap();
    let held = cursor(&read_log(data.path())[4].envelope);
    for n in 0..5 {
        rest.create("foo", &format!("not in the copy {n}")).await;
        within("an event", further.next()).await.unwrap().unwrap();
    }
    let original = read_log(data.path());

    // Not while somebody serves it.
    let refused = taskwatchd(&["restore", "--data"], &[data.path(), &file]).await;
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(words.contains("another process uses"), "{words}");

    let addr = daemon.addr().to_owned();
    daemon.signal(signal);
    daemon.wait().await;
    let words = restore(&file, data.path()).await;
    let aside = words.lines().find_map(|line| line.strip_prefix("what was there is in ")).unwrap();
    let mut daemon = Daemon::start_with(data.path(), &addr, &[]).await;
    let rest = Rest::new(daemon.url());
    is_a_beginning_of(&original, &read_log(data.path()), daemon.url()).await;

    let ended = within("the end of who saw more", further.next()).await.unwrap().unwrap_err();
    assert!(matches!(ended, WatchError::Gap { .. }), "{ended}");
    let mut went_on = client.subscribe(["foo"]).unwrap().since(Cursor::new(held));
    rest.create("foo", "after the restore").await;
    let event = within("an event", went_on.next()).await.unwrap().unwrap();
    assert_eq!(event.event.task().title, "after the restore");

    // What was there is a store, and lost nothing.
    daemon.signal("TERM");
    daemon.wait().await;
    assert!(verify_store(Path::new(aside)).await.starts_with("good: "));
    let _old = Daemon::start(Path::new(aside)).await;
    assert_eq!(read_log(Path::new(aside)), original);
}

#[tokio::test]
async fn who_saw_more_than_a_restored_backup_is_reset_and_others_go_on() {
    restored_over("TERM").await;
}

#[tokio::test]
async fn a_backup_restored_after_kill_9_is_not_mixed_with_what_the_dead_server_left() {
    restored_over("KILL").await;
}

/// A file of which one byte is another.
fn spoil(file: &Path, at: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(dir.path().join("spoilt"), bytes).unwrap();
    dir
}

#[tokio::test]
async fn a_byte_that_was_flipped_is_told_by_the_exit_code_and_in_words() {
    let (data, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = copies.path().join("copy");
    let mut daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    for n in 0..20 {
        rest.create("foo", &format!("task {n}")).await;
    }
    backup(data.path(), &file).await;
    assert!(verify_file(&file).await.starts_with("good: 20 events, 20 tasks, head c1-"));
    let len = fs::metadata(&file).unwrap().len() as usize;
    for at in [0, 18, 60, 95, 100, len / 3, len / 2, len - 200, len - 40, len - 1] {
        let spoilt = spoil(&file, at);
        let found = taskwatchd(&["verify"], &[&spoilt.path().join("spoilt")]).await;
        assert_eq!(found.status.code(), Some(1), "byte {at}: {found:?}");
        let words = String::from_utf8(found.stdout).unwrap();
        assert!(words.starts_with("damage: the file is not as it was written"), "{words}");
    }

    // In the store itself, within a text that reads as well as before.
    daemon.signal("TERM");
    daemon.wait().await;
    let database = data.path().join("taskwatch.db");
    let mut bytes = fs::read(&database).unwrap();
    let title = b"task 7";
    for at in 0..bytes.len() - title.len() {
        if bytes[at..].starts_with(title) {
            bytes[at] = b'm';
        }
    }
    fs::write(&database, bytes).unwrap();
    let found = taskwatchd(&["verify", "--data"], &[data.path()]).await;
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    let words = String::from_utf8(found.stdout).unwrap();
    assert!(words.contains("damage: table event, row 8: not as it was written"), "{words}");
    assert!(words.contains("damage: table task, row 8: not as it was written"), "{words}");

    // Not damage, but nothing to look at.
    for args in [vec!["verify", "/nowhere/at/all"], vec!["verify", "--data", "/nowhere/at/all"]] {
        let refused = taskwatchd(&args, &[]).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    let refused = taskwatchd(&["backup", "--data"], &[data.path(), &file]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(words.contains("exists") && words.contains("--force"), "{words}");
}

#[tokio::test]
async fn watchers_notice_nothing_of_a_backup() {
    let (data, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(data.path()).await;
    let mut watcher = RawClient::subscribed(daemon.url(), &["*"]).await;
    let watched = tokio::spawn(async move {
        let mut seen: Vec<String> = vec![];
        while seen.last().is_none_or(|envelope| !envelope.contains("the end")) {
            seen.extend(events(&mut watcher, 1).await);
        }
        seen
    });
    let writers = Writers::start(daemon.url(), 4);
    for number in 0..3 {
        backup(data.path(), &copies.path().join(number.to_string())).await;
    }
    writers.stop().await;
    Rest::new(daemon.url()).create("foo", "the end").await;
    let seen = within("the last event", watched).await.unwrap();
    assert_eq!(seen, envelopes(&read_log(data.path()), &["*"]));
}
