//! Whatever subscribers do, each has seen the log from where it began, through its own filter.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::{Value, json};
use taskwatch_protocol::Pattern;
use taskwatch_server::HubConfig;
use taskwatch_tests::{RawClient, within};
use tokio::sync::mpsc;

use crate::support::{Embedded, TestLog};

const CASES: u64 = 200;
const SUBSCRIBERS: usize = 4;
const EVENTS: usize = 120;
const REPOSITORIES: [&str; 5] = ["a", "b", "team/a", "team/b", "team/b/c"];
const PATTERNS: [&str; 7] = ["a", "b", "team/a", "team/*", "team/b/*", "*", "nobody"];
/// Everybody wants it, and it comes last.
const END: &str = "end";

/// What one subscriber asked for and got.
struct Story {
    patterns: Vec<&'static str>,
    /// The position of its first acknowledgement.
    began: String,
    /// The cursors of the events it got, through all its connections.
    got: Vec<String>,
}

/// Watches to the end, and leaves and comes back at random.
async fn subscriber(url: String, mut rng: StdRng, begun: mpsc::Sender<()>) -> Story {
    let mut waited_for = Some(begun);
    let mut patterns: Vec<_> = PATTERNS.sample(&mut rng, 2).copied().collect();
    patterns.push(END);
    let mut story = Story { patterns, began: String::new(), got: vec![] };
    let mut position: Option<String> = None;
    loop {
        let mut client = RawClient::connect(&url, "/ws").await;
        let mut data = json!({"repositories": story.patterns});
        if let Some(position) = &position {
            data["since"] = position.as_str().into();
        }
        client.send(json!({"type": "subscribe", "data": data})).await;
        let acknowledged = client.until("subscribed").await;
        let mode = if position.is_some() { "resumed" } else { "live" };
        assert_eq!(acknowledged["data"]["mode"], mode);
        if position.is_none() {
            story.began = text(&acknowledged["cursor"]);
        }
        position = Some(text(&acknowledged["cursor"]));
        drop(waited_for.take());

        let (mut frames, mut events) = (rng.random_range(1..60), 0);
        while frames > 0 {
            if rng.random_ratio(1, 8) {
                client.send(json!({"type": "ping"})).await;
            }
            let frame = client.next().await;
            match frame["type"].as_str().unwrap() {
                "ping" | "pong" => assert_eq!(frame["data"]["delivered"], events),
                _ => {
                    events += 1;
                    story.got.push(text(&frame["cursor"]));
                }
            }
            // Bookmarks are positions like any other.
            position = Some(text(&frame["cursor"]));
            if frame["data"]["repository"] == END {
                return story;
            }
            frames -= 1;
        }
        // Dropped without a word.
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Whether queues overflowed, and whether the log was read.
async fn case(seed: u64) -> (bool, bool) {
    let mut rng = StdRng::seed_from_u64(seed);
    let config = HubConfig {
        // Small, so that queues overflow and memory ends, and each way to catch up is taken.
        queue_events: rng.random_range(1..12),
        cache_events: rng.random_range(1..40),
        heartbeat: Duration::from_millis(20),
        page: taskwatch_server::PageLimit { events: rng.random_range(1..20), bytes: 1 << 20 },
        ..HubConfig::default()
    };
    let log = TestLog::new();
    let server = Embedded::with_log(log.clone(), config).await;
    let (begun, mut all_begun) = mpsc::channel(1);
    let mut subscribers = vec![];
    let mut late: Vec<_> = (0..SUBSCRIBERS).map(|_| rng.random_range(0..EVENTS)).collect();
    late[0] = 0;
    for at in 0..EVENTS {
        for _ in late.iter().filter(|&&join| join == at) {
            let rng = StdRng::seed_from_u64(rng.next_u64());
            subscribers.push(tokio::spawn(subscriber(server.url.clone(), rng, begun.clone())));
        }
        let repository = REPOSITORIES.choose(&mut rng).unwrap();
        server.hub.publish(log.append(repository, "random"));
        for _ in 0..rng.random_range(0..8) {
            tokio::task::yield_now().await;
        }
    }
    // Everybody is subscribed before the last event is told.
    drop(begun);
    assert_eq!(within("everybody to begin", all_begun.recv()).await, None);
    server.hub.publish(log.append(END, "the last"));
    for subscriber in subscribers {
        check(seed, &log, &subscriber.await.unwrap());
    }
    let stats = server.hub.stats();
    (stats.overflows > 0, stats.log_reads > 0)
}

/// The story must be the log after its beginning, through its filter.
fn check(seed: u64, log: &TestLog, story: &Story) {
    let patterns: Vec<Pattern> = story.patterns.iter().map(|text| text.parse().unwrap()).collect();
    let cursor = |seq| taskwatch_server::EventLog::cursor(log, seq).to_string();
    let events = log.events();
    let began = (0..=events.len() as u64).find(|&seq| cursor(seq) == story.began).unwrap();
    let wanted: Vec<_> = events
        .iter()
        .filter(|event| event.seq() > began)
        .filter(|event| patterns.iter().any(|pattern| pattern.matches(event.repository())))
        .map(|event| cursor(event.seq()))
        .collect();
    assert_eq!(story.got, wanted, "seed {seed}, {:?} after {}", story.patterns, story.began);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_subscriber_sees_the_log_from_where_it_began_whatever_it_does() {
    let mut ways = (0, 0);
    for seed in 0..CASES {
        let (overflowed, read) = case(seed).await;
        ways = (ways.0 + u32::from(overflowed), ways.1 + u32::from(read));
    }
    assert!(ways.0 > 0 && ways.1 > 0, "some way to catch up was never taken: {ways:?}");
}
