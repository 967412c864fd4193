//! `taskwatch` prints what happens to tasks, as it happens. The work is in `watch.rs`.
//!
//! A library only so that the demo can run the watcher inside its own process.

mod args;
mod exit;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod log;
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

use crate::args::{Args, Format};
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
    log::start(args.verbose);
    let mut status = Status::new(Paint(args.color.on(&io::stderr())), args.quiet, &args.url);
    let code = match run_to_end(&args, &mut status) {
        Ok(end) => end.code(),
        Err(failure) => {
            // Should nobody read it, the exit code still says it.
            let _ = writeln!(io::stderr(), "{}", status.failure(&failure));
            failure.code()
        }
    };
    ExitCode::from(code)
}

fn run_to_end(args: &Args, status: &mut Status) -> Result<End, Failure> {
    if let Some(path) = &args.token_file
        && let Some(mode) = token::open_to_others(path)?
    {
        let _ = writeln!(io::stderr(), "{}", status.open_to_others(path, mode));
    }
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)?;
    let end = runtime.block_on(watch(args, status));
    // A write to a full pipe cannot be called back, and must not keep the watcher from ending.
    runtime.shutdown_background();
    end
}

async fn watch(args: &Args, status: &mut Status) -> Result<End, Failure> {
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
