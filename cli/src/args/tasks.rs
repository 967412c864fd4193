//! Tasks as they are: to list, show, make, change and delete them.

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::{Args, Subcommand, ValueEnum};
use taskwatch_client::{Pattern, Priority, RepositoryName, Status};
use uuid::Uuid;

use super::ConnectionArgs;

const LIST_EXAMPLES: &str = "\
Examples:
  taskwatch list --repo github.com/acme/api
  taskwatch list --repo 'github.com/acme/*' --status pending --sort -priority
  taskwatch list --assignee ana --text invoice --limit 1000 -o json | jq -r .id";

const GET_EXAMPLES: &str = "\
Examples:
  taskwatch get 019abb4e-5c00-7a31-8f02-6d1c0b9e4a77 --history
  taskwatch get 019abb4e-5c00-7a31-8f02-6d1c0b9e4a77 -o json | jq .version

With -o json and --history the task is the first line, and each of its events one that follows. A task
that is gone has a history only.";

const CREATE_EXAMPLES: &str = "\
Examples:
  taskwatch create --repo foo 'Water the plants' --assignee ana --tag home
  id=$(taskwatch create -q --repo foo 'Water the plants')";

const UPDATE_EXAMPLES: &str = "\
Examples:
  taskwatch update 019abb4e-5c00-7a31-8f02-6d1c0b9e4a77 --status completed
  taskwatch update 019abb4e-5c00-7a31-8f02-6d1c0b9e4a77 --assignee ana --if-version 3

What is not named stays as it is. The repository of a task never changes.";

const RM_EXAMPLES: &str = "\
Examples:
  taskwatch rm 019abb4e-5c00-7a31-8f02-6d1c0b9e4a77
  taskwatch list --repo foo --status cancelled -o json | jq -r .id | xargs -r taskwatch rm";

/// What is done to tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Print the tasks as they are
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Print one task, and what happened to it
    #[command(after_help = GET_EXAMPLES)]
    Get(GetArgs),
    /// Make a task
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// Change a task
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(UpdateArgs),
    /// Delete tasks
    #[command(after_help = RM_EXAMPLES)]
    Rm(RmArgs),
}

/// Which tasks, and how they are shown.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of this repository: a name, a prefix such as 'github.com/acme/*', or '*', which is what it is
    /// without. May be given several times
    #[arg(short, long = "repo", value_name = "NAME")]
    pub(crate) repositories: Vec<Pattern>,

    /// With this status; given several times, with any of them
    #[arg(long, value_name = "STATUS", value_parser = statuses())]
    pub(crate) status: Vec<String>,

    /// With this priority; given several times, with any of them
    #[arg(long, value_name = "PRIORITY", value_parser = priorities())]
    pub(crate) priority: Vec<String>,

    /// Of this person; given several times, of any of them
    #[arg(long, value_name = "WHO", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) assignee: Vec<String>,

    /// With this tag; given several times, with any of them
    #[arg(long, value_name = "TAG", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) tag: Vec<String>,

    /// With this text in the title or the description, in upper or lower case
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) text: Option<String>,

    /// At most so many
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,

    /// In which order; with - in front the other way round
    #[arg(long, value_name = "ORDER", default_value = "created_at", allow_hyphen_values = true)]
    pub(crate) sort: Order,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The oldest first
    CreatedAt,
    /// The newest first
    #[value(name = "-created_at")]
    CreatedAtDown,
    /// What changed last comes last
    UpdatedAt,
    /// What changed last comes first
    #[value(name = "-updated_at")]
    UpdatedAtDown,
    /// The least important first
    Priority,
    /// The most important first
    #[value(name = "-priority")]
    PriorityDown,
}

impl Order {
    /// The word of the server for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::CreatedAt => "created_at",
            Self::CreatedAtDown => "-created_at",
            Self::UpdatedAt => "updated_at",
            Self::UpdatedAtDown => "-updated_at",
            Self::Priority => "priority",
            Self::PriorityDown => "-priority",
        }
    }
}

/// Which task, and how much of it.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The task's id
    pub(crate) id: Uuid,

    /// Also what happened to it, as far back as the server knows
    #[arg(long)]
    pub(crate) history: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// A new task.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").multiple(true))]
pub(crate) struct CreateArgs {
    /// Where it belongs
    #[arg(short, long = "repo", value_name = "NAME")]
    pub(crate) repository: RepositoryName,

    /// Its title: one line
    pub(crate) title: String,

    #[command(flatten)]
    pub(crate) fields: FieldArgs,

