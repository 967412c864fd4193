//! Who asks, and what they may do: for programs that show a person what is theirs to change.

use axum::Json;
use schemars::JsonSchema;
use serde::Serialize;
use taskwatch_protocol::{Pattern, Timestamp};
use taskwatch_server::Principal;

/// Whoever makes the request.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Me {
    /// The name in events; null is nobody in particular.
    subject: Option<String>,
    /// What may be read.
    read: Vec<Pattern>,
    /// What may be changed.
    write: Vec<Pattern>,
    /// When the token runs out, if it does.
    expires: Option<Timestamp>,
}

/// Tells who asks, and what they may do
#[utoipa::path(
    get, path = "/api/v1/me", operation_id = "me", tag = "server",
    responses((status = 200, description = "Whoever makes the request",
               body = ref("#/components/schemas/Me"))),
)]
pub(super) async fn me(principal: Principal) -> Json<Me> {
    Json(Me {
        subject: principal.subject().map(str::to_owned),
        read: principal.readable().to_vec(),
        write: principal.writable().to_vec(),
        expires: principal.expires(),
    })
}
