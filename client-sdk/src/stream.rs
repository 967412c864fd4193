//! What the caller holds.

mod acker;
mod subscription;

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use taskwatch_protocol::{Cursor, EventKind, InvalidName, Pattern, Timestamp};

pub use self::acker::Acker;
use self::subscription::Subscription;
use crate::config::Settings;
use crate::machine::{Beginning, Wish};
use crate::{ConnectionWatch, Event, OnGap, Update, WatchError};

/// A server takes only so many messages.
const LEAST_FRESHNESS: Duration = Duration::from_secs(1);
/// Longer than any connection is quiet; a clock cannot be moved by any time that a program may name.
const MOST_FRESHNESS: Duration = Duration::from_secs(24 * 60 * 60);

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
        Self { inner: Subscription::new(settings, wished) }
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
            start.plan.freshness = Some(every.clamp(LEAST_FRESHNESS, MOST_FRESHNESS));
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
        self.inner.acker()
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
        self.inner.acker()
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

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use futures_util::future::poll_immediate;
    use proptest::prelude::*;

    use super::*;
    use crate::Client;

    const ADAPTERS: [fn(EventStream) -> EventStream; 5] = [
        |events| events.since(Cursor::new("c-1")),
        EventStream::snapshot,
        |events| events.on_gap(OnGap::Live),
        |events| events.types([EventKind::Deleted]),
        EventStream::manual_ack,
    ];

    /// What a stream begins with behind these adapters.
    fn plan(adapters: &[usize]) -> String {
        let client = Client::builder("http://localhost").no_proxy().build().unwrap();
        let events = client.subscribe(["foo"]).unwrap();
        let events = adapters.iter().fold(events, |events, place| ADAPTERS[*place](events));
        let updates = events.updates();
        format!("{:?} {:?}", updates.inner.start.as_ref().unwrap().plan, updates.inner.feed)
    }

    proptest! {
        #[test]
        fn adapters_compose_in_every_order_and_each_says_something(
            order in Just((0..ADAPTERS.len()).collect::<Vec<_>>()).prop_shuffle(),
            count in 1..=ADAPTERS.len(),
        ) {
            let chosen = &order[..count];
            let mut sorted = chosen.to_vec();
            sorted.sort_unstable();
            prop_assert_eq!(plan(chosen), plan(&sorted));
            prop_assert_ne!(plan(chosen), plan(&chosen[1..]));
        }
    }

    #[tokio::test]
    async fn after_the_first_poll_they_change_nothing() {
        let client = Client::builder("http://127.0.0.1:9").no_proxy().build().unwrap();
        let mut events = client.subscribe(["foo"]).unwrap();
        assert!(poll_immediate(events.next()).await.is_none());
        let before = format!("{:?}", events.inner);
        let events = ADAPTERS.iter().fold(events, |events, adapter| adapter(events));
        assert_eq!(format!("{:?}", events.inner), before);
    }
}
