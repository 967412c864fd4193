//! Going on from a position: what follows, and what is said when that cannot be.

use std::fs;
use std::path::Path;

use futures_util::StreamExt;
use serde_json::{Value, json};
use taskwatch_client::Client;
use taskwatch_protocol::Position;
use taskwatch_tests::{Daemon, RawClient, Rest, read_log, within};

use crate::support::{cursor, envelopes, events};

/// Subscribes from a position; the acknowledgement.
async fn resume(client: &mut RawClient, repository: &str, since: &str, on_gap: &str) -> Value {
    let data = json!({"repositories": [repository], "since": since, "on_gap": on_gap});
    client.send(json!({"type": "subscribe", "data": data})).await;
    assert_eq!(client.next().await["type"], "welcome");
    // Nothing stands before the acknowledgement, least of all an event.
    let acknowledged = client.next().await;
    assert_eq!(acknowledged["type"], "subscribed", "{acknowledged}");
    acknowledged
}

/// Asks a server once how it takes this position.
async fn answer(url: &str, since: &str) -> Value {
    let mut client = RawClient::connect(url, "/ws").await;
    resume(&mut client, "*", since, "error").await
}

async fn fill(rest: &Rest, prefix: &str, count: usize) {
    for number in 0..count {
        let repository = if number % 3 == 0 { "bar" } else { "foo" };
        rest.create(repository, &format!("{prefix} {number}")).await;
    }
}

#[tokio::test]
async fn a_resume_gives_exactly_what_follows() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    fill(&rest, "old", 12).await;
    for (after, repository) in [(0, "*"), (4, "*"), (4, "foo"), (7, "bar"), (11, "foo")] {
        let log = read_log(data.path());
        let since = cursor(&log[after].envelope);
        let expected = envelopes(&log[after + 1..], &[repository]);

        let mut client = RawClient::connect(daemon.url(), "/ws").await;
        let acknowledged = resume(&mut client, repository, &since, "error").await;
        assert_eq!(acknowledged["data"]["mode"], "resumed");
        assert_eq!(acknowledged["cursor"], since.as_str());
        assert_eq!(acknowledged["data"]["head"], cursor(&log[log.len() - 1].envelope).as_str());
        assert_eq!(events(&mut client, expected.len()).await, expected);

        let path = format!("/ws?repo={repository}&since={since}");
        let mut client = RawClient::connect(daemon.url(), &path).await;
        assert_eq!(events(&mut client, expected.len()).await, expected);

        // Then it is live: the next event follows, with nothing in between.
        let next = if repository == "*" { "bar" } else { repository };
        let task = rest.create(next, "new").await;
        let event = client.next_event().await;
        assert_eq!(event["data"]["task_id"], task.id.to_string());
    }
}

#[tokio::test]
async fn a_position_that_cannot_be_honoured_is_said_before_any_event() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    fill(&rest, "old", 5).await;
    let head = cursor(&read_log(data.path())[4].envelope);
    let life = head.rsplit_once('-').unwrap().0;
    for (since, reason) in [
        (String::new(), "malformed"),
        ("yesterday".into(), "malformed"),
        (format!("{life}-05"), "malformed"),
        ("c1-0123456789abcdef-3".into(), "incarnation"),
        (format!("{life}-1000"), "future"),
        (format!("{life}-{}", u64::MAX), "future"),
    ] {
        refuse(&daemon, &rest, &since, reason).await;
    }
}

