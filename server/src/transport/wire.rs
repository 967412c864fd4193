//! What a connection is driven over.

use std::future::Future;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use super::reading::{Incoming, Violation};
use crate::hub::Stop;
use crate::session::Outbox;

/// How long a closing peer may take to answer.
pub(super) const CLOSING: Duration = Duration::from_secs(1);

/// Why no message comes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The stream has ended.
    Gone,
    /// The peer broke the protocol.
    Violated(Violation),
}

/// One way to a peer: frames are put into it, and it takes them there.
pub(crate) trait Wire: Outbox + Send {
    /// Whether everything was written and flushed.
    fn is_idle(&self) -> bool;

    /// Writes some of what waits, and flushes at its end: how many bytes were taken.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;

    /// The next message of the peer, or that it has left.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, Left>>;

    /// How many bytes came in since this was last asked.
    fn take_received(&mut self) -> usize {
        0
    }

    /// Whether bytes came in since [`Self::take_received`] was called.
    fn has_received(&self) -> bool {
        false
    }

    /// Puts something that means nothing behind what waits.
    fn keep_alive(&mut self) {}

    /// Says why it ends, and ends it, as far as the peer takes part.
    fn close(&mut self, stop: Stop) -> impl Future<Output = ()> + Send;

    /// Writes what waits and ends it; whether the peer took it.
    fn finish(&mut self) -> impl Future<Output = bool> + Send;
}
