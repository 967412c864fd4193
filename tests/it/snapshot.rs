//! The present state, then exactly what follows it.

use std::collections::BTreeMap;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use taskwatch_protocol::Pattern;
use taskwatch_server::HubConfig;
use taskwatch_tests::{Daemon, RawClient, Rest, read_log};
use tokio::task::JoinHandle;

use crate::support::{Embedded, TestLog};

/// Tasks by their id.
pub(super) type View = BTreeMap<String, Value>;

/// The effect of an event.
fn apply(view: &mut View, event: &Value) {
    let id = event["data"]["task_id"].as_str().unwrap().to_owned();
    match event["type"].as_str().unwrap() {
        "task.deleted" => drop(view.remove(&id)),
        _ => drop(view.insert(id, event["data"]["task"].clone())),
    }
}

/// What the log makes of the tasks of some repositories, up to and with the event at `cursor`.
pub(super) fn fold(data: &Path, patterns: &[&str], cursor: &Value) -> View {
    let patterns: Vec<Pattern> = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    // One position may have two names, but it has one number.
    let upto: u64 = cursor.as_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
    let mut view = View::new();
    for event in read_log(data).iter().take_while(|event| event.seq <= upto) {
        let repository = event.repository.parse().unwrap();
        if patterns.iter().any(|pattern| pattern.matches(&repository)) {
            apply(&mut view, &serde_json::from_str(&event.envelope).unwrap());
        }
    }
    view
}

/// Reads a snapshot to its end, from its first frame on: the tasks and the cursor.
async fn snapshot(client: &mut RawClient, patterns: &[&str]) -> (View, Value) {
    let mut view = View::new();
    for number in 0.. {
        let frame = client.next().await;
        if frame["type"] == "ping" {
            assert_eq!(frame["cursor"], Value::Null);
            continue;
        }
        assert_eq!(frame["type"], "snapshot", "{frame}");
        assert_eq!(frame["data"]["repositories"], json!(patterns));
        assert_eq!(frame["data"]["first"], number == 0 && view.is_empty());
        for task in frame["data"]["tasks"].as_array().unwrap() {
            let twice = view.insert(task["id"].as_str().unwrap().to_owned(), task.clone());
            assert_eq!(twice, None);
        }
        assert_eq!(frame["data"]["last"], frame["cursor"].is_string());
        if frame["data"]["last"] == true {
            return (view, frame["cursor"].clone());
        }
    }
    unreachable!()
}

fn subscribe(patterns: &[&str]) -> Value {
    json!({"type": "subscribe", "data": {"repositories": patterns, "snapshot": true}})
}

/// Makes changes of every kind until it is aborted.
pub(super) fn writer(url: &str, seed: u64) -> JoinHandle<()> {
    let rest = Rest::new(url);
    tokio::spawn(async move {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tasks = vec![];
        for number in 0.. {
            match rng.random_range(0..4) {
                0 if tasks.len() > 20 => {
                    let task = tasks.swap_remove(rng.random_range(0..tasks.len()));
                    rest.delete(&task).await;
                }
                1 | 2 if !tasks.is_empty() => {
                    let task = &tasks[rng.random_range(0..tasks.len())];
                    let patch = json!({"title": format!("changed {number}")});
                    rest.patch(task, patch).await;
                }
                _ => {
                    let repository = ["foo", "acme/api", "acme/web"][rng.random_range(0..3)];
                    tasks.push(rest.create(repository, &format!("new {number}")).await);
                }
            }
        }
    })
}

#[tokio::test]
async fn the_state_is_that_of_its_cursor_and_what_follows_follows() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    for pattern in ["foo", "acme/*", "*"] {
        // Also of a repository that has no task.
        let mut client = RawClient::connect(daemon.url(), "/ws").await;
        client.send(subscribe(&[pattern, "nobody/*"])).await;
        let acknowledged = client.until("subscribed").await;
        assert_eq!(acknowledged["data"]["mode"], "snapshot");
        assert_eq!(acknowledged["cursor"], Value::Null);
        let (view, cursor) = snapshot(&mut client, &[pattern, "nobody/*"]).await;
        assert_eq!(view, fold(data.path(), &[pattern], &cursor));

        let kept = rest.create("foo", "kept").await;
        rest.delete(&rest.create("foo", "gone").await).await;
        let other = rest.create("acme/api", "other").await;
        let expected = if pattern == "acme/*" { other.id } else { kept.id };
        assert_eq!(client.next_event().await["data"]["task_id"], expected.to_string());

        let path = format!("/ws?repo={pattern}&snapshot=true");
        let mut client = RawClient::connect(daemon.url(), &path).await;
        client.until("subscribed").await;
        let (view, cursor) = snapshot(&mut client, &[pattern]).await;
        assert_eq!(view, fold(data.path(), &[pattern], &cursor));
        assert!(!view.is_empty());
    }
}

