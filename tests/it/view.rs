//! The present state through the SDK and the watcher: always what the log says, whatever happens.

use std::path::Path;

use futures_util::StreamExt;
use taskwatch_client::{ErrorCode, OnGap, TaskView, Tasks, Update, WatchError};
use taskwatch_server::HubConfig;
use taskwatch_tests::{Daemon, Proxy, Rest, Watcher, within};

use crate::snapshot::{View, fold, writer};
use crate::support::{Embedded, client};

/// Holds the tasks against what the log makes of their repositories at their position.
fn assert_true(tasks: &Tasks, data: &Path, patterns: &[&str]) {
    let task = |task: &_| serde_json::to_value(task).unwrap();
    let shown: View = tasks.iter().map(|it| (it.id.to_string(), task(&**it))).collect();
    let cursor = serde_json::to_value(tasks.cursor().unwrap()).unwrap();
    assert_eq!(shown, fold(data, patterns, &cursor));
}

/// Waits until the view looks as it should.
async fn until(view: &mut TaskView, is_wanted: impl Fn(&Tasks) -> bool) {
    let wanted = async {
        while !is_wanted(&view.tasks()) {
            view.changed().await.unwrap();
        }
    };
    within("the view", wanted).await;
}

#[tokio::test]
async fn a_view_equals_the_log_amid_changes_and_cuts() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let network = Proxy::start(daemon.addr()).await;
    let writer = writer(daemon.url(), 7);
    for round in 0..8 {
        let mut view = client(network.url()).view(["foo", "acme/*"]).unwrap();
        if round % 2 == 0 {
            // In the middle of it, as likely as not.
            tokio::task::yield_now().await;
            network.cut();
        }
        within("the state", view.ready()).await.unwrap();
        for _ in 0..3 {
            assert_true(&view.tasks(), data.path(), &["foo", "acme/*"]);
            within("a change", view.changed()).await.unwrap();
        }
        network.cut();
        let before = view.cursor();
        until(&mut view, |tasks| tasks.cursor() != before.as_ref()).await;
        assert_true(&view.tasks(), data.path(), &["foo", "acme/*"]);
    }
    writer.abort();
}

#[tokio::test]
async fn a_view_grows_shrinks_and_finds_a_task() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let (foo, bar) = (rest.create("foo", "one").await, rest.create("bar", "two").await);
    let mut view = client(daemon.url()).view(["foo"]).unwrap();
    within("the state", view.ready()).await.unwrap();
    assert_eq!(view.get(foo.id).unwrap().title, "one");
    assert_eq!(view.get(bar.id), None);

    view.add(["bar"]).unwrap();
    until(&mut view, |tasks| tasks.get(bar.id).is_some()).await;
    let then = view.tasks();
    rest.delete(&foo).await;
    until(&mut view, |tasks| tasks.get(foo.id).is_none()).await;
    assert_eq!((then.len(), view.tasks().len()), (2, 1), "what was taken stays as it was");
    assert_true(&view.tasks(), data.path(), &["foo", "bar"]);

    view.remove(["bar"]).unwrap();
    until(&mut view, Tasks::is_empty).await;
    view.add(["bar"]).unwrap();
    until(&mut view, |tasks| tasks.get(bar.id).is_some()).await;
    assert_eq!(view.error(), None);
}

#[tokio::test]
async fn after_a_gap_a_view_is_that_of_the_new_log() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut daemon = Daemon::start(old.path()).await;
    let addr = daemon.addr().to_owned();
    let gone = Rest::new(daemon.url()).create("foo", "of the old log").await;
    let mut view = client(daemon.url()).view(["foo"]).unwrap();
    let mut updates =
        client(daemon.url()).subscribe(["foo"]).unwrap().on_gap(OnGap::Snapshot).updates();
    within("the state", view.ready()).await.unwrap();
    within("the stream", updates.ready()).await.unwrap();
    assert!(view.get(gone.id).is_some());

    daemon.kill().await;
    let daemon = Daemon::start_with(new.path(), &addr, &[]).await;
    let task = Rest::new(daemon.url()).create("foo", "of the new log").await;
    until(&mut view, |tasks| tasks.get(task.id).is_some()).await;
    assert_eq!(view.get(gone.id), None);
    assert_true(&view.tasks(), new.path(), &["foo"]);

    let told = async {
        let mut told = vec![];
        while told.len() < 2 {
            match updates.next().await.unwrap().unwrap() {
                Update::Gap(gap) => told.push(gap.reason.to_string()),
                Update::Snapshot(_) => told.push("snapshot".to_owned()),
                _ => {}
            }
        }
        told
    };
    assert_eq!(within("the gap", told).await, ["incarnation", "snapshot"]);
}

#[tokio::test]
async fn a_hub_without_state_is_a_clear_end() {
    let server = Embedded::start(HubConfig::default()).await;
    let mut view = client(&server.url).view(["foo"]).unwrap();
    let end = within("the end", view.ready()).await.unwrap_err();
    assert!(matches!(&end, WatchError::Refused { code: ErrorCode::Unsupported, .. }), "{end}");
    assert_eq!(view.error(), Some(end));
}

#[tokio::test]
async fn the_watcher_prints_what_is_there_and_then_what_happens() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    rest.create("bar", "two").await;
    let task = rest.create("acme/api", "one").await;
    let arguments = ["--repo", "*", "--snapshot", "--count", "1"];
    let mut watcher = Watcher::start(daemon.url(), &arguments).await;
    for (repository, title) in [("acme/api", "one"), ("bar", "two")] {
        let line = watcher.stdout.next().await.unwrap();
        let expected = format!("= present  {repository}  {title}  status pending");
        assert!(line.contains(&expected), "{line}");
    }
    rest.delete(&task).await;
    let line = watcher.stdout.next().await.unwrap();
    assert!(line.contains("− deleted  acme/api  one"), "{line}");
    assert_eq!(watcher.wait().await.code(), Some(0));
}
