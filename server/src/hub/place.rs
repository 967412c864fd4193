//! A connection's place among those that may be there.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::Counted;
use super::{Hub, lock};

/// A connection's place in the hub. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) hub: Hub,
    pub(super) counted: Counted,
    pub(super) _stream: Option<OwnedSemaphorePermit>,
    pub(super) _token: TaskTrackerToken,
}

impl Place {
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Turns at reading the log, where they are limited.
    pub(crate) fn reads(&self) -> Option<Arc<Semaphore>> {
        self.counted.reads.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.hub.shared.admission).leave(&self.counted);
    }
}
