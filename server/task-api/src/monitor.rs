//! How the server is doing, for the programs that watch over it: `/metrics` and `/readyz`.

mod metrics;
mod process;
mod readiness;
mod requests;

use std::sync::Arc;

use taskwatch_protocol::Timestamp;
use taskwatch_server::{Hub, HubStats};
use tokio::sync::Mutex;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::TaskService;
use crate::store::StoreStats;
use process::ProcessStats;
use readiness::Judged;
use requests::RequestCount;
pub(crate) use requests::Requests;

/// Looks at all parts of the server. A clone looks at the same one.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    hub: Hub,
    service: TaskService,
    requests: Arc<Requests>,
    /// Whether it was ready when it was looked at last.
    judged: Arc<Mutex<Option<Judged>>>,
}

/// What was seen at one look.
#[derive(Debug)]
struct Seen {
    at: Timestamp,
    hub: HubStats,
    store: StoreStats,
    requests: Vec<RequestCount>,
    /// What the system tells about this process, where it does.
    process: Option<ProcessStats>,
    is_out_of_files: bool,
}

impl Monitor {
    pub(crate) fn new(hub: Hub, service: TaskService) -> Self {
        Self { hub, service, requests: Arc::default(), judged: Arc::default() }
    }

    /// Where answers are counted.
    pub(crate) fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// What is for who may read metrics, and what is for everybody.
    pub(crate) fn routes(&self) -> (OpenApiRouter, OpenApiRouter) {
        let guarded = OpenApiRouter::default().routes(routes!(metrics::metrics));
        let open = OpenApiRouter::default().routes(routes!(readiness::ready));
        (guarded.with_state(self.clone()), open.with_state(self.clone()))
    }

    async fn look(&self) -> Seen {
        // Counting open files takes milliseconds where there are thousands.
        let process =
            tokio::task::spawn_blocking(|| (ProcessStats::read(), process::is_out_of_files()));
        let store = self.service.store_stats().await;
        let (process, is_out_of_files) = process.await.unwrap_or_default();
        Seen {
            store,
            process,
            is_out_of_files,
            hub: self.hub.stats(),
            requests: self.requests.counts(),
            at: Timestamp::from_unix_millis(jiff::Timestamp::now().as_millisecond()),
        }
    }
}

#[cfg(test)]
mod tests {
    use taskwatch_protocol::{CloseCode, ResetReason};
    use taskwatch_server::Histogram;

    use super::*;
    use crate::store::LogStats;

    /// A server that is well, and not the only number of its kind anywhere.
    pub(super) fn seen() -> Seen {
        let mut hub = HubStats::default();
        (hub.connections, hub.max_connections, hub.published) = (7, 100, 12);
        hub.resets = vec![(ResetReason::Expired, 3)];
        hub.closes = vec![(CloseCode::Slow, 4)];
        hub.refusals = vec![("rate", 5)];
        let lags = Histogram::new(&[500, 1_000_000]);
        lags.observe(100, 2);
        lags.observe(1_500_000, 1);
        hub.lags = lags.distribution();
        let changes = Histogram::new(&[1, 2]);
        changes.observe(2, 1);
        let oldest = Some(Timestamp::from_unix_millis(1_000));
        let store = StoreStats {
            commit_changes: changes.distribution(),
            commit_micros: lags.distribution(),
            commit_failure: None,
            log: Some(LogStats { events: 9, oldest, bytes: 8_192 }),
        };
        let requests = vec![RequestCount { method: "GET", code: 200, count: 6 }];
        let process = ProcessStats {
            cpu_seconds: 1.25,
            resident_bytes: 4_096,
            open_files: 20,
            max_files: Some(1_024),
            start_seconds: 1_700_000_000.5,
        };
        let at = Timestamp::from_unix_millis(3_500);
        Seen { at, hub, store, requests, process: Some(process), is_out_of_files: false }
    }
}