#[tokio::test]
async fn amid_changes_and_cuts_it_is_still_exact() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let writers = [1, 2, 3].map(|seed| writer(daemon.url(), seed));
    let mut rng = StdRng::seed_from_u64(7);
    let mut moved = 0;
    for round in 0..30 {
        let patterns: &[&str] = [&["*"][..], &["acme/*"], &["foo", "acme/web"]][round % 3];
        let mut cut = RawClient::connect(daemon.url(), "/ws").await;
        cut.send(subscribe(patterns)).await;
        for _ in 0..rng.random_range(0..4) {
            cut.next().await;
        }
        drop(cut);

        let mut client = RawClient::connect(daemon.url(), "/ws").await;
        client.send(subscribe(patterns)).await;
        client.until("subscribed").await;
        let (mut view, first) = snapshot(&mut client, patterns).await;
        assert_eq!(view, fold(data.path(), patterns, &first), "round {round}");
        let mut last = first.clone();
        for _ in 0..rng.random_range(1..20) {
            let event = client.next_event().await;
            apply(&mut view, &event);
            last = event["cursor"].clone();
        }
        assert_eq!(view, fold(data.path(), patterns, &last), "round {round}");
        moved += u32::from(first != last);
    }
    assert!(moved > 20, "the writers were too slow");
    writers.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn what_is_added_later_begins_with_its_state_and_the_rest_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let writers = [1, 2].map(|seed| writer(daemon.url(), seed));
    let mut client = RawClient::connect(daemon.url(), "/ws").await;
    client.send(subscribe(&["foo"])).await;
    client.until("subscribed").await;
    let (mut view, _) = snapshot(&mut client, &["foo"]).await;
    for _ in 0..5 {
        apply(&mut view, &client.next_event().await);
    }
    client.send(subscribe(&["acme/*"])).await;
    loop {
        let frame = client.next().await;
        if frame["type"] == "subscribed" {
            break;
        }
        apply(&mut view, &frame);
    }
    let (added, cursor) = snapshot(&mut client, &["acme/*"]).await;
    assert_eq!(added, fold(data.path(), &["acme/*"], &cursor));
    assert_eq!(view, fold(data.path(), &["foo"], &cursor));
    view.extend(added);
    let mut last = cursor;
    for _ in 0..30 {
        let event = client.next_event().await;
        apply(&mut view, &event);
        last = event["cursor"].clone();
    }
    assert_eq!(view, fold(data.path(), &["foo", "acme/*"], &last));
    writers.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn what_is_more_than_memory_should_hold_comes_whole() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let text = "x".repeat(60_000);
    let new = |number: usize| {
        let body = json!({"repository": "foo", "title": number.to_string(), "description": text});
        rest.request("POST", "/api/v1/tasks").json(&body).send()
    };
    for number in (0..160).step_by(8) {
        let answers = (number..number + 8).map(new);
        for answer in futures_util::future::join_all(answers).await {
            answer.unwrap().error_for_status().unwrap();
        }
    }
    let mut client = RawClient::connect(daemon.url(), "/ws?repo=foo&snapshot=true").await;
    client.until("subscribed").await;
    let (view, cursor) = snapshot(&mut client, &["foo"]).await;
    assert_eq!(view, fold(data.path(), &["foo"], &cursor));
    assert_eq!(view.len(), 160);
    let left = std::fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> =
        left.filter(|name| !name.to_string_lossy().starts_with("taskwatch")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_gap_may_be_followed_by_the_state() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    Rest::new(daemon.url()).create("foo", "one").await;
    for data in [
        json!({"repositories": ["foo"], "since": "?", "on_gap": "snapshot"}),
        json!({"repositories": ["foo"], "since": "?", "snapshot": true}),
    ] {
        let mut client = RawClient::connect(daemon.url(), "/ws").await;
        client.send(json!({"type": "subscribe", "data": data})).await;
        let acknowledged = client.until("subscribed").await;
        assert_eq!(acknowledged["data"]["mode"], "reset");
        assert_eq!(acknowledged["data"]["reason"], "malformed");
        assert_eq!(acknowledged["data"]["accepted"], json!(["foo"]));
        assert_eq!(acknowledged["cursor"], Value::Null);
        assert_eq!(snapshot(&mut client, &["foo"]).await.0.len(), 1);
    }
}

#[tokio::test]
async fn what_the_state_has_seen_does_not_come_again_when_it_is_published() {
    let log = TestLog::new();
    let server = Embedded::with_log(log.clone(), HubConfig::default()).await;
    let mut client = RawClient::subscribed(&server.url, &["bar"]).await;
    // Committed, and so in the state and in the log, but not yet published.
    let early = [log.append("bar", "one"), log.append("foo", "two"), log.append("bar", "three")];
    client.send(subscribe(&["foo"])).await;
    for seq in [1, 3] {
        let event = client.next_event().await;
        assert_eq!(event["cursor"], taskwatch_server::EventLog::cursor(&*log, seq).as_str());
    }
    client.until("subscribed").await;
    let (view, _) = snapshot(&mut client, &["foo"]).await;
    assert_eq!(view.len(), 1);
    early.into_iter().for_each(|event| server.hub.publish(event));
    server.hub.publish(log.append("foo", "four"));
    assert_eq!(client.next_event().await["data"]["task"]["title"], "four");
}
