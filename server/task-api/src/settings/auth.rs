//! How the server knows who makes a request.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use taskwatch_server::{Anonymous, Authenticator, FileError, TokensFile};

use super::InvalidSettings;

/// Who may do what.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Authentication")]
pub struct AuthSettings {
    /// File with the hashes of tokens; `taskwatchd token new` adds to it. Read again when it changes
    #[arg(long, env = "TASKWATCH_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,

    /// Serve everybody although others than this machine can reach the server
    #[arg(long, env = "TASKWATCH_ANONYMOUS")]
    pub anonymous: bool,
}

impl AuthSettings {
    /// Whether whoever makes a request is asked who they are.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.tokens.is_some()
    }

    pub(super) fn check(&self, is_private: bool) -> Result<(), InvalidSettings> {
        match (self.asks(), self.anonymous) {
            (true, true) => Err(InvalidSettings::AnonymousAndMore),
            (false, false) if !is_private => Err(InvalidSettings::NotPrivate),
            _ => Ok(()),
        }
    }

    /// Reads the files.
    pub(crate) fn authenticator(&self) -> Result<Arc<dyn Authenticator>, FileError> {
        match &self.tokens {
            Some(path) => Ok(Arc::new(TokensFile::open(path)?)),
            None => Ok(Arc::new(Anonymous)),
        }
    }
}
