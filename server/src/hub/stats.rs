//! What a hub counts, for those who watch over it.

use std::sync::atomic::{AtomicU64, Ordering};

use taskwatch_protocol::{CloseCode, ResetReason};

/// Counters that only ever grow.
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
}

/// What a hub has done since it started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// Connections open now.
    pub connections: usize,
    /// Of those, connections over plain HTTP.
    pub streams: usize,
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

    pub(crate) fn stats(&self, connections: usize, streams: usize, log_reads: u64) -> HubStats {
        HubStats {
            connections,
            streams,
            published: self.published.get(),
            ignored: self.ignored.get(),
            overflows: self.overflows.get(),
            rejoins: self.rejoins.get(),
            sent: self.sent.get(),
            replayed: self.replayed.get(),
            log_reads,
            resumes: self.resumes.get(),
            snapshots: self.snapshots.get(),
            resets: self.resets.get(),
            closes: self.closes.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_and_closes_are_counted_by_their_words() {
        let counters = Counters::default();
        counters.reset(None);
        counters.reset(Some(&ResetReason::Expired));
        counters.closed(CloseCode::Slow);
        let stats = counters.stats(0, 0, 0);
        assert!(stats.resets.contains(&(ResetReason::Expired, 1)));
        assert_eq!(stats.resets.iter().map(|(_, count)| count).sum::<u64>(), 1);
        assert!(stats.closes.contains(&(CloseCode::Slow, 1)));
        assert!(stats.closes.contains(&(CloseCode::Restart, 0)));
    }
}
