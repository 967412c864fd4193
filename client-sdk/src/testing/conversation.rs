//! What a hub and one client say to each other. Frames in, frames out.

use std::collections::{BTreeSet, VecDeque};

use taskwatch_protocol::{
    Authenticated, ClientFrame, ClientMessage, Cursor, Denied, Envelope, ErrorCode, ErrorMessage,
    EventKind, Heartbeat, Limits, MAX_TAIL, Mode, OnGap, PROTOCOL_VERSION, Pattern, RepositoryName,
    ResetReason, Seq, ServerFrame, ServerMessage, Snapshot, Subscribe, Subscribed, Task, Timestamp,
    Unsubscribed, Welcome,
};
use uuid::Uuid;

use super::HEARTBEAT;
use super::history::{Entry, History};

/// So few that also a small state comes in several frames.
const TASKS_IN_A_FRAME: usize = 4;
const MOST_PATTERNS: usize = 128;
const MOST_WAITING: usize = 8;

/// What there is to talk about.
#[derive(Clone, Copy, Debug)]
pub(super) struct World<'a> {
    pub(super) history: &'a History,
    pub(super) denied: &'a BTreeSet<Pattern>,
    pub(super) now: Timestamp,
}

impl World<'_> {
    fn may_read(&self, repository: &RepositoryName) -> bool {
        !self.denied.iter().any(|denied| denied.matches(repository))
    }

    /// Whether anything of it may be read. Of everything, everything that may be read is meant.
    fn grants(&self, pattern: &Pattern) -> bool {
        *pattern == Pattern::All || !self.denied.iter().any(|denied| denied.contains(pattern))
    }
}

/// What comes next in the stream.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Frame(ServerFrame),
    /// What the client still had to be sent was thrown away.
    Overtaken,
}

/// How far a client has come with its first subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subscription {
    NotAsked,
    /// Until one is accepted no position is told: it would not be the client's.
    Asked,
    Accepted,
}

/// The hub's side of one connection.
#[derive(Debug)]
pub(super) struct Conversation {
    subscription: Subscription,
    patterns: BTreeSet<Pattern>,
    types: Option<Vec<EventKind>>,
    /// Everything up to here was looked at, and sent if it was wanted.
    position: Seq,
    delivered: u64,
    /// Changes of the subscription wait until the connection is level.
    waiting: VecDeque<(Option<String>, ClientMessage)>,
    /// What is left of a snapshot.
    parts: VecDeque<ServerFrame>,
}

impl Conversation {
    pub(super) fn new() -> Self {
        Self {
            subscription: Subscription::NotAsked,
            patterns: BTreeSet::new(),
            types: None,
            position: 0,
            delivered: 0,
            waiting: VecDeque::new(),
            parts: VecDeque::new(),
        }
    }

    /// The first frame of the connection with this number.
    pub(super) fn welcome(number: u64, now: Timestamp) -> ServerFrame {
        let limits = Limits {
            max_message_bytes: 512 * 1024,
            max_patterns_per_message: MOST_PATTERNS as u64,
            max_patterns: MOST_PATTERNS as u64,
        };
        let welcome = Welcome {
            protocol: PROTOCOL_VERSION,
            server: "taskwatch-test-hub".to_owned(),
            connection_id: Uuid::from_u128(number.into()),
            heartbeat_ms: u64::try_from(HEARTBEAT.as_millis()).unwrap_or(u64::MAX),
            limits,
            token_expires_in_ms: None,
        };
        Envelope::new(ServerMessage::Welcome(welcome)).at(now)
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscription == Subscription::Accepted
    }

    /// Whether everything that was asked for was sent.
    pub(super) fn is_level(&self, history: &History) -> bool {
        let is_done = self.parts.is_empty() && self.waiting.is_empty();
        self.is_subscribed() && is_done && self.position == history.head()
    }

