//! The golden frames in `vectors/`: one file per type and direction, named `server.*` or `client.*`.
#![expect(clippy::unwrap_used, reason = "a vector that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use taskwatch_protocol::{
    ClientFrame, ClientMessage, EventKind, Mode, OnGap, ResetReason, ServerFrame, ServerMessage,
};

/// The text of every vector whose file name starts with `direction`, without the final newline.
fn vectors(direction: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.ends_with(".json"), "{name} is no vector");
        assert!(name.starts_with("server.") || name.starts_with("client."), "whose is {name}?");
        if name.starts_with(direction) {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((name, text.trim_end().to_owned()));
        }
    }
    assert!(!found.is_empty());
    found
}

fn kind_of(text: &str) -> String {
    let frame: Value = serde_json::from_str(text).unwrap();
    frame["type"].as_str().unwrap().to_owned()
}

/// The types among the vectors, and whether each was read as a type this version knows.
fn expect_one_of_each(direction: &str, types: &[&str], known: impl Fn(&str) -> bool) {
    let mut seen = BTreeSet::new();
    let mut unknown = 0;
    for (name, text) in vectors(direction) {
        let kind = kind_of(&text);
        assert!(name.starts_with(&format!("{direction}.{kind}.")) || !known(&text), "{name}");
        assert_eq!(known(&text), types.contains(&&*kind), "{name}: {kind} in TYPES, in decode?");
        unknown += usize::from(!known(&text));
        seen.insert(kind);
    }
    for kind in types {
        assert!(seen.contains(*kind), "add vectors/{direction}.{kind}.json");
    }
    assert!(unknown > 0, "a vector of an unknown type is missing");
}

#[test]
fn every_vector_of_a_server_is_read_and_written_again_byte_by_byte() {
    for (name, text) in vectors("server") {
        let frame = ServerFrame::decode(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(frame.encode(), text, "{name}");
    }
}

#[test]
fn every_vector_of_a_client_is_read_and_written_again_byte_by_byte() {
    for (name, text) in vectors("client") {
        let frame = ClientFrame::decode(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(frame.encode(), text, "{name}");
    }
}

#[test]
fn every_type_has_a_vector() {
    expect_one_of_each("server", ServerMessage::TYPES, |text| {
        !matches!(ServerFrame::decode(text).unwrap().message, ServerMessage::Unknown(_))
    });
    expect_one_of_each("client", ClientMessage::TYPES, |text| {
        !matches!(ClientFrame::decode(text).unwrap().message, ClientMessage::Unknown(_))
    });
}

#[test]
fn every_kind_of_event_is_a_type() {
    for kind in EventKind::KNOWN {
        assert!(ServerMessage::TYPES.contains(&kind.as_str()), "{kind}");
    }
}

/// What a newer peer may add is skipped, in the envelope and in `data`.
#[test]
fn unknown_fields_change_nothing() {
    let extended = |text: &str| {
        let mut frame: Value = serde_json::from_str(text).unwrap();
        frame["later"] = json!({"deep": [1, null]});
        if let Some(data) = frame.get_mut("data") {
            data["later"] = json!("more");
        }
        frame.to_string()
    };
    for (name, text) in vectors("server") {
        let frame = ServerFrame::decode(&text).unwrap();
        if !matches!(frame.message, ServerMessage::Unknown(_)) {
            assert_eq!(ServerFrame::decode(&extended(&text)).unwrap(), frame, "{name}");
        }
    }
    for (name, text) in vectors("client") {
        let frame = ClientFrame::decode(&text).unwrap();
        if !matches!(frame.message, ClientMessage::Unknown(_)) {
            assert_eq!(ClientFrame::decode(&extended(&text)).unwrap(), frame, "{name}");
        }
    }
}

/// A trace is for those who know of it, and one that is none is no reason to refuse an event.
#[test]
fn an_event_with_a_trace_is_the_event_without_one() {
    let vector = |name: &str| vectors("server").into_iter().find(|(of, _)| of == name).unwrap().1;
    let text = vector("server.task.created.traced.json");
    let mut traced = ServerFrame::decode(&text).unwrap();
    let trace = traced.traceparent.take().unwrap();
    let plain = ServerFrame::decode(&vector("server.task.created.json")).unwrap();
    assert_eq!(traced, plain);
    // To a client that is older than the field it is any other name that it does not know.
    let unknown = text.replace("\"traceparent\"", "\"tracestate\"");
    assert_eq!(ServerFrame::decode(&unknown).unwrap(), plain);
    for none in ["\"\"", "\"01-a\"", "null", "7", "{\"a\":[]}"] {
        let text = text.replace(&format!("\"{trace}\""), none);
        assert_eq!(ServerFrame::decode(&text).unwrap(), plain, "{none}");
    }
    assert!(ClientFrame::decode(r#"{"type":"ping","traceparent":7}"#).is_ok());
}

/// The words a subscription can begin with are all shown, except the two whose frames follow
/// the shape of another.
#[test]
fn the_vectors_show_how_a_subscription_begins() {
    let mut modes = BTreeSet::new();
    let mut reasons = BTreeSet::new();
    for (_, text) in vectors("server") {
        if let ServerMessage::Subscribed(data) = ServerFrame::decode(&text).unwrap().message {
            modes.insert(data.mode.to_string());
            reasons.extend(data.reason.map(|reason| reason.to_string()));
        }
    }
    for mode in [Mode::Live, Mode::Resumed, Mode::Reset] {
        assert!(modes.contains(mode.as_str()), "{mode}");
    }
    for reason in [ResetReason::Expired, ResetReason::Incarnation] {
        assert!(reasons.contains(reason.as_str()), "{reason}");
    }
}

#[test]
fn what_a_client_may_leave_out_has_its_default() {
    let text = r#"{"type":"subscribe","data":{"repositories":["foo"]}}"#;
    let ClientMessage::Subscribe(data) = ClientFrame::decode(text).unwrap().message else {
        panic!("not a subscribe")
    };
    assert_eq!((data.since, data.on_gap, data.types, data.snapshot), (None, None, None, false));
    assert!(OnGap::KNOWN.contains(&OnGap::Error));
}
