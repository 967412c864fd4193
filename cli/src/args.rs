//! The command line.

mod connection;
mod doctor;
mod goal;
mod hook;
mod tasks;
mod watch;

use std::ffi::OsString;
use std::io::IsTerminal;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use self::connection::{ConnectionArgs, Transport};
pub(crate) use self::doctor::{DoctorArgs, DoctorFormat};
pub(crate) use self::goal::GoalArgs;
pub(crate) use self::hook::HookArgs;
pub(crate) use self::tasks::{
    CreateArgs, FieldArgs, GetArgs, ListArgs, Order, ReportArgs, RmArgs, TaskCommand, TaskFormat,
    UpdateArgs,
};
pub(crate) use self::watch::{Format, OnGap, WatchArgs};

const EXAMPLES: &str = "\
Examples:
  Watch
    taskwatch --repo github.com/acme/api                     one repository
    taskwatch --repo 'github.com/acme/*' --repo tools        a prefix and one more
    taskwatch --repo '*' -o json | jq -c '.data.changes'     everything, for a program
    taskwatch --repo foo --status pending --assignee ana     only tasks that are so, or that were
    taskwatch --repo foo --board                             the tasks on the whole screen
  Look back
    taskwatch --repo foo --since 2h                          the last two hours, and what follows
    taskwatch --repo foo --since 14:00 --until 15:00         that hour
    taskwatch --repo foo --tail 20 --no-follow               the last twenty events
    taskwatch --repo foo --snapshot                          what is there now, then what happens
  Wait and act
    taskwatch --repo foo --count 1                           until the next change
    taskwatch --repo foo --for 'all(status in [completed, cancelled])' --timeout 30m
    taskwatch --repo foo --cursor-file seen --exec ./on.sh   on.sh for each event, at least once
  Others
    taskwatch list --repo foo --status pending               and get, create, update, rm
    taskwatch doctor --repo foo                              what is in the way, and what to do

Events go to stdout, one line each, and nothing else does. What happens to the connection is told
on stderr. A lost connection is made again and goes on where it was cut, so that nothing is missed.
Where a firewall or a proxy lets no WebSocket through, events come over plain HTTP; the first line
about the connection says which way was taken, and why.

With -o json each line is a frame as the server sent it: `task.created`, `task.updated` or
`task.deleted`, and with --snapshot first one or more of the type `snapshot`, with some tasks each and
`last: true` in the last one. A gap is a line of the type `gap`, with its reason, in its place.

A token never stands on the command line, where others could see it: it comes from --token-file,
or else from the variable TASKWATCH_TOKEN. HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY are obeyed.

What one wants each time may stand in ~/.config/taskwatch/config.toml, or the file that
TASKWATCH_CONFIG names: url, token-file, cacert, transport, repo, output, color, utc, quiet, on-gap
and strict, as in `url = \"https://tasks.example.com\"`.

Exit codes:
    0  done: what was to be seen was seen, what --for waited for is so, or nobody reads stdout any
       more
    1  failure
    2  the command line or the settings file is wrong
    3  refused: the token, the version, the permission, the server's certificate, or the password
       of the proxy
    4  with --strict: events were missed that cannot be had any more
    5  events were missed that the server no longer keeps, and --on-gap did not say to go on
    6  there is nothing of that name, no repository or no task, or nothing that may be read
  124  --timeout ran out
  129  the terminal of the board is gone
  130  interrupted (Ctrl-C)
  143  terminated";

/// Prints what happens to tasks, as it happens.
#[derive(Debug, Parser)]
#[command(
    name = "taskwatch",
    version,
    after_long_help = EXAMPLES,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// What else there is than to watch.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Tasks(TaskCommand),
    /// Find out what is between this machine and the server, and what to do about it
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(DoctorArgs),
    /// Print a script that completes these flags in a shell
    Completions {
        /// Whose script
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal that knows colours, unless NO_COLOR is set
    Auto,
    /// Also in a pipe
    Always,
    /// Not at all
    Never,
}

impl Color {
    /// Whether to colour what goes to `stream`.
    #[must_use]
    pub(crate) fn on(self, stream: &impl IsTerminal) -> bool {
        self.decide(stream.is_terminal(), |name| std::env::var_os(name))
    }

