//! The settings file: other defaults for flags. A flag wins over a variable, and that over the file.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};
use etcetera::BaseStrategy;
use toml::{Table, Value};

use crate::token::TOKEN_VARIABLE;

/// Names another file, or none if it is empty.
pub(crate) const FILE_VARIABLE: &str = "TASKWATCH_CONFIG";

/// The flags that may stand in it: what one wants each time, not what one wants now.
const KNOWN: [&str; 11] = [
    "cacert",
    "color",
    "on-gap",
    "output",
    "quiet",
    "repo",
    "strict",
    "token-file",
    "transport",
    "url",
    "utc",
];

/// The settings file is not one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// It is there, but cannot be read, or a variable names one that is not there.
    #[error("cannot read the settings in {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    /// It is not TOML.
    #[error("the settings in {} cannot be read: {error}", path.display())]
    NotToml { path: PathBuf, error: toml::de::Error },
    /// A name that means nothing here.
    #[error("the settings in {} name {name:?}, which is none of {}", path.display(), KNOWN.join(", "))]
    Unknown { path: PathBuf, name: String },
    /// A value that the flag would not take.
    #[error("the settings in {} give {name} a value that it does not take: {reason}", path.display())]
    Value { path: PathBuf, name: String, reason: String },
}

/// Where the file is, and whether it must be there.
fn file(variable: Option<OsString>) -> Option<(PathBuf, bool)> {
    match variable {
        Some(path) if path.is_empty() => None,
        Some(path) => Some((path.into(), true)),
        None => {
            let home = etcetera::choose_base_strategy().ok()?;
            Some((home.config_dir().join("taskwatch").join("config.toml"), false))
        }
    }
}

/// The command with the defaults of the user's file, if there is one.
///
/// # Errors
/// If it cannot be read, or says what no flag says.
pub(crate) fn with_file(command: Command) -> Result<Command, SettingsError> {
    let Some((path, is_named)) = file(std::env::var_os(FILE_VARIABLE)) else { return Ok(command) };
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let token = std::env::var_os(TOKEN_VARIABLE);
            with_text(command, &text, path, token.is_some_and(|token| !token.is_empty()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => Ok(command),
        Err(error) => Err(SettingsError::Unreadable { path, error }),
    }
}

/// `has_token`: a variable holds one, and wins.
fn with_text(
    command: Command,
    text: &str,
    path: PathBuf,
    has_token: bool,
) -> Result<Command, SettingsError> {
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return Err(SettingsError::NotToml { path, error }),
    };
    let mut changed = command.clone();
    for (name, value) in table {
        if !KNOWN.contains(&&*name) {
            return Err(SettingsError::Unknown { path, name });
        }
        if name == "token-file" && has_token {
            continue;
        }
        let words = match words(&value) {
            Ok(words) => words,
            Err(reason) => {
                return Err(SettingsError::Value { path, name, reason: reason.to_owned() });
            }
        };
        if let Err(reason) = check(&command, &name, &words) {
            return Err(SettingsError::Value { path, name, reason });
        }
        changed = with_default(changed, &name, &words);
    }
    Ok(changed)
}

/// A value as the words of a command line would give it.
fn words(value: &Value) -> Result<Vec<String>, &'static str> {
    let word = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Boolean(is_on) => Ok(is_on.to_string()),
        _ => Err("it must be a text, true or false, or a list of texts"),
    };
    match value {
        Value::Array(values) => values.iter().map(word).collect(),
        value => word(value).map(|word| vec![word]),
    }
}

/// Whether the flag would take these words.
fn check(command: &Command, name: &str, words: &[String]) -> Result<(), String> {
    let is_switch = command
        .get_arguments()
        .any(|arg| arg.get_long() == Some(name) && !arg.get_action().takes_values());
    if words.is_empty() {
        return Err("there must be something in it".to_owned());
    }
    if words.len() > 1 && name != "repo" {
        return Err("it takes one value".to_owned());
    }
    for word in words {
        match word.as_str() {
            "true" | "false" if is_switch => continue,
            _ if is_switch => return Err("it must be true or false".to_owned()),
            _ => {}
        }
        let line = ["taskwatch".to_owned(), "--repo=x".to_owned(), format!("--{name}={word}")];
        if let Err(error) = command.clone().try_get_matches_from(line) {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            return Err(first.trim_start_matches("error: ").to_owned());
        }
    }
    Ok(())
}

