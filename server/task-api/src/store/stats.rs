//! What the store tells about itself: what the writer counts, and what a reader looks up.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, Transaction};
use taskwatch_protocol::Timestamp;
use taskwatch_server::{Distribution, Histogram};

use super::{Store, schema};

/// Changes in a commit.
const CHANGES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
/// Microseconds that a commit takes, its sync included.
const MICROS: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
/// A log that is not read in this time cannot be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the writer counts of its commits.
#[derive(Debug)]
pub(super) struct Commits {
    changes: Histogram,
    micros: Histogram,
    /// Why the last one failed, if it did.
    failure: Mutex<Option<String>>,
}

impl Default for Commits {
    fn default() -> Self {
        let failure = Mutex::default();
        Self { changes: Histogram::new(CHANGES), micros: Histogram::new(MICROS), failure }
    }
}

impl Commits {
    /// So many changes are durable, and it took so long. True if the commit before had failed.
    pub(super) fn succeeded(&self, changes: u64, began: Instant) -> bool {
        if changes > 0 {
            self.changes.observe(changes, 1);
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.micros.observe(micros, 1);
        }
        self.failure().take().is_some()
    }

    /// A commit was rolled back. True if the one before had not failed in the same way.
    pub(super) fn failed(&self, error: String) -> bool {
        let mut failure = self.failure();
        let is_new = failure.as_ref() != Some(&error);
        *failure = Some(error);
        is_new
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failure().is_some()
    }

    fn failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the store is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreStats {
    /// Changes in each commit that made any.
    pub(crate) commit_changes: Distribution,
    /// Microseconds that each of them took.
    pub(crate) commit_micros: Distribution,
    /// Why nothing can be changed now, if that is so.
    pub(crate) commit_failure: Option<String>,
    /// `None` if the log cannot be read.
    pub(crate) log: Option<LogStats>,
}

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogStats {
    /// Events.
    pub(crate) events: u64,
    /// When the oldest of them happened, if there is one.
    pub(crate) oldest: Option<Timestamp>,
    /// Bytes of the database, without its journal.
    pub(crate) bytes: u64,
}

impl Store {
    /// How it is doing. Waits for no writer, and for readers only so long.
    pub(crate) async fn stats(&self) -> StoreStats {
        let commits = &self.open.shared.commits;
        let log = tokio::time::timeout(PATIENCE, self.open.readers.read(log)).await;
        StoreStats {
            commit_changes: commits.changes.distribution(),
            commit_micros: commits.micros.distribution(),
            commit_failure: commits.failure().clone(),
            log: log.ok().and_then(Result::ok),
        }
    }
}

fn log(tx: &Transaction<'_>) -> rusqlite::Result<LogStats> {
    let state = schema::load_state(tx)?;
    let oldest = tx
        .prepare_cached("SELECT ts FROM event ORDER BY seq LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let bytes = tx
        .prepare_cached("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?
        .query_row([], |row| row.get(0))?;
    Ok(LogStats {
        events: state.head - state.floor,
        oldest: oldest.map(Timestamp::from_unix_millis),
        bytes,
    })
}
