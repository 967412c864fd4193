//! Many clients that were cut together come back together, and share what is read for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use taskwatch_client::{Client, EventStream};
use taskwatch_server::HubConfig;
use taskwatch_tests::{Daemon, Proxy, read_log, within};
use tokio::task::JoinSet;

use crate::counters::Counters;
use crate::kill9::free_port;
use crate::load::Load;
use crate::report::Report;

const REPOSITORY: &str = "foo";
/// Reads of one page, at most: the last one may be read again as the log grows.
const READS_PER_PAGE: u64 = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Streams of the SDK
    #[arg(long, default_value_t = 2000)]
    clients: usize,
    /// Events that each of them misses
    #[arg(long, default_value_t = 1000)]
    events: usize,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        let (clients, events) = if short { (300, 600) } else { (2000, 1000) };
        Self { clients, events }
    }
}

struct Run {
    daemon: Daemon,
    network: Proxy,
    data: tempfile::TempDir,
    streams: Vec<EventStream>,
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { clients, events } = *args;
    report.title(format_args!("returns: {clients} clients are cut and miss {events} events each"));
    let data = tempfile::tempdir().unwrap();
    let port = free_port(&mut StdRng::seed_from_u64(rand::random()));
    let listen = format!("127.0.0.1:{port}");
    let daemon = Daemon::start_with(data.path(), &listen, &[]).await;
    let network = Proxy::start(daemon.addr()).await;
    let client =
        Client::builder(network.url()).backoff_cap(Duration::from_secs(1)).build().unwrap();
    let mut subscribing = JoinSet::new();
    for _ in 0..clients {
        let mut stream = client.subscribe([REPOSITORY]).unwrap();
        subscribing.spawn(async move {
            within("a subscription", stream.ready()).await.unwrap();
            stream
        });
    }
    let streams = subscribing.join_all().await;
    let mut run = Run { daemon, network, data, streams };
    run.publish(1).await;
    let mut equal = run.all_have(1).await;

    // From memory.
    run.unplug().await;
    run.publish(events).await;
    let before = run.counters().await;
    let level = run.plug(events).await;
    let after = run.counters().await;
    equal = equal.min(level.equal);
    let from_memory = after.get("log_reads_total") - before.get("log_reads_total");
    println!("from the event cache: all {clients} level after {:.1} s", level.took.as_secs_f64());
    report.check(
        from_memory == 0,
        format_args!("within the event cache the store is not read: {from_memory} pages"),
    );

    // From the store: the new process remembers nothing.
    run.unplug().await;
    run.publish(events).await;
    run.daemon.kill().await;
    run.daemon = Daemon::start_with(run.data.path(), &listen, &[]).await;
    let level = run.plug(events).await;
    let counters = run.counters().await;
    equal = equal.min(level.equal);
    let (reads, replayed) =
        (counters.get("log_reads_total"), counters.get("events_replayed_total"));
    let size = HubConfig::default().page.events as u64;
    let (first, last) = (1 + events as u64, 2 * events as u64);
    let pages = last / size - first / size + 1;
    println!(
        "from the store: all {clients} level after {:.1} s; {replayed} events replayed, {reads} reads \
         of {pages} pages",
        level.took.as_secs_f64()
    );

    run.publish(1).await;
    equal = equal.min(run.all_have(1).await);
    report.check(
        equal == clients,
        format_args!("every event, once and in order: {equal} of {clients} clients"),
    );
    report.check(
        replayed == (clients * events) as u64 && counters.get("resumes_total") >= clients as u64,
        format_args!("every client resumed, and {replayed} events were replayed"),
    );
    report.check(
        (1..=READS_PER_PAGE * pages).contains(&reads),
        format_args!("the store was read {reads} times, at most {READS_PER_PAGE} for a page"),
    );
}

/// All clients have everything.
struct Level {
    took: Duration,
    /// Clients that have exactly what they should.
    equal: usize,
}

impl Run {
    async fn counters(&self) -> Counters {
        Counters::read(self.daemon.addr()).await
    }

    async fn publish(&self, events: usize) {
        let load = Load {
            addr: self.daemon.addr().to_owned(),
            repositories: vec![REPOSITORY.to_owned()],
            events,
            writers: 16,
            bytes: 0,
        };
        load.publish().await;
    }

    /// Cuts all, and waits until the server knows.
    async fn unplug(&self) {
        self.network.unplug();
        let gone = |counters: &Counters| counters.get("connections") == 0;
        Counters::until(self.daemon.addr(), "the end of all connections", gone).await;
    }

    async fn plug(&mut self, events: usize) -> Level {
        let started = Instant::now();
        self.network.plug();
        let equal = self.all_have(events).await;
        Level { took: started.elapsed(), equal }
    }

    /// Has each client read so many events; how many then have the newest of the log.
    async fn all_have(&mut self, events: usize) -> usize {
        let log: Vec<_> =
            read_log(self.data.path()).into_iter().map(|event| event.envelope).collect();
        let expected: Arc<[String]> = log[log.len() - events..].into();
        let mut reading = JoinSet::new();
        for mut stream in self.streams.drain(..) {
            let expected = Arc::clone(&expected);
            reading.spawn(async move {
                let mut equal = true;
                for envelope in expected.iter() {
                    let event = within("an event", stream.next()).await.unwrap().unwrap();
                    equal &= event.envelope() == envelope;
                }
                (stream, equal)
            });
        }
        let mut count = 0;
        for (stream, equal) in reading.join_all().await {
            self.streams.push(stream);
            count += usize::from(equal);
        }
        count
    }
}
