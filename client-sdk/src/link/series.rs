//! A series of requests over plain HTTP, read as one connection: what each asks for, and what the
//! frames of its answer mean. Plain data, no I/O.
//!
//! To who reads the frames it looks like a connection on which nothing can be said: the answers to the
//! first requests bear the ids of what was asked, the continuation of an answer by the next one is not
//! seen, and the counts of `ping` go on.

use std::collections::VecDeque;

use serde::Deserialize;
use taskwatch_protocol::{
    ClientFrame, ClientMessage, CloseCode, CloseReason, Cursor, EventKind, Mode, Pattern,
    ServerFrame, ServerMessage, Subscribe, Subscribed,
};
use url::form_urlencoded::Serializer;

/// What a frame, or the end of an answer, means for the reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is handed on.
    Frame(String),
    /// It is nobody's business, but the peer lives.
    Alive,
    /// The next request is due.
    Next,
    /// The connection is over.
    Closed(CloseCode, CloseReason),
    Lost(&'static str),
}

/// What the next acknowledgement in an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// That an earlier answer goes on.
    Continuation,
    /// Of what was asked for.
    Answer,
}

/// The answer that is being read.
#[derive(Debug, Default)]
struct Answer {
    expected: VecDeque<Expected>,
    /// Task events in it.
    events: u64,
    /// Something that only comes when the server has taken its time, or has something to tell.
    has_brought: bool,
    /// The last frame has left nothing open.
    is_level: bool,
}

#[derive(Debug, Default)]
pub(super) struct Series {
    /// What has not been answered, with its id.
    asked: VecDeque<(Option<String>, Subscribe)>,
    /// What was accepted.
    held: Vec<Pattern>,
    types: Option<Vec<EventKind>>,
    /// The last position that came.
    position: Option<Cursor>,
    /// A snapshot was announced, and has not ended.
    in_snapshot: bool,
    /// Task events in the answers before this one.
    delivered: u64,
    answer: Answer,
    /// An acknowledgement has come.
    has_begun: bool,
}

/// As much of an envelope as is needed here.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(default)]
    cursor: Option<Cursor>,
}

/// The end of an answer in the server's words.
#[derive(Deserialize)]
struct Close {
    data: CloseData,
}

#[derive(Deserialize)]
struct CloseData {
    code: u16,
    #[serde(default)]
    word: String,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

impl Series {
    /// Takes a subscription into the next request. Nothing else can be said.
    pub(super) fn ask(&mut self, frame: &ClientFrame) {
        if let ClientMessage::Subscribe(subscribe) = &frame.message {
            self.types.clone_from(&subscribe.types);
            self.asked.push_back((frame.id.clone(), subscribe.clone()));
        }
    }

    /// The query of the next request. Its answer is what comes next.
    pub(super) fn query(&mut self) -> String {
        self.delivered += std::mem::take(&mut self.answer).events;
        let mut query = Serializer::new(String::new());
        let mut add = |name: &str, value: &str| {
            query.append_pair(name, value);
        };
        let mut asked = self.asked.iter();
        let mut expected = VecDeque::new();
        if self.held.is_empty() {
            let first = asked.next().map(|(_, first)| first);
            for pattern in first.iter().flat_map(|first| &first.repositories) {
                add("repository", &pattern.to_string());
            }
            if let Some(since) = first.and_then(|first| first.since.as_ref()) {
                add("since", since.as_str());
            }
            if let Some(on_gap) = first.and_then(|first| first.on_gap.as_ref()) {
                add("on_gap", on_gap.as_str());
            }
            if first.is_some_and(|first| first.snapshot) {
                add("snapshot", "true");
            }
            expected.push_back(Expected::Answer);
        } else {
            for pattern in &self.held {
                add("repository", &pattern.to_string());
            }
            if let Some(since) = &self.position {
                add("since", since.as_str());
            }
            expected.push_back(Expected::Continuation);
        }
        for (_, subscribe) in asked {
            for pattern in &subscribe.repositories {
                add("snapshot_of", &pattern.to_string());
            }
            expected.push_back(Expected::Answer);
        }
        if let Some(types) = &self.types {
            let words: Vec<&str> = types.iter().map(EventKind::as_str).collect();
            add("types", &words.join(","));
        }
        self.answer.expected = expected;
        query.finish()
    }

    /// Whether a subscription was answered.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether the last answer was worth the request.
    pub(super) fn has_brought(&self) -> bool {
        self.answer.has_brought
    }

