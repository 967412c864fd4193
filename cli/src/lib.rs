//! `taskwatch` prints what happens to tasks, as it happens. The work is in `watch.rs`.
//!
//! A library only so that the demo can run the watcher inside its own process.

mod args;
mod board;
mod condition;
mod connection;
mod doctor;
mod enough;
mod exit;
mod filter;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod goal;
mod hook;
mod log;
mod manual;
mod moment;
mod output;
mod paint;
mod position;
mod settings;
mod status;
mod status_line;
mod stop;
mod tasks;
mod token;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{CommandFactory, FromArgMatches};
use jiff::Zoned;
use jiff::tz::TimeZone;
use taskwatch_client::protocol::escape;
use taskwatch_client::{CursorFile, Updates};
use tokio::runtime;

use crate::args::{Args, Color, Command, WatchArgs};
use crate::enough::Beginning;
use crate::exit::{End, Failure};
use crate::goal::Goal;
use crate::hook::{Hook, Setting};
use crate::paint::Paint;
use crate::position::Position;
use crate::status::Status;
use crate::watch::Watcher;

/// Runs the watcher with these arguments, the program's name first, up to its end: its exit code.
///
/// Arguments that make no sense end the process, with a message that says why.
pub fn run<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>) -> ExitCode {
    let command = match settings::with_file(Args::command()) {
        Ok(command) => command,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            return ExitCode::from(exit::USAGE);
        }
    };
    let parsed = Args::from_arg_matches(&command.get_matches_from(args));
    let args = parsed.unwrap_or_else(|error| error.exit());
    let code = match &args.command {
        Some(command) => run_command(command),
        None => run_watch(&args.watch),
    };
    ExitCode::from(code)
}

fn run_command(command: &Command) -> u8 {
    let text = match command {
        Command::Tasks(command) => {
            let url = &tasks::connection_of(command).url;
            let status = Status::new(Paint(Color::Auto.on(&io::stderr())), false, url);
            return told(tasks::run(command, &status).map(|()| 0), &status);
        }
        Command::Doctor(args) => {
            let paint = Paint(args.color.on(&io::stderr()));
            let status = Status::new(paint, false, &args.connection.url);
            return told(doctor::run(args, &status), &status);
        }
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man => manual::page(),
    };
    // As with a closed stdout of a watch: whoever has gone has seen enough.
    let _ = io::stdout().write_all(&text);
    0
}

fn run_watch(args: &WatchArgs) -> u8 {
    log::start(args.connection.verbose);
    let began = Instant::now();
    let mut watcher = match Watcher::new(args, &zoned_now(args)) {
        Ok(watcher) => watcher,
        Err(failure) => {
            let paint = Paint(args.color.on(&io::stderr()));
            return told(Err(failure), &Status::new(paint, args.quiet, &args.connection.url));
        }
    };
    let end = run_to_end(args, &mut watcher);
    // Should nobody read it, the exit code still says it.
    let _ = io::stderr().write_all(watcher.farewell(began.elapsed(), &end).as_bytes());
    match end {
        _ if args.strict && watcher.status.is_broken() => exit::BROKEN,
        Ok(end) => end.code(),
        Err(failure) => failure.code(),
    }
}

/// The exit code, also of a failure, once that was told.
fn told(end: Result<u8, Failure>, status: &Status) -> u8 {
    end.unwrap_or_else(|failure| {
        // Should nobody read it, the exit code still says it.
        let _ = writeln!(io::stderr(), "{}", status.failure(&failure));
        failure.code()
    })
}

/// The present, here or everywhere.
fn zoned_now(args: &WatchArgs) -> Zoned {
    if args.utc { Zoned::now().with_time_zone(TimeZone::UTC) } else { Zoned::now() }
}

fn run_to_end(args: &WatchArgs, watcher: &mut Watcher) -> Result<End, Failure> {
    connection::check_token_file(&args.connection, &watcher.status)?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)?;
    let end = runtime.block_on(async {
        if args.board { board::run(args).await } else { watch(args, watcher).await }
    });
    // A write to a full pipe cannot be called back, and must not keep the watcher from ending.
    runtime.shutdown_background();
    end
}

async fn watch(args: &WatchArgs, watcher: &mut Watcher) -> Result<End, Failure> {
    let file = match args.hook.cursor_file() {
        Some(path) => Some(position::open(path).await?),
        None => None,
    };
    let cursor = file.as_ref().and_then(CursorFile::cursor);
    if cursor.is_some() {
        watcher.enough.beginning = Beginning::Past;
    }
    let updates = watch::open(args, cursor, &zoned_now(args))?;
    let position = Position::new(file, updates.acker());
    for doubt in watcher.goal.iter().flat_map(Goal::doubts) {
        let _ = writeln!(io::stderr(), "{}", watcher.status.doubt(doubt));
    }
    let end = match args.hook.hook() {
        Some(hook) => run_hooks(args, &hook, updates, position, watcher).await?,
        None => print(args, updates, position, watcher).await?,
    };
    // Met in time, though what was printed was not read in time.
    let is_met = watcher.goal.as_ref().is_some_and(Goal::is_met);
    match end {
        End::TimedOut if is_met => Ok(End::Met),
        // Whoever waits for something must not take this for it.
        End::OutputClosed if watcher.goal.is_some() => {
            Err(Failure::Output(io::ErrorKind::BrokenPipe.into()))
        }
        end => Ok(end),
    }
}

async fn print(
    args: &WatchArgs,
    mut updates: Updates,
    mut position: Position,
    watcher: &mut Watcher,
) -> Result<End, Failure> {
    let (mut out, err) = (tokio::io::stdout(), tokio::io::stderr());
    let end = tokio::select! {
        // Signals are caught before anything is dialled or told.
        biased;
        stop = stop::requested(io::stdout()) => stop.map_err(Failure::Start),
        end = watcher.watch(&mut updates, &mut position, &mut out, err) => end,
        () = time_is_up(args.goal.timeout) => Ok(End::TimedOut),
    };
    // What was being printed when a signal came is printed to its end, unless nobody reads it.
    let ((), is_printed) = tokio::join!(watch::close(updates), watch::finish(out));
    // What could not be printed is for the next run, whatever a later flush says.
    let is_cut = matches!(end, Err(Failure::Output(_)) | Ok(End::OutputClosed));
    if is_printed && !is_cut {
        position.finish()?;
    }
    end
}

async fn run_hooks(
    args: &WatchArgs,
    hook: &Hook,
    mut updates: Updates,
    position: Position,
    watcher: &mut Watcher,
) -> Result<End, Failure> {
    let stop = async {
        tokio::select! {
            biased;
            stop = stop::requested(io::stdout()) => stop.map_err(Failure::Start),
            () = time_is_up(args.goal.timeout) => Ok(End::TimedOut),
        }
    };
    let acker = updates.acker();
    let setting = Setting { updates: &mut updates, acker, position, watcher };
    let end = hook::run(hook, setting, stop).await;
    watch::close(updates).await;
    end
}

/// Waits for as long as was given; without end if nothing was.
async fn time_is_up(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}
