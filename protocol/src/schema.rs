//! JSON Schema of the wire, made from the types themselves.
//!
//! [`document`] is the whole of it: what is checked in as `schema.json`. The types can be used one
//! by one as well, as components of another document.
//!
//! Nothing here forbids further fields: readers skip what they do not know. A word that a reader
//! must bear with is any text, with those known listed; of a word that a server refuses when it
//! does not know it, the list is closed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::envelope::MAX_ID_BYTES;
use crate::message::ErrorData;
use crate::{
    Auth, Authenticated, ClientFrame, Cursor, FieldChange, Heartbeat, PROTOCOL_VERSION,
    RepositoryName, ServerFrame, Snapshot, Subscribe, Subscribed, Task, TaskEvent, Timestamp,
    Traceparent, Unsubscribe, Unsubscribed, Welcome,
};

/// The schema of every frame, in JSON Schema of draft 2020-12. `$defs` has `ServerFrame` and
/// `ClientFrame`, and all they are made of.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let any = [generator.subschema_for::<ServerFrame>(), generator.subschema_for::<ClientFrame>()];
    let mut definitions = generator.take_definitions(true);
    for (name, definition) in &mut definitions {
        tidy(definition);
        definition["title"] = json!(name);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("urn:taskwatch:protocol:{PROTOCOL_VERSION}"),
        "title": "taskwatch",
        "description": "A frame of the taskwatch protocol. PROTOCOL.md says what they mean.",
        "anyOf": any,
        "$defs": definitions,
    })
}

