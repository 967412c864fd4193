//! What waits for one connection's socket.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, OnceLock, Weak};
use std::task::{Context, Poll, Waker};

use taskwatch_protocol::{CloseCode, CloseReason, Seq};

use super::{Described, Frames, Lag, lock};
use crate::PageLimit;
use crate::clock::Now;

/// The bounded queue between the fan-out and one connection. Full means cleared: the connection
/// reads the log instead, so that a stalled peer holds no memory.
#[derive(Default)]
pub(crate) struct SendQueue {
    state: Mutex<State>,
    deliver: OnceLock<Weak<dyn Deliver>>,
}

/// Whoever takes what waits to the peer.
pub(crate) trait Deliver: Send + Sync {
    /// Takes it there now, and adds to `written` what is there. False if the connection's task has to
    /// go on with it.
    fn deliver(&self, now: Now, written: &mut Lag) -> bool;
    /// What it is like now, unless it has ended.
    fn describe(&self) -> Option<Described>;
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    frames: VecDeque<Frames>,
    events: usize,
    bytes: usize,
    /// Events up to here were queued or are behind the connection: an event is delivered if and
    /// only if its number is above.
    tail: Seq,
    stop: Option<Box<Stop>>,
    authenticate: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// The connection is not level; whatever is pushed is not for it.
    #[default]
    Shut,
    Open,
    /// It was level, and fell behind. Nothing up to `position`, if known, was thrown away.
    Overflowed {
        position: Option<Seq>,
    },
}

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Stop(Stop),
    /// What the peer may see may have changed: ask again.
    Authenticate,
}

/// An order to close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) code: CloseCode,
    pub(crate) retry_after_ms: Option<u64>,
}

impl Stop {
    pub(crate) fn new(code: CloseCode) -> Self {
        Self { code, retry_after_ms: None }
    }

    /// The text of the close frame.
    pub(crate) fn reason(self) -> CloseReason {
        CloseReason { word: self.code.word().into(), retry_after_ms: self.retry_after_ms }
    }
}

/// What the connection finds in its queue.
#[derive(Debug)]
pub(crate) enum Taken {
    Nothing,
    /// The next frames, and whether the queue is empty now.
    Frames {
        frames: Frames,
        empty: bool,
    },
    /// Frames were thrown away: shut it, and go on from the log.
    Overflowed,
}

impl SendQueue {
    /// From now on this takes what waits.
    pub(crate) fn deliver_by(&self, deliver: Weak<dyn Deliver>) {
        // A connection is driven once.
        let _ = self.deliver.set(deliver);
    }

    /// Has what waits taken to the peer. That a task is woken for it is the exception: it would cost
    /// more than what it does.
    pub(super) fn deliver(&self, now: Now, written: &mut Lag) {
        let deliver = self.deliver.get().and_then(Weak::upgrade);
        if !deliver.is_some_and(|deliver| deliver.deliver(now, written)) {
            self.wake();
        }
    }

    /// What the connection is like now, if it is there.
    pub(super) fn describe(&self) -> Option<Described> {
        self.deliver.get()?.upgrade()?.describe()
    }

    /// Whether events were thrown away which the connection has to read.
    pub(crate) fn is_overflowed(&self) -> bool {
        matches!(lock(&self.state).mode, Mode::Overflowed { .. })
    }

    fn wake(&self) {
        let waker = lock(&self.state).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets in events after `position`. Called under the registry's lock, when the connection
    /// joins.
    pub(super) fn open(&self, position: Seq) {
        let mut state = lock(&self.state);
        state.clear();
        state.mode = Mode::Open;
        state.tail = position;
    }

    /// Queues those of the events that are not behind the connection, if it is level. Whether they
    /// are the first that wait, and so have to be delivered. What is more than the limit is too much.
    pub(super) fn push(&self, frames: &Frames, limit: PageLimit) -> bool {
        let mut state = lock(&self.state);
        if state.mode != Mode::Open {
            return false;
        }
        let Some(frames) = frames.after(state.tail) else { return false };
        let (events, bytes) = (state.events + frames.count(), state.bytes + frames.len());
        let first = state.frames.is_empty();
        // One item larger than the queue may stand alone.
        if (events > limit.events || bytes > limit.bytes) && !first {
            let waker = state.overflow();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return false;
        }
        (state.tail, state.events, state.bytes) = (frames.last(), events, bytes);
        state.frames.push_back(frames);
        first
    }

    /// Throws everything away, as if the queue had been full.
    pub(super) fn overflow(&self) {
        let mut state = lock(&self.state);
        if state.mode == Mode::Open
            && let Some(waker) = state.overflow()
        {
            waker.wake();
        }
    }

    /// Takes what has waited longest.
    pub(crate) fn take(&self) -> Taken {
        let mut state = lock(&self.state);
        if matches!(state.mode, Mode::Overflowed { .. }) {
            return Taken::Overflowed;
        }
        let Some(frames) = state.frames.pop_front() else { return Taken::Nothing };
        state.events -= frames.count();
        state.bytes -= frames.len();
        let empty = state.frames.is_empty();
        if empty {
            // An idle connection holds no buffer.
            state.frames = VecDeque::new();
        }
        Taken::Frames { frames, empty }
    }

    /// Shuts the queue: what waits is thrown away, and what is pushed from now on is not for this
    /// connection. The position before the first frame that was thrown away, if there was one.
    pub(crate) fn shut(&self) -> Option<Seq> {
        let mut state = lock(&self.state);
        let position = match state.mode {
            Mode::Overflowed { position } => position,
            Mode::Open | Mode::Shut => state.clear(),
        };
        state.mode = Mode::Shut;
        position
    }

    /// Whether everything that was pushed has been taken.
    pub(crate) fn is_drained(&self) -> bool {
        let state = lock(&self.state);
        state.mode == Mode::Open && state.frames.is_empty()
    }

    /// How many events wait.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.state).events
    }

