//! How it stands with the connection.

use std::time::Duration;

use taskwatch_client::Update;

use crate::escape::Visible;
use crate::status::span;

/// How it stands with the connection. Its texts are harmless already.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Link {
    phase: Phase,
    /// ` over WebSocket`
    way: String,
    /// How far behind the tasks were when it was last looked at, and when that was.
    fresh: Option<(Duration, Duration)>,
}

/// From here on it is said how long nobody has looked.
const UNCHECKED: Duration = Duration::from_secs(6);

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// There was none before.
    Connecting { url: String },
    /// What is shown is not yet what is there.
    CatchingUp,
    /// What is shown is what is there, or was not long ago.
    Live,
    /// There is none, and the next attempt is made then.
    Lost { reason: String, until: Duration },
    /// It was given up for a while.
    Resting,
}

/// What a look at it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Current.
    Good,
    /// On its way.
    Waiting,
    /// Out of date.
    Bad,
}

impl Link {
    pub(crate) fn new(url: &str) -> Self {
        let url = Visible(url).to_string();
        Self { phase: Phase::Connecting { url }, way: String::new(), fresh: None }
    }

    /// Takes what happened on the stream; false if it says the same as before. `has_state` is whether
    /// there are tasks to go on from.
    pub(crate) fn update(&mut self, update: &Update, has_state: bool, now: Duration) -> bool {
        let phase = match update {
            Update::Connected { resumed, transport, .. } => {
                self.way = format!(" over {transport}");
                if *resumed || !has_state { Phase::CatchingUp } else { Phase::Live }
            }
            Update::CaughtUp { .. } | Update::Snapshot(_) => Phase::Live,
            Update::Event(event) if !event.replayed && has_state => Phase::Live,
            Update::Gap(_) => Phase::CatchingUp,
            Update::Interrupted { reason, retry_in } => {
                Phase::Lost { reason: Visible(reason).to_string(), until: now + *retry_in }
            }
            Update::Parked => Phase::Resting,
            Update::Fresh { behind } => {
                self.fresh = Some((*behind, now));
                // What it says is worth a look also if it is the same as before.
                return true;
            }
            _ => return false,
        };
        let has_changed = self.phase != phase;
        self.phase = phase;
        if has_changed {
            self.fresh = None;
        }
        has_changed
    }

    /// When it says something else by itself: at the next second of what it counts.
    pub(crate) fn due(&self, now: Duration) -> Option<Duration> {
        match &self.phase {
            Phase::Lost { until, .. } => {
                let left = until.checked_sub(now).filter(|left| !left.is_zero())?;
                let rest = Duration::from_nanos(u64::from(left.subsec_nanos()));
                Some(now + if rest.is_zero() { Duration::from_secs(1) } else { rest })
            }
            Phase::Live => {
                let (_, at) = self.fresh?;
                let next = Duration::from_secs(now.saturating_sub(at).as_secs() + 1);
                Some(at + next.max(UNCHECKED))
            }
            _ => None,
        }
    }

    pub(crate) fn health(&self) -> Health {
        match self.phase {
            Phase::Live => Health::Good,
            Phase::Connecting { .. } | Phase::CatchingUp | Phase::Resting => Health::Waiting,
            Phase::Lost { .. } => Health::Bad,
        }
    }

    /// What to say of it.
    pub(crate) fn text(&self, now: Duration) -> String {
        self.told(&self.way, now)
    }

    /// The same without the way, for where there is less room.
    pub(crate) fn short_text(&self, now: Duration) -> String {
        self.told("", now)
    }

    fn told(&self, way: &str, now: Duration) -> String {
        match &self.phase {
            Phase::Connecting { url } => format!("connecting to {url}"),
            Phase::CatchingUp => format!("catching up{way}"),
            Phase::Live => match self.fresh {
                None => format!("live{way}"),
                Some((behind, at)) => {
                    let behind = span(behind);
                    match now.saturating_sub(at) {
                        since if since < UNCHECKED => format!("live{way} · {behind} behind"),
                        since => {
                            let since = since.as_secs();
                            format!("live{way} · {behind} behind · checked {since} s ago")
                        }
                    }
                }
            },
            Phase::Lost { reason, until } => match until.saturating_sub(now) {
                Duration::ZERO => format!("reconnecting: {reason}"),
                // Rounded up: what is left is never nothing.
                left => match left.as_nanos().div_ceil(1_000_000_000) {
                    seconds @ ..60 => format!("reconnecting in {seconds} s: {reason}"),
                    _ => format!("reconnecting in {}: {reason}", span(left)),
                },
            },
            Phase::Resting => "resting: this terminal is slow".to_owned(),
        }
    }
}
