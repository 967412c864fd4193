//! Thousands of connections of which half misbehave: the others miss nothing, and nothing remains.

mod peers;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use taskwatch_protocol::Seq;
use taskwatch_tests::{Daemon, within};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::counters::Counters;
use crate::http::Http;
use crate::load::Load;
use crate::process::{open_files, resident};
use crate::report::{Report, mib};
use crate::socket::{Frame, Socket, connect_from, seq};

use peers::Kind;

const REPOSITORIES: usize = 100;
/// One in so many of the healthy subscribes to everything.
const EVERYTHING: usize = 50;
/// Connections being made at the same time.
const CONNECTING: usize = 64;
/// Longer than the server lets a peer be unfinished.
const TURN: Duration = Duration::from_secs(12);
const PAUSE: Duration = Duration::from_secs(2);
const CACHE: usize = 32 << 20;
const PACE: Duration = Duration::from_millis(5);
/// Rounds may end with so much more than the first: a tenth, and what an allocator does to few bytes.
const MAX_RATIO: f64 = 1.1;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Connections, half of which misbehave
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Equal rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events of each round for each of 100 repositories
    #[arg(long, default_value_t = 20)]
    events: usize,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        let (connections, events) = if short { (1_000, 10) } else { (10_000, 20) };
        Self { connections, rounds: 3, events }
    }
}

/// How far a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Connecting,
    Misbehaving,
    Over,
}

/// What all peers of a round share.
struct Shared {
    addr: String,
    events: usize,
    connecting: Semaphore,
    stage: watch::Sender<Stage>,
    /// Peers that are connected, that have all their events, and that have misbehaved once: one
    /// permit for each.
    connected: Semaphore,
    informed: Semaphore,
    misbehaved: Semaphore,
    turns: AtomicUsize,
    refused: AtomicUsize,
}

/// What is left behind by a round.
#[derive(Debug)]
struct Round {
    files: usize,
    memory: u64,
    complete: usize,
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { connections, rounds, .. } = *args;
    report.title(format_args!(
        "misbehave: {connections} connections, half of which misbehave, {rounds} rounds"
    ));
    let data = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    // The event cache counts once: it is filled before anything is measured.
    let load = Load {
        addr: daemon.addr().to_owned(),
        repositories: vec!["stress/before".to_owned()],
        events: CACHE / 2048,
        writers: 64,
        bytes: 2048,
    };
    load.publish().await;
    println!("round  seconds  at once  misdeeds  refused  complete  peak MiB  files  resident MiB");
    let mut ends = vec![];
    for number in 1..=rounds {
        ends.push(round(number, &daemon, args).await);
    }
    let healthy = connections - connections / 2;
    report.check(
        ends.iter().all(|round| round.complete == healthy),
        format_args!("each of {healthy} healthy subscribers has each event once and in order"),
    );
    let ratio = |of: fn(&Round) -> f64| {
        ends.iter().map(of).fold(0.0, f64::max) / ends.first().map_or(1.0, of)
    };
    let (files, memory) = (ratio(|round| round.files as f64), ratio(|round| round.memory as f64));
    report.check(
        files <= MAX_RATIO && memory <= MAX_RATIO,
        format_args!(
            "rounds end with {files:.2} times the files and {memory:.2} times the memory of the \
             first, at most {MAX_RATIO}"
        ),
    );
    daemon.signal("TERM");
    let mut panics = vec![];
    while let Some(line) = daemon.stderr.next().await {
        panics.extend(line.contains("panicked").then_some(line));
    }
    let ended = daemon.wait().await;
    report.check(
        panics.is_empty() && ended.success(),
        format_args!("the server ended with {ended}, and said nothing of a panic: {panics:?}"),
    );
}