/// A reset for this reason, and what follows it with each `on_gap`.
async fn refuse(daemon: &Daemon, rest: &Rest, since: &str, reason: &str) {
    let mut live = RawClient::connect(daemon.url(), "/ws").await;
    let acknowledged = resume(&mut live, "foo", since, "live").await;
    assert_eq!(acknowledged["data"]["mode"], "reset", "{acknowledged}");
    assert_eq!(acknowledged["data"]["reason"], reason, "{acknowledged}");
    assert_eq!(acknowledged["cursor"], acknowledged["data"]["head"]);
    assert_eq!(acknowledged["data"]["accepted"], json!(["foo"]));

    let mut none = RawClient::connect(daemon.url(), "/ws").await;
    let acknowledged = resume(&mut none, "foo", since, "error").await;
    assert_eq!(acknowledged["data"]["mode"], "reset", "{acknowledged}");
    assert_eq!(acknowledged["data"]["reason"], reason, "{acknowledged}");
    assert_eq!(acknowledged["data"]["accepted"], json!([]));

    rest.create("foo", "after the reset").await;
    assert_eq!(live.next_event().await["data"]["task"]["title"], "after the reset");
    // Nothing was subscribed; the first subscription is still to come.
    none.send(json!({"type": "subscribe", "data": {"repositories": ["bar"]}})).await;
    assert_eq!(none.next().await["type"], "subscribed");
    rest.create("bar", "then live").await;
    assert_eq!(none.next_event().await["data"]["task"]["title"], "then live");
}

#[tokio::test]
async fn a_position_before_what_is_kept_is_expired() {
    let data = tempfile::tempdir().unwrap();
    let few = ["--retention-events", "3"];
    let daemon = Daemon::start_with(data.path(), "127.0.0.1:0", &few).await;
    let rest = Rest::new(daemon.url());
    let mut watcher = RawClient::subscribed(daemon.url(), &["*"]).await;
    fill(&rest, "old", 10).await;
    let log = events(&mut watcher, 10).await;
    let cursors: Vec<String> = log.iter().map(|envelope| cursor(envelope)).collect();

    // The server trims when it is idle.
    let trimmed =
        async { while answer(daemon.url(), &cursors[5]).await["data"]["mode"] != "reset" {} };
    within("the server trims its log", trimmed).await;
    refuse(&daemon, &rest, &cursors[0], "expired").await;
}

#[tokio::test]
async fn the_edge_of_what_is_kept_is_exact() {
    let data = tempfile::tempdir().unwrap();
    let few = ["--retention-events", "3"];
    let daemon = Daemon::start_with(data.path(), "127.0.0.1:0", &few).await;
    let rest = Rest::new(daemon.url());
    let mut watcher = RawClient::subscribed(daemon.url(), &["*"]).await;
    fill(&rest, "old", 10).await;
    let log = events(&mut watcher, 10).await;
    // 0 is the position behind the newest event that is gone.
    let edge = |distance: usize| cursor(&log[6 + distance]);
    let before = cursor(&log[5]);
    let trimmed = async { while answer(daemon.url(), &before).await["data"]["mode"] != "reset" {} };
    within("the server trims its log", trimmed).await;

    for distance in 0..=3 {
        let mut client = RawClient::connect(daemon.url(), "/ws").await;
        let answer = resume(&mut client, "*", &edge(distance), "error").await;
        assert_eq!(answer["data"]["mode"], "resumed", "{distance}");
        assert_eq!(events(&mut client, 3 - distance).await, log[7 + distance..]);
    }
    // The head is the newest position there is; the next one has not happened.
    let head: Position = cursor(&log[9]).parse().unwrap();
    let ahead = Position { seq: head.seq + 1, ..head }.to_string();
    refuse(&daemon, &rest, &ahead, "future").await;
    refuse(&daemon, &rest, &before, "expired").await;
}

#[tokio::test]
async fn a_database_that_was_made_anew_is_another_life() {
    let (data, anew) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cursors = async |data: &Path| {
        let daemon = Daemon::start(data).await;
        let rest = Rest::new(daemon.url());
        fill(&rest, "the same", 5).await;
        let log = read_log(data);
        (daemon, rest, log.iter().map(|event| cursor(&event.envelope)).collect::<Vec<_>>())
    };
    let (_, _, old) = cursors(data.path()).await;
    let (daemon, rest, new) = cursors(anew.path()).await;
    for since in &old {
        refuse(&daemon, &rest, since, "incarnation").await;
    }
    assert_eq!(answer(daemon.url(), &new[0]).await["data"]["mode"], "resumed");
}

