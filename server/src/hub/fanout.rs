//! Gives events to their subscribers, in order.

use std::collections::{VecDeque, vec_deque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use taskwatch_protocol::Seq;
use tokio::time::Instant;

use super::{Hub, Member, Shared, lock};
use crate::{LogEvent, Page, PageLimit};

/// Events that go into one write at most: with 16 of them a delivery costs a twelfth of what it
/// costs alone, with 64 a twenty-fifth.
const BATCH: usize = 64;

/// Pushes after which whoever publishes and reads gets a turn. What is published meanwhile goes with
/// the next pass, in the same write.
const SLICE: usize = 1_024;
/// A write of the queue costs as much as so many pushes.
const DELIVERY: usize = 8;
/// Passes under load are so far apart. A write costs 3.5 µs and each further message in it 0.1 µs, so
/// it pays to wait for more; an event that comes alone goes at once.
const PACE: Duration = Duration::from_millis(1);

/// How far the fan-out has come. Plain data, which may rest between any two pushes.
#[derive(Debug)]
pub(crate) struct FanOut {
    /// Everything up to here was taken from the cache.
    taken: Seq,
    batch: vec_deque::IntoIter<LogEvent>,
    /// The event that is being given.
    giving: Option<LogEvent>,
    /// Those who have not got it yet.
    recipients: VecDeque<Arc<Member>>,
    /// Those whose queue has something to be delivered.
    waiting: VecDeque<Arc<Member>>,
}

/// Whether there may be more to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Idle,
}

/// Runs until the hub is shut down and its last connection is gone.
pub(super) async fn run(hub: Hub, mut fan_out: FanOut) {
    let shared = &*hub.shared;
    loop {
        while fan_out.give(shared, SLICE) == Progress::More {
            tokio::task::yield_now().await;
        }
        let passed = Instant::now();
        tokio::select! {
            () = shared.published.notified() => {}
            () = shared.connections.wait() => return,
        }
        if passed.elapsed() < PACE {
            tokio::time::sleep_until(passed + PACE).await;
        }
    }
}

impl FanOut {
    /// Everything up to `head` was given before.
    pub(super) fn new(head: Seq) -> Self {
        let batch = VecDeque::new().into_iter();
        let (recipients, waiting) = (VecDeque::new(), VecDeque::new());
        Self { taken: head, batch, giving: None, recipients, waiting }
    }

    /// Goes on, for at most so many pushes.
    pub(super) fn give(&mut self, shared: &Shared, mut pushes: usize) -> Progress {
        loop {
            if let Some(event) = &self.giving {
                let now = pushes.min(self.recipients.len());
                pushes -= now;
                let first = |member: &Arc<Member>| member.queue().push(event);
                self.waiting.extend(self.recipients.drain(..now).filter(first));
                if !self.recipients.is_empty() {
                    return Progress::More;
                }
                // Only now is it true of everybody that is level.
                shared.fanned.store(event.seq(), Ordering::Release);
                self.giving = None;
                if pushes == 0 {
                    return Progress::More;
                }
            }
            // All of a batch goes in one write for each connection. Not more: queues have an end.
            if self.batch.len() == 0 && !self.waiting.is_empty() {
                let now = (pushes / DELIVERY + 1).min(self.waiting.len());
                self.waiting.drain(..now).for_each(|member| member.queue().deliver());
                pushes = pushes.saturating_sub(now * DELIVERY);
                if !self.waiting.is_empty() || pushes == 0 {
                    return Progress::More;
                }
            }
            if !self.take(shared) {
                return Progress::Idle;
            }
        }
    }

    /// Begins with the next event, if there is one; false if there is none.
    fn take(&mut self, shared: &Shared) -> bool {
        if let Some(event) = self.batch.next() {
            lock(&shared.registry).recipients(&event, &mut self.recipients);
            self.giving = Some(event);
            return true;
        }
        match next_batch(shared, self.taken) {
            Batch::Events(page) => {
                self.taken = page.scanned_to;
                let more = !page.events.is_empty();
                self.batch = VecDeque::from(page.events).into_iter();
                more
            }
            Batch::Missed { floor } => {
                self.taken = floor;
                lock(&shared.registry).skip_to(floor);
                shared.fanned.store(floor, Ordering::Release);
                true
            }
        }
    }
}

enum Batch {
    Events(Page),
    /// Publishing outran this task by more than the cache holds.
    Missed {
        floor: Seq,
    },
}

fn next_batch(shared: &Shared, taken: Seq) -> Batch {
    let cache = lock(&shared.cache);
    // Half a queue at the most: one that is empty must not be full before it is delivered.
    let events = (shared.config.queue_events / 2).clamp(1, BATCH);
    let limit = PageLimit { events, bytes: shared.config.queue_bytes / 2 };
    match cache.read(taken, cache.head(), limit) {
        Some(page) => Batch::Events(page),
        None => Batch::Missed { floor: cache.floor() },
    }
}
