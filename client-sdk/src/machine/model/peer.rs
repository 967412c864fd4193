//! A server that follows the wire.

use std::collections::{BTreeSet, VecDeque};

use taskwatch_protocol::{
    Authenticated, ClientMessage, CloseCode, Cursor, Envelope, ErrorCode, ErrorMessage, Heartbeat,
    Limits, Mode, OnGap as WireOnGap, Pattern, ResetReason, ServerFrame, ServerMessage,
    Snapshot as Part, Subscribe, Subscribed, Unsubscribed, Welcome,
};

use crate::testing::{Model, at, seq};

const TASKS_IN_A_PART: usize = 2;
/// A token lives shorter than silence is suffered.
const TOKEN_MS: u64 = 20_000;

#[derive(Clone, Debug)]
pub(super) enum Wire {
    Frame(ServerFrame),
    Close(CloseCode),
}

pub(super) fn welcome() -> ServerFrame {
    Envelope::new(ServerMessage::Welcome(Welcome {
        protocol: 1,
        server: "model".into(),
        connection_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        heartbeat_ms: 20_000,
        limits: Limits { max_message_bytes: 1, max_patterns_per_message: 1, max_patterns: 1 },
        token_expires_in_ms: Some(TOKEN_MS),
    }))
}

/// The server's end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) position: u64,
    pub(super) patterns: BTreeSet<Pattern>,
    pub(super) subscribed: bool,
    /// An acknowledgement was sent.
    pub(super) has_answered: bool,
    pub(super) waiting: VecDeque<(Option<String>, ClientMessage)>,
    pub(super) delivered: u64,
    /// What is left of a snapshot.
    pub(super) parts: VecDeque<ServerFrame>,
    pub(super) out: VecDeque<Wire>,
    /// An event was lost on the way, and no count has told the client.
    pub(super) has_lost: bool,
    /// A part of an answer was lost. That the rest comes shows it.
    pub(super) has_lost_answer: bool,
}

impl Peer {
    pub(super) fn new(position: u64) -> Self {
        Self {
            position,
            patterns: BTreeSet::new(),
            subscribed: false,
            has_answered: false,
            waiting: VecDeque::new(),
            delivered: 0,
            parts: VecDeque::new(),
            out: VecDeque::new(),
            has_lost: false,
            has_lost_answer: false,
        }
    }

    pub(super) fn send(&mut self, frame: ServerFrame) {
        self.out.push_back(Wire::Frame(frame));
    }

    pub(super) fn bookmark(&self) -> Option<Cursor> {
        self.parts.is_empty().then(|| at(self.position))
    }

    /// Sends the next frame, if there is one to send.
    pub(super) fn serve(&mut self, log: &Model, floor: u64) -> bool {
        if let Some(part) = self.parts.pop_front() {
            self.send(part);
            return true;
        }
        while self.subscribed && self.position < log.head() {
            if self.position < floor {
                self.out.push_back(Wire::Close(CloseCode::InsufficientState));
                return false;
            }
            self.position += 1;
            let event = log.event(self.position);
            if self.patterns.iter().any(|pattern| pattern.matches(&event.repository)) {
                self.delivered += 1;
                let frame = Envelope::new(ServerMessage::Task(event.clone()));
                self.send(frame.cursor(at(self.position)));
                return true;
            }
        }
        self.position = log.head();
        match self.waiting.pop_front() {
            None => false,
            Some((id, ClientMessage::Subscribe(data))) => {
                self.subscribe(id, data, log, floor);
                true
            }
            Some((id, ClientMessage::Unsubscribe(data))) => {
                self.patterns.retain(|pattern| !data.repositories.contains(pattern));
                let head = Some(at(self.position));
                let done = Unsubscribed { accepted: data.repositories, head: head.clone() };
                self.send(Envelope::new(ServerMessage::Unsubscribed(done)).cursor(head).id(id));
                true
            }
            Some(other) => panic!("{other:?}"),
        }
    }

