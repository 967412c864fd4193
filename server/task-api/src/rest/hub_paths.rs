//! The hub's routes, described. Their code is in the server library, which knows of no document.
#![expect(dead_code, reason = "nothing but their descriptions is used")]

/// Follows events over a WebSocket
///
/// PROTOCOL.md says what is spoken there.
#[utoipa::path(
    get, path = "/ws", operation_id = "websocket", tag = "events",
    params(("repository", Query), ("since", Query), ("since_time", Query), ("tail", Query),
           ("on_gap", Query), ("snapshot", Query),
           ("types", Query), ("snapshot_of", Query), ("X-Version", Header)),
    responses(
        (status = 101, description = "From here on it is a WebSocket"),
        (status = 426), (status = 429), (status = 503),
    ),
)]
fn websocket() {}

/// Follows events over an answer that does not end (Server-Sent Events)
#[utoipa::path(
    get, path = "/api/v1/events", operation_id = "events", tag = "events",
    params(("repository", Query), ("since", Query), ("since_time", Query), ("tail", Query),
           ("on_gap", Query), ("snapshot", Query),
           ("types", Query), ("snapshot_of", Query), ("Last-Event-ID", Header),
           ("X-Version", Header)),
    responses(
        (status = 200, description = "Events as they happen", body = String,
         content_type = "text/event-stream"),
        (status = 204, description = "The stream has ended for good"),
        (status = 426), (status = 429), (status = 503),
    ),
)]
fn events() {}

/// Waits for events (long-poll)
///
/// With `Accept: application/jsonl` the answer is made of frames, one a line, and may hold a
/// snapshot. Otherwise it is one object.
#[utoipa::path(
    get, path = "/api/v1/changes", operation_id = "changes", tag = "events",
    params(("repository", Query), ("since", Query), ("since_time", Query), ("tail", Query),
           ("on_gap", Query), ("snapshot", Query),
           ("types", Query), ("snapshot_of", Query), ("wait", Query), ("Last-Event-ID", Header),
           ("X-Version", Header)),
    responses(
        (status = 200, description = "Events, and the position behind them",
         content((ref("#/components/schemas/Changes") = "application/json"),
                 (String = "application/jsonl"))),
        (status = 404), (status = 410), (status = 426), (status = 429), (status = 503),
    ),
)]
fn changes() {}

/// The JSON Schema of all frames
#[utoipa::path(
    get, path = "/api/v1/schema.json", operation_id = "schema", tag = "events", security(()),
    responses((status = 200, description = "A schema", content_type = "application/schema+json",
               body = Object)),
)]
fn schema() {}

/// Speaks the Model Context Protocol (streamable HTTP)
#[utoipa::path(
    post, path = "/mcp", operation_id = "mcp", tag = "mcp",
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, description = "An answer",
         content((Object = "application/json"), (String = "text/event-stream"))),
        (status = 202, description = "Taken; there is no answer"),
        (status = 400, content((Object = "application/json"))),
        (status = 404, content((Object = "application/json"))),
        (status = 406), (status = 408), (status = 413), (status = 415), (status = 503),
    ),
)]
fn mcp() {}
