//! `taskwatch` prints what happens to tasks, as it happens. The work is in `watch.rs`.

mod args;
mod escape;
mod exit;
mod log;
mod output;
mod paint;
mod status;
mod stop;
mod watch;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime;

use crate::args::{Args, Format};
use crate::exit::{End, Failure};
use crate::output::TextFormat;
use crate::paint::Paint;
use crate::status::Status;
use crate::watch::Printer;

fn main() -> ExitCode {
    let args = Args::parse();
    log::start(args.verbose);
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Without a runtime there is nothing but clap to say it with.
            clap::Error::raw(clap::error::ErrorKind::Io, format!("cannot start: {error}\n")).exit()
        }
    };
    let code = runtime.block_on(run(&args));
    // A write to a full pipe cannot be called back, and must not keep the watcher from ending.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(args: &Args) -> u8 {
    let mut err = tokio::io::stderr();
    let mut status = Status::new(Paint(args.color.on(&io::stderr())), args.quiet, &args.url);
    match watch(args, &mut status, &mut err).await {
        Ok(end) => end.code(),
        Err(failure) => {
            watch::tell(&mut err, status.failure(&failure)).await;
            failure.code()
        }
    }
}

async fn watch(
    args: &Args,
    status: &mut Status,
    err: &mut tokio::io::Stderr,
) -> Result<End, Failure> {
    let paint = Paint(args.color.on(&io::stdout()));
    let printer = match args.output {
        Format::Text => Printer::Text(TextFormat::new(paint, &args.repositories)),
        Format::Json => Printer::Json,
    };
    let mut updates = watch::open(args)?;
    tokio::select! {
        // Signals are caught before anything is dialled or told.
        biased;
        stop = stop::requested(io::stdout()) => stop.map_err(Failure::Start),
        end = watch::watch(&mut updates, printer, status, args.count, tokio::io::stdout(), err) => end,
    }
}
