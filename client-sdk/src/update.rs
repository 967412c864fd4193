//! What a stream yields.

use std::ops::Deref;
use std::time::Duration;

use taskwatch_protocol::{
    Cursor, Denied, Envelope, Pattern, ResetReason, ServerMessage, Snapshot as Frame, Task,
    TaskEvent, Timestamp, Traceparent,
};

use crate::Transport;

/// A change of a task.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The change.
    pub event: TaskEvent,
    /// The position behind it: a stream opened `since` here goes on with the next event.
    pub cursor: Cursor,
    /// When the server sent it for the first time.
    pub timestamp: Option<Timestamp>,
    /// Whether it came while the stream was catching up with what it had missed.
    pub replayed: bool,
    pub(crate) traceparent: Option<Traceparent>,
    pub(crate) envelope: Box<str>,
}

impl Event {
    /// The trace of the request that made the change, if it came with one: a `traceparent` of version 00,
    /// as W3C Trace Context has it. Who does something about the event can go on with this trace.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_ref().map(Traceparent::as_str)
    }

    /// The JSON as it came, with the fields this version does not know.
    #[must_use]
    pub fn envelope(&self) -> &str {
        &self.envelope
    }
}

impl Deref for Event {
    type Target = TaskEvent;

    fn deref(&self) -> &TaskEvent {
        &self.event
    }
}

/// What happens on a stream, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Update {
    /// A task changed.
    Event(Event),
    /// A connection is being made.
    Connecting {
        /// 1 for the first attempt since the link was last proven good.
        attempt: u32,
    },
    /// The subscription is acknowledged.
    Connected {
        /// Whether the stream goes on from a position. What was missed follows, then
        /// [`CaughtUp`](Self::CaughtUp).
        resumed: bool,
        /// Name and version of the server, for people; empty if it did not say, as over plain HTTP.
        server: String,
        /// The way on which events come. The stream is told again when it changes, without an
        /// interruption.
        transport: Transport,
        /// Why it is not WebSocket, for people; `None` if it is, or was not to be.
        fallback: Option<String>,
    },
    /// Everything that had been missed has been yielded; from here on events are live.
    CaughtUp {
        /// Events that had been missed.
        replayed: u64,
        /// How long the link was down; zero if there was none before.
        away: Duration,
    },
    /// The link was lost; the stream comes back by itself.
    Interrupted {
        /// What happened, for people.
        reason: String,
        /// How long it waits before the next attempt.
        retry_in: Duration,
    },
    /// The caller reads too slowly, so the link was given back; it is made again, without loss,
    /// when half of what is buffered has been yielded.
    Parked,
    /// Some repositories do not exist for this principal, or no longer do; the others are subscribed.
    /// Every further connection asks for them again.
    Denied(Vec<Denied>),
    /// These had been denied, and are watched from here on: with their present state, if the stream
    /// [begins with it](crate::EventStream::snapshot), otherwise with their next event. What happened
    /// while they were denied is not told.
    Granted(Vec<Pattern>),
    /// The present state of some repositories, in place of everything that was known of them. What
    /// follows is exactly what has happened since.
    Snapshot(Snapshot),
    /// Events were lost, and [`OnGap::Live`] or [`OnGap::Snapshot`] was chosen: the stream goes on
    /// with new events, or with the present state of everything.
    Gap(Gap),
    /// Everything that matches up to this position has been yielded.
    Bookmark(Cursor),
    /// How fresh the stream is; see [`EventStream::freshness`](crate::EventStream::freshness).
    Fresh {
        /// What had happened so long before, or earlier, has been yielded before this update, as far
        /// as it matches. It is the time that a question to the server and its answer took.
        behind: Duration,
    },
}

/// A hole in the stream: what happened between two positions is no longer known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Why the position could not be honoured.
    pub reason: ResetReason,
    /// The position that was asked for.
    pub since: Option<Cursor>,
    /// Where the stream goes on; `None` if the present state follows, which says it.
    pub cursor: Option<Cursor>,
}

/// The tasks of some repositories as they are at one position.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Whose tasks these are: names and patterns as they were asked for.
    pub repositories: Vec<Pattern>,
    /// All of them.
    pub tasks: Vec<Task>,
    /// The position: the tasks hold everything that has happened up to here.
    pub cursor: Cursor,
    pub(crate) frames: Vec<Box<str>>,
}

impl Snapshot {
    /// The JSON as it came, with the fields this version does not know: one or more frames of the
    /// type `snapshot`.
    pub fn envelopes(&self) -> impl Iterator<Item = &str> {
        self.frames.iter().map(AsRef::as_ref)
    }

    /// Leaves out what belongs to other repositories.
    pub(crate) fn retain(&mut self, stays: impl FnMut(&Pattern) -> bool) {
        let before = self.repositories.len();
        self.repositories.retain(stays);
        if self.repositories.len() == before {
            return;
        }
        let Self { repositories, tasks, .. } = self;
        tasks.retain(|task| repositories.iter().any(|stays| stays.matches(&task.repository)));
        let (repositories, tasks) = (repositories.clone(), tasks.clone());
        let frame = Frame { repositories, tasks, first: true, last: true };
        let frame = Envelope::new(ServerMessage::Snapshot(frame)).cursor(self.cursor.clone());
        self.frames = vec![frame.encode().into()];
    }
}

/// What to do when the server can no longer tell what was missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnGap {
    /// End the stream with [`WatchError::Gap`](crate::WatchError::Gap).
    #[default]
    Error,
    /// Yield [`Update::Gap`] and go on with new events.
    Live,
    /// Yield [`Update::Gap`], then [`Update::Snapshot`], and go on with what follows it.
    Snapshot,
}
