//! The envelope that every message travels in, to text and back.

mod depth;
mod event;

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::depth::depth;
use crate::message::{ErrorData, ErrorMessage, Unknown};
use crate::task::{TaskEvent, TaskEventData};
use crate::{
    ClientMessage, Cursor, ErrorCode, EventKind, InvalidName, Pattern, ServerMessage, Subscribe,
    Timestamp, Traceparent, Unsubscribe,
};

/// A message with what the envelope says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<M> {
    /// The message: `type`, `data` and `error`.
    pub message: M,
    /// When it was sent; a client may leave it out.
    pub timestamp: Option<Timestamp>,
    /// The position in the log behind this frame.
    pub cursor: Option<Cursor>,
    /// Chosen by the client, echoed in the reply.
    pub id: Option<String>,
    /// On a task event: the trace of the request that made the change.
    pub traceparent: Option<Traceparent>,
}

/// What a server sends.
pub type ServerFrame = Envelope<ServerMessage>;
/// What a client sends.
pub type ClientFrame = Envelope<ClientMessage>;

/// A frame that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// The word for the reply.
    pub code: ErrorCode,
    /// The text for the reply.
    pub message: String,
    /// The frame's `id`, if that much could be read.
    pub id: Option<String>,
}

/// How deep JSON from a client may nest.
pub const MAX_DEPTH: usize = 16;

/// Bytes of a client's `id`: it is kept until the reply, and sent back.
pub(crate) const MAX_ID_BYTES: usize = 128;
/// A longer `since` is as malformed as an empty one.
const MAX_CURSOR_BYTES: usize = 128;

#[derive(Serialize, Deserialize)]
struct Wire<'a, D> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<Cursor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(
        default,
        deserialize_with = "crate::traceparent::lenient",
        skip_serializing_if = "Option::is_none"
    )]
    traceparent: Option<Traceparent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<D>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
}

impl<M> Envelope<M> {
    /// A message alone.
    #[must_use]
    pub fn new(message: M) -> Self {
        Self { message, timestamp: None, cursor: None, id: None, traceparent: None }
    }

    /// With the time it was sent.
    #[must_use]
    pub fn at(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// With a position.
    #[must_use]
    pub fn cursor(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.cursor = cursor.into();
        self
    }

    /// With a request id.
    #[must_use]
    pub fn id(mut self, id: impl Into<Option<String>>) -> Self {
        self.id = id.into();
        self
    }

    /// With the trace of the request that made the change.
    #[must_use]
    pub fn traceparent(mut self, traceparent: impl Into<Option<Traceparent>>) -> Self {
        self.traceparent = traceparent.into();
        self
    }

    fn write<D: Serialize>(&self, kind: &str, data: Option<D>, error: Option<&str>) -> String {
        let wire = Wire {
            kind: kind.into(),
            timestamp: self.timestamp,
            cursor: self.cursor.clone(),
            id: self.id.clone(),
            traceparent: self.traceparent.clone(),
            data,
            error: error.map(Into::into),
        };
        #[expect(clippy::expect_used, reason = "string keys and infallible Serialize impls only")]
        serde_json::to_string(&wire).expect("an envelope is always JSON")
    }
}

const NO_DATA: Option<()> = None;

impl Envelope<&TaskEvent> {
    /// The text that goes on the wire, around the JSON of the event's task.
    #[must_use]
    pub fn encode_around(&self, task: &RawValue) -> String {
        self.write(self.message.kind().as_str(), Some(self.message.data(task)), None)
    }
}

impl ServerFrame {
    /// The text that goes on the wire.
    #[must_use]
    pub fn encode(&self) -> String {
        match &self.message {
            ServerMessage::Task(event) => self.write(event.kind().as_str(), Some(event), None),
            ServerMessage::Ping(data) => self.write("ping", Some(data), None),
            ServerMessage::Pong(data) => self.write("pong", Some(data), None),
            ServerMessage::Error(error) => {
                self.write("error", Some(error.data()), Some(&error.message))
            }
            ServerMessage::Welcome(data) => self.write("welcome", Some(data), None),
            ServerMessage::Subscribed(data) => self.write("subscribed", Some(data), None),
            ServerMessage::Unsubscribed(data) => self.write("unsubscribed", Some(data), None),
            ServerMessage::Snapshot(data) => self.write("snapshot", Some(data), None),
            ServerMessage::Authenticated(data) => self.write("authenticated", Some(data), None),
            ServerMessage::Unknown(unknown) => {
                self.write(&unknown.kind, unknown.data.as_ref(), None)
            }
        }
    }

