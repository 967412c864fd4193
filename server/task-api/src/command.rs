//! What `taskwatchd` can be told to do: serve, unless it is something else.

mod asking;
mod copies;
mod purge;
mod status;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use taskwatch_protocol::{Pattern, Timestamp};
use taskwatch_server::{FileError, Token, TokenGrant, TokensFile};

pub use asking::Failure;
pub use purge::Purge;
pub use status::{Output, Status};

use crate::mcp::McpBridge;
use crate::settings::{Settings, SettingsFile, SettingsTable, duration};

const FILE_VARIABLE: &str = "TASKWATCH_SERVER_CONFIG";

pub use copies::{BackupCommand, RestoreCommand, VerifyCommand};

/// The command line of `taskwatchd`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "taskwatchd",
    version,
    about = "A task API with live updates",
    args_conflicts_with_subcommands = true
)]
pub struct CommandLine {
    /// Settings in TOML, each under the name of its flag. Flags and variables win over them
    // Not `TASKWATCH_CONFIG`: that names the watcher's settings, often in the same shell.
    #[arg(long, env = FILE_VARIABLE, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// For serving.
    #[command(flatten)]
    pub settings: Settings,

    /// Anything else.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What is done instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Work on the settings
    #[command(subcommand)]
    Config(ConfigCommand),

    /// Work on the tokens of a server
    #[command(subcommand)]
    Token(TokenCommand),

    /// Copy the store to a file, as it is at one moment, while it is served or not
    ///
    /// The copy is verified before it has its name. Whoever changes tasks meanwhile does not wait.
    Backup(BackupCommand),

    /// Look for damage in a backup or a store: every byte of a backup, every row of a store
    ///
    /// Exit codes: 0 good, 1 damaged, 2 could not be looked at.
    Verify(VerifyCommand),

    /// Make the store what a backup holds
    ///
    /// The backup is verified first. Refused while a server runs. What is there is kept in a folder of
    /// its own.
    Restore(RestoreCommand),

    /// Serve MCP on stdin and stdout, out of a server that runs
    ///
    /// For agents that start their tools themselves. Those that speak HTTP go to /mcp of the server.
    Mcp(McpBridge),

    /// Show who is connected to a server that runs, those first that are furthest behind
    ///
    /// It needs a token that may operate the server, where tokens are asked for.
    Status(Status),

    /// Delete a task, and the text of all that ever happened to it, from a server that runs
    ///
    /// Its events stay, with `[purged]` where text stood. While the file is written anew, changes wait.
    /// Backups, and what others have received, are not touched.
    Purge(Purge),
}

/// What is done with settings.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print all settings and where each comes from, and say whether a server would start with them
    ///
    /// Reads the files that they name, but does not listen and leaves the data alone. Ends with 0,
    /// or with 2 if something is wrong.
    Check(ConfigCheck),
}

/// The settings to check.
#[derive(Clone, Debug, Args)]
pub struct ConfigCheck {
    /// The settings file, as --config of the server
    #[arg(env = FILE_VARIABLE, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// As they would be given to the server.
    #[command(flatten)]
    pub settings: Box<Settings>,
}

/// What is done with tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, print it, and add its hash to a file
    ///
    /// The token is on stdout and nowhere else. A server that was started with --tokens FILE knows
    /// it within a second. To take it back, delete its line.
    New(NewToken),
}

/// The token to make.
#[derive(Clone, Debug, Args)]
pub struct NewToken {
    /// File to add it to; made if there is none
    #[arg(long, env = "TASKWATCH_TOKENS", value_name = "FILE")]
    pub tokens: PathBuf,

    /// Whose it is: the name in events and logs
    #[arg(long, value_name = "NAME")]
    pub id: String,

    /// What it is for.
    #[command(flatten)]
    pub granted: Granted,

    /// How long it is good, such as 12h or 90d [default: until its line is deleted]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub expires: Option<Duration>,
}

/// What a token is for: something at least.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Granted {
    /// Repositories that may be read, such as `github.com/acme/*` (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    pub read: Vec<Pattern>,

    /// Repositories whose tasks may be changed (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    pub write: Vec<Pattern>,

    /// Let it read /metrics
    #[arg(long)]
    pub metrics: bool,

    /// Let it see who is connected, and purge tasks
    #[arg(long)]
    pub operate: bool,
}

impl CommandLine {
    /// Reads the command line, the program's name first, the variables, and the settings file if
    /// one is named and the command is one that has settings. With it comes where each is from.
    ///
    /// Words and variables that make no sense end the process, with a message that says why.
    ///
    /// # Errors
    /// If the file cannot be read, or says what no flag would take.
    pub fn load<A: Into<OsString> + Clone>(
        args: impl IntoIterator<Item = A> + Clone,
    ) -> Result<(Self, SettingsTable), FileError> {
        // Once without the file: to know its name, and so that what is wrong after that is its fault.
        let first = Self::parse_from(args.clone());
        let file = first.settings_file().map(SettingsFile::read).transpose()?;
        let mut command = Self::command();
        if let Some(file) = &file {
            command = file.defaults(command);
            command = command.mut_subcommand("config", |config| {
                config.mut_subcommand("check", |check| file.defaults(check))
            });
        }
        let matches = command.get_matches_from(args);
        let parsed = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        Ok((parsed, SettingsTable::new(with_settings(&matches), file.as_ref())))
    }

    fn settings_file(&self) -> Option<&Path> {
        match &self.command {
            None => self.config.as_deref(),
            Some(Command::Config(ConfigCommand::Check(check))) => check.file.as_deref(),
            Some(_) => None,
        }
    }
}

/// Where the settings are, of those who have any.
fn with_settings(matches: &ArgMatches) -> &ArgMatches {
    let config = matches.subcommand_matches("config");
    config.and_then(|config| config.subcommand_matches("check")).unwrap_or(matches)
}

impl NewToken {
    /// Makes it.
    ///
    /// # Errors
    /// If the file has a line that cannot be used, or cannot be written.
    pub fn make(self) -> Result<Token, FileError> {
        let Granted { read, write, metrics, operate } = self.granted;
        let expires = self.expires.map(from_now);
        let grant = TokenGrant { id: self.id, read, write, metrics, operate, expires };
        TokensFile::add(&self.tokens, grant)
    }
}

fn from_now(span: Duration) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = now.saturating_add(span).as_millis();
    Timestamp::from_unix_millis(i64::try_from(at).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_sound() {
        CommandLine::command().debug_assert();
        assert!(CommandLine::parse_from(["taskwatchd"]).command.is_none());
    }

    #[test]
    fn a_token_is_for_somebody_and_something() {
        let parse = |flags: &[&str]| {
            let new = ["taskwatchd", "token", "new", "--tokens", "t"];
            CommandLine::try_parse_from([&new, flags].concat())
        };
        let both = parse(&["--id", "a", "--read", "a,b/*", "--read", "*", "--write", "c"]).unwrap();
        let Some(Command::Token(TokenCommand::New(new))) = both.command else { panic!() };
        assert_eq!((new.granted.read.len(), new.granted.write.len()), (3, 1));
        assert!(parse(&["--id", "a", "--metrics", "--expires", "90d"]).is_ok());
        for bad in [
            &["--id", "a"][..],
            &["--read", "a"],
            &["--id", "a", "--read", "a*"],
            &["--id", "a", "--read", "a", "--expires", "90"],
            &["--id", "a", "--read", "a", "--listen", "127.0.0.1:0"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
