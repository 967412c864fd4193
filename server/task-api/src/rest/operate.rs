//! For whoever runs the server: `/api/v1/connections` and `/api/v1/tasks/{id}/purge`.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode, Uri};
use serde::Serialize;
use taskwatch_protocol::ErrorCode;
use taskwatch_server::{Hub, Principal, Problem};
use uuid::Uuid;

use super::request::TaskId;
use crate::connections::{By, Connections};
use crate::service::TaskService;
use crate::store::{PurgeError, Purged};

/// What the routes work with.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    service: TaskService,
    hub: Hub,
    /// Whether only its own machine can reach it.
    is_private: bool,
    started: Instant,
}

impl Operator {
    /// Of a server that starts now.
    pub(super) fn new(service: TaskService, hub: Hub, is_private: bool) -> Self {
        Self { service, hub, is_private, started: Instant::now() }
    }

    /// Whether somebody may. Who says by `--anonymous` that everybody may do everything hardly means
    /// everybody on a network.
    fn check(&self, principal: &Principal) -> Result<(), Problem> {
        let detail = if !principal.may_operate() {
            "this token does not give leave to operate the server: it needs `operate`"
        } else if principal.is_anonymous() && !self.is_private {
            "a server that others can reach is operated with a token: start it with --tokens"
        } else {
            return Ok(());
        };
        Err(Problem::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden, detail))
    }
}

/// Tells who is connected, and how far they are
///
/// Those that are furthest behind come first. The connections are looked at one after the other, so they
/// are not all of one moment.
#[utoipa::path(
    get, path = "/api/v1/connections", operation_id = "connections", tag = "server",
    params(("by", Query)),
    responses((status = 200, description = "Who is there",
               body = ref("#/components/schemas/Connections"))),
)]
pub(super) async fn connections(
    State(operator): State<Operator>,
    principal: Principal,
    uri: Uri,
) -> Result<Json<Connections>, Problem> {
    operator.check(&principal)?;
    let by = By::from_query(uri.query().unwrap_or_default())
        .map_err(|detail| Problem::new(StatusCode::BAD_REQUEST, ErrorCode::BadMessage, detail))?;
    let Operator { hub, started, .. } = operator;
    // Ten thousand take some milliseconds, in which others are to have their turn.
    let all = tokio::task::spawn_blocking(move || Connections::of(&hub, started.elapsed(), by));
    all.await.map(Json).map_err(|_| {
        let detail = "something went wrong in the server";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal, detail)
    })
}

/// What a purge has done.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct PurgeAnswer {
    /// The task.
    task: Uuid,
    /// Whether there was such a task, which is deleted now.
    deleted: bool,
    /// Events whose text is gone; not those that had none any more.
    events: usize,
    /// Answers kept for an `Idempotency-Key` whose text is gone.
    answers: usize,
    /// Files beside the store that are not read any more and may hold the text: remove them.
    left: Vec<String>,
}

/// Takes the text of a task out of everything that is kept
///
/// The task is deleted, if it is there. Its events stay, with `[purged]` where text stood. An id that
/// nothing is known of is answered with zeros.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/purge", operation_id = "purge_task", tag = "server",
    params(("id", Path)),
    responses(
        (status = 200, description = "It is gone", body = ref("#/components/schemas/PurgeAnswer")),
        (status = 404), (status = 503),
    ),
)]
pub(super) async fn purge(
    State(operator): State<Operator>,
    principal: Principal,
    TaskId(id): TaskId,
) -> Result<Json<PurgeAnswer>, Problem> {
    operator.check(&principal)?;
    let Operator { service, hub, .. } = operator;
    let Purged { deleted, events, answers, left } = service.purge(hub, &principal, id).await?;
    Ok(Json(PurgeAnswer { task: id, deleted, events, answers, left }))
}

impl From<PurgeError> for Problem {
    fn from(error: PurgeError) -> Self {
        let detail = error.to_string();
        match error {
            PurgeError::Unreadable => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal, detail)
            }
            PurgeError::Unavailable | PurgeError::File | PurgeError::Journal => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, detail)
                    .header(RETRY_AFTER, HeaderValue::from_static("5"))
            }
        }
    }
}
