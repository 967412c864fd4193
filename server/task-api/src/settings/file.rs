//! The settings file: other defaults for flags. A flag wins over a variable, and that over the file.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, CommandFactory};
use taskwatch_server::FileError;
use toml::de::{DeTable, DeValue};

use super::Settings;

/// What flags call a value that stands in the file as a number.
const NUMBER: &str = "N";

/// What a file says, all of it good for the flags.
#[derive(Debug)]
pub(crate) struct SettingsFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// The long flag, without its hyphens.
    name: String,
    /// From 1.
    line: usize,
    /// As a command line would give them.
    words: Vec<String>,
}

impl SettingsFile {
    /// Reads it.
    ///
    /// # Errors
    /// If it cannot be read, or has a name that is no flag or a value that its flag would not take.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let text = fs::read_to_string(path)
            .map_err(|error| FileError::new(path, format!("cannot be read: {error}")))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let at = |place: usize| 1 + text.bytes().take(place).filter(|byte| *byte == b'\n').count();
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| at(span.start));
            // Its first line: the next ones show the file's.
            let reason = error.message().lines().next().unwrap_or_default();
            FileError::new(path, format!("line {line}: {reason}"))
        })?;
        let command = Settings::command();
        let mut entries = Vec::new();
        for (key, value) in table.into_inner() {
            let (line, name) = (at(key.span().start), key.into_inner().into_owned());
            let words = read_value(&command, &name, value.get_ref())
                .map_err(|reason| FileError::new(path, format!("line {line}: {name}: {reason}")))?;
            entries.push(Entry { name, line, words });
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    /// The command with these defaults.
    pub(crate) fn defaults(&self, command: Command) -> Command {
        self.entries.iter().fold(command, |command, entry| match flag(&command, &entry.name) {
            Some(arg) => {
                let id = arg.get_id().clone();
                command.mut_arg(id, |arg| arg.default_values(entry.words.clone()))
            }
            None => command,
        })
    }

    /// The place that sets a flag, such as `settings.toml:3`.
    pub(super) fn place(&self, name: &str) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        Some(format!("{}:{}", self.path.display(), entry.line))
    }
}

fn flag<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(name))
}

/// A value as a command line would give it, if the flag takes it.
fn read_value(command: &Command, name: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let flag = flag(command, name).ok_or("there is no such setting")?;
    let words: Vec<_> = match (flag.get_action(), value) {
        (ArgAction::Append, DeValue::Array(values)) => {
            values.iter().map(|value| word(flag, value.get_ref())).collect::<Result<_, _>>()?
        }
        (_, value) => vec![word(flag, value)?],
    };
    // A switch takes no word on a command line.
    if flag.get_action().takes_values() {
        for word in &words {
            let line = ["taskwatchd".to_owned(), format!("--{name}={word}")];
            if let Err(error) = command.clone().try_get_matches_from(line) {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                return Err(first.trim_start_matches("error: ").to_owned());
            }
        }
    }
    Ok(words)
}

fn word(flag: &Arg, value: &DeValue<'_>) -> Result<String, &'static str> {
    let is_number = flag.get_value_names().is_some_and(|names| names.iter().eq([NUMBER]));
    match (value, flag.get_action()) {
        (DeValue::Boolean(is_on), ArgAction::SetTrue) => Ok(is_on.to_string()),
        (_, ArgAction::SetTrue) => Err("it must be true or false"),
        (DeValue::Integer(number), _) if is_number && number.radix() == 10 => {
            Ok(number.as_str().to_owned())
        }
        (_, _) if is_number => Err("it must be a number, such as 1000"),
        (DeValue::String(text), _) => Ok(text.clone().into_owned()),
        (_, ArgAction::Append) => Err("it must be a list of texts"),
        _ => Err("it must be a text"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parse(text: &str) -> Result<SettingsFile, String> {
        SettingsFile::parse(Path::new("s.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_no_flag_would_take_is_refused_with_its_line_and_name() {
        for (text, why) in [
            ("listn = \"x\"", "s.toml: line 1: listn: there is no such setting"),
            ("\n# one\nconfig = \"x\"", "s.toml: line 3: config: there is no such setting"),
            ("\nhelp = true", "line 2: help: there is no such setting"),
            ("[limits]\nmax-headers = 9", "line 1: limits: there is no such setting"),
            ("listen = \"here\"", "line 1: listen: invalid value 'here' for '--listen <ADDR>': "),
            ("listen = 8787", "line 1: listen: it must be a text"),
            ("listen = [\"127.0.0.1:1\"]", "line 1: listen: it must be a text"),
            ("retention-events = \"9\"", "retention-events: it must be a number"),
            ("retention-events = 0x9", "retention-events: it must be a number"),
            ("retention-events = 0", "retention-events: invalid value '0'"),
            ("retention-age = 7", "retention-age: it must be a text"),
            ("retention-age = \"7\"", "not a duration such as 60s, 5m, 2h or 7d"),
            ("anonymous = \"true\"", "anonymous: it must be true or false"),
            ("allow-host = 3", "allow-host: it must be a list of texts"),
            ("allow-host = [true]", "allow-host: it must be a list of texts"),
            ("trusted-proxy = [\"::1\", \"x\"]", "trusted-proxy: invalid value 'x'"),
            ("listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"", "s.toml: line 2: duplicate key"),
            ("data = ", "s.toml: line 1: "),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(why), "{text}: {refusal}");
        }
    }

    #[test]
    fn lists_may_be_empty_or_one_text_and_numbers_may_be_spaced() {
        let text = "allow-host = []\nallow-origin = 'http://a'\nretention-events = 1_000";
        let command = parse(text).unwrap().defaults(Settings::command());
        let matches = command.try_get_matches_from(["taskwatchd"]).unwrap();
        assert!(matches.get_many::<String>("allow_host").is_none_or(|hosts| hosts.count() == 0));
        assert_eq!(matches.get_one::<String>("allow_origin").unwrap(), "http://a");
        assert_eq!(matches.get_one::<u64>("retention_events"), Some(&1_000));
    }

    #[test]
    fn a_number_is_what_the_flags_call_one() {
        for arg in Settings::command().get_arguments() {
            let names = arg.get_value_names().unwrap_or_default();
            let takes = |word: &str| {
                let word = format!("--{}={word}", arg.get_long().unwrap());
                arg.get_action().takes_values() && Settings::try_parse_from(["", &word]).is_ok()
            };
            let is_number = (takes("10000") || takes("100")) && !takes("x");
            assert_eq!(names.iter().eq([NUMBER]), is_number, "{}", arg.get_id());
        }
    }
}