    fn decide(self, is_terminal: bool, env: impl Fn(&str) -> Option<OsString>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                // As no-color.org has it: set to nothing is not set.
                is_terminal
                    && env("NO_COLOR").is_none_or(|value| value.is_empty())
                    && env("TERM").is_none_or(|value| value != "dumb")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use clap::CommandFactory;
    use clap::error::ErrorKind;
    use taskwatch_client::protocol::{Cursor, Pattern};

    use super::*;
    use crate::enough::Beginning;
    use crate::moment::Since;

    fn parse(words: &str) -> Result<WatchArgs, clap::Error> {
        let words = std::iter::once("taskwatch").chain(words.split_whitespace());
        Args::try_parse_from(words).map(|args| args.watch)
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_name_is_all_it_needs() {
        let args = parse("--repo foo").unwrap();
        assert_eq!(args.repositories, ["foo".parse::<Pattern>().unwrap()]);
        assert_eq!(args.output, Format::Text);
        assert_eq!(args.color, Color::Auto);
        assert_eq!(args.on_gap, OnGap::Error);
        assert_eq!(args.transport, Transport::Auto);
        assert_eq!(args.since, None);
        assert_eq!((args.count, args.quiet, args.connection.verbose), (None, false, 0));
        assert!(!args.snapshot && !args.board);
        assert!(parse("--repo foo --board --url http://x").unwrap().board);
    }

    #[test]
    fn everything_can_be_said() {
        let args = parse(
            "-r foo --repo github.com/acme/* --repo * --url https://x:1/tasks -o json --count 3 \
             --token-file /run/token --cacert ca.pem --since c1-0-7 --snapshot --on-gap snapshot --transport poll --color never -q -vv",
        )
        .unwrap();
        assert_eq!(args.repositories.len(), 3);
        assert_eq!(args.connection.url, "https://x:1/tasks");
        assert_eq!(args.since, Some(Since::Cursor(Cursor::new("c1-0-7"))));
        assert_eq!(args.count, NonZeroU64::new(3));
        assert_eq!((args.output, args.on_gap), (Format::Json, OnGap::Snapshot));
        assert!(args.snapshot);
        assert_eq!(args.transport, Transport::Poll);
        assert_eq!(args.connection.token_file.as_deref(), Some("/run/token".as_ref()));
        assert_eq!(args.connection.cacert.as_deref(), Some("ca.pem".as_ref()));
        assert_eq!((args.quiet, args.connection.verbose), (true, 2));
        assert!(!args.color.on(&std::io::stdout()));
    }

    #[test]
    fn what_is_shown_of_what_comes_and_from_where_to_where() {
        let args = parse(
            "-r foo --type created,deleted --status pending,in_progress --assignee ana --tag home \
             --grep LOGIN --tail 5 --until 10m --no-follow --strict --utc",
        )
        .unwrap();
        let filter = args.filter();
        assert_eq!((filter.kinds.len(), filter.statuses.len()), (2, 2));
        assert_eq!((filter.assignees, filter.tags), (vec!["ana".into()], vec!["home".into()]));
        assert_eq!(filter.texts, ["login"]);
        assert!(args.until.is_some() && args.no_follow && args.strict && args.utc);
        assert_eq!(args.beginning(), Beginning::Past);
        assert_eq!(parse("-r foo --snapshot").unwrap().beginning(), Beginning::State);
        assert_eq!(parse("-r foo --since 10m --snapshot").unwrap().beginning(), Beginning::Past);
        assert!(parse("-r foo").unwrap().filter().is_empty());
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let decide = |color: Color, is_terminal, set: Option<(&str, &str)>| {
            color.decide(is_terminal, |name| {
                set.filter(|(set, _)| *set == name).map(|(_, value)| value.into())
            })
        };
        for (is_terminal, set, coloured) in [
            (true, None, true),
            (false, None, false),
            (true, Some(("NO_COLOR", "1")), false),
            (true, Some(("NO_COLOR", "")), true),
            (true, Some(("TERM", "dumb")), false),
            (true, Some(("TERM", "xterm-256color")), true),
        ] {
            assert_eq!(decide(Color::Auto, is_terminal, set), coloured, "{is_terminal} {set:?}");
            assert!(decide(Color::Always, is_terminal, set));
            assert!(!decide(Color::Never, is_terminal, set));
        }
    }

    #[test]
    fn a_bad_name_is_refused_with_the_rule() {
        for (name, rule) in [
            ("a\u{a0}b", "letters, digits and . _ - / @ : + ~ may"),
            ("a*", "stands alone, or at the end behind a /"),
            ("/a", "starts with a letter or a digit"),
        ] {
            let refusal = Args::try_parse_from(["taskwatch", "--repo", name]).unwrap_err();
            assert_eq!(refusal.exit_code(), 2);
            assert!(refusal.to_string().contains(rule), "{refusal}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            "",
            "--repo",
            "--repo foo --count 0",
            "--repo foo -o xml",
            "--repo foo --transport carrier-pigeon",
            "--repo foo bar",
            "--repo foo --token secret",
            "--repo foo --for all(",
            "--repo foo --for any() --since c1-0-7",
            "--repo foo --for any() --on-gap error",
            "--repo foo --allow-empty",
            "--repo foo --timeout 30",
            "--repo foo --exec a -o json",
            "--repo foo --exec a --for any()",
            "--repo foo --exec-parallel 2",
            "--repo foo --exec a --exec-parallel 0",
            "--repo foo --cursor-file f --for any()",
            "--repo foo -- a",
            "--repo foo --board -o json",
            "--repo foo --board --since c1-0-7",
            "--repo foo --board --count 1",
            "--repo foo --board --exec a",
            "--repo foo --board --for any()",
            "--repo foo --board --timeout 3s",
            "--repo foo --board --cursor-file f",
            "--repo foo --since 10x",
            "--repo foo --since 10m --tail 3",
            "--repo foo --tail 0",
            "--repo foo --until c1-0-7",
            "--repo foo --no-follow",
            "--repo foo --type moved",
        ] {
            assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{words}");
        }
    }

    #[test]
    fn help_tells_the_exit_codes() {
        let help = parse("--help").unwrap_err();
        assert_eq!((help.kind(), help.exit_code()), (ErrorKind::DisplayHelp, 0));
        for code in ["  0  ", "  5  ", "130  ", "143  "] {
            assert!(help.to_string().contains(code), "{help}");
        }
        assert_eq!(parse("--version").unwrap_err().kind(), ErrorKind::DisplayVersion);
    }
}
