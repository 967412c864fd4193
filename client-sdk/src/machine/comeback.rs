//! How a link ends, and when the next one is made.

use std::time::{Duration, Instant};

use taskwatch_protocol::{Advice, CloseCode, CloseReason};
use tracing::debug;

use super::{Action, Machine, Phase};
use crate::dial::DialError;
use crate::{Update, WatchError};

/// A link that was live for so long has proven itself: waits begin small again.
const PROVEN_AFTER: Duration = Duration::from_secs(30);
/// A restarting server that does not say when to come back meets its clients spread over this.
const RESTART_SPREAD: Duration = Duration::from_secs(5);
/// No advice keeps a client away for longer.
const MAX_ADVICE: Duration = Duration::from_secs(3600);

/// When a lost link is made again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Comeback {
    /// Without a wait, whatever came before.
    Now,
    /// Without a wait, unless the last link that hurried was in vain.
    AtOnce,
    BackOff {
        at_least: Duration,
    },
}

pub(super) const BACK_OFF: Comeback = Comeback::BackOff { at_least: Duration::ZERO };

impl Machine {
    pub(super) fn dial_failed(&mut self, now: Instant, error: DialError) {
        match error {
            DialError::Refused(refusal) if refusal.is_unauthorized() && self.asks_again() => {
                self.lost(now, refusal.to_string(), Comeback::Now);
            }
            DialError::Refused(refusal) if refusal.is_final() => {
                let reason = refusal.detail;
                self.stop(
                    Action::Drop,
                    WatchError::Rejected { status: refusal.status, code: refusal.code, reason },
                );
            }
            DialError::Refused(refusal) => {
                let at_least = refusal.retry_after.unwrap_or_default();
                self.lost(now, refusal.to_string(), Comeback::BackOff { at_least });
            }
            DialError::Failed(reason) => self.lost(now, reason, BACK_OFF),
            DialError::Final(error) => self.stop(Action::Drop, error),
        }
    }

    pub(super) fn closed(&mut self, now: Instant, code: CloseCode, reason: &CloseReason) {
        let hint = reason.retry_after_ms.map(Duration::from_millis);
        let comeback = match code.advice() {
            _ if code == CloseCode::Unauthorized && self.asks_again() => Comeback::AtOnce,
            Advice::Stop => {
                let said = if code.meaning().is_empty() { &reason.word } else { code.meaning() };
                let reason = said.to_owned();
                return self.stop(Action::Drop, WatchError::Closed { code, reason });
            }
            Advice::AtOnce => {
                hint.map_or(Comeback::AtOnce, |at_least| Comeback::BackOff { at_least })
            }
            Advice::BackOff { at_least } => {
                let spread = match (code, hint) {
                    (CloseCode::Restart, None) => self.delays.up_to(RESTART_SPREAD),
                    (_, hint) => hint.unwrap_or_default(),
                };
                Comeback::BackOff { at_least: at_least.max(spread) }
            }
        };
        self.lost(now, format!("the server closed the connection: {code}"), comeback);
    }

    /// Whether a token that was refused is followed by another one. Once: a second refusal in a row is
    /// meant.
    fn asks_again(&mut self) -> bool {
        self.has_tokens && !std::mem::replace(&mut self.is_refused, true)
    }

    /// The link is gone; comes back when `comeback` says.
    pub(super) fn lost(&mut self, now: Instant, reason: String, comeback: Comeback) {
        debug!(reason, "link lost");
        self.told = None;
        self.carried = None;
        self.hang_up(now, Action::Drop);
        let delay = match comeback {
            Comeback::Now => Duration::ZERO,
            Comeback::AtOnce if !self.hurried => {
                self.hurried = true;
                Duration::ZERO
            }
            Comeback::AtOnce => self.delays.next(),
            Comeback::BackOff { at_least } => self.delays.next().max(at_least.min(MAX_ADVICE)),
        };
        let tried = now - *self.trying_since.get_or_insert(now);
        if self.max_elapsed.is_some_and(|limit| tried + delay > limit) {
            let attempts = self.attempts;
            return self.stop(Action::Drop, WatchError::Unreachable { attempts, reason });
        }
        self.phase = Phase::Waiting { until: now + delay, reason: reason.clone() };
        self.tell(Update::Interrupted { reason, retry_in: delay });
    }

    /// Makes the connection anew, since nothing can be said on this one. It is no outage: the stream goes
    /// on where it is, and the caller hears nothing of it.
    pub(super) fn redial(&mut self, now: Instant) {
        if let Phase::Open(session) = &mut self.phase
            && session.live_since.is_some()
        {
            self.carried = session.catching_up.take();
        }
        self.hang_up(now, Action::Leave);
        // It is no failure either.
        self.attempts = self.attempts.saturating_sub(1);
        self.dial(now);
    }

    /// Ends the connection, or the attempt at one. What it still says is nobody's.
    pub(super) fn hang_up(&mut self, now: Instant, how: Action) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        self.generation.0 += 1;
        self.actions.push_back(how);
        if let Phase::Open(session) = phase
            && let Some(since) = session.live_since
        {
            self.away_since = Some(now);
            if now - since >= PROVEN_AFTER {
                self.delays.reset();
                self.attempts = 0;
                self.hurried = false;
            }
        }
    }
}
