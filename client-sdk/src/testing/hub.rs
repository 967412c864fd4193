//! A hub with its connections, and what goes wrong with them. Plain data: nobody waits here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use taskwatch_protocol::{
    CloseCode, CloseReason, Cursor, Pattern, ServerFrame, ServerMessage, TaskEvent, Timestamp,
};

use super::conversation::{Conversation, Next, World};
use super::history::History;
use super::{BEGINNING, HEARTBEAT};

/// More frames are not made before the client has taken some.
const WINDOW: usize = 64;

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With the word of the hub.
    Close(CloseCode, CloseReason),
    /// Without one.
    Break,
    /// Not at all: it stays, and nothing goes through it any more.
    Mute,
}

/// What is to be done for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Send(String),
    End(End),
    /// Nothing, before this time or before something happens.
    Wait(Duration),
}

/// What is to go wrong.
#[derive(Debug, Default)]
struct Faults {
    /// Attempts to connect that fail.
    refuse: u64,
    /// Events that vanish on their way.
    lose: u64,
    /// Frames before one that breaks its connection.
    cut_after: Option<u64>,
    delay: Duration,
    /// Nothing gets through.
    is_mute: bool,
}

#[derive(Debug)]
struct Connection {
    conversation: Conversation,
    /// Frames that were said and have not gone out, with the times at which they do.
    way: VecDeque<(Duration, ServerFrame)>,
    next_ping: Duration,
    /// An event has vanished, and the client does not know.
    has_lost: bool,
    end: Option<End>,
}

/// All of it. Times are counted from the hub's beginning.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) history: History,
    denied: BTreeSet<Pattern>,
    faults: Faults,
    connections: BTreeMap<u64, Connection>,
    opened: u64,
}

/// The hub's wall clock.
pub(super) fn wall(now: Duration) -> Timestamp {
    Timestamp::from_unix_millis(BEGINNING + i64::try_from(now.as_millis()).unwrap_or(i64::MAX / 2))
}

impl Hub {
    pub(super) fn new() -> Self {
        Self {
            history: History::new(),
            denied: BTreeSet::new(),
            faults: Faults::default(),
            connections: BTreeMap::new(),
            opened: 0,
        }
    }

    pub(super) fn append(&mut self, now: Duration, event: TaskEvent) -> Cursor {
        self.history.append(event, wall(now))
    }
}

/// The faults.
impl Hub {
    pub(super) fn refuse(&mut self, attempts: u64) {
        self.faults.refuse = attempts;
    }

    pub(super) fn lose(&mut self, events: u64) {
        self.faults.lose = events;
    }

    pub(super) fn cut_after(&mut self, frames: u64) {
        self.faults.cut_after = Some(frames);
    }

    pub(super) fn delay(&mut self, delay: Duration) {
        self.faults.delay = delay;
    }

    pub(super) fn mute(&mut self) {
        self.faults.is_mute = true;
        self.end_all(&End::Mute);
    }

    pub(super) fn heal(&mut self) {
        self.faults = Faults::default();
    }

    pub(super) fn end_all(&mut self, end: &End) {
        for connection in self.connections.values_mut() {
            // What nothing goes through hears no goodbye either.
            if connection.end.is_none() || *end == End::Break {
                connection.end = Some(end.clone());
            }
        }
    }

    /// Changes what may be read.
    pub(super) fn deny(&mut self, pattern: Pattern, is_denied: bool) {
        let has_changed = match is_denied {
            true => self.denied.insert(pattern),
            false => self.denied.remove(&pattern),
        };
        if has_changed {
            let code = CloseCode::AccessChanged;
            self.end_all(&End::Close(code, reason(code, None)));
        }
    }
}

/// A reason as a server writes it.
pub(super) fn reason(code: CloseCode, retry_after: Option<Duration>) -> CloseReason {
    let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    CloseReason { word: code.word().to_owned(), retry_after_ms: retry_after.map(millis) }
}

/// The connections.
impl Hub {
    /// Whether an attempt to connect gets an answer at all.
    pub(super) fn is_reachable(&self) -> bool {
        !self.faults.is_mute
    }

