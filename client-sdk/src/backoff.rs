//! How long to wait before the next attempt. The only file that knows the `backoff` crate.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// A random number in `[0, 1)`.
pub(crate) type Draw = fn() -> f64;

/// Waits with full jitter: anything from zero to a ceiling that doubles up to a cap.
#[derive(Debug)]
pub(crate) struct Delays {
    ceilings: ExponentialBackoff,
    cap: Duration,
    draw: Draw,
}

impl Delays {
    pub(crate) fn new(initial: Duration, cap: Duration, draw: Draw) -> Self {
        let mut ceilings = ExponentialBackoff {
            initial_interval: initial.min(cap),
            multiplier: 2.0,
            max_interval: cap,
            // The crate's own jitter cannot be seeded and overshoots its cap: ours is drawn below.
            randomization_factor: 0.0,
            // By default the crate gives up after 15 minutes.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        // Otherwise the first interval is the crate's default.
        ceilings.reset();
        Self { ceilings, cap, draw }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let ceiling = self.ceilings.next_backoff().unwrap_or(self.cap);
        self.up_to(ceiling.min(self.cap))
    }

    pub(crate) fn reset(&mut self) {
        self.ceilings.reset();
    }

    /// Anything from zero to `limit`, so that many clients do not act at the same time.
    pub(crate) fn up_to(&self, limit: Duration) -> Duration {
        limit.mul_f64((self.draw)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Duration = Duration::from_millis(500);
    const CAP: Duration = Duration::from_secs(30);

    fn millis(delays: &mut Delays, count: usize) -> Vec<u128> {
        (0..count).map(|_| delays.next().as_millis()).collect()
    }

    #[test]
    fn ceilings_double_up_to_the_cap_and_begin_again_after_a_reset() {
        let mut delays = Delays::new(HALF, CAP, || 1.0);
        let expected = [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000];
        assert_eq!(millis(&mut delays, 8), expected);
        delays.reset();
        assert_eq!(millis(&mut delays, 2), [500, 1000]);
    }

    #[test]
    fn jitter_is_full() {
        assert_eq!(millis(&mut Delays::new(HALF, CAP, || 0.0), 3), [0, 0, 0]);
        assert_eq!(millis(&mut Delays::new(HALF, CAP, || 0.5), 3), [250, 500, 1000]);
    }

    #[test]
    fn it_never_gives_up() {
        let mut delays = Delays::new(HALF, CAP, || 1.0);
        assert_eq!(millis(&mut delays, 10_000).last(), Some(&30_000));
    }

    #[test]
    fn a_cap_below_the_first_step_wins() {
        assert_eq!(millis(&mut Delays::new(CAP, HALF, || 1.0), 2), [500, 500]);
    }
}
