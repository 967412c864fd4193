//! What a stream yields.

use std::ops::Deref;
use std::time::Duration;

use taskwatch_protocol::{Cursor, Denied, ResetReason, TaskEvent, Timestamp};

/// A change of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The change.
    pub event: TaskEvent,
    /// The position behind it: a stream opened `since` here goes on with the next event.
    pub cursor: Cursor,
    /// When the server sent it for the first time.
    pub timestamp: Option<Timestamp>,
    /// Whether it came while the stream was catching up with what it had missed.
    pub replayed: bool,
    pub(crate) envelope: Box<str>,
}

impl Event {
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
        /// Name and version of the server, for people; empty if it did not say.
        server: String,
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
    /// Some repositories do not exist for this principal; the others are subscribed.
    Denied(Vec<Denied>),
    /// Events were lost, and [`OnGap::Live`] was chosen: the stream goes on with new events.
    Gap(Gap),
    /// Everything that matches up to this position has been yielded.
    Bookmark(Cursor),
}

/// A hole in the stream: what happened between two positions is no longer known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Why the position could not be honoured.
    pub reason: ResetReason,
    /// The position that was asked for.
    pub since: Option<Cursor>,
    /// Where the stream goes on.
    pub cursor: Option<Cursor>,
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
}
