//! How fast a client reads, beside the least that reads the same, and what an idle stream costs:
//!
//! ```console
//! cargo build --release -p taskwatch-cli
//! cargo run --release -p taskwatch-client --example speed -- rounds target/release/taskwatch wscat
//! cargo run --release -p taskwatch-client --example speed -- streams 1000 5000
//! ```
//!
//! `wscat` is the one of npm, and may be left out.
#![expect(clippy::unwrap_used, reason = "a harness fails by panicking")]
#![expect(clippy::print_stdout, reason = "that is what it is for")]

mod clients;
mod server;

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use self::server::{Run, Server};

const EVENTS: usize = 100_000;
const ROUNDS: usize = 5;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["rounds", watcher] => rounds(watcher, None),
        ["rounds", watcher, wscat] => rounds(watcher, Some(wscat)),
        ["streams", ref counts @ ..] => counts.iter().for_each(|count| streams(count)),
        // What the two above start as processes of their own.
        ["bare", url, events] => clients::bare(url, events.parse().unwrap()),
        ["sdk", url, events] => clients::sdk(url, events.parse().unwrap(), 1),
        ["sdk2", url, events] => clients::sdk(url, events.parse().unwrap(), 2),
        ["idle", url, streams, events] => {
            clients::idle(url, streams.parse().unwrap(), events.parse().unwrap());
        }
        _ => println!("usage: speed rounds WATCHER [WSCAT] | speed streams COUNT.."),
    }
}

/// A way to read events.
struct Reader {
    name: &'static str,
    command: Vec<String>,
    /// Whether it prints a line for each event.
    prints: bool,
    runs: Vec<(f64, f64)>,
}

/// Lets each reader read the same events, in turn. The first is what the others are compared with,
/// and so is the last for those that print.
fn rounds(watcher: &str, wscat: Option<&str>) {
    let server = Server::start(EVENTS);
    let url = format!("http://{}", server.address);
    let own = env::current_exe().unwrap().display().to_string();
    let reader = |name, command: &[&str], prints| Reader {
        name,
        command: command.iter().map(|&part| part.to_owned()).collect(),
        prints,
        runs: vec![],
    };
    let count = EVENTS.to_string();
    let watch = [watcher, "--url", &url, "--repo", "*", "--count", &count, "-q"];
    let mut readers = vec![
        reader("bare tokio-tungstenite", &[&own, "bare", &url, &count], false),
        reader("SDK, one thread", &[&own, "sdk", &url, &count], false),
        reader("SDK, two threads", &[&own, "sdk2", &url, &count], false),
        reader("taskwatch -o json > file", &[&watch[..], &["-o", "json"]].concat(), true),
        reader("taskwatch > file", &watch, true),
    ];
    let ws = url.replace("http", "ws") + "/ws";
    // The server closes when it has sent everything to who chose this id.
    let subscribe = r#"{"type":"subscribe","id":"close","data":{"repositories":["*"]}}"#;
    if let Some(wscat) = wscat {
        let command = [wscat, "-c", &ws, "-w", "-1", "-x", subscribe];
        readers.push(reader("wscat > file", &command, true));
    }
    let out = env::temp_dir().join(format!("speed-{}", std::process::id()));
    for _ in 0..ROUNDS {
        for reader in &mut readers {
            let (seconds, cpu) = run(&server, reader, &out);
            reader.runs.push((EVENTS as f64 / seconds, cpu * 1e6 / EVENTS as f64));
        }
    }
    fs::remove_file(&out).unwrap();
    report(&readers, wscat.is_some());
}

/// Seconds from the subscription to the end, and seconds of the processor.
fn run(server: &Server, reader: &Reader, out: &Path) -> (f64, f64) {
    let before = cpu_of_children();
    let mut child = Command::new(&reader.command[0])
        .args(&reader.command[1..])
        .stdin(Stdio::piped())
        .stdout(fs::File::create(out).unwrap())
        .spawn()
        .unwrap();
    // wscat leaves when its input ends.
    let input = child.stdin.take();
    let status = child.wait().unwrap();
    drop(input);
    assert!(status.success(), "{}: {status}", reader.name);
    let Run { elapsed } = server.last_run();
    if reader.prints {
        // wscat prints the two answers before them too.
        let lines = fs::read(out).unwrap().iter().filter(|byte| **byte == b'\n').count();
        assert!((EVENTS..=EVENTS + 2).contains(&lines), "{}: {lines} lines", reader.name);
    }
    (elapsed.as_secs_f64(), cpu_of_children() - before)
}

fn report(readers: &[Reader], has_wscat: bool) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2], values[0], values[values.len() - 1])
    };
    let rate = |reader: &Reader| median(reader.runs.iter().map(|run| run.0).collect());
    let bare = rate(&readers[0]).0;
    let wscat = readers.last().filter(|_| has_wscat).map(|last| rate(last).0);
    println!(
        "| {EVENTS} events, {ROUNDS} rounds | events/s, median (min–max) | CPU µs/event | × bare | × wscat |"
    );
    println!("|---|---|---|---|---|");
    for reader in readers {
        let (events, least, most) = rate(reader);
        let cpu = median(reader.runs.iter().map(|run| run.1).collect()).0;
        let to_wscat = wscat.filter(|_| reader.prints).map(|wscat| events / wscat);
        let to_wscat = to_wscat.map_or_else(|| "–".to_owned(), |times| format!("{times:.2}"));
        println!(
            "| {} | {events:.0} ({least:.0}–{most:.0}) | {cpu:.2} | {:.2} | {to_wscat} |",
            reader.name,
            events / bare
        );
    }
}

/// What each of so many streams costs that have had no event, or a burst of them.
fn streams(count: &str) {
    for burst in [0, 2_000] {
        let server = Server::start(burst);
        let url = format!("http://{}", server.address);
        let own = env::current_exe().unwrap();
        let args = ["idle", &url, count, &burst.to_string()];
        let output = Command::new(own).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        print!("{}", String::from_utf8(output.stdout).unwrap());
    }
}

/// User and system time of the processes that were started and have ended, in seconds.
fn cpu_of_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may hold spaces: the fields from the third on.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks: u64 = fields[13..15].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    // The kernel tells it in hundredths of a second, whatever its clock.
    ticks as f64 / 100.0
}
