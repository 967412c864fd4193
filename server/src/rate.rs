//! How fast something may happen.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// So many a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// After a pause.
    pub burst: u32,
}

/// The text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate such as 20:60, which is 20 a second and 60 at once")]
pub struct InvalidRate(String);

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (per_second, burst) = text.split_once(':')?;
            let rate = Self { per_second: per_second.parse().ok()?, burst: burst.parse().ok()? };
            (rate.per_second > 0 && rate.burst > 0).then_some(rate)
        };
        parse().ok_or_else(|| InvalidRate(text.to_owned()))
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A token bucket: so many at once, and so many a second after that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    tokens: f64,
    refilled: Instant,
    burst: f64,
    per_second: f64,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(now: Instant, rate: Rate) -> Self {
        Self::per(now, rate.burst, rate.per_second, SECOND)
    }

    /// A full bucket that is refilled more slowly.
    pub(crate) fn per(now: Instant, burst: u32, refill: u32, per: Duration) -> Self {
        let burst = f64::from(burst);
        let per_second = f64::from(refill) / per.as_secs_f64();
        Self { tokens: burst, refilled: now, burst, per_second }
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

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let t0 = Instant::now();
        let mut bucket = TokenBucket::new(t0, Rate { per_second: 2, burst: 3 });
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
        let mut bucket = TokenBucket::new(t0, Rate { per_second: 1, burst: 1 });
        assert!(bucket.take(t0 + SECOND, 1));
        assert!(!bucket.take(t0, 1));
    }

    #[test]
    fn a_rate_is_two_numbers() {
        assert_eq!("20:60".parse(), Ok(Rate { per_second: 20, burst: 60 }));
        for bad in ["", "20", "20:", ":60", "0:60", "20:0", "-1:2", "1:2:3", "1.5:2"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad:?}");
        }
    }
}