    /// Orders the connection to close. The first order stands.
    pub(crate) fn stop(&self, stop: Stop) {
        let mut state = lock(&self.state);
        state.stop.get_or_insert_with(|| Box::new(stop));
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Orders the connection to find out anew who its peer is.
    pub(crate) fn authenticate(&self) {
        let mut state = lock(&self.state);
        state.authenticate = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Waits for an order.
    pub(crate) fn poll_order(&self, cx: &mut Context<'_>) -> Poll<Order> {
        let mut state = lock(&self.state);
        if let Some(stop) = state.stop.take() {
            return Poll::Ready(Order::Stop(*stop));
        }
        if std::mem::take(&mut state.authenticate) {
            return Poll::Ready(Order::Authenticate);
        }
        state.wait(cx);
        Poll::Pending
    }

    /// Waits until there is something to take.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if !state.frames.is_empty() || matches!(state.mode, Mode::Overflowed { .. }) {
            return Poll::Ready(());
        }
        state.wait(cx);
        Poll::Pending
    }
}

impl fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendQueue").field("state", &self.state).finish_non_exhaustive()
    }
}

impl State {
    /// Throws the frames away. The position before the first of them, if there was one:
    /// everything the connection wanted up to there was taken.
    fn clear(&mut self) -> Option<Seq> {
        (self.events, self.bytes) = (0, 0);
        let frames = std::mem::take(&mut self.frames);
        frames.front().map(|frames| frames.first().saturating_sub(1))
    }

    fn overflow(&mut self) -> Option<Waker> {
        self.mode = Mode::Overflowed { position: self.clear() };
        self.waker.take()
    }

    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::LogEvent;
    use crate::log::tests::event;

    const ROOM: PageLimit = PageLimit { events: 3, bytes: usize::MAX };

    fn queue() -> SendQueue {
        let queue = SendQueue::default();
        queue.open(10);
        queue
    }

    fn frames(seqs: &[Seq]) -> Frames {
        let events: Vec<LogEvent> = seqs.iter().map(|&seq| event(seq, "foo")).collect();
        Frames::of(events.iter(), Instant::now()).unwrap()
    }

    fn push(queue: &SendQueue, seqs: &[Seq]) -> bool {
        queue.push(&frames(seqs), ROOM)
    }

    /// What waits, up to the end or an overflow.
    fn all(queue: &SendQueue) -> Vec<Seq> {
        let mut seqs = vec![];
        while let Taken::Frames { frames, .. } = queue.take() {
            seqs.extend(frames.each().map(|(seq, _)| seq));
        }
        seqs
    }

    fn is_overflowed(queue: &SendQueue) -> bool {
        matches!(queue.take(), Taken::Overflowed)
    }

    #[test]
    fn only_what_is_after_the_position_is_queued_and_only_once() {
        let queue = queue();
        for seqs in [&[9][..], &[9, 10, 11], &[11], &[11, 12], &[12]] {
            push(&queue, seqs);
        }
        assert_eq!(all(&queue), [11, 12]);
    }

    #[test]
    fn the_first_that_waits_is_to_be_delivered() {
        let queue = queue();
        assert!(!push(&queue, &[10]), "it is behind the connection");
        assert!(push(&queue, &[11]));
        assert!(!push(&queue, &[12]));
        assert_eq!(all(&queue), [11, 12]);
        assert!(push(&queue, &[13]));
    }

    #[test]
    fn full_means_cleared_and_said_so_until_it_is_opened_again() {
        let queue = queue();
        push(&queue, &[13, 14]);
        push(&queue, &[15, 16]);
        assert!(is_overflowed(&queue));
        push(&queue, &[17]);
        assert!(is_overflowed(&queue));
        assert_eq!(queue.shut(), Some(12));
        queue.open(16);
        push(&queue, &[16, 17]);
        assert_eq!(all(&queue), [17]);
    }

    #[test]
    fn one_item_larger_than_the_queue_stands_alone() {
        let queue = queue();
        let none = PageLimit { events: 3, bytes: 1 };
        queue.push(&frames(&[11]), none);
        assert_eq!(all(&queue), [11]);
        queue.push(&frames(&[12]), none);
        queue.push(&frames(&[13]), none);
        assert!(is_overflowed(&queue));
        assert_eq!(queue.shut(), Some(11));
    }

    #[test]
    fn what_was_taken_makes_room() {
        let queue = queue();
        push(&queue, &[11, 12]);
        push(&queue, &[13]);
        let Taken::Frames { empty, .. } = queue.take() else { panic!() };
        assert!(!empty);
        push(&queue, &[14, 15]);
        assert_eq!(all(&queue), [13, 14, 15]);
        assert!(queue.is_drained());
    }

    #[test]
    fn a_shut_queue_takes_nothing_in() {
        let queue = queue();
        push(&queue, &[11]);
        assert_eq!(queue.shut(), Some(10));
        assert_eq!(queue.shut(), None);
        push(&queue, &[12]);
        assert!(all(&queue).is_empty());
    }

    #[test]
    fn the_first_order_to_stop_stands() {
        let queue = queue();
        queue.stop(Stop::new(CloseCode::Restart));
        queue.stop(Stop::new(CloseCode::Slow));
        let mut cx = Context::from_waker(Waker::noop());
        let order = Order::Stop(Stop::new(CloseCode::Restart));
        assert_eq!(queue.poll_order(&mut cx), Poll::Ready(order));
    }
}
