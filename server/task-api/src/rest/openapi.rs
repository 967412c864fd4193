//! The API described for programs: `GET /openapi.json`.
//!
//! What a route takes and answers stands beside its handler. What is said of all alike is added here:
//! the parameters and headers by their names, and that whatever is refused is a problem. The schemas
//! are those of the protocol and of the parsers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use taskwatch_protocol::schema::{TaskEventFrame, tidy};
use taskwatch_protocol::{Cursor, ErrorCode, MAX_TAIL, Task};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Described;

use super::batch::BatchAnswer;
use super::lists::{EventList, TaskList};
use super::me::Me;
use super::operate::PurgeAnswer;
use super::request::JSON;
use super::{TASKS, hub_paths};
use crate::change::{Batch, NewTask, TaskPatch};
use crate::connections::{By, Connections};
use crate::list::{ListParams, PATTERN};

const PROBLEM_JSON: &str = "application/problem+json";

/// What every route may refuse, beside what it names itself.
const EVERYWHERE: [&str; 6] = ["400", "401", "403", "414", "431", "500"];

#[derive(OpenApi)]
#[openapi(
    info(title = "taskwatch", description = "Tasks, and every change of them."),
    paths(
        hub_paths::websocket,
        hub_paths::events,
        hub_paths::changes,
        hub_paths::schema,
        hub_paths::mcp
    )
)]
struct Api;

/// The routes of the hub, which stand in no code of this package.
pub(super) fn hub() -> Described {
    Api::openapi()
}

/// The finished text. A clone shares it.
#[derive(Clone, Debug)]
pub(crate) struct Document(Arc<str>);

/// Describes this API
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "server", security(()),
    responses((status = 200, description = "This document", content_type = "application/json", body = Object)),
)]
pub(super) async fn openapi(State(Document(text)): State<Document>) -> impl IntoResponse {
    ([(CONTENT_TYPE, JSON)], text.to_string())
}

impl Document {
    pub(super) fn new(described: Described) -> Self {
        // A description that cannot be written down is none.
        let document = serde_json::to_value(described).unwrap_or_default();
        Self(finished(document).to_string().into())
    }
}

/// A refusal (RFC 9457).
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a shape")]
struct Problem {
    r#type: String,
    /// The status in words.
    title: String,
    status: u16,
    /// What went wrong, as a word for programs.
    code: ErrorCode,
    /// What went wrong, for people.
    detail: String,
    /// The operation of a batch that it is about, counted from 0.
    #[schemars(skip_serializing_if = "Option::is_none", with = "u32")]
    operation: Option<u32>,
}

/// Events, and where to go on.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a shape")]
struct Changes {
    events: Vec<TaskEventFrame>,
    /// The `since` of the next request, also where there are no events.
    cursor: Cursor,
}

/// The query of those who follow events.
fn follow(name: &str) -> Value {
    let patterns = json!({
        "type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": PATTERN},
        "maxItems": 128,
    });
    let (mut schema, description) = match name {
        "repository" => (patterns, "Names, prefixes such as github.com/acme/*, or *."),
        "snapshot_of" => (patterns, "The same, with their state first."),
        "since" | "Last-Event-ID" => {
            (json!({"type": "string"}), "The cursor behind which events are wanted.")
        }
        "since_time" => (
            json!({"type": "string", "format": "date-time"}),
            "The time from which on events are wanted.",
        ),
        "tail" => (
            json!({"type": "integer", "minimum": 1, "maximum": MAX_TAIL}),
            "How many past events are wanted.",
        ),
        "types" => (
            json!({"type": "string", "examples": ["task.created,task.updated"]}),
            "Kinds of events, with commas between.",
        ),
        "snapshot" => (json!({"type": "boolean"}), "Whether the state comes first."),
        "on_gap" => (
            json!({"type": "string", "enum": ["snapshot", "live", "error"]}),
            "What to do if the cursor does not hold.",
        ),
        "wait" => (
            json!({"type": "integer", "minimum": 0, "maximum": 60, "default": 25}),
            "Seconds to wait for an event.",
        ),
        _ => (
            json!({"type": "string", "pattern": "^[vV]?1([.][0-9]+){0,2}$"}),
            "The version of the protocol: 1.",
        ),
    };
    schema["description"] = json!(description);
    schema
}

fn finished(mut document: Value) -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .for_serialize()
        .into_generator();
    refer_to(&mut generator);
    let filters = ListParams::json_schema(&mut generator).to_value();
    document["openapi"] = json!("3.1.0");
    document["security"] = json!([{"bearer": []}, {}]);
    document["components"] = json!({
        "schemas": generator.take_definitions(true),
        "securitySchemes": {"bearer": {
            "type": "http", "scheme": "bearer",
            "description": "A server without authentication asks for none.",
        }},
    });
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let follows = operation["tags"] == json!(["events"]);
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default();
            let schema =
                if follows { follow(name) } else { described(name, &filters["properties"]) };
            complete(parameter, schema);
        }
        complete_responses(operation);
    }
    // Whoever has made a task may go on with it.
    let links = ["get_task", "update_task", "delete_task", "task_events"].map(|operation| {
        let link = json!({"operationId": operation, "parameters": {"id": "$response.body#/id"}});
        (operation.to_owned(), link)
    });
    document["paths"][TASKS]["post"]["responses"]["201"]["links"] = links.into_iter().collect();
    tidy(&mut document);
    document
}

