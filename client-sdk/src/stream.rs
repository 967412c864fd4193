//! What the caller holds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use taskwatch_protocol::{Cursor, EventKind, InvalidName, Pattern, Timestamp};

use crate::backoff::Delays;
use crate::config::{Settings, patterns};
use crate::driver;
use crate::feed::Feed;
use crate::machine::{Beginning, Machine, Plan, Wish};
use crate::{Event, OnGap, Update, WatchError};

/// A server takes only so many messages.
const LEAST_FRESHNESS: Duration = Duration::from_secs(1);

/// The caller's end of a feed, and what its driver begins with.
#[derive(Debug)]
struct Subscription {
    feed: Arc<Feed>,
    /// `None` once the driver runs.
    start: Option<Start>,
}

#[derive(Debug)]
struct Start {
    settings: Settings,
    plan: Plan,
    wished: Vec<Pattern>,
}

impl Start {
    fn run(self, feed: Arc<Feed>) {
        let Settings { dialer, backoff_initial, backoff_cap, max_elapsed, .. } = self.settings;
        let delays = Delays::new(backoff_initial, backoff_cap, fastrand::f64);
        let machine = Machine::new(self.plan, delays, max_elapsed);
        tokio::spawn(driver::run(machine, dialer, feed, Wish::Add(self.wished)));
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
        let start = Some(Start { settings, plan, wished });
        Self { inner: Subscription { feed: Arc::new(Feed::new()), start } }
    }

    /// Goes on after this position instead of beginning with what comes from now on; with `None`
    /// it begins with that.
    ///
    /// Of `since`, [`since_time`](Self::since_time) and [`tail`](Self::tail) the last call counts.
    /// Before the first poll; later it changes nothing.
    pub fn since(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        if let Some(start) = &mut self.inner.start {
            start.plan.since = cursor.into();
            start.plan.beginning = None;
            self.inner.feed.begin_at(start.plan.since.clone());
        }
        self
    }

    /// Begins with what happened at or after this time, by the server's clock.
    ///
    /// It is a [`since`](Self::since) whose position the server looks up: the events up to now come
    /// as [replayed](Event::replayed), then [`Update::CaughtUp`]. If some of them are no longer kept,
    /// that is a gap, and [`on_gap`](Self::on_gap) decides. A time that is still to come is now.
    ///
    /// Of `since`, `since_time` and [`tail`](Self::tail) the last call counts. The stream ends with
    /// [`WatchError::Refused`] if the server does not offer it. Before the first poll; later it
    /// changes nothing.
    pub fn since_time(self, time: Timestamp) -> Self {
        self.beginning(Beginning::Time(time))
    }

    /// Begins with so many past events, 1 to 10,000: the last of those that the stream is about.
    ///
    /// They come as [replayed](Event::replayed), then [`Update::CaughtUp`]. There may be fewer, and
    /// that is no gap: the server looks at its last 100,000 events, as far as it keeps them.
    ///
    /// Of [`since`](Self::since), [`since_time`](Self::since_time) and `tail` the last call counts.
    /// The stream ends with [`WatchError::Refused`] if the server does not offer it, or not so many.
    /// Before the first poll; later it changes nothing.
    pub fn tail(self, events: u32) -> Self {
        self.beginning(Beginning::Tail(events))
    }

    fn beginning(mut self, beginning: Beginning) -> Self {
        self = self.since(None);
        if let Some(start) = &mut self.inner.start {
            start.plan.beginning = Some(beginning);
        }
        self
    }

    /// Tells in the [`updates`](Self::updates), about this often, how fresh the stream is: an
    /// [`Update::Fresh`] each time.
    ///
    /// The server is asked while the connection is up and nothing is being caught up with; at most
    /// once a second. There is no update where the answer shows that more is on its way, from a
    /// server that does not say so, and over plain HTTP, where nothing can be asked.
    ///
    /// Before the first poll; later it changes nothing.
    pub fn freshness(mut self, every: Duration) -> Self {
        if let Some(start) = &mut self.inner.start {
            start.plan.freshness = Some(every.max(LEAST_FRESHNESS));
        }
        self
    }

    /// Begins with the present state of what is watched, and so does what is
    /// [added](Self::add) later.
    ///
    /// The state comes as [`Update::Snapshot`], so it is seen in the [`updates`](Self::updates)
    /// alone: the plain stream yields events only, and begins with the first one behind it. A
    /// snapshot comes whole, and what follows it is exactly what has happened since. If the
    /// connection is lost in between, it is asked for again. With [`since`](Self::since) or
    /// one of its kind the position wins: the state comes only if the server cannot go on from there. A saved position
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
    /// not fall out of the server's history. `None` before the first acknowledgement.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.inner.feed.yielded()
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
        self.inner.feed.yielded()
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
