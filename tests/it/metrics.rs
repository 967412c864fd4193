//! What a hub tells about itself is so.

use std::time::Duration;

use taskwatch_server::{Hub, HubConfig, HubStats};
use taskwatch_tests::{EventStream, RawClient, Rest, within};
use tokio_tungstenite::tungstenite;

use crate::support::{Bare, Embedded};

const EVENTS: usize = 3_000;

/// Waits until the numbers are as they should be.
async fn until(hub: &Hub, what: &str, is_so: impl Fn(&HubStats) -> bool) {
    let looking = async {
        while !is_so(&hub.stats()) {
            tokio::task::yield_now().await;
        }
    };
    within(what, looking).await;
}

#[tokio::test]
async fn each_live_event_has_a_lag_for_each_who_was_sent_it() {
    let server = Embedded::start(HubConfig::default()).await;
    let mut sockets = vec![
        RawClient::subscribed(&server.url, &["foo"]).await,
        RawClient::subscribed(&server.url, &["*", "foo"]).await,
        RawClient::subscribed(&server.url, &["bar"]).await,
    ];
    let request = Rest::new(&server.url).request("GET", "/api/v1/events?repository=foo");
    let mut stream = EventStream::open(request).await;
    stream.until("subscribed").await;
    assert_eq!(server.hub.stats().subscriptions, 5);

    for at in 0..100 {
        server.created("foo", &at.to_string());
    }
    for _ in 0..100 {
        sockets[0].next_event().await;
        sockets[1].next_event().await;
        stream.next_task().await;
    }
    until(&server.hub, "the lag of each", |stats| stats.lags.count() == 300).await;
    let stats = server.hub.stats();
    assert_eq!((stats.sent, stats.queued_events, stats.cache_events), (300, 0, 100));
    assert!(stats.cache_bytes > 0);
    drop((sockets, stream));
    until(&server.hub, "no subscription is left", |stats| stats.subscriptions == 0).await;
}

#[tokio::test]
async fn what_a_slow_reader_was_sent_from_the_log_has_no_lag() {
    let config = HubConfig {
        queue_events: 16,
        // It pauses for as long as the others need, however busy the machine is.
        write_timeout: Duration::from_secs(600),
        silence: Duration::from_secs(600),
        ..HubConfig::default()
    };
    let server = Embedded::start(config).await;
    let mut paused = Bare::connect_narrow(server.addr(), "/ws?repo=foo").await;
    while !paused.next_text().await.unwrap().contains(r#""type":"subscribed""#) {}
    let long = "x".repeat(1_000);
    for at in 0..EVENTS {
        server.created("foo", &long);
        // Otherwise it would be behind before anything was sent.
        if at % 8 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut seen = 0;
    while seen < EVENTS {
        seen += usize::from(paused.next_text().await.unwrap().contains("task.created"));
    }
    until(&server.hub, "all is written", |stats| {
        stats.sent == EVENTS as u64 && stats.lags.count() == stats.sent - stats.replayed
    })
    .await;
    assert!(server.hub.stats().replayed > 0);
}

#[tokio::test]
async fn who_is_not_let_in_is_counted_by_the_reason() {
    let server = Embedded::start(HubConfig { max_connections: 1, ..HubConfig::default() }).await;
    let first = RawClient::subscribed(&server.url, &["foo"]).await;
    let refused = async || {
        let version = [("X-Version", "1")];
        let error = RawClient::try_connect(&server.url, "/ws?repo=foo", &version).await;
        let tungstenite::Error::Http(answer) = *error.unwrap_err() else { panic!("no answer") };
        assert_eq!(answer.status(), 503);
    };
    refused().await;
    let stats = server.hub.stats();
    assert_eq!((stats.connections, stats.max_connections, stats.is_stopping), (1, 1, false));
    drop(first);
    server.hub.shutdown().await;
    refused().await;
    let stats = server.hub.stats();
    assert!(stats.is_stopping);
    let counted: Vec<_> = stats.refusals.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("full", 1), ("stopping", 1)]);
}