/// Removes what no other reader knows or needs: Rust's names of number formats, and line breaks of
/// comments.
pub fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let rusty = |format: &Value| format.as_str().is_some_and(|name| name.contains("int"));
            if fields.get("format").is_some_and(rusty) {
                fields.remove("format");
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace("\n\n", "\u{0}").replace('\n', " ").replace('\u{0}', "\n\n");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// A list of words and no others.
pub(crate) fn known_words(about: &str, words: &[(&str, &str)]) -> Schema {
    let word =
        |(word, meaning): &(&str, &str)| json!({"const": word, "description": meaning.trim()});
    let words: Vec<Value> = words.iter().map(word).collect();
    json_schema!({"description": about.trim(), "type": "string", "oneOf": words})
}

/// The list as it is.
pub(crate) fn closed(known: Schema) -> Schema {
    known
}

/// The list and any other word: the reader is older than the writer.
pub(crate) fn open(mut known: Schema) -> Schema {
    let mut words = known.remove("oneOf").unwrap_or_default();
    if let Value::Array(words) = &mut words {
        words.push(json!({"type": "string", "description": "A word of a newer version."}));
    }
    known.insert("anyOf".to_owned(), words);
    known
}

/// What every task event says.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a shape")]
struct AboutTask {
    /// The task.
    task_id: Uuid,
    /// Where it belongs.
    repository: RepositoryName,
    /// The task's version after the change.
    version: u64,
    /// Who did it: a principal, or `api` or `mcp` where nobody is told apart.
    changed_by: String,
}

/// A task was made: `data` of `task.created`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a shape")]
struct TaskCreated {
    #[serde(flatten)]
    about: AboutTask,
    /// The new task.
    task: Task,
}

/// A task changed: `data` of `task.updated`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a shape")]
struct TaskUpdated {
    #[serde(flatten)]
    about: AboutTask,
    /// The task after the change.
    task: Task,
    /// The fields that changed, except `updated_at` and `version`, which always do.
    changes: BTreeMap<String, FieldChange>,
}

/// A task is gone: `data` of `task.deleted`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a shape")]
struct TaskDeleted {
    #[serde(flatten)]
    about: AboutTask,
    /// The task as it last was.
    previous: Task,
}

/// Why an event stream over HTTP ends: `data` of `close`, what a close frame says on a WebSocket.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a shape")]
struct Close {
    /// The close code. Its range says whether and when to come back.
    #[schemars(range(min = 1000, max = 4999))]
    code: u16,
    /// The word of the code.
    word: String,
    /// Milliseconds that must pass first.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// Implements [`JsonSchema`] for a type with a description and a function that makes the rest.
macro_rules! described {
    ($(#[doc = $about:literal])+ $of:ident, $make:expr) => {
        impl JsonSchema for $of {
            fn schema_name() -> Cow<'static, str> {
                stringify!($of).into()
            }

            fn schema_id() -> Cow<'static, str> {
                concat!(module_path!(), "::", stringify!($of)).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let make: fn(&mut SchemaGenerator) -> Schema = $make;
                let mut schema = make(generator);
                schema.insert("description".to_owned(), concat!($($about),+).trim().into());
                schema
            }
        }
    };
}

described!(
    /// Something that happened to a task: the `data` of a task event.
    TaskEvent,
    |generator| json_schema!({"anyOf": [
        generator.subschema_for::<TaskCreated>(),
        generator.subschema_for::<TaskUpdated>(),
        generator.subschema_for::<TaskDeleted>(),
    ]})
);

described!(
    /// The trace of the request that made the change, as W3C Trace Context has it in version 00.
    Traceparent,
    |_| json_schema!({
        "type": "string",
        "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    })
);

/// The frame of a task event, as every transport, a history and a list of changes have it.
#[derive(Debug)]
pub enum TaskEventFrame {}

described!(
    /// A change of a task.
    TaskEventFrame,
    |generator| json_schema!({"oneOf": [
        generator.subschema_for::<TaskCreatedFrame>(),
        generator.subschema_for::<TaskUpdatedFrame>(),
        generator.subschema_for::<TaskDeletedFrame>(),
    ]})
);

/// Declares the frames of one direction, and the list of them.
macro_rules! frames {
    (@data $generator:ident) => { None };
    (@data $generator:ident $data:ty) => { Some($generator.subschema_for::<$data>()) };
    (
        $list:ident, $envelope:ident;
        $( $(#[doc = $about:literal])+ $name:ident = $kind:literal $(($data:ty))?, )+
    ) => {
        $(
            enum $name {}

            described!(
                $(#[doc = $about])+
                $name,
                |generator| {
                    let data = frames!(@data generator $($data)?);
                    $envelope(generator, $kind, data)
                }
            );
        )+

        /// Each `type` with its frame.
        fn $list(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
            vec![$( ($kind, generator.subschema_for::<$name>()), )+]
        }
    };
}

frames! {
    server_frames, server_envelope;
    /// A task was made.
    TaskCreatedFrame = "task.created" (TaskCreated),
    /// A task changed.
    TaskUpdatedFrame = "task.updated" (TaskUpdated),
    /// A task is gone.
    TaskDeletedFrame = "task.deleted" (TaskDeleted),
    /// A sign of life and, with a cursor, a bookmark.
    ServerPingFrame = "ping" (Heartbeat),
    /// A bookmark on demand, in reply to a client's `ping`.
    ServerPongFrame = "pong" (Heartbeat),
    /// Something the client sent could not be done. The connection lives on.
    ErrorFrame = "error" (ErrorData),
    /// The first frame.
    WelcomeFrame = "welcome" (Welcome),
    /// The acknowledgement of `subscribe`, at its place in the stream.
    SubscribedFrame = "subscribed" (Subscribed),
    /// The acknowledgement of `unsubscribe`, at its place in the stream.
    UnsubscribedFrame = "unsubscribed" (Unsubscribed),
    /// A part of the present state.
    SnapshotFrame = "snapshot" (Snapshot),
    /// The answer to an `auth` whose token was taken.
    AuthenticatedFrame = "authenticated" (Authenticated),
    /// The end of an event stream over HTTP.
    CloseFrame = "close" (Close),
}

frames! {
    client_frames, client_envelope;
    /// Asks for a bookmark.
    ClientPingFrame = "ping",
    /// The answer to a server's `ping`.
    ClientPongFrame = "pong",
    /// Asks for events.
    SubscribeFrame = "subscribe" (Subscribe),
    /// Asks for no more of them.
    UnsubscribeFrame = "unsubscribe" (Unsubscribe),
    /// Brings a new token for the same subject.
    AuthFrame = "auth" (Auth),
}

/// What a server writes around a message.
fn server_envelope(generator: &mut SchemaGenerator, kind: &str, data: Option<Schema>) -> Schema {
    let mut required = vec!["type", "data"];
    if kind != "close" {
        required.insert(1, "timestamp");
    }
    let mut properties = json!({
        "type": {"const": kind},
        "timestamp": generator.subschema_for::<Timestamp>(),
        "cursor": generator.subschema_for::<Cursor>(),
        "id": {"type": "string", "description": "That of the request this answers."},
        "data": data,
    });
    if kind == "error" {
        properties["error"] = json!({"type": "string", "description": "A text for people."});
        required.push("error");
    }
    if kind.starts_with("task.") {
        required.push("cursor");
        properties["traceparent"] = generator.subschema_for::<Traceparent>().into();
    }
    json_schema!({"type": "object", "properties": properties, "required": required})
}

/// What a server reads around a message.
fn client_envelope(generator: &mut SchemaGenerator, kind: &str, data: Option<Schema>) -> Schema {
    let mut required = vec!["type"];
    let mut properties = json!({
        "type": {"const": kind},
        "timestamp": generator.subschema_for::<Option<Timestamp>>(),
        "id": {
            "type": ["string", "null"],
            "maxLength": MAX_ID_BYTES,
            "description": "Comes back in the reply. Its length is counted in bytes of UTF-8.",
        },
    });
    if let Some(data) = data {
        properties["data"] = data.to_value();
        required.push("data");
    }
    json_schema!({"type": "object", "properties": properties, "required": required})
}

described!(
    /// What a server sends. Skip a type you do not know.
    ServerFrame,
    |generator| {
        let (kinds, mut frames): (Vec<_>, Vec<_>) = server_frames(generator).into_iter().unzip();
        frames.push(json_schema!({
            "title": "UnknownFrame",
            "description": "A frame of a newer version.",
            "type": "object",
            "properties": {"type": {"type": "string", "not": {"enum": kinds}}},
            "required": ["type"],
        }));
        json_schema!({"oneOf": frames})
    }
);

described!(
    /// What a client sends. A server refuses a type it does not know.
    ClientFrame,
    |generator| {
        let (_, frames): (Vec<_>, Vec<_>) = client_frames(generator).into_iter().unzip();
        json_schema!({"oneOf": frames})
    }
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientMessage, ServerMessage};

    #[test]
    fn every_type_has_a_frame() {
        let mut generator = SchemaGenerator::default();
        let kinds = |frames: Vec<(&'static str, Schema)>| -> Vec<_> {
            frames.into_iter().map(|(kind, _)| kind).collect()
        };
        // A WebSocket has a close frame of its own.
        let over_http = [ServerMessage::TYPES, &["close"]].concat();
        assert_eq!(kinds(server_frames(&mut generator)), over_http);
        assert_eq!(kinds(client_frames(&mut generator)), ClientMessage::TYPES);
    }
}
