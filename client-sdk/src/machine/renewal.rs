//! When the token of a connection is renewed. The old one holds until a new one was taken, so
//! nothing here ends a connection.

use std::time::{Duration, Instant};

/// A token that lives long enough is renewed at the latest so long before its end.
const MARGIN: Duration = Duration::from_secs(30);
/// Between one attempt and the next, whatever is left.
const LEAST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Renewal {
    /// When the present token runs out; `None` if it does not.
    expires: Option<Instant>,
    step: Step,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Step {
    /// Nothing is to be done: the token lives on, or runs out and takes the connection with it.
    #[default]
    Resting,
    Due(Instant),
    /// The provider is asked.
    Asking,
    /// The `auth` with this id waits for its answer.
    Sent(String),
}

impl Renewal {
    /// The present token runs out after this, as its server says.
    pub(super) fn expires_in(&mut self, now: Instant, life: Option<Duration>) {
        self.expires = life.and_then(|life| now.checked_add(life));
        self.later(now);
    }

    /// Tries in a while, if there is still time. A provider that gives the same token again gets here
    /// too: each time a smaller part of its life is left.
    pub(super) fn later(&mut self, now: Instant) {
        let left = self.expires.map(|expires| expires.saturating_duration_since(now));
        self.step = match left {
            Some(left) if wait(left) < left => Step::Due(now + wait(left)),
            _ => Step::Resting,
        };
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.step {
            Step::Due(at) => Some(at),
            _ => None,
        }
    }

    /// Whether the provider is to be asked now.
    pub(super) fn starts(&mut self, now: Instant) -> bool {
        let is_due = self.deadline().is_some_and(|at| at <= now);
        if is_due {
            self.step = Step::Asking;
        }
        is_due
    }

    /// A new token goes out with this id.
    pub(super) fn sent(&mut self, id: String) {
        self.step = Step::Sent(id);
    }

    /// The provider has nothing more to give.
    pub(super) fn give_up(&mut self) {
        self.step = Step::Resting;
    }

    /// Whether the reply `id` answers the `auth`.
    pub(super) fn is_answered_by(&self, id: Option<&str>) -> bool {
        matches!(&self.step, Step::Sent(sent) if Some(&**sent) == id)
    }
}

/// Four fifths of a life, or all but the margin, but never less than half.
fn wait(left: Duration) -> Duration {
    (left / 5 * 4).min(left.saturating_sub(MARGIN).max(left / 2)).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_early_enough_for_long_lives_and_sane_for_short_ones() {
        for (life, asked) in [(36_000, 28_800), (300, 240), (100, 70), (60, 30), (20, 10), (4, 2)] {
            assert_eq!(wait(Duration::from_secs(life)), Duration::from_secs(asked), "{life}");
        }
        assert_eq!(wait(Duration::from_secs(5)), Duration::from_millis(2_500));
    }

    #[test]
    fn a_token_that_stays_the_same_is_asked_for_a_few_times_only() {
        for life in [1, 5, 60, 3_600, 86_400 * 365] {
            #[expect(clippy::disallowed_methods, reason = "any beginning will do")]
            let start = Instant::now();
            let life = Duration::from_secs(life);
            let mut renewal = Renewal::default();
            renewal.expires_in(start, Some(life));
            let mut asked = 0;
            while let Some(at) = renewal.deadline() {
                assert!(at < start + life && renewal.starts(at) && !renewal.starts(at));
                renewal.later(at);
                asked += 1;
            }
            assert!(asked <= 20, "{asked} times in {life:?}");
        }
    }

    #[test]
    fn a_token_without_an_end_is_not_renewed() {
        #[expect(clippy::disallowed_methods, reason = "any beginning will do")]
        let now = Instant::now();
        let mut renewal = Renewal::default();
        for life in [None, Some(Duration::MAX), Some(Duration::ZERO), Some(LEAST)] {
            renewal.expires_in(now, life);
            assert_eq!(renewal.deadline(), None, "{life:?}");
        }
    }
}