/// All schemas that the paths refer to.
fn refer_to(generator: &mut SchemaGenerator) {
    let _ = (
        generator.subschema_for::<Task>(),
        generator.subschema_for::<NewTask>(),
        generator.subschema_for::<TaskPatch>(),
        generator.subschema_for::<Batch>(),
        generator.subschema_for::<BatchAnswer>(),
        generator.subschema_for::<TaskList>(),
        generator.subschema_for::<EventList>(),
        generator.subschema_for::<Me>(),
        generator.subschema_for::<Problem>(),
        generator.subschema_for::<Changes>(),
        generator.subschema_for::<Connections>(),
        generator.subschema_for::<PurgeAnswer>(),
    );
}

/// What the name of a parameter stands for.
fn described(name: &str, filters: &Value) -> Value {
    match name {
        "id" => json!({"type": "string", "format": "uuid", "description": "The task."}),
        "If-Match" => json!({
            "type": "string", "examples": ["\"v7\""],
            "description": "Versions of which the task must have one: tags as in ETag, or *.",
        }),
        "If-None-Match" => json!({
            "type": "string", "examples": ["\"v7\""],
            "description": "Versions that the caller has: tags as in ETag, or *.",
        }),
        "Idempotency-Key" => json!({
            "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$",
            "description": "A name for this request. It is carried out once, however often it comes \
                            within 24 hours, and answered alike.",
        }),
        "by" => json!({
            "type": "string", "enum": By::WORDS, "default": By::default().word(),
            "description": "Whether each connection is told of, or only their sums.",
        }),
        "traceparent" => json!({
            "type": "string",
            "description": "The trace that this is part of (W3C Trace Context). Its events carry it; one \
                            that is not valid is ignored.",
        }),
        name => filters[name].clone(),
    }
}

fn complete(parameter: &mut Value, schema: Value) {
    parameter["description"] = schema["description"].clone();
    if schema["type"] == "array" {
        parameter["explode"] = json!(true);
    }
    parameter["schema"] = schema;
    parameter["required"] = json!(parameter["in"] == "path");
}

fn complete_responses(operation: &mut Value) {
    let is_open = operation["security"] == json!([{}]);
    if let Some(body) = operation.get_mut("requestBody") {
        body["required"] = json!(true);
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for status in EVERYWHERE {
        if !(is_open && status == "401") {
            responses.entry(status).or_insert_with(|| json!({}));
        }
    }
    for (status, response) in responses {
        if status.starts_with(['4', '5']) {
            response["description"] = json!(refused(status));
            // Of what is no request for any route, the parser of HTTP says a status and no more.
            let is_bare = status == "431";
            let schema = json!({"$ref": "#/components/schemas/Problem"});
            if !is_bare {
                // Beside errors of JSON-RPC, which are not problems.
                response["content"][PROBLEM_JSON] = json!({"schema": schema});
            }
        }
        if status == "503" || status == "429" {
            response["headers"]["Retry-After"] = json!({});
        }
        let headers = response.get_mut("headers").and_then(Value::as_object_mut);
        for (name, header) in headers.into_iter().flatten() {
            *header = header_named(name);
        }
    }
}

fn refused(status: &str) -> &'static str {
    match status {
        "400" => "The request cannot be read",
        "401" => "There is no token, or it is not valid",
        "403" => "This may not be done, or not from there",
        "404" => "There is no such task or repository, or the caller may not know of it",
        "406" => "None of the forms is accepted",
        "408" => "The body took too long",
        "410" => "The position does not hold",
        "412" => "The task has another version by now",
        "413" => "The body, the task or the batch is too large",
        "414" => "The path with its query is too long",
        "415" => "The body has another media type",
        "422" => "What is asked for cannot be, or the Idempotency-Key belongs to another request",
        "426" => "This takes an upgrade to a WebSocket, and a version that is served",
        "431" => "The head of the request is too large; the answer has no body",
        "429" => "Too much, too fast",
        "503" => "The server cannot do this now",
        _ => "A fault of the server",
    }
}

fn header_named(name: &str) -> Value {
    let (description, pattern) = match name {
        "ETag" => ("The version of the task, as a strong tag", "^\"v[0-9]+\"$"),
        "Task-Cursor" => ("A position in the log: events behind it tell what came later", "^.+$"),
        "Location" => ("The address of the task", "^/api/v1/tasks/"),
        "Link" => ("The address of the next page, if there is one", "rel=\"next\"$"),
        "Retry-After" => ("Seconds after which it may be tried again", "^[0-9]+$"),
        "Accept-Patch" => ("The media types of a patch", "^.+$"),
        _ => ("", "^.*$"),
    };
    let schema = json!({"type": "string", "pattern": pattern});
    json!({"description": description, "schema": schema, "required": name != "Link"})
}
