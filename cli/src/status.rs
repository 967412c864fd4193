//! What goes to stderr about the connection. Pure: updates in, lines out.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use taskwatch_client::{Denied, ErrorCode, Gap, Pattern, TaskEvent, Transport, Update, WatchError};

use crate::escape::Visible;
use crate::exit::{End, Failure};
use crate::goal::Goal;
use crate::hook::Problem;
use crate::output;
use crate::paint::{BAD, GOOD, NOTE, Paint};

/// Tells the story of a connection, one line at a time.
#[derive(Debug)]
pub(crate) struct Status {
    paint: Paint,
    quiet: bool,
    url: String,
    phase: Phase,
    /// The way that events came the last time it was told.
    transport: Option<Transport>,
    tally: Tally,
    /// Attempts in vain before there ever was a connection.
    failures: u32,
    /// Whether a snapshot is what was asked for: the first, and one after a gap.
    expects_state: bool,
}

/// After so many attempts it is perhaps not the server that is late.
const DOUBTFUL: u32 = 3;

/// What the summary says at the end.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    events: u64,
    reconnects: u64,
    replayed: u64,
    /// How often it is not known what happened.
    breaks: u64,
}

/// How far the connection has come. A line depends on it, since losing a connection and failing
/// to make one are not the same to who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There never was a connection.
    First,
    /// There is one.
    Up,
    /// There was one.
    Down,
}

impl Status {
    /// For connections to this address. `quiet` leaves only what is missed or refused.
    pub(crate) fn new(paint: Paint, quiet: bool, url: &str) -> Self {
        Self {
            paint,
            quiet,
            url: url.to_owned(),
            phase: Phase::First,
            transport: None,
            tally: Tally::default(),
            failures: 0,
            expects_state: true,
        }
    }

    /// The line about an update, if there is something to say.
    pub(crate) fn line(&mut self, update: &Update) -> Option<String> {
        self.count(update);
        match update {
            Update::Denied(denied) => Some(self.warning(&format!("not found: {}", names(denied)))),
            Update::Granted(granted) => Some(self.warning(&granted_text(granted))),
            Update::Gap(gap) => Some(self.warning(&gap_text(gap))),
            connection => self.connection(connection).filter(|_| !self.quiet),
        }
    }

    fn count(&mut self, update: &Update) {
        let Tally { reconnects, replayed, breaks, .. } = &mut self.tally;
        match update {
            Update::CaughtUp { replayed: more, .. } => *replayed += more,
            Update::Connected { .. } if self.phase == Phase::Down => *reconnects += 1,
            // The present state comes in their place.
            Update::Gap(_) | Update::Granted(_) => {
                *breaks += 1;
                self.expects_state = true;
            }
            // Nobody asked for it: it stands for events that got lost on the way.
            Update::Snapshot(_) if !self.expects_state => *breaks += 1,
            Update::Snapshot(_) => self.expects_state = false,
            _ => {}
        }
    }

    /// Takes note of an event that is shown.
    pub(crate) fn shown(&mut self) {
        self.tally.events += 1;
    }

    /// Takes note of an end that leaves it open what happened.
    pub(crate) fn ended(&mut self, failure: &Failure) {
        let is_gap = matches!(failure, Failure::Watch(WatchError::Gap { .. }));
        self.tally.breaks += u64::from(is_gap);
    }

    /// Whether it is not known of some time what happened in it.
    pub(crate) fn is_broken(&self) -> bool {
        self.tally.breaks > 0
    }

    /// The last line but for an error: what there was in all this time. `None` if nobody asked for it, or
    /// if there never was a connection to tell of.
    pub(crate) fn summary(&self, watched: Duration) -> Option<String> {
        if self.quiet || self.phase == Phase::First {
            return None;
        }
        let Tally { events, reconnects, replayed, breaks } = self.tally;
        let mut text = format!("watched for {} · {}", span(watched), counted(events, "event"));
        // Writing to a string does not fail.
        if reconnects > 0 {
            let _ = write!(text, " · {}", counted(reconnects, "reconnect"));
        }
        if replayed > 0 {
            let _ = write!(text, " · {replayed} replayed");
        }
        Some(match breaks {
            0 => self.good(&(text + " · 0 lost")),
            _ => {
                let breaks = counted(breaks, "gap");
                format!(
                    "{text} · {}",
                    self.paint.text(BAD, format_args!("{breaks}: events are missing"))
                )
            }
        })
    }

