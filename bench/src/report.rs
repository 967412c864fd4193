//! Tables and plots of the lines that `load` printed.

mod goals;
mod medians;
mod plot;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::medians::{Results, Spread, number};
use crate::row::Row;
use crate::{Failure, print, say};

/// What is between these in the document is written by the script.
const FROM: &str = "<!-- Written by bench/run, from here -->";
const TO: &str = "<!-- to here -->";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Lines of JSON
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only look whether every run came to its end, and nothing was lost
    #[arg(long)]
    check: bool,
    /// Folder whose benchmarks.md gets the tables, and whose bench/ the plots
    #[arg(long)]
    docs: Option<PathBuf>,
}

/// What a run of the script says of itself.
#[derive(Debug, Default, Deserialize)]
struct Run {
    date: String,
    command: String,
    commit: String,
    machine: String,
    versions: String,
    /// Anything that should be known of the circumstances.
    #[serde(default)]
    note: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Run { run: Run },
    Row(Box<Row>),
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (mut runs, mut rows) = (vec![], vec![]);
    for file in &args.files {
        let text = fs::read_to_string(file)?;
        for line in text.lines().filter(|line| !line.is_empty()) {
            match serde_json::from_str(line)? {
                Line::Run { run } => runs.push(run),
                Line::Row(row) => rows.push(*row),
            }
        }
    }
    if args.check {
        return check(&rows);
    }
    let results = Results(rows);
    let text = document(&runs, &results);
    let Some(docs) = &args.docs else {
        print(&text);
        return Ok(());
    };
    let place = docs.join("benchmarks.md");
    fs::write(&place, replaced(&fs::read_to_string(&place)?, &text)?)?;
    write_plots(&docs.join("bench"), &results)
}

/// Figures never fail it.
fn check(rows: &[Row]) -> Result<(), Failure> {
    let faults: Vec<String> = rows
        .iter()
        .filter_map(|row| Some(format!("{}, {}: {}", row.peer, row.shape, row.fault()?)))
        .collect();
    if rows.is_empty() || !faults.is_empty() {
        return Err(format!("{} runs; {}", rows.len(), faults.join("; ")).into());
    }
    say(&format!("{} runs, nothing lost", rows.len()));
    Ok(())
}

fn document(runs: &[Run], results: &Results) -> String {
    let mut out = String::new();
    let commands = distinct(runs.iter().map(|run| format!("$ {}\n", run.command)));
    out += &format!("```console\n{}```\n\n", commands.concat());
    let circumstances = runs.iter().map(|run| {
        let Run { date, commit, machine, versions, .. } = run;
        format!("{date}, commit {commit}, {machine}. {versions}.\n\n")
    });
    let notes =
        runs.iter().filter(|run| !run.note.is_empty()).map(|run| format!("{}\n\n", run.note));
    out += &distinct(circumstances.chain(notes)).concat();
    let loaded =
        results.0.iter().filter(|row| row.error.is_none() && row.publishes + row.deliveries > 0);
    if let Some(others) = Spread::of(loaded.map(|row| row.other_cores).collect()) {
        out += &format!(
            "Other work took {} cores meanwhile, in the median; at most {}.\n\n",
            number(others.median),
            number(others.max)
        );
    }
    out += &goals::table(results);
    for shape in plot::shapes(results) {
        out += &tables::section(results, &shape);
    }
    out
}

/// Each text once, where it was first.
fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = vec![];
    for text in texts {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

fn replaced(document: &str, text: &str) -> Result<String, Failure> {
    let places = document.find(FROM).zip(document.find(TO)).filter(|(from, to)| from < to);
    let (from, to) = places.ok_or(format!("the document has no {FROM:?} and {TO:?}"))?;
    Ok(format!("{}{FROM}\n\n{}\n{}", &document[..from], text.trim_start(), &document[to..]))
}

fn write_plots(folder: &Path, results: &Results) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    for shape in plot::shapes(results) {
        fs::write(folder.join(format!("{}.svg", shape.name)), plot::svg(results, &shape))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = format!("before\n{FROM}\nold\n{TO}\nafter\n");
        let once = replaced(&document, "new\n").unwrap();
        assert_eq!(once, format!("before\n{FROM}\n\nnew\n\n{TO}\nafter\n"));
        assert_eq!(replaced(&once, "new\n").unwrap(), once);
        assert!(replaced("nothing", "new").is_err());
    }

    #[test]
    fn lines_are_runs_and_rows() {
        let row = Row { peer: "hub".into(), shape: "flood".into(), ..Row::default() };
        let line = serde_json::to_string(&row).unwrap();
        assert!(matches!(serde_json::from_str(&line).unwrap(), Line::Row(read) if *read == row));
        let run = r#"{"run":{"date":"","command":"c","commit":"","machine":"","versions":""}}"#;
        assert!(
            matches!(serde_json::from_str(run).unwrap(), Line::Run { run } if run.command == "c")
        );
    }

    #[test]
    fn a_check_finds_what_was_lost_and_what_failed() {
        let row = Row::default();
        assert!(check(std::slice::from_ref(&row)).is_ok());
        assert!(check(&[]).is_err(), "nothing ran");
        let lost = Row { lost: 1, ..row.clone() };
        let failed = Row { error: Some("no port".into()), ..row };
        assert!(check(&[lost]).unwrap_err().to_string().contains("1 lost"));
        assert!(check(&[failed]).unwrap_err().to_string().contains("no port"));
    }
}
