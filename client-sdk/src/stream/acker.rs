//! What the caller says of what it was given.

use std::sync::Arc;

use taskwatch_protocol::Cursor;

use crate::feed::Feed;

/// Says what is handled of a stream; see [`EventStream::manual_ack`](crate::EventStream::manual_ack).
///
/// Each copy speaks for the same stream, on whatever thread, and also after the stream was dropped.
#[derive(Clone, Debug)]
#[must_use = "it does nothing by itself"]
pub struct Acker {
    feed: Arc<Feed>,
}

impl Acker {
    pub(super) fn new(feed: Arc<Feed>) -> Self {
        Self { feed }
    }

    /// The event or snapshot with this position is handled. They may be acknowledged in any order.
    ///
    /// An event and a snapshot behind it can have the same position; then each has an ack of its own. For
    /// what was not yielded, or is acknowledged already, nothing happens; nor does it on a stream without
    /// [`manual_ack`](crate::EventStream::manual_ack).
    pub fn ack(&self, cursor: &Cursor) {
        self.feed.ack(cursor);
    }

    /// The position behind which everything is handled: the one to save. The stream's own
    /// [`cursor`](crate::EventStream::cursor) is the same.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.feed.position()
    }

    /// How many events and snapshots were yielded and not acknowledged.
    #[must_use]
    pub fn open(&self) -> usize {
        self.feed.open()
    }
}
