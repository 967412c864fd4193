//! Where the server is, and who asks: the same for everything that talks to it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How the server is reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// The task server
    // The value is hidden in --help, since a URL may hold what is nobody's business.
    #[arg(
        long,
        env = "TASKWATCH_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8787"
    )]
    pub(crate) url: String,

    /// A file with the token to show; it is read at each connect, so it may be replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Trust the certificates in this PEM file as well as those of the system
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,

    /// Log to stderr what the client does; -vv and -vvv say more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Which way events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// WebSocket; where something in between blocks it server-sent events, and where those are held
    /// back long polling
    Auto,
    /// WebSocket only
    Ws,
    /// Server-sent events only
    Sse,
    /// Long polling only
    Poll,
}
