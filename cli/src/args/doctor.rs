//! What to look at when something is wrong.

use clap::{Args, ValueEnum};
use taskwatch_client::Pattern;

use super::{Color, ConnectionArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  taskwatch doctor --url https://tasks.example.com
  taskwatch doctor --repo github.com/acme/api --repo tools --token-file ana.token
  taskwatch doctor -o json | jq -r 'select(.outcome == \"failed\") | .advice'

Each line is one step of the way to the server: its name, TCP, the proxy, TLS, who answers, WebSocket, the
version, the token, the permissions, the round trip, server-sent events and the two clocks. Below what is not
as it should be stands what to do about it. Nothing is changed.

Exit codes:
  0  all is well
  1  something is not
  2  the command line is wrong
  3  the server refuses the token, the version or a repository";

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// May it be watched? A name, a prefix such as 'github.com/acme/*', or '*'. May be given several
    /// times
    #[arg(short, long = "repo", value_name = "NAME")]
    pub(crate) repositories: Vec<Pattern>,

    /// How to print what is found
    #[arg(short, long, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    pub(crate) output: DoctorFormat,

    /// When to use colours; `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    pub(crate) color: Color,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorFormat {
    /// For people
    Text,
    /// One line of JSON for each check: `check`, `outcome`, `message` and `advice`
    Json,
}