    /// Takes a frame; returns what is answered at once.
    pub(super) fn hear(&mut self, text: &str, world: World<'_>) -> Option<ServerFrame> {
        let (id, answer) = match ClientFrame::decode(text) {
            Err(problem) => (problem.id, refusal(problem.code, &problem.message)),
            Ok(Envelope { message, id, .. }) => {
                let answer = match message {
                    ClientMessage::Pong => return None,
                    ClientMessage::Ping => {
                        let head = Some(world.history.cursor(world.history.head()));
                        let pong = ServerMessage::Pong(Heartbeat { head, ..self.heartbeat() });
                        return Some(
                            Envelope::new(pong).at(world.now).cursor(self.bookmark(world)).id(id),
                        );
                    }
                    ClientMessage::Subscribe(_) | ClientMessage::Unsubscribe(_)
                        if self.waiting.len() == MOST_WAITING =>
                    {
                        refusal(ErrorCode::RateLimited, "too many changes are waiting already")
                    }
                    message @ (ClientMessage::Subscribe(_) | ClientMessage::Unsubscribe(_)) => {
                        self.waiting.push_back((id, message));
                        return None;
                    }
                    ClientMessage::Auth(_) => {
                        let subject = "test".to_owned();
                        let data = Authenticated { subject, token_expires_in_ms: None };
                        ServerMessage::Authenticated(data)
                    }
                    _ => refusal(ErrorCode::BadMessage, "this type is not known"),
                };
                (id, answer)
            }
        };
        Some(Envelope::new(answer).at(world.now).id(id))
    }

    /// What comes next; `None` when the connection is level.
    pub(super) fn next(&mut self, world: World<'_>) -> Option<Next> {
        if let Some(part) = self.parts.pop_front() {
            return Some(Next::Frame(part));
        }
        let history = world.history;
        while self.is_subscribed() {
            if !history.reaches_back_to(self.position) {
                return Some(Next::Overtaken);
            }
            let Some(entry) = history.after(self.position) else { break };
            self.position += 1;
            if is_wanted(entry, &self.patterns, self.types.as_ref(), world) {
                self.delivered += 1;
                let frame = Envelope::new(ServerMessage::Task(entry.event.clone()));
                let frame = frame.at(entry.at).cursor(history.cursor(self.position));
                return Some(Next::Frame(frame));
            }
        }
        self.position = history.head();
        let (id, change) = self.waiting.pop_front()?;
        let frame = match change {
            ClientMessage::Subscribe(subscribe) => self.subscribe(id.as_ref(), subscribe, world),
            ClientMessage::Unsubscribe(gone) => {
                self.patterns.retain(|pattern| !gone.repositories.contains(pattern));
                let head = Some(history.cursor(self.position));
                let data = Unsubscribed { accepted: gone.repositories, head: head.clone() };
                Envelope::new(ServerMessage::Unsubscribed(data)).cursor(head)
            }
            _ => return None,
        };
        Some(Next::Frame(frame.at(world.now).id(id)))
    }

    /// A sign of life, and a bookmark.
    pub(super) fn ping(&self, world: World<'_>) -> ServerFrame {
        let ping = ServerMessage::Ping(self.heartbeat());
        Envelope::new(ping).at(world.now).cursor(self.bookmark(world))
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat { delivered: Some(self.delivered), head: None }
    }

    fn bookmark(&self, world: World<'_>) -> Option<Cursor> {
        match self.subscription {
            Subscription::NotAsked if self.waiting.is_empty() => {
                Some(world.history.cursor(world.history.head()))
            }
            Subscription::NotAsked | Subscription::Asked => None,
            Subscription::Accepted => {
                self.parts.is_empty().then(|| world.history.cursor(self.position))
            }
        }
    }

    /// The connection is level: its position is the head.
    fn subscribe(
        &mut self,
        id: Option<&String>,
        request: Subscribe,
        world: World<'_>,
    ) -> ServerFrame {
        if let Some((code, why)) = self.objection(&request) {
            return Envelope::new(refusal(code, why));
        }
        if !self.is_subscribed() {
            self.subscription = Subscription::Asked;
        }
        let Subscribe { repositories, since, since_time, tail, on_gap, types, snapshot } = request;
        let (mut accepted, denied): (Vec<_>, Vec<_>) =
            repositories.into_iter().partition(|pattern| world.grants(pattern));
        let denied = denied
            .into_iter()
            .map(|repository| Denied { repository, code: ErrorCode::NotFound })
            .collect();
        let head = world.history.cursor(self.position);
        let history = world.history;
        let is_asked = |entry: &Entry| is_wanted(entry, &accepted, types.as_ref(), world);
        let tail = tail.map(|events| Ok(history.position_of_last(events, is_asked)));
        let at_time = since_time.map(|time| history.position_at(time));
        let start = since.as_ref().map(|since| history.position(since)).or(at_time).or(tail);
        let with_state = snapshot || on_gap == Some(OnGap::Snapshot);
        let (mode, reason, cursor) = match start {
            _ if accepted.is_empty() => (Mode::Live, None, None),
            None if snapshot => (Mode::Snapshot, None, None),
            None => (Mode::Live, None, Some(head.clone())),
            Some(Ok(position)) => {
                self.position = position;
                (Mode::Resumed, None, since.or_else(|| Some(history.cursor(position))))
            }
            Some(Err(reason)) if with_state => (Mode::Reset, Some(reason), None),
            Some(Err(reason)) if on_gap == Some(OnGap::Live) => {
                (Mode::Reset, Some(reason), Some(head.clone()))
            }
            Some(Err(reason)) => {
                accepted.clear();
                (Mode::Reset, Some(reason), None)
            }
        };
        if !accepted.is_empty() {
            if !self.is_subscribed() {
                self.types = types;
            }
            self.subscription = Subscription::Accepted;
            self.patterns.extend(accepted.iter().cloned());
            if cursor.is_none() {
                self.parts = parts(&accepted, id, world);
            }
        }
        subscribed(accepted, denied, mode, reason, head).cursor(cursor)
    }

