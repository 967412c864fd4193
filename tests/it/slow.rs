//! Readers that are slow, that stop, and that never come back.

use std::time::Duration;

use serde_json::Value;
use taskwatch_server::HubConfig;
use taskwatch_tests::{RawClient, within};

use crate::support::{Bare, Embedded, Opcode, TestLog, cursor};

/// More than the kernel takes for a reader who does not read.
const EVENTS: usize = 3_000;

fn title(number: usize) -> String {
    format!("{number} {}", "x".repeat(1_000))
}

fn number(envelope: &str) -> Option<usize> {
    let envelope: Value = serde_json::from_str(envelope).unwrap();
    let title = envelope["data"]["task"]["title"].as_str()?;
    title.split_once(' ')?.0.parse().ok()
}

/// Subscribes without the harness, whose client reads more than it is asked for.
async fn subscribed(server: &Embedded) -> Bare {
    let mut bare = Bare::connect_narrow(server.addr(), "/ws?repo=foo").await;
    while !bare.next_text().await.unwrap().contains(r#""type":"subscribed""#) {}
    bare
}

/// The numbers of the next events.
async fn numbers(bare: &mut Bare, count: usize) -> Vec<usize> {
    let mut numbers = vec![];
    while numbers.len() < count {
        numbers.extend(number(&bare.next_text().await.unwrap()));
    }
    numbers
}

#[tokio::test]
async fn a_reader_that_pauses_gets_everything_in_order_and_delays_nobody() {
    let config = HubConfig {
        queue_events: 16,
        // It pauses for as long as the others need, however busy the machine is.
        write_timeout: Duration::from_secs(600),
        silence: Duration::from_secs(600),
        ..HubConfig::default()
    };
    let server = Embedded::start(config).await;
    let mut paused = subscribed(&server).await;
    let mut other = RawClient::subscribed(&server.url, &["foo"]).await;

    for at in 0..EVENTS {
        server.created("foo", &title(at));
    }
    // The others have everything before the paused one takes anything.
    for at in 0..EVENTS {
        let event = other.next_event().await;
        assert_eq!(number(&event.to_string()), Some(at));
    }
    assert!(server.hub.stats().overflows > 0, "the paused one's queue must have been too short");
    let expected: Vec<_> = (0..EVENTS).collect();
    assert_eq!(numbers(&mut paused, EVENTS).await, expected);

    paused.send_text(r#"{"type":"ping","id":"count"}"#).await;
    let pong = loop {
        let text = paused.next_text().await.unwrap();
        if text.contains(r#""type":"pong""#) {
            break serde_json::from_str::<Value>(&text).unwrap();
        }
    };
    assert_eq!(pong["data"]["delivered"], EVENTS);
}

#[tokio::test]
async fn a_reader_the_hubs_memory_has_left_behind_reads_the_log() {
    let config = HubConfig {
        queue_events: 16,
        cache_events: 32,
        write_timeout: Duration::from_secs(600),
        silence: Duration::from_secs(600),
        ..HubConfig::default()
    };
    let log = TestLog::new();
    let server = Embedded::with_log(log.clone(), config).await;
    let mut paused = subscribed(&server).await;
    for at in 0..EVENTS {
        server.hub.publish(log.append("foo", &title(at)));
        // Otherwise the fan-out would see nothing but the end.
        if at % 8 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(numbers(&mut paused, EVENTS).await, (0..EVENTS).collect::<Vec<_>>());
    assert!(server.hub.stats().log_reads > 0, "it must have read the log");
}

#[tokio::test]
async fn a_reader_that_never_reads_is_closed_and_can_resume() {
    let config = HubConfig {
        queue_events: 16,
        heartbeat: Duration::from_millis(100),
        write_timeout: Duration::from_millis(300),
        silence: Duration::from_secs(600),
        ..HubConfig::default()
    };
    let server = Embedded::start(config).await;
    let mut dead = subscribed(&server).await;
    let first = server.created("foo", "0 first");
    assert_eq!(numbers(&mut dead, 1).await, [0]);
    for at in 1..EVENTS {
        server.created("foo", &title(at));
    }
    let gone = async {
        while server.hub.stats().connections > 0 {
            tokio::task::yield_now().await;
        }
    };
    within("the dead reader is given up", gone).await;

    // A reset: what the kernel still held is gone, and nothing pretends to be the end.
    let mut got = vec![];
    while let Some(text) = dead.next_text().await {
        got.extend(number(&text));
    }
    assert!(got.len() < EVENTS - 1, "it was closed before it had everything");
    assert!(got.iter().copied().eq(1..=got.len()), "what it got is in order");

    // On a busy machine it may be given up again, and goes on again.
    let mut since = first.to_string();
    let mut seen = vec![0];
    while seen.len() < EVENTS {
        let path = format!("/ws?repo=foo&since={since}");
        let mut back = Bare::connect(server.addr(), &path).await;
        while let Some(text) = back.next_text().await {
            if let Some(number) = number(&text) {
                seen.push(number);
                since = cursor(&text);
            }
            if seen.len() == EVENTS {
                break;
            }
        }
    }
    assert_eq!(seen, (0..EVENTS).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_heartbeat_is_a_bookmark_with_a_count_and_a_ping_of_the_protocol() {
    let config = HubConfig { heartbeat: Duration::from_millis(50), ..HubConfig::default() };
    let server = Embedded::start(config).await;
    let mut bare = subscribed(&server).await;
    server.created("foo", "1 wanted");
    let last = server.created("bar", "2 not wanted").to_string();
    numbers(&mut bare, 1).await;

    // The bookmark comes to the end of the log, although nothing was sent for it.
    loop {
        let text = bare.next_text().await.unwrap();
        let ping: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(ping["type"], "ping");
        assert_eq!(ping["data"]["delivered"], 1);
        let (opcode, _) = bare.next().await.unwrap();
        assert_eq!(opcode, Opcode::Ping, "right behind it");
        if ping["cursor"] == last.as_str() {
            break;
        }
    }
}

#[tokio::test]
async fn a_bookmark_resumes_where_it_says() {
    let config = HubConfig { heartbeat: Duration::from_millis(50), ..HubConfig::default() };
    let server = Embedded::start(config).await;
    let mut client = RawClient::subscribed(&server.url, &["foo"]).await;
    server.created("foo", "1 seen");
    client.next_event().await;
    let bookmark = client.until("ping").await["cursor"].as_str().unwrap().to_owned();
    drop(client);

    server.created("foo", "2 missed");
    let path = format!("/ws?repo=foo&since={bookmark}");
    let mut back = RawClient::connect(&server.url, &path).await;
    assert_eq!(back.next_event().await["data"]["task"]["title"], "2 missed");
}

/// A reader so slow that its queue is taken piece by piece asks all the time how far it is.
#[tokio::test]
async fn a_bookmark_never_runs_ahead_of_what_was_sent() {
    let config = HubConfig {
        heartbeat: Duration::from_millis(20),
        write_timeout: Duration::from_secs(600),
        ..HubConfig::default()
    };
    let server = Embedded::start(config).await;
    let mut bare = subscribed(&server).await;
    // More than the kernel and one write take, less than the queue holds.
    let wide = |at: usize| format!("{at} {}", "x".repeat(6_000));
    let cursors: Vec<_> = (0..40).map(|at| server.created("foo", &wide(at)).to_string()).collect();

    let (mut seen, mut bookmarks) = (0, 0);
    while seen < cursors.len() {
        let text = bare.next_text().await.unwrap();
        if number(&text) == Some(seen) {
            seen += 1;
            bare.send_text(r#"{"type":"ping"}"#).await;
            continue;
        }
        let bookmark: Value = serde_json::from_str(&text).unwrap();
        assert!(matches!(bookmark["type"].as_str(), Some("ping" | "pong")), "{bookmark}");
        let told = bookmark["cursor"].as_str().unwrap();
        let behind = cursors.iter().position(|cursor| cursor == told).map_or(0, |at| at + 1);
        assert!(behind <= seen, "a bookmark says what was not sent");
        assert_eq!(bookmark["data"]["delivered"], seen);
        bookmarks += 1;
    }
    assert!(bookmarks > 0, "it never got an answer before the end");
}

#[tokio::test]
async fn a_silent_peer_is_closed_with_4101() {
    let config = HubConfig {
        heartbeat: Duration::from_millis(50),
        silence: Duration::from_millis(300),
        ..HubConfig::default()
    };
    let server = Embedded::start(config).await;
    let mut bare = Bare::connect(server.addr(), "/ws?repo=foo").await;
    // It takes what comes, and answers neither kind of ping.
    assert_eq!(bare.closed().await, Some(4101));
}