    #[command(flatten)]
    pub(crate) report: ReportArgs,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// What becomes of a task.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct UpdateArgs {
    /// The task's id
    pub(crate) id: Uuid,

    /// Its new title: one line
    #[arg(long, group = "change")]
    pub(crate) title: Option<String>,

    #[command(flatten)]
    pub(crate) fields: FieldArgs,

    /// Nobody's any more
    #[arg(long, group = "change", conflicts_with = "assignee")]
    pub(crate) no_assignee: bool,

    /// Without any tag
    #[arg(long, group = "change", conflicts_with = "tag")]
    pub(crate) no_tags: bool,

    /// Only if the task still has this version, as `get` shows it
    #[arg(long, value_name = "N")]
    pub(crate) if_version: Option<u64>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Which tasks to delete.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// The ids of the tasks
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<Uuid>,

    /// Print only the ids
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// The fields that a new task may have and a change may set.
#[derive(Debug, Args)]
pub(crate) struct FieldArgs {
    /// What it is about
    #[arg(long, value_name = "TEXT", group = "change")]
    pub(crate) description: Option<String>,

    /// Where it stands
    #[arg(long, value_name = "STATUS", value_parser = statuses(), group = "change")]
    pub(crate) status: Option<String>,

    /// How much it matters
    #[arg(long, value_name = "PRIORITY", value_parser = priorities(), group = "change")]
    pub(crate) priority: Option<String>,

    /// Whose it is
    #[arg(long, value_name = "WHO", group = "change")]
    pub(crate) assignee: Option<String>,

    /// A label; may be given several times, and then those are all it has
    #[arg(long, value_name = "TAG", group = "change")]
    pub(crate) tag: Vec<String>,
}

/// How tasks are printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// How to print tasks
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: TaskFormat,
}

/// How a change is told.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct ReportArgs {
    /// How to print what was done
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: TaskFormat,

    /// Print only the id
    #[arg(short, long, conflicts_with = "output")]
    pub(crate) quiet: bool,
}

/// How tasks are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TaskFormat {
    /// For people
    Text,
    /// A line of JSON for each task, as the server has it
    Json,
}

fn statuses() -> PossibleValuesParser {
    PossibleValuesParser::new(Status::KNOWN.iter().map(Status::as_str))
}

fn priorities() -> PossibleValuesParser {
    PossibleValuesParser::new(Priority::KNOWN.iter().map(Priority::as_str))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Args, Command};
    use super::*;

    const ID: &str = "019abb4e-5c00-7a31-8f02-6d1c0b9e4a77";

    fn parse(words: &str) -> Result<TaskCommand, clap::Error> {
        let words = words.replace("ID", ID);
        let args = Args::try_parse_from(["taskwatch"].into_iter().chain(words.split(' ')))?;
        match args.command {
            Some(Command::Tasks(command)) => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_list_needs_nothing_and_takes_an_order_that_begins_with_a_dash() {
        let TaskCommand::List(args) = parse("list").unwrap() else { panic!("list") };
        assert_eq!(
            (args.limit, args.sort, args.output.output),
            (100, Order::CreatedAt, TaskFormat::Text)
        );
        let words =
            "list -r a --repo b/* --status pending --status completed --sort -priority -o json";
        let TaskCommand::List(args) = parse(words).unwrap() else { panic!("list") };
        assert_eq!((args.repositories.len(), args.status.len()), (2, 2));
        assert_eq!((args.sort.word(), args.output.output), ("-priority", TaskFormat::Json));
        for order in Order::value_variants() {
            assert_eq!(order.to_possible_value().unwrap().get_name(), order.word());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            "list --limit 0",
            "list --status done",
            "list --sort title",
            "list --repo a*",
            "get",
            "get 7",
            "create title",
            "create --repo a/* title",
            "create --repo a title --priority urgent",
            "create --repo a title -q -o json",
            "update ID",
            "update ID --if-version 3",
            "update ID --assignee ana --no-assignee",
            "update ID --tag a --no-tags",
            "rm",
            "rm ID 7",
        ] {
            assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{words}");
        }
    }

    #[test]
    fn a_change_names_what_changes() {
        for words in [
            "update ID --status completed",
            "update ID --no-assignee",
            "update ID --tag a --tag b --if-version 3 -q",
            "update ID --title t -o json",
            "create --repo a title",
            "create --repo a title --tag b --assignee c --status pending",
        ] {
            assert!(parse(words).is_ok(), "{words}");
        }
    }
}
