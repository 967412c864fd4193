//! When a watch has seen what it was to see. Pure: the present is an argument.

use std::num::NonZeroU64;
use std::time::Duration;

use taskwatch_client::protocol::Timestamp;
use taskwatch_client::{Event, Gap, Transport, Update};

/// Where a watch ends. By default nowhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Enough {
    /// So many events that are shown.
    pub(crate) count: Option<NonZeroU64>,
    /// All that happened before this.
    pub(crate) until: Option<Timestamp>,
    /// Whether it goes on when it has seen all there is.
    pub(crate) follow: bool,
    /// What the first acknowledgement is followed by, before all there is has been seen.
    pub(crate) beginning: Beginning,
    /// Whether events come over plain HTTP, where nobody can be asked how fresh they are.
    pub(crate) is_over_http: bool,
}

/// What a bookmark over plain HTTP may have taken on its way. The server sends one every 20 s.
const HTTP_DELAY: Duration = Duration::from_secs(5);

/// What comes before a watch is level with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Nothing: it begins with what happens from now on.
    Now,
    /// What happened since a position, or word that this is not known any more.
    Past,
    /// The tasks as they are.
    State,
}

impl Enough {
    /// Whether an event lies behind the end, and is not shown.
    pub(crate) fn excludes(&self, event: &Event) -> bool {
        let ends_before = |until| event.timestamp.is_some_and(|at| at >= until);
        self.until.is_some_and(ends_before)
    }

    /// Takes note of an event that is shown; whether it is the last.
    pub(crate) fn shown(&mut self) -> bool {
        let Some(left) = self.count else { return false };
        self.count = NonZeroU64::new(left.get() - 1);
        self.count.is_none()
    }

    /// Whether this update is the sign that everything was seen which was to be seen.
    pub(crate) fn reached(&mut self, update: &Update, now: Timestamp) -> bool {
        if let Update::Connected { transport, .. } = update {
            self.is_over_http = *transport != Transport::WebSocket;
        }
        let Some(behind) = self.behind(update) else { return false };
        let seen = now.unix_millis().saturating_sub_unsigned(behind.as_millis() as u64);
        !self.follow || self.until.is_some_and(|until| seen >= until.unix_millis())
    }

    /// What has been seen now that this has come: all that happened so long ago; `None` if it does
    /// not say.
    fn behind(&self, update: &Update) -> Option<Duration> {
        match update {
            Update::Connected { resumed: false, .. } if self.beginning == Beginning::Now => {}
            // Without a position the present state follows.
            Update::Gap(Gap { cursor: Some(_), .. })
            | Update::CaughtUp { .. }
            | Update::Snapshot(_) => {}
            Update::Fresh { behind } => return Some(*behind),
            Update::Bookmark(_) if self.is_over_http && self.follow => return Some(HTTP_DELAY),
            _ => return None,
        }
        Some(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    fn follow() -> Enough {
        let beginning = Beginning::Now;
        Enough { count: None, until: None, follow: true, beginning, is_over_http: false }
    }

    fn connected(resumed: bool) -> Update {
        over(resumed, Transport::WebSocket)
    }

    fn over(resumed: bool, transport: Transport) -> Update {
        let server = String::new();
        Update::Connected { resumed, server, transport, fallback: None }
    }

    fn caught_up() -> Update {
        Update::CaughtUp { replayed: 3, away: Duration::ZERO }
    }

    fn fresh(millis: u64) -> Update {
        Update::Fresh { behind: Duration::from_millis(millis) }
    }

    #[test]
    fn a_watch_that_follows_never_ends() {
        for update in [connected(false), connected(true), caught_up(), fresh(0)] {
            assert!(!follow().reached(&update, at(i64::MAX)), "{update:?}");
        }
    }

    #[test]
    fn the_last_of_so_many() {
        let mut enough = Enough { count: NonZeroU64::new(2), ..follow() };
        assert_eq!([enough.shown(), enough.shown()], [false, true]);
        let mut endless = follow();
        assert!(!endless.shown());
    }

    #[test]
    fn without_following_it_ends_when_it_is_level() {
        let all = |beginning| Enough { follow: false, beginning, ..follow() };
        assert!(all(Beginning::Now).reached(&connected(false), at(0)));
        // A gap or a snapshot follows.
        for beginning in [Beginning::Past, Beginning::State] {
            assert!(!all(beginning).reached(&connected(false), at(0)));
        }
        assert!(!all(Beginning::Past).reached(&connected(true), at(0)));
        assert!(all(Beginning::Past).reached(&caught_up(), at(0)));
    }

    #[test]
    fn a_time_has_passed_when_nothing_before_it_can_come_any_more() {
        let mut until = Enough { until: Some(at(10_000)), ..follow() };
        assert!(!until.reached(&fresh(0), at(9_999)));
        // Half a second behind: what happened just before may still come.
        assert!(!until.reached(&fresh(500), at(10_400)));
        assert!(until.reached(&fresh(500), at(10_500)));
        assert!(until.reached(&caught_up(), at(10_000)));
        assert!(!until.reached(&connected(true), at(20_000)));
    }

    #[test]
    fn where_nobody_can_be_asked_a_bookmark_says_it_a_little_later() {
        let bookmark = Update::Bookmark(taskwatch_client::Cursor::new("c1-0-7"));
        let mut until = Enough { until: Some(at(10_000)), ..follow() };
        // Over a WebSocket it may come while more is on its way.
        assert!(!until.reached(&bookmark, at(60_000)));
        assert!(!until.reached(&over(true, Transport::Sse), at(10_000)));
        assert!(!until.reached(&bookmark, at(14_999)));
        assert!(until.reached(&bookmark, at(15_000)));
        let mut all = Enough { follow: false, beginning: Beginning::Past, ..until };
        assert!(!all.reached(&bookmark, at(60_000)));
    }
}
