//! What a request says, or a problem that tells how to say it better.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderName, Method, StatusCode};
use futures_util::StreamExt;
use serde_json::Value;
use taskwatch_protocol::ErrorCode;
use taskwatch_server::{Principal, Problem};
use tokio::time::timeout;
use uuid::Uuid;

use crate::idempotency::{Fingerprint, IdempotencyKey, Once};

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// For reading what is thrown away, so that the sender comes to read the refusal.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How large a body may be, and how long all of it may take: a sender must not hold a connection
/// for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) bytes: usize,
    pub(crate) timeout: Duration,
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, ErrorCode::BadMessage, detail.into())
}

/// A change that is asked for: the body as JSON of one of the media types, and its
/// `Idempotency-Key`.
pub(crate) async fn change(
    request: Request,
    principal: &Principal,
    accepted: &[&'static str],
) -> Result<(Value, Option<Once>), Problem> {
    let (parts, body) = request.into_parts();
    let media_type = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if !accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(media_type)) {
        let detail = format!("send Content-Type: {}", accepted.join(" or "));
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let problem = Problem::new(status, ErrorCode::UnsupportedMediaType, detail);
        return Err(if parts.method == Method::PATCH {
            problem.header(ACCEPT_PATCH, super::header(&accepted.join(", ")))
        } else {
            problem
        });
    }
    let body = self::body(&parts, body).await?;
    let once = once(&parts, principal, &body)?;
    let value =
        serde_json::from_slice(&body).map_err(|problem| bad(format!("not JSON: {problem}")));
    Ok((value?, once))
}

/// The bytes of a body.
pub(crate) async fn body(parts: &Parts, body: Body) -> Result<Vec<u8>, Problem> {
    let Some(&limits) = parts.extensions.get::<BodyLimits>() else {
        let detail = "this route takes no body";
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal, detail));
    };
    read(body, limits, parts.headers.contains_key(EXPECT)).await
}

/// `Idempotency-Key`, with what it stands for: method, path, and the content that is acted on.
pub(crate) fn once(
    parts: &Parts,
    principal: &Principal,
    content: &[u8],
) -> Result<Option<Once>, Problem> {
    let mut keys = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(bad("a request has one Idempotency-Key"));
    }
    let key =
        IdempotencyKey::try_from(key.as_bytes()).map_err(|problem| bad(problem.to_string()))?;
    let fingerprint = Fingerprint::of(parts.method.as_str(), parts.uri.path(), content);
    Ok(Some(Once::new(principal, key, fingerprint)))
}

/// The bytes of a body that keeps the limits of size and time.
async fn read(
    body: Body,
    limits: BodyLimits,
    waits_for_continue: bool,
) -> Result<Vec<u8>, Problem> {
    let announced = axum::body::HttpBody::size_hint(&body).lower();
    let mut chunks = body.into_data_stream();
    let read = async {
        let mut bytes = Vec::new();
        // A body that would be too large is not asked for.
        if announced > limits.bytes as u64 {
            return Ok::<_, Problem>(None);
        }
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| bad("the body broke off"))?;
            if bytes.len() + chunk.len() > limits.bytes {
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes))
    };
    let late = Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        ErrorCode::BadMessage,
        format!("the body took longer than {} s", limits.timeout.as_secs()),
    );
    if let Some(bytes) = timeout(limits.timeout, read).await.map_err(|_| late)?? {
        return Ok(bytes);
    }
    if !waits_for_continue {
        let drain = async { while let Some(Ok(_)) = chunks.next().await {} };
        // It ends, or it does not: the answer is the same.
        let _ = timeout(DRAIN_TIMEOUT, drain).await;
    }
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    Err(Problem::new(
        status,
        ErrorCode::TooLarge,
        format!("a body has at most {} bytes", limits.bytes),
    ))
}

/// The `{id}` of the path. What is no UUID is the id of no task.
#[derive(Debug)]
pub(super) struct TaskId(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for TaskId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<Uuid>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| {
            let detail = "there is no such task; an id is a UUID";
            Problem::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, detail)
        })
    }
}
