//! The protocol of one connection as a state machine: frames in, frames out, no socket, no clock.

mod access;
mod delivery;
mod fetch;
mod listening;
mod subscription;
mod tally;

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Access;
pub(crate) use access::Identification;
pub(crate) use delivery::{Delivery, Next, Outbox};
pub(crate) use fetch::{Fetch, Fetched};
use listening::Listening;
pub(crate) use listening::{End, Terms};
pub(crate) use subscription::{Answer, SeekRequest, SnapshotRequest, check_start};
use subscription::{Change, Request};
use taskwatch_protocol::{
    Auth, ClientFrame, ClientMessage, CloseCode, Envelope, ErrorCode, ErrorMessage, Heartbeat,
    Limits, PROTOCOL_VERSION, Pattern, Seq, ServerFrame, ServerMessage, Subscribe, Unsubscribe,
    Welcome,
};
use uuid::Uuid;

use crate::clock::Now;
use crate::hub::Selection;
use crate::mutant::{self, Mutant};
use crate::rate::{Refill, TokenBucket};
use crate::{EventLog, HubConfig, LogEvent, Rate, Token};

/// Subscription requests that may wait for the connection to be level.
const MAX_WAITING: usize = 8;
/// A message that was begun must be complete after so long.
const UNFINISHED: Duration = Duration::from_secs(10);

/// What is to be done about something that came in.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Nothing,
    Send(Box<ServerFrame>),
    /// Ask the authenticator, and hand in its answer with [`Session::identified`].
    Identify(Box<Identification>),
    /// Send what means nothing, to a peer that cannot be asked whether it is there.
    KeepAlive,
    Close(CloseCode),
}

/// What is the same for all sessions of a hub.
#[derive(Debug)]
pub(crate) struct Rules {
    limits: Limits,
    heartbeat: Duration,
    silence: Duration,
    authenticate_again: Duration,
    messages: Refill,
    controls: Refill,
    bytes: Refill,
    unreadable: Refill,
}

impl Rules {
    pub(crate) fn of(config: &HubConfig) -> Self {
        let two_messages = u32::try_from(config.max_message_bytes.saturating_mul(2));
        let bytes = config.bytes.burst.max(two_messages.unwrap_or(u32::MAX));
        Self {
            limits: Limits {
                max_message_bytes: config.max_message_bytes as u64,
                max_patterns_per_message: config.max_patterns_per_message as u64,
                max_patterns: config.max_patterns as u64,
            },
            heartbeat: config.heartbeat,
            silence: config.silence,
            authenticate_again: config.authenticate_again,
            messages: config.messages.into(),
            controls: config.controls.into(),
            bytes: Rate { burst: bytes, ..config.bytes }.into(),
            unreadable: Refill::per_minute(config.bad_messages_per_minute),
        }
    }
}

/// One connection's side of the protocol. There are many, and most of them idle: what all have in
/// common is shared, and what few need is made when they do.
#[derive(Debug)]
pub(crate) struct Session {
    rules: Arc<Rules>,
    selection: Arc<Selection>,
    access: Option<Box<Access>>,
    /// Whether a subscription has been accepted: `since` is only for the first.
    subscribed: bool,
    /// Whether one has been asked for.
    asked: bool,
    waiting: Vec<Request>,
    /// Everything the selection wants up to here is on its way to the socket.
    position: Seq,
    delivered: u64,
    /// Between the answer in front of a snapshot and its last frame.
    in_snapshot: bool,
    next_ping: Instant,
    heard: Instant,
    /// When the oldest message that is not complete was begun.
    unfinished: Option<Instant>,
    messages: TokenBucket,
    controls: TokenBucket,
    bytes: TokenBucket,
    unreadable: TokenBucket,
    /// For a peer that cannot talk back.
    listening: Option<Box<Listening>>,
}