    /// Another connection; `None` if it is refused.
    pub(super) fn open(&mut self, now: Duration) -> Option<u64> {
        if let Some(left) = self.faults.refuse.checked_sub(1) {
            self.faults.refuse = left;
            return None;
        }
        self.opened += 1;
        let welcome = Conversation::welcome(self.opened, wall(now));
        let connection = Connection {
            conversation: Conversation::new(),
            way: VecDeque::from([(now + self.faults.delay, welcome)]),
            next_ping: now + HEARTBEAT,
            has_lost: false,
            end: None,
        };
        self.connections.insert(self.opened, connection);
        Some(self.opened)
    }

    /// A connection is over, and everything about it is forgotten.
    pub(super) fn forget(&mut self, number: u64) {
        self.connections.remove(&number);
    }

    fn alive(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values().filter(|connection| connection.end.is_none())
    }

    pub(super) fn count(&self) -> usize {
        self.alive().count()
    }

    pub(super) fn count_subscribed(&self) -> usize {
        self.alive().filter(|it| it.conversation.is_subscribed()).count()
    }

    /// How many there are, if all of them were sent everything.
    pub(super) fn count_level(&self) -> Option<usize> {
        let is_level = |it: &Connection| {
            it.conversation.is_level(&self.history) && it.way.is_empty() && !it.has_lost
        };
        self.alive().all(is_level).then(|| self.count())
    }

    /// How a connection ends, if it does.
    pub(super) fn end_of(&self, number: u64) -> Option<End> {
        self.connections.get(&number).map_or(Some(End::Break), |it| it.end.clone())
    }

    /// A client has said something.
    pub(super) fn hear(&mut self, now: Duration, number: u64, text: &str) {
        let Self { history, denied, connections, faults, .. } = self;
        let Some(connection) = connections.get_mut(&number) else { return };
        let world = World { history, denied, now: wall(now) };
        if let Some(answer) = connection.conversation.hear(text, world) {
            connection.way.push_back((now + faults.delay, answer));
        }
    }

    /// What is to be done for a connection next.
    pub(super) fn step(&mut self, now: Duration, number: u64) -> Step {
        let Self { history, denied, connections, faults, .. } = self;
        let Some(connection) = connections.get_mut(&number) else { return Step::End(End::Break) };
        if let Some(end) = &connection.end {
            return Step::End(end.clone());
        }
        connection.fill(World { history, denied, now: wall(now) }, now, faults.delay);
        if let Some(end) = &connection.end {
            return Step::End(end.clone());
        }
        while let Some((_, frame)) = connection.way.pop_front_if(|(due, _)| *due <= now) {
            let is_event = matches!(frame.message, ServerMessage::Task(_));
            if is_event && faults.lose > 0 {
                faults.lose -= 1;
                connection.has_lost = true;
                continue;
            }
            match &mut faults.cut_after {
                Some(0) => {
                    faults.cut_after = None;
                    connection.end = Some(End::Break);
                    return Step::End(End::Break);
                }
                Some(left) => *left -= 1,
                None => {}
            }
            return Step::Send(frame.encode());
        }
        let due = connection.way.front().map_or(connection.next_ping, |(due, _)| *due);
        Step::Wait(due.min(connection.next_ping))
    }
}

impl Connection {
    /// Puts on the way what there is to say.
    fn fill(&mut self, world: World<'_>, now: Duration, delay: Duration) {
        let due = now + delay;
        while self.way.len() < WINDOW {
            match self.conversation.next(world) {
                None => break,
                Some(Next::Frame(frame)) => self.way.push_back((due, frame)),
                Some(Next::Overtaken) => {
                    let code = CloseCode::InsufficientState;
                    self.end = Some(End::Close(code, reason(code, None)));
                    return;
                }
            }
        }
        if now >= self.next_ping {
            self.way.push_back((due, self.conversation.ping(world)));
            self.next_ping = now + HEARTBEAT;
        }
    }
}
