//! One task: `/api/v1/tasks` and `/api/v1/tasks/{id}`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use taskwatch_server::{Principal, Problem};

use super::conditions::{self, etag, if_match};
use super::request::{self, TaskId};
use super::{TASK_CURSOR, TASKS, api, header};
use crate::change::{NewTask, TaskPatch};
use crate::service::TaskService;
use crate::store::{ChangeError, Changed};

/// Makes a task
#[utoipa::path(
    post, path = "/api/v1/tasks", operation_id = "create_task", tag = "tasks",
    params(("Idempotency-Key", Header), ("traceparent", Header)),
    request_body(content = ref("#/components/schemas/NewTask"), content_type = "application/json"),
    responses(
        (status = 201, description = "The task", body = ref("#/components/schemas/Task"),
         headers(("Location"), ("ETag"), ("Task-Cursor"))),
        (status = 404), (status = 408), (status = 413), (status = 415), (status = 422),
        (status = 503),
    ),
)]
pub(super) async fn create(
    State(service): State<TaskService>,
    principal: Principal,
    request: Request,
) -> Result<Response, Problem> {
    let caller = api(principal.clone(), request.headers());
    let (body, once) = request::change(request, &principal, &[request::JSON]).await?;
    let changed = service.create(caller, NewTask::try_from(body)?, once).await?;
    let location = header(&format!("{TASKS}/{}", changed.task.id));
    Ok((StatusCode::CREATED, [(LOCATION, location)], Answer(changed)).into_response())
}

/// Shows a task
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}", operation_id = "get_task", tag = "tasks",
    params(("id", Path), ("If-Match", Header), ("If-None-Match", Header)),
    responses(
        (status = 200, description = "The task", body = ref("#/components/schemas/Task"),
         headers(("ETag"))),
        (status = 304, description = "The caller has this version", headers(("ETag"))),
        (status = 404), (status = 412), (status = 503),
    ),
)]
pub(super) async fn read(
    State(service): State<TaskService>,
    principal: Principal,
    TaskId(id): TaskId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let task = service.get(&principal, id).await?.ok_or(ChangeError::NotFound)?;
    if if_match(&headers).is_some_and(|versions| !versions.contains(&task.version)) {
        return Err(ChangeError::VersionConflict { current: task.version }.into());
    }
    let tag = [(ETAG, etag(&task))];
    if conditions::has(&headers, task.version) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json(task)).into_response())
}

/// Changes some fields of a task
///
/// A JSON merge patch (RFC 7396): what is not named stays as it is, null resets a field that has a
/// default. A patch that changes nothing makes no event and no new version.
#[utoipa::path(
    patch, path = "/api/v1/tasks/{id}", operation_id = "update_task", tag = "tasks",
    params(("id", Path), ("If-Match", Header), ("Idempotency-Key", Header), ("traceparent", Header)),
    request_body(content(
        (ref("#/components/schemas/TaskPatch") = "application/merge-patch+json"),
        (ref("#/components/schemas/TaskPatch") = "application/json"),
    )),
    responses(
        (status = 200, description = "The task as it is now", body = ref("#/components/schemas/Task"),
         headers(("ETag"), ("Task-Cursor"))),
        (status = 204, description = "Done; the caller may not read the task",
         headers(("ETag"), ("Task-Cursor"))),
        (status = 404), (status = 408), (status = 412), (status = 413),
        (status = 415, headers(("Accept-Patch"))), (status = 422), (status = 503),
    ),
)]
pub(super) async fn update(
    State(service): State<TaskService>,
    principal: Principal,
    TaskId(id): TaskId,
    request: Request,
) -> Result<Response, Problem> {
    let if_match = if_match(request.headers());
    let caller = api(principal.clone(), request.headers());
    let accepted = [request::MERGE_PATCH, request::JSON];
    let (body, once) = request::change(request, &principal, &accepted).await?;
    let patch = TaskPatch::try_from(body)?;
    let changed = service.update(caller, id, patch, if_match, once).await?;
    if !principal.may_read(&changed.task.repository) {
        // It was changed, but what else it says is not for those who may only write.
        return Ok((StatusCode::NO_CONTENT, changed_headers(&changed)).into_response());
    }
    Ok(Answer(changed).into_response())
}

/// Deletes a task
#[utoipa::path(
    delete, path = "/api/v1/tasks/{id}", operation_id = "delete_task", tag = "tasks",
    params(("id", Path), ("If-Match", Header), ("Idempotency-Key", Header), ("traceparent", Header)),
    responses(
        (status = 204, description = "It is gone", headers(("Task-Cursor"))),
        (status = 404), (status = 412), (status = 422), (status = 503),
    ),
)]
pub(super) async fn delete(
    State(service): State<TaskService>,
    principal: Principal,
    TaskId(id): TaskId,
    request: Parts,
) -> Result<Response, Problem> {
    let if_match = if_match(&request.headers);
    // A deletion does not read its body.
    let once = request::once(&request, &principal, b"")?;
    let caller = api(principal, &request.headers);
    let Changed { cursor, .. } = service.delete(caller, id, if_match, once).await?;
    Ok((StatusCode::NO_CONTENT, [(TASK_CURSOR, header(cursor.as_str()))]).into_response())
}

/// A task after a change, with its version and the position behind the change.
struct Answer(Changed);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let content_type = [(CONTENT_TYPE, HeaderValue::from_static(request::JSON))];
        (changed_headers(&self.0), content_type, self.0.task.into_json()).into_response()
    }
}

fn changed_headers(Changed { task, cursor }: &Changed) -> [(HeaderName, HeaderValue); 2] {
    [(ETAG, etag(task)), (TASK_CURSOR, header(cursor.as_str()))]
}
