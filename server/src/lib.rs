//! Soon.
mod log;
mod problem;
mod transport;
pub use log::{EventLog, Incarnations, LogEvent, MemoryLog, Page, PageLimit, ReadError, ReadFuture, TaskEventPublisher};
pub use problem::Problem;
use std::sync::Arc;
/// Stub.
#[derive(Clone, Debug)]
pub struct Hub;
/// Stub.
#[derive(Clone, Debug, Default)]
pub struct HubConfig { /// Stub.
 pub access: AccessPolicy, /// Stub.
 pub drain_window: std::time::Duration }
/// Stub.
#[derive(Clone, Debug, Default)]
pub struct AccessPolicy;
/// Stub.
#[derive(Debug)]
pub struct InvalidOrigin;
impl std::fmt::Display for InvalidOrigin { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("not an origin") } }
impl std::error::Error for InvalidOrigin {}
impl AccessPolicy { /// Stub.
 pub fn private() -> Self { Self } /// Stub.
 pub fn listed() -> Self { Self } /// Stub.
 pub fn allow_host(self, _h: &str) -> Self { self } /// Stub.
 pub fn allow_origin(self, _o: &str) -> Result<Self, InvalidOrigin> { Ok(self) } }
impl Hub { /// Stub.
 pub fn with_log(_log: Arc<dyn EventLog>, _config: HubConfig) -> Self { Self } /// Stub.
 pub fn publish(&self, _event: LogEvent) {} /// Stub.
 pub async fn shutdown(&self) {} }
/// Stub.
pub fn routes<S: Clone + Send + Sync + 'static>(_hub: Hub) -> axum::Router<S> { axum::Router::new() }
/// Stub.
pub async fn host_guard(axum::extract::State(_p): axum::extract::State<Arc<AccessPolicy>>, r: axum::extract::Request, n: axum::middleware::Next) -> axum::response::Response { n.run(r).await }
