//! Who gets which events.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use taskwatch_server::HubConfig;
use taskwatch_tests::RawClient;

use crate::support::{Embedded, cursor, events, task};

async fn server() -> Embedded {
    Embedded::start(HubConfig::default()).await
}

/// The repositories of what follows, up to an event in `end`.
async fn repositories(client: &mut RawClient) -> Vec<String> {
    let mut seen = vec![];
    loop {
        let event = client.next_event().await;
        let repository = event["data"]["repository"].as_str().unwrap().to_owned();
        if repository == "end" {
            return seen;
        }
        seen.push(repository);
    }
}

async fn delivered(client: &mut RawClient) -> Value {
    client.send(json!({"type": "ping"})).await;
    client.until("pong").await["data"]["delivered"].clone()
}

#[tokio::test]
async fn several_clients_get_the_same_bytes() {
    let server = server().await;
    let mut clients = vec![];
    for patterns in [&["foo"][..], &["foo"], &["*"], &["f", "foo"], &["foo", "nobody/*"]] {
        clients.push(RawClient::subscribed(&server.url, patterns).await);
    }

    let before = task("foo", "the same for everybody");
    server.publisher().created(before.clone(), "ana");
    let mut after = before.clone();
    (after.title, after.version) = ("another title".into(), 2);
    server.publisher().updated(&before, after.clone(), "ben");
    server.publisher().deleted(after, "cat");

    let expected = events(&mut clients[0], 3).await;
    for client in &mut clients[1..] {
        assert_eq!(events(client, 3).await, expected);
    }
}

#[tokio::test]
async fn patterns_choose_by_name_by_prefix_or_everything() {
    let server = server().await;
    let all = ["foo", "foo/a", "foobar", "Foo", "team/a", "team/a/b", "team", "teams/a"];
    let cases: [(&[&str], &[&str]); 6] = [
        (&["foo"], &["foo"]),
        (&["team/*"], &["team/a", "team/a/b"]),
        (&["team/a/*"], &["team/a/b"]),
        (&["*"], &all),
        (&["foo", "teams/*"], &["foo", "teams/a"]),
        (&["nothing"], &[]),
    ];
    let mut clients = vec![];
    for (patterns, expected) in cases {
        let patterns = [patterns, &["end"]].concat();
        clients.push((RawClient::subscribed(&server.url, &patterns).await, expected));
    }
    for repository in all {
        server.created(repository, "a task");
    }
    server.created("end", "a task");
    for (mut client, expected) in clients {
        assert_eq!(repositories(&mut client).await, expected);
    }
}

#[tokio::test]
async fn an_event_that_matches_twice_is_sent_once_and_counted_once() {
    let server = server().await;
    let patterns = ["team/a", "team/*", "*", "end"];
    let mut client = RawClient::subscribed(&server.url, &patterns).await;
    for repository in ["team/a", "team/b", "x", "team/a", "end"] {
        server.created(repository, "a task");
    }
    assert_eq!(repositories(&mut client).await, ["team/a", "team/b", "x", "team/a"]);
    assert_eq!(delivered(&mut client).await, 5);
}

#[tokio::test]
async fn types_are_filtered_also_in_a_replay() {
    let server = server().await;
    let start = server.created("foo", "before");
    let first = task("foo", "one");
    server.publisher().created(first.clone(), "test");
    server.publisher().deleted(first, "test");

    let mut client = RawClient::connect(&server.url, "/ws").await;
    let subscribe = json!({"repositories": ["foo"], "types": ["task.deleted"], "since": start});
    client.send(json!({"type": "subscribe", "data": subscribe})).await;
    assert_eq!(client.next_event().await["type"], "task.deleted");

    let second = task("foo", "two");
    server.publisher().created(second.clone(), "test");
    server.publisher().deleted(second, "test");
    let event = client.next_event().await;
    assert_eq!(event["type"], "task.deleted");
    assert_eq!(event["data"]["previous"]["title"], "two");
    assert_eq!(delivered(&mut client).await, 2);
}

