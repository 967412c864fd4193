//! Whose connection it is: renewed by `auth`, looked at again from time to time.

use std::time::{Duration, Instant};

use taskwatch_protocol::{
    Authenticated, CloseCode, Envelope, ErrorCode, ErrorMessage, ServerMessage, Timestamp,
};

use super::{Session, Step, reply};
use crate::clock::Now;
use crate::{AuthError, Principal, Token};

/// What a session keeps of the token it began with.
#[derive(Debug, Default)]
pub(super) struct Access {
    token: Option<Token>,
    expires: Option<Expiry>,
    /// When to look at the token again, if it can ever turn out otherwise.
    again: Option<Instant>,
    /// Somebody is being asked.
    asking: bool,
    /// What was being asked may be out of date.
    ask_again: bool,
    /// It was found out elsewhere, and cannot be found out here.
    is_elsewhere: bool,
}

/// By both clocks: either of them may be wrong, and a token is not to live longer for it.
#[derive(Clone, Copy, Debug)]
struct Expiry {
    wall: Timestamp,
    instant: Instant,
}

/// A question to the authenticator, and what the answer is for.
#[derive(Debug, PartialEq)]
pub(crate) struct Identification {
    /// Who brings this?
    pub(crate) token: Option<Token>,
    purpose: Purpose,
}

#[derive(Debug, PartialEq)]
enum Purpose {
    /// What was allowed may not be any more.
    Again,
    /// The peer sent a new token in the request `id`.
    Renewal { id: Option<String> },
}

impl Access {
    /// `None` if nothing can come of it: whoever needs no token will need none later.
    pub(super) fn of(
        token: Option<Token>,
        principal: &Principal,
        every: Duration,
        now: Now,
    ) -> Option<Box<Self>> {
        let can_change = token.is_some() || !principal.is_anonymous();
        let expires = Expiry::of(principal, now);
        (can_change || expires.is_some()).then(|| {
            let again = can_change.then_some(now.instant + every);
            Box::new(Self { token, expires, again, ..Self::default() })
        })
    }

    fn deadline(&self) -> Option<Instant> {
        let expires = self.expires.map(|expiry| expiry.instant);
        [expires, self.again].into_iter().flatten().min()
    }

    fn ask(&mut self, token: Option<Token>, purpose: Purpose) -> Step {
        self.asking = true;
        Step::Identify(Box::new(Identification { token, purpose }))
    }
}

impl Expiry {
    fn of(principal: &Principal, now: Now) -> Option<Self> {
        let wall = principal.expires()?;
        let left = wall.unix_millis().saturating_sub(now.wall.unix_millis());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
        // Further away than the clock reaches is never.
        Some(Self { wall, instant: now.instant.checked_add(left)? })
    }
}

impl Session {
    /// Who it is was found out elsewhere: it ends when that may have changed.
    pub(crate) fn known_elsewhere(&mut self) {
        let access = self.access.get_or_insert_default();
        (access.is_elsewhere, access.again) = (true, None);
    }