    /// Why this cannot be subscribed, whatever may be read.
    fn objection(&self, request: &Subscribe) -> Option<(ErrorCode, &'static str)> {
        let Subscribe { repositories, since, since_time, tail, on_gap, snapshot, types } = request;
        let is_first = !self.is_subscribed();
        let starts = [since.is_some(), since_time.is_some(), tail.is_some()];
        let starts = starts.into_iter().filter(|is_given| *is_given).count();
        let known = if is_first { types.as_ref() } else { self.types.as_ref() };
        let with_state = *snapshot || *on_gap == Some(OnGap::Snapshot);
        let new = repositories.iter().filter(|pattern| !self.patterns.contains(pattern)).count();
        if repositories.is_empty() {
            Some((ErrorCode::BadMessage, "there is no repository"))
        } else if starts > 1 || tail.is_some_and(|events| !(1..=MAX_TAIL).contains(&events)) {
            Some((
                ErrorCode::BadMessage,
                "there is one beginning, and a tail of 1 to 10,000 events",
            ))
        } else if *snapshot && since.is_none() && starts > 0 {
            Some((ErrorCode::BadMessage, "a snapshot does not go with since_time or tail"))
        } else if !is_first && starts > 0 {
            Some((ErrorCode::SinceNotFirst, "a beginning belongs into the first subscription"))
        } else if types.is_some() && types.as_ref() != known {
            Some((ErrorCode::BadMessage, "types cannot change"))
        } else if with_state && known.is_some() {
            Some((ErrorCode::BadMessage, "types and a snapshot do not go together"))
        } else if self.patterns.len() + new > MOST_PATTERNS {
            Some((ErrorCode::LimitSubscriptions, "a connection may hold 128 patterns"))
        } else {
            None
        }
    }
}

fn is_wanted<'a>(
    entry: &Entry,
    patterns: impl IntoIterator<Item = &'a Pattern>,
    types: Option<&Vec<EventKind>>,
    world: World<'_>,
) -> bool {
    let Entry { event, .. } = entry;
    types.is_none_or(|types| types.contains(&event.kind()))
        && world.may_read(&event.repository)
        && patterns.into_iter().any(|pattern| pattern.matches(&event.repository))
}

fn refusal(code: ErrorCode, why: &str) -> ServerMessage {
    ServerMessage::Error(ErrorMessage::new(code, why))
}

fn subscribed(
    accepted: Vec<Pattern>,
    denied: Vec<Denied>,
    mode: Mode,
    reason: Option<ResetReason>,
    head: Cursor,
) -> ServerFrame {
    let data = Subscribed { accepted, denied, mode, reason, head: Some(head) };
    Envelope::new(ServerMessage::Subscribed(data))
}

/// The present state of these, in frames. The last one carries its position.
fn parts(accepted: &[Pattern], id: Option<&String>, world: World<'_>) -> VecDeque<ServerFrame> {
    let wanted = |task: &&Task| {
        let is_asked = accepted.iter().any(|pattern| pattern.matches(&task.repository));
        is_asked && world.may_read(&task.repository)
    };
    let tasks: Vec<Task> = world.history.tasks().filter(wanted).cloned().collect();
    let count = tasks.len().div_ceil(TASKS_IN_A_FRAME).max(1);
    let mut tasks = tasks.into_iter();
    let part = |place| {
        let (first, last) = (place == 0, place + 1 == count);
        let tasks = tasks.by_ref().take(TASKS_IN_A_FRAME).collect();
        let part = Snapshot { repositories: accepted.to_vec(), tasks, first, last };
        let cursor = last.then(|| world.history.cursor(world.history.head()));
        let frame = Envelope::new(ServerMessage::Snapshot(part)).at(world.now);
        frame.cursor(cursor).id(id.cloned())
    };
    (0..count).map(part).collect()
}

#[cfg(test)]
mod tests;
