//! What a hub counts, for those who watch over it.

use std::sync::atomic::{AtomicU64, Ordering};

use std::time::Instant;

use taskwatch_protocol::{CloseCode, ResetReason};

use super::lag::{self, Lag};
use crate::{Distribution, Histogram};

/// Why connections are not admitted, in the order of `HubStats::refusals`.
const REFUSALS: &[&str] = &["full", "stopping", "rate", "principal", "address", "unauthorized"];

/// What is counted as it happens.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) published: Counter,
    pub(crate) ignored: Counter,
    pub(crate) overflows: Counter,
    pub(crate) rejoins: Counter,
    pub(crate) sent: Counter,
    pub(crate) replayed: Counter,
    pub(crate) resumes: Counter,
    pub(crate) snapshots: Counter,
    resets: Counts<ResetReason>,
    closes: Counts<CloseCode>,
    refusals: Counts<&'static str>,
    lags: Histogram,
    pub(crate) subscriptions: Gauge,
}

/// What a hub has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// Connections open now.
    pub connections: usize,
    /// As many there may be.
    pub max_connections: usize,
    /// Of those open now, connections over plain HTTP.
    pub streams: usize,
    /// Names and patterns that they are subscribed to, each connection counted.
    pub subscriptions: u64,
    /// Whether it sends its connections away and takes no new ones.
    pub is_stopping: bool,
    /// Events that wait in the queues of connections, each connection counted.
    pub queued_events: usize,
    /// Events kept in memory.
    pub cache_events: usize,
    /// And bytes of them.
    pub cache_bytes: usize,
    /// Snapshots that are being read, or wait for their peers.
    pub spools: u64,
    /// Bytes of them, in memory and in files.
    pub spool_bytes: u64,
    /// Events published.
    pub published: u64,
    /// Events given to [`Hub::publish`](crate::Hub::publish) whose number was not above the newest.
    pub ignored: u64,
    /// Times a full queue sent a connection to catching up.
    pub overflows: u64,
    /// Times a connection that had been sent there was level again.
    pub rejoins: u64,
    /// Events sent to subscribers, each of them counted.
    pub sent: u64,
    /// Of those, events sent to subscribers that were catching up.
    pub replayed: u64,
    /// Pages read from the log, since they were no longer in memory.
    pub log_reads: u64,
    /// Positions that were honoured.
    pub resumes: u64,
    /// Snapshots sent.
    pub snapshots: u64,
    /// Positions that were not honoured, for every reason.
    pub resets: Vec<(ResetReason, u64)>,
    /// Connections that this side closed, for every code of the registry.
    pub closes: Vec<(CloseCode, u64)>,
    /// Connections that were not admitted: `full` (as many as may be), `stopping`, `rate` (too fast),
    /// `principal`, `address` (as many as one may have), `unauthorized`.
    pub refusals: Vec<(&'static str, u64)>,
    /// Microseconds from publishing to writing, for each live event and each connection. Events that
    /// were given together count as long as the first of them.
    pub lags: Distribution,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something of which there is now more, now less.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// What one of many parts adds to it has changed.
    pub(crate) fn change(&self, before: u64, after: u64) {
        self.0.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter for each word of a registry.
#[derive(Debug)]
struct Counts<K: 'static>(Vec<(&'static K, Counter)>);

impl<K: Clone + PartialEq> Counts<K> {
    fn of(keys: &'static [K]) -> Self {
        Self(keys.iter().map(|key| (key, Counter::default())).collect())
    }

    fn add_one(&self, key: &K) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == key) {
            counter.add_one();
        }
    }

    fn get(&self) -> Vec<(K, u64)> {
        self.0.iter().map(|(key, counter)| ((*key).clone(), counter.get())).collect()
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            published: Counter::default(),
            ignored: Counter::default(),
            overflows: Counter::default(),
            rejoins: Counter::default(),
            sent: Counter::default(),
            replayed: Counter::default(),
            resumes: Counter::default(),
            snapshots: Counter::default(),
            resets: Counts::of(ResetReason::KNOWN),
            closes: Counts::of(CloseCode::KNOWN),
            refusals: Counts::of(REFUSALS),
            lags: Histogram::new(lag::BOUNDS),
            subscriptions: Gauge::default(),
        }
    }
}

impl Counters {
    /// A position was not honoured, if there is a reason.
    pub(crate) fn reset(&self, reason: Option<&ResetReason>) {
        if let Some(reason) = reason {
            self.resets.add_one(reason);
        }
    }

    /// This side closed a connection.
    pub(crate) fn closed(&self, code: CloseCode) {
        self.closes.add_one(&code);
    }

    /// A connection was not admitted.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refusals.add_one(&reason);
    }

    /// Live events were written now.
    pub(crate) fn lags(&self, lag: Lag, now: impl FnOnce() -> Instant) {
        if let Some((lag, events)) = lag.until(now) {
            self.lags.observe(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), events);
        }
    }

    /// What is known here; the rest is 0.
    pub(crate) fn stats(&self) -> HubStats {
        HubStats {
            subscriptions: self.subscriptions.get(),
            published: self.published.get(),
            ignored: self.ignored.get(),
            overflows: self.overflows.get(),
            rejoins: self.rejoins.get(),
            sent: self.sent.get(),
            replayed: self.replayed.get(),
            resumes: self.resumes.get(),
            snapshots: self.snapshots.get(),
            resets: self.resets.get(),
            closes: self.closes.get(),
            refusals: self.refusals.get(),
            lags: self.lags.distribution(),
            ..HubStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_closes_and_refusals_are_counted_by_their_words() {
        let counters = Counters::default();
        counters.reset(None);
        counters.reset(Some(&ResetReason::Expired));
        counters.closed(CloseCode::Slow);
        counters.refused("rate");
        let stats = counters.stats();
        assert!(stats.resets.contains(&(ResetReason::Expired, 1)));
        assert_eq!(stats.resets.iter().map(|(_, count)| count).sum::<u64>(), 1);
        assert!(stats.closes.contains(&(CloseCode::Slow, 1)));
        assert!(stats.closes.contains(&(CloseCode::Restart, 0)));
        assert!(stats.refusals.contains(&("rate", 1)) && stats.refusals.contains(&("full", 0)));
    }

    #[test]
    fn every_refusal_has_a_word_that_is_counted() {
        use crate::hub::NotAdmitted::{Address, Full, Principal, Stopping, TooFast};
        for refused in [Full, Stopping, TooFast, Principal(1), Address(1)] {
            assert!(REFUSALS.contains(&refused.word()), "{refused:?}");
        }
    }

    #[test]
    fn parts_of_a_gauge_come_and_go() {
        let gauge = Gauge::default();
        gauge.change(0, 3);
        gauge.change(0, 2);
        gauge.change(3, 1);
        assert_eq!(gauge.get(), 3);
        gauge.change(1, 0);
        gauge.change(2, 0);
        assert_eq!(gauge.get(), 0);
    }
}
