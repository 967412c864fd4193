//! A program with a stream, and its computer.

use std::cell::RefCell;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use taskwatch_client::OnGap;
use taskwatch_client::simulation::{Choice, Clocks, Stream};
use taskwatch_protocol::Cursor;

use crate::watcher::Watcher;

thread_local! {
    static JITTER: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0));
}

/// From here on the jitter of the SDK's waits is that of a seed.
pub(super) fn seed_jitter(seed: u64) {
    JITTER.with_borrow_mut(|jitter| *jitter = StdRng::seed_from_u64(seed));
}

fn jitter() -> f64 {
    JITTER.with_borrow_mut(|rng| rng.random())
}

/// One stream, its judge, and what is the matter with them.
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) watcher: Watcher,
    pub(super) room: usize,
    /// How long its computer has slept, and until when it does.
    pub(super) slept: Duration,
    pub(super) asleep_until: Duration,
    pub(super) slow_until: Duration,
    pub(super) partitioned_until: Duration,
    pub(super) ticked: Duration,
    pub(super) read_at: Option<Duration>,
}

impl Client {
    pub(super) fn new(
        patterns: &[&str],
        choice: (OnGap, bool),
        room: usize,
        now: Duration,
    ) -> Self {
        let (on_gap, snapshot) = choice;
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let watcher = Watcher::new(patterns, on_gap, snapshot);
        let stream = open(&watcher, None, room, Clocks { steady: now, wall: now });
        Self {
            stream,
            watcher,
            room,
            slept: Duration::ZERO,
            asleep_until: now,
            slow_until: now,
            partitioned_until: now,
            ticked: now,
            read_at: None,
        }
    }

    /// Another program takes its place, and goes on from a position.
    pub(super) fn begin(&mut self, since: Option<Cursor>, now: Duration) {
        self.stream = open(&self.watcher, since, self.room, self.clocks(now));
    }

    pub(super) fn clocks(&self, now: Duration) -> Clocks {
        Clocks { steady: now - self.slept, wall: now }
    }
}

/// A stream of what a watcher wants.
fn open(watcher: &Watcher, since: Option<Cursor>, room: usize, now: Clocks) -> Stream {
    let patterns = watcher.wished().iter().map(|pattern| pattern.parse().unwrap()).collect();
    let (snapshot, on_gap) = (watcher.with_state(), watcher.on_gap());
    Stream::new(Choice { patterns, since, snapshot, on_gap, room }, jitter, now)
}
