//! `taskwatch list`, `get`, `create`, `update` and `rm`: the same tasks, from the shell.

mod api;
mod change;
mod list;
mod show;
mod table;

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;
use taskwatch_client::Task;
use tokio::runtime;

use self::api::Api;
pub(crate) use self::api::ApiError;
use crate::args::{ConnectionArgs, TaskCommand};
use crate::exit::Failure;
use crate::status::Status;
use crate::{connection, log};

/// A task as the server wrote it, and what it says.
#[derive(Debug)]
struct Answer {
    json: String,
    task: Task,
}

/// Does one of them.
///
/// # Errors
/// If it could not be done, or only in part.
pub(crate) fn run(command: &TaskCommand, status: &Status) -> Result<(), Failure> {
    let args = connection_of(command);
    log::start(args.verbose);
    connection::check_token_file(args, status)?;
    let client = connection::client(args)?.build()?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)?;
    let end = runtime.block_on(async {
        let api = Api::new(client);
        match command {
            TaskCommand::List(args) => list::run(&api, args).await,
            TaskCommand::Get(args) => show::run(&api, args).await,
            TaskCommand::Create(args) => change::create(&api, args).await,
            TaskCommand::Update(args) => change::update(&api, args).await,
            TaskCommand::Rm(args) => change::rm(&api, args, status).await,
        }
    });
    runtime.shutdown_background();
    end
}

/// Where the server of a command is.
pub(crate) fn connection_of(command: &TaskCommand) -> &ConnectionArgs {
    match command {
        TaskCommand::List(args) => &args.connection,
        TaskCommand::Get(args) => &args.connection,
        TaskCommand::Create(args) => &args.connection,
        TaskCommand::Update(args) => &args.connection,
        TaskCommand::Rm(args) => &args.connection,
    }
}

impl Answer {
    fn of(json: &RawValue) -> serde_json::Result<Self> {
        Ok(Self { task: Task::deserialize(json)?, json: json.get().to_owned() })
    }
}

/// Writes to stdout. Whoever has gone has seen enough.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(problem) if problem.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Output(problem))
        }
        _ => Ok(()),
    }
}
