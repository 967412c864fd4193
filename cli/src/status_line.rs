//! The last line of a terminal: how the watch is doing just now. Pure: updates and times in, a text out.

use std::fmt::Write;
use std::time::{Duration, Instant};

use taskwatch_client::Update;
use unicode_width::UnicodeWidthChar;

use crate::status::span;

/// How often it is asked how far behind the watch is.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(2);
/// An answer older than this is no news of the present any more.
const OLD: Duration = Duration::from_secs(5);

/// What the line says.
#[derive(Debug)]
pub(crate) struct StatusLine {
    phase: Phase,
    /// What the last answer said, and when it came.
    fresh: Option<(Duration, Instant)>,
    events: u64,
}

#[derive(Debug)]
enum Phase {
    Connecting,
    CatchingUp,
    Live,
    Waiting { until: Instant },
    Resting,
}

impl StatusLine {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Connecting, fresh: None, events: 0 }
    }

    /// Takes note of what came.
    pub(crate) fn take(&mut self, update: &Update, now: Instant) {
        match update {
            Update::Connecting { .. } => self.phase = Phase::Connecting,
            Update::Connected { resumed: true, .. } => self.phase = Phase::CatchingUp,
            Update::Connected { .. } | Update::CaughtUp { .. } => self.phase = Phase::Live,
            Update::Interrupted { retry_in, .. } => {
                self.phase = Phase::Waiting { until: now + *retry_in };
                self.fresh = None;
            }
            Update::Parked => self.phase = Phase::Resting,
            Update::Fresh { behind } => self.fresh = Some((*behind, now)),
            _ => {}
        }
    }

    /// Takes note of an event that is shown.
    pub(crate) fn shown(&mut self) {
        self.events += 1;
    }

    /// The line, in so many columns at most: one that wraps could not be taken back.
    pub(crate) fn text(&self, now: Instant, columns: usize) -> String {
        let mut text = match (&self.phase, self.fresh) {
            (Phase::Connecting, _) => "connecting".to_owned(),
            (Phase::CatchingUp, _) => "catching up".to_owned(),
            (Phase::Live, None) => "live".to_owned(),
            (Phase::Live, Some((behind, at))) => {
                // As long as answers come, what they say is the truth. Otherwise it gets older.
                let age = now.saturating_duration_since(at);
                let behind = if age < OLD { behind } else { behind + age };
                format!("live · {} behind", span(behind))
            }
            (Phase::Waiting { until }, _) => match until.saturating_duration_since(now) {
                Duration::ZERO => "reconnecting".to_owned(),
                left => format!("reconnecting in {}", span(left)),
            },
            (Phase::Resting, _) => "resting until this terminal has caught up".to_owned(),
        };
        // Writing to a string does not fail.
        let _ = match self.events {
            0 => Ok(()),
            1 => write!(text, " · 1 event"),
            events => write!(text, " · {events} events"),
        };
        fitted(&text, columns)
    }
}

/// As much of a text as fits.
fn fitted(text: &str, columns: usize) -> String {
    let mut left = columns;
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    text.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(line: &mut StatusLine, start: Instant, seconds: u64, update: Update) -> String {
        let now = start + Duration::from_secs(seconds);
        line.take(&update, now);
        line.text(now, 80)
    }

    fn connected(resumed: bool) -> Update {
        let (server, transport) = (String::new(), taskwatch_client::Transport::WebSocket);
        Update::Connected { resumed, server, transport, fallback: None }
    }

    fn interrupted() -> Update {
        let (reason, retry_in) = ("cut".to_owned(), Duration::from_secs(3));
        Update::Interrupted { reason, retry_in }
    }

    #[test]
    fn it_says_how_the_watch_is_doing() {
        let (mut line, start) = (StatusLine::new(), Instant::now());
        assert_eq!(line.text(start, 80), "connecting");
        assert_eq!(after(&mut line, start, 0, connected(false)), "live");
        let behind = Duration::from_millis(200);
        assert_eq!(after(&mut line, start, 1, Update::Fresh { behind }), "live · 0.2 s behind");
        assert_eq!(after(&mut line, start, 2, interrupted()), "reconnecting in 3.0 s");
        let (soon, now) = (start + Duration::from_millis(4_200), start + Duration::from_secs(5));
        assert_eq!(line.text(soon, 80), "reconnecting in 0.8 s");
        assert_eq!(line.text(now, 80), "reconnecting");
        assert_eq!(after(&mut line, start, 6, connected(true)), "catching up");
        let caught_up = Update::CaughtUp { replayed: 0, away: Duration::ZERO };
        assert_eq!(after(&mut line, start, 6, caught_up), "live");
        assert_eq!(
            after(&mut line, start, 7, Update::Parked),
            "resting until this terminal has caught up"
        );
    }

    #[test]
    fn without_an_answer_what_it_said_gets_older() {
        let (mut line, start) = (StatusLine::new(), Instant::now());
        line.take(&connected(false), start);
        line.take(&Update::Fresh { behind: Duration::from_millis(200) }, start);
        let text = |seconds| line.text(start + Duration::from_secs(seconds), 80);
        assert_eq!(text(4), "live · 0.2 s behind");
        assert_eq!(text(20), "live · 20 s behind");
    }

    #[test]
    fn it_never_wraps() {
        let line = StatusLine::new();
        assert_eq!(line.text(Instant::now(), 7), "connect");
        assert_eq!(fitted("a漢字b", 4), "a漢");
        assert_eq!(fitted("a漢字b", 0), "");
    }
}
