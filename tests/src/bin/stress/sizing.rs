//! What a server needs for so many connections: the rows of the table in docs/operations.md.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use taskwatch_tests::{Daemon, binary, within};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::load::Load;
use crate::process::{kernel_memory, open_files, processor_time, resident, written};
use crate::reader::{Reader, Way};
use crate::report::{Report, mib};
use crate::socket::Frame;

const REPOSITORY: &str = "stress/sizing";
/// Connections being made at the same time.
const CONNECTING: usize = 64;
/// Bytes of each description: an event then has about 800.
const BYTES: usize = 300;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Connections to hold, a row for each
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000, 10_000])]
    connections: Vec<usize>,
    /// How events come to them
    #[arg(long, value_enum, default_value_t = Way::Ws)]
    way: Way,
    /// Seconds for which nothing happens but heartbeats
    #[arg(long, default_value_t = 60)]
    idle: u32,
    /// Seconds for which there are changes
    #[arg(long, default_value_t = 30)]
    busy: u32,
    /// Changes a second
    #[arg(long, default_value_t = 10)]
    rate: u32,
    /// The server to measure, if it is not to be built first
    #[arg(long)]
    taskwatchd: Option<PathBuf>,
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let rate = args.rate;
    report
        .title(format_args!("sizing: {:?}, idle, then {rate} changes a second to each", args.way));
    println!(
        "| connections | resident, idle | each | kernel, both ends, each | open files | idle, processor s a minute | \
         busy, cores | µs a delivery | resident, busy | disk, bytes written a change |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut lost = 0;
    for &connections in &args.connections {
        lost += row(args, connections).await;
    }
    report.check(lost == 0, format_args!("{lost} connections were lost"));
}

/// Measures one row; how many connections were lost.
async fn row(args: &Args, connections: usize) -> usize {
    let data = tempfile::tempdir().unwrap();
    let program = args.taskwatchd.clone().unwrap_or_else(|| binary("taskwatchd"));
    let mut command = Command::new(program);
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    let daemon = Daemon::spawn(command).await;
    let pid = daemon.pid();
    let load = Load {
        addr: daemon.addr().to_owned(),
        repositories: vec![REPOSITORY.to_owned()],
        events: 1,
        writers: 1,
        bytes: BYTES,
    };
    // The first change reads in what the server needs for it.
    load.clone().publish().await;

    let before = resident(pid);
    let kernel = kernel_memory();
    let held = Arc::new(Held::default());
    let mut readers = JoinSet::new();
    let connecting = Arc::new(Semaphore::new(CONNECTING));
    for _ in 0..connections {
        let (addr, held) = (daemon.addr().to_owned(), Arc::clone(&held));
        readers.spawn(hold(args.way, addr, Arc::clone(&connecting), held));
    }
    within("all subscribed", held.until(&held.subscribed, connections)).await;

    let (minute, processor) = (Instant::now(), processor_time(pid));
    sleep(Duration::from_secs(args.idle.into())).await;
    let idle = (processor_time(pid) - processor).as_secs_f64() / minute.elapsed().as_secs_f64();
    let idle_resident = resident(pid);
    let each = idle_resident.saturating_sub(before) as f64 / connections as f64 / 1024.0;
    let kernel_each = kernel_memory().saturating_sub(kernel) as f64 / connections as f64 / 1024.0;
    let files = open_files(pid);

    let changes = (args.busy * args.rate) as usize;
    let (started, processor) = (Instant::now(), processor_time(pid));
    let disk = written(pid);
    let mut tick = interval(Duration::from_secs(1) / args.rate);
    for _ in 0..changes {
        tick.tick().await;
        load.clone().publish().await;
    }
    within("every event at each", held.until(&held.events, changes * connections)).await;
    let spent = (processor_time(pid) - processor).as_secs_f64();
    let seconds = started.elapsed().as_secs_f64();
    let cores = spent / seconds;
    let delivery = (spent - idle * seconds).max(0.0) * 1e6 / (changes * connections) as f64;
    let disk = (written(pid) - disk) / changes as u64;
    println!(
        "| {connections} | {:.0} MiB | {each:.1} KiB | {kernel_each:.1} KiB | {files} | {:.2} | {cores:.3} | {delivery:.2} \
         | {:.0} MiB | {disk} |",
        mib(idle_resident),
        idle * 60.0,
        mib(resident(pid)),
    );
    let lost = held.lost.load(Ordering::Relaxed);
    readers.shutdown().await;
    lost
}

/// What the connections have come to.
#[derive(Debug, Default)]
struct Held {
    subscribed: AtomicUsize,
    events: AtomicUsize,
    lost: AtomicUsize,
}

impl Held {
    async fn until(&self, count: &AtomicUsize, reached: usize) {
        while count.load(Ordering::Relaxed) < reached {
            let lost = self.lost.load(Ordering::Relaxed);
            assert!(lost == 0, "{lost} connections were lost");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Connects, and reads until it is aborted.
async fn hold(way: Way, addr: String, connecting: Arc<Semaphore>, held: Arc<Held>) {
    let turn = connecting.acquire().await.unwrap();
    let mut reader = Reader::subscribed(way, &addr, REPOSITORY).await.unwrap();
    drop(turn);
    held.subscribed.fetch_add(1, Ordering::Relaxed);
    while let Ok(frame) = reader.next().await {
        if matches!(frame, Frame::Event(_)) {
            held.events.fetch_add(1, Ordering::Relaxed);
        }
    }
    held.lost.fetch_add(1, Ordering::Relaxed);
}
