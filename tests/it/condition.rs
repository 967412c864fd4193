//! `--for` ends the watcher once, at the first place of the log where the condition holds.

use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use taskwatch_tests::{Daemon, Rest, Watcher, read_log};

use crate::snapshot::fold;
use crate::support::cursor;

const ALL_DONE: &str = "all(status in [completed, cancelled])";

fn is_done(task: &Value) -> bool {
    ["completed", "cancelled"].contains(&task["status"].as_str().unwrap())
}

/// The cursor of the first event behind `begin` after which all tasks of a repository are done.
fn first_done(data: &Path, repository: &str, begin: &str) -> String {
    let log = read_log(data);
    let places = log.iter().map(|event| cursor(&event.envelope));
    let is_done_at = |place: &String| {
        let tasks = fold(data, &[repository], &json!(place));
        !tasks.is_empty() && tasks.values().all(is_done)
    };
    places.skip_while(|place| place != begin).skip(1).find(is_done_at).unwrap()
}

/// Everything that is left of an output.
async fn rest_of(output: &mut taskwatch_tests::LineReader) -> Vec<String> {
    let mut lines = vec![];
    while let Some(line) = output.next().await {
        lines.push(line);
    }
    lines
}

/// Kills the server and starts it again, amid whatever the watcher does.
async fn again(daemon: &mut Daemon, data: &Path) {
    let addr = daemon.addr().to_owned();
    daemon.kill().await;
    *daemon = Daemon::start_with(data, &addr, &[]).await;
}

#[tokio::test]
async fn it_is_met_once_and_never_early_however_often_the_server_dies() {
    for seed in 0..2 {
        let data = tempfile::tempdir().unwrap();
        let mut daemon = Daemon::start(data.path()).await;
        let rest = Rest::new(daemon.url());
        let mut rng = StdRng::seed_from_u64(seed);
        let last = rest.create("foo", "the last one").await;
        let mut others = vec![];
        for number in 0..6 {
            others.push(rest.create("foo", &format!("task {number}")).await);
        }
        let watch = ["--repo", "foo", "--for", ALL_DONE, "--timeout", "5m", "-o", "json"];
        let mut watcher = Watcher::start(daemon.url(), &watch).await;
        watcher.stderr.until("7 tasks at present").await;
        let begin = cursor(&watcher.stdout.until(r#""last":true"#).await);

        // All but one are done, again and again; only the very last change does it.
        for round in 0..4 {
            for task in &others {
                let status = *["completed", "cancelled"].choose(&mut rng).unwrap();
                rest.patch(task, json!({ "status": status })).await;
                rest.create("bar", "elsewhere").await;
            }
            let reopened = rng.random_range(0..others.len());
            // The last one is open before the others are all done, and after.
            rest.patch(&others[reopened], json!({"status": "pending"})).await;
            rest.patch(&last, json!({"status": "in_progress", "title": format!("{round}")})).await;
            rest.patch(&others[reopened], json!({"status": "cancelled"})).await;
            rest.delete(&others.swap_remove(0)).await;
            let made = rest.create("foo", "one more").await;
            again(&mut daemon, data.path()).await;
            rest.patch(&made, json!({"status": "completed"})).await;
            others.push(made);
            watcher.stderr.until("reconnected").await;
        }
        for task in &others {
            rest.patch(task, json!({"status": "completed"})).await;
        }
        // While nobody is there to tell it.
        rest.patch(&last, json!({"status": "completed"})).await;
        again(&mut daemon, data.path()).await;
        // What happens then changes nothing: it was met.
        rest.patch(&last, json!({"status": "pending"})).await;

        assert_eq!(watcher.wait().await.code(), Some(0));
        let place = first_done(data.path(), "foo", &begin);
        let printed = rest_of(&mut watcher.stdout).await;
        assert_eq!(cursor(printed.last().unwrap()), place, "it ended where it should");
        assert!(printed.last().unwrap().contains(&last.id.to_string()));
        let told = rest_of(&mut watcher.stderr).await;
        let met: Vec<_> = told.iter().filter(|line| line.starts_with("met after ")).collect();
        assert!(matches!(met[..], [line] if line.ends_with(" · 7 tasks")), "{told:?}");
    }
}

#[tokio::test]
async fn what_is_so_already_is_met_at_once() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let task = rest.create("foo", "done").await;
    rest.patch(&task, json!({"status": "completed"})).await;
    let mut watcher = Watcher::spawn(daemon.url(), &["--repo", "foo", "--for", ALL_DONE, "-q"]);
    assert_eq!(watcher.wait().await.code(), Some(0));
    assert_eq!(rest_of(&mut watcher.stderr).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_time_runs_out_also_while_there_is_no_server() {
    let data = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let done = rest.create("foo", "done").await;
    rest.patch(&done, json!({"status": "cancelled"})).await;
    rest.create("foo", "Fix login").await;
    let watch = ["--repo", "foo", "--for", ALL_DONE, "--timeout", "4s"];
    let mut watcher = Watcher::start(daemon.url(), &watch).await;
    watcher.stderr.until("2 tasks at present").await;
    daemon.kill().await;
    assert_eq!(watcher.wait().await.code(), Some(124));
    let told = rest_of(&mut watcher.stderr).await;
    let missing = "1 of 2 tasks not so: Fix login (status pending)";
    assert!(told.last().unwrap().contains(missing), "{told:?}");

    // And if it was never there.
    let watch = ["--repo", "foo", "--for", ALL_DONE, "--timeout", "100ms", "-q"];
    let mut watcher = Watcher::spawn(daemon.url(), &watch);
    assert_eq!(watcher.wait().await.code(), Some(124));
    let told = rest_of(&mut watcher.stderr).await;
    assert!(told.last().unwrap().contains("the tasks of foo are not known"), "{told:?}");
}

#[tokio::test]
async fn after_a_gap_the_new_state_decides() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut daemon = Daemon::start(data.path()).await;
    let addr = daemon.addr().to_owned();
    let rest = Rest::new(daemon.url());
    rest.create("foo", "open").await;
    let watch = ["--repo", "foo", "--for", ALL_DONE];
    let mut watcher = Watcher::start(daemon.url(), &watch).await;
    watcher.stderr.until("1 task at present").await;
    daemon.kill().await;

    // Another history behind the same address: two tasks, one of them open.
    let mut elsewhere = Daemon::start(other.path()).await;
    let rest = Rest::new(elsewhere.url());
    let (one, two) = (rest.create("foo", "one").await, rest.create("foo", "two").await);
    rest.patch(&one, json!({"status": "completed"})).await;
    elsewhere.kill().await;
    let daemon = Daemon::start_with(other.path(), &addr, &[]).await;
    watcher.stderr.until("events were missed").await;
    watcher.stderr.until("2 tasks at present").await;
    Rest::new(daemon.url()).patch(&two, json!({"status": "completed"})).await;
    assert_eq!(watcher.wait().await.code(), Some(0));
    assert!(rest_of(&mut watcher.stderr).await.last().unwrap().ends_with(" · 2 tasks"));
}

#[tokio::test]
async fn what_is_no_condition_is_refused_with_its_place() {
    let mut watcher =
        Watcher::spawn("http://127.0.0.1:1", &["--repo", "foo", "--for", "all(status == done)"]);
    assert_eq!(watcher.wait().await.code(), Some(2));
    let told = rest_of(&mut watcher.stderr).await.join("\n");
    assert!(
        told.contains("  all(status == done)\n                ^^^^ expected one of pending"),
        "{told}"
    );
}
