//! How fast the hub is, beside other servers and the limit of the machine. `bench/run` puts the parts together, and
//! `docs/benchmarks.md` says what is measured and what came out.

mod bare;
mod broadcast;
mod floor;
mod frame;
mod hub;
mod load;
mod process;
mod reading;
mod report;
mod row;
mod stamp;

use std::process::ExitCode;

use clap::Parser;

/// That of `taskwatchd`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What went wrong, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The parts of the benchmarks; `bench/run` puts them together.
#[derive(Parser)]
enum Command {
    /// Loads a server, and prints what it did as one line of JSON
    Load(Box<load::Args>),
    /// The least work with which one thread can fan out
    Floor(floor::Args),
    /// The hub without an API: POST /publish makes an event
    Hub(hub::Args),
    /// A hub as it is commonly made of axum's WebSocket and tokio's broadcast channel
    Broadcast(broadcast::Args),
    /// Inserts the rows of changes into a file of taskwatchd's
    Bare(bare::Args),
    /// Runs a program that reads events, and prints what it did as one line of JSON
    Read(reading::Args),
    /// A program that reads events
    Reader(reading::ReaderArgs),
    /// Tables and plots of the lines that `load` printed
    Report(report::Args),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Load(args) => load::run(&args),
        Command::Floor(args) => floor::run(&args),
        Command::Hub(args) => hub::run(&args),
        Command::Broadcast(args) => broadcast::run(&args),
        Command::Bare(args) => bare::run(&args),
        Command::Read(args) => reading::run(&args),
        Command::Reader(args) => reading::run_reader(&args),
        Command::Report(args) => report::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "for the people who run it")]
fn say(text: &str) {
    eprintln!("taskwatch-bench: {text}");
}

#[expect(clippy::print_stdout, reason = "its results, for programs and people")]
fn print(text: &str) {
    println!("{text}");
}