    pub(super) fn token_expires_in_ms(&self, now: Now) -> Option<u64> {
        let expires = self.access.as_ref()?.expires?;
        let left = expires.instant.saturating_duration_since(now.instant);
        Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    /// When something is due about the token, if ever.
    pub(super) fn access_deadline(&self) -> Option<Instant> {
        self.access.as_ref()?.deadline()
    }

    /// What the peer may see may have changed: who is it?
    pub(crate) fn authenticate(&mut self, now: Instant) -> Step {
        let access = self.access.get_or_insert_default();
        if access.is_elsewhere {
            return Step::Close(CloseCode::AccessChanged);
        }
        access.again = access.again.map(|_| now + self.rules.authenticate_again);
        if access.asking {
            access.ask_again = true;
            return Step::Nothing;
        }
        let token = access.token.clone();
        access.ask(token, Purpose::Again)
    }

    /// A new token came in.
    pub(super) fn renew(&mut self, id: Option<String>, token: Token, now: Now) -> Step {
        if self.principal().is_anonymous() {
            let text = "this connection has no token to renew";
            return reply(ErrorMessage::new(ErrorCode::Unsupported, text), id, now);
        }
        let access = self.access.get_or_insert_default();
        if access.asking {
            let text = "the token before this one is still being looked at";
            return reply(ErrorMessage::new(ErrorCode::RateLimited, text), id, now);
        }
        access.ask(Some(token), Purpose::Renewal { id })
    }

    /// The authenticator has answered.
    pub(crate) fn identified(
        &mut self,
        asked: Identification,
        answer: Result<Principal, AuthError>,
        now: Now,
    ) -> Step {
        let access = self.access.get_or_insert_default();
        access.asking = false;
        let ask_again = std::mem::take(&mut access.ask_again);
        let step = match asked.purpose {
            Purpose::Again => self.looked_at_again(answer, now),
            Purpose::Renewal { id } => self.renewed(id, asked.token, answer, now),
        };
        if ask_again {
            // After what is said now, and before any time has passed.
            self.access.get_or_insert_default().again = Some(now.instant);
        }
        step
    }

    fn looked_at_again(&mut self, answer: Result<Principal, AuthError>, now: Now) -> Step {
        match answer {
            Ok(principal) if principal.may_the_same_as(self.selection.principal()) => {
                self.access.get_or_insert_default().expires = Expiry::of(&principal, now);
                Step::Nothing
            }
            Ok(_) => Step::Close(CloseCode::AccessChanged),
            Err(AuthError::Expired) => Step::Close(CloseCode::TokenExpired),
            Err(AuthError::Missing | AuthError::Invalid(_)) => Step::Close(CloseCode::Unauthorized),
            // Nobody is trusted on the strength of what was once true.
            Err(AuthError::Unavailable(_)) => Step::Close(CloseCode::Unavailable),
        }
    }

    fn renewed(
        &mut self,
        id: Option<String>,
        token: Option<Token>,
        answer: Result<Principal, AuthError>,
        now: Now,
    ) -> Step {
        let before = self.selection.principal();
        let refused = |text: String| ErrorMessage::new(ErrorCode::Unauthorized, text);
        let refused = match answer {
            Ok(principal) if principal.subject() != before.subject() => {
                refused("the token of another subject; open another connection".to_owned())
            }
            Ok(principal) if !principal.may_the_same_as(before) => {
                return Step::Close(CloseCode::AccessChanged);
            }
            Ok(principal) => {
                self.access = Access::of(token, &principal, self.rules.authenticate_again, now);
                let subject = principal.subject().unwrap_or_default().to_owned();
                let token_expires_in_ms = self.token_expires_in_ms(now);
                let message = Authenticated { subject, token_expires_in_ms };
                let message = Envelope::new(ServerMessage::Authenticated(message));
                return Step::Send(Box::new(message.at(now.wall).id(id)));
            }
            Err(error @ AuthError::Unavailable(_)) => {
                ErrorMessage::new(ErrorCode::Unavailable, error.to_string())
            }
            Err(error) => refused(error.to_string()),
        };
        reply(refused, id, now)
    }

    /// What is due about the token, if anything.
    pub(super) fn access_due(&mut self, now: Now) -> Option<Step> {
        let access = self.access.as_ref()?;
        let expired = access.expires.is_some_and(|expiry| {
            now.instant >= expiry.instant || now.wall.unix_millis() >= expiry.wall.unix_millis()
        });
        if expired {
            return Some(Step::Close(CloseCode::TokenExpired));
        }
        let again = access.again.is_some_and(|again| now.instant >= again);
        again.then(|| self.authenticate(now.instant))
    }

    /// Who is there, and what they may see.
    pub(crate) fn principal(&self) -> &Principal {
        self.selection.principal()
    }
}