impl Session {
    /// A session that is level at `position` and wants nothing yet: `selection` says whose it is,
    /// `token` how that is known. `phase`, between 0 and 1, puts its heartbeat apart from those of
    /// others.
    pub(crate) fn new(
        rules: &Arc<Rules>,
        selection: Arc<Selection>,
        token: Option<Token>,
        position: Seq,
        phase: f64,
        now: Now,
    ) -> Self {
        let Now { instant, .. } = now;
        Self {
            rules: rules.clone(),
            access: Access::of(token, selection.principal(), rules.authenticate_again, now),
            selection,
            subscribed: false,
            asked: false,
            waiting: Vec::new(),
            position,
            delivered: 0,
            in_snapshot: false,
            next_ping: instant + rules.heartbeat.mul_f64(0.9 + 0.2 * phase),
            heard: instant,
            unfinished: None,
            messages: TokenBucket::new(instant),
            controls: TokenBucket::new(instant),
            bytes: TokenBucket::new(instant),
            unreadable: TokenBucket::new(instant),
            listening: None,
        }
    }

    /// The first frame.
    pub(crate) fn welcome(&self, server: &str, connection_id: Uuid, now: Now) -> ServerFrame {
        let welcome = Welcome {
            protocol: PROTOCOL_VERSION,
            server: server.to_owned(),
            connection_id,
            heartbeat_ms: u64::try_from(self.rules.heartbeat.as_millis()).unwrap_or(u64::MAX),
            limits: self.rules.limits,
            token_expires_in_ms: self.token_expires_in_ms(now),
        };
        Envelope::new(ServerMessage::Welcome(welcome)).at(now.wall)
    }

    pub(crate) fn selection(&self) -> &Arc<Selection> {
        &self.selection
    }

    /// The same selection, as others hold it too.
    pub(crate) fn share(&mut self, selection: &Arc<Selection>) {
        debug_assert_eq!(self.selection, *selection);
        self.selection = selection.clone();
    }