    /// Reads a frame from a server.
    ///
    /// # Errors
    /// If the text is not an envelope, or its `data` does not fit its `type`.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        if let Some(event) = event::read(text) {
            return Ok(event);
        }
        Self::decode_any(text)
    }

    /// In two steps: what stands around `data`, then `data` by its type.
    fn decode_any(text: &str) -> Result<Self, DecodeError> {
        let wire: Wire<'_, &RawValue> = parse(text)?;
        let message = match &*wire.kind {
            "task.created" | "task.updated" | "task.deleted" => {
                let kind = EventKind::from(&*wire.kind);
                let event = wire.data::<TaskEventData<_>>()?.into_event(&kind);
                ServerMessage::Task(event.map_err(|problem| wire.bad(problem))?)
            }
            // The original contract sends `ping` without data.
            "ping" => ServerMessage::Ping(wire.data_or_default()?),
            "pong" => ServerMessage::Pong(wire.data_or_default()?),
            "error" => {
                let data = wire.data.map(|_| wire.data::<ErrorData>()).transpose()?;
                let text = wire.error.as_deref().unwrap_or_default().to_owned();
                ServerMessage::Error(ErrorMessage::from_parts(text, data))
            }
            "welcome" => ServerMessage::Welcome(wire.data()?),
            "subscribed" => ServerMessage::Subscribed(wire.data()?),
            "unsubscribed" => ServerMessage::Unsubscribed(wire.data()?),
            "snapshot" => ServerMessage::Snapshot(wire.data()?),
            "authenticated" => ServerMessage::Authenticated(wire.data()?),
            _ => ServerMessage::Unknown(wire.unknown()?),
        };
        Ok(wire.into_envelope(message))
    }
}

impl ClientFrame {
    /// The text that goes on the wire.
    #[must_use]
    pub fn encode(&self) -> String {
        match &self.message {
            ClientMessage::Ping => self.write("ping", NO_DATA, None),
            ClientMessage::Pong => self.write("pong", NO_DATA, None),
            ClientMessage::Subscribe(data) => self.write("subscribe", Some(data), None),
            ClientMessage::Unsubscribe(data) => self.write("unsubscribe", Some(data), None),
            ClientMessage::Auth(data) => self.write("auth", Some(data), None),
            ClientMessage::Unknown(unknown) => {
                self.write(&unknown.kind, unknown.data.as_ref(), None)
            }
        }
    }

