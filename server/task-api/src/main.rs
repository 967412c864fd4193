//! `taskwatchd`: the task API as a server.

mod copies;
mod log;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use taskwatch_task_api::{
    App, Command, CommandLine, McpBridge, NewToken, Settings, StartError, TokenCommand,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Holds thousands of idle connections in little memory, and serves requests of many small pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The settings contradict each other, as clap's own refusals.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let CommandLine { settings, command } = CommandLine::parse();
    match command {
        Some(Command::Token(TokenCommand::New(new))) => return make_token(new),
        Some(Command::Backup(backup)) => return copies::backup(&backup),
        Some(Command::Verify(verify)) => return copies::verify(&verify),
        Some(Command::Restore(restore)) => return copies::restore(&restore),
        Some(Command::Mcp(bridge)) => return bridge_mcp(bridge),
        None => {}
    }
    log::start();
    match run(settings) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("taskwatchd: {error}"));
            let usage = matches!(error, StartError::Settings(_));
            if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn make_token(new: NewToken) -> ExitCode {
    let made = match new.make() {
        Ok(token) => writeln!(io::stdout(), "{}", token.expose()),
        Err(error) => {
            say(&format!("taskwatchd: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("taskwatchd: the token could not be printed, and is lost: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn bridge_mcp(bridge: McpBridge) -> ExitCode {
    log::start();
    match bridge.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("taskwatchd: {error}"));
            ExitCode::from(USAGE)
        }
    }
}

#[tokio::main]
async fn run(settings: Settings) -> Result<ExitCode, StartError> {
    // Before anybody can know that the server runs, and so before anybody can stop it.
    let mut stop = Stop::new().map_err(StartError::Signals)?;
    let app = App::start(settings).await?;
    say(&format!("listening on {}", app.url()));
    stop.asked().await;
    tokio::select! {
        () = app.shutdown() => Ok(ExitCode::SUCCESS),
        // Asked twice: somebody does not want to wait. What was acknowledged is on disk.
        () = stop.asked() => Ok(ExitCode::FAILURE),
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// One line for people on stderr. If nobody reads it, that is their choice.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
