//! A task changes, and `taskwatch` prints it: the real binaries, end to end.

use serde_json::json;
use taskwatch_tests::{Daemon, Rest, Watcher, read_log};

use crate::support::envelopes;

/// Makes, changes and deletes a task in `foo`, among changes in `bar`.
async fn changes(rest: &Rest) {
    let other = rest.create("bar", "not for foo").await;
    let task = rest.create("foo", "write the report").await;
    rest.patch(&other, json!({"status": "completed"})).await;
    rest.patch(&task, json!({"status": "in_progress"})).await;
    rest.delete(&task).await;
    rest.delete(&other).await;
}

#[tokio::test]
async fn create_patch_and_delete_are_printed_and_nothing_of_another_repository() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let mut watcher = Watcher::start(daemon.url(), &["--repo", "foo"]).await;

    changes(&rest).await;
    // Whatever was printed beside the three lines would stand before this one.
    rest.create("foo", "the end").await;

    let mut lines = vec![];
    for _ in 0..4 {
        lines.push(watcher.stdout.next().await.unwrap());
    }
    for (line, words) in lines.iter().zip([
        ["+ created", "write the report"],
        ["~ updated", "status pending → in_progress"],
        ["− deleted", "write the report"],
        ["+ created", "the end"],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{words:?} in {line:?}");
        assert!(line.ends_with("by api"), "{line:?}");
    }
}

#[tokio::test]
async fn a_star_shows_all_repositories() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let mut watcher = Watcher::start(daemon.url(), &["--repo", "*", "--count", "6"]).await;

    changes(&Rest::new(daemon.url())).await;

    let mut repositories = vec![];
    while let Some(line) = watcher.stdout.next().await {
        let name = line.split_whitespace().nth(3).unwrap().to_owned();
        repositories.push(name);
    }
    assert_eq!(repositories, ["bar", "foo", "bar", "foo", "foo", "bar"]);
}

#[tokio::test]
async fn json_output_is_the_log_line_by_line() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let args = ["--repo", "foo", "-o", "json", "--count", "3"];
    let mut watcher = Watcher::start(daemon.url(), &args).await;

    changes(&Rest::new(daemon.url())).await;

    let mut lines = vec![];
    while let Some(line) = watcher.stdout.next().await {
        lines.push(line);
    }
    assert_eq!(lines, envelopes(&read_log(data.path()), &["foo"]));
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn a_watcher_that_has_counted_enough_ends_well() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let mut watcher = Watcher::start(daemon.url(), &["--repo", "foo", "--count", "2"]).await;

    for title in ["one", "two", "three"] {
        rest.create("foo", title).await;
    }

    assert!(watcher.stdout.next().await.unwrap().contains("one"));
    assert!(watcher.stdout.next().await.unwrap().contains("two"));
    assert_eq!(watcher.stdout.next().await, None);
    assert_eq!(watcher.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_change_that_changes_nothing_is_no_event() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let args = ["--repo", "foo", "-o", "json", "--count", "2"];
    let mut watcher = Watcher::start(daemon.url(), &args).await;

    let task = rest.create("foo", "the same").await;
    let same = rest.patch(&task, json!({"title": "the same"})).await;
    assert_eq!(same.version, task.version);
    rest.delete(&task).await;

    assert!(watcher.stdout.next().await.unwrap().contains("task.created"));
    assert!(watcher.stdout.next().await.unwrap().contains("task.deleted"));
}