/// Gives the flag this default, wherever it is one. The repositories to watch are not where a new task
/// belongs, and what is quiet for a watch is something else for a change.
fn with_default(command: Command, name: &str, words: &[String]) -> Command {
    let takes = |arg: &&Arg| {
        let takes_several = matches!(arg.get_action(), ArgAction::Append);
        arg.get_long() == Some(name) && (name != "repo" || takes_several)
    };
    let id = command.get_arguments().find(takes).map(|arg| arg.get_id().clone());
    let command = match id {
        Some(id) => {
            command.mut_arg(id, |arg| arg.required(false).default_values(words.iter().cloned()))
        }
        None => command,
    };
    match name {
        "quiet" => command,
        _ => command.mut_subcommands(|inner| with_default(inner, name, words)),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::args::{Args, Color, Format, WatchArgs};

    fn parse(settings: &str, words: &str) -> Result<WatchArgs, String> {
        let command = with_text(Args::command(), settings, "config.toml".into(), false);
        let command = command.map_err(|error| error.to_string())?;
        let words = std::iter::once("taskwatch").chain(words.split_whitespace());
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        Ok(Args::from_arg_matches(&matches).unwrap().watch)
    }

    #[test]
    fn what_the_file_says_holds_unless_a_flag_says_otherwise() {
        let settings = r#"
            url = "https://tasks.example"
            repo = ["acme/*", "tools"]
            output = "json"
            color = "never"
            utc = true
        "#;
        let args = parse(settings, "").unwrap();
        assert_eq!(args.connection.url, "https://tasks.example");
        assert_eq!((args.repositories.len(), args.output), (2, Format::Json));
        assert_eq!((args.color, args.utc), (Color::Never, true));
        let args = parse(settings, "-r foo -o text --url http://x").unwrap();
        assert_eq!((args.repositories.len(), args.output), (1, Format::Text));
        assert_eq!(args.connection.url, "http://x");
    }

    #[test]
    fn a_new_task_is_told_where_it_belongs() {
        let settings = r#"repo = ["acme/*", "tools"]"#;
        let command = with_text(Args::command(), settings, "config.toml".into(), false).unwrap();
        let parse = |words: &str| {
            let words = std::iter::once("taskwatch").chain(words.split_whitespace());
            command.clone().try_get_matches_from(words).map(|_| ())
        };
        assert!(parse("list").is_ok() && parse("create --repo foo title").is_ok());
        assert!(parse("create title").unwrap_err().to_string().contains("--repo"));
    }

    #[test]
    fn what_no_flag_would_take_is_refused_with_its_name() {
        for (settings, why) in [
            ("urll = \"x\"", "name \"urll\", which is none of cacert, "),
            ("count = 3", "name \"count\""),
            ("output = \"xml\"", "give output a value that it does not take: invalid value 'xml'"),
            ("utc = \"yes\"", "it must be true or false"),
            ("url = 3", "it must be a text"),
            ("repo = []", "there must be something in it"),
            ("url = [\"http://a\", \"http://b\"]", "it takes one value"),
            ("repo = \"a b\"", "give repo a value"),
            ("url = ", "config.toml cannot be read: "),
        ] {
            let refusal = parse(settings, "-r foo").unwrap_err();
            assert!(refusal.contains(why), "{settings}: {refusal}");
        }
        assert!(parse("", "").unwrap_err().contains("--repo <NAME>"));
    }

    #[test]
    fn a_token_in_the_environment_wins_over_a_file_that_is_named_here() {
        let token_file = |has_token| {
            let settings = "token-file = \"/no/token\"";
            let command = with_text(Args::command(), settings, "x".into(), has_token).unwrap();
            let matches = command.try_get_matches_from(["taskwatch", "-r", "foo"]).unwrap();
            Args::from_arg_matches(&matches).unwrap().watch.connection.token_file
        };
        assert!(token_file(false).is_some() && token_file(true).is_none());
    }

    #[test]
    fn another_file_can_be_named_or_none() {
        assert_eq!(file(Some("".into())), None);
        assert_eq!(file(Some("x.toml".into())), Some(("x.toml".into(), true)));
        if let Some((path, is_named)) = file(None) {
            assert!(path.ends_with("taskwatch/config.toml") && !is_named);
        }
    }
}