    /// The line about a token file that others may read.
    pub(crate) fn open_to_others(&self, path: &Path, mode: u32) -> String {
        let path = path.display().to_string();
        self.warning(&format!("others may read the token in {} (mode {mode:o})", Visible(&path)))
    }

    /// The line about something in a condition that may be a slip.
    pub(crate) fn doubt(&self, doubt: &str) -> String {
        self.warning(&Visible(doubt).to_string())
    }

    /// The line about a hook that failed for an event.
    pub(crate) fn hook_failed(
        &self,
        program: &OsStr,
        event: &TaskEvent,
        problem: &Problem,
        attempt: u32,
        wait: Duration,
    ) -> String {
        let (program, problem) = (program.to_string_lossy(), problem.to_string());
        let (kind, title) = (event.kind(), output::title(&event.task().title));
        let (program, problem) = (Visible(&program), Visible(&problem));
        let wait = span(wait);
        self.warning(&format!(
            "{program} failed for {kind} of {title}: {problem}, attempt {attempt}; again in {wait}"
        ))
    }

    /// What came of waiting for so long, if there is something to say.
    pub(crate) fn verdict(&self, end: End, goal: Option<&Goal>, after: Duration) -> Option<String> {
        match (end, goal) {
            (End::Met, Some(goal)) => (!self.quiet).then(|| self.good(&goal.met(after))),
            (End::TimedOut, Some(goal)) => Some(self.warning(&goal.missing(after))),
            (End::TimedOut, None) => Some(self.warning(&format!("{} are over", span(after)))),
            _ => None,
        }
    }

    /// The last line, if the watcher ends otherwise than it was asked to.
    pub(crate) fn failure(&self, failure: &Failure) -> String {
        let label = self.paint.text(BAD, "error:");
        // The text may quote the server.
        let error = format!("{label} {}", Visible(&failure.to_string()));
        match failure.hint() {
            Some(hint) => format!("{error}\n{} {hint}", self.paint.text(GOOD, "hint:")),
            None => error,
        }
    }

    fn connection(&mut self, update: &Update) -> Option<String> {
        match update {
            // Later attempts follow a line that has announced them.
            Update::Connecting { attempt: 1 } if self.phase == Phase::First => {
                Some(format!("connecting to {}", Visible(&self.url)))
            }
            Update::Connected { resumed, server, transport, fallback } => {
                let was = std::mem::replace(&mut self.phase, Phase::Up);
                let before = self.transport.replace(*transport);
                let server = if server.is_empty() { &self.url } else { server };
                let way = way(*transport, fallback.as_deref());
                Some(match (was, resumed) {
                    (Phase::First, true) => {
                        format!(
                            "{} to {}{way} · catching up",
                            self.good("connected"),
                            Visible(server)
                        )
                    }
                    (Phase::First, false) => {
                        format!("{} to {}{way}", self.good("connected"), Visible(server))
                    }
                    (_, false) => {
                        format!("{} to {}{way}", self.good("reconnected"), Visible(server))
                    }
                    // What was missed is told when it has all come.
                    (_, true) if before == self.transport => return None,
                    (_, true) => format!("now{way}"),
                })
            }
            Update::CaughtUp { replayed, away } => {
                let what = match *away {
                    Duration::ZERO => "caught up".to_owned(),
                    away => format!("reconnected after {}", span(away)),
                };
                Some(self.good(&format!("{what} · {replayed} replayed · 0 lost")))
            }
            Update::Interrupted { reason, retry_in } => {
                let (phase, what) = match self.phase {
                    Phase::First => (Phase::First, "not connected"),
                    Phase::Up => (Phase::Down, "connection lost"),
                    Phase::Down => (Phase::Down, "not connected"),
                };
                self.phase = phase;
                let when = match *retry_in {
                    Duration::ZERO => "at once".to_owned(),
                    wait => format!("in {}", span(wait)),
                };
                self.failures += u32::from(phase == Phase::First);
                let advice = match self.failures {
                    DOUBTFUL if phase == Phase::First => {
                        "; `taskwatch doctor` says what is in the way"
                    }
                    _ => "",
                };
                let what = self.paint.text(NOTE, what);
                Some(format!("{what} ({}); retrying {when}{advice}", Visible(reason)))
            }
            Update::Snapshot(snapshot) => Some(match snapshot.tasks.len() {
                1 => "1 task at present".to_owned(),
                tasks => format!("{tasks} tasks at present"),
            }),
            Update::Parked => {
                Some("stdout is slow: the connection rests until it has caught up".to_owned())
            }
            // Nothing a person needs to know, or something this version does not know.
            _ => None,
        }
    }

