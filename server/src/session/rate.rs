//! A token bucket.

use std::time::{Duration, Instant};

/// So many at once, and so many a second after that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    tokens: f64,
    refilled: Instant,
    burst: f64,
    per_second: f64,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(now: Instant, burst: u32, refill: u32, per: Duration) -> Self {
        let burst = f64::from(burst);
        Self {
            tokens: burst,
            refilled: now,
            burst,
            per_second: f64::from(refill) / per.as_secs_f64(),
        }
    }

    /// Takes `amount`; false if there is not so much.
    pub(crate) fn take(&mut self, now: Instant, amount: usize) -> bool {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.refilled = now;
        let amount = amount as f64;
        let enough = amount <= self.tokens;
        if enough {
            self.tokens -= amount;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let t0 = Instant::now();
        let mut bucket = TokenBucket::new(t0, 3, 2, SECOND);
        assert!((0..3).all(|_| bucket.take(t0, 1)));
        assert!(!bucket.take(t0, 1));
        assert!(bucket.take(t0 + SECOND, 2));
        assert!(!bucket.take(t0 + SECOND, 1));
        assert!(bucket.take(t0 + 60 * SECOND, 3), "never more than the burst");
        assert!(!bucket.take(t0 + 60 * SECOND, 1));
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let t0 = Instant::now();
        let mut bucket = TokenBucket::new(t0, 1, 1, SECOND);
        assert!(bucket.take(t0 + SECOND, 1));
        assert!(!bucket.take(t0, 1));
    }
}
