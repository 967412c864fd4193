//! Positions that are not named by a cursor: by a time, or by how many events lie behind them.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;

use taskwatch_protocol::{EventKind, RepositoryName, Seq, Timestamp};

use crate::hub::Selection;

/// How many events are looked at for a tail. Where what is wanted is rare, the tail is short: to
/// read all of a long log for it would cost others too much.
const LOOKS: u32 = 100_000;

/// The future of [`EventLog::seek_time`](crate::EventLog::seek_time) and
/// [`EventLog::seek_tail`](crate::EventLog::seek_tail).
pub type SeekFuture<'a> = Pin<Box<dyn Future<Output = Result<Seq, SeekError>> + Send + 'a>>;

/// Why a position was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeekError {
    /// This log does not look for positions.
    #[error("this server does not offer since_time or tail")]
    Unsupported,
    /// Events at or after the time are no longer kept.
    #[error("events at or after this time are no longer kept")]
    Gone,
    /// The log cannot be read now.
    #[error("the log cannot be read: {0}")]
    Unavailable(String),
}

/// What is looked for.
#[derive(Clone, Debug)]
pub(crate) enum Start {
    /// The first event at or after this.
    Time(Timestamp),
    Tail(Tail),
}

/// The newest events that somebody wants and may read, and where they begin.
#[derive(Clone, Debug)]
pub struct Tail {
    selection: Box<Selection>,
    upto: Seq,
    missing: u32,
    looks: u32,
    position: Seq,
}

impl Tail {
    /// The newest `events` of what is wanted, up to a position.
    pub(crate) fn new(selection: Selection, events: u32, upto: Seq) -> Self {
        let selection = Box::new(selection);
        Self { selection, upto, missing: events, looks: LOOKS, position: upto }
    }

    /// No event after this counts.
    #[must_use]
    pub fn upto(&self) -> Seq {
        self.upto
    }

    /// Takes the next event of the log, going backwards from [`upto`](Self::upto) and leaving none
    /// out. `Break` says that no further one is needed.
    pub fn look_at(
        &mut self,
        seq: Seq,
        repository: &RepositoryName,
        kind: &EventKind,
    ) -> ControlFlow<()> {
        if self.selection.wants_of(repository, kind) {
            self.position = seq.saturating_sub(1);
            self.missing = self.missing.saturating_sub(1);
        }
        self.looks = self.looks.saturating_sub(1);
        if self.missing == 0 || self.looks == 0 {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// The position before what was found; [`upto`](Self::upto) if nothing was.
    #[must_use]
    pub fn position(&self) -> Seq {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use taskwatch_protocol::Pattern;

    use super::*;
    use crate::Principal;
    use crate::log::LogEvent;
    use crate::log::tests::event;

    fn tail(patterns: &[&str], granted: &str, events: u32, upto: Seq) -> Tail {
        let mut selection =
            Selection::of(Principal::new("ana").reading([granted.parse().unwrap()]));
        let patterns: Vec<Pattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        selection.add(&patterns);
        Tail::new(selection, events, upto)
    }

    /// Looks at these, the newest first; the position, and after how many looks.
    fn found(mut tail: Tail, events: impl IntoIterator<Item = LogEvent>) -> (Seq, usize) {
        let mut looks = 0;
        for event in events {
            looks += 1;
            if tail.look_at(event.seq(), event.repository(), event.kind()).is_break() {
                break;
            }
        }
        (tail.position(), looks)
    }

    fn log() -> Vec<LogEvent> {
        let names = ["a/x", "b", "a/y", "b", "b", "a/x"];
        (1..=6).rev().map(|seq| event(seq, names[seq as usize - 1])).collect()
    }

    #[test]
    fn it_is_before_the_last_events_that_are_wanted_and_may_be_read() {
        assert_eq!(found(tail(&["*"], "*", 2, 6), log()), (4, 2));
        assert_eq!(found(tail(&["a/*"], "*", 2, 6), log()), (2, 4));
        assert_eq!(found(tail(&["*"], "a/x", 2, 6), log()), (0, 6));
        assert_eq!(found(tail(&["b"], "a/*", 2, 6), log()), (6, 6));
    }

    #[test]
    fn fewer_than_were_asked_for_is_all_there_is() {
        assert_eq!(found(tail(&["a/y", "b"], "*", 100, 6), log()), (1, 6));
        assert_eq!(found(tail(&["a/y"], "*", 1, 6), []), (6, 0));
    }

    #[test]
    fn what_is_rare_is_not_looked_for_without_end() {
        let head = Seq::from(LOOKS) + 10;
        let events = (1..=head).rev().map(|seq| event(seq, if seq == 5 { "rare" } else { "foo" }));
        assert_eq!(found(tail(&["rare"], "*", 1, head), events), (head, LOOKS as usize));
    }
}
