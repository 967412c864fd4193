//! `taskwatchd`: the task API as a server.

mod copies;
mod systemd;

use std::env;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::ExitCode;

use taskwatch_task_api::{
    App, Command, CommandLine, ConfigCommand, Failure, LogFormat, McpBridge, NewToken, Settings,
    SettingsTable, StartError, TokenCommand, log,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Holds thousands of idle connections in little memory, and serves requests of many small pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The settings are wrong, as clap's own refusals.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<_> = env::args_os().collect();
    let (CommandLine { settings, command, .. }, table) = match CommandLine::load(args) {
        Ok(loaded) => loaded,
        Err(error) => {
            log::fail(&error.to_string());
            return ExitCode::from(USAGE);
        }
    };
    match command {
        Some(Command::Config(ConfigCommand::Check(check))) => {
            return check_settings(&check.settings, &table);
        }
        Some(Command::Token(TokenCommand::New(new))) => return make_token(new),
        Some(Command::Backup(backup)) => return copies::backup(&backup),
        Some(Command::Verify(verify)) => return copies::verify(&verify),
        Some(Command::Restore(restore)) => return copies::restore(&restore),
        Some(Command::Mcp(bridge)) => return bridge_mcp(bridge),
        Some(Command::Status(status)) => return operate(status.run()),
        Some(Command::Purge(purge)) => return operate(purge.run()),
        None => {}
    }
    log::start(settings.log_format);
    // Before there is a second thread.
    let socket = match systemd::socket() {
        Ok(socket) => socket,
        Err(error) => {
            log::fail(&error.to_string());
            return ExitCode::from(USAGE);
        }
    };
    match run(settings, socket) {
        Ok(code) => code,
        Err(error) => {
            log::fail(&error.to_string());
            let usage = matches!(error, StartError::Settings(_));
            if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

#[tokio::main]
async fn check_settings(settings: &Settings, table: &SettingsTable) -> ExitCode {
    // Whoever does not read it has the exit code.
    let _ = write!(io::stdout(), "{table}");
    if let Err(error) = settings.check() {
        log::fail(&error.to_string());
        return ExitCode::from(USAGE);
    }
    if let Some(warning) = settings.warning() {
        log::fail(&format!("warning: {warning}"));
    }
    ExitCode::SUCCESS
}

fn make_token(new: NewToken) -> ExitCode {
    let made = match new.make() {
        Ok(token) => writeln!(io::stdout(), "{}", token.expose()),
        Err(error) => {
            log::fail(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::fail(&format!("the token could not be printed, and is lost: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints what a command says that asks a server.
#[tokio::main(flavor = "current_thread")]
async fn operate(command: impl Future<Output = Result<String, Failure>>) -> ExitCode {
    let printed = command.await.and_then(|text| Ok(io::stdout().write_all(text.as_bytes())?));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::fail(&error.to_string());
            let usage = matches!(error, Failure::Settings(_) | Failure::Usage(_));
            if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

#[tokio::main]
async fn bridge_mcp(bridge: McpBridge) -> ExitCode {
    log::start(LogFormat::Text);
    match bridge.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::fail(&error.to_string());
            ExitCode::from(USAGE)
        }
    }
}

#[tokio::main]
async fn run(settings: Settings, socket: Option<TcpListener>) -> Result<ExitCode, StartError> {
    // Before anybody can know that the server runs, and so before anybody can stop it.
    let mut stop = Stop::new().map_err(StartError::Signals)?;
    let app = match socket {
        None => App::start(settings).await?,
        Some(socket) => App::start_on(socket, settings).await?,
    };
    log::listening(&app.url());
    systemd::ready(&app.url());
    tokio::spawn(systemd::keep_alive());
    stop.asked().await;
    systemd::stopping();
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
