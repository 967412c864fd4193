//! The pieces that cross-crate tests, the demo and the stress runs are made of: the real
//! binaries, a REST caller, a raw WebSocket, a network with faults, and the log as it stands in the
//! database.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a harness fails by panicking")]

mod daemon;
mod database;
mod event_stream;
mod gateway;
mod proxy;
mod raw;
mod rest;
mod tokens;
mod tunnel;

pub use daemon::{
    Daemon, Ended, LineReader, Watcher, binary, example, run_taskwatch, taskwatchd_on,
};
pub use database::{LoggedEvent, read_log};
pub use event_stream::{EventStream, StreamEvent};
pub use gateway::{Gateway, Habits, Upgrades};
pub use proxy::{End, Faults, Plan, Proxy};
pub use raw::{RawClient, expect_server_frame};
pub use rest::{Rest, http};
pub use tokens::{Grant, TokensFile};
pub use tunnel::TunnelProxy;

use std::time::Duration;

/// Longer than anything here takes on a busy machine: a wait that ends so is a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a future, and panics with `what` if it does not come.
///
/// # Panics
/// After [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("no sign of: {what}"))
}
