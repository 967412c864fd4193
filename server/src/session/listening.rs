//! What is different about a peer that cannot talk back: it asked in its request, answers no ping,
//! and shows that it is there only by taking what it is sent.

use std::time::{Duration, Instant};

use taskwatch_protocol::{CloseCode, Envelope, Mode, ServerFrame, ServerMessage};

use super::{Session, Step};
use crate::EventLog;
use crate::clock::Now;

/// Something is sent at least so often, so that nothing between the two takes it for dead.
const QUIET: Duration = Duration::from_secs(15);
/// A count comes at least after so many events.
pub(super) const UNCOUNTED: u64 = 1_024;
/// A poll is answered with at most so many events,
pub(super) const MAX_EVENTS: u64 = 1_000;
/// and so many bytes of them, or one that is larger.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// At the latest; the peer is told to come back.
    pub(crate) lifetime: Duration,
    /// A poll ends as soon as there is something, or after so long. A stream goes on.
    pub(crate) wait: Option<Duration>,
}

/// What a session keeps about such a peer.
#[derive(Debug)]
pub(super) struct Listening {
    until: Option<Instant>,
    is_poll: bool,
    /// When a poll has waited long enough.
    patience: Option<Instant>,
    /// When something was last sent.
    spoke: Instant,
    /// A bookmark is owed, at the next place where it says that the peer is level.
    is_owed: bool,
    /// What the last bookmark counted.
    counted: u64,
    bytes: usize,
    end: Option<End>,
}

/// How it ends from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything is said.
    Done,
    /// The code has still to be said.
    Close(CloseCode),
}

impl Listening {
    pub(super) fn deadline(&self, in_snapshot: bool) -> Instant {
        let quiet = self.spoke + QUIET;
        let until = self.until.filter(|_| !in_snapshot);
        [until, self.patience].into_iter().flatten().fold(quiet, Instant::min)
    }
}

impl Session {
    /// Its peer cannot talk back.
    pub(crate) fn listen(&mut self, Terms { lifetime, wait }: Terms, now: Instant) {
        self.listening = Some(Box::new(Listening {
            until: now.checked_add(lifetime),
            is_poll: wait.is_some(),
            patience: wait.and_then(|wait| now.checked_add(wait)),
            spoke: now,
            is_owed: false,
            counted: 0,
            bytes: 0,
            end: None,
        }));
    }

    /// Whether it ends as soon as there was something.
    pub(crate) fn is_poll(&self) -> bool {
        self.listening.as_ref().is_some_and(|listening| listening.is_poll)
    }

    /// How it is over, if it is.
    pub(crate) fn end(&self) -> Option<End> {
        self.listening.as_ref()?.end
    }

    /// Something was put on its way.
    pub(crate) fn spoke(&mut self, now: Instant) {
        if let Some(listening) = &mut self.listening {
            listening.spoke = now;
        }
    }

    /// Whether an event of so many bytes still belongs into the answer; if not, it is over.
    pub(crate) fn has_room(&mut self, bytes: usize) -> bool {
        let delivered = self.delivered;
        let Some(listening) = self.listening.as_mut().filter(|listening| listening.is_poll) else {
            return true;
        };
        listening.bytes += bytes;
        let is_full = delivered >= MAX_EVENTS || listening.bytes > MAX_BYTES;
        if is_full && delivered > 0 {
            listening.end = Some(End::Done);
            return false;
        }
        true
    }

    /// A request was answered. Nobody can ask again: where nothing is subscribed, and nothing waits,
    /// nothing will follow.
    pub(super) fn answered(&mut self, message: &ServerMessage) {
        let is_last = self.waiting.is_empty() && self.wants_nothing();
        let Some(listening) = &mut self.listening else { return };
        match message {
            ServerMessage::Subscribed(answer)
                if answer.accepted.is_empty() && (answer.mode == Mode::Reset || is_last) =>
            {
                listening.end = Some(End::Done);
            }
            ServerMessage::Subscribed(answer) => {
                listening.is_owed |= answer.mode == Mode::Resumed && !listening.is_poll;
            }
            ServerMessage::Error(error) if error.retryable => {
                listening.end = Some(End::Close(CloseCode::Unavailable));
            }
            ServerMessage::Error(_) if is_last => listening.end = Some(End::Done),
            _ => {}
        }
    }

    /// A snapshot is complete: what follows it ends with a bookmark.
    pub(super) fn owe_bookmark(&mut self) {
        if let Some(listening) = &mut self.listening {
            listening.is_owed = true;
        }
    }

    /// The count that is due to who is still catching up. Without it everything up to its end would
    /// have to be taken as it came, and the answer to a full poll for ever. It is no `ping`, which
    /// would say that the peer is level.
    pub(crate) fn count(&mut self, now: Now, log: &dyn EventLog) -> Option<ServerFrame> {
        let delivered = self.delivered;
        let listening = self.listening.as_mut()?;
        let is_full = listening.end == Some(End::Done) && delivered > listening.counted;
        if !is_full && delivered - listening.counted < UNCOUNTED {
            return None;
        }
        listening.counted = delivered;
        let pong = ServerMessage::Pong(self.sign_of_life());
        Some(Envelope::new(pong).at(now.wall).cursor(self.bookmark(log)))
    }

    /// The bookmark that is due now that the peer is level. It is the last that a poll is told.
    pub(crate) fn level(&mut self, now: Now, log: &dyn EventLog) -> Option<ServerFrame> {
        let delivered = self.delivered;
        let listening = self.listening.as_mut()?;
        let uncounted = delivered - listening.counted;
        let enough = if listening.is_poll { 1 } else { UNCOUNTED };
        if !listening.is_owed && uncounted < enough {
            return None;
        }
        listening.is_owed = false;
        listening.counted = delivered;
        if listening.is_poll {
            listening.end = Some(End::Done);
        }
        let ping = ServerMessage::Ping(self.sign_of_life());
        Some(Envelope::new(ping).at(now.wall).cursor(self.bookmark(log)))
    }

    /// Time has passed.
    pub(super) fn tick_listening(&mut self, now: Instant) -> Step {
        let (heartbeat, next_ping, in_snapshot) =
            (self.rules.heartbeat, self.next_ping, self.in_snapshot);
        let Some(listening) = &mut self.listening else { return Step::Nothing };
        let is_over = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        // A snapshot would begin anew, and come to no end with who takes longer for it.
        if is_over(listening.until) && !in_snapshot {
            return Step::Close(CloseCode::Rebalance);
        }
        if is_over(listening.patience) {
            (listening.patience, listening.is_owed) = (None, true);
        }
        // Sent when the peer is level: this is how it learns that it is.
        if now >= next_ping {
            self.next_ping = now + heartbeat;
            listening.is_owed |= !listening.is_poll;
        }
        if now >= listening.spoke + QUIET {
            listening.spoke = now;
            return Step::KeepAlive;
        }
        Step::Nothing
    }
}
