//! Clients that subscribe and never read.

use std::collections::HashSet;
use std::time::Duration;

use taskwatch_protocol::Seq;
use taskwatch_tests::{Daemon, within};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::load::{Load, Published};
use crate::process::{resident, sending};
use crate::reader::{Reader, Way};
use crate::report::{Report, mib};
use crate::socket::Socket;

const REPOSITORY: &str = "stress/dead-readers";
const SAMPLING: Duration = Duration::from_millis(200);
const MAX_GROWTH: u64 = 64 << 20;
const MAX_SENDING: u64 = 256 << 10;
const MIN_RATIO: f64 = 0.8;
const CACHE: usize = 32 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Clients that never read
    #[arg(long, default_value_t = 200)]
    readers: usize,
    /// Events of each phase
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// Bytes of each description
    #[arg(long, default_value_t = 2048)]
    bytes: usize,
    /// How often both phases come
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Callers of the API at the same time
    #[arg(long, default_value_t = 64)]
    writers: usize,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        let (readers, events) = if short { (50, 5000) } else { (200, 20_000) };
        Self { readers, events, bytes: 2048, rounds: 5, writers: 64 }
    }
}

/// What one phase showed.
#[derive(Debug)]
struct Phase {
    published: Published,
    growth: u64,
    /// The most send memory of a dead reader's socket.
    sending: u64,
    /// The most of any other's: of the healthy client, on the way to it.
    healthy: u64,
    /// Samples with each of the dead readers still connected.
    samples: usize,
    complete: bool,
}

struct Run<'a> {
    args: &'a Args,
    daemon: Daemon,
    /// Reads, and must miss nothing.
    healthy: Option<Reader>,
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let Args { readers, events, bytes, writers, .. } = *args;
    report.title(format_args!(
        "dead-readers: {readers} clients that never read, {events} events of {bytes} bytes by \
         {writers} writers"
    ));
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let healthy = Some(Reader::subscribed(Way::Ws, daemon.addr(), REPOSITORY).await.unwrap());
    let mut run = Run { args, daemon, healthy };
    // The event cache counts once, and not for the dead: it is filled before anything is measured.
    let (large, count) = (60 << 10, CACHE.div_ceil(60 << 10));
    run.phase(0, count, large).await;

    println!(
        "phase  events/s  growth MiB  send KiB: dead  healthy  samples with all dead connected"
    );
    let (mut without, mut with) = (vec![], vec![]);
    for _ in 0..args.rounds {
        for (name, dead, phases) in [("A", 0, &mut without), ("B", readers, &mut with)] {
            let phase = run.phase(dead, events, bytes).await;
            println!(
                "{name:5} {:9.0} {:11.1} {:15} {:8} {:8}",
                phase.published.rate(),
                mib(phase.growth),
                phase.sending >> 10,
                phase.healthy >> 10,
                phase.samples,
            );
            phases.push(phase);
        }
    }

    let growth = with.iter().map(|phase| phase.growth).max().unwrap_or_default();
    report.check(
        growth <= MAX_GROWTH,
        format_args!("memory grows by {:.1} MiB, at most {:.0}", mib(growth), mib(MAX_GROWTH)),
    );
    let phases = without.iter().chain(&with);
    let sending = phases.map(|phase| phase.sending.max(phase.healthy)).max().unwrap_or_default();
    let samples = with.iter().map(|phase| phase.samples).min().unwrap_or_default();
    report.check(
        sending <= MAX_SENDING && samples >= 2,
        format_args!(
            "send memory of a socket, dead or healthy, is {} KiB, at most {}, in at least {samples} samples",
            sending >> 10,
            MAX_SENDING >> 10
        ),
    );
    report.check(
        without.iter().chain(&with).all(|phase| phase.complete),
        "the healthy client has all events in order",
    );
    let rounds = without.iter().zip(&with);
    let mut ratios: Vec<_> = rounds.map(|(a, b)| b.published.rate() / a.published.rate()).collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ratios.len() / 2];
    report.check(
        ratio >= MIN_RATIO,
        format_args!(
            "rate of the writers, B / A: {ratio:.2} is the median of {ratios:.2?}, at least \
             {MIN_RATIO}"
        ),
    );
}

impl Run<'_> {
    async fn phase(&mut self, dead: usize, events: usize, bytes: usize) -> Phase {
        let (addr, pid) = (self.daemon.addr().to_owned(), self.daemon.pid());
        let port = addr.rsplit(':').next().unwrap();
        let before = resident(pid);
        let mut sockets = vec![];
        for _ in 0..dead {
            sockets.push(Socket::subscribed(&addr, REPOSITORY).await.unwrap());
        }
        let dead: HashSet<_> = sockets.iter().map(Socket::addr).collect();
        let healthy = self.read(events);
        let load = Load {
            addr: addr.clone(),
            repositories: vec![REPOSITORY.to_owned()],
            events,
            writers: self.args.writers,
            bytes,
        };

        let mut phase = Phase {
            published: Published::default(),
            growth: 0,
            sending: 0,
            healthy: 0,
            samples: 0,
            complete: false,
        };
        let mut sampling = interval(SAMPLING);
        sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let publish = load.publish();
        tokio::pin!(publish);
        let mut last = false;
        while !last {
            tokio::select! {
                published = &mut publish => {
                    phase.published = published;
                    last = true;
                }
                _ = sampling.tick() => {}
            }
            phase.growth = phase.growth.max(resident(pid).saturating_sub(before));
            let connections = sending(port).await;
            let mut alive = 0;
            for connection in connections {
                if dead.contains(&connection.peer) {
                    alive += 1;
                    phase.sending = phase.sending.max(connection.memory);
                } else {
                    phase.healthy = phase.healthy.max(connection.memory);
                }
            }
            phase.samples += usize::from(alive == dead.len());
        }

        let (reader, read) = within("all events at the healthy client", healthy).await.unwrap();
        self.healthy = Some(reader);
        phase.complete = read == phase.published.seqs;
        phase
    }

    fn read(&mut self, events: usize) -> JoinHandle<(Reader, Vec<Seq>)> {
        let mut healthy = self.healthy.take().expect("it is put back");
        tokio::spawn(async move {
            let read = healthy.events(events).await.unwrap();
            (healthy, read)
        })
    }
}
