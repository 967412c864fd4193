//! The server is stopped under load and started again, and its clients have everything: on a port of its
//! own, and on a socket that is kept open for it, where nobody may be refused.

mod callers;
mod client;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use taskwatch_client::Client;
use taskwatch_tests::{Daemon, read_log, within};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::kill9::free_port;
use crate::report::Report;
use callers::{Calls, Pace};
use client::{Told, follow};

const REPOSITORY: &str = "foo";
/// As many as the kernel lets wait to be accepted by default.
const BACKLOG: u32 = 4096;
/// Load before the stop and after all are level.
const WHILE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Streams of the SDK
    #[arg(long, default_value_t = 2000)]
    clients: usize,
    /// Changes a second
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// How often the server is started again on a socket that is kept for it
    #[arg(long, default_value_t = 3)]
    restarts: usize,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        let (clients, restarts) = if short { (300, 2) } else { (2000, 3) };
        Self { clients, rate: 20, restarts }
    }
}

/// Where the servers listen, one after the other.
enum Place {
    /// Each opens it.
    Port(String),
    /// It stays open.
    Socket(TcpListener),
}

impl Place {
    async fn serve(&self, data: &Path) -> Daemon {
        // All come back in a short time, and further ones connect: that they are slowed down is another run's.
        let flags = ["--connect-rate", "2000:4000"];
        match self {
            Self::Port(listen) => Daemon::start_with(data, listen, &flags).await,
            Self::Socket(socket) => Daemon::start_on(socket, data, &flags).await,
        }
    }
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { clients, rate, restarts } = *args;
    report.title(format_args!(
        "restart: SIGTERM while {clients} clients watch {rate} changes a second"
    ));
    let port = free_port(&mut StdRng::seed_from_u64(rand::random()));
    let port = Place::Port(format!("127.0.0.1:{port}"));
    rounds("a port of its own", &port, args, 1, report).await;

    let restarting =
        format!("restart: {restarts} times on a socket that is kept, with {clients} clients");
    report.title(restarting);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let socket = Place::Socket(socket.listen(BACKLOG).unwrap().into_std().unwrap());
    rounds("a socket that is kept", &socket, args, restarts, report).await;
}

async fn rounds(name: &str, place: &Place, args: &Args, restarts: usize, report: &mut Report) {
    let clients = args.clients;
    let data = tempfile::tempdir().unwrap();
    let mut daemon = place.serve(data.path()).await;
    let addr: Arc<str> = daemon.addr().into();

    let sdk = Client::builder(daemon.url()).backoff_cap(Duration::from_secs(1)).build().unwrap();
    let (finish, last) = watch::channel(None);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut subscribing = JoinSet::new();
    for _ in 0..clients {
        let mut stream = sdk.subscribe([REPOSITORY]).unwrap();
        subscribing.spawn(async move {
            within("a subscription", stream.ready()).await.unwrap();
            stream
        });
    }
    let mut following = JoinSet::new();
    for stream in subscribing.join_all().await {
        following.spawn(follow(stream.updates(), tell.clone(), last.clone()));
    }

    let calls =
        Calls::start(&addr, Pace { changes: args.rate, visits: matches!(place, Place::Socket(_)) });
    let mut clean = true;
    for _ in 0..restarts {
        sleep(WHILE).await;
        let stopped = Instant::now();
        daemon.signal("TERM");
        clean &= daemon.wait().await.success();
        let ended = stopped.elapsed();
        daemon = place.serve(data.path()).await;
        let gap = stopped.elapsed();
        for _ in 0..clients {
            within("a client that is level again", told.recv()).await.expect("all clients live");
        }
        println!(
            "{name}: ended after {:.2} s, served again after {:.2} s, all {clients} level {:.2} s after the SIGTERM",
            ended.as_secs_f64(),
            gap.as_secs_f64(),
            stopped.elapsed().as_secs_f64()
        );
    }
    sleep(WHILE).await;
    let calls = calls.end().await;
    let log = read_log(data.path());
    finish.send_replace(log.last().map(|event| event.seq));
    let all = within("the last event", following.join_all()).await;

    let expected = client::digest(log.iter().map(|event| event.envelope.as_str()));
    let count = |wanted: &dyn Fn(&Told) -> bool| all.iter().filter(|told| wanted(told)).count();
    let equal = count(&|told| told.digest == expected && told.events == log.len());
    let sum = |part: &dyn Fn(&Told) -> usize| all.iter().map(part).sum::<usize>();
    let (lost, again) = (sum(&|told| told.lost), sum(&|told| told.again));
    let (sent_away, cut) = (sum(&|told| told.sent_away), sum(&|told| told.cut.len()));
    let failed = sum(&|told| told.failed_dials);
    println!(
        "{name}: {} changes, {} acknowledged, {} not answered; {failed} attempts to connect failed",
        log.len(),
        calls.acknowledged.load(Ordering::Relaxed),
        calls.unanswered()
    );
    report.check(clean, format_args!("{name}: every server ended with 0"));
    report.check(
        sent_away == clients * restarts && cut == 0,
        format_args!(
            "{name}: closed with 1012: {sent_away} of {}, cut otherwise: {cut}",
            clients * restarts
        ),
    );
    for reason in all.iter().flat_map(|told| &told.cut).take(3) {
        println!("      {reason}");
    }
    report.check(
        equal == clients && lost == 0 && again == 0,
        format_args!("{name}: every event, once and in order: {equal} of {clients} clients, {lost} lost, {again} twice"),
    );
    report.check(
        log.len() >= calls.acknowledged.load(Ordering::Relaxed),
        format_args!("{name}: every acknowledged change is in the log"),
    );
    if matches!(place, Place::Socket(_)) {
        let (visits, refused) = (calls.visits.load(Ordering::Relaxed), calls.refused());
        report.check(
            visits > 0 && refused.is_empty() && failed == 0,
            format_args!(
                "{name}: {visits} visitors and {} changes, each on a connection of its own: {} refused or cut",
                log.len(),
                refused.len() + failed
            ),
        );
        for refused in refused.iter().take(3) {
            println!("      {refused}");
        }
    }
}
