//! REST: parses, calls the service, and maps what comes back.

pub(crate) mod batch;
pub(crate) mod conditions;
mod hub_paths;
pub(crate) mod lists;
mod me;
mod openapi;
mod operate;
mod refusals;
pub(crate) mod request;
mod tasks;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::{Extension, Router, middleware};
use taskwatch_server::{AccessPolicy, Authenticator, Hub, Principal, authenticate, guard};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::change::{Caller, Via};
use crate::mcp::Mcp;
use crate::monitor::Monitor;
use crate::page;
use crate::service::TaskService;
use refusals::{no_method, no_route, oversee};
pub(crate) use request::BodyLimits;

const TASKS: &str = "/api/v1/tasks";
/// The position behind a change, for those who wait for it in their stream.
const TASK_CURSOR: HeaderName = HeaderName::from_static("task-cursor");

/// All routes of the server, the hub's included, behind one look at `Host` and `Origin`.
pub(crate) fn router(
    service: TaskService,
    hub: Hub,
    access: Arc<AccessPolicy>,
    authenticator: Arc<dyn Authenticator>,
    body: BodyLimits,
    mcp: Mcp,
) -> Router {
    let monitor = Monitor::new(hub.clone(), service.clone());
    let (metrics, ready) = monitor.routes();
    let tasks = OpenApiRouter::default()
        .routes(routes!(tasks::create, lists::list))
        .routes(routes!(tasks::read, tasks::update, tasks::delete))
        .routes(routes!(lists::history))
        .routes(routes!(batch::batch))
        .routes(routes!(me::me))
        .with_state(service.clone());
    let operate = OpenApiRouter::default()
        .routes(routes!(operate::connections))
        .routes(routes!(operate::purge))
        .with_state(operate::Operator::new(service, hub.clone(), access.is_private()));
    // Everything but a sign of life and the description asks who it is. The hub asks by itself,
    // since a browser brings its token to an upgrade in another way.
    let guarded = OpenApiRouter::default()
        .merge(tasks)
        .merge(mcp.routes().with_state(()).into())
        .merge(metrics.with_state(()))
        .merge(operate)
        // Two in one: each layer of a router costs a request a few allocations.
        .layer((middleware::from_fn_with_state(authenticator, authenticate), Extension(body)));
    let (routes, described) = OpenApiRouter::with_openapi(openapi::hub())
        .merge(guarded)
        .merge(ready.with_state(()))
        .routes(routes!(health))
        .routes(routes!(openapi::openapi))
        .split_for_parts();
    routes
        .with_state(openapi::Document::new(described))
        .merge(taskwatch_server::routes(hub))
        .merge(page::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer((
            middleware::from_fn_with_state(monitor.requests(), oversee),
            middleware::from_fn_with_state(access, guard),
        ))
}

/// Says that the server is there
#[utoipa::path(
    get, path = "/healthz", operation_id = "health", tag = "server", security(()),
    responses((status = 200, description = "It is", body = String, content_type = "text/plain; charset=utf-8")),
)]
async fn health() -> &'static str {
    "ok\n"
}

fn api(principal: Principal, headers: &HeaderMap) -> Caller {
    Caller::of(principal, Via::Api, headers)
}

/// A header of this server's own making: ids, numbers, and names that were escaped.
pub(crate) fn header(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}
