//! Frames as text over plain HTTP: an event stream for browsers and their like, and lines of JSON
//! for programs. The envelope is the same as on a WebSocket, byte for byte.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use taskwatch_protocol::CloseReason;

use crate::hub::Stop;

/// What a browser sends back when nothing is to be had any more. No cursor looks like it.
pub(super) const END: &str = "end";

/// A browser has no backoff of its own: it would come back to a server that is away as often as it can.
pub(super) const MIN_RETRY_MS: u64 = 1_000;

/// How frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `text/event-stream`
    EventStream,
    /// `application/jsonl`
    Lines,
}

/// The part of an envelope that an event stream says once more.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    cursor: Option<Cow<'a, str>>,
}

/// What a close frame says on a WebSocket.
#[derive(Serialize)]
struct Close<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    data: CloseData<'a>,
}

#[derive(Serialize)]
struct CloseData<'a> {
    code: u16,
    word: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

const CLOSE: &str = "close";

impl Encoding {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::EventStream => "text/event-stream",
            Self::Lines => "application/jsonl",
        }
    }

    /// What comes first: how long a browser waits before it comes back after a cut. It also shows
    /// whether something on the way holds back what is not complete.
    pub(super) fn put_start(self, out: &mut Vec<u8>, retry_ms: u64) {
        if self == Self::EventStream {
            put_field(out, "retry", &retry_ms.to_string());
            out.push(b'\n');
        }
    }

    /// Puts an envelope.
    pub(super) fn put(self, out: &mut Vec<u8>, envelope: &[u8]) {
        match self {
            Self::EventStream => {
                let head = serde_json::from_slice(envelope).ok();
                let head = head.map(|Head { kind, cursor }| (kind, cursor));
                let (kind, cursor) = head.unwrap_or_default();
                put_event(out, cursor.as_deref(), &kind, envelope);
            }
            Self::Lines => put_line(out, envelope),
        }
    }

    /// Puts an envelope after which nothing comes, and nothing would if it were asked for again.
    pub(super) fn put_last(self, out: &mut Vec<u8>, envelope: &[u8]) {
        match self {
            Self::EventStream => {
                let kind = serde_json::from_slice(envelope).map(|Head { kind, .. }| kind);
                put_event(out, Some(END), &kind.unwrap_or_default(), envelope);
            }
            Self::Lines => put_line(out, envelope),
        }
    }

    /// Puts what means nothing.
    pub(super) fn put_nothing(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::EventStream => b":\n\n",
            Self::Lines => b"\n",
        });
    }

    /// Puts why it ends.
    pub(super) fn put_close(self, out: &mut Vec<u8>, stop: Stop) {
        let CloseReason { word, retry_after_ms } = stop.reason();
        let data = CloseData { code: stop.code.code(), word: &word, retry_after_ms };
        // Numbers and words of our own are always JSON.
        let envelope = serde_json::to_vec(&Close { kind: CLOSE, data }).unwrap_or_default();
        match self {
            Self::EventStream => {
                if let Some(millis) = retry_after_ms {
                    put_field(out, "retry", &millis.max(MIN_RETRY_MS).to_string());
                }
                put_event(out, None, CLOSE, &envelope);
            }
            Self::Lines => put_line(out, &envelope),
        }
    }
}

fn put_event(out: &mut Vec<u8>, id: Option<&str>, kind: &str, envelope: &[u8]) {
    if let Some(id) = id {
        put_field(out, "id", id);
    }
    put_field(out, "event", kind);
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(envelope);
    out.extend_from_slice(b"\n\n");
}

/// A value that cannot stand in one line is none of ours.
fn put_field(out: &mut Vec<u8>, name: &str, value: &str) {
    if value.is_empty() || value.contains(['\r', '\n', '\0']) {
        return;
    }
    for part in [name, ": ", value, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn put_line(out: &mut Vec<u8>, envelope: &[u8]) {
    out.extend_from_slice(envelope);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskwatch_protocol::CloseCode;

    fn text(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = vec![];
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_has_its_cursor_its_type_and_the_envelope_as_it_is() {
        let envelope =
            r#"{"data":{"type":"x","cursor":"y"}, "type":"task.created","cursor":"c1-7"}"#;
        let stream = text(|out| Encoding::EventStream.put(out, envelope.as_bytes()));
        assert_eq!(stream, format!("id: c1-7\nevent: task.created\ndata: {envelope}\n\n"));
        let lines = text(|out| Encoding::Lines.put(out, envelope.as_bytes()));
        assert_eq!(lines, format!("{envelope}\n"));
    }

    #[test]
    fn what_has_no_cursor_has_no_id() {
        let envelope = br#"{"type":"snapshot","data":{"last":false}}"#;
        let stream = text(|out| Encoding::EventStream.put(out, envelope));
        assert!(stream.starts_with("event: snapshot\ndata: {"), "{stream}");
    }

    #[test]
    fn no_text_of_a_task_makes_a_line_of_its_own() {
        let title = "a\nid: forged\r\rdata: x\u{2028}\u{85}";
        let envelope = serde_json::json!({"type": "task.created", "data": {"title": title}});
        let envelope = envelope.to_string();
        let stream = text(|out| Encoding::EventStream.put(out, envelope.as_bytes()));
        assert_eq!(stream.split(['\r', '\n']).filter(|line| !line.is_empty()).count(), 2);
        assert!(stream.contains(&format!("\ndata: {envelope}\n")));
        // Nor does a type or a cursor, whoever made it.
        let envelope = serde_json::json!({"type": "a\nid: x", "cursor": "b\rid: y"}).to_string();
        let stream = text(|out| Encoding::EventStream.put(out, envelope.as_bytes()));
        assert_eq!(stream, format!("data: {envelope}\n\n"));
    }

    #[test]
    fn the_start_the_end_and_nothing() {
        assert_eq!(text(|out| Encoding::EventStream.put_start(out, 1234)), "retry: 1234\n\n");
        assert_eq!(text(|out| Encoding::Lines.put_start(out, 1234)), "");
        assert_eq!(text(|out| Encoding::EventStream.put_nothing(out)), ":\n\n");
        let envelope = br#"{"type":"subscribed","cursor":"c1-7"}"#;
        let last = text(|out| Encoding::EventStream.put_last(out, envelope));
        assert!(last.starts_with("id: end\nevent: subscribed\ndata: {"), "{last}");
    }

    #[test]
    fn a_close_says_what_a_close_frame_says() {
        let stop = Stop { retry_after_ms: Some(1500), ..Stop::new(CloseCode::Restart) };
        let json =
            r#"{"type":"close","data":{"code":1012,"word":"restart","retry_after_ms":1500}}"#;
        let stream = text(|out| Encoding::EventStream.put_close(out, stop));
        assert_eq!(stream, format!("retry: 1500\nevent: close\ndata: {json}\n\n"));
        assert_eq!(text(|out| Encoding::Lines.put_close(out, stop)), format!("{json}\n"));
        let at_once = Stop { retry_after_ms: Some(0), ..stop };
        let stream = text(|out| Encoding::EventStream.put_close(out, at_once));
        assert!(stream.starts_with("retry: 1000\n"), "{stream}");
        let stream =
            text(|out| Encoding::EventStream.put_close(out, Stop::new(CloseCode::Rebalance)));
        let json = r#"{"type":"close","data":{"code":4201,"word":"rebalance"}}"#;
        assert_eq!(stream, format!("event: close\ndata: {json}\n\n"));
    }
}
