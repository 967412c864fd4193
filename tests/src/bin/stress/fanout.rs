//! Many clients on one repository: each has every event, in order.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use taskwatch_client::Client;
use taskwatch_protocol::Seq;
use taskwatch_tests::{Daemon, read_log, within};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::load::Load;
use crate::reader::{Reader, Way};
use crate::report::Report;
use crate::socket::seq;

const REPOSITORY: &str = "stress/fanout";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Clients, a tenth of them streams of the SDK
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// How many of the others get server-sent events
    #[arg(long, default_value_t = 0)]
    sse: usize,
    /// Events to publish
    #[arg(long, default_value_t = 2000)]
    events: usize,
    /// Callers of the API at the same time
    #[arg(long, default_value_t = 64)]
    writers: usize,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        let (clients, events) = if short { (200, 500) } else { (1000, 2000) };
        Self { clients, sse: 0, events, writers: 64 }
    }

    /// With server-sent events for every second one.
    pub(crate) fn mixed(short: bool) -> Self {
        let args = Self::sized(short);
        Self { sse: args.clients / 2, ..args }
    }
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { clients, sse, events, writers } = *args;
    let streams = clients / 10;
    let raw = clients - streams;
    report.title(format_args!(
        "fanout: {raw} raw clients, {sse} of them over SSE, and {streams} SDK streams, {events} events by \
         {writers} writers"
    ));
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let ready = Arc::new(Barrier::new(clients + 1));
    let mut readers = JoinSet::new();
    for number in 0..clients {
        let (ready, at) = (Arc::clone(&ready), daemon.url().to_owned());
        if number < streams {
            readers.spawn(read_stream(at, events, ready));
        } else {
            let way = if number - streams < sse { Way::Sse } else { Way::Ws };
            readers.spawn(read_raw(way, at, events, ready));
        }
    }
    within("all clients subscribed", ready.wait()).await;

    let started = Instant::now();
    let load = Load {
        addr: daemon.addr().to_owned(),
        repositories: vec![REPOSITORY.to_owned()],
        events,
        writers,
        bytes: 0,
    };
    let published = load.publish().await;
    let read = within("all events at all clients", readers.join_all()).await;
    let took = started.elapsed();

    let log: Vec<_> = read_log(data.path()).iter().map(|event| event.seq).collect();
    let complete = read.iter().filter(|read| **read == log).count();
    let deliveries = (clients * events) as f64 / took.as_secs_f64();
    println!("published  events/s  all delivered after  deliveries/s");
    println!(
        "{:9} {:9.0} {:18.2}s {:13.0}",
        published.seqs.len(),
        published.rate(),
        took.as_secs_f64(),
        deliveries,
    );
    report.check(
        complete == clients && log.len() == events,
        format_args!("clients that have all {events} in order: {complete} of {clients}"),
    );
}

async fn read_raw(way: Way, url: String, events: usize, ready: Arc<Barrier>) -> Vec<Seq> {
    let addr = url.trim_start_matches("http://");
    let mut reader = Reader::subscribed(way, addr, REPOSITORY).await.unwrap();
    ready.wait().await;
    reader.events(events).await.unwrap()
}

async fn read_stream(url: String, events: usize, ready: Arc<Barrier>) -> Vec<Seq> {
    let client = Client::builder(&url).build().unwrap();
    let mut stream = client.subscribe([REPOSITORY]).unwrap();
    stream.ready().await.unwrap();
    ready.wait().await;
    let read = stream.take(events).map(|event| seq(event.unwrap().cursor.as_str()));
    read.collect().await
}
