//! Mounting the hub on a router.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;

use crate::access::guard;
use crate::transport::{streams, upgrade};
use crate::{Hub, Problem, schema};

/// The hub's routes: the WebSocket endpoint at [`HubConfig::path`](crate::HubConfig::path); for those
/// whom no WebSocket reaches, the same events over plain HTTP, as a stream at
/// [`events_path`](crate::HubConfig::events_path) and for asking again and again at
/// [`changes_path`](crate::HubConfig::changes_path); and the JSON Schema of all frames at
/// `/api/v1/schema.json`. Merge them into a router of any state:
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
/// A peer that takes nothing is given up by the hub after
/// [`write_timeout`](crate::HubConfig::write_timeout). On a WebSocket its socket is closed then; that
/// of a stream over plain HTTP belongs to the listener, so give the listener's sockets a
/// `TCP_USER_TIMEOUT` or the like, as `taskwatchd` does.
///
/// Every request is held against the hub's [`AccessPolicy`](crate::AccessPolicy) first.
pub fn routes<S: Clone + Send + Sync + 'static>(hub: Hub) -> Router<S> {
    let config = hub.config();
    let policy = Arc::new(config.access.clone());
    let not_a_get = || async { Problem::method_not_allowed("GET") };
    Router::new()
        .route(&config.path, get(upgrade::upgrade).fallback(not_a_get))
        .route(&config.events_path, get(streams::events).fallback(not_a_get))
        .route(&config.changes_path, get(streams::changes).fallback(not_a_get))
        .route(schema::PATH, get(schema::schema).fallback(not_a_get))
        .layer(from_fn_with_state(policy, guard))
        .with_state(hub)
}
