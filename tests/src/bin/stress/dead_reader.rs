//! A reader that never reads is closed, comes back, and has everything.

use std::time::Instant;

use serde_json::Value;
use taskwatch_tests::{Daemon, RawClient, read_log};

use crate::counters::Counters;
use crate::load::Load;
use crate::report::Report;

const REPOSITORY: &str = "foo";
const SLOW: u16 = 4100;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Events that it does not read
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// Bytes of each description
    #[arg(long, default_value_t = 2048)]
    bytes: usize,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        Self { events: if short { 5000 } else { 20_000 }, bytes: 2048 }
    }
}

/// What was read, and how far that is.
struct Reader {
    envelopes: Vec<String>,
    cursor: String,
}

impl Reader {
    /// Reads up to so many events, or to the end of the connection.
    async fn read(&mut self, client: &mut RawClient, events: usize) {
        while self.envelopes.len() < events {
            let Ok(text) = client.try_next().await else { return };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if let Some(cursor) = frame["cursor"].as_str() {
                cursor.clone_into(&mut self.cursor);
            }
            if frame["type"].as_str().unwrap().starts_with("task.") {
                self.envelopes.push(text);
            }
        }
    }
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { events, bytes } = *args;
    report.title(format_args!(
        "dead-reader: a client reads none of {events} events of {bytes} bytes, and comes back"
    ));
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let mut dead = RawClient::connect(daemon.url(), &format!("/ws?repo={REPOSITORY}")).await;
    let acknowledged = dead.until("subscribed").await;
    let cursor = acknowledged["cursor"].as_str().unwrap().to_owned();
    let mut reader = Reader { envelopes: vec![], cursor };

    let started = Instant::now();
    let load = Load {
        addr: daemon.addr().to_owned(),
        repositories: vec![REPOSITORY.to_owned()],
        events,
        writers: 16,
        bytes,
    };
    load.publish().await;
    let published = started.elapsed();
    let closed = |counters: &Counters| counters.closed(SLOW) > 0;
    Counters::until(daemon.addr(), "the end of the dead reader", closed).await;
    println!(
        "published in {:.1} s, closed with {SLOW} after {:.1} s",
        published.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );

    // What the kernel still had for it.
    reader.read(&mut dead, events).await;
    let before = reader.envelopes.len();
    let path = format!("/ws?repo={REPOSITORY}&since={}", reader.cursor);
    let mut back = RawClient::connect(daemon.url(), &path).await;
    let mode = back.until("subscribed").await["data"]["mode"].clone();
    reader.read(&mut back, events).await;
    back.send(serde_json::json!({"type": "ping"})).await;
    let pong = back.next().await;

    let log: Vec<_> = read_log(data.path()).into_iter().map(|event| event.envelope).collect();
    println!("{before} events had reached it, {} came after it was back", events - before);
    report.check(before < events && mode == "resumed", format_args!("it is closed, and {mode}"));
    report.check(
        reader.envelopes == log,
        format_args!("what it has equals the log: {} events", log.len()),
    );
    report.check(
        pong["type"] == "pong" && pong["data"]["delivered"] == events - before,
        format_args!(
            "and nothing came twice: {} sent after it was back",
            pong["data"]["delivered"]
        ),
    );
}
