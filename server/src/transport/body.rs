//! The body of an HTTP response that goes on: a connection's task puts chunks into it, one at a
//! time, and hyper takes them when it can write. So it is seen how fast the peer takes them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::{Body, Frame};

/// Both ends.
pub(super) fn body() -> (ChunkSender, ChunkBody) {
    let shared = Arc::new(Shared::default());
    (ChunkSender { shared: shared.clone() }, ChunkBody { shared })
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    chunk: Option<Bytes>,
    /// Everything was put.
    is_complete: bool,
    /// Nothing more is put.
    is_left: bool,
    /// Nothing more is taken.
    is_abandoned: bool,
    sender: Option<Waker>,
    body: Option<Waker>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State), waker: impl Fn(&mut State) -> Option<Waker>) {
        let waker = {
            let mut state = self.state();
            change(&mut state);
            waker(&mut state)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Where chunks are put.
#[derive(Debug)]
pub(super) struct ChunkSender {
    shared: Arc<Shared>,
}

/// The peer takes no more.
#[derive(Debug, PartialEq)]
pub(super) struct Abandoned;

impl ChunkSender {
    /// Puts a chunk; the one before it must have been taken.
    pub(super) fn put(&mut self, chunk: Bytes) {
        self.shared.change(|state| state.chunk = Some(chunk), |state| state.body.take());
    }

    /// Waits until the chunk is taken.
    pub(super) fn poll_taken(&mut self, cx: &Context<'_>) -> Poll<Result<(), Abandoned>> {
        let mut state = self.shared.state();
        match (&state.chunk, state.is_abandoned) {
            (_, true) => Poll::Ready(Err(Abandoned)),
            (None, false) => Poll::Ready(Ok(())),
            (Some(_), false) => {
                state.sender = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Waits until the peer has left.
    pub(super) fn poll_abandoned(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.shared.state();
        if state.is_abandoned {
            return Poll::Ready(());
        }
        state.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Everything was put. Without this the response ends as if it had been cut.
    pub(super) fn complete(&mut self) {
        self.shared.change(|state| state.is_complete = true, |state| state.body.take());
    }
}

impl Drop for ChunkSender {
    fn drop(&mut self) {
        self.shared.change(|state| state.is_left = true, |state| state.body.take());
    }
}

/// What hyper writes.
#[derive(Debug)]
pub(super) struct ChunkBody {
    shared: Arc<Shared>,
}

/// Makes hyper cut the connection, so that the peer cannot take this for the end.
#[derive(Debug, thiserror::Error)]
#[error("the stream was given up")]
pub(super) struct GivenUp;

impl Body for ChunkBody {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let mut state = self.shared.state();
        if let Some(chunk) = state.chunk.take() {
            let sender = state.sender.take();
            drop(state);
            if let Some(sender) = sender {
                sender.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if state.is_complete {
            return Poll::Ready(None);
        }
        if state.is_left {
            return Poll::Ready(Some(Err(GivenUp)));
        }
        state.body = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.state();
        state.is_complete && state.chunk.is_none()
    }
}

impl Drop for ChunkBody {
    fn drop(&mut self) {
        let give_up = |state: &mut State| (state.is_abandoned, state.chunk) = (true, None);
        self.shared.change(give_up, |state| state.sender.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(body: &mut ChunkBody) -> Poll<Option<Result<Bytes, ()>>> {
        let polled = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
        polled.map(|item| {
            item.map(|frame| frame.map(|data| data.into_data().unwrap()).map_err(|_| ()))
        })
    }

    #[test]
    fn chunks_are_taken_one_by_one_and_the_end_is_seen() {
        let cx = &Context::from_waker(Waker::noop());
        let (mut sender, mut body) = body();
        assert_eq!(next(&mut body), Poll::Pending);
        for text in ["one", "two"] {
            sender.put(Bytes::from(text));
            assert_eq!(sender.poll_taken(cx), Poll::Pending);
            assert_eq!(next(&mut body), Poll::Ready(Some(Ok(Bytes::from(text)))));
            assert_eq!(sender.poll_taken(cx), Poll::Ready(Ok(())));
        }
        sender.complete();
        drop(sender);
        assert!(body.is_end_stream());
        assert_eq!(next(&mut body), Poll::Ready(None));
    }

    #[test]
    fn what_is_not_complete_is_cut() {
        let (mut sender, mut body) = body();
        sender.put(Bytes::from("one"));
        drop(sender);
        assert_eq!(next(&mut body), Poll::Ready(Some(Ok(Bytes::from("one")))));
        assert_eq!(next(&mut body), Poll::Ready(Some(Err(()))));
    }

    #[test]
    fn a_peer_that_has_left_is_noticed() {
        let cx = &Context::from_waker(Waker::noop());
        let (mut sender, body) = body();
        sender.put(Bytes::from("one"));
        assert_eq!(sender.poll_abandoned(cx), Poll::Pending);
        drop(body);
        assert_eq!(sender.poll_abandoned(cx), Poll::Ready(()));
        assert_eq!(sender.poll_taken(cx), Poll::Ready(Err(Abandoned)));
    }
}
