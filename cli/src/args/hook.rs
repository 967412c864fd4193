//! What to run for each event, and where the position is kept.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::hook::Hook;

/// What to run for each event, and where the position is kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Run something for each event")]
pub(crate) struct HookArgs {
    /// Run CMD for each event instead of printing it, directly and not by a shell; what stands behind -- are
    /// its arguments. It has the event as JSON on stdin, and TASKWATCH_EVENT, _TASK_ID, _REPOSITORY, _TITLE,
    /// _STATUS, _PRIORITY, _ASSIGNEE, _VERSION, _CHANGED_BY, _CURSOR, _TIMESTAMP, _TRACEPARENT, _ATTEMPT
    /// and _REPLAYED in its environment. As long as it does not exit with 0, it is run again for the same event
    #[arg(long, value_name = "CMD", conflicts_with_all = ["condition", "output"])]
    exec: Option<OsString>,

    /// Run up to N at a time, and those for the same task one after the other. With 1 all of them are run
    /// in the order in which things happened
    #[arg(long, value_name = "N", default_value = "1", requires = "exec")]
    exec_parallel: NonZeroUsize,

    /// Go on where FILE says, if it is there, whatever --since says, and save in it how far everything was
    /// handled: with --exec by a CMD that exited with 0, otherwise printed
    #[arg(long, value_name = "FILE", conflicts_with = "condition")]
    cursor_file: Option<PathBuf>,

    /// What CMD is given
    #[arg(last = true, value_name = "ARGS", requires = "exec")]
    exec_args: Vec<OsString>,
}

impl HookArgs {
    /// What to run, if anything.
    #[must_use]
    pub(crate) fn hook(&self) -> Option<Hook> {
        let program = self.exec.clone()?;
        Some(Hook { program, arguments: self.exec_args.clone(), parallel: self.exec_parallel })
    }

    /// Where the position is kept, if anywhere.
    #[must_use]
    pub(crate) fn cursor_file(&self) -> Option<&Path> {
        self.cursor_file.as_deref()
    }
}
