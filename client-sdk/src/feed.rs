//! What the caller's stream and its driver share.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use taskwatch_protocol::Cursor;
use tokio::sync::Notify;

use crate::acks::Acks;
use crate::buffer::Buffer;
use crate::machine::Wish;
use crate::{Update, WatchError};

/// The buffer with a waker on either side.
#[derive(Debug)]
pub(crate) struct Feed {
    state: Mutex<State>,
    driver: Notify,
}

#[derive(Debug)]
struct State {
    buffer: Buffer,
    /// `Some` if the caller says what is handled.
    acks: Option<Acks>,
    wishes: Vec<Wish>,
    is_ready: bool,
    is_abandoned: bool,
    end: Option<End>,
    reader: Option<Waker>,
}

/// What the driver has for the caller.
#[derive(Debug)]
pub(crate) enum News {
    /// An update, with the position that holds once it was yielded.
    Update(Update, Option<Cursor>),
    /// Everything that matches up to here was told.
    Bookmark(Cursor),
    /// What lies between this position and these events, which were told, comes later.
    Rewound { to: Option<Cursor>, ahead: HashSet<Cursor> },
    /// The first acknowledgement has come.
    Ready,
}

/// How the caller stands with the driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// It has more to read than should be kept for it.
    pub(crate) is_full: bool,
    /// It does not read any more.
    pub(crate) is_gone: bool,
}

/// How the stream ends once the buffer is empty.
#[derive(Debug)]
struct End {
    error: WatchError,
    is_told: bool,
}

