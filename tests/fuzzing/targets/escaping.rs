//! What the watcher prints of texts that others wrote.

use serde_json::{Value, json};
use taskwatch_cli::fuzzing::{event_line, json_line, log_line, status_lines, visible};
use taskwatch_protocol::{ServerFrame, ServerMessage};

use super::is_hazard;

/// A text. If it is JSON, or an event, it is also taken as such.
pub(crate) fn escaping(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    shown(text);
    let value = json!({ "type": text, text: [text, { text: text }] });
    for json in [value.to_string(), format!("{value:#}")] {
        printed(&json);
    }
    if serde_json::from_str::<Value>(text).is_ok() {
        printed(text);
    }
    if let Ok(frame) = ServerFrame::decode(text) {
        line(&frame);
    }
    for frame in frames(text) {
        line(&ServerFrame::decode(&frame.to_string()).expect("a frame"));
    }
    for line in status_lines(text) {
        harmless(&line);
    }
    logged(input);
}

/// Each character is itself, or its number.
fn shown(text: &str) {
    let shown = visible(text);
    harmless(&shown);
    let mut rest = &*shown;
    for c in text.chars() {
        let number = format!("\\u{{{:x}}}", c as u32);
        let after = if is_hazard(c) { None } else { rest.strip_prefix(c) };
        rest = after.or_else(|| rest.strip_prefix(&*number)).expect("each character in its place");
        assert!(after.is_some() || !c.is_alphanumeric() || !c.is_ascii(), "{c:?} can be shown");
    }
    assert_eq!(rest, "");
}

/// A program reads the same value from the line.
fn printed(json: &str) {
    let line = json_line(json);
    harmless(&line);
    let value: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value, serde_json::from_str::<Value>(json).expect("JSON"), "{line}");
}

fn line(frame: &ServerFrame) {
    if let ServerMessage::Task(event) = &frame.message {
        harmless(&event_line(event, frame.timestamp));
    }
}

/// Events that hold the text wherever a text may stand.
fn frames(text: &str) -> [Value; 3] {
    const ID: &str = "0192f0c1-2b3c-7def-8a9b-0c1d2e3f4a5b";
    let task = json!({
        "id": ID, "repository": "acme/api", "title": text, "description": text, "status": text,
        "priority": text, "assignee": text, "tags": [text, text], "version": 1,
        "created_at": "2026-11-22T14:03:22Z", "updated_at": "2026-11-22T14:03:22Z",
    });
    let changes = json!({ text: { "from": text, "to": [text, { text: text }] } });
    let event = |kind: &str, field: &str| {
        json!({ "type": kind, "data": {
            "task_id": ID, "repository": "acme/api", "version": 2, "changed_by": text,
            field: task, "changes": changes,
        }})
    };
    [
        event("task.created", "task"),
        event("task.updated", "task"),
        event("task.deleted", "previous"),
    ]
}

/// One line, whatever is logged.
fn logged(bytes: &[u8]) {
    let log = String::from_utf8(log_line(&[bytes, b"\n"].concat())).expect("a text");
    harmless(log.strip_suffix('\n').expect("a line"));
}

fn harmless(line: &str) {
    assert!(!line.contains(is_hazard), "{line:?}");
}
