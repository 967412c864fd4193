//! The server is killed amid writes, and what the watcher printed equals the log.

use std::collections::HashSet;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use taskwatch_tests::{Daemon, Watcher, read_log, within};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::http::{Answer, Http};
use crate::report::Report;

const CHANGES: usize = 200;
/// 50 changes a second.
const PACE: Duration = Duration::from_millis(20);
/// The kill comes with one of these changes.
const KILL_FROM: usize = 20;
const KILL_TO: usize = 180;
/// How far into a request the kill comes, at most: about the time it takes.
const MICROSECONDS: u64 = 3000;
const REPOSITORIES: [&str; 3] = ["acme/api", "acme/website", "tools"];
const TASKS: &str = "/api/v1/tasks";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often the server is killed
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// Repeats the choices of an earlier run
    #[arg(long)]
    seed: Option<u64>,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        Self { runs: if short { 3 } else { 20 }, seed: None }
    }
}

/// What the writers have in common.
#[derive(Debug)]
struct Writers {
    addr: String,
    /// Paths of tasks that nobody is changing.
    tasks: Mutex<Vec<String>>,
    /// Cursors of changes that were acknowledged.
    acknowledged: Mutex<Vec<String>>,
    /// Requests that were sent and not answered yet.
    in_flight: AtomicUsize,
    /// Requests that were sent and never answered. They are not sent again.
    lost: AtomicUsize,
    /// Says which change was sent.
    sent: mpsc::UnboundedSender<usize>,
}

/// The moment of the kill.
#[derive(Debug)]
struct Kill {
    /// The last change that had been sent.
    change: usize,
    in_flight: usize,
}

/// One change, chosen beforehand.
#[derive(Debug)]
struct Choice {
    number: usize,
    /// 0 to 9: what is done.
    action: u32,
    repository: &'static str,
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let seed = args.seed.unwrap_or_else(rand::random);
    let mut random = StdRng::seed_from_u64(seed);
    report.title(format_args!("kill9: {} runs, --seed {seed}", args.runs));
    let port = free_port(&mut random);
    println!(" run  acked  lost  in log  lines  killed at  in flight  replayed  equal");
    let (mut equal, mut complete, mut in_flight) = (0, 0, 0);
    for number in 1..=args.runs {
        let outcome = one(port, &mut random).await;
        println!(
            "{number:4} {:6} {:5} {:7} {:6} {:10} {:10} {:>9}  {}",
            outcome.acknowledged,
            outcome.lost,
            outcome.log.len(),
            outcome.lines.len(),
            outcome.kill.change,
            outcome.kill.in_flight,
            outcome.replayed,
            if outcome.lines == outcome.log { "yes" } else { "NO" },
        );
        if outcome.lines != outcome.log {
            explain(&outcome);
        }
        equal += u64::from(outcome.lines == outcome.log);
        complete += u64::from(outcome.missing == 0);
        in_flight += u64::from(outcome.kill.in_flight > 0);
    }
    let runs = args.runs;
    report.check(equal == runs, format_args!("watcher's output equals the log: {equal} of {runs}"));
    report.check(
        complete == runs,
        format_args!("every acknowledged change is in the log: {complete} of {runs}"),
    );
    report.check(
        in_flight * 2 >= runs,
        format_args!("kills that hit a write in flight: {in_flight} of {runs}, at least half"),
    );
}

#[derive(Debug)]
struct Outcome {
    acknowledged: usize,
    lost: usize,
    /// Acknowledged changes that are not in the log.
    missing: usize,
    log: Vec<String>,
    lines: Vec<String>,
    kill: Kill,
    replayed: String,
}

