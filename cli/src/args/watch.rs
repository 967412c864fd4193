//! What to watch, and how it is shown.

use std::num::NonZeroU64;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use taskwatch_client::protocol::{Cursor, Pattern};

use super::{Color, ConnectionArgs, GoalArgs, HookArgs, Transport};

/// What to watch, and how it is shown.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// A repository to watch: a name, a prefix such as 'github.com/acme/*', or '*' for all. May be
    /// given several times
    #[arg(short, long = "repo", value_name = "NAME", required = true)]
    pub(crate) repositories: Vec<Pattern>,

    /// Begin after this position, as found in `cursor` of the JSON output
    #[arg(long, value_name = "CURSOR", value_parser = NonEmptyStringValueParser::new())]
    since: Option<String>,

    /// Print the tasks as they are now first. With --since only if the server cannot go on from there
    #[arg(long)]
    pub(crate) snapshot: bool,

    /// What to do when events were missed that the server no longer keeps
    #[arg(long, value_name = "WHAT", default_value = "error")]
    pub(crate) on_gap: OnGap,

    /// Show the tasks on the whole screen, as they are at this moment: in columns, with what happens to
    /// them. `?` tells the keys
    #[arg(
        long,
        conflicts_with_all = ["since", "snapshot", "on_gap", "count", "output", "quiet"],
        help_heading = "Output"
    )]
    pub(crate) board: bool,

    /// Exit after this many events; the lines of a snapshot do not count
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,

    /// Which way events come
    #[arg(long, value_name = "WAY", default_value = "auto", help_heading = "Connection")]
    pub(crate) transport: Transport,

    /// How to print events
    #[arg(short, long, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    pub(crate) output: Format,

    /// When to use colours; `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    pub(crate) color: Color,

    /// Say nothing about the connection; what is missed or refused is still told
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) goal: GoalArgs,

    #[command(flatten)]
    pub(crate) hook: HookArgs,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One line a person likes to read
    Text,
    /// One line of JSON: the event as it came
    Json,
}

/// Whether a gap is the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnGap {
    /// Exit with code 5
    Error,
    /// Tell it and go on with what comes from now on
    Live,
    /// Tell it, print the tasks as they are now, and go on
    Snapshot,
}

impl WatchArgs {
    /// The position to begin after.
    #[must_use]
    pub(crate) fn since(&self) -> Option<Cursor> {
        self.since.as_deref().map(Cursor::new)
    }
}