    pub(super) fn subscribe(
        &mut self,
        id: Option<String>,
        data: Subscribe,
        log: &Model,
        floor: u64,
    ) {
        assert!(!self.subscribed || !data.has_start(), "since comes first");
        let head = Some(at(self.position));
        // An event happens at the time of its number.
        let at_time = data.since_time.map(|time| u64::try_from(time.unix_millis() - 1).unwrap());
        let since = data.since.as_ref().map(seq).or(at_time.map(|seq| seq.min(self.position)));
        let is_reset = since.is_some_and(|since| since < floor);
        let with_state = data.snapshot && since.is_none()
            || is_reset && data.on_gap == Some(WireOnGap::Snapshot);
        let mut accepted = data.repositories.clone();
        let tail = data.tail.map(|events| self.tail(&data.repositories, events, log, floor));
        let (mode, cursor) = match since.or(tail) {
            _ if is_reset && with_state => (Mode::Reset, None),
            _ if with_state => (Mode::Snapshot, None),
            _ if is_reset && data.on_gap == Some(WireOnGap::Live) => (Mode::Reset, head.clone()),
            _ if is_reset => {
                accepted.clear();
                (Mode::Reset, None)
            }
            Some(since) => {
                self.position = since;
                (Mode::Resumed, Some(at(since)))
            }
            None => (Mode::Live, head.clone()),
        };
        self.subscribed |= !accepted.is_empty();
        self.has_answered = true;
        self.patterns.extend(accepted.iter().cloned());
        if with_state {
            let tasks = log.state(&accepted, self.position);
            let mut parts: Vec<_> = tasks.chunks(TASKS_IN_A_PART).map(<[_]>::to_vec).collect();
            parts.resize(parts.len().max(1), vec![]);
            let end = parts.len() - 1;
            self.parts.extend(parts.into_iter().enumerate().map(|(place, tasks)| {
                let (first, last) = (place == 0, place == end);
                let part = Part { repositories: accepted.clone(), tasks, first, last };
                let cursor = last.then(|| at(self.position));
                Envelope::new(ServerMessage::Snapshot(part)).cursor(cursor).id(id.clone())
            }));
        }
        let reason = is_reset.then_some(ResetReason::Expired);
        let data = Subscribed { accepted, denied: vec![], mode, reason, head };
        self.send(Envelope::new(ServerMessage::Subscribed(data)).cursor(cursor).id(id));
    }

    fn tail(&self, repositories: &[Pattern], events: u32, log: &Model, floor: u64) -> u64 {
        let matches =
            |seq: &u64| repositories.iter().any(|it| it.matches(&log.event(*seq).repository));
        let newest = (floor + 1..=self.position).rev().filter(matches);
        newest.take(events as usize).last().map_or(self.position, |seq| seq - 1)
    }

    /// `head` is the newest position of the log.
    pub(super) fn hear(&mut self, message: ClientMessage, id: Option<String>, head: u64) {
        match message {
            ClientMessage::Ping => {
                let (delivered, head) = (Some(self.delivered), Some(at(head)));
                let pong = ServerMessage::Pong(Heartbeat { delivered, head });
                self.send(Envelope::new(pong).cursor(self.bookmark()).id(id));
            }
            ClientMessage::Pong => {}
            // Whatever else is under way.
            ClientMessage::Auth(_) if self.delivered.is_multiple_of(2) => {
                let data =
                    Authenticated { subject: "ana".into(), token_expires_in_ms: Some(TOKEN_MS) };
                self.send(Envelope::new(ServerMessage::Authenticated(data)).id(id));
            }
            ClientMessage::Auth(_) => {
                let error = ErrorMessage::new(ErrorCode::Unauthorized, "no");
                self.send(Envelope::new(ServerMessage::Error(error)).id(id));
            }
            other => self.waiting.push_back((id, other)),
        }
    }

    pub(super) fn is_level(&self, log: &Model) -> bool {
        self.subscribed && self.position == log.head() && self.waiting.is_empty()
    }

    pub(super) fn ping(&mut self) {
        let ping = ServerMessage::Ping(Heartbeat {
            delivered: Some(self.delivered),
            ..Heartbeat::default()
        });
        self.send(Envelope::new(ping).cursor(self.bookmark()));
    }
}