#[tokio::test]
async fn unsubscribe_removes_exactly_that_pattern() {
    let server = server().await;
    let mut client = RawClient::subscribed(&server.url, &["team/a", "team/*", "x", "end"]).await;
    let unsubscribe = json!({"repositories": ["team/*", "x/*", "never"]});
    client.send(json!({"type": "unsubscribe", "id": "u", "data": unsubscribe})).await;
    let acknowledged = client.until("unsubscribed").await;
    assert_eq!(acknowledged["id"], "u");
    for repository in ["team/a", "team/b", "x", "end"] {
        server.created(repository, "a task");
    }
    assert_eq!(repositories(&mut client).await, ["team/a", "x"]);
}

/// Events and acknowledgements as a client saw them, and what each said of its position.
enum Seen {
    Event { repository: String, cursor: String },
    Now { repositories: Vec<&'static str>, cursor: String },
}

/// What follows an acknowledgement obeys it, to the event, while traffic goes on: the log and the
/// cursors of the acknowledgements say exactly what must have been seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_subscription_holds_from_its_acknowledgement_on() {
    // A short queue, so that some of it happens while catching up.
    let config = HubConfig { queue_events: 8, ..HubConfig::default() };
    let server = Embedded::start(config).await;
    let mut client = RawClient::connect(&server.url, "/ws").await;
    let stop = AtomicBool::new(false);
    let publisher = server.publisher();
    let publish = async {
        let mut log = vec![];
        while !stop.load(Ordering::Relaxed) {
            for repository in ["a", "b", "c"] {
                let cursor = publisher.created(task(repository, "traffic"), "test");
                log.push((repository, cursor.to_string()));
            }
            tokio::task::yield_now().await;
        }
        log
    };
    let watch = async {
        let mut seen = vec![];
        let mut held: Vec<&'static str> = vec![];
        for (kind, repository) in [
            ("subscribe", "a"),
            ("subscribe", "b"),
            ("unsubscribe", "a"),
            ("subscribe", "c"),
            ("unsubscribe", "b"),
            ("subscribe", "a"),
            ("unsubscribe", "c"),
        ] {
            client.send(json!({"type": kind, "data": {"repositories": [repository]}})).await;
            held.retain(|name| *name != repository);
            if kind == "subscribe" {
                held.push(repository);
            }
            let mut acknowledged = false;
            let mut after = 0;
            while !acknowledged || after < 20 {
                let text = client.try_next().await.unwrap();
                let frame: Value = serde_json::from_str(&text).unwrap();
                let cursor = || cursor(&text);
                match frame["type"].as_str().unwrap() {
                    "subscribed" | "unsubscribed" => {
                        acknowledged = true;
                        seen.push(Seen::Now { repositories: held.clone(), cursor: cursor() });
                    }
                    "task.created" => {
                        after += u32::from(acknowledged);
                        let repository = frame["data"]["repository"].as_str().unwrap().to_owned();
                        seen.push(Seen::Event { repository, cursor: cursor() });
                    }
                    _ => {}
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        seen
    };
    let (log, seen) = tokio::join!(publish, watch);

    let place = |cursor: &str| log.iter().position(|(_, at)| at == cursor).map_or(0, |at| at + 1);
    let mut wanted: &[&str] = &[];
    let mut position = 0;
    for step in &seen {
        let (upto, event) = match step {
            Seen::Event { repository, cursor } => {
                let at = place(cursor);
                assert_eq!(log[at - 1].0, repository);
                assert!(wanted.contains(&repository.as_str()), "{repository} was not asked for");
                (at - 1, Some(at))
            }
            Seen::Now { cursor, .. } => (place(cursor), None),
        };
        assert!(upto >= position, "something came twice or out of order");
        let missed = log[position..upto].iter().find(|(name, _)| wanted.contains(name));
        assert_eq!(missed, None, "after position {position}");
        position = event.unwrap_or(upto);
        if let Seen::Now { repositories, .. } = step {
            wanted = repositories;
        }
    }
}
