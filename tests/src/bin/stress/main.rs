//! The slow suites: release binaries as processes of their own, thousands of sockets, on loopback.
//!
//! Each run prints its figures and a verdict for each requirement, and a missed one makes the
//! program fail.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a stress run fails by panicking")]
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

mod counters;
mod dead_reader;
mod dead_readers;
mod fanout;
mod handshakes;
mod http;
mod idle;
mod kill9;
mod load;
mod misbehave;
mod paused;
mod process;
mod quiet;
mod reader;
mod report;
mod restart;
mod returns;
mod sizing;
mod snapshots;
mod socket;
mod withdrawn;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use reader::Way;
use report::Report;

/// Shows under load what the server and its clients promise.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Run {
    /// `kill -9` amid writes: the watcher's output equals the log
    Kill9(kill9::Args),
    /// Clients that never read cost little memory and slow nobody down
    DeadReaders(dead_readers::Args),
    /// What a connection costs that is subscribed and idle
    Idle(idle::Args),
    /// What a server needs for so many connections; not one of all, since it only measures
    Sizing(sizing::Args),
    /// Every client has every event, in order
    Fanout(fanout::Args),
    /// A watcher that is stopped for two minutes has everything in the end
    Paused(paused::Args),
    /// A client that never reads is closed, comes back, and has everything
    DeadReader(dead_reader::Args),
    /// A silent repository's subscribers outlive the retention of the others
    Quiet(quiet::Args),
    /// A server that is stopped sends all away, and they have everything from the next one
    Restart(restart::Args),
    /// Those who come back together share what is read from the store
    Returns(returns::Args),
    /// The present state amid changes and cuts is that of its position
    Snapshots(snapshots::Args),
    /// Sockets that never finish a handshake are closed, and keep nobody out
    Handshakes(handshakes::Args),
    /// Half of the connections misbehave in all ways, and leave no trace
    Misbehave(misbehave::Args),
    /// A permission that is withdrawn ends what it gave
    Withdrawn(withdrawn::Args),
    /// All of them
    All {
        /// Smaller, for every change: a minute or two
        #[arg(long)]
        short: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    process::raise_file_limit();
    let args = Args::parse();
    if cfg!(debug_assertions) {
        println!("This is a debug build: its figures say nothing.");
    }
    let mut report = Report::default();
    match args.run {
        Run::Kill9(args) => kill9::run(&args, &mut report).await,
        Run::DeadReaders(args) => dead_readers::run(&args, &mut report).await,
        Run::Idle(args) => idle::run(&args, &mut report).await,
        Run::Sizing(args) => sizing::run(&args, &mut report).await,
        Run::Fanout(args) => fanout::run(&args, &mut report).await,
        Run::Paused(args) => paused::run(&args, &mut report).await,
        Run::DeadReader(args) => dead_reader::run(&args, &mut report).await,
        Run::Quiet(args) => quiet::run(&args, &mut report).await,
        Run::Restart(args) => restart::run(&args, &mut report).await,
        Run::Returns(args) => returns::run(&args, &mut report).await,
        Run::Snapshots(args) => snapshots::run(&args, &mut report).await,
        Run::Handshakes(args) => handshakes::run(&args, &mut report).await,
        Run::Misbehave(args) => misbehave::run(&args, &mut report).await,
        Run::Withdrawn(args) => withdrawn::run(&args, &mut report).await,
        Run::All { short } => {
            kill9::run(&kill9::Args::sized(short), &mut report).await;
            dead_readers::run(&dead_readers::Args::sized(short), &mut report).await;
            fanout::run(&fanout::Args::sized(short), &mut report).await;
            fanout::run(&fanout::Args::mixed(short), &mut report).await;
            idle::run(&idle::Args::sized(short, Way::Ws), &mut report).await;
            idle::run(&idle::Args::sized(short, Way::Sse), &mut report).await;
            paused::run(&paused::Args::sized(short), &mut report).await;
            dead_reader::run(&dead_reader::Args::sized(short), &mut report).await;
            restart::run(&restart::Args::sized(short), &mut report).await;
            returns::run(&returns::Args::sized(short), &mut report).await;
            snapshots::run(&snapshots::Args::sized(short), &mut report).await;
            handshakes::run(&handshakes::Args::sized(short), &mut report).await;
            misbehave::run(&misbehave::Args::sized(short), &mut report).await;
            withdrawn::run(&withdrawn::Args::sized(short), &mut report).await;
            // Bookmarks come every 20 s, so that no short form would show anything; what it shows
            // is shown in small by tests/it/network.rs.
            if !short {
                quiet::run(&quiet::Args::full(), &mut report).await;
            }
        }
    }
    report.end()
}
