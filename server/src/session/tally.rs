//! What one connection adds to the counts of the hub.

use std::mem;
use std::time::Instant;

use crate::hub::{Counters, Frames, Lag};

/// What was added and is taken back in the end, and what is still to be counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Patterns that are subscribed to.
    subscriptions: u32,
    /// Live events that were taken, and are not all written.
    unwritten: Option<Lag>,
}

impl Tally {
    /// So many patterns are subscribed to now.
    pub(super) fn subscribed(&mut self, patterns: usize, counters: &Counters) {
        let patterns = u32::try_from(patterns).unwrap_or(u32::MAX);
        let before = mem::replace(&mut self.subscriptions, patterns);
        counters.subscriptions.change(before.into(), patterns.into());
    }

    /// Live events are put into the buffer.
    pub(super) fn took(&mut self, frames: &Frames) {
        let published = frames.published();
        let unwritten = self.unwritten.get_or_insert_with(|| Lag::since(published));
        unwritten.add(published, frames.count());
    }

    /// Whatever was taken is written: counted with the rest of a pass if it is of the same one, else at once.
    pub(super) fn written(&mut self, now: Instant, pass: Option<&mut Lag>, counters: &Counters) {
        let Some(lag) = self.unwritten.take() else { return };
        if !pass.is_some_and(|pass| pass.merge(lag)) {
            counters.lags(lag, || now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::log::tests::event;

    #[test]
    fn what_was_taken_is_counted_once_when_it_is_written() {
        let (counters, t0) = (Counters::default(), Instant::now());
        let counted = || counters.stats().lags.count();
        let later = t0 + Duration::from_millis(1);
        let frames =
            |published| Frames::of([event(1, "foo"), event(2, "foo")].iter(), published).unwrap();
        let mut tally = Tally::default();
        tally.written(t0, None, &counters);
        assert_eq!(counted(), 0);

        tally.took(&frames(t0));
        tally.took(&frames(later));
        tally.written(later, None, &counters);
        tally.written(later, None, &counters);
        assert_eq!((counted(), counters.stats().lags.sum), (4, 4_000));

        // With the pass that it belongs to, and by itself if it waited for longer.
        let mut pass = Lag::since(later);
        for (published, alone) in [(later, 4), (t0, 6)] {
            tally.took(&frames(published));
            tally.written(later, Some(&mut pass), &counters);
            assert_eq!(counted(), alone);
        }
        counters.lags(pass, || later);
        assert_eq!(counted(), 8);
    }

    #[test]
    fn subscriptions_are_counted_as_they_change() {
        let counters = Counters::default();
        let (mut one, mut other) = (Tally::default(), Tally::default());
        for (first, second) in [(0, 2), (3, 2), (3, 1), (0, 1), (0, 0)] {
            one.subscribed(first, &counters);
            other.subscribed(second, &counters);
            assert_eq!(counters.stats().subscriptions, (first + second) as u64);
        }
    }
}
