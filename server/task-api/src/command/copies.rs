//! Copies of the store: made, judged, and put back.

use std::path::PathBuf;

use clap::Args;

use crate::settings::data_dir;
use crate::store::{self, BackedUp, BackupError, Report, Restored};

/// The copy to make.
#[derive(Clone, Debug, Args)]
pub struct BackupCommand {
    /// File to write; while it is written it is FILE.part
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Folder of the store [default: taskwatch in the user's data directory]
    #[arg(long, env = "TASKWATCH_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Write over FILE if it exists
    #[arg(long)]
    pub force: bool,
}

impl BackupCommand {
    /// Makes it.
    ///
    /// # Errors
    /// If there is no store, if it cannot be read, if the file cannot be written, or if the copy is
    /// damaged.
    pub fn run(&self) -> Result<BackedUp, BackupError> {
        store::backup(&data_dir(self.data.as_deref())?, &self.file, self.force)
    }
}

/// What to look at.
#[derive(Clone, Debug, Args)]
pub struct VerifyCommand {
    /// A backup; without it, the store
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Folder of the store, served or not [default: taskwatch in the user's data directory]
    #[arg(long, env = "TASKWATCH_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl VerifyCommand {
    /// Looks at it. Damage is no error.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn run(&self) -> Result<Report, BackupError> {
        match &self.file {
            Some(file) => store::verify_file(file),
            None => store::verify_store(&data_dir(self.data.as_deref())?),
        }
    }
}

/// What to put back.
#[derive(Clone, Debug, Args)]
pub struct RestoreCommand {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Folder of the store; made if there is none [default: taskwatch in the user's data directory]
    #[arg(long, env = "TASKWATCH_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl RestoreCommand {
    /// Puts it back.
    ///
    /// # Errors
    /// If the backup is damaged, if a server runs, or if a file cannot be read or written.
    pub fn run(&self) -> Result<Restored, BackupError> {
        store::restore(&self.file, &data_dir(self.data.as_deref())?)
    }
}
