//! What a request says, or a problem that tells how to say it better.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_TYPE, EXPECT, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use futures_util::StreamExt;
use serde_json::Value;
use taskwatch_protocol::ErrorCode;
use taskwatch_server::{Principal, Problem};
use tokio::time::timeout;
use url::form_urlencoded::{self, Serializer};
use uuid::Uuid;

use crate::change::IfMatch;
use crate::idempotency::{Fingerprint, IdempotencyKey, Once};
use crate::list::{ListParams, ListQuery};

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

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
        return Err(Problem::new(status, ErrorCode::UnsupportedMediaType, detail));
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

/// `If-Match`: the versions a change may start from. `*` is any; a tag that this server never
/// gave, or a weak one, is none.
pub(crate) fn if_match(headers: &HeaderMap) -> IfMatch {
    let mut versions = Vec::new();
    for value in headers.get_all(IF_MATCH) {
        for tag in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            if tag == "*" {
                return None;
            }
            let version = tag.strip_prefix("\"v").and_then(|tag| tag.strip_suffix('"'));
            let number = version.and_then(|version| version.parse::<u64>().ok());
            versions.extend(number.filter(|number| version == Some(&number.to_string())));
        }
    }
    headers.contains_key(IF_MATCH).then_some(versions)
}

/// The `{id}` of the path. What is no UUID is the id of no task.
#[derive(Debug)]
pub(crate) struct TaskId(pub(super) Uuid);

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

/// The query of a list.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) query: ListQuery,
    uri: Uri,
}

impl<S: Send + Sync> FromRequestParts<S> for List {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = ListParams::from_query(parts.uri.query().unwrap_or_default())?;
        let principal = Principal::from_request_parts(parts, state).await?;
        Ok(Self { query: params.into_query(principal)?, uri: parts.uri.clone() })
    }
}

impl List {
    /// The same list from another page on.
    pub(crate) fn link(&self, page: &str) -> String {
        let pairs = form_urlencoded::parse(self.uri.query().unwrap_or_default().as_bytes());
        let mut query = Serializer::new(String::new());
        query.extend_pairs(pairs.filter(|(name, _)| name != "page"));
        format!("{}?{}", self.uri.path(), query.append_pair("page", page).finish())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_tag_is_one_that_was_given() {
        for (tags, versions) in [
            ("\"v7\"", Some(vec![7])),
            ("\"v7\", \"v18446744073709551615\"", Some(vec![7, u64::MAX])),
            ("\"v6\", *", None),
            ("\"v007\"", Some(vec![])),
            ("\"v+7\", \"v 7\", W/\"v7\", \"7\", v7, \"v\"", Some(vec![])),
            ("", Some(vec![])),
        ] {
            let headers = HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static(tags))]);
            assert_eq!(if_match(&headers), versions, "{tags}");
        }
        assert_eq!(if_match(&HeaderMap::new()), None);
    }
}