    /// Reads a frame from a client, who is not trusted.
    ///
    /// # Errors
    /// `bad_message` if the text is not an envelope, nests deeper than [`MAX_DEPTH`], or has
    /// `data` that does not fit its `type`; `invalid_name` if a repository's name is at fault.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        if depth(text) > MAX_DEPTH {
            let message = format!("JSON nests deeper than {MAX_DEPTH}");
            return Err(DecodeError { code: ErrorCode::BadMessage, message, id: None });
        }
        let wire: Wire<'_, &RawValue> = parse(text)?;
        if wire.id.as_ref().is_some_and(|id| id.len() > MAX_ID_BYTES) {
            let message = format!("the id is longer than {MAX_ID_BYTES} bytes");
            return Err(DecodeError { code: ErrorCode::BadMessage, message, id: None });
        }
        let message = match &*wire.kind {
            "ping" => ClientMessage::Ping,
            "pong" => ClientMessage::Pong,
            "subscribe" => {
                let data: SubscribeData = wire.data()?;
                ClientMessage::Subscribe(data.check().map_err(|problem| problem.into_error(&wire))?)
            }
            "unsubscribe" => {
                let data: UnsubscribeData = wire.data()?;
                let repositories = patterns(&data.repositories).map_err(|p| p.into_error(&wire))?;
                ClientMessage::Unsubscribe(Unsubscribe { repositories })
            }
            "auth" => ClientMessage::Auth(wire.data()?),
            _ => ClientMessage::Unknown(wire.unknown()?),
        };
        Ok(wire.into_envelope(message))
    }
}

/// `data` of `subscribe` before its words were checked, so that a bad name is told from bad JSON.
#[derive(Deserialize)]
struct SubscribeData {
    repositories: Vec<String>,
    #[serde(default)]
    since: Option<Cursor>,
    #[serde(default)]
    since_time: Option<Timestamp>,
    #[serde(default)]
    tail: Option<u32>,
    #[serde(default)]
    on_gap: Option<crate::OnGap>,
    #[serde(default)]
    snapshot: bool,
    #[serde(default)]
    types: Option<Vec<EventKind>>,
}

#[derive(Deserialize)]
struct UnsubscribeData {
    repositories: Vec<String>,
}

enum Problem {
    Name(String, InvalidName),
    Word(&'static str, String),
}

impl Problem {
    fn into_error<D>(self, wire: &Wire<'_, D>) -> DecodeError {
        let (code, message) = match self {
            // The name is shown quoted and escaped: it may hold anything.
            Self::Name(name, problem) => {
                let shown: String = name.chars().take(64).collect();
                (ErrorCode::InvalidName, format!("{shown:?} is no repository name: {problem}"))
            }
            Self::Word(field, word) => {
                let shown: String = word.chars().take(64).collect();
                (ErrorCode::BadMessage, format!("{field} does not know {shown:?}"))
            }
        };
        DecodeError { code, message, id: wire.id.clone() }
    }
}

fn patterns(names: &[String]) -> Result<Vec<Pattern>, Problem> {
    let pattern =
        |name: &String| name.parse().map_err(|problem| Problem::Name(name.clone(), problem));
    names.iter().map(pattern).collect()
}

impl SubscribeData {
    fn check(self) -> Result<Subscribe, Problem> {
        if let Some(on_gap) = self.on_gap.as_ref().filter(|word| !word.is_known()) {
            return Err(Problem::Word("on_gap", on_gap.to_string()));
        }
        let kinds = self.types.iter().flatten();
        if let Some(kind) = kinds.into_iter().find(|kind| !kind.is_known()) {
            return Err(Problem::Word("types", kind.to_string()));
        }
        // Kept until it is answered, so it is kept short: no cursor of a server is longer.
        let short = |cursor: &Cursor| cursor.as_str().len() <= MAX_CURSOR_BYTES;
        let since = self.since.map(|cursor| if short(&cursor) { cursor } else { Cursor::new("") });
        let types = self.types.map(|kinds| {
            let known = EventKind::KNOWN.iter();
            known.filter(|kind| kinds.contains(kind)).cloned().collect()
        });
        Ok(Subscribe {
            repositories: patterns(&self.repositories)?,
            since,
            since_time: self.since_time,
            tail: self.tail,
            on_gap: self.on_gap,
            snapshot: self.snapshot,
            types,
        })
    }
}

/// What serde says repeats what it read, which may be half a megabyte or a token: only its start
/// goes back.
fn short(problem: impl std::fmt::Display) -> String {
    let text = problem.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Whether JSON is an object: serde would also take a list for the fields in their order.
fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{')
}

fn parse(text: &str) -> Result<Wire<'_, &RawValue>, DecodeError> {
    let bad = |problem: &dyn std::fmt::Display| DecodeError {
        code: ErrorCode::BadMessage,
        message: format!("not an envelope: {}", short(problem)),
        id: None,
    };
    let wire = serde_json::from_str(text).map_err(|problem| bad(&problem))?;
    if is_object(text) { Ok(wire) } else { Err(bad(&"a list")) }
}

impl Wire<'_, &RawValue> {
    fn bad(&self, problem: impl std::fmt::Display) -> DecodeError {
        let kind: String = self.kind.chars().take(64).collect();
        DecodeError {
            code: ErrorCode::BadMessage,
            message: format!("data of {kind:?}: {}", short(problem)),
            id: self.id.clone(),
        }
    }

