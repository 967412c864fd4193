//! How long something took, or how large it was, and how often. Plain numbers: who shows them knows
//! the unit.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts values between bounds that are fixed. Counting takes two relaxed additions, whatever the
/// number of values.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a [`Histogram`] has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Distribution {
    /// Upper bounds, ascending; a value that is equal to one is below it.
    pub bounds: &'static [u64],
    /// Values up to each bound and above the one before; the last is of those above all bounds.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: u64,
}

impl Histogram {
    /// Counts by these bounds, which ascend.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value so many times.
    pub fn observe(&self, value: u64, times: u64) {
        let place = self.bounds.partition_point(|&bound| bound < value);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(times, Ordering::Relaxed);
        }
        self.sum.fetch_add(value.saturating_mul(times), Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Distribution { bounds: self.bounds, counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

impl Distribution {
    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_below_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[10, 20]);
        for (value, times) in [(0, 1), (10, 2), (11, 4), (20, 8), (21, 16), (1_000, 32)] {
            histogram.observe(value, times);
        }
        let seen = histogram.distribution();
        assert_eq!(seen.counts, [1 + 2, 4 + 8, 16 + 32]);
        assert_eq!((seen.count(), seen.bounds), (63, &[10, 20][..]));
        assert_eq!(seen.sum, 20 + 44 + 160 + 336 + 32_000);
    }

    #[test]
    fn without_bounds_only_the_count_and_the_sum_are_left() {
        let histogram = Histogram::new(&[]);
        histogram.observe(7, 2);
        assert_eq!((histogram.distribution().counts, histogram.distribution().sum), (vec![2], 14));
    }
}
