//! Subscribers of a silent repository outlive the retention of what happens elsewhere.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use taskwatch_client::{Client, Update, Updates};
use taskwatch_tests::{Daemon, Proxy, RawClient, Rest, read_log, within};
use tokio::time::{MissedTickBehavior, interval};

use crate::report::Report;

const QUIET: &str = "quiet";
const ELSEWHERE: &str = "elsewhere";
/// 50 changes a second.
const PACE: Duration = Duration::from_millis(20);
const MISSED: usize = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long it is silent
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// How long events are kept; more than a heartbeat of 20 s and the time it takes to come back
    #[arg(long, default_value_t = 60)]
    retention: u64,
}

impl Args {
    pub(crate) fn full() -> Self {
        Self { seconds: 300, retention: 60 }
    }
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { seconds, retention } = *args;
    report.title(format_args!(
        "quiet: {seconds} s of traffic elsewhere, events are kept for {retention} s"
    ));
    let data = tempfile::tempdir().unwrap();
    let kept = format!("{retention}s");
    let kept = ["--retention-age", &kept];
    let daemon = Daemon::start_with(data.path(), "127.0.0.1:0", &kept).await;
    let network = Proxy::start(daemon.addr()).await;
    let rest = Rest::new(daemon.url());

    let mut updates = Client::builder(network.url())
        .backoff_cap(Duration::from_secs(1))
        .build()
        .unwrap()
        .subscribe([QUIET])
        .unwrap()
        .updates();
    updates.ready().await.unwrap();
    let raw = RawClient::connect(network.url(), &format!("/ws?repo={QUIET}")).await;
    let bookmark = Arc::<Mutex<String>>::default();
    let raw = tokio::spawn(keep_bookmark(raw, Arc::clone(&bookmark)));
    rest.create(QUIET, "the only one").await;
    let first = read_log(data.path()).remove(0);

    let started = Instant::now();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut elsewhere = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        pace.tick().await;
        rest.create(ELSEWHERE, "not asked for").await;
        elsewhere += 1;
    }
    let oldest = read_log(data.path()).remove(0);
    println!("{elsewhere} events elsewhere; the oldest that is kept is number {}", oldest.seq);

    network.unplug();
    let bookmarks = within("the end of the raw client", raw).await.unwrap();
    for number in 0..MISSED {
        rest.create(QUIET, &format!("missed {number}")).await;
    }
    network.plug();
    let log = read_log(data.path()).into_iter().filter(|event| event.repository == QUIET);
    let missed: Vec<_> = log.map(|event| event.envelope).collect();

    let streamed = follow(&mut updates).await;
    let since = bookmark.lock().unwrap().clone();
    let (mode, raw) = resume(network.url(), &since).await;
    let first: Value = serde_json::from_str(&first.envelope).unwrap();
    let (without, _) = resume(network.url(), first["cursor"].as_str().unwrap()).await;

    report.check(
        oldest.seq > 1 && missed.len() == MISSED,
        format_args!("events 1 to {} are gone", oldest.seq - 1),
    );
    report.check(
        streamed.as_ref() == Ok(&missed),
        format_args!("the stream of the SDK resumed, without a gap, with {MISSED} events"),
    );
    report.check(
        mode == "resumed" && raw == missed,
        format_args!("the raw client {mode} at the last of {bookmarks} bookmarks"),
    );
    report
        .check(without == "reset", format_args!("at its last event it would have been {without}"));
}

/// Answers heartbeats, and remembers the last; how many there were.
async fn keep_bookmark(mut client: RawClient, bookmark: Arc<Mutex<String>>) -> usize {
    let mut bookmarks = 0;
    loop {
        let Ok(text) = client.try_next().await else { return bookmarks };
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["type"] == "ping" {
            bookmarks += 1;
            frame["cursor"].as_str().unwrap().clone_into(&mut bookmark.lock().unwrap());
            client.send(json!({"type": "pong"})).await;
        }
    }
}

/// Reads on to the last that was missed; what came after the only event there was, or why nothing
/// did.
async fn follow(updates: &mut Updates) -> Result<Vec<String>, String> {
    let mut seen = vec![];
    // One more: the one before the silence.
    while seen.len() < MISSED + 1 {
        match within("an update", updates.next()).await {
            Some(Ok(Update::Event(event))) => seen.push(event.envelope().to_owned()),
            Some(Ok(Update::Gap(gap))) => return Err(format!("{gap:?}")),
            Some(Ok(_)) => {}
            other => return Err(format!("{other:?}")),
        }
    }
    Ok(seen.split_off(1))
}

/// The mode of the answer, and the events that follow it if it is good.
async fn resume(url: &str, since: &str) -> (String, Vec<String>) {
    let mut client = RawClient::connect(url, &format!("/ws?repo={QUIET}&since={since}")).await;
    let mode = client.until("subscribed").await["data"]["mode"].as_str().unwrap().to_owned();
    let mut seen = vec![];
    while mode == "resumed" && seen.len() < MISSED {
        let text = client.try_next().await.unwrap();
        if text.starts_with(r#"{"type":"task."#) {
            seen.push(text);
        }
    }
    (mode, seen)
}