impl Feed {
    pub(crate) fn new() -> Self {
        let state = State {
            buffer: Buffer::default(),
            acks: None,
            wishes: Vec::new(),
            is_ready: false,
            is_abandoned: false,
            end: None,
            reader: None,
        };
        Self { state: Mutex::new(state), driver: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, and every change is complete in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something the caller may be waiting for.
    fn tell<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (told, reader) = {
            let mut state = self.state();
            (change(&mut state), state.reader.take())
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        told
    }
}

impl State {
    fn pop(&mut self) -> Option<Update> {
        let Some(acks) = &mut self.acks else { return self.buffer.pop() };
        let before = self.buffer.yielded().cloned();
        let update = self.buffer.pop()?;
        match &update {
            Update::Event(event) => acks.yielded(event.cursor.clone(), before),
            Update::Snapshot(snapshot) => acks.yielded(snapshot.cursor.clone(), before),
            _ => {}
        }
        Some(update)
    }
}

/// The driver's side.
impl Feed {
    /// Takes what the driver has for the caller, and all of it at once: each lock and each waking is
    /// shared with another thread.
    pub(crate) fn take(&self, news: &mut Vec<News>) -> Caller {
        let caller =
            |state: &State| Caller { is_full: state.buffer.is_full(), is_gone: state.is_abandoned };
        if news.is_empty() {
            return caller(&self.state());
        }
        self.tell(|state| {
            if state.is_abandoned {
                news.clear();
            }
            for news in news.drain(..) {
                match news {
                    News::Update(update, position) => state.buffer.push(update, position),
                    News::Bookmark(cursor) => state.buffer.bookmark(cursor),
                    News::Rewound { to, ahead } => {
                        state.buffer.rewound(to.as_ref(), &ahead);
                        if let Some(acks) = &mut state.acks {
                            acks.rewound(to, ahead);
                        }
                    }
                    News::Ready => state.is_ready = true,
                }
            }
            // The driver does not know of these yet.
            for wish in &state.wishes {
                if let Wish::Remove(gone) = wish {
                    state.buffer.forget(gone);
                }
            }
            caller(state)
        })
    }

    /// Ends the stream. The first end counts, and is returned, unless the caller has left before.
    pub(crate) fn end(&self, error: WatchError) -> Option<WatchError> {
        self.tell(|state| {
            let is_left = state.is_abandoned && state.end.is_none();
            let end = state.end.get_or_insert(End { error, is_told: false });
            (!is_left).then(|| end.error.clone())
        })
    }

    pub(crate) fn is_half_empty(&self) -> bool {
        self.state().buffer.is_half_empty()
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn len(&self) -> usize {
        self.state().buffer.len()
    }

    pub(crate) fn take_wishes(&self) -> Vec<Wish> {
        std::mem::take(&mut self.state().wishes)
    }

    /// Waits until the caller wished something, made room or left.
    pub(crate) async fn changed(&self) {
        self.driver.notified().await;
    }
}

/// The caller's side.
impl Feed {
    pub(crate) fn poll_next(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Update, WatchError>>> {
        let mut state = self.state();
        let had_room = state.buffer.is_half_empty();
        if let Some(update) = state.pop() {
            let has_room = state.buffer.is_half_empty();
            drop(state);
            if has_room && !had_room {
                self.driver.notify_one();
            }
            return Poll::Ready(Some(Ok(update)));
        }
        match &mut state.end {
            Some(End { is_told: true, .. }) => Poll::Ready(None),
            Some(End { error, is_told }) => {
                *is_told = true;
                Poll::Ready(Some(Err(error.clone())))
            }
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), WatchError>> {
        let mut state = self.state();
        match &state.end {
            Some(end) => Poll::Ready(Err(end.error.clone())),
            None if state.is_ready => Poll::Ready(Ok(())),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The position of a stream that has yielded nothing yet.
    pub(crate) fn begin_at(&self, cursor: Option<Cursor>) {
        self.state().buffer = Buffer::since(cursor);
    }

    /// The position to save: that of what was yielded, or, if the caller says what is handled, that
    /// behind which all of it is.
    pub(crate) fn position(&self) -> Option<Cursor> {
        let state = self.state();
        let limit = state.acks.as_ref().and_then(Acks::limit);
        limit.unwrap_or_else(|| state.buffer.yielded()).cloned()
    }

    /// From now on the caller says what is handled.
    pub(crate) fn expect_acks(&self) {
        self.state().acks.get_or_insert_default();
    }

    pub(crate) fn ack(&self, cursor: &Cursor) {
        if let Some(acks) = &mut self.state().acks {
            acks.ack(cursor);
        }
    }

    /// How much the caller has not handled.
    pub(crate) fn open(&self) -> usize {
        self.state().acks.as_ref().map_or(0, Acks::open)
    }

    pub(crate) fn wish(&self, wish: Wish) {
        let mut state = self.state();
        if let Wish::Remove(gone) = &wish {
            state.buffer.forget(gone);
        }
        state.wishes.push(wish);
        drop(state);
        self.driver.notify_one();
    }

    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.is_abandoned = true;
        // What says what is handled may live on, and should not keep what nobody reads.
        state.buffer.clear();
        drop(state);
        self.driver.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{at, event};

    fn tell(feed: &Feed, news: impl IntoIterator<Item = News>) {
        feed.take(&mut news.into_iter().collect());
    }

    fn event_news(seq: u64) -> News {
        News::Update(Update::Event(event(seq)), Some(at(seq)))
    }

    fn read(feed: &Feed) -> Option<Update> {
        match feed.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(update))) => Some(update),
            _ => None,
        }
    }

    #[test]
    fn the_position_waits_for_acks_and_bookmarks_move_it_when_nothing_is_open() {
        let feed = Feed::new();
        feed.begin_at(Some(at(1)));
        feed.expect_acks();
        tell(&feed, [event_news(2), event_news(3), News::Bookmark(at(5))]);
        assert_eq!(feed.position(), Some(at(1)));
        while read(&feed).is_some() {}
        assert_eq!((feed.position(), feed.open()), (Some(at(1)), 2));
        feed.ack(&at(3));
        tell(&feed, [News::Bookmark(at(6))]);
        assert_eq!((feed.position(), feed.open()), (Some(at(1)), 1));
        feed.ack(&at(3));
        feed.ack(&at(9));
        assert_eq!(feed.open(), 1);
        feed.ack(&at(2));
        assert_eq!((feed.position(), feed.open()), (Some(at(6)), 0));
        while read(&feed).is_some() {}
        tell(&feed, [News::Bookmark(at(7))]);
        assert_eq!(feed.position(), Some(at(7)));
    }

    #[test]
    fn what_comes_late_is_not_passed() {
        let feed = Feed::new();
        feed.begin_at(Some(at(1)));
        feed.expect_acks();
        tell(&feed, [event_news(2), event_news(4)]);
        assert!(read(&feed).is_some() && read(&feed).is_some());
        tell(&feed, [event_news(5)]);
        // 3 was lost, 2 is proven to be the last before it.
        let ahead = HashSet::from([at(4), at(5)]);
        tell(&feed, [News::Rewound { to: Some(at(2)), ahead }]);
        tell(&feed, [News::Bookmark(at(2))]);
        tell(&feed, [event_news(3), event_news(6)]);
        while read(&feed).is_some() {}
        for (acked, position) in [(2, 2), (4, 2), (6, 2), (5, 2), (3, 6)] {
            feed.ack(&at(acked));
            assert_eq!(feed.position(), Some(at(position)), "{acked} was acked");
        }
    }

    #[test]
    fn while_it_is_known_that_something_is_missing_the_position_is_before_it() {
        for expects_acks in [false, true] {
            let feed = Feed::new();
            feed.begin_at(Some(at(1)));
            if expects_acks {
                feed.expect_acks();
            }
            tell(&feed, [event_news(2), event_news(4), event_news(5), event_news(6)]);
            for seq in [2, 4] {
                assert!(read(&feed).is_some());
                feed.ack(&at(seq));
            }
            assert_eq!(feed.position(), Some(at(4)));
            let ahead = HashSet::from([at(4), at(5), at(6)]);
            tell(&feed, [News::Rewound { to: Some(at(2)), ahead }]);
            assert_eq!(feed.position(), Some(at(2)));
            for seq in [5, 6] {
                assert!(read(&feed).is_some());
                feed.ack(&at(seq));
                assert_eq!(feed.position(), Some(at(2)));
            }
            tell(&feed, [event_news(3), News::Bookmark(at(7))]);
            while read(&feed).is_some() {}
            feed.ack(&at(3));
            assert_eq!(feed.position(), Some(at(7)));
        }
    }

    #[test]
    fn what_was_yielded_can_be_acknowledged_when_the_stream_is_gone() {
        let feed = Feed::new();
        feed.expect_acks();
        tell(&feed, [event_news(2), event_news(3)]);
        read(&feed);
        feed.abandon();
        tell(&feed, [event_news(4), News::Bookmark(at(5))]);
        assert_eq!(feed.position(), None);
        feed.ack(&at(2));
        assert_eq!((feed.position(), read(&feed)), (Some(at(2)), None));
    }

    #[test]
    fn without_acks_the_position_is_that_of_what_was_yielded() {
        let feed = Feed::new();
        tell(&feed, [event_news(2), event_news(3)]);
        read(&feed);
        feed.ack(&at(3));
        assert_eq!((feed.position(), feed.open()), (Some(at(2)), 0));
    }
}
