//! What to watch, and how it is shown.

use std::io::IsTerminal;
use std::num::{NonZeroU32, NonZeroU64};

use clap::{ArgGroup, Args, ValueEnum};
use taskwatch_client::protocol::{EventKind, Pattern};

use super::{Color, ConnectionArgs, GoalArgs, HookArgs, Transport};
use crate::enough::Beginning;
use crate::filter::Filter;
use crate::moment::{Moment, Since};

/// What to watch, and how it is shown.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "What to watch",
    group = ArgGroup::new("beginning").args(["since", "tail", "snapshot", "cursor_file"]).multiple(true)
)]
pub(crate) struct WatchArgs {
    /// A repository to watch: a name, a prefix such as 'github.com/acme/*', or '*' for all. May be
    /// given several times
    #[arg(short, long = "repo", value_name = "NAME", required = true)]
    pub(crate) repositories: Vec<Pattern>,

    /// Only these kinds of events, separated by commas
    #[arg(long = "type", value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<Kind>,

    /// Only tasks with this status, or that leave it: pending, in_progress, completed or cancelled.
    /// This and the following may be given several times; one is enough
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',')]
    statuses: Vec<String>,

    /// Only tasks of this person, or that were; '' for those of nobody
    #[arg(long = "assignee", value_name = "NAME")]
    assignees: Vec<String>,

    /// Only tasks with this tag, or that had it
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// Only tasks with this text in the title or the description, in capital or small letters
    #[arg(long = "grep", value_name = "TEXT")]
    texts: Vec<String>,

    /// Begin after this position, as found in `cursor` of the JSON output, or at a time: 10m (ago),
    /// 14:00, 2026-11-22T14:00
    #[arg(long, value_name = "CURSOR|TIME", help_heading = "From where to where")]
    pub(crate) since: Option<Since>,

    /// Begin with the last N events
    #[arg(long, value_name = "N", conflicts_with_all = ["since", "snapshot"], help_heading = "From where to where")]
    pub(crate) tail: Option<NonZeroU32>,

    /// Print the tasks as they are now first. With --since only if the server cannot go on from there
    #[arg(long, help_heading = "From where to where")]
    pub(crate) snapshot: bool,

    /// Exit when all that happened before this time was printed: 10m (from now), 14:00,
    /// 2026-11-22T14:00
    #[arg(long, value_name = "TIME", help_heading = "From where to where")]
    pub(crate) until: Option<Moment>,

    /// Exit when all that is there was printed
    #[arg(long, requires = "beginning", help_heading = "From where to where")]
    pub(crate) no_follow: bool,

    /// Exit after this many events; the lines of a snapshot do not count
    #[arg(long, value_name = "N", help_heading = "From where to where")]
    pub(crate) count: Option<NonZeroU64>,

    /// What to do when events were missed that the server no longer keeps
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "error",
        help_heading = "From where to where"
    )]
    pub(crate) on_gap: OnGap,

    /// Exit with 4, whatever else there is to say, if events were missed that cannot be had any more
    #[arg(long, help_heading = "From where to where")]
    pub(crate) strict: bool,

    /// Which way events come
    #[arg(long, value_name = "WAY", default_value = "auto", help_heading = "Connection")]
    pub(crate) transport: Transport,

    /// How to print events
    #[arg(short, long, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    pub(crate) output: Format,

    /// Times of the whole world instead of those of this place
    #[arg(long, help_heading = "Output")]
    pub(crate) utc: bool,

    /// When to use colours; `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    pub(crate) color: Color,

    /// Say nothing about the connection; what is missed or refused is still told
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Show the tasks on the whole screen, as they are at this moment: in columns, with what happens to
    /// them. `?` tells the keys
    #[arg(
        long,
        conflicts_with_all = [
            "kinds", "statuses", "assignees", "tags", "texts", "since", "tail", "snapshot", "until",
            "no_follow", "count", "on_gap", "strict", "output", "utc", "quiet", "condition",
            "timeout", "exec", "cursor_file",
        ],
        help_heading = "Output"
    )]
    pub(crate) board: bool,

    #[command(flatten)]
    pub(crate) goal: GoalArgs,

    #[command(flatten)]
    pub(crate) hook: HookArgs,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// A kind of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Created,
    Updated,
    Deleted,
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
    /// What is shown of what comes.
    #[must_use]
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            kinds: self.kinds(),
            statuses: self.statuses.iter().map(|word| word.as_str().into()).collect(),
            assignees: self.assignees.clone(),
            tags: self.tags.clone(),
            texts: self.texts.iter().map(|text| text.to_lowercase()).collect(),
        }
    }

    /// The kinds of events that are wanted; none stands for all.
    #[must_use]
    pub(crate) fn kinds(&self) -> Vec<EventKind> {
        let kind = |kind: &Kind| match kind {
            Kind::Created => EventKind::Created,
            Kind::Updated => EventKind::Updated,
            Kind::Deleted => EventKind::Deleted,
        };
        self.kinds.iter().map(kind).collect()
    }

    /// What comes before the watch is level with the server.
    #[must_use]
    pub(crate) fn beginning(&self) -> Beginning {
        if self.since.is_some() || self.tail.is_some() {
            Beginning::Past
        } else if self.snapshot || self.goal.needs_state() {
            Beginning::State
        } else {
            Beginning::Now
        }
    }

    /// Whether the last line of the terminal says how the watch is doing.
    #[must_use]
    pub(crate) fn has_status_line(&self) -> bool {
        let knows_how =
            std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        // What a hook prints, or the log, would stand in the same line.
        let has_it_alone =
            !self.quiet && self.hook.hook().is_none() && self.connection.verbose == 0;
        has_it_alone && knows_how && std::io::stderr().is_terminal()
    }
}
