//! Gives events to their subscribers, in order. Each worker has its own connections.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use taskwatch_protocol::Seq;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::registry::{EventSet, Wanted};
use super::{Frames, Hub, Lag, Registry, Shared, lock};
use crate::clock::{instant, now};
use crate::{LogEvent, PageLimit};

/// Connections that one worker serves.
pub(super) struct Shard {
    pub(super) registry: Mutex<Registry>,
    /// Every event up to here is in the queue of everybody here who wants it and is level.
    pub(super) fanned: AtomicU64,
    pub(super) published: Notify,
}

impl Shard {
    /// Everything up to `head` was given before.
    pub(super) fn new(head: Seq) -> Self {
        Self {
            registry: Mutex::new(Registry::new(head)),
            fanned: AtomicU64::new(head),
            published: Notify::new(),
        }
    }
}

/// Events that are given together at most: with 16 in a write a delivery costs a twelfth of what it
/// costs alone, with 64 a twenty-fifth. Among many repositories it takes many to have two for one
/// connection.
const BATCH: usize = EventSet::BITS as usize;
/// And bytes of them: more than a socket takes at once would only be memory.
const BATCH_BYTES: usize = 128 << 10;

/// Writes after which whoever publishes and reads gets a turn, at 3 to 10 µs each. What is published
/// meanwhile goes with the next pass, in the same write.
const SLICE: usize = 128;
/// Passes under load are so far apart. A write costs 3.5 µs and each further message in it 0.1 µs, so
/// it pays to wait for more; an event that comes alone goes at once.
const PACE: Duration = Duration::from_millis(1);
/// Turns of everybody else that bring nothing before a pass begins.
const QUIET_TURNS: usize = 2;
/// Those who want the same come behind each other, so a few are enough. More would be memory for
/// many who each want what nobody else does.
const KEPT: usize = 16;

/// How far a worker has come. Plain data, which may rest between any two connections.
#[derive(Debug)]
pub(crate) struct FanOut {
    shard: usize,
    /// Everything up to here was taken from the cache.
    taken: Seq,
    /// The events that are being given.
    events: Vec<LogEvent>,
    /// Those who have not got theirs yet.
    recipients: VecDeque<Wanted>,
    /// What was put together for those before.
    made: VecDeque<(EventSet, Frames)>,
    /// What of the events was written, and not counted yet.
    written: Lag,
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
    let published = &shared.shards[fan_out.shard].published;
    loop {
        while fan_out.give(shared, SLICE) == Progress::More {
            tokio::task::yield_now().await;
        }
        let passed = Instant::now();
        tokio::select! {
            () = published.notified() => {}
            () = shared.connections.wait() => return,
        }
        if passed.elapsed() < PACE {
            tokio::time::sleep_until(passed + PACE).await;
        }
        gather(&hub, fan_out.taken).await;
    }
}

/// Lets those publish who are about to: a turn costs a microsecond, and saves a write to each
/// connection if it brings something. Without a timer: what comes alone hardly waits.
async fn gather(hub: &Hub, taken: Seq) {
    let (mut head, mut quiet, began) = (hub.head(), 0, Instant::now());
    while quiet < QUIET_TURNS && head < taken + BATCH as Seq && began.elapsed() < PACE {
        tokio::task::yield_now().await;
        let before = std::mem::replace(&mut head, hub.head());
        quiet = if head == before { quiet + 1 } else { 0 };
    }
}

impl FanOut {
    /// Everything up to `head` was given before.
    pub(super) fn new(shard: usize, head: Seq) -> Self {
        let (recipients, made) = (VecDeque::new(), VecDeque::new());
        let written = Lag::since(instant());
        Self { shard, taken: head, events: vec![], recipients, made, written }
    }

    /// Goes on, for at most so many connections.
    pub(super) fn give(&mut self, shared: &Shared, mut connections: usize) -> Progress {
        let shard = &shared.shards[self.shard];
        let (queue_events, queue_bytes) = (shared.config.queue_events, shared.config.queue_bytes);
        let limit = PageLimit { events: queue_events, bytes: queue_bytes };
        let now = now();
        loop {
            while let Some(Wanted { member, events }) = self.recipients.pop_front() {
                if let Some(frames) = self.frames(events)
                    && member.queue().push(&frames, limit)
                {
                    member.queue().deliver(now, &mut self.written);
                }
                connections = connections.saturating_sub(1);
                if connections == 0 && !self.recipients.is_empty() {
                    self.count_written(shared);
                    return Progress::More;
                }
            }
            self.count_written(shared);
            if let Some(last) = self.events.last() {
                // Only now is it true of everybody that is level.
                shard.fanned.store(last.seq(), Ordering::Release);
                (self.events, self.made) = (vec![], VecDeque::new());
            }
            if !self.take(shared, shard) {
                return Progress::Idle;
            }
        }
    }

    /// Counts at once what many connections were written: for each of them, and for each event, it would
    /// cost a part of the delivery.
    fn count_written(&mut self, shared: &Shared) {
        let published = self.written.published();
        let written = std::mem::replace(&mut self.written, Lag::since(published));
        shared.counters.lags(written, instant);
    }

    /// Some of the events that are being given, put together.
    fn frames(&mut self, set: EventSet) -> Option<Frames> {
        if let Some((_, frames)) = self.made.iter().find(|(made, _)| *made == set) {
            return Some(frames.clone());
        }
        let wanted = self.events.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0);
        let wanted = wanted.map(|(_, event)| event);
        let frames = Frames::of(wanted, self.written.published())?;
        self.made.truncate(KEPT - 1);
        self.made.push_front((set, frames.clone()));
        Some(frames)
    }

    /// Begins with the next events, if there are any; false if there are none.
    fn take(&mut self, shared: &Shared, shard: &Shard) -> bool {
        // Half a queue at the most: a batch may wait for a task that is late, and another behind it.
        let events = (shared.config.queue_events / 2).clamp(1, BATCH);
        let bytes = (shared.config.queue_bytes / 2).min(BATCH_BYTES);
        let limit = PageLimit { events, bytes };
        let recent = lock(&shared.recent);
        let cache = &recent.events;
        let Some(page) = cache.read(self.taken, cache.head(), limit) else {
            // Publishing outran this worker by more than the cache holds.
            self.taken = cache.floor();
            drop(recent);
            lock(&shard.registry).skip_to(self.taken);
            shard.fanned.store(self.taken, Ordering::Release);
            return true;
        };
        if let Some(published) = recent.published_after(self.taken) {
            self.written = Lag::since(published);
        }
        drop(recent);
        self.taken = page.scanned_to;
        self.events = page.events;
        lock(&shard.registry).recipients(&self.events, &mut self.recipients);
        !self.events.is_empty()
    }
}