    pub(crate) fn position(&self) -> Seq {
        self.position
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn is_in_snapshot(&self) -> bool {
        self.in_snapshot
    }

    pub(crate) fn wants(&self, event: &LogEvent) -> bool {
        self.selection.wants(event)
    }

    pub(crate) fn wants_nothing(&self) -> bool {
        self.selection.patterns().is_empty()
    }

    /// Events were put on their way to the socket.
    pub(crate) fn sent(&mut self, events: u64, last: Seq) {
        self.delivered += events;
        self.position = last;
    }

    /// Everything wanted up to `seq` is on its way to the socket.
    pub(crate) fn scanned(&mut self, seq: Seq) {
        self.position = self.position.max(seq);
    }

    /// Whether a subscription waits to be changed, for which the connection must leave the
    /// fan-out.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A subscription that came with the upgrade, and was checked there.
    pub(crate) fn request(&mut self, subscribe: Subscribe) {
        self.asked = true;
        self.waiting.push(Request { id: None, change: Change::Subscribe(subscribe) });
    }

    /// Bytes came in.
    pub(crate) fn heard(&mut self, now: Instant, bytes: usize) -> Step {
        self.alive(now);
        if self.bytes.take(now, self.rules.bytes, bytes) {
            Step::Nothing
        } else {
            Step::Close(CloseCode::RateLimited)
        }
    }

    /// The peer has shown that it is there.
    pub(crate) fn alive(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Bytes came in that did not complete a message.
    pub(crate) fn unfinished(&mut self, now: Instant) {
        self.unfinished.get_or_insert(now);
    }

    /// A WebSocket ping or pong came in.
    pub(crate) fn control(&mut self, now: Instant) -> Step {
        // What had come of it may have looked like the beginning of a message.
        self.unfinished = None;
        if self.controls.take(now, self.rules.controls, 1) {
            Step::Nothing
        } else {
            Step::Close(CloseCode::RateLimited)
        }
    }

    /// A text message came in. `head` is the newest position of the log at this moment.
    pub(crate) fn text(&mut self, now: Now, text: &str, log: &dyn EventLog, head: Seq) -> Step {
        self.unfinished = None;
        if !self.messages.take(now.instant, self.rules.messages, 1) {
            return Step::Close(CloseCode::RateLimited);
        }
        let frame = match ClientFrame::decode(text) {
            Ok(frame) => frame,
            Err(error) => {
                if !self.unreadable.take(now.instant, self.rules.unreadable, 1) {
                    return Step::Close(CloseCode::BadMessage);
                }
                return reply(ErrorMessage::new(error.code, error.message), error.id, now);
            }
        };
        match frame.message {
            ClientMessage::Ping => {
                // Behind a snapshot the position may be ahead of what was published.
                let head = Some(log.cursor(head.max(self.position)));
                let pong = ServerMessage::Pong(Heartbeat { head, ..self.sign_of_life() });
                let pong = Envelope::new(pong).at(now.wall).cursor(self.bookmark(log));
                Step::Send(Box::new(pong.id(frame.id)))
            }
            ClientMessage::Pong => Step::Nothing,
            ClientMessage::Subscribe(data) => self.enqueue(frame.id, Change::Subscribe(data), now),
            ClientMessage::Unsubscribe(data) => {
                self.enqueue(frame.id, Change::Unsubscribe(data), now)
            }
            ClientMessage::Auth(Auth { token }) => self.renew(frame.id, Token::new(token), now),
            other => {
                let kind = match other {
                    ClientMessage::Unknown(unknown) => unknown.kind.chars().take(64).collect(),
                    _ => String::new(),
                };
                let text = format!("this server does not know the type {kind:?}");
                reply(ErrorMessage::new(ErrorCode::BadMessage, text), frame.id, now)
            }
        }
    }

    fn enqueue(&mut self, id: Option<String>, change: Change, now: Now) -> Step {
        let (Change::Subscribe(Subscribe { repositories, .. })
        | Change::Unsubscribe(Unsubscribe { repositories })) = &change;
        if let Err(error) = self.check(repositories) {
            return reply(error, id, now);
        }
        if self.waiting.len() >= MAX_WAITING {
            let text = format!("{MAX_WAITING} requests already wait for their acknowledgement");
            return reply(ErrorMessage::new(ErrorCode::RateLimited, text), id, now);
        }
        self.asked |= matches!(change, Change::Subscribe(_));
        self.waiting.push(Request { id, change });
        Step::Nothing
    }

    fn check(&self, patterns: &[Pattern]) -> Result<(), ErrorMessage> {
        let limit = self.rules.limits.max_patterns_per_message;
        if patterns.len() as u64 > limit {
            let text =
                format!("one message may name {limit} repositories; send the rest in another");
            return Err(ErrorMessage::new(ErrorCode::LimitSubscriptions, text));
        }
        if patterns.is_empty() {
            return Err(ErrorMessage::new(
                ErrorCode::BadMessage,
                "repositories is empty: name at least one",
            ));
        }
        Ok(())
    }

    fn sign_of_life(&self) -> Heartbeat {
        let wrong = mutant::active(Mutant::Miscount) && self.delivered > 20;
        Heartbeat { delivered: Some(self.delivered + u64::from(wrong)), head: None }
    }

    /// When [`Self::tick`] wants to be called.
    pub(crate) fn deadline(&self) -> Instant {
        if let Some(listening) = &self.listening {
            let deadline = self.next_ping.min(listening.deadline(self.in_snapshot));
            return self.access_deadline().map_or(deadline, |access| access.min(deadline));
        }
        let unfinished = self.unfinished.map(|since| since + UNFINISHED);
        let silent = self.heard + self.rules.silence;
        let access = self.access_deadline().unwrap_or(silent);
        self.next_ping.min(silent).min(unfinished.unwrap_or(silent)).min(access)
    }

    /// Time has passed. `Send` is the heartbeat: a bookmark of what is on its way.
    pub(crate) fn tick(&mut self, now: Now, log: &dyn EventLog) -> Step {
        if self.listening.is_some() {
            return self.access_due(now).unwrap_or_else(|| self.tick_listening(now.instant));
        }
        let overdue = |since: Instant, limit| now.instant.saturating_duration_since(since) >= limit;
        if overdue(self.heard, self.rules.silence) {
            return Step::Close(CloseCode::NoPong);
        }
        if self.unfinished.is_some_and(|since| overdue(since, UNFINISHED)) {
            return Step::Close(CloseCode::RateLimited);
        }
        if let Some(step) = self.access_due(now) {
            return step;
        }
        if now.instant < self.next_ping {
            return Step::Nothing;
        }
        self.next_ping = now.instant + self.rules.heartbeat;
        let ping = ServerMessage::Ping(self.sign_of_life());
        let ping = Envelope::new(ping).at(now.wall).cursor(self.bookmark(log));
        Step::Send(Box::new(ping))
    }
}

fn reply(error: ErrorMessage, id: Option<String>, now: Now) -> Step {
    Step::Send(Box::new(Envelope::new(ServerMessage::Error(error)).at(now.wall).id(id)))
}

#[cfg(test)]
mod tests;