    fn data<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        let raw = self.data.ok_or_else(|| self.bad("is missing"))?;
        if !is_object(raw.get()) {
            return Err(self.bad("is not an object"));
        }
        serde_json::from_str(raw.get()).map_err(|problem| self.bad(problem))
    }

    fn data_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, DecodeError> {
        self.data.map_or_else(|| Ok(T::default()), |_| self.data())
    }

    fn unknown(&self) -> Result<Unknown, DecodeError> {
        let read = |raw: &RawValue| serde_json::from_str(raw.get());
        let data = self.data.map(read).transpose().map_err(|problem| self.bad(problem))?;
        Ok(Unknown { kind: self.kind.clone().into_owned(), data })
    }

    fn into_envelope<M>(self, message: M) -> Envelope<M> {
        let Self { timestamp, cursor, id, traceparent, .. } = self;
        Envelope { message, timestamp, cursor, id, traceparent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(text: &str) -> ErrorCode {
        ClientFrame::decode(text).unwrap_err().code
    }

    #[test]
    fn the_original_contract_is_enough() {
        let frame =
            ClientFrame::decode(r#"{"type":"subscribe","data":{"repositories":["foo"]}}"#).unwrap();
        let expected = Subscribe::live(vec!["foo".parse().unwrap()]);
        assert_eq!(frame.message, ClientMessage::Subscribe(expected));
        let ping =
            ServerFrame::decode(r#"{"type":"ping","timestamp":"2026-11-22T10:00:00Z"}"#).unwrap();
        assert_eq!(ping.message, ServerMessage::Ping(crate::Heartbeat::default()));
        let error = ServerFrame::decode(r#"{"type":"error","error":"no"}"#).unwrap();
        assert!(matches!(error.message, ServerMessage::Error(error) if error.message == "no"));
    }

    #[test]
    fn what_is_not_known_survives() {
        let text = r#"{"type":"task.archived","cursor":"c","later":[1],"data":{"a":{"b":null}}}"#;
        let frame = ServerFrame::decode(text).unwrap();
        let ServerMessage::Unknown(unknown) = &frame.message else { panic!("{frame:?}") };
        assert_eq!(unknown.kind, "task.archived");
        assert_eq!(unknown.data, Some(serde_json::json!({"a": {"b": null}})));
        assert_eq!(frame.cursor, Some(Cursor::new("c")));
        assert!(matches!(ClientFrame::decode(text).unwrap().message, ClientMessage::Unknown(_)));
    }

    #[test]
    fn bad_frames_say_what_is_wrong_and_keep_their_id() {
        assert_eq!(code("hello"), ErrorCode::BadMessage);
        assert_eq!(code("[]"), ErrorCode::BadMessage);
        assert_eq!(code(r#"["ping",null,null,null,null,null]"#), ErrorCode::BadMessage);
        assert_eq!(code(r#"{"type":"auth","data":["a token"]}"#), ErrorCode::BadMessage);
        assert_eq!(code(r#"{"data":{}}"#), ErrorCode::BadMessage);
        assert_eq!(code(r#"{"type":"subscribe"}"#), ErrorCode::BadMessage);
        assert_eq!(
            code(r#"{"type":"subscribe","data":{"repositories":"foo"}}"#),
            ErrorCode::BadMessage
        );
        assert_eq!(
            code(r#"{"type":"subscribe","data":{"repositories":["a"],"since":7}}"#),
            ErrorCode::BadMessage
        );
        assert_eq!(
            code(r#"{"type":"subscribe","data":{"repositories":["a"],"on_gap":"x"}}"#),
            ErrorCode::BadMessage
        );
        assert_eq!(
            code(r#"{"type":"subscribe","data":{"repositories":["a"],"types":["x"]}}"#),
            ErrorCode::BadMessage
        );
        let error =
            ClientFrame::decode(r#"{"type":"subscribe","id":"7","data":{"repositories":["a b"]}}"#);
        let error = error.unwrap_err();
        assert_eq!((error.code, error.id.as_deref()), (ErrorCode::InvalidName, Some("7")));
    }

    #[test]
    fn a_reply_does_not_repeat_what_it_refuses_at_length() {
        let long = "x".repeat(100_000);
        for bad in [
            format!(r#"{{"type":"subscribe","data":"{long}"}}"#),
            format!(r#"{{"type":"ping","timestamp":"{long}"}}"#),
            format!(r#"{{"type":"subscribe","data":{{"repositories":["{long}"]}}}}"#),
            format!(r#"{{"type":"subscribe","data":{{"repositories":["a"],"on_gap":"{long}"}}}}"#),
            format!(
                r#"{{"type":"subscribe","data":{{"repositories":["a"],"since":{{"{long}":1}}}}}}"#
            ),
            format!(r#""{long}""#),
        ] {
            assert!(ClientFrame::decode(&bad).unwrap_err().message.len() < 400);
        }
    }

    #[test]
    fn an_id_is_short() {
        let frame = |len| format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(len));
        assert!(ClientFrame::decode(&frame(128)).is_ok());
        let error = ClientFrame::decode(&frame(129)).unwrap_err();
        assert_eq!((error.code, error.id), (ErrorCode::BadMessage, None));
    }

    #[test]
    fn what_waits_for_its_answer_is_short() {
        let types = vec!["task.updated"; 9_999];
        let data =
            serde_json::json!({"repositories": ["a"], "types": types, "since": "x".repeat(129)});
        let frame = serde_json::json!({"type": "subscribe", "data": data}).to_string();
        let ClientMessage::Subscribe(subscribe) = ClientFrame::decode(&frame).unwrap().message
        else {
            panic!("not a subscription")
        };
        assert_eq!(subscribe.types, Some(vec![EventKind::Updated]));
        assert_eq!(subscribe.since, Some(Cursor::new("")));
    }

    #[test]
    fn an_error_may_have_a_code_of_the_future_or_none() {
        let later = r#"{"type":"error","error":"no","data":{"code":"later","retryable":true}}"#;
        let bare = r#"{"type":"error","error":"no","data":{}}"#;
        for (text, code, retryable) in [(later, "later", true), (bare, "", false)] {
            let frame = ServerFrame::decode(text).unwrap();
            let ServerMessage::Error(error) = frame.message else { panic!("{text}") };
            assert_eq!((error.code.as_str(), error.retryable), (code, retryable));
        }
    }

    #[test]
    fn depth_is_limited() {
        let deep = format!(r#"{{"type":"x","data":{}{}}}"#, "[".repeat(16), "]".repeat(16));
        assert_eq!(code(&deep), ErrorCode::BadMessage);
        let fine = format!(r#"{{"type":"x","data":{}{}}}"#, "[".repeat(15), "]".repeat(15));
        assert!(ClientFrame::decode(&fine).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_decoding_panic(text in ".{0,200}") {
            let _ = ClientFrame::decode(&text);
            let _ = ServerFrame::decode(&text);
        }
    }
}
