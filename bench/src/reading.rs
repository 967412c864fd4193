//! Programs that read events, and what reading takes them: each runs for itself, beside a server in this program.

mod readers;
mod server;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use self::readers::{Args as ReaderArgs, run as run_reader};
use self::server::{FIRST, Server};
use crate::process::{self, Processes};
use crate::row::{Row, RunName};
use crate::{Failure, print};

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Counts {
    /// The program knows how many events it has
    Events,
    /// It prints a line for each event
    Lines,
    /// It reads them with many streams, which then wait, and prints what each takes
    Streams,
    /// It is started again and again, and ended when it has printed its first event
    FirstLine,
}

/// So often is a program started for the time it takes to its first line.
const STARTS: usize = 21;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum)]
    counts: Counts,
    /// Port to serve on, on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Events for each connection
    #[arg(long)]
    events: usize,
    /// Where the program's output goes
    #[arg(long)]
    output: PathBuf,
    #[command(flatten)]
    run: RunName,
    /// The program that reads, with its arguments
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let named = args.run.row();
    let row = measure(args, &named)
        .unwrap_or_else(|error| Row { error: Some(error.to_string()), ..named });
    print(&serde_json::to_string(&row)?);
    row.error.map_or(Ok(()), |error| Err(error.into()))
}

/// From the start of a program to its first line with an event, in the median.
fn first_line(program: &[String]) -> Result<Duration, Failure> {
    let (program, arguments) = program.split_first().ok_or("no program")?;
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let is_there = lines.map_while(Result::ok).any(|line| line.contains(FIRST));
        times.push(begun.elapsed());
        child.kill()?;
        child.wait()?;
        if !is_there {
            return Err(format!("{program} printed no event").into());
        }
    }
    times.sort();
    Ok(times[STARTS / 2])
}

fn measure(args: &Args, named: &Row) -> Result<Row, Failure> {
    let server = Server::start(args.port, args.events)?;
    if args.counts == Counts::FirstLine {
        return Ok(Row { seconds: first_line(&args.program)?.as_secs_f64(), ..named.clone() });
    }
    let before = (process::ended_children(), Processes::own().cpu(), process::machine());
    let (program, arguments) = args.program.split_first().ok_or("no program")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(File::create(&args.output)?)
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    // wscat leaves when its input ends.
    let input = child.stdin.take();
    let status = child.wait()?;
    drop(input);
    if !status.success() {
        return Err(format!("{program}: {status}").into());
    }
    let output = fs::read(&args.output)?;
    if args.counts == Counts::Streams {
        let each: f64 = String::from_utf8(output)?.trim().parse()?;
        return Ok(Row { rss_per_connection: each, ..named.clone() });
    }
    let seconds = server.last_run()?.as_secs_f64();
    let cpu = process::ended_children() - before.0;
    let own = Processes::own().cpu() - before.1;
    let busy = process::machine() - before.2;
    let events = args.events as u64;
    let lines = match args.counts {
        // wscat prints the two answers before them too.
        Counts::Lines => memchr::memchr_iter(b'\n', &output).count() as u64,
        _ => events,
    };
    Ok(Row {
        seconds,
        deliveries: events,
        deliveries_per_s: events as f64 / seconds,
        cpu_us_per_delivery: cpu.all() * 1e6 / events.max(1) as f64,
        user_us_per_delivery: cpu.user * 1e6 / events.max(1) as f64,
        system_us_per_delivery: cpu.system * 1e6 / events.max(1) as f64,
        server_cores: own.all() / seconds,
        client_cores: cpu.all() / seconds,
        other_cores: (busy - cpu.all() - own.all()).max(0.0) / seconds,
        lost: events.saturating_sub(lines),
        repeated: lines.saturating_sub(events + 2),
        ..named.clone()
    })
}
