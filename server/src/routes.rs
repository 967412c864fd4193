//! Mounting the hub on a router.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;

use crate::access::guard;
use crate::transport::upgrade;
use crate::{Hub, Problem, schema};

/// The hub's routes: the WebSocket endpoint at [`HubConfig::path`](crate::HubConfig::path), and the
/// JSON Schema of its frames at `/api/v1/schema.json`.
/// Merge them into a router of any state:
///
/// ```no_run
/// # async fn example() {
/// use taskwatch_server::{Hub, HubConfig, routes};
///
/// let (hub, publisher) = Hub::in_memory(HubConfig::default());
/// let app: axum::Router = axum::Router::new().merge(routes(hub));
/// # }
/// ```
///
/// Every request is held against the hub's [`AccessPolicy`](crate::AccessPolicy) first.
pub fn routes<S: Clone + Send + Sync + 'static>(hub: Hub) -> Router<S> {
    let config = hub.config();
    let policy = Arc::new(config.access.clone());
    let path = config.path.clone();
    let not_a_get = || async { Problem::method_not_allowed("GET") };
    Router::new()
        .route(&path, get(upgrade::upgrade).fallback(not_a_get))
        .route(schema::PATH, get(schema::schema).fallback(not_a_get))
        .layer(from_fn_with_state(policy, guard))
        .with_state(hub)
}
