//! Snapshots for those who ask: few at a time, few in memory, and not without limit on disk.

use std::sync::Arc;

use taskwatch_protocol::{Pattern, Timestamp};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::log::{SpoolLimits, Spools, UNIT};
use crate::{EventLog, HubConfig, SnapshotError, SnapshotSink, TaskSnapshot};

/// What a snapshot is of.
#[derive(Debug)]
pub(crate) struct SnapshotOf {
    /// As it was asked for, for the frames.
    pub(crate) repositories: Vec<Pattern>,
    /// What of it may be seen: nothing else is read.
    pub(crate) visible: Vec<Pattern>,
    /// The request.
    pub(crate) id: Option<String>,
}

/// What bounds the cost of snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// For reading the log.
    turns: Arc<Semaphore>,
    /// For staying in memory until the peer has taken it. Who gets none goes to a file, so that
    /// nobody waits for a slow peer.
    memory: Arc<Semaphore>,
    /// For staying in a file.
    disk: Arc<Semaphore>,
    spools: Arc<Spools>,
}

impl Snapshots {
    pub(super) fn new(config: &HubConfig) -> Self {
        let units = usize::try_from(config.spool_bytes / UNIT).unwrap_or(usize::MAX);
        Self {
            turns: Arc::new(Semaphore::new(config.concurrent_snapshots)),
            memory: Arc::new(Semaphore::new(config.concurrent_snapshots)),
            disk: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            spools: Arc::default(),
        }
    }

    /// What there is of them now.
    pub(super) fn spools(&self) -> &Spools {
        &self.spools
    }

    pub(super) async fn take(
        &self,
        log: &dyn EventLog,
        config: &HubConfig,
        of: SnapshotOf,
        at: Timestamp,
    ) -> Result<TaskSnapshot, SnapshotError> {
        // Nobody closes these.
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok();
        let memory = Arc::clone(&self.memory).try_acquire_owned().ok();
        let limits = SpoolLimits {
            memory: memory.map(|permit| (permit, config.snapshot_bytes)),
            disk: Arc::clone(&self.disk),
            dir: config.spool_dir.as_deref(),
            spools: Arc::clone(&self.spools),
        };
        // Whoever reads the log may do so elsewhere, and would not notice that nobody waits.
        let abandoned = CancellationToken::new();
        let _left = abandoned.clone().drop_guard();
        let visible = of.visible.clone();
        let sink = SnapshotSink::new(of, at, limits, turn, abandoned);
        log.snapshot(&visible, sink).await
    }
}
