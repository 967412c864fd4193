//! What a connection costs that is subscribed, has had one event and lives on by heartbeats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use taskwatch_tests::{Daemon, within};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::load::Load;
use crate::process::{open_files, resident};
use crate::reader::{Reader, Way};
use crate::report::{Report, mib};
use crate::socket::Frame;

/// The response of a stream keeps the connection of HTTP with its buffers.
const fn most(way: Way) -> f64 {
    match way {
        Way::Ws => 4.0 * 1024.0,
        Way::Sse => 24.0 * 1024.0,
    }
}

const REPOSITORIES: usize = 100;
const WARM_UP: usize = 50;
const HEARTBEATS: usize = 2;
/// Connections being made at the same time.
const CONNECTING: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Connections to hold
    #[arg(long, default_value_t = 5000)]
    connections: usize,
    /// How events come to them
    #[arg(long, value_enum, default_value_t = Way::Ws)]
    way: Way,
}

impl Args {
    pub(crate) fn sized(short: bool, way: Way) -> Self {
        Self { connections: if short { 500 } else { 5000 }, way }
    }
}

/// Where all connections wait for each other.
struct Stages {
    connecting: Semaphore,
    subscribed: Barrier,
    informed: Barrier,
    beaten: Barrier,
    /// Held until the memory is measured.
    measured: Barrier,
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { connections, way } = *args;
    report.title(format_args!(
        "idle: {connections} connections ({way:?}), {HEARTBEATS} heartbeats each"
    ));
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let pid = daemon.pid();
    let load = Load {
        addr: daemon.addr().to_owned(),
        repositories: (0..REPOSITORIES).map(repository).collect(),
        events: REPOSITORIES,
        writers: 4,
        bytes: 0,
    };

    let files = open_files(pid);
    let mut warm_up = JoinSet::new();
    for number in 0..WARM_UP {
        let addr = daemon.addr().to_owned();
        warm_up.spawn(async move {
            let mut reader = Reader::subscribed(way, &addr, &repository(number)).await.unwrap();
            reader.events(1).await.unwrap();
        });
    }
    // Some may come too late for one round of events.
    while !warm_up.is_empty() {
        load.clone().publish().await;
        while warm_up.try_join_next().is_some() {}
    }
    let closed = async {
        while open_files(pid) > files {
            sleep(Duration::from_millis(50)).await;
        }
    };
    within("the end of the connections that warmed up", closed).await;

    let stages = Arc::new(Stages {
        connecting: Semaphore::new(CONNECTING),
        subscribed: Barrier::new(connections + 1),
        informed: Barrier::new(connections + 1),
        beaten: Barrier::new(connections + 1),
        measured: Barrier::new(connections + 1),
    });
    let before = resident(pid);
    let started = Instant::now();
    println!("                 after s  resident MiB  bytes per connection");
    let measure = |what: &str| {
        let now = resident(pid);
        let each = now.saturating_sub(before) as f64 / connections as f64;
        let seconds = started.elapsed().as_secs_f64();
        println!("{what:15} {seconds:8.1} {:13.1} {each:21.0}", mib(now));
        each
    };
    measure("before");
    let mut sockets = JoinSet::new();
    for number in 0..connections {
        sockets.spawn(hold(way, daemon.addr().to_owned(), number, Arc::clone(&stages)));
    }
    within("all subscribed", stages.subscribed.wait()).await;
    measure("subscribed");
    load.publish().await;
    within("an event at each", stages.informed.wait()).await;
    measure("one event each");
    within("two heartbeats at each", stages.beaten.wait()).await;
    let each = measure("two heartbeats");
    stages.measured.wait().await;
    while let Some(ended) = sockets.join_next().await {
        ended.unwrap();
    }
    let most = most(way);
    report.check(each <= most, format_args!("a connection costs {each:.0} bytes, at most {most}"));
}

fn repository(number: usize) -> String {
    format!("stress/idle-{}", number % REPOSITORIES)
}

async fn hold(way: Way, addr: String, number: usize, stages: Arc<Stages>) {
    let connecting = stages.connecting.acquire().await.unwrap();
    let mut reader = Reader::subscribed(way, &addr, &repository(number)).await.unwrap();
    drop(connecting);
    stages.subscribed.wait().await;
    let mut heartbeats = 0;
    let mut informed = false;
    while !informed {
        match reader.next().await.unwrap() {
            Frame::Event(_) => informed = true,
            Frame::Ping => heartbeats += 1,
            _ => {}
        }
    }
    stages.informed.wait().await;
    while heartbeats < HEARTBEATS {
        heartbeats += usize::from(matches!(reader.next().await.unwrap(), Frame::Ping));
    }
    // Those who are done early go on to be alive.
    tokio::select! {
        _ = stages.beaten.wait() => {}
        () = live(&mut reader) => {}
    }
    stages.measured.wait().await;
}

async fn live(reader: &mut Reader) {
    loop {
        reader.next().await.unwrap();
    }
}
