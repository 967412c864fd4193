//! The wire for programs: `GET /api/v1/schema.json`.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use taskwatch_protocol::SCHEMA;

/// Where it is.
pub(crate) const PATH: &str = "/api/v1/schema.json";

/// Names the text: a server of another version may have another.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let hash: String =
        Sha256::digest(SCHEMA)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hash}\"")
});

/// Answers with the schema, or with 304 to who has it.
pub(crate) async fn schema(headers: HeaderMap) -> Response {
    let caching = [(ETAG, TAG.as_str()), (CACHE_CONTROL, "public, max-age=3600")];
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let mut tags = known.flat_map(|tags| tags.split(',')).map(str::trim);
    if tags.any(|tag| tag == "*" || tag.trim_start_matches("W/") == *TAG) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(CONTENT_TYPE, "application/schema+json")], SCHEMA).into_response()
}
