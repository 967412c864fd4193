//! The verdicts.

use std::fmt::Display;
use std::process::ExitCode;

/// What was required, and whether it was kept.
#[derive(Debug, Default)]
pub(crate) struct Report {
    missed: Vec<String>,
}

impl Report {
    /// Begins a run.
    pub(crate) fn title(&self, title: impl Display) {
        println!("\n== {title}");
    }

    /// Tells whether a requirement is kept.
    pub(crate) fn check(&mut self, kept: bool, what: impl Display) {
        println!("{}  {what}", if kept { "PASS" } else { "FAIL" });
        if !kept {
            self.missed.push(what.to_string());
        }
    }

    /// The program's end.
    pub(crate) fn end(self) -> ExitCode {
        if self.missed.is_empty() {
            println!("\nPASS");
            return ExitCode::SUCCESS;
        }
        println!("\nFAIL");
        for missed in self.missed {
            println!("  {missed}");
        }
        ExitCode::FAILURE
    }
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
