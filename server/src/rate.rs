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

/// What a [`TokenBucket`] holds, and how fast it fills.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refill {
    burst: f64,
    per_second: f64,
}

/// Instead of no refill at all, which would take for ever: one in eleven days.
const SLOWEST: f64 = 1e-6;

impl From<Rate> for Refill {
    fn from(Rate { per_second, burst }: Rate) -> Self {
        Self { burst: f64::from(burst), per_second: f64::from(per_second).max(SLOWEST) }
    }
}

impl Refill {
    /// So many at once, and so many in each minute after that.
    pub(crate) fn per_minute(count: u32) -> Self {
        Self { burst: f64::from(count), per_second: (f64::from(count) / 60.0).max(SLOWEST) }
    }
}

/// A token bucket: so many at once, and so many a second after that. Nothing but the time at which it
/// will be full again: there are several for each connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    full: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(now: Instant) -> Self {
        Self { full: now }
    }

    /// Takes `amount`; false if there is not so much.
    pub(crate) fn take(&mut self, now: Instant, refill: Refill, amount: usize) -> bool {
        let lacking = self.full.saturating_duration_since(now).as_secs_f64() * refill.per_second;
        let lacking = lacking + amount as f64;
        // What was taken before is known as well as nanoseconds tell it.
        let enough = lacking <= refill.burst * (1.0 + 1e-9);
        if enough && let Ok(until_full) = Duration::try_from_secs_f64(lacking / refill.per_second) {
            self.full = now + until_full;
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
        let rate = Rate { per_second: 2, burst: 3 }.into();
        let mut bucket = TokenBucket::new(t0);
        assert!((0..3).all(|_| bucket.take(t0, rate, 1)));
        assert!(!bucket.take(t0, rate, 1));
        assert!(bucket.take(t0 + SECOND, rate, 2));
        assert!(!bucket.take(t0 + SECOND, rate, 1));
        assert!(bucket.take(t0 + 60 * SECOND, rate, 3), "never more than the burst");
        assert!(!bucket.take(t0 + 60 * SECOND, rate, 1));
    }

    #[test]
    fn many_small_ones_are_as_one_large_one() {
        let t0 = Instant::now();
        let rate = Rate { per_second: 64 << 10, burst: 1 << 20 }.into();
        let mut bucket = TokenBucket::new(t0);
        assert!((0..1_048).all(|_| bucket.take(t0, rate, 1_000)));
        assert!(!bucket.take(t0, rate, 1_000));
        let mut bucket = TokenBucket::new(t0);
        assert!(!bucket.take(t0, rate, (1 << 20) + 1));
        assert!(bucket.take(t0, rate, 1 << 20));
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let t0 = Instant::now();
        let rate = Rate { per_second: 1, burst: 1 }.into();
        let mut bucket = TokenBucket::new(t0);
        assert!(bucket.take(t0 + SECOND, rate, 1));
        assert!(!bucket.take(t0, rate, 1));
    }

    #[test]
    fn without_a_rate_the_burst_is_all_there_is() {
        let t0 = Instant::now();
        let rate = Rate { per_second: 0, burst: 2 }.into();
        let mut bucket = TokenBucket::new(t0);
        assert!((0..2).all(|_| bucket.take(t0, rate, 1)));
        assert!(!bucket.take(t0 + 3_600 * SECOND, rate, 1));
        let rate = Rate { per_second: 0, burst: u32::MAX }.into();
        assert!(bucket.take(t0, rate, u32::MAX as usize - 2));
        assert!(!bucket.take(t0, Refill::per_minute(0), 1));
    }

    #[test]
    fn a_minute_is_sixty_seconds() {
        let t0 = Instant::now();
        let (rate, mut bucket) = (Refill::per_minute(2), TokenBucket::new(t0));
        assert!(bucket.take(t0, rate, 2));
        assert!(!bucket.take(t0 + 29 * SECOND, rate, 1));
        assert!(bucket.take(t0 + 31 * SECOND, rate, 1));
    }

    #[test]
    fn a_rate_is_two_numbers() {
        assert_eq!("20:60".parse(), Ok(Rate { per_second: 20, burst: 60 }));
        for bad in ["", "20", "20:", ":60", "0:60", "20:0", "-1:2", "1:2:3", "1.5:2"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad:?}");
        }
    }
}
