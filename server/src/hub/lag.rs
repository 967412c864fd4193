//! How long events take from being published to being written to their subscribers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use taskwatch_protocol::Seq;

use super::EventCache;
use crate::LogEvent;

/// Microseconds by which lags are counted: half a millisecond to ten seconds.
pub(super) const BOUNDS: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// The event cache, and when what is in it was published.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) events: EventCache,
    published: VecDeque<Instant>,
}

impl Recent {
    pub(super) fn new(events: EventCache) -> Self {
        Self { events, published: VecDeque::new() }
    }

    /// Appends; false, and nothing is changed, if the number is not above the head.
    pub(super) fn push(&mut self, event: LogEvent, now: Instant) -> bool {
        let is_new = self.events.push(event);
        if is_new {
            self.published.push_back(now);
        }
        while self.published.len() > self.events.len() {
            self.published.pop_front();
        }
        is_new
    }

    /// Throws all events away; the numbers go on.
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.published = VecDeque::new();
    }

    /// When the first event after this was published, if it is here.
    pub(super) fn published_after(&self, after: Seq) -> Option<Instant> {
        self.published.get(self.events.place_after(after)).copied()
    }
}

/// Events of which the first was published at some time: none of them lags more than that one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lag {
    published: Instant,
    events: u32,
}

impl Lag {
    /// Nothing yet of what was published then.
    pub(crate) fn since(published: Instant) -> Self {
        Self { published, events: 0 }
    }

    pub(super) fn published(&self) -> Instant {
        self.published
    }

    /// Adds events, of which the first was published then.
    pub(crate) fn add(&mut self, published: Instant, events: usize) {
        self.published = self.published.min(published);
        self.events = self.events.saturating_add(u32::try_from(events).unwrap_or(u32::MAX));
    }

    /// Adds those of the same time; false, and nothing is changed, if they are of another.
    pub(crate) fn merge(&mut self, other: Self) -> bool {
        let is_same = self.published == other.published;
        if is_same {
            self.events = self.events.saturating_add(other.events);
        }
        is_same
    }

    /// How long it was, and for how many events; `None` without events.
    pub(super) fn until(self, now: impl FnOnce() -> Instant) -> Option<(Duration, u64)> {
        let lag = || now().saturating_duration_since(self.published);
        (self.events > 0).then(|| (lag(), u64::from(self.events)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::event;

    #[test]
    fn the_time_of_an_event_is_kept_as_long_as_the_event() {
        let t0 = Instant::now();
        let at = |seq| t0 + Duration::from_millis(seq);
        let mut recent = Recent::new(EventCache::new(10, 3, usize::MAX));
        assert_eq!(recent.published_after(10), None);
        for seq in [11, 13, 13, 14, 15] {
            recent.push(event(seq, "foo"), at(seq));
        }
        assert_eq!(recent.published.len(), 3);
        let first_after = |seq| recent.published_after(seq);
        assert_eq!([12, 13, 14].map(first_after), [13, 14, 15].map(|seq| Some(at(seq))));
        assert_eq!(first_after(15), None);
    }

    #[test]
    fn the_first_of_some_events_tells_the_lag_of_all() {
        let t0 = Instant::now();
        let later = t0 + Duration::from_millis(5);
        let mut lag = Lag::since(later);
        assert_eq!(lag.until(|| unreachable!("nothing was written")), None);
        lag.add(later, 2);
        assert!(lag.merge(Lag { published: later, events: 1 }));
        assert!(!lag.merge(Lag { published: t0, events: 1 }));
        assert_eq!(lag.until(|| later), Some((Duration::ZERO, 3)));
        lag.add(t0, 1);
        assert_eq!(lag.until(|| later), Some((Duration::from_millis(5), 4)));
    }
}