    /// The next frame of the answer.
    pub(super) fn frame(&mut self, text: String) -> Meaning {
        // What cannot be read is shown to who can tell what to do about it.
        let Ok(glance) = serde_json::from_str::<Glance<'_>>(&text) else {
            return Meaning::Frame(text);
        };
        let (kind, cursor) = (glance.kind.into_owned(), glance.cursor);
        self.answer.is_level = kind == "ping";
        match kind.as_str() {
            "close" => return self.close(text),
            "subscribed" | "error" => return self.acknowledged(text),
            "ping" => {
                self.answer.has_brought = true;
                self.reach(cursor);
                return Meaning::Frame(self.counted(text));
            }
            "snapshot" => {
                self.answer.has_brought = true;
                self.in_snapshot &= cursor.is_none();
            }
            kind if kind.starts_with("task.") => {
                self.answer.has_brought = true;
                self.answer.events += 1;
            }
            _ => {}
        }
        self.reach(cursor);
        Meaning::Frame(text)
    }

    /// The end of the answer's body, where the server has not said why.
    pub(super) fn end(&self, is_stream: bool) -> Meaning {
        if self.in_snapshot {
            // Only the whole of it is of any use.
            return closed(CloseCode::InsufficientState);
        }
        let has_refused = self.held.is_empty() && self.has_begun;
        match is_stream {
            // Nothing of the first subscription was accepted, and another one waits.
            _ if has_refused && !self.asked.is_empty() => Meaning::Next,
            true => Meaning::Lost("the answer ended without a word"),
            false if self.answer.is_level || self.answer.has_brought => Meaning::Next,
            false => Meaning::Lost("the answer ended before it was complete"),
        }
    }

    fn reach(&mut self, cursor: Option<Cursor>) {
        if cursor.is_some() {
            self.position = cursor;
        }
    }

    fn close(&self, text: String) -> Meaning {
        let Ok(Close { data: CloseData { code, word, retry_after_ms } }) =
            serde_json::from_str(&text)
        else {
            return Meaning::Frame(text);
        };
        match CloseCode::from(code) {
            CloseCode::Rebalance if retry_after_ms.is_none() && !self.in_snapshot => Meaning::Next,
            code => Meaning::Closed(code, CloseReason { word, retry_after_ms }),
        }
    }

    /// A server counts within one answer.
    fn counted(&self, text: String) -> String {
        let Ok(mut frame) = ServerFrame::decode(&text) else { return text };
        let ServerMessage::Ping(heartbeat) = &mut frame.message else { return text };
        match &mut heartbeat.delivered {
            Some(delivered) if self.delivered > 0 => *delivered += self.delivered,
            _ => return text,
        }
        frame.encode()
    }

    fn acknowledged(&mut self, text: String) -> Meaning {
        let Ok(frame) = ServerFrame::decode(&text) else { return Meaning::Frame(text) };
        match self.answer.expected.pop_front() {
            None => Meaning::Frame(text),
            Some(Expected::Continuation) => match frame.message {
                ServerMessage::Subscribed(data) => self.continued(&data),
                _ => Meaning::Frame(text),
            },
            Some(Expected::Answer) => {
                let Some((id, _)) = self.asked.pop_front() else { return Meaning::Frame(text) };
                self.has_begun = true;
                self.answered(frame.id(id))
            }
        }
    }

    fn answered(&mut self, frame: ServerFrame) -> Meaning {
        if let ServerMessage::Subscribed(data) = &frame.message {
            self.held.extend(data.accepted.iter().cloned());
            let announces = matches!(data.mode, Mode::Snapshot | Mode::Reset);
            self.in_snapshot = announces && frame.cursor.is_none() && !data.accepted.is_empty();
            self.reach(frame.cursor.clone());
        }
        Meaning::Frame(frame.encode())
    }

    /// Whether the answer goes on where the one before has ended. If not, everything is asked for again
    /// on another connection, and who asks is told why.
    fn continued(&self, data: &Subscribed) -> Meaning {
        let is_held = |pattern| data.accepted.contains(pattern);
        if data.mode == Mode::Reset {
            closed(CloseCode::InsufficientState)
        } else if !self.held.iter().all(is_held) {
            closed(CloseCode::AccessChanged)
        } else if data.mode != Mode::Resumed {
            closed(CloseCode::InsufficientState)
        } else {
            Meaning::Alive
        }
    }
}

fn closed(code: CloseCode) -> Meaning {
    Meaning::Closed(code, CloseReason { word: code.word().to_owned(), retry_after_ms: None })
}
