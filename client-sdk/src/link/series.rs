//! A series of requests over plain HTTP, read as one connection: what each asks for, and what the
//! frames of its answer mean. Plain data, no I/O.
//!
//! To who reads the frames it looks like a connection on which nothing can be said: the answers to the
//! first requests bear the ids of what was asked, the continuation of an answer by the next one is not
//! seen, and the counts of `ping` go on.

use std::collections::VecDeque;

use form_urlencoded::Serializer;
use serde::Deserialize;
use taskwatch_protocol::{
    ClientFrame, ClientMessage, CloseCode, CloseReason, Cursor, EventKind, Mode, Pattern,
    ServerFrame, ServerMessage, Subscribe, Subscribed,
};

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
    /// More than an acknowledgement came.
    has_brought: bool,
}

#[derive(Debug, Default)]
pub(super) struct Series {
    /// What has not been answered, with its id.
    asked: VecDeque<(Option<String>, Subscribe)>,
    /// What was accepted.
    held: Vec<Pattern>,
    /// What was not. Between two answers nobody tells that it would be now, so it is asked for again.
    denied: Vec<Pattern>,
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
            if let Some(time) = first.and_then(|first| first.since_time) {
                add("since_time", &time.to_string());
            }
            if let Some(events) = first.and_then(|first| first.tail) {
                add("tail", &events.to_string());
            }
            if let Some(on_gap) = first.and_then(|first| first.on_gap.as_ref()) {
                add("on_gap", on_gap.as_str());
            }
            if first.is_some_and(|first| first.snapshot) {
                add("snapshot", "true");
            }
            expected.push_back(Expected::Answer);
        } else {
            for pattern in self.held.iter().chain(&self.denied) {
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

    /// Whether the last answer was worth the request. One with a bookmark alone comes when the server has
    /// waited for something, or from somebody who does not wait at all.
    pub(super) fn was_worth_it(&self) -> bool {
        self.answer.events > 0
    }

    /// The next frame of the answer.
    pub(super) fn frame(&mut self, text: String) -> Meaning {
        // What cannot be read is shown to who can tell what to do about it.
        let Ok(glance) = serde_json::from_str::<Glance<'_>>(&text) else {
            return Meaning::Frame(text);
        };
        let (kind, cursor) = (glance.kind.into_owned(), glance.cursor);
        match kind.as_str() {
            "close" => return self.close(text),
            "subscribed" | "error" => return self.acknowledged(text),
            "ping" | "pong" => {
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
            false if self.answer.has_brought => Meaning::Next,
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
        let (ServerMessage::Ping(heartbeat) | ServerMessage::Pong(heartbeat)) = &mut frame.message
        else {
            return text;
        };
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
            self.denied.extend(data.denied.iter().map(|denied| denied.repository.clone()));
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
        let is_granted = |pattern| !self.held.contains(pattern) && is_held(pattern);
        if data.mode == Mode::Reset {
            closed(CloseCode::InsufficientState)
        } else if !self.held.iter().all(is_held) || self.denied.iter().any(is_granted) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use taskwatch_protocol::{
        Denied, Envelope, ErrorCode, ErrorMessage, Heartbeat, OnGap, Snapshot,
    };

    use super::*;
    use crate::testing::{at, event_frame};

    fn patterns(names: &[&str]) -> Vec<Pattern> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn asks(series: &mut Series, id: &str, subscribe: Subscribe) {
        let frame = Envelope::new(ClientMessage::Subscribe(subscribe)).id(id.to_owned());
        series.ask(&frame);
    }

    /// The query of the next request, as its pairs.
    fn query(series: &mut Series) -> Vec<(String, String)> {
        form_urlencoded::parse(series.query().as_bytes()).into_owned().collect()
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        text.split(' ').filter_map(pair).collect()
    }

    fn subscribed(mode: Mode, names: &[&str], cursor: Option<u64>) -> String {
        let data = Subscribed {
            accepted: patterns(names),
            denied: vec![],
            mode,
            reason: None,
            head: Some(at(99)),
        };
        Envelope::new(ServerMessage::Subscribed(data)).cursor(cursor.map(at)).encode()
    }

    fn ping(delivered: u64, seq: u64) -> String {
        let beat = Heartbeat { delivered: Some(delivered), ..Heartbeat::default() };
        Envelope::new(ServerMessage::Ping(beat)).cursor(at(seq)).encode()
    }

    fn part(last: Option<u64>) -> String {
        let part = Snapshot {
            repositories: patterns(&["bar"]),
            tasks: vec![],
            first: last.is_none(),
            last: last.is_some(),
        };
        Envelope::new(ServerMessage::Snapshot(part)).cursor(last.map(at)).encode()
    }

    fn close(code: u16, retry_after_ms: Option<u64>) -> String {
        let hint = retry_after_ms.map(|ms| format!(r#","retry_after_ms":{ms}"#));
        let hint = hint.unwrap_or_default();
        format!(r#"{{"type":"close","data":{{"code":{code},"word":"w"{hint}}}}}"#)
    }

    fn event(seq: u64) -> String {
        event_frame(seq).encode()
    }

    /// The frame that is handed on.
    fn frame(meaning: Meaning) -> ServerFrame {
        let Meaning::Frame(text) = meaning else { panic!("{meaning:?}") };
        ServerFrame::decode(&text).unwrap()
    }

    fn code(meaning: Meaning) -> CloseCode {
        let Meaning::Closed(code, _) = meaning else { panic!("{meaning:?}") };
        code
    }

    /// Goes on with `foo` at 1.
    fn resumed() -> Series {
        let mut series = Series::default();
        let since = Some(at(1));
        asks(&mut series, "1", Subscribe { since, ..Subscribe::live(patterns(&["foo"])) });
        series.query();
        series.frame(subscribed(Mode::Resumed, &["foo"], Some(1)));
        series
    }

    #[test]
    fn what_was_asked_is_in_the_first_query_and_its_answers_bear_the_ids() {
        let mut series = Series::default();
        let first = Subscribe {
            since: Some(at(7)),
            on_gap: Some(OnGap::Live),
            ..Subscribe::live(patterns(&["foo", "acme/*"]))
        };
        asks(&mut series, "1", first);
        asks(&mut series, "2", Subscribe { snapshot: true, ..Subscribe::live(patterns(&["bar"])) });
        let asked = pairs("repository=foo repository=acme/* since=c-7 on_gap=live snapshot_of=bar");
        assert_eq!(query(&mut series), asked);
        // Until an answer comes, a further request asks for the same.
        assert_eq!(query(&mut series), asked);
        let first = frame(series.frame(subscribed(Mode::Resumed, &["foo", "acme/*"], Some(7))));
        assert_eq!(first.id.as_deref(), Some("1"));
        let second = frame(series.frame(subscribed(Mode::Snapshot, &["bar"], None)));
        assert_eq!(second.id.as_deref(), Some("2"));
        series.frame(part(None));
        series.frame(part(Some(9)));
        let next = pairs("repository=foo repository=acme/* repository=bar since=c-9");
        assert_eq!(query(&mut series), next);
    }

    #[test]
    fn another_beginning_is_asked_for_until_an_answer_says_where_it_is() {
        let time = Some(taskwatch_protocol::Timestamp::from_unix_millis(1_795_341_600_000));
        let foo = || Subscribe::live(patterns(&["foo"]));
        for (first, asked) in [
            (Subscribe { tail: Some(5), ..foo() }, "tail=5"),
            (Subscribe { since_time: time, ..foo() }, "since_time=2026-11-22T10:00:00.000Z"),
        ] {
            let mut series = Series::default();
            asks(&mut series, "1", first);
            for _ in 0..2 {
                assert_eq!(query(&mut series), pairs(&format!("repository=foo {asked}")));
            }
            series.frame(subscribed(Mode::Resumed, &["foo"], Some(7)));
            assert_eq!(query(&mut series), pairs("repository=foo since=c-7"));
        }
    }

    #[test]
    fn a_stream_of_one_kind_that_begins_with_nothing() {
        let mut series = Series::default();
        let types = Some(vec![EventKind::Created, EventKind::Deleted]);
        asks(&mut series, "1", Subscribe { types, ..Subscribe::live(patterns(&["*"])) });
        let types = "types=task.created,task.deleted";
        assert_eq!(query(&mut series), pairs(&format!("repository=* {types}")));
        series.frame(subscribed(Mode::Live, &["*"], Some(3)));
        assert_eq!(query(&mut series), pairs(&format!("repository=* since=c-3 {types}")));
        let mut series = Series::default();
        asks(&mut series, "1", Subscribe { snapshot: true, ..Subscribe::live(patterns(&["*"])) });
        assert_eq!(query(&mut series), pairs("repository=* snapshot=true"));
    }

    #[test]
    fn the_next_answer_goes_on_where_the_last_has_ended_and_nobody_sees_it() {
        let mut series = resumed();
        assert_eq!(series.frame(event(2)), Meaning::Frame(event(2)));
        assert_eq!(series.frame(ping(1, 5)), Meaning::Frame(ping(1, 5)));
        assert_eq!(series.frame(close(4201, None)), Meaning::Next);
        assert!(series.was_worth_it());
        assert_eq!(query(&mut series), pairs("repository=foo since=c-5"));
        assert_eq!(series.frame(subscribed(Mode::Resumed, &["foo"], Some(5))), Meaning::Alive);
        assert!(!series.was_worth_it());
        series.frame(event(6));
        // What the answers before it have brought counts too.
        let pong = ping(1, 6).replace("ping", "pong");
        let ServerMessage::Pong(beat) = frame(series.frame(pong)).message else { panic!() };
        assert_eq!(beat.delivered, Some(2));
        let ServerMessage::Ping(beat) = frame(series.frame(ping(1, 6))).message else { panic!() };
        assert_eq!(beat.delivered, Some(2));
    }

    #[test]
    fn an_answer_that_does_not_go_on_ends_the_connection() {
        for (next, expected) in [
            (subscribed(Mode::Reset, &[], None), CloseCode::InsufficientState),
            (subscribed(Mode::Live, &["foo"], Some(9)), CloseCode::InsufficientState),
            (subscribed(Mode::Live, &[], None), CloseCode::AccessChanged),
            (subscribed(Mode::Resumed, &["bar"], Some(9)), CloseCode::AccessChanged),
        ] {
            let mut series = resumed();
            series.query();
            assert_eq!(code(series.frame(next.clone())), expected, "{next}");
        }
    }

    #[test]
    fn what_was_denied_is_asked_for_again_and_ends_the_connection_when_it_is_granted() {
        let mut series = Series::default();
        asks(&mut series, "1", Subscribe::live(patterns(&["foo", "bar"])));
        series.query();
        let answer = |accepted: &[&str], mode, cursor| {
            let denied = Denied { repository: "bar".parse().unwrap(), code: ErrorCode::NotFound };
            let denied = if accepted.contains(&"bar") { vec![] } else { vec![denied] };
            let accepted = patterns(accepted);
            let data = Subscribed { accepted, denied, mode, reason: None, head: Some(at(99)) };
            Envelope::new(ServerMessage::Subscribed(data)).cursor(at(cursor)).encode()
        };
        series.frame(answer(&["foo"], Mode::Live, 1));
        let asked = pairs("repository=foo repository=bar since=c-1");
        assert_eq!(query(&mut series), asked);
        assert_eq!(series.frame(answer(&["foo"], Mode::Resumed, 1)), Meaning::Alive);
        assert_eq!(query(&mut series), asked);
        let granted = series.frame(answer(&["foo", "bar"], Mode::Resumed, 1));
        assert_eq!(code(granted), CloseCode::AccessChanged);
    }

    #[test]
    fn what_a_server_says_at_the_end_is_obeyed() {
        let mut series = resumed();
        assert_eq!(code(series.frame(close(1012, Some(7)))), CloseCode::Restart);
        assert_eq!(code(series.frame(close(4200, None))), CloseCode::TokenExpired);
        assert_eq!(code(series.frame(close(4201, Some(7)))), CloseCode::Rebalance);
        assert_eq!(series.frame(close(4201, None)), Meaning::Next);
        let hint = CloseReason { word: "w".into(), retry_after_ms: Some(7) };
        let told = series.frame(close(4103, Some(7)));
        assert_eq!(told, Meaning::Closed(CloseCode::RateLimited, hint));
    }

    #[test]
    fn a_stream_without_a_last_word_was_cut_and_a_poll_that_brought_something_was_not() {
        let mut series = resumed();
        assert!(matches!(series.end(true), Meaning::Lost(_)));
        assert!(matches!(series.end(false), Meaning::Lost(_)));
        series.frame(event(2));
        assert!(matches!(series.end(true), Meaning::Lost(_)));
        assert_eq!(series.end(false), Meaning::Next);
        series.query();
        series.frame(subscribed(Mode::Resumed, &["foo"], Some(2)));
        assert!(matches!(series.end(false), Meaning::Lost(_)));
        series.frame(ping(0, 3));
        assert_eq!(series.end(false), Meaning::Next);
    }

    #[test]
    fn a_snapshot_is_asked_for_again_as_a_whole() {
        let cut = |frames: &[String]| {
            let mut series = resumed();
            let snapshot = Subscribe { snapshot: true, ..Subscribe::live(patterns(&["bar"])) };
            asks(&mut series, "2", snapshot);
            series.query();
            series.frame(subscribed(Mode::Resumed, &["foo"], Some(1)));
            frames.iter().for_each(|text| drop(series.frame(text.clone())));
            series
        };
        let announced = subscribed(Mode::Snapshot, &["bar"], None);
        // Before its turn it was only not answered yet.
        let mut series = cut(&[event(2)]);
        assert_eq!(series.end(false), Meaning::Next);
        assert_eq!(query(&mut series), pairs("repository=foo since=c-2 snapshot_of=bar"));
        for frames in [&[announced.clone()][..], &[announced.clone(), part(None)]] {
            let mut series = cut(frames);
            assert_eq!(code(series.end(false)), CloseCode::InsufficientState);
            assert_eq!(code(series.end(true)), CloseCode::InsufficientState);
            assert_eq!(code(series.frame(close(4201, None))), CloseCode::Rebalance);
        }
        let series = cut(&[announced, part(None), part(Some(4)), ping(0, 4)]);
        assert_eq!(series.end(false), Meaning::Next);
    }

    #[test]
    fn a_denied_beginning_leaves_the_rest_to_the_next_request() {
        let mut series = Series::default();
        let since = Some(at(1));
        asks(&mut series, "1", Subscribe { since, ..Subscribe::live(patterns(&["foo"])) });
        asks(&mut series, "2", Subscribe { snapshot: true, ..Subscribe::live(patterns(&["bar"])) });
        series.query();
        let denied = vec![Denied { repository: "foo".parse().unwrap(), code: ErrorCode::NotFound }];
        let (accepted, mode) = (vec![], Mode::Live);
        let data = Subscribed { accepted, denied, mode, reason: None, head: None };
        let first = Envelope::new(ServerMessage::Subscribed(data)).encode();
        assert_eq!(frame(series.frame(first)).id.as_deref(), Some("1"));
        assert_eq!(series.end(true), Meaning::Next);
        assert_eq!(query(&mut series), pairs("repository=bar snapshot=true"));
        // An error is an answer too.
        let error = ServerMessage::Error(ErrorMessage::new(ErrorCode::Unsupported, "no"));
        let second = frame(series.frame(Envelope::new(error).encode()));
        assert_eq!(second.id.as_deref(), Some("2"));
    }

    proptest! {
        #[test]
        fn where_answers_end_makes_no_difference(
            answers in prop::collection::vec((0..9u64, any::<bool>(), any::<bool>()), 1..12),
        ) {
            let mut series = Series::default();
            asks(&mut series, "1", Subscribe::live(patterns(&["foo"])));
            let mut seen = 0;
            for (number, (events, pings, closes)) in answers.into_iter().enumerate() {
                let since = query(&mut series).into_iter().find(|(name, _)| name == "since");
                // The server knows nothing but what it is asked.
                let from = since.map_or(0, |(_, cursor)| crate::testing::seq(&Cursor::new(cursor)));
                prop_assert_eq!(from, seen);
                let mode = if number == 0 { Mode::Live } else { Mode::Resumed };
                let first = series.frame(subscribed(mode, &["foo"], Some(from)));
                prop_assert_eq!(first == Meaning::Alive, number > 0);
                for seq in from + 1..=from + events {
                    prop_assert_eq!(series.frame(event(seq)), Meaning::Frame(event(seq)));
                    seen = seq;
                }
                if pings {
                    let told = frame(series.frame(ping(events, seen))).message;
                    let whole = Heartbeat { delivered: Some(seen), ..Heartbeat::default() };
                    prop_assert_eq!(told, ServerMessage::Ping(whole));
                }
                let has_brought = pings || events > 0;
                prop_assert_eq!(series.was_worth_it(), events > 0);
                if closes {
                    prop_assert_eq!(series.frame(close(4201, None)), Meaning::Next);
                } else {
                    prop_assert_eq!(series.end(false) == Meaning::Next, has_brought);
                }
            }
        }
    }

    #[test]
    fn what_is_unknown_is_handed_on_as_it_came() {
        let mut series = resumed();
        for text in [
            "no JSON",
            r#"{"type":7}"#,
            r#"{"type":"from_the_future","data":[]}"#,
            r#"{"type":"close"}"#,
            r#"{"type":"subscribed"}"#,
            r#"{"type":"ping","data":{"delivered":"many"}}"#,
        ] {
            assert_eq!(series.frame(text.into()), Meaning::Frame(text.into()));
        }
    }
}
