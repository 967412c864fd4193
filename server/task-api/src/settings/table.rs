//! All settings as they are, and where each comes from.

use std::ffi::OsStr;
use std::fmt;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory};
use taskwatch_protocol::escape::Visible;

use super::file::SettingsFile;
use super::{Settings, default_data_dir};

/// One line for each setting: name, value and source, in columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsTable(Vec<[String; 3]>);

impl SettingsTable {
    /// `matches` have a value for each flag; a default may be that of the file.
    pub(crate) fn new(matches: &ArgMatches, file: Option<&SettingsFile>) -> Self {
        let row = |arg: &Arg| {
            let name = arg.get_long().unwrap_or_default();
            let source = match matches.value_source(arg.get_id().as_str()) {
                Some(ValueSource::CommandLine) => "flag".to_owned(),
                Some(ValueSource::EnvVariable) => {
                    format!("variable {}", arg.get_env().unwrap_or_default().display())
                }
                _ => file.and_then(|file| file.place(name)).unwrap_or_else(|| "default".to_owned()),
            };
            [name.to_owned(), value(arg, matches), source]
        };
        Self(Settings::command().get_arguments().map(row).collect())
    }
}

/// As a command line would give it.
fn value(arg: &Arg, matches: &ArgMatches) -> String {
    let words = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    let words = match words.join(",") {
        nothing if nothing.is_empty() && arg.get_id() == "data" => {
            default_data_dir().unwrap_or_default().display().to_string()
        }
        words => words,
    };
    if words.is_empty() { "–".to_owned() } else { Visible(&words).to_string() }
}

impl fmt::Display for SettingsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.0.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let (name_width, value_width) = (width(0), width(1));
        for [name, value, source] in &self.0 {
            writeln!(f, "{name:name_width$}  {value:value_width$}  {source}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use clap::ArgAction;

    use super::*;
    use crate::CommandLine;

    /// The cells of a table.
    fn rows(table: &SettingsTable) -> impl Iterator<Item = (&str, &str, &str)> {
        table.0.iter().map(|[name, value, source]| (&**name, &**value, &**source))
    }

    fn load(words: &[&str]) -> (CommandLine, SettingsTable) {
        CommandLine::load([&["taskwatchd"], words].concat()).unwrap()
    }

    /// A value that the flag takes, as it stands in a file.
    fn example(arg: &Arg) -> String {
        let names = arg.get_value_names().unwrap_or_default();
        let default = arg.get_default_values().first().map(|word| word.to_string_lossy());
        match (arg.get_action(), default, names.first().map(|name| &**name)) {
            (ArgAction::SetTrue, ..) => "true".to_owned(),
            (_, Some(number), Some("N")) => number.into_owned(),
            (_, Some(text), _) => format!("{text:?}"),
            (_, None, Some("FILE" | "DIR" | "TEXT" | "HOST")) => "\"here\"".to_owned(),
            (_, None, Some("ALG")) => "\"RS256\"".to_owned(),
            (_, None, Some("ORIGIN")) => "[\"https://a\", \"https://b\"]".to_owned(),
            (_, None, Some("ADDR|NETWORK")) => "[\"10.0.0.0/8\", \"::1\"]".to_owned(),
            (.., name) => panic!("what is an example of {name:?}, which --{} takes?", arg.get_id()),
        }
    }

    #[test]
    fn every_flag_can_stand_in_the_file_and_is_in_the_table() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("s.toml");
        let command = Settings::command();
        let examples: Vec<_> = command
            .get_arguments()
            .map(|arg| (arg.get_long().unwrap(), arg.get_env().unwrap(), example(arg)))
            .collect();
        let mut text = String::new();
        for (name, _, value) in &examples {
            writeln!(text, "{name} = {value}").unwrap();
        }
        std::fs::write(&path, text).unwrap();
        for words in [
            &["--config", path.to_str().unwrap()][..],
            &["config", "check", path.to_str().unwrap()],
        ] {
            let (_, table) = load(words);
            let mut rows = rows(&table);
            for (at, (name, variable, value)) in examples.iter().enumerate() {
                let value = value.replace(['[', ']', '"', ' '], "");
                let source = format!("{}:{}", path.display(), at + 1);
                assert_eq!(rows.next(), Some((*name, &*value, &*source)));
                let expected = format!("TASKWATCH_{}", name.to_uppercase().replace('-', "_"));
                assert_eq!(variable.to_str(), Some(&*expected));
            }
            assert_eq!(rows.next(), None);
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_its_list_replaces_the_files() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("s.toml");
        std::fs::write(&path, "allow-host = [\"a\", \"b\"]\nretention-age = \"1d\"\n").unwrap();
        let config = ["--config", path.to_str().unwrap()];
        let (line, table) = load(&[&config[..], &["--allow-host", "c"]].concat());
        assert_eq!(line.settings.allow_host, ["c"]);
        assert_eq!(line.settings.retention_age.as_secs(), 86_400);
        let source = |wanted: &str| rows(&table).find(|(name, ..)| *name == wanted).unwrap().2;
        assert_eq!((source("allow-host"), source("listen")), ("flag", "default"));
        assert_eq!(source("retention-age"), format!("{}:2", path.display()));
        // The other commands have no settings, so whatever is wrong with the file is not theirs.
        std::fs::write(&path, "wrong").unwrap();
        assert!(CommandLine::load([&["taskwatchd"], &config[..]].concat()).is_err());
    }

    #[test]
    fn the_columns_stand_below_each_other() {
        let (_, table) = load(&["--allow-host", "ä\n", "--data", "d"]);
        let lines = table.to_string();
        let lines: Vec<Vec<char>> = lines.lines().map(|line| line.chars().collect()).collect();
        assert_eq!(lines.len(), Settings::command().get_arguments().count());
        let source = lines[0]
            .windows(7)
            .position(|letters| letters.iter().eq(&['d', 'e', 'f', 'a', 'u', 'l', 't']))
            .unwrap();
        for line in lines {
            assert!(line[source - 1] == ' ' && line[source] != ' ', "{line:?}");
        }
    }

    #[test]
    fn every_flag_is_in_the_documents() {
        let documents =
            [include_str!("../../../../README.md"), include_str!("../../../../docs/operations.md")];
        for arg in Settings::command().get_arguments() {
            let flag = format!("--{}", arg.get_long().unwrap());
            let is_named = |text: &&str| {
                let mut places = text.match_indices(&flag);
                places.any(|(at, _)| text[at + flag.len()..].starts_with(['`', ' ', ':']))
            };
            assert!(documents.iter().any(is_named), "{flag} is in neither");
        }
    }
}
