//! `schema.json` is what the types say, and frames are what it says.
#![expect(clippy::unwrap_used, reason = "a schema of another shape fails the test")]

use std::path::Path;

use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};
use taskwatch_protocol::{
    Auth, Authenticated, ClientFrame, ClientMessage, Cursor, Denied, ErrorMessage, EventKind,
    Heartbeat, Limits, MAX_TAIL, Mode, OnGap, Pattern, Priority, RepositoryName, ResetReason,
    SCHEMA, ServerFrame, ServerMessage, Snapshot, Status, Subscribe, Subscribed, Task, TaskEvent,
    Timestamp, Unknown, Unsubscribe, Unsubscribed, Welcome, schema,
};
use uuid::Uuid;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_file_is_what_the_types_say() {
    let made = schema::document();
    if std::env::var_os("WRITE_SCHEMA").is_some() {
        std::fs::write(folder().join("schema.json"), format!("{made:#}\n")).unwrap();
        return;
    }
    assert!(
        serde_json::from_str::<Value>(SCHEMA).unwrap() == made,
        "protocol/schema.json is out of date. Write it again:\n\
         WRITE_SCHEMA=1 cargo test -p taskwatch-protocol --features schema --test schema"
    );
}

/// Judges frames by one of the definitions.
fn validator(definition: &str) -> Validator {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    schema["anyOf"] = json!([{"$ref": format!("#/$defs/{definition}")}]);
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap()
}

#[test]
fn it_is_a_schema() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    assert!(
        !SCHEMA.contains("additionalProperties\": false"),
        "readers skip what they do not know"
    );
}