/// A stream of the SDK goes through a server that ends in mid-write and comes back.
async fn stream_across_a_restart(signal: &str) {
    let data = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    let client = Client::builder(daemon.url())
        .backoff_initial(std::time::Duration::from_millis(20))
        .backoff_cap(std::time::Duration::from_millis(200))
        .build()
        .unwrap();
    let mut stream = client.subscribe(["*"]).unwrap();
    stream.ready().await.unwrap();

    let mut seen = vec![];
    for round in 0..3 {
        // Four writers write until the server is gone.
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4 {
            let rest = Rest::new(daemon.url());
            writers.spawn(async move {
                let mut written = 0;
                let title = format!("{writer} in round {round}");
                while rest.try_create("foo", &title).await.is_ok() {
                    written += 1;
                }
                written
            });
        }
        // What the last round left behind does not count.
        let (this_round, mut of_this_round) = (format!("in round {round}"), 0);
        while of_this_round < 20 {
            let event = within("an event", stream.next()).await.unwrap().unwrap();
            of_this_round += u32::from(event.event.task().title.ends_with(&this_round));
            seen.push(event.envelope().to_owned());
        }
        daemon.signal(signal);
        daemon.wait().await;
        let written: u64 = writers.join_all().await.into_iter().sum();
        assert!(written > 0);
        let addr = daemon.addr().to_owned();
        daemon = Daemon::start_with(data.path(), &addr, &[]).await;
    }
    let marker = Rest::new(daemon.url()).create("foo", "the end").await;

    let mut last = None;
    while last != Some(marker.id) {
        let event = within("the last event", stream.next()).await.unwrap().unwrap();
        last = Some(event.event.task().id);
        seen.push(event.envelope().to_owned());
    }
    assert_eq!(seen, envelopes(&read_log(data.path()), &["*"]));
}

#[tokio::test]
async fn a_stream_survives_kill_9_of_the_server() {
    stream_across_a_restart("KILL").await;
}

#[tokio::test]
async fn a_stream_survives_a_restart_of_the_server() {
    stream_across_a_restart("TERM").await;
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The head of the log. A new subscriber may be told one that is a moment older.
fn head(data: &Path) -> String {
    cursor(&read_log(data).last().unwrap().envelope)
}

/// A copy of the data is put back after the server ended by this signal.
async fn restored_after(signal: &str) {
    let (data, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut daemon = Daemon::start(data.path()).await;
    fill(&Rest::new(daemon.url()), "in the copy", 5).await;
    let older = head(data.path());
    daemon.signal("TERM");
    daemon.wait().await;
    copy_files(data.path(), copy.path());

    let mut daemon = Daemon::start(data.path()).await;
    fill(&Rest::new(daemon.url()), "not in the copy", 10).await;
    let newer = head(data.path());
    daemon.signal(signal);
    daemon.wait().await;
    copy_files(copy.path(), data.path());

    let daemon = Daemon::start(data.path()).await;
    fill(&Rest::new(daemon.url()), "others", 20).await;
    let refused = answer(daemon.url(), &newer).await;
    assert_eq!(refused["data"]["mode"], "reset", "{refused}");
    assert_eq!(refused["data"]["reason"], "incarnation", "{refused}");

    let mut client = RawClient::connect(daemon.url(), "/ws").await;
    assert_eq!(resume(&mut client, "*", &older, "error").await["data"]["mode"], "resumed");
    let log = read_log(data.path());
    assert_eq!(log.len(), 25);
    assert_eq!(events(&mut client, 20).await, envelopes(&log[5..], &["*"]));
}

#[tokio::test]
async fn who_saw_more_than_a_restored_copy_is_reset_and_others_go_on() {
    restored_after("TERM").await;
}

#[tokio::test]
async fn a_copy_put_back_after_kill_9_is_not_mixed_with_what_the_dead_server_left() {
    restored_after("KILL").await;
}
