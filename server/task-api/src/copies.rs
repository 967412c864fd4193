//! What is said about copies of the store, and the exit codes.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use taskwatch_protocol::escape::Visible;
use taskwatch_task_api::{BackupCommand, BackupError, Report, RestoreCommand, VerifyCommand};

use crate::USAGE;

/// Prints what the copy holds.
pub(crate) fn backup(command: &BackupCommand) -> ExitCode {
    let begun = Instant::now();
    match command.run() {
        Ok(made) => {
            let (seconds, size) = (begun.elapsed().as_secs_f64(), bytes(made.bytes));
            let file = command.file.display();
            print(&format!("{file}: {}; {size}, {seconds:.1} s, verified", made.contents));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error, ExitCode::FAILURE),
    }
}

/// Prints what the store holds by now, and where it is what it held before.
pub(crate) fn restore(command: &RestoreCommand) -> ExitCode {
    match command.run() {
        Ok(restored) => {
            restored.notes.iter().for_each(|note| say(&format!("note: {}", Visible(note))));
            print(&format!("restored: {}", restored.contents));
            if let Some(aside) = restored.aside {
                print(&format!("what was there is in {}", aside.display()));
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error, ExitCode::FAILURE),
    }
}

/// Prints what is damaged, each in a line.
pub(crate) fn verify(command: &VerifyCommand) -> ExitCode {
    match command.run() {
        Ok(report) if report.is_good() => {
            notes(&report);
            print(&format!("good: {}", report.contents));
            ExitCode::SUCCESS
        }
        Ok(report) => {
            damage(&report, print);
            notes(&report);
            print(&format!("damaged, of what can be read: {}", report.contents));
            ExitCode::FAILURE
        }
        Err(error) => failed(&error, ExitCode::from(USAGE)),
    }
}

fn failed(error: &BackupError, code: ExitCode) -> ExitCode {
    if let BackupError::Damaged { report, .. } = error {
        damage(report, say);
    }
    say(&format!("taskwatchd: {}", Visible(&error.to_string())));
    code
}

fn damage(report: &Report, line: fn(&str)) {
    report.damage.iter().for_each(|what| line(&format!("damage: {}", Visible(what))));
    if report.more > 0 {
        line(&format!("damage: and {} more", report.more));
    }
}

fn notes(report: &Report) {
    report.notes.iter().for_each(|note| print(&format!("note: {note}")));
}

fn bytes(count: u64) -> String {
    match count {
        0..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

/// One line on stderr. If nobody reads it, that is their choice.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// One line on stdout. The exit code says the same to who does not read it.
fn print(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
