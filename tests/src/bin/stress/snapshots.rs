//! The present state amid changes and cuts: a view of the SDK equals a fold of the log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use taskwatch_client::{Client, TaskView};
use taskwatch_tests::{Daemon, Plan, Proxy, Rest, read_log, within};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::counters::Counters;
use crate::report::Report;

const WRITERS: u64 = 4;
/// Of one writer: the log must not grow beyond what can be folded three times a round.
const PACE: Duration = Duration::from_millis(10);
/// So many tasks make a snapshot of several frames.
const TASKS: usize = 300;
/// Bytes that a connection carries before it is cut, at most: some more than the state has.
const STATE: u64 = 250_000;
const REPOSITORIES: [&str; 3] = ["foo", "acme/api", "acme/web"];
const PATTERNS: [&[&str]; 3] = [&["*"], &["acme/*"], &["foo", "acme/web"]];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often a view is made and cut
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Repeats the choices of an earlier run
    #[arg(long)]
    seed: Option<u64>,
}

impl Args {
    pub(crate) fn sized(short: bool) -> Self {
        Self { rounds: if short { 10 } else { 100 }, seed: None }
    }
}

pub(crate) async fn run(args: &Args, report: &mut Report) {
    let seed = args.seed.unwrap_or_else(rand::random);
    let mut random = StdRng::seed_from_u64(seed);
    report.title(format_args!("snapshots: {} rounds amid changes, --seed {seed}", args.rounds));
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let network = Proxy::start(daemon.addr()).await;
    let rest = Rest::new(daemon.url());
    for number in 0..TASKS {
        let repository = REPOSITORIES[number % REPOSITORIES.len()];
        rest.create(repository, &format!("{number} {}", "x".repeat(300))).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let seed = seed.wrapping_add(writer);
        writers.spawn(change(rest.clone(), seed, Arc::clone(&stop)));
    }

    let (mut equal, mut looks) = (0, 0);
    for round in 0..args.rounds {
        let patterns = PATTERNS[round % PATTERNS.len()];
        // Within the first bytes of the state, in its middle, or behind it.
        let plans = random.random_range(1..4);
        network.plan((0..plans).map(|_| Plan::random(&mut random, STATE)).collect::<Vec<_>>());
        let client = Client::builder(network.url())
            .backoff_initial(Duration::from_millis(5))
            .backoff_cap(Duration::from_millis(50))
            .build()
            .unwrap();
        let mut view = client.view(patterns).unwrap();
        within("the state", view.ready()).await.unwrap();
        let mut all = true;
        for _ in 0..3 {
            all &= is_true(&view, data.path(), patterns);
            looks += 1;
            within("a change", view.changed()).await.unwrap();
        }
        equal += usize::from(all);
        drop(view);
    }
    stop.store(true, Ordering::SeqCst);
    let changes: usize = writers.join_all().await.into_iter().sum();
    // Each connection but the last of a round ended early.
    let cuts = network.carried().len() - args.rounds;
    let sent = Counters::read(daemon.addr()).await.get("snapshots_total");
    println!(
        "{changes} changes meanwhile, {looks} looks, {cuts} connections cut, {sent} snapshots sent whole"
    );
    let rounds = args.rounds;
    report.check(
        equal == rounds,
        format_args!("the view equals a fold of the log at its cursor: {equal} of {rounds} rounds"),
    );
    report.check(
        cuts * 2 >= rounds,
        format_args!("connections that were cut: {cuts}, at least {}", rounds / 2),
    );
    report
        .check(changes >= rounds, format_args!("changes meanwhile: {changes}, at least {rounds}"));
}

/// Holds what the view shows against what the log makes of its repositories at its position.
fn is_true(view: &TaskView, data: &Path, patterns: &[&str]) -> bool {
    let tasks = view.tasks();
    let shown: BTreeMap<_, _> =
        tasks.iter().map(|task| (task.id.to_string(), json!(**task))).collect();
    let cursor = tasks.cursor().expect("it is ready").to_string();
    // One position may have two names, but it has one number.
    let upto: u64 = cursor.rsplit('-').next().unwrap().parse().unwrap();
    let mut state = BTreeMap::new();
    for event in read_log(data).into_iter().take_while(|event| event.seq <= upto) {
        let is_wanted = patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => event.repository.starts_with(prefix),
            None => event.repository == *pattern,
        });
        if !is_wanted {
            continue;
        }
        let envelope: Value = serde_json::from_str(&event.envelope).unwrap();
        let id = envelope["data"]["task_id"].as_str().unwrap().to_owned();
        match envelope["type"].as_str().unwrap() {
            "task.deleted" => drop(state.remove(&id)),
            _ => drop(state.insert(id, envelope["data"]["task"].clone())),
        }
    }
    let equal = shown == state;
    if !equal {
        println!("at {cursor}: {} tasks shown, {} in the log", shown.len(), state.len());
    }
    equal
}

/// Makes changes of every kind until it is told to stop: how many.
async fn change(rest: Rest, seed: u64, stop: Arc<AtomicBool>) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let mut tasks = vec![];
    let mut changes = 0;
    let mut pace = interval(PACE);
    while !stop.load(Ordering::SeqCst) {
        pace.tick().await;
        match random.random_range(0..4) {
            0 if tasks.len() > 20 => {
                let task = tasks.swap_remove(random.random_range(0..tasks.len()));
                rest.delete(&task).await;
            }
            1 | 2 if !tasks.is_empty() => {
                let task = &tasks[random.random_range(0..tasks.len())];
                rest.patch(task, json!({"title": format!("changed {changes}")})).await;
            }
            _ => {
                let repository = REPOSITORIES[random.random_range(0..REPOSITORIES.len())];
                tasks.push(rest.create(repository, &format!("new {changes}")).await);
            }
        }
        changes += 1;
    }
    changes
}
