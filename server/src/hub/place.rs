//! A connection's place in the hub.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::Counted;
use super::{Hub, NotAdmitted, Over, lock};
use crate::Principal;
use crate::clock::instant;

/// A connection's place in the hub. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place {
    hub: Hub,
    counted: Counted,
    _stream: Option<OwnedSemaphorePermit>,
    _token: TaskTrackerToken,
}

impl Place {
    /// A place for one more connection, if there is room. A shutdown waits until it is dropped.
    pub(super) fn take(
        hub: &Hub,
        principal: &Principal,
        address: Option<IpAddr>,
        over: Over,
    ) -> Result<Self, NotAdmitted> {
        let shared = &hub.shared;
        // Taken before it is judged: two who come at once cannot both have the last one.
        let token = shared.connections.token();
        if hub.is_draining() {
            return Err(NotAdmitted::Stopping);
        }
        if shared.connections.len() > shared.config.max_connections {
            return Err(NotAdmitted::Full);
        }
        let stream = if over == Over::WebSocket {
            None
        } else {
            let stream = shared.streams.clone().try_acquire_owned();
            Some(stream.map_err(|_| NotAdmitted::Full)?)
        };
        let made = (over != Over::Poll).then(instant);
        let counted = lock(&shared.admission).enter(principal.subject(), address, made)?;
        Ok(Self { hub: hub.clone(), counted, _stream: stream, _token: token })
    }

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
