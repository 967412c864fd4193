//! The reference task API: tasks over REST, kept in SQLite, with live updates by
//! [`taskwatch_server`].
//!
//! A change takes one way: REST parses it, the service makes it, the store writes it
//! and its event in one transaction, and the hub tells the subscribers.
//!
//! ```no_run
//! use clap::Parser;
//! use taskwatch_task_api::{App, Settings};
//!
//! # async fn demo() -> Result<(), taskwatch_task_api::StartError> {
//! let settings = Settings::parse_from(["taskwatchd", "--listen", "127.0.0.1:0"]);
//! let app = App::start(settings).await?;
//! println!("http://{}", app.addr());
//! app.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod app;
mod authenticator;
mod change;
mod command;
mod connections;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod idempotency;
mod list;
mod listener;
pub mod log;
mod mcp;
mod monitor;
mod page;
mod remote;
mod rest;
mod scrub;
mod service;
mod settings;
mod store;

pub use app::{App, StartError};
pub use command::{
    BackupCommand, Command, CommandLine, ConfigCheck, ConfigCommand, Failure, Granted, NewToken,
    Output, Purge, RestoreCommand, Status, TokenCommand, VerifyCommand,
};
pub use connections::By;
pub use log::LogFormat;
pub use mcp::McpBridge;
pub use remote::{Remote, RemoteError};
pub use settings::{
    AuthSettings, InvalidSettings, LimitSettings, Settings, SettingsTable, TlsSettings,
};
pub use store::{BackedUp, BackupError, Contents, OpenError, Report, Restored};
