//! What waits for one connection's socket.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, OnceLock, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use taskwatch_protocol::{CloseCode, CloseReason, Seq};

use super::lock;
use crate::LogEvent;

/// The bounded queue between the fan-out and one connection. Full means cleared: the connection
/// reads the log instead, so that a stalled peer holds no memory.
pub(crate) struct SendQueue {
    state: Mutex<State>,
    deliver: OnceLock<Weak<dyn Deliver>>,
    max_events: usize,
    max_bytes: usize,
}

/// Whoever takes what waits to the peer.
pub(crate) trait Deliver: Send + Sync {
    /// Takes it there now. False if the connection's task has to go on with it.
    fn deliver(&self) -> bool;
}

#[derive(Debug)]
struct State {
    mode: Mode,
    frames: VecDeque<(Seq, Bytes)>,
    bytes: usize,
    /// Events up to here were queued or are behind the connection: an event is delivered if and
    /// only if its number is above.
    tail: Seq,
    stop: Option<Stop>,
    authenticate: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The connection is not level; whatever is pushed is not for it.
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
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Frames in order, and whether the queue is empty now.
    Frames { frames: Vec<(Seq, Bytes)>, empty: bool },
    /// Frames were thrown away: go on from the log, and from `position` if it is known.
    Overflowed { position: Option<Seq> },
}

impl SendQueue {
    pub(crate) fn new(max_events: usize, max_bytes: usize) -> Self {
        let state = State {
            mode: Mode::Shut,
            frames: VecDeque::new(),
            bytes: 0,
            tail: 0,
            stop: None,
            authenticate: false,
            waker: None,
        };
        Self { state: Mutex::new(state), deliver: OnceLock::new(), max_events, max_bytes }
    }

    /// From now on this takes what waits.
    pub(crate) fn deliver_by(&self, deliver: Weak<dyn Deliver>) {
        // A connection is driven once.
        let _ = self.deliver.set(deliver);
    }

    /// Has what waits taken to the peer. That a task is woken for it is the exception: it would cost
    /// more than what it does.
    pub(super) fn deliver(&self) {
        let deliver = self.deliver.get().and_then(Weak::upgrade);
        if !deliver.is_some_and(|deliver| deliver.deliver()) {
            self.wake();
        }
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

    /// Queues an event, unless it is behind the connection or the connection is not level. Whether
    /// it is the first that waits, and so has to be delivered.
    pub(super) fn push(&self, event: &LogEvent) -> bool {
        let mut state = lock(&self.state);
        if state.mode != Mode::Open || event.seq() <= state.tail {
            return false;
        }
        let size = event.frame().len();
        let full = state.frames.len() >= self.max_events || state.bytes + size > self.max_bytes;
        let first = state.frames.is_empty();
        // One item larger than the queue may stand alone.
        if full && !first {
            let waker = state.overflow();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return false;
        }
        state.tail = event.seq();
        state.bytes += size;
        state.frames.push_back((event.seq(), event.frame().clone()));
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

    /// Takes frames, up to `max_bytes` of them but at least one.
    pub(crate) fn take(&self, max_bytes: usize) -> Taken {
        let mut state = lock(&self.state);
        if let Mode::Overflowed { position } = state.mode {
            return Taken::Overflowed { position };
        }
        let mut frames = Vec::new();
        let mut bytes = 0;
        while let Some((seq, frame)) = state.frames.pop_front() {
            if bytes + frame.len() > max_bytes && !frames.is_empty() {
                state.frames.push_front((seq, frame));
                break;
            }
            bytes += frame.len();
            frames.push((seq, frame));
        }
        state.bytes -= bytes;
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

    /// Orders the connection to close. The first order stands.
    pub(crate) fn stop(&self, stop: Stop) {
        let mut state = lock(&self.state);
        state.stop.get_or_insert(stop);
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
            return Poll::Ready(Order::Stop(stop));
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
        self.bytes = 0;
        let frames = std::mem::take(&mut self.frames);
        frames.front().map(|&(seq, _)| seq.saturating_sub(1))
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
    use super::*;
    use crate::log::tests::event;

    fn queue(max_events: usize) -> SendQueue {
        let queue = SendQueue::new(max_events, usize::MAX);
        queue.open(10);
        queue
    }

    fn seqs(taken: Taken) -> Vec<Seq> {
        match taken {
            Taken::Frames { frames, .. } => frames.into_iter().map(|(seq, _)| seq).collect(),
            Taken::Overflowed { .. } => panic!("overflowed"),
        }
    }

    #[test]
    fn only_what_is_after_the_position_is_queued_and_only_once() {
        let queue = queue(8);
        for seq in [9, 10, 11, 11, 12, 11] {
            queue.push(&event(seq, "foo"));
        }
        assert_eq!(seqs(queue.take(usize::MAX)), [11, 12]);
    }

    #[test]
    fn full_means_cleared_and_said_so_until_it_is_opened_again() {
        let queue = queue(2);
        for seq in 13..=15 {
            queue.push(&event(seq, "foo"));
        }
        let overflowed = || Taken::Overflowed { position: Some(12) };
        assert_eq!(queue.take(usize::MAX), overflowed());
        queue.push(&event(16, "foo"));
        assert_eq!(queue.take(usize::MAX), overflowed());
        queue.open(16);
        queue.push(&event(16, "foo"));
        queue.push(&event(17, "foo"));
        assert_eq!(seqs(queue.take(usize::MAX)), [17]);
    }

    #[test]
    fn one_item_larger_than_the_queue_stands_alone() {
        let queue = SendQueue::new(8, 1);
        queue.open(0);
        queue.push(&event(1, "foo"));
        assert_eq!(seqs(queue.take(usize::MAX)), [1]);
        queue.push(&event(2, "foo"));
        queue.push(&event(3, "foo"));
        assert_eq!(queue.take(usize::MAX), Taken::Overflowed { position: Some(1) });
    }

    #[test]
    fn taking_stops_at_the_bytes_asked_for_but_takes_one() {
        let queue = queue(8);
        for seq in 11..=13 {
            queue.push(&event(seq, "foo"));
        }
        let size = event(11, "foo").frame().len();
        assert_eq!(seqs(queue.take(1)), [11]);
        let Taken::Frames { empty, .. } = queue.take(size) else { panic!() };
        assert!(!empty);
        let Taken::Frames { empty, .. } = queue.take(size) else { panic!() };
        assert!(empty);
    }

    #[test]
    fn a_shut_queue_takes_nothing_in() {
        let queue = queue(8);
        queue.push(&event(11, "foo"));
        assert_eq!(queue.shut(), Some(10));
        assert_eq!(queue.shut(), None);
        queue.push(&event(12, "foo"));
        assert!(seqs(queue.take(usize::MAX)).is_empty());
    }

    #[test]
    fn the_first_order_to_stop_stands() {
        let queue = queue(1);
        queue.stop(Stop::new(CloseCode::Restart));
        queue.stop(Stop::new(CloseCode::Slow));
        let mut cx = Context::from_waker(Waker::noop());
        let order = Order::Stop(Stop::new(CloseCode::Restart));
        assert_eq!(queue.poll_order(&mut cx), Poll::Ready(order));
    }
}
