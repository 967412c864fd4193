//! What the caller holds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use taskwatch_protocol::{Cursor, EventKind, InvalidName, Pattern};

use crate::backoff::Delays;
use crate::config::{Settings, patterns};
use crate::connection::Connection;
use crate::driver;
use crate::feed::Feed;
use crate::machine::{Machine, Plan, Wish};
use crate::{ConnectionWatch, Event, OnGap, Update, WatchError};

/// The caller's end of a feed, and what its driver begins with.
#[derive(Debug)]
struct Subscription {
    feed: Arc<Feed>,
    /// `None` once the driver runs.
    start: Option<Start>,
    connection: ConnectionWatch,
}

#[derive(Debug)]
struct Start {
    settings: Settings,
    plan: Plan,
    wished: Vec<Pattern>,
    connection: Connection,
}

impl Start {
    fn run(self, feed: Arc<Feed>) {
        let Settings { dialer, backoff_initial, backoff_cap, max_elapsed, .. } = self.settings;
        let delays = Delays::new(backoff_initial, backoff_cap, fastrand::f64);
        let machine = Machine::new(self.plan, delays, max_elapsed);
        let first = Wish::Add(self.wished);
        tokio::spawn(driver::run(machine, dialer, feed, self.connection, first));
    }
}

impl Subscription {
    fn start(&mut self) {
        if let Some(start) = self.start.take() {
            start.run(Arc::clone(&self.feed));
        }
    }

    fn poll_update(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Update, WatchError>>> {
        self.start();
        self.feed.poll_next(cx)
    }

    async fn ready(&mut self) -> Result<(), WatchError> {
        self.start();
        std::future::poll_fn(|cx| self.feed.poll_ready(cx)).await
    }

    fn add<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.feed.wish(Wish::Add(patterns(repositories)?));
        Ok(())
    }

    fn remove<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.feed.wish(Wish::Remove(patterns(repositories)?));
        Ok(())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.feed.abandon();
    }
}

/// The events of some repositories; see [`Client::subscribe`](crate::Client::subscribe).
///
/// Dropping it closes the connection in the background.
#[derive(Debug)]
#[must_use = "nothing is dialled before the stream is polled"]
pub struct EventStream {
    inner: Subscription,
}

impl EventStream {
    pub(crate) fn new(settings: Settings, wished: Vec<Pattern>) -> Self {
        let has_tokens = settings.dialer.has_tokens();
        let plan = Plan { has_tokens, transport: settings.transport, ..Plan::default() };
        let (shown, connection) = Connection::new();
        let start = Some(Start { settings, plan, wished, connection: shown });
        Self { inner: Subscription { feed: Arc::new(Feed::new()), start, connection } }
    }

    /// Goes on after this position instead of beginning with what comes from now on.
    ///
    /// Before the first poll; later it changes nothing.
    pub fn since(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        if let Some(start) = &mut self.inner.start {
            start.plan.since = cursor.into();
            self.inner.feed.begin_at(start.plan.since.clone());
        }
        self
    }

    /// Begins with the present state of what is watched, and so does what is
    /// [added](Self::add) later.
    ///
    /// The state comes as [`Update::Snapshot`], so it is seen in the [`updates`](Self::updates)
    /// alone: the plain stream yields events only, and begins with the first one behind it. A
    /// snapshot comes whole, and what follows it is exactly what has happened since. If the
    /// connection is lost in between, it is asked for again. With [`since`](Self::since) the
    /// position wins: the state comes only if the server cannot go on from there. A saved position
    /// stands for the state only of what had its snapshot by then.
    ///
    /// When frames were lost on the way, which is found by counting, the state of everything may come
    /// again in the place of the events that were lost.
    ///
    /// The stream ends with [`WatchError::Refused`] if the server has no state to send, and with
    /// [`WatchError::FilteredSnapshot`] if [`types`](Self::types) is chosen as well.
    ///
    /// Before the first poll; later it changes nothing.
    pub fn snapshot(mut self) -> Self {
        if let Some(start) = &mut self.inner.start {
            start.plan.snapshot = true;
        }
        self
    }

    /// What to do if events were lost; by default the stream ends.
    ///
    /// [`OnGap::Live`] and [`OnGap::Snapshot`] go on. What was lost, and the state that comes in its
    /// place, is told in the [`updates`](Self::updates) alone: the plain stream just goes on.
    ///
    /// Before the first poll; later it changes nothing.
    pub fn on_gap(mut self, on_gap: OnGap) -> Self {
        if let Some(start) = &mut self.inner.start {
            start.plan.on_gap = on_gap;
        }
        self
    }

    /// Only these kinds of events.
    ///
    /// Before the first poll; later it changes nothing.
    pub fn types(mut self, kinds: impl IntoIterator<Item = EventKind>) -> Self {
        if let Some(start) = &mut self.inner.start {
            start.plan.types = Some(kinds.into_iter().collect());
        }
        self
    }