/// The frames in `vectors/` of one direction.
fn vectors(direction: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder().join("vectors")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with(direction) {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((name, serde_json::from_str(&text).unwrap()));
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn every_vector_is_a_frame() {
    for (direction, definition) in [("server", "ServerFrame"), ("client", "ClientFrame")] {
        let schema = validator(definition);
        for (name, frame) in vectors(direction) {
            // A client of a newer version is told that its type is not known here.
            let refused = name == "client.unknown.json";
            assert_eq!(schema.is_valid(&frame), !refused, "{name}: {:?}", schema.validate(&frame));
        }
    }
}

/// A vector with the value at a path replaced, or taken away.
fn spoilt(vector: &str, path: &str, value: Option<Value>) -> Value {
    let text = std::fs::read_to_string(folder().join("vectors").join(vector)).unwrap();
    let mut frame: Value = serde_json::from_str(&text).unwrap();
    replace(&mut frame, path, value);
    frame
}

fn replace(frame: &mut Value, path: &str, value: Option<Value>) {
    let (parent, field) = path.rsplit_once('/').unwrap();
    let parent = frame.pointer_mut(parent).unwrap_or_else(|| panic!("no parent of {path}"));
    match value {
        Some(value) => parent[field] = value,
        None => drop(parent.as_object_mut().unwrap().remove(field).unwrap()),
    }
}

/// Otherwise the schema would allow anything, and the other tests could not fail.
#[test]
fn what_a_server_must_not_send_is_no_frame() {
    let schema = validator("ServerFrame");
    let created = "server.task.created.json";
    let gone = [
        (created, vec!["/type", "/timestamp", "/cursor", "/data", "/data/task", "/data/version"]),
        (created, vec!["/data/task/id", "/data/task/assignee", "/data/task/tags"]),
        ("server.task.updated.json", vec!["/data/changes", "/data/changed_by", "/data/task_id"]),
        ("server.task.deleted.json", vec!["/data/previous", "/data/repository"]),
        ("server.error.json", vec!["/error", "/data/code", "/data/retryable"]),
        ("server.welcome.json", vec!["/data/protocol", "/data/limits/max_patterns"]),
        (
            "server.subscribed.live.json",
            vec!["/data/accepted", "/data/mode", "/data/denied/0/code"],
        ),
        ("server.unsubscribed.json", vec!["/data/accepted"]),
        ("server.snapshot.json", vec!["/data/tasks", "/data/last", "/data/tasks/0/title"]),
        ("server.authenticated.json", vec!["/data/subject"]),
        ("server.ping.json", vec!["/data"]),
        ("server.close.json", vec!["/data", "/data/code", "/data/word"]),
    ];
    for (vector, paths) in gone {
        for path in paths {
            assert!(!schema.is_valid(&spoilt(vector, path, None)), "{vector} without {path}");
        }
    }
    let wrong = [
        (created, "/type", json!(7)),
        (created, "/type", json!("task.deleted")),
        (created, "/cursor", json!(41)),
        (created, "/timestamp", json!("yesterday")),
        (created, "/timestamp", json!("2026-11-22")),
        (created, "/timestamp", json!("2026-13-22T10:00:00.000Z")),
        (created, "/traceparent", json!("00-1-2-01")),
        (created, "/traceparent", json!(null)),
        (created, "/data", json!([])),
        (created, "/data/task_id", json!("7")),
        (created, "/data/version", json!("1")),
        (created, "/data/version", json!(-1)),
        (created, "/data/repository", json!("a b")),
        (created, "/data/repository", json!("github.com/acme/*")),
        (created, "/data/repository", json!("")),
        (created, "/data/repository", json!("a".repeat(256))),
        (created, "/data/task/status", json!(null)),
        (created, "/data/task/tags", json!("home")),
        (created, "/data/task/tags", json!([1])),
        (created, "/data/task/updated_at", json!(0)),
        ("server.task.updated.json", "/data/changes", json!({"status": "done"})),
        ("server.task.updated.json", "/data/changes/status", json!({"truncated": "yes"})),
        ("server.subscribed.live.json", "/data/accepted", json!(["a*"])),
        ("server.subscribed.live.json", "/data/mode", json!(1)),
        ("server.ping.json", "/data/delivered", json!(1.5)),
        ("server.close.json", "/data/code", json!(7)),
        ("server.welcome.json", "/data/protocol", json!(65536)),
        ("server.welcome.json", "/data/connection_id", json!("me")),
        ("server.snapshot.json", "/data/first", json!("yes")),
        ("server.error.json", "/data/retry_after_ms", json!("soon")),
    ];
    for (vector, path, value) in wrong {
        let frame = spoilt(vector, path, Some(value.clone()));
        assert!(!schema.is_valid(&frame), "{vector} with {path} {value}");
    }
}

/// In this direction both judge the same, so the reader is the measure.
#[test]
fn what_a_server_reads_is_what_the_schema_allows() {
    let schema = validator("ClientFrame");
    let values = [
        Some(json!(null)),
        Some(json!(7)),
        Some(json!(-1)),
        Some(json!(true)),
        Some(json!("")),
        Some(json!("a b")),
        Some(json!("live")),
        Some(json!("a/*")),
        Some(json!("2026-11-22T10:00:00+01:00")),
        Some(json!("x".repeat(129))),
        Some(json!([])),
        Some(json!(["a/*", "*"])),
        Some(json!(["*/a"])),
        Some(json!(["task.deleted"])),
        Some(json!(["task.archived"])),
        Some(json!({})),
        None,
    ];
    let (mut allowed, mut refused) = (0, 0);
    for (name, vector) in vectors("client") {
        let of = |prefix: &str, fields: Option<&Value>| -> Vec<String> {
            let fields = fields.and_then(Value::as_object).into_iter().flatten();
            fields.map(|(field, _)| format!("{prefix}/{field}")).collect()
        };
        for path in [of("", Some(&vector)), of("/data", vector.get("data"))].concat() {
            for value in &values {
                let mut frame = vector.clone();
                replace(&mut frame, &path, value.clone());
                let read = ClientFrame::decode(&frame.to_string())
                    .is_ok_and(|frame| !matches!(frame.message, ClientMessage::Unknown(_)));
                assert_eq!(schema.is_valid(&frame), read, "{name}: {frame}");
                *(if read { &mut allowed } else { &mut refused }) += 1;
            }
        }
    }
    assert!(allowed > 50 && refused > 50, "{allowed} allowed, {refused} refused");
}

fn name() -> impl Strategy<Value = RepositoryName> {
    "[A-Za-z0-9][A-Za-z0-9._/@:+~-]{0,254}".prop_map(|name| name.parse().unwrap())
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let prefix = "[A-Za-z0-9][A-Za-z0-9._/@:+~-]{0,253}/\\*";
    prop_oneof![
        Just(Pattern::All),
        name().prop_map(Pattern::Exact),
        prefix.prop_map(|pattern| pattern.parse().unwrap()),
    ]
}

fn patterns() -> impl Strategy<Value = Vec<Pattern>> {
    prop::collection::vec(pattern(), 0..4)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_unix_millis)
}

fn cursor() -> impl Strategy<Value = Cursor> {
    ".{0,40}".prop_map(Cursor::new)
}

/// A word that is known, or one of a newer version.
fn word<W: Clone + std::fmt::Debug + for<'a> From<&'a str>>(
    known: &'static [W],
) -> impl Strategy<Value = W> {
    prop_oneof![prop::sample::select(known), ".{0,9}".prop_map(|word| W::from(&word))]
}

fn task() -> impl Strategy<Value = Task> {
    let words = (word(Status::KNOWN), word(Priority::KNOWN));
    let texts =
        (".{0,20}", ".{0,300}", prop::option::of(".{0,9}"), prop::collection::vec(".", 0..3));
    (any::<u128>(), name(), texts, words, time(), time(), 1..u64::MAX).prop_map(
        |(id, repository, texts, (status, priority), created_at, updated_at, version)| {
            let (title, description, assignee, tags) = texts;
            let id = Uuid::from_u128(id);
            Task {
                id,
                repository,
                title,
                description,
                status,
                priority,
                assignee,
                tags,
                created_at,
                updated_at,
                version,
            }
        },
    )
}

fn event() -> impl Strategy<Value = TaskEvent> {
    prop_oneof![
        (task(), ".{0,9}").prop_map(|(task, by)| TaskEvent::created(task, by)),
        (task(), task(), ".{0,9}").prop_map(|(from, to, by)| TaskEvent::updated(&from, to, by)),
        (task(), ".{0,9}").prop_map(|(task, by)| TaskEvent::deleted(task, by)),
    ]
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    let number = || prop::option::of(any::<u64>());
    let code = || word(taskwatch_protocol::ErrorCode::KNOWN);
    let denied = (pattern(), code()).prop_map(|(repository, code)| Denied { repository, code });
    let denied = prop::collection::vec(denied, 0..3);
    let reason = prop::option::of(word(ResetReason::KNOWN));
    let head = || prop::option::of(cursor());
    prop_oneof![
        event().prop_map(ServerMessage::Task),
        number().prop_map(|delivered| {
            ServerMessage::Ping(Heartbeat { delivered, ..Heartbeat::default() })
        }),
        (number(), head())
            .prop_map(|(delivered, head)| { ServerMessage::Pong(Heartbeat { delivered, head }) }),
        (".{0,20}", code(), any::<bool>(), number()).prop_map(
            |(message, code, retryable, retry_after_ms)| {
                ServerMessage::Error(ErrorMessage { message, code, retryable, retry_after_ms })
            }
        ),
        (any::<[u64; 4]>(), any::<u16>(), ".{0,9}", any::<u128>(), number()).prop_map(
            |([bytes, some, all, heartbeat_ms], protocol, server, id, token_expires_in_ms)| {
                let limits = Limits {
                    max_message_bytes: bytes,
                    max_patterns_per_message: some,
                    max_patterns: all,
                };
                let connection_id = Uuid::from_u128(id);
                ServerMessage::Welcome(Welcome {
                    protocol,
                    server,
                    connection_id,
                    heartbeat_ms,
                    limits,
                    token_expires_in_ms,
                })
            }
        ),
        (patterns(), denied, word(Mode::KNOWN), reason, head()).prop_map(
            |(accepted, denied, mode, reason, head)| {
                ServerMessage::Subscribed(Subscribed { accepted, denied, mode, reason, head })
            }
        ),
        (patterns(), head()).prop_map(|(accepted, head)| {
            ServerMessage::Unsubscribed(Unsubscribed { accepted, head })
        }),
        (patterns(), prop::collection::vec(task(), 0..3), any::<bool>(), any::<bool>()).prop_map(
            |(repositories, tasks, first, last)| {
                ServerMessage::Snapshot(Snapshot { repositories, tasks, first, last })
            }
        ),
        (".{0,9}", number()).prop_map(|(subject, token_expires_in_ms)| {
            ServerMessage::Authenticated(Authenticated { subject, token_expires_in_ms })
        }),
        "[A-Z]{1,9}".prop_map(|kind| ServerMessage::Unknown(Unknown { kind, data: None })),
    ]
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    let on_gap = prop::option::of(prop::sample::select(OnGap::KNOWN));
    let kinds = prop::option::of(prop::sample::subsequence(EventKind::KNOWN, 0..=3));
    let from =
        (prop::option::of(cursor()), prop::option::of(time()), prop::option::of(1..=MAX_TAIL));
    prop_oneof![
        Just(ClientMessage::Ping),
        Just(ClientMessage::Pong),
        (patterns(), from, on_gap, any::<bool>(), kinds).prop_map(
            |(repositories, (since, since_time, tail), on_gap, snapshot, types)| {
                ClientMessage::Subscribe(Subscribe {
                    repositories,
                    since,
                    since_time,
                    tail,
                    on_gap,
                    snapshot,
                    types,
                })
            }
        ),
        patterns()
            .prop_map(|repositories| ClientMessage::Unsubscribe(Unsubscribe { repositories })),
        ".{0,20}".prop_map(|token| ClientMessage::Auth(Auth { token })),
    ]
}

fn check(schema: &Validator, text: &str) -> Result<(), TestCaseError> {
    let frame = serde_json::from_str(text).unwrap();
    let valid = schema.validate(&frame);
    prop_assert!(valid.is_ok(), "{text}: {valid:?}");
    Ok(())
}

#[test]
fn whatever_a_server_writes_is_a_frame() {
    let schema = validator("ServerFrame");
    let id = prop::option::of(".{0,9}");
    proptest!(|(message in server_message(), at in time(), cursor in cursor(), id in id)| {
        check(&schema, &ServerFrame::new(message).at(at).cursor(cursor).id(id).encode())?;
    });
}

#[test]
fn whatever_a_client_writes_is_a_frame() {
    let schema = validator("ClientFrame");
    let id = prop::option::of("[a-z0-9]{0,128}");
    proptest!(|(message in client_message(), id in id)| {
        check(&schema, &ClientFrame::new(message).id(id).encode())?;
    });
}

#[test]
fn names_and_patterns_are_what_the_code_reads() {
    let (names, patterns) = (validator("RepositoryName"), validator("Pattern"));
    let check = |text: &str| {
        let read = (text.parse::<RepositoryName>().is_ok(), text.parse::<Pattern>().is_ok());
        let text = Value::from(text);
        assert_eq!((names.is_valid(&text), patterns.is_valid(&text)), read, "{text}");
    };
    for length in [253, 254, 255, 256, 257] {
        for end in ["", "/*", "/", "*"] {
            check(&format!("{}{end}", "a".repeat(length - end.len())));
        }
    }
    proptest!(|(text in "[aZ0._/@:+~* \n\u{e9}>-]{0,6}")| check(&text));
}
