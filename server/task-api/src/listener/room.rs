//! Who may be among those that speak HTTP.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskwatch_server::Network;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::{TaskTrackerToken, TrackedFuture};

use super::HttpLimits;

/// So many altogether, and only a part of them from one address: otherwise one peer that says nothing
/// could keep everybody else out.
#[derive(Debug)]
pub(super) struct Room {
    all: Arc<Semaphore>,
    per_address: usize,
    trusted_proxies: Vec<Network>,
    held: Mutex<HashMap<Network, usize>>,
    closed: CancellationToken,
    /// Those that were let in and have asked for nothing yet, and requests that are not answered.
    unanswered: TaskTracker,
}

/// A place for one connection. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    unheard: Mutex<Option<TaskTrackerToken>>,
    /// Whose it is, if that is counted.
    peer: Option<Network>,
    _one: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(super) fn new(limits: &HttpLimits) -> Arc<Self> {
        let HttpLimits { connections, connections_per_address: per_address, .. } = *limits;
        Arc::new(Self {
            all: Arc::new(Semaphore::new(connections)),
            per_address,
            trusted_proxies: limits.trusted_proxies.clone(),
            held: Mutex::default(),
            closed: CancellationToken::new(),
            unanswered: TaskTracker::new(),
        })
    }

    pub(super) fn unlimited() -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            per_address: usize::MAX,
            trusted_proxies: Vec::new(),
            held: Mutex::default(),
            closed: CancellationToken::new(),
            unanswered: TaskTracker::new(),
        })
    }

    /// A place for whoever comes next, when there is one.
    pub(super) async fn wait(self: &Arc<Self>) -> Place {
        // Nobody closes it.
        let one = self.all.clone().acquire_owned().await.ok();
        // Before it is given: who closes the room must not pass over somebody who is just coming in.
        let unheard = Mutex::new(Some(self.unanswered.token()));
        Place { room: self.clone(), unheard, peer: None, _one: one }
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.unanswered.close();
    }

    /// Returns when it is closed.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Waits, once it is closed, until everybody who is in has an answer or is gone.
    pub(super) async fn answered_all(&self) {
        self.unanswered.wait().await;
    }

    /// What connections from there count as; those of the own machine and of proxies are not counted.
    fn counted_as(&self, address: IpAddr) -> Option<Network> {
        let address = address.to_canonical();
        let is_proxy = self.trusted_proxies.iter().any(|network| network.contains(address));
        (!is_proxy && !address.is_loopback()).then(|| Network::of_peer(address))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Network, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Gives it to who came from there; false if they have as many as they may have.
    pub(super) fn give_to(&mut self, address: IpAddr) -> bool {
        let Some(peer) = self.room.counted_as(address) else { return true };
        let mut held = self.room.held();
        let count = held.entry(peer).or_default();
        if *count >= self.room.per_address {
            return false;
        }
        *count += 1;
        self.peer = Some(peer);
        true
    }

    /// Nobody comes any more.
    pub(super) fn stay_empty(&self) {
        *self.unheard.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It has asked for something, which is waited for: until it is answered, it may still be refused.
    pub(super) fn answering<F: Future>(&self, answer: F) -> TrackedFuture<F> {
        let answer = self.room.unanswered.track_future(answer);
        *self.unheard.lock().unwrap_or_else(PoisonError::into_inner) = None;
        answer
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        let mut held = self.room.held();
        if let Some(count) = held.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                held.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn one_address_has_only_a_part() {
        let room = Room::new(&HttpLimits {
            connections: 100,
            connections_per_address: 2,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            header_timeout: Duration::MAX,
            max_headers: 64,
            max_header_bytes: 8192,
        });
        let come = async |address: &str| {
            let mut place = room.wait().await;
            place.give_to(address.parse().unwrap()).then_some(place)
        };
        let mut held = vec![];
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2"] {
            held.push(come(address).await.unwrap());
        }
        for full in ["192.0.2.1", "2001:db8::3"] {
            assert!(come(full).await.is_none(), "{full}");
        }
        for free in ["192.0.2.2", "2001:db8:0:1::1"] {
            held.push(come(free).await.unwrap());
        }
        for uncounted in ["127.0.0.1", "::1", "10.1.2.3"] {
            for _ in 0..5 {
                held.push(come(uncounted).await.unwrap());
            }
        }
        held.remove(0);
        held.push(come("192.0.2.1").await.unwrap());
        room.close();
        assert!(room.answered_all().now_or_never().is_none());
        let answers: Vec<_> = held.iter().map(|place| place.answering(ready(()))).collect();
        // They have asked, and may still be refused.
        assert!(room.answered_all().now_or_never().is_none());
        futures_util::future::join_all(answers).await;
        room.answered_all().await;
        held.clear();
        assert!(room.held().is_empty());
        assert_eq!(room.all.available_permits(), 100);
    }
}
