//! What the caller holds.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use taskwatch_protocol::{Cursor, EventKind, InvalidName, Pattern};

use crate::config::Settings;
use crate::{Event, OnGap, Update, WatchError};

/// The events of some repositories; see [`Client::subscribe`](crate::Client::subscribe).
#[derive(Debug)]
#[must_use = "nothing is dialled before the stream is polled"]
pub struct EventStream {
    _inner: (),
}

impl EventStream {
    pub(crate) fn new(_settings: Settings, _patterns: Vec<Pattern>) -> Self {
        Self { _inner: () }
    }

    /// Goes on after this position instead of beginning with what comes from now on.
    ///
    /// Before the first poll; later it changes nothing.
    pub fn since(self, _cursor: impl Into<Option<Cursor>>) -> Self {
        self
    }

    /// What to do if events were lost; by default the stream ends.
    ///
    /// Before the first poll; later it changes nothing.
    pub fn on_gap(self, _on_gap: OnGap) -> Self {
        self
    }

    /// Only these kinds of events.
    ///
    /// Before the first poll; later it changes nothing.
    pub fn types(self, _kinds: impl IntoIterator<Item = EventKind>) -> Self {
        self
    }

    /// The full story: events, and what happens to the connection.
    pub fn updates(self) -> Updates {
        Updates { _inner: () }
    }

    /// Waits for the first acknowledgement: from then on no matching event is missed.
    ///
    /// # Errors
    /// If the stream has ended; it yields the same error.
    pub async fn ready(&mut self) -> Result<(), WatchError> {
        std::future::pending().await
    }

    /// The position of what was yielded: save it, and go on with [`since`](Self::since).
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        None
    }

    /// Watches these as well.
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is neither a name nor a pattern; then none is added.
    pub fn add<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        crate::config::patterns(repositories).map(drop)
    }

    /// Watches exactly these patterns no longer.
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is neither a name nor a pattern; then none is removed.
    pub fn remove<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        crate::config::patterns(repositories).map(drop)
    }
}

impl Stream for EventStream {
    type Item = Result<Event, WatchError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

/// Everything that happens on a stream; see [`EventStream::updates`].
#[derive(Debug)]
#[must_use = "nothing is dialled before the stream is polled"]
pub struct Updates {
    _inner: (),
}

impl Updates {
    /// As [`EventStream::ready`].
    ///
    /// # Errors
    /// If the stream has ended; it yields the same error.
    pub async fn ready(&mut self) -> Result<(), WatchError> {
        std::future::pending().await
    }

    /// As [`EventStream::cursor`].
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        None
    }

    /// As [`EventStream::add`].
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is neither a name nor a pattern; then none is added.
    pub fn add<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        crate::config::patterns(repositories).map(drop)
    }

    /// As [`EventStream::remove`].
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is neither a name nor a pattern; then none is removed.
    pub fn remove<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        crate::config::patterns(repositories).map(drop)
    }
}

impl Stream for Updates {
    type Item = Result<Update, WatchError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}