    fn good(&self, text: &str) -> String {
        self.paint.text(GOOD, text).to_string()
    }

    fn warning(&self, text: &str) -> String {
        format!("{} {text}", self.paint.text(NOTE, "warning:"))
    }
}

/// ` over server-sent events (WebSocket is blocked: …)`
fn way(transport: Transport, fallback: Option<&str>) -> String {
    match (transport, fallback) {
        (_, Some(reason)) => format!(" over {transport} ({})", Visible(reason)),
        (Transport::WebSocket, None) => format!(" over {transport}"),
        (_, None) => format!(" over {transport} (as --transport says)"),
    }
}

/// `acme/secret, acme/other (a reason that is not the usual one)`
fn names(denied: &[Denied]) -> String {
    let name = |denied: &Denied| match &denied.code {
        ErrorCode::NotFound => denied.repository.to_string(),
        code => format!("{} ({})", denied.repository, Visible(code.as_str())),
    };
    denied.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn granted_text(granted: &[Pattern]) -> String {
    let names: Vec<_> = granted.iter().map(ToString::to_string).collect();
    format!("found again: {}; what happened before is missing", names.join(", "))
}

fn gap_text(gap: &Gap) -> String {
    let onwards = match gap.cursor {
        Some(_) => "what comes now",
        None => "the tasks as they are now",
    };
    format!(
        "events were missed that cannot be had any more ({}); going on with {onwards}",
        Visible(gap.reason.as_str())
    )
}

/// `1 event`, `2 events`.
fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A time a person can grasp: `0.8 s`, `41 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match seconds {
        // Rounded up to what one digit can say, so that it never reads 0.0 s.
        _ if duration < Duration::from_millis(9950) => {
            format!("{:.1} s", duration.as_secs_f64().max(0.1))
        }
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status::new(Paint(false), false, "http://127.0.0.1:8787")
    }

    fn connected(resumed: bool) -> Update {
        over(resumed, "taskwatchd 0.1.0", Transport::WebSocket, None)
    }

    fn over(resumed: bool, server: &str, transport: Transport, fallback: Option<&str>) -> Update {
        let (server, fallback) = (server.to_owned(), fallback.map(str::to_owned));
        Update::Connected { resumed, server, transport, fallback }
    }

    fn interrupted(reason: &str, millis: u64) -> Update {
        let retry_in = Duration::from_millis(millis);
        Update::Interrupted { reason: reason.to_owned(), retry_in }
    }

    fn caught_up(replayed: u64, seconds: u64) -> Update {
        Update::CaughtUp { replayed, away: Duration::from_secs(seconds) }
    }

    fn denied() -> Update {
        let denied = |name: &str, code: &str| Denied {
            repository: name.parse().unwrap(),
            code: code.into(),
        };
        Update::Denied(vec![denied("acme/secret", "not_found"), denied("acme/*", "on_\u{9b}moon")])
    }

    /// The lines that a story makes.
    fn told(mut status: Status, story: &[Update]) -> Vec<String> {
        story.iter().filter_map(|update| status.line(update)).collect()
    }

    #[test]
    fn a_cut_and_the_way_back() {
        let story = [
            Update::Connecting { attempt: 1 },
            connected(false),
            interrupted("restart", 800),
            Update::Connecting { attempt: 1 },
            interrupted("connection refused", 1_640),
            Update::Connecting { attempt: 2 },
            connected(true),
            caught_up(14, 41),
            interrupted("moved", 0),
        ];
        assert_eq!(
            told(status(), &story),
            [
                "connecting to http://127.0.0.1:8787",
                "connected to taskwatchd 0.1.0 over WebSocket",
                "connection lost (restart); retrying in 0.8 s",
                "not connected (connection refused); retrying in 1.6 s",
                "reconnected after 41 s · 14 replayed · 0 lost",
                "connection lost (moved); retrying at once",
            ]
        );
    }

    #[test]
    fn a_server_that_is_not_there_yet() {
        let story = [
            interrupted("connection refused", 300),
            over(true, "", Transport::WebSocket, None),
            caught_up(2, 0),
        ];
        assert_eq!(
            told(status(), &story),
            [
                "not connected (connection refused); retrying in 0.3 s",
                "connected to http://127.0.0.1:8787 over WebSocket · catching up",
                "caught up · 2 replayed · 0 lost",
            ]
        );
    }

    #[test]
    fn the_way_that_was_taken_and_why() {
        let blocked = Some("WebSocket is blocked: 426");
        let story = [
            over(false, "", Transport::Sse, blocked),
            interrupted("restart", 800),
            over(true, "", Transport::Sse, blocked),
            caught_up(14, 41),
            interrupted("silence", 800),
            over(true, "", Transport::LongPoll, Some("they are held back")),
            caught_up(0, 1),
            // Without an interruption.
            over(true, "taskwatchd 0.1.0", Transport::WebSocket, None),
            interrupted("restart", 800),
            over(false, "", Transport::LongPoll, None),
        ];
        assert_eq!(
            told(status(), &story),
            [
                "connected to http://127.0.0.1:8787 over server-sent events (WebSocket is blocked: 426)",
                "connection lost (restart); retrying in 0.8 s",
                "reconnected after 41 s · 14 replayed · 0 lost",
                "connection lost (silence); retrying in 0.8 s",
                "now over long polling (they are held back)",
                "reconnected after 1.0 s · 0 replayed · 0 lost",
                "now over WebSocket",
                "connection lost (restart); retrying in 0.8 s",
                "reconnected to http://127.0.0.1:8787 over long polling (as --transport says)",
            ]
        );
    }

    #[test]
    fn quiet_leaves_what_is_refused() {
        let quiet = Status::new(Paint(false), true, "http://x");
        let granted = Update::Granted(vec!["acme/*".parse().unwrap()]);
        let story =
            [connected(false), denied(), interrupted("restart", 800), Update::Parked, granted];
        assert_eq!(
            told(quiet, &story),
            [
                "warning: not found: acme/secret, acme/* (on_\\u{9b}moon)",
                "warning: found again: acme/*; what happened before is missing",
            ]
        );
    }

    #[test]
    fn nothing_of_a_server_drives_the_terminal() {
        let nasty = "\u{1b}[2J\u{202e}\nerror: fake";
        let shown = "\\u{1b}[2J\\u{202e}\\u{a}error: fake";
        let server = over(false, nasty, Transport::Sse, Some(nasty));
        assert_eq!(
            told(status(), &[server, interrupted(nasty, 1_000)]),
            [
                format!("connected to {shown} over server-sent events ({shown})"),
                format!("connection lost ({shown}); retrying in 1.0 s")
            ]
        );
        let closed = WatchError::Closed { code: 4003.into(), reason: nasty.to_owned() };
        let failure = status().failure(&closed.into());
        assert!(failure.starts_with("error: ") && failure.contains(shown), "{failure}");
    }

    #[test]
    fn what_came_of_waiting() {
        let goal = Goal::new("all()".parse().unwrap(), false, vec!["foo".parse().unwrap()]);
        let half_an_hour = Duration::from_secs(1_800);
        let verdict = |quiet, end, goal| {
            Status::new(Paint(false), quiet, "http://x").verdict(end, goal, half_an_hour)
        };
        let missing = "warning: not met after 30 min 0 s: the tasks of foo are not known";
        assert_eq!(verdict(true, End::TimedOut, Some(&goal)).as_deref(), Some(missing));
        let over = "warning: 30 min 0 s are over";
        assert_eq!(verdict(true, End::TimedOut, None).as_deref(), Some(over));
        let met = "met after 30 min 0 s · 0 tasks";
        assert_eq!(verdict(false, End::Met, Some(&goal)).as_deref(), Some(met));
        assert_eq!(verdict(true, End::Met, Some(&goal)), None);
        assert_eq!(verdict(false, End::Interrupted, Some(&goal)), None);
    }

    #[test]
    fn a_failure_comes_with_what_to_do() {
        let gap = WatchError::Gap { reason: "expired".into() };
        let failure = status().failure(&gap.into());
        let lines: Vec<_> = failure.lines().collect();
        assert_eq!(lines.len(), 2, "{failure}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains("expired"), "{failure}");
        assert!(lines[1].starts_with("hint: ") && lines[1].contains("--on-gap live"), "{failure}");
    }

    #[test]
    fn colours_are_around_our_own_words() {
        let coloured = Status::new(Paint(true), false, "http://x");
        assert_eq!(
            told(coloured, &[interrupted("restart", 800), denied()])[0],
            "\u{1b}[33mnot connected\u{1b}[0m (restart); retrying in 0.8 s"
        );
    }

    #[test]
    fn times_a_person_can_grasp() {
        for (millis, shown) in [
            (1, "0.1 s"),
            (800, "0.8 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (59_400, "59 s"),
            (59_600, "1 min 0 s"),
            (185_000, "3 min 5 s"),
            (7_800_000, "2 h 10 min"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), shown);
        }
    }
}
