//! A watcher that is stopped while events pass, and then continued.

use std::time::{Duration, Instant};

use taskwatch_tests::{Daemon, Watcher, read_log};
use tokio::time::sleep;

use crate::counters::Counters;
use crate::load::Load;
use crate::report::Report;

const REPOSITORY: &str = "foo";
const SLOW: u16 = 4100;
const NO_PONG: u16 = 4101;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long it is stopped
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Events that pass meanwhile
    #[arg(long, default_value_t = 10_000)]
    events: usize,
    /// Bytes of each description
    #[arg(long, default_value_t = 2048)]
    bytes: usize,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        let (seconds, events) = if short { (3, 4000) } else { (120, 10_000) };
        Self { seconds, events, bytes: 2048 }
    }
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { seconds, events, bytes } = *args;
    report.title(format_args!(
        "paused: a watcher is stopped for {seconds} s while {events} events of {bytes} bytes pass"
    ));
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let args = ["-o", "json", "--repo", REPOSITORY];
    let mut watcher = Watcher::start(daemon.url(), &args).await;
    let load = |events| Load {
        addr: daemon.addr().to_owned(),
        repositories: vec![REPOSITORY.to_owned()],
        events,
        writers: 16,
        bytes,
    };

    watcher.signal("STOP");
    let stopped = Instant::now();
    let published = load(events).publish().await;
    sleep(Duration::from_secs(seconds).saturating_sub(stopped.elapsed())).await;
    let counters = Counters::read(daemon.addr()).await;
    watcher.signal("CONT");

    let continued = Instant::now();
    let mut lines = vec![];
    while lines.len() < events {
        lines.push(watcher.stdout.next().await.expect("the watcher runs"));
    }
    let took = continued.elapsed();
    // Whatever comes twice has come when this one does.
    load(1).publish().await;
    lines.push(watcher.stdout.next().await.expect("the watcher runs"));
    watcher.signal("INT");
    while let Some(line) = watcher.stdout.next().await {
        lines.push(line);
    }

    let log: Vec<_> = read_log(data.path()).into_iter().map(|event| event.envelope).collect();
    let closed = counters.closed(SLOW) + counters.closed(NO_PONG);
    let after = Counters::read(daemon.addr()).await;
    // Counted when it reads again.
    let switched = after.get("switches_to_catching_up_total");
    let replayed = after.get("events_replayed_total");
    println!(
        "when it was continued it had been closed {} times with {SLOW} and {} with {NO_PONG}",
        counters.closed(SLOW),
        counters.closed(NO_PONG),
    );
    println!(
        "{:.1} s later it had all {events}: switches to catching up {switched}, resumes {}, events \
         replayed {replayed}, pages read {}",
        took.as_secs_f64(),
        after.get("resumes_total"),
        after.get("log_reads_total"),
    );
    report.check(
        published.seqs.len() == events && lines == log,
        format_args!("what it printed equals the log: {} lines", lines.len()),
    );
    report.check(
        switched + closed > 0 && replayed as usize > events / 2,
        format_args!("it caught up: {replayed} of {events} events were replayed"),
    );
    // The server gives a reader 10 s.
    if seconds > 20 {
        report.check(closed > 0, "it had been closed as stalled");
    }
}
