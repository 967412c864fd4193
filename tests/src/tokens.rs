//! A tokens file as an operator keeps one.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What one token stands for.
#[derive(Clone, Debug)]
pub struct Grant(Value);

impl Grant {
    /// A token of somebody who may do nothing yet.
    #[must_use]
    pub fn new(id: &str, token: &str) -> Self {
        let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        Self(json!({"id": id, "sha256": hash, "read": [], "write": [], "metrics": false}))
    }

    /// May read these.
    #[must_use]
    pub fn reading(mut self, patterns: &[&str]) -> Self {
        self.0["read"] = json!(patterns);
        self
    }

    /// May change these.
    #[must_use]
    pub fn writing(mut self, patterns: &[&str]) -> Self {
        self.0["write"] = json!(patterns);
        self
    }

    /// May read metrics.
    #[must_use]
    pub fn with_metrics(mut self) -> Self {
        self.0["metrics"] = true.into();
        self
    }

    /// May see who is connected, and purge tasks.
    #[must_use]
    pub fn with_operate(mut self) -> Self {
        self.0["operate"] = true.into();
        self
    }

    /// Runs out at this time, RFC 3339.
    #[must_use]
    pub fn expiring(mut self, at: &str) -> Self {
        self.0["expires"] = at.into();
        self
    }
}

/// The file.
#[derive(Debug)]
pub struct TokensFile {
    path: PathBuf,
}

impl TokensFile {
    /// Writes a file in a folder.
    #[must_use]
    pub fn new(dir: &Path, grants: &[Grant]) -> Self {
        let file = Self { path: dir.join("tokens.jsonl") };
        file.replace(grants);
        file
    }

    /// Its path.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Puts another in its place, at once.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn replace(&self, grants: &[Grant]) {
        let lines: String = grants.iter().map(|grant| format!("{}\n", grant.0)).collect();
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, lines).unwrap();
        std::fs::rename(&beside, &self.path).unwrap();
    }
}
