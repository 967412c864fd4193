//! Snapshots for those who ask: few at a time, and few in memory.

use std::sync::Arc;

use taskwatch_protocol::Timestamp;
use tokio::sync::Semaphore;

use crate::session::SnapshotRequest;
use crate::{EventLog, HubConfig, SnapshotError, SnapshotSink, TaskSnapshot};

/// What bounds the cost of snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// For reading the log.
    reads: Semaphore,
    /// For staying in memory until the peer has taken it. Who gets none goes to a file, so that
    /// nobody waits for a slow peer.
    memory: Arc<Semaphore>,
}

impl Snapshots {
    pub(super) fn new(concurrent: usize) -> Self {
        Self { reads: Semaphore::new(concurrent), memory: Arc::new(Semaphore::new(concurrent)) }
    }

    pub(super) async fn take(
        &self,
        log: &dyn EventLog,
        config: &HubConfig,
        request: &SnapshotRequest,
        at: Timestamp,
    ) -> Result<TaskSnapshot, SnapshotError> {
        let closed = |_| SnapshotError::Unavailable("the hub has ended".to_owned());
        let _permit = self.reads.acquire().await.map_err(closed)?;
        let memory = Arc::clone(&self.memory).try_acquire_owned().ok();
        let sink = SnapshotSink::new(
            request.repositories.clone(),
            request.id.clone(),
            at,
            memory.map(|permit| (permit, config.snapshot_bytes)),
            config.spool_dir.as_deref(),
        );
        log.snapshot(&request.repositories, sink).await
    }
}
