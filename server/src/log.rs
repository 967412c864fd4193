//! The log of events, as the hub needs it: one order, one position for everybody.

mod incarnations;
mod memory;
mod seek;
mod snapshot;
mod spool;

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use serde::Deserialize;
use taskwatch_protocol::{Cursor, EventKind, Pattern, RepositoryName, ResetReason, Seq, Timestamp};

pub use incarnations::Incarnations;
pub use memory::{MemoryLog, TaskEventPublisher};
pub(crate) use seek::Start;
pub use seek::{SeekError, SeekFuture, Tail};
pub use snapshot::{SnapshotError, SnapshotSink, TaskSnapshot};
pub(crate) use spool::{SpoolLimits, SpooledFrames, Spools, UNIT};

use crate::transport::framing;

/// One event of the log, encoded once. A clone shares the bytes.
#[derive(Clone, Debug)]
pub struct LogEvent {
    seq: Seq,
    repository: RepositoryName,
    kind: EventKind,
    frame: Bytes,
    header_len: usize,
}

impl LogEvent {
    /// An event from its number, what it is filtered by, and the envelope that goes on the wire.
    ///
    /// The envelope must be one line of JSON and carry the cursor of `seq`.
    #[must_use]
    pub fn new(seq: Seq, repository: RepositoryName, kind: EventKind, envelope: &str) -> Self {
        let (frame, header_len) = framing::text_frame(envelope.as_bytes());
        Self { seq, repository, kind, frame, header_len }
    }

    /// Its number in the log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The repository it belongs to.
    #[must_use]
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> &EventKind {
        &self.kind
    }

    /// The envelope's JSON.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        self.frame.get(self.header_len..).unwrap_or_default()
    }

    /// An event out of the frame that went to somebody; `None` if its envelope does not say whose it
    /// is.
    pub(crate) fn of_frame(seq: Seq, frame: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            data: Data<'a>,
        }
        #[derive(Deserialize)]
        struct Data<'a> {
            #[serde(borrow)]
            repository: Cow<'a, str>,
        }
        let payload = framing::payload(frame);
        let Envelope { kind, data } = serde_json::from_slice(payload).ok()?;
        let (repository, kind) = (data.repository.parse().ok()?, EventKind::from(&*kind));
        let (frame, header_len) = (Bytes::copy_from_slice(frame), frame.len() - payload.len());
        Some(Self { seq, repository, kind, frame, header_len })
    }

    /// Header and envelope as one WebSocket frame.
    pub(crate) fn frame(&self) -> &Bytes {
        &self.frame
    }
}

/// A stretch of the log.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Events in order, none left out, each after the position that was asked for.
    pub events: Vec<LogEvent>,
    /// Everything up to here was looked at; at least the last event's number.
    pub scanned_to: Seq,
}

/// How much one read may return. The first event is returned whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// Number of events.
    pub events: usize,
    /// Bytes of their envelopes.
    pub bytes: usize,
}

/// Why the log could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Events after the position are no longer kept. A partial answer is never given.
    #[error("events after this position are no longer kept")]
    Gone,
    /// The log cannot be read now.
    #[error("the log cannot be read: {0}")]
    Unavailable(String),
}

/// The future of [`EventLog::read`].
pub type ReadFuture<'a> = Pin<Box<dyn Future<Output = Result<Page, ReadError>> + Send + 'a>>;

/// The future of [`EventLog::snapshot`].
pub type SnapshotFuture<'a> =
    Pin<Box<dyn Future<Output = Result<TaskSnapshot, SnapshotError>> + Send + 'a>>;

/// The one thing an embedder supplies: the events that were committed, in order.
///
/// Numbers are given out by the log, grow by at least one, and are never used twice. The hub
/// filters; the log returns everything.
pub trait EventLog: Send + Sync + 'static {
    /// The number of the newest event, 0 if there never was one. Asked once, when the hub starts;
    /// later the hub goes by what is published.
    fn head(&self) -> Seq;

    /// The cursor of a position, in the incarnation that the number belongs to.
    fn cursor(&self, seq: Seq) -> Cursor;

    /// The position that a cursor names.
    ///
    /// # Errors
    /// Why reading cannot go on from there.
    fn validate(&self, cursor: &Cursor) -> Result<Seq, ResetReason>;

    /// Reads the events after `after`, up to and with `upto`, as far as `limit` allows.
    ///
    /// An empty page with `scanned_to == upto` says that there is nothing in between.
    fn read(&self, after: Seq, upto: Seq, limit: PageLimit) -> ReadFuture<'_>;

    /// The position before the first event at or after `time`; the newest one if there is none. The
    /// times of events must never decrease along the log.
    ///
    /// Where this is not implemented, a subscription that begins at a time is refused.
    ///
    /// # Errors
    /// [`SeekError::Gone`] if there was such an event that is no longer kept.
    fn seek_time(&self, time: Timestamp) -> SeekFuture<'_> {
        let _ = time;
        Box::pin(std::future::ready(Err(SeekError::Unsupported)))
    }

    /// Shows `tail` the kept events up to its end, the newest first, until it has enough of them.
    /// The position that it names then.
    ///
    /// Where this is not implemented, a subscription that begins with the last events is refused.
    fn seek_tail(&self, tail: Tail) -> SeekFuture<'_> {
        let _ = tail;
        Box::pin(std::future::ready(Err(SeekError::Unsupported)))
    }

    /// Pushes the tasks of `repositories`, as they are at one position, and finishes with that
    /// position. The log picks it: not before anything that was published, and not ahead of what
    /// [`read`](Self::read) finds. The sink may wait for the disk, so this is work for a thread of
    /// [`spawn_blocking`](tokio::task::spawn_blocking).
    ///
    /// Where this is not implemented, a subscription that asks for a snapshot is refused.
    fn snapshot(&self, repositories: &[Pattern], into: SnapshotSink) -> SnapshotFuture<'_> {
        let _ = (repositories, into);
        Box::pin(std::future::ready(Err(SnapshotError::Unsupported)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn event(seq: Seq, repository: &str) -> LogEvent {
        let envelope = format!(r#"{{"type":"task.created","cursor":"{seq}"}}"#);
        LogEvent::new(seq, repository.parse().unwrap(), EventKind::Created, &envelope)
    }

    #[test]
    fn an_event_is_one_frame_and_its_envelope_stands_in_it() {
        let event = event(7, "foo");
        assert_eq!(event.envelope(), br#"{"type":"task.created","cursor":"7"}"#);
        assert!(event.frame().ends_with(event.envelope()));
    }
}