    /// The caller says what it has handled, and the [`cursor`](Self::cursor) is the position behind which
    /// all of it is: it never passes what was yielded and not [acknowledged](Acker::ack).
    ///
    /// So a program that works on several events at a time, or hands them to others, loses none if it
    /// ends in the middle: what it had not handled comes again. Each event needs an ack, and each
    /// [`Update::Snapshot`] too; what the plain stream does not yield needs none. How many are open at a
    /// time is for the caller to limit: about a hundred bytes are kept for each event from the first open
    /// one on.
    ///
    /// Before the first poll; later it changes nothing.
    pub fn manual_ack(self) -> Self {
        if self.inner.start.is_some() {
            self.inner.feed.expect_acks();
        }
        self
    }

    /// To say what is handled, from wherever that is known; see [`manual_ack`](Self::manual_ack).
    pub fn acker(&self) -> Acker {
        Acker { feed: Arc::clone(&self.inner.feed) }
    }

    /// To look at how the connection stands, from wherever that is shown.
    #[must_use]
    pub fn connection(&self) -> ConnectionWatch {
        self.inner.connection.clone()
    }

    /// The full story: events, and what happens to the connection.
    pub fn updates(self) -> Updates {
        Updates { inner: self.inner }
    }

    /// Waits for the first acknowledgement: from then on no matching event is missed.
    ///
    /// # Errors
    /// If the stream has ended; it yields the same error.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn ready(&mut self) -> Result<(), WatchError> {
        self.inner.ready().await
    }

    /// The position of what was yielded: save it, and go on with [`since`](Self::since).
    ///
    /// It also moves while nothing happens in the watched repositories, so that a saved one does
    /// not fall out of the server's history. `None` before the subscription is acknowledged. With
    /// [`manual_ack`](Self::manual_ack) it is that of what was handled.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.inner.feed.position()
    }

    /// Watches these as well: from now on, or, while the link is down, from where the stream goes
    /// on. With [`snapshot`](Self::snapshot), from their present state on.
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is neither a name nor a pattern; then none is added.
    pub fn add<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.inner.add(repositories)
    }

    /// Watches exactly these patterns no longer. Events on their way may still come, snapshots do
    /// not.
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is neither a name nor a pattern; then none is removed.
    pub fn remove<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.inner.remove(repositories)
    }
}

impl Stream for EventStream {
    type Item = Result<Event, WatchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.inner.poll_update(cx)) {
                Some(Ok(Update::Event(event))) => return Poll::Ready(Some(Ok(event))),
                // Nobody sees it, so nobody can say that it is handled.
                Some(Ok(Update::Snapshot(hidden))) => self.inner.feed.ack(&hidden.cursor),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Everything that happens on a stream; see [`EventStream::updates`].
///
/// Dropping it closes the connection in the background.
#[derive(Debug)]
#[must_use = "nothing is dialled before the stream is polled"]
pub struct Updates {
    inner: Subscription,
}

impl Updates {
    pub(crate) fn wish(&self, wish: Wish) {
        self.inner.feed.wish(wish);
    }

    /// As [`EventStream::ready`].
    ///
    /// # Errors
    /// If the stream has ended; it yields the same error.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn ready(&mut self) -> Result<(), WatchError> {
        self.inner.ready().await
    }

    /// As [`EventStream::cursor`].
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.inner.feed.position()
    }

    /// As [`EventStream::connection`].
    #[must_use]
    pub fn connection(&self) -> ConnectionWatch {
        self.inner.connection.clone()
    }

    /// As [`EventStream::acker`].
    pub fn acker(&self) -> Acker {
        Acker { feed: Arc::clone(&self.inner.feed) }
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
        self.inner.add(repositories)
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
        self.inner.remove(repositories)
    }
}

impl Stream for Updates {
    type Item = Result<Update, WatchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_update(cx)
    }
}

/// Says what is handled of a stream; see [`EventStream::manual_ack`].
///
/// Each copy speaks for the same stream, on whatever thread, and also after the stream was dropped.
#[derive(Clone, Debug)]
#[must_use = "it does nothing by itself"]
pub struct Acker {
    feed: Arc<Feed>,
}

impl Acker {
    /// The event or snapshot with this position is handled. They may be acknowledged in any order.
    ///
    /// An event and a snapshot behind it can have the same position; then each has an ack of its own. For
    /// what was not yielded, or is acknowledged already, nothing happens; nor does it on a stream without
    /// [`manual_ack`](EventStream::manual_ack).
    pub fn ack(&self, cursor: &Cursor) {
        self.feed.ack(cursor);
    }

    /// The position behind which everything is handled: the one to save. The stream's own
    /// [`cursor`](EventStream::cursor) is the same.
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
