//! A permission is withdrawn amid changes: soon nothing more arrives, and the old cursor is of no use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use taskwatch_tests::{Daemon, Grant, RawClient, Rest, TokensFile, within};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::report::Report;

/// How long after it was withdrawn a permission may still show.
const LIMIT: Duration = Duration::from_secs(2);
/// Events that each has seen before.
const BEFORE: usize = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Times to do it
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Connections that lose the permission; a principal may have 32
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..=32))]
    clients: u8,
    /// Callers of the API at the same time
    #[arg(long, default_value_t = 8)]
    writers: usize,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        Self { rounds: if short { 2 } else { 10 }, clients: 30, writers: 8 }
    }
}

/// What one connection saw.
struct Seen {
    last_event: Instant,
    cursor: String,
    code: Option<u16>,
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { rounds, clients, writers } = *args;
    let clients = usize::from(clients);
    report.title(format_args!(
        "withdrawn: {rounds} rounds, {clients} connections lose a permission amid {writers} writers"
    ));
    println!("round  last event after  closed after");
    let (mut slowest, mut told, mut of_no_use) = (Duration::ZERO, 0, 0);
    for round in 1..=rounds {
        let (seen, withdrawn, useless) = withdraw(clients, writers).await;
        let ended = withdrawn.elapsed();
        let last = seen.iter().map(|seen| seen.last_event.saturating_duration_since(withdrawn));
        let last = last.max().unwrap_or_default();
        println!("{round:5} {:15.2}s {:12.2}s", last.as_secs_f64(), ended.as_secs_f64());
        slowest = slowest.max(last);
        told += seen.iter().filter(|seen| seen.code == Some(4203)).count();
        of_no_use += usize::from(useless);
    }
    let slowest_s = slowest.as_secs_f64();
    report.check(slowest <= LIMIT, format_args!("the last event came after {slowest_s:.2} s (2)"));
    let all = rounds * clients;
    report.check(told == all, format_args!("connections closed with 4203: {told} of {all}"));
    report.check(
        of_no_use == rounds,
        format_args!("rounds in which the old cursor was of no use: {of_no_use} of {rounds}"),
    );
}

async fn withdraw(clients: usize, writers: usize) -> (Vec<Seen>, Instant, bool) {
    let data = tempfile::tempdir().unwrap();
    let ana = Grant::new("ana", "ana's");
    let clerk = Grant::new("clerk", "the clerk's").writing(&["*"]);
    let tokens = TokensFile::new(data.path(), &[ana.clone().reading(&["*"]), clerk.clone()]);
    let args = ["--tokens", tokens.path()];
    let daemon = Daemon::start_with(&data.path().join("data"), "127.0.0.1:0", &args).await;
    let ready = Arc::new(Barrier::new(clients + 1));
    let mut readers = JoinSet::new();
    for _ in 0..clients {
        readers.spawn(read(daemon.url().to_owned(), Arc::clone(&ready)));
    }
    let done = Arc::new(AtomicBool::new(false));
    let mut writing = JoinSet::new();
    for _ in 0..writers {
        let (rest, done) = (Rest::new(daemon.url()).token("the clerk's"), Arc::clone(&done));
        writing.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                rest.create("secret", "nobody's business").await;
            }
        });
    }
    within("events at every client", ready.wait()).await;
    tokens.replace(&[ana.reading(&["public"]), clerk]);
    let withdrawn = Instant::now();
    let seen = within("the end of every connection", readers.join_all()).await;
    done.store(true, Ordering::Relaxed);
    writing.join_all().await;

    let useless = async {
        let path = format!("/ws?repo=secret&since={}", seen[0].cursor);
        let mut again = connect(daemon.url(), &path).await;
        let answer = again.until("subscribed").await;
        answer["data"]["accepted"] == Value::Array(vec![]) && answer["cursor"].is_null()
    };
    let useless = useless.await;
    (seen, withdrawn, useless)
}

async fn connect(url: &str, path: &str) -> RawClient {
    let headers = [("X-Version", "1"), ("Authorization", "Bearer ana's")];
    RawClient::try_connect(url, path, &headers).await.unwrap()
}

async fn read(url: String, ready: Arc<Barrier>) -> Seen {
    let mut client = connect(&url, "/ws?repo=*").await;
    let mut seen = Seen { last_event: Instant::now(), cursor: String::new(), code: None };
    let mut events = 0;
    loop {
        match client.try_next().await {
            Ok(text) if text.starts_with(r#"{"type":"task."#) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                seen.cursor = frame["cursor"].as_str().unwrap().to_owned();
                seen.last_event = Instant::now();
                events += 1;
                if events == BEFORE {
                    ready.wait().await;
                }
            }
            Ok(_) => {}
            Err(frame) => {
                seen.code = frame.map(|frame| frame.code.into());
                return seen;
            }
        }
    }
}
