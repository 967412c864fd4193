//! Who drives a connection: its task, and the fan-out when that has something for it.

use std::any::Any;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use taskwatch_protocol::Cursor;

use super::connection::{Connection, Ending};
use super::wire::Wire;
use crate::clock::Now;
use crate::hub::{Deliver, Described, Lag, Stop};

/// What is left of a connection.
pub(crate) struct Ended<W> {
    /// What the peer was told in the end, if it was.
    pub(crate) stop: Option<Stop>,
    /// Up to where everything that was asked for has been put into the wire, if anything is subscribed.
    pub(crate) bookmark: Option<Cursor>,
    pub(crate) wire: W,
}

/// What a connection's task does. As large as it is for each of those that are idle.
pub(crate) struct Serve<W> {
    served: Arc<Served<W>>,
    farewell: Option<Pin<Box<dyn Future<Output = Ended<W>> + Send>>>,
}

/// A connection, for whoever comes first: its task or the fan-out.
pub(super) struct Served<W>(Mutex<Slot<W>>);

#[expect(clippy::large_enum_variant, reason = "nearly all are here, and have no box of their own")]
enum Slot<W> {
    Here(Connection<W>),
    /// It has ended.
    Away,
    /// What it was like when it failed elsewhere.
    Panicked(Box<dyn Any + Send>),
}

impl<W: Wire> Served<W> {
    /// Ready, with what is left of it, when it has ended.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<(Connection<W>, Ending)> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = match &mut *slot {
            Slot::Here(connection) => Some(ready!(connection.poll_serve(cx))),
            Slot::Away | Slot::Panicked(_) => None,
        };
        match (mem::replace(&mut *slot, Slot::Away), ending) {
            (Slot::Here(connection), Some(ending)) => Poll::Ready((connection, ending)),
            // It ends this connection, and none but this.
            (Slot::Panicked(panic), _) => resume_unwind(panic),
            _ => Poll::Pending,
        }
    }
}

impl<W: Wire> Deliver for Served<W> {
    fn describe(&self) -> Option<Described> {
        // The fan-out, if it comes now, does not wait: it leaves the rest to the task, which looks again.
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Slot::Here(connection) => Some(connection.describe()),
            Slot::Away | Slot::Panicked(_) => None,
        }
    }

    fn deliver(&self, now: Now, written: &mut Lag) -> bool {
        // Never waits: who is at it is the task, which is woken and looks again.
        let Ok(mut slot) = self.0.try_lock() else { return false };
        let Slot::Here(connection) = &mut *slot else { return true };
        match catch_unwind(AssertUnwindSafe(|| connection.deliver(now, written))) {
            Ok(is_done) => is_done,
            Err(panic) => {
                *slot = Slot::Panicked(panic);
                false
            }
        }
    }
}

impl<W: Wire + 'static> Connection<W> {
    /// Serves a peer until it leaves, fails, is told to go, or was told everything.
    pub(crate) fn run(self) -> Serve<W> {
        let member = self.member().clone();
        let served = Arc::new(Served(Mutex::new(Slot::Here(self))));
        member.queue().deliver_by(Arc::downgrade(&served) as _);
        Serve { served, farewell: None }
    }
}

impl<W: Wire + 'static> Future for Serve<W> {
    type Output = Ended<W>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<W>> {
        if self.farewell.is_none() {
            let (connection, ending) = ready!(self.served.poll(cx));
            self.farewell = Some(Box::pin(connection.see_off(ending)));
        }
        match &mut self.farewell {
            Some(farewell) => farewell.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
