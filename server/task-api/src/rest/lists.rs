//! What comes in pages: tasks, and the history of a task.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use taskwatch_protocol::Task;
use taskwatch_server::{Principal, Problem};
use url::form_urlencoded::{self, Serializer};

use super::request::{JSON, TaskId};
use super::{TASK_CURSOR, header};
use crate::list::{HistoryPage, ListParams, ListQuery};
use crate::service::TaskService;
use crate::store::{ChangeError, History, TaskPage};

/// A page of tasks.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TaskList {
    /// The tasks; possibly none, though there is a next page.
    tasks: Vec<Task>,
    /// The `page` of the next one, or null on the last.
    next: Option<String>,
}

/// Lists tasks
///
/// A page may be short, or empty, though a next one follows: it ends where enough was looked at. No
/// task comes twice. In an order that changes move tasks in, later pages leave out what changed after
/// the first; the events behind `Task-Cursor`, which is that of the first page, tell of it.
#[utoipa::path(
    get, path = "/api/v1/tasks", operation_id = "list_tasks", tag = "tasks",
    params(
        ("repository", Query), ("status", Query), ("priority", Query), ("assignee", Query),
        ("tag", Query), ("text", Query), ("changed_since", Query),
        ("sort", Query), ("limit", Query), ("page", Query),
    ),
    responses(
        (status = 200, description = "A page", body = ref("#/components/schemas/TaskList"),
         headers(("Task-Cursor"), ("Link"))),
        (status = 503),
    ),
)]
pub(super) async fn list(
    State(service): State<TaskService>,
    list: List,
) -> Result<Response, Problem> {
    let TaskPage { tasks, next, cursor } = service.list(list.query.clone()).await?;
    let link = next.as_deref().map(|next| link(&list.uri, next));
    let position = [(TASK_CURSOR, header(cursor.as_str()))];
    Ok((position, link, Json(TaskList { tasks, next })).into_response())
}

/// Tells what happened to a task
///
/// The events in the order of the log, as far back as it goes, each as it was sent to those who
/// watch. Also of a task that is gone.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/events", operation_id = "task_events", tag = "tasks",
    params(("id", Path), ("limit", Query), ("page", Query)),
    responses(
        (status = 200, description = "A page", body = ref("#/components/schemas/EventList"),
         headers(("Link"))),
        (status = 404), (status = 503),
    ),
)]
pub(super) async fn history(
    State(service): State<TaskService>,
    principal: Principal,
    TaskId(id): TaskId,
    uri: Uri,
) -> Result<Response, Problem> {
    let HistoryPage { after, limit } = HistoryPage::from_query(uri.query().unwrap_or_default())?;
    let history = service.history(&principal, id, after, limit).await?;
    let History { events, next } = history.ok_or(ChangeError::NotFound)?;
    let next = next.map(HistoryPage::token);
    let link = next.as_deref().map(|next| link(&uri, next));
    // The events are JSON as they are; that they stay as they are is the point.
    let next = serde_json::json!(next);
    let body = format!(r#"{{"events":[{}],"next":{next}}}"#, events.join(","));
    Ok((link, [(CONTENT_TYPE, JSON)], body).into_response())
}

/// A page of events.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the answer is put together from bytes")]
pub(super) struct EventList {
    /// The events as they are on the WebSocket.
    events: Vec<taskwatch_protocol::schema::TaskEventFrame>,
    /// The `page` of the next ones, or null if these are the last.
    next: Option<String>,
}

/// A list that is asked for.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) query: ListQuery,
    pub(crate) uri: Uri,
}

impl<S: Send + Sync> FromRequestParts<S> for List {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = ListParams::from_query(parts.uri.query().unwrap_or_default())?;
        let principal = Principal::from_request_parts(parts, state).await?;
        Ok(Self { query: params.into_query(principal)?, uri: parts.uri.clone() })
    }
}

/// The same request for another page.
fn link(uri: &Uri, page: &str) -> [(HeaderName, HeaderValue); 1] {
    [(LINK, header(&format!("<{}>; rel=\"next\"", of_page(uri, page))))]
}

pub(crate) fn of_page(uri: &Uri, page: &str) -> String {
    let given = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut query = Serializer::new(String::new());
    query.extend_pairs(given.filter(|(name, _)| name != "page"));
    format!("{}?{}", uri.path(), query.append_pair("page", page).finish())
}