async fn one(port: u16, random: &mut StdRng) -> Outcome {
    let data = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let daemon = Daemon::start_with(data.path(), &listen, &[]).await;
    let mut watcher = Watcher::start(daemon.url(), &["-o", "json", "--repo", "*"]).await;

    let (sent, mut was_sent) = mpsc::unbounded_channel();
    let writers = Arc::new(Writers {
        addr: listen,
        tasks: Mutex::default(),
        acknowledged: Mutex::default(),
        in_flight: AtomicUsize::new(0),
        lost: AtomicUsize::new(0),
        sent,
    });
    let choices: Vec<_> = (1..=CHANGES)
        .map(|number| Choice {
            number,
            action: random.random_range(0..10),
            repository: REPOSITORIES[random.random_range(0..REPOSITORIES.len())],
        })
        .collect();
    let at = random.random_range(KILL_FROM..=KILL_TO - 10);
    let delay = Duration::from_micros(random.random_range(0..MICROSECONDS));

    let changes = tokio::spawn(change_all(Arc::clone(&writers), choices));
    let counting = Arc::clone(&writers);
    let killed = async {
        let mut daemon = daemon;
        let kill = loop {
            let change = was_sent.recv().await.unwrap();
            if change < at {
                continue;
            }
            // Spun away: a timer's millisecond is too coarse to hit each part of a request.
            let asked = std::time::Instant::now();
            while asked.elapsed() < delay {
                tokio::task::yield_now().await;
            }
            let in_flight = counting.in_flight.load(Ordering::SeqCst);
            if in_flight > 0 || change >= KILL_TO {
                break Kill { change, in_flight };
            }
        };
        daemon.kill().await;
        (restarted(daemon, data.path(), &counting.addr).await, kill)
    };

    // The watcher is read all the while: a full pipe would be another test.
    let mut lines = vec![];
    let work = async { tokio::join!(killed, changes) };
    tokio::pin!(work);
    let ((mut daemon, kill), changed) = loop {
        tokio::select! {
            done = &mut work => break done,
            line = watcher.stdout.next() => lines.push(line.expect("the watcher runs")),
        }
    };
    changed.unwrap();

    let log: Vec<_> = read_log(data.path()).into_iter().map(|event| event.envelope).collect();
    let cursors: Vec<_> = log.iter().map(|envelope| cursor(envelope)).collect();
    let last = cursors.last().expect("something was changed");
    while lines.last().is_none_or(|line| cursor(line) != *last) {
        lines.push(watcher.stdout.next().await.expect("the watcher runs"));
    }
    watcher.signal("INT");
    while let Some(line) = watcher.stdout.next().await {
        lines.push(line);
    }
    let mut replayed = String::from("?");
    while let Some(line) = watcher.stderr.next().await {
        if let Some((before, _)) = line.split_once(" replayed") {
            replayed = before.rsplit(' ').next().unwrap_or_default().to_owned();
        }
    }
    // Waited for: the next run takes the same port.
    daemon.kill().await;

    let acknowledged = std::mem::take(&mut *writers.acknowledged.lock().unwrap());
    let logged: HashSet<_> = cursors.into_iter().collect();
    Outcome {
        acknowledged: acknowledged.len(),
        lost: writers.lost.load(Ordering::SeqCst),
        missing: acknowledged.iter().filter(|cursor| !logged.contains(*cursor)).count(),
        log,
        lines,
        kill,
        replayed,
    }
}

async fn restarted(killed: Daemon, data: &Path, listen: &str) -> Daemon {
    drop(killed);
    Daemon::start_with(data, listen, &[]).await
}

/// Makes all changes at their pace, also while nobody answers.
async fn change_all(writers: Arc<Writers>, choices: Vec<Choice>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut changes = JoinSet::new();
    for choice in choices {
        pace.tick().await;
        let writers = Arc::clone(&writers);
        changes.spawn(async move { writers.change(choice).await });
    }
    within("the last answer", changes.join_all()).await;
}

impl Writers {
    async fn change(&self, choice: Choice) {
        let mut http = self.connect().await;
        let Choice { number, action, repository } = choice;
        let title = format!("Change {number}");
        // A task is changed by one writer at a time, so that none finds it gone.
        let task = (action >= 4).then(|| self.tasks.lock().unwrap().pop()).flatten();
        let Some(task) = task else {
            let new = json!({ "repository": repository, "title": title });
            if let Ok(created) = self.ask(&mut http, number, "POST", TASKS, &new.to_string()).await
            {
                let created: Value = serde_json::from_str(&created.body).unwrap();
                self.put_back(format!("{TASKS}/{}", created["id"].as_str().unwrap()));
            }
            return;
        };
        if action == 9 || action == 8 {
            let _ = self.ask(&mut http, number, "DELETE", &task, "").await;
        } else {
            let patch = json!({ "title": title }).to_string();
            let _ = self.ask(&mut http, number, "PATCH", &task, &patch).await;
            self.put_back(task);
        }
    }

    fn put_back(&self, task: String) {
        self.tasks.lock().unwrap().insert(0, task);
    }

    /// A connection refused is a request that was certainly not made.
    async fn connect(&self) -> Http {
        loop {
            match Http::connect(&self.addr).await {
                Ok(http) => return http,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Sends a request once. After it was sent, no answer may mean anything.
    async fn ask(
        &self,
        http: &mut Http,
        number: usize,
        method: &str,
        path: &str,
        body: &str,
    ) -> io::Result<Answer> {
        let answer = match http.send(method, path, body).await {
            Ok(()) => {
                self.in_flight.fetch_add(1, Ordering::SeqCst);
                let _ = self.sent.send(number);
                let answer = http.answer().await;
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
                answer
            }
            Err(error) => Err(error),
        };
        match &answer {
            Ok(Answer { status: 200..=299, cursor: Some(cursor), .. }) => {
                self.acknowledged.lock().unwrap().push(cursor.clone());
            }
            Ok(refused) => panic!("{method} {path}: {refused:?}"),
            Err(_) => drop(self.lost.fetch_add(1, Ordering::SeqCst)),
        }
        answer
    }
}

/// A port that no outgoing connection takes while the server is down.
pub(crate) fn free_port(random: &mut StdRng) -> u16 {
    loop {
        let port = random.random_range(20_000..30_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn cursor(envelope: &str) -> String {
    let envelope: Value = serde_json::from_str(envelope).unwrap();
    envelope["cursor"].as_str().expect("an event has a cursor").to_owned()
}

fn explain(outcome: &Outcome) {
    let differs = outcome.lines.iter().zip(&outcome.log).position(|(line, logged)| line != logged);
    let at = differs.unwrap_or(outcome.lines.len().min(outcome.log.len()));
    println!("      first difference at {at}:");
    println!("      printed {:?}", outcome.lines.get(at));
    println!("      logged  {:?}", outcome.log.get(at));
}