async fn round(number: usize, daemon: &Daemon, args: &Args) -> Round {
    let shared = Arc::new(Shared {
        addr: daemon.addr().to_owned(),
        events: args.events,
        connecting: Semaphore::new(CONNECTING),
        stage: watch::Sender::new(Stage::Connecting),
        connected: Semaphore::new(0),
        informed: Semaphore::new(0),
        misbehaved: Semaphore::new(0),
        turns: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
    });
    let bad = args.connections / 2;
    let started = Instant::now();
    let (mut healthy, mut others) = (JoinSet::new(), JoinSet::new());
    for number in 0..args.connections - bad {
        healthy.spawn(subscriber(Arc::clone(&shared), number));
    }
    all("every healthy subscriber", &shared.connected, healthy.len()).await;
    for number in 0..bad {
        others.spawn(misbehaver(Arc::clone(&shared), number));
    }
    all("every other peer", &shared.connected, bad).await;
    let at_once = Counters::read(daemon.addr()).await.get("connections");

    shared.stage.send_replace(Stage::Misbehaving);
    let published = publish(&shared).await;
    all("every event at the healthy", &shared.informed, healthy.len()).await;
    all("every kind of misdeed", &shared.misbehaved, bad).await;
    let peak = resident(daemon.pid());
    shared.stage.send_replace(Stage::Over);

    let mut complete = 0;
    while let Some(ended) = healthy.join_next().await {
        let (repository, events) = ended.unwrap();
        let wanted =
            published.iter().filter(|(of, _)| repository.is_none_or(|wanted| wanted == *of));
        complete += usize::from(wanted.map(|(_, seq)| *seq).eq(events));
    }
    while let Some(ended) = others.join_next().await {
        ended.unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    let (turns, refused) = (shared.turns.load(Ordering::Relaxed), &shared.refused);
    let refused = refused.load(Ordering::Relaxed);
    Counters::until(daemon.addr(), "the end of all connections", |counters| {
        counters.get("connections") == 0
    })
    .await;
    let (files, memory) = rest(daemon.pid()).await;
    println!(
        "{number:5} {seconds:8.1} {at_once:8} {turns:9} {refused:8} {complete:9} {:9.1} {files:6} {:13.1}",
        mib(peak),
        mib(memory),
    );
    Round { files, memory, complete }
}

/// Waits for so many permits.
async fn all(what: &str, of: &Semaphore, count: usize) {
    let count = u32::try_from(count).unwrap();
    within(what, of.acquire_many(count)).await.unwrap().forget();
}

/// Files and memory of a process, once they have not changed for a second.
async fn rest(pid: u32) -> (usize, u64) {
    let look = || (open_files(pid), resident(pid));
    let resting = async {
        let (mut last, mut same) = (look(), 0);
        while same < 10 {
            sleep(Duration::from_millis(100)).await;
            same = if look() == last { same + 1 } else { 0 };
            last = look();
        }
        last
    };
    within("a server at rest", resting).await
}

fn repository(number: usize) -> String {
    format!("stress/misbehave-{number}")
}

/// Makes the events, one after the other: each one's repository and number.
async fn publish(shared: &Shared) -> Vec<(usize, Seq)> {
    let mut http = Http::connect(&shared.addr).await.unwrap();
    let mut pace = interval(PACE);
    let mut published = vec![];
    for number in 0..REPOSITORIES * shared.events {
        pace.tick().await;
        let of = number % REPOSITORIES;
        let description = "x".repeat(512);
        let task = json!({
            "repository": repository(of), "title": format!("Task {number}"), "description": description,
        });
        http.send("POST", "/api/v1/tasks", &task.to_string()).await.unwrap();
        let answer = http.answer().await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        published.push((of, seq(&answer.cursor.unwrap())));
    }
    published
}

/// Reads what it subscribed to until the round is over: which repository, if not all, and the events.
async fn subscriber(shared: Arc<Shared>, number: usize) -> (Option<usize>, Vec<Seq>) {
    let of = (!number.is_multiple_of(EVERYTHING)).then_some(number % REPOSITORIES);
    let pattern = of.map_or_else(|| "*".to_owned(), repository);
    let wanted = shared.events * of.map_or(REPOSITORIES, |_| 1);
    let connecting = shared.connecting.acquire().await.unwrap();
    let stream = connect_from(number, &shared.addr).await.unwrap();
    let mut socket = Socket::subscribed_over(stream, &shared.addr, &pattern).await.unwrap();
    drop(connecting);
    shared.connected.add_permits(1);
    let mut events = vec![];
    let mut stage = shared.stage.subscribe();
    let read = async {
        loop {
            if let Frame::Event(seq) = socket.next().await.unwrap() {
                events.push(seq);
                if events.len() == wanted {
                    shared.informed.add_permits(1);
                }
            }
        }
    };
    tokio::select! {
        () = read => {}
        _ = stage.wait_for(|stage| *stage == Stage::Over) => {}
    }
    (of, events)
}

/// Misbehaves again and again until the round is over.
async fn misbehaver(shared: Arc<Shared>, number: usize) {
    let kind = Kind::ALL[number % Kind::ALL.len()];
    let mut stage = shared.stage.subscribe();
    let turns = async {
        let first = connect(&shared, kind, number).await.unwrap();
        shared.connected.add_permits(1);
        let _ = shared.stage.subscribe().wait_for(|stage| *stage > Stage::Connecting).await;
        // Ends as the server ends it, or as the peer does.
        let _ = timeout(TURN, peers::misbehave(kind, number, first)).await;
        shared.misbehaved.add_permits(1);
        loop {
            shared.turns.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
            match connect(&shared, kind, number).await {
                Ok(stream) => {
                    let _ = timeout(TURN, peers::misbehave(kind, number, stream)).await;
                }
                Err(_) => {
                    shared.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    tokio::select! {
        () = turns => {}
        _ = stage.wait_for(|stage| *stage == Stage::Over) => {}
    }
}

async fn connect(shared: &Shared, kind: Kind, number: usize) -> io::Result<tokio::net::TcpStream> {
    let _connecting = shared.connecting.acquire().await.unwrap();
    peers::connect(kind, number, &shared.addr).await
}
