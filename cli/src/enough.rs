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
    is_over_http: bool,
    /// Whether what was missed has come.
    is_level: bool,
    /// When it was last seen that nothing waited to be taken.
    quiet_at: Option<Timestamp>,
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
    /// For a watch that begins so, and never ends.
    pub(crate) fn new(beginning: Beginning) -> Self {
        Self {
            count: None,
            until: None,
            follow: true,
            beginning,
            is_over_http: false,
            is_level: false,
            quiet_at: None,
        }
    }

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

    /// Nothing waited to be taken at this time: what comes next has come later.
    pub(crate) fn nothing_waits(&mut self, now: Timestamp) {
        self.quiet_at = Some(now);
    }

    /// Whether this update is the sign that everything was seen which was to be seen.
    ///
    /// It may have waited for long to be taken, so what it says of time counts from when nothing waited.
    pub(crate) fn reached(&mut self, update: &Update) -> bool {
        let is_level = match update {
            Update::Connected { resumed, transport, .. } => {
                self.is_over_http = *transport != Transport::WebSocket;
                // Later the same is followed by word of a gap.
                let beginning = std::mem::replace(&mut self.beginning, Beginning::Past);
                Some(!resumed && beginning == Beginning::Now)
            }
            // Without a position the present state follows.
            Update::Gap(Gap { cursor: Some(_), .. })
            | Update::CaughtUp { .. }
            | Update::Snapshot(_) => Some(true),
            Update::Interrupted { .. } => Some(false),
            _ => None,
        };
        self.is_level = is_level.unwrap_or(self.is_level);
        if is_level == Some(true) && !self.follow {
            return true;
        }
        let behind = match update {
            Update::Fresh { behind } => *behind,
            Update::Bookmark(_) if self.is_over_http && self.is_level => HTTP_DELAY,
            _ => return false,
        };
        let (Some(until), Some(quiet_at)) = (self.until, self.quiet_at) else { return false };
        let seen = quiet_at.unix_millis().saturating_sub_unsigned(behind.as_millis() as u64);
        seen >= until.unix_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    fn follow() -> Enough {
        Enough::new(Beginning::Now)
    }

    /// Whether it ends with this update, which was taken when nothing else had waited.
    fn reached(enough: &mut Enough, update: &Update, millis: i64) -> bool {
        enough.nothing_waits(at(millis));
        enough.reached(update)
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
            assert!(!reached(&mut follow(), &update, i64::MAX), "{update:?}");
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
        let all = |beginning| Enough { follow: false, ..Enough::new(beginning) };
        assert!(all(Beginning::Now).reached(&connected(false)));
        // A gap or a snapshot follows.
        for beginning in [Beginning::Past, Beginning::State] {
            assert!(!all(beginning).reached(&connected(false)));
        }
        let mut past = all(Beginning::Past);
        assert!(!past.reached(&connected(true)) && past.reached(&caught_up()));
    }

    #[test]
    fn a_time_has_passed_when_nothing_before_it_can_come_any_more() {
        let mut until = Enough { until: Some(at(10_000)), ..follow() };
        // A gap may follow, or what was missed.
        for update in [connected(false), connected(true), caught_up()] {
            assert!(!reached(&mut until, &update, 20_000), "{update:?}");
        }
        assert!(!reached(&mut until, &fresh(0), 9_999));
        // Half a second behind: what happened just before may still come.
        assert!(!reached(&mut until, &fresh(500), 10_400));
        assert!(reached(&mut until, &fresh(500), 10_500));
    }

    #[test]
    fn what_waited_to_be_taken_says_nothing_of_the_time_it_waited() {
        let mut until = Enough { until: Some(at(10_000)), ..follow() };
        assert!(!until.reached(&fresh(0)));
        until.nothing_waits(at(9_000));
        // These were taken an hour later, one behind the other.
        assert!(!until.reached(&fresh(0)) && !until.reached(&fresh(0)));
        until.nothing_waits(at(3_600_000));
        assert!(until.reached(&fresh(0)));
    }

    #[test]
    fn where_nobody_can_be_asked_a_bookmark_says_it_a_little_later() {
        let bookmark = Update::Bookmark(taskwatch_client::Cursor::new("c1-0-7"));
        let mut until = Enough { until: Some(at(10_000)), ..follow() };
        // Over a WebSocket it may come while more is on its way.
        assert!(!reached(&mut until, &caught_up(), 60_000));
        assert!(!reached(&mut until, &bookmark, 60_000));
        // Nor does the position at which a replay begins say anything.
        assert!(!reached(&mut until, &over(true, Transport::Sse), 60_000));
        assert!(!reached(&mut until, &bookmark, 60_000));
        assert!(!reached(&mut until, &caught_up(), 60_000));
        assert!(!reached(&mut until, &bookmark, 14_999));
        assert!(reached(&mut until, &bookmark, 15_000));
    }
}
