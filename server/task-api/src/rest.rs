//! REST: parses, calls the service, and maps what comes back.

pub(crate) mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ETAG, LINK, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router, middleware};
use serde::Serialize;
use taskwatch_protocol::{ErrorCode, Task};
use taskwatch_server::{AccessPolicy, Authenticator, Hub, Principal, Problem, authenticate, guard};

use crate::change::{Caller, InvalidTask, NewTask, TaskPatch, Via};
use crate::list::InvalidQuery;
use crate::mcp::Mcp;
use crate::metrics::metrics;
use crate::service::TaskService;
use crate::store::{ChangeError, Changed, TaskPage, Unavailable};
pub(crate) use request::BodyLimits;
use request::{List, TaskId};

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
    let tasks = Router::new()
        .route(TASKS, get(list).post(create))
        .route("/api/v1/tasks/{id}", get(read).patch(update).delete(delete))
        .with_state(service);
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(hub.clone());
    // Everything but a sign of life asks who it is. The hub asks by itself, since a browser brings
    // its token to an upgrade in another way.
    let guarded = Router::new()
        .merge(tasks)
        .merge(mcp.routes())
        .layer(Extension(body))
        .merge(metrics)
        .layer(middleware::from_fn_with_state(authenticator, authenticate));
    Router::new()
        .merge(guarded)
        .merge(taskwatch_server::routes(hub))
        .route("/healthz", get(async || "ok\n"))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(access, guard))
}

async fn create(
    State(service): State<TaskService>,
    principal: Principal,
    request: Request,
) -> Result<Response, Problem> {
    let (body, once) = request::change(request, &principal, &[request::JSON]).await?;
    let changed = service.create(api(principal), NewTask::try_from(body)?, once).await?;
    let location = header(&format!("{TASKS}/{}", changed.task.id));
    Ok((StatusCode::CREATED, [(LOCATION, location)], Answer(changed)).into_response())
}

async fn read(
    State(service): State<TaskService>,
    principal: Principal,
    TaskId(id): TaskId,
) -> Result<Response, Problem> {
    let task = service.get(&principal, id).await?.ok_or(ChangeError::NotFound)?;
    Ok(([(ETAG, etag(&task))], Json(task)).into_response())
}

async fn update(
    State(service): State<TaskService>,
    principal: Principal,
    TaskId(id): TaskId,
    request: Request,
) -> Result<Response, Problem> {
    let if_match = request::if_match(request.headers());
    let accepted = [request::MERGE_PATCH, request::JSON];
    let (body, once) = request::change(request, &principal, &accepted).await?;
    let patch = TaskPatch::try_from(body)?;
    let changed = service.update(api(principal.clone()), id, patch, if_match, once).await?;
    if !principal.may_read(&changed.task.repository) {
        // It was changed, but what else it says is not for those who may only write.
        return Ok((StatusCode::NO_CONTENT, changed_headers(&changed)).into_response());
    }
    Ok(Answer(changed).into_response())
}

async fn delete(
    State(service): State<TaskService>,
    principal: Principal,
    TaskId(id): TaskId,
    request: Parts,
) -> Result<Response, Problem> {
    let if_match = request::if_match(&request.headers);
    // A deletion does not read its body.
    let once = request::once(&request, &principal, b"")?;
    let Changed { cursor, .. } = service.delete(api(principal), id, if_match, once).await?;
    Ok((StatusCode::NO_CONTENT, [(TASK_CURSOR, header(cursor.as_str()))]).into_response())
}

/// The body of a list.
#[derive(Debug, Serialize)]
struct Tasks {
    tasks: Vec<Task>,
    next: Option<String>,
}

async fn list(State(service): State<TaskService>, list: List) -> Result<Response, Problem> {
    let TaskPage { tasks, next, cursor } = service.list(list.query.clone()).await?;
    let link = next.as_deref().map(|next| {
        let next = list.link(next);
        [(LINK, header(&format!("<{next}>; rel=\"next\"")))]
    });
    let position = [(TASK_CURSOR, header(cursor.as_str()))];
    Ok((position, link, Json(Tasks { tasks, next })).into_response())
}

fn api(principal: Principal) -> Caller {
    Caller { principal, via: Via::Api }
}

/// A task after a change, with its version and the position behind the change.
struct Answer(Changed);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (changed_headers(&self.0), Json(self.0.task)).into_response()
    }
}

fn changed_headers(Changed { task, cursor }: &Changed) -> [(HeaderName, HeaderValue); 2] {
    [(ETAG, etag(task)), (TASK_CURSOR, header(cursor.as_str()))]
}

fn etag(task: &Task) -> HeaderValue {
    header(&format!("\"v{}\"", task.version))
}

/// A header of this server's own making: ids, numbers, and names that were escaped.
fn header(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, "there is nothing at this path")
}

async fn no_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::MethodNotAllowed,
        "the method is not allowed here; the Allow header names those that are",
    )
}

impl From<InvalidTask> for Problem {
    fn from(error: InvalidTask) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::InvalidTask, error.to_string())
    }
}

impl From<InvalidQuery> for Problem {
    fn from(error: InvalidQuery) -> Self {
        let code = if error.is_name() { ErrorCode::InvalidName } else { ErrorCode::BadMessage };
        Self::new(StatusCode::BAD_REQUEST, code, error.to_string())
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let (status, code) = match error {
            ChangeError::NotFound => (StatusCode::NOT_FOUND, ErrorCode::NotFound),
            ChangeError::Forbidden => (StatusCode::FORBIDDEN, ErrorCode::Forbidden),
            ChangeError::VersionConflict { .. } => {
                (StatusCode::PRECONDITION_FAILED, ErrorCode::VersionConflict)
            }
            ChangeError::IdempotencyMismatch => {
                (StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::IdempotencyMismatch)
            }
            ChangeError::TooLarge { .. } | ChangeError::BatchTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge)
            }
            ChangeError::Unavailable => return Unavailable.into(),
            ChangeError::Internal => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, error.to_string())
            .header(axum::http::header::RETRY_AFTER, HeaderValue::from_static("1"))
    }
}
