//! Whatever goes wrong, as a problem.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use taskwatch_protocol::ErrorCode;
use taskwatch_server::Problem;

use crate::change::{InvalidBatch, InvalidTask};
use crate::list::InvalidQuery;
use crate::monitor::Requests;
use crate::store::{BatchError, ChangeError, Unavailable};

/// The member of a problem that tells which operation of a batch it is about, counted from 0.
const OPERATION: &str = "operation";

pub(super) async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, "there is nothing at this path")
}

/// The router adds `Allow`, which is all that `OPTIONS` asks for.
pub(super) async fn no_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail = "the method is not allowed here; the Allow header names those that are";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::MethodNotAllowed, detail)
        .into_response()
}

/// Counts the answer. A fault of the code costs one answer, and says so.
pub(super) async fn oversee(
    State(requests): State<Arc<Requests>>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().into();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| {
        let detail = "something went wrong in the server";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Problem::new(status, ErrorCode::Internal, detail).into_response()
    });
    requests.answered(method, answer.status());
    answer
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
            .header(RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

/// About one operation, or about all of them.
fn about(operation: Option<usize>, problem: Problem) -> Problem {
    match operation {
        Some(index) => problem.member(OPERATION, index),
        None => problem,
    }
}

impl From<InvalidBatch> for Problem {
    fn from(InvalidBatch { index, error }: InvalidBatch) -> Self {
        about(index, error.into())
    }
}

impl From<BatchError> for Problem {
    fn from(BatchError { index, error }: BatchError) -> Self {
        about(index, error.into())
    }
}
