//! `taskwatch` prints what happens to tasks, as it happens. The work is in `watch.rs`.
//!
//! A library only so that the demo can run the watcher inside its own process.

mod args;
mod board;
mod connection;
mod exit;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod log;
mod manual;
mod output;
mod paint;
mod status;
mod stop;
mod token;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use taskwatch_client::protocol::escape;
use tokio::runtime;

use crate::args::{Args, Command, Format, WatchArgs};
use crate::exit::{End, Failure};
use crate::output::TextFormat;
use crate::paint::Paint;
use crate::status::Status;
use crate::watch::Printer;

/// Runs the watcher with these arguments, the program's name first, up to its end: its exit code.
///
/// Arguments that make no sense end the process, with a message that says why.
pub fn run<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>) -> ExitCode {
    let args = Args::parse_from(args);
    let code = match &args.command {
        Some(command) => run_command(command),
        None => run_watch(&args.watch),
    };
    ExitCode::from(code)
}

fn run_command(command: &Command) -> u8 {
    let text = match command {
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man => manual::page(),
    };
    // As with a closed stdout of a watch: whoever has gone has seen enough.
    let _ = io::stdout().write_all(&text);
    0
}

fn run_watch(args: &WatchArgs) -> u8 {
    log::start(args.connection.verbose);
    let url = &args.connection.url;
    let mut status = Status::new(Paint(args.color.on(&io::stderr())), args.quiet, url);
    match run_to_end(args, &mut status) {
        Ok(end) => end.code(),
        Err(failure) => {
            // Should nobody read it, the exit code still says it.
            let _ = writeln!(io::stderr(), "{}", status.failure(&failure));
            failure.code()
        }
    }
}

fn run_to_end(args: &WatchArgs, status: &mut Status) -> Result<End, Failure> {
    connection::check_token_file(&args.connection, status)?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)?;
    let end = runtime.block_on(async {
        if args.board { board::run(args).await } else { watch(args, status).await }
    });
    // A write to a full pipe cannot be called back, and must not keep the watcher from ending.
    runtime.shutdown_background();
    end
}

async fn watch(args: &WatchArgs, status: &mut Status) -> Result<End, Failure> {
    let printer = match args.output {
        Format::Json => Printer::Json,
        Format::Text => {
            let paint = Paint(args.color.on(&io::stdout()));
            Printer::Text(TextFormat::new(paint, &args.repositories))
        }
    };
    let (mut out, err) = (tokio::io::stdout(), tokio::io::stderr());
    let mut updates = watch::open(args)?;
    let end = tokio::select! {
        // Signals are caught before anything is dialled or told.
        biased;
        stop = stop::requested(io::stdout()) => stop.map_err(Failure::Start),
        end = watch::watch(&mut updates, printer, status, args.count, &mut out, err) => end,
    };
    // What was being printed when a signal came is printed to its end, unless nobody reads it.
    tokio::join!(watch::close(updates), watch::finish(out));
    end
}
