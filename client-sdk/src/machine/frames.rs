//! What the frames of a connection mean, from the upgrade to its end.

use std::time::{Duration, Instant};

use taskwatch_protocol::escape::Visible;
use taskwatch_protocol::{
    ClientMessage, Cursor, Envelope, Heartbeat, OnGap as WireOnGap, ServerFrame, ServerMessage,
    Snapshot as Part, Subscribe, TaskEvent, Timestamp, Traceparent,
};
use tracing::{debug, trace};

use super::comeback::BACK_OFF;
use super::freshness::Gauge;
use super::session::Session;
use super::{Action, Beginning, Machine, Phase};
use crate::ledger::Mismatch;
use crate::transport::Route;
use crate::{Event, OnGap, Token, TokenError, Update};

/// So many unproven events make the machine ask for a proof, so that it can forget them; not more
/// often than once per interval, half of what a server takes. At a second there were so many that
/// remembering them was a tenth of the work.
const PROVE_AFTER: usize = 1_024;
const PROVE_INTERVAL: Duration = Duration::from_millis(100);

/// What stands around a message.
struct Around {
    cursor: Option<Cursor>,
    timestamp: Option<Timestamp>,
    traceparent: Option<Traceparent>,
    text: Box<str>,
}

impl Machine {
    /// Asks for everything at once: one frame goes on from the position, and another asks for the
    /// state of what has none.
    pub(super) fn opened(&mut self, now: Instant, route: Route) {
        if self.wished.is_empty() {
            self.trying_since = None;
            self.told = None;
            self.carried = None;
            self.hang_up(now, Action::Leave);
            return;
        }
        self.ledger.new_connection();
        let has_start = self.ledger.received().is_some() || self.beginning.is_some();
        if !has_start && !self.owed.is_empty() {
            // The position was given up for a snapshot that did not finish.
            self.owed.add(&self.wished);
        }
        let (owed, held): (Vec<_>, Vec<_>) =
            self.wished.iter().cloned().partition(|pattern| self.owed.contains(pattern));
        if held.is_empty() {
            self.ledger.start_at(None);
            self.owed.prove();
        }
        let since = self.ledger.received().cloned();
        let mut session = Box::new(Session::new(now, route, since.clone()));
        session.gauge =
            self.freshness.filter(|_| session.talks()).map(|every| Gauge::new(every, now));
        if !held.is_empty() {
            let beginning = self.beginning.filter(|_| since.is_none());
            session.seeks = beginning.is_some();
            let (since_time, tail) = match beginning {
                Some(Beginning::Time(time)) => (Some(time), None),
                Some(Beginning::Tail(events)) => (None, Some(events)),
                None => (None, None),
            };
            let on_gap = match self.on_gap() {
                _ if since.is_none() && since_time.is_none() => None,
                OnGap::Error => None,
                OnGap::Live => Some(WireOnGap::Live),
                OnGap::Snapshot => Some(WireOnGap::Snapshot),
            };
            let types = self.types.clone();
            let first =
                Subscribe { since, since_time, tail, on_gap, types, ..Subscribe::live(held) };
            let frame = session.subscribe(first);
            self.actions.push_back(Action::Send(frame));
        }
        if !owed.is_empty() {
            let frame = session.subscribe(Subscribe { snapshot: true, ..Subscribe::live(owed) });
            self.actions.push_back(Action::Send(frame));
        }
        self.phase = Phase::Open(session);
    }

    /// What the provider has said while the connection goes on.
    pub(super) fn renew(&mut self, now: Instant, token: Result<Token, TokenError>) {
        let Phase::Open(session) = &mut self.phase else { return };
        match token {
            Ok(token) => {
                let auth = session.authenticate(&token);
                self.actions.push_back(Action::Send(auth));
            }
            Err(problem @ TokenError::Temporary(_)) => {
                debug!(reason = %problem, "no new token yet");
                session.renewal.later(now);
            }
            // The connection lives as long as the token it has. The next one ends the stream.
            Err(problem @ TokenError::Final(_)) => {
                debug!(reason = %problem, "no new token");
                session.renewal.give_up();
            }
        }
    }

    pub(super) fn receive(&mut self, now: Instant, text: Box<str>) {
        let Phase::Open(session) = &mut self.phase else { return };
        session.heard(now);
        let frame = match ServerFrame::decode(&text) {
            Ok(frame) => frame,
            // It may have been an event, so it cannot be skipped: never a silent gap (I3).
            Err(error) => {
                return self.incomplete(now, format!("a frame could not be read: {error}"));
            }
        };
        let Envelope { message, timestamp, cursor, id, traceparent } = frame;
        if session.snapshot.is_some() && ends_snapshot(&message, cursor.as_ref()) {
            // Between its frames comes nothing else, so the last of them is missing.
            return self.incomplete(now, "a snapshot came without its end".to_owned());
        }
        match message {
            ServerMessage::Task(event) => {
                self.event(now, event, Around { cursor, timestamp, traceparent, text });
            }
            ServerMessage::Snapshot(part) => {
                self.snapshot(now, part, Around { cursor, timestamp, traceparent, text });
            }
            ServerMessage::Ping(heartbeat) => {
                if session.talks() {
                    let pong = Envelope::new(ClientMessage::Pong).id(id);
                    self.actions.push_back(Action::Send(pong));
                }
                let is_level = !session.talks();
                self.heartbeat(now, heartbeat, cursor, is_level);
            }
            ServerMessage::Pong(heartbeat) => {
                session.ponged(id.as_deref());
                let asked = session.gauge.as_mut();
                let behind = asked.and_then(|gauge| gauge.answered(id.as_deref(), now));
                let is_level = cursor.is_some() && heartbeat.head == cursor;
                self.heartbeat(now, heartbeat, cursor, false);
                if let Some(behind) = behind.filter(|_| is_level) {
                    self.fresh(behind);
                }
            }
            ServerMessage::Welcome(welcome) => {
                let life = welcome.token_expires_in_ms.filter(|_| self.has_tokens);
                session.renewal.expires_in(now, life.map(Duration::from_millis));
                session.welcome(welcome);
            }
            ServerMessage::Authenticated(data) if session.renewal.is_answered_by(id.as_deref()) => {
                let life = data.token_expires_in_ms.map(Duration::from_millis);
                session.renewal.expires_in(now, life);
            }
            ServerMessage::Error(error) if session.renewal.is_answered_by(id.as_deref()) => {
                debug!(reason = %Visible(&error.message), "the server did not take a new token");
                session.renewal.later(now);
            }
            ServerMessage::Subscribed(data) => self.subscribed(now, id.as_deref(), cursor, data),
            ServerMessage::Unsubscribed(_) => {
                session.answered(id.as_deref());
                self.bookmark(cursor);
            }
            ServerMessage::Error(error) => self.refused(now, id.as_deref(), error),
            other => trace!(?other, "ignored"),
        }
    }

    fn event(&mut self, now: Instant, event: TaskEvent, around: Around) {
        let Phase::Open(session) = &mut self.phase else { return };
        if session.live_since.is_none() {
            let reason = "an event came before the subscription was acknowledged".to_owned();
            return self.incomplete(now, reason);
        }
        let Around { cursor: Some(cursor), timestamp, traceparent, text: envelope } = around else {
            return self.incomplete(now, "an event came without its position".to_owned());
        };
        let is_new = self.ledger.event(&cursor);
        if self.ledger.unverified() >= PROVE_AFTER
            && session.talks()
            && session.proof_asked.is_none_or(|asked| now - asked >= PROVE_INTERVAL)
        {
            session.proof_asked = Some(now);
            self.actions.push_back(Action::Send(session.ping()));
        }
        if !is_new {
            return;
        }
        let replay = session.catching_up.as_mut();
        let replayed = replay.map(|replay| replay.replayed += 1).is_some();
        let at = cursor.clone();
        let event = Event { event, cursor: at, timestamp, replayed, traceparent, envelope };
        self.actions.push_back(Action::Yield(Update::Event(event), Some(cursor)));
    }

    /// `is_level`: only who is level is told this.
    fn heartbeat(
        &mut self,
        now: Instant,
        heartbeat: Heartbeat,
        cursor: Option<Cursor>,
        is_level: bool,
    ) {
        if !self.is_live() {
            // Before the acknowledgement the position is the head of the log, not ours.
            return;
        }
        if let Err(Mismatch { written, read }) =
            self.ledger.verify(heartbeat.delivered, cursor.as_ref())
        {
            let reason = format!(
                "{written} events were sent and {read} came; going back to where none was missing"
            );
            return self.incomplete(now, reason);
        }
        if heartbeat.delivered.is_some() {
            self.owed.prove();
        }
        let Some(cursor) = cursor else { return };
        if is_level
            && let Phase::Open(session) = &mut self.phase
            && let Some(caught_up) = session.level_at_bookmark()
        {
            self.tell(caught_up);
        }
        self.actions.push_back(Action::Bookmark(cursor));
    }

    /// Everything that had happened so long ago was yielded.
    fn fresh(&mut self, behind: Duration) {
        if let Phase::Open(session) = &self.phase
            && session.is_settled()
        {
            self.tell(Update::Fresh { behind });
        }
    }

    /// Something is missing of what the server has sent, so more may be: goes back to where nothing
    /// was.
    pub(super) fn incomplete(&mut self, now: Instant, reason: String) {
        if self.owed.may_rewind() {
            let ahead = self.ledger.rewind().clone();
            if !ahead.is_empty() {
                let to = self.ledger.received().cloned();
                self.actions.push_back(Action::Rewound { to, ahead });
            }
        } else {
            self.owed.add(&self.wished);
        }
        self.lost(now, reason, BACK_OFF);
    }

    fn is_live(&self) -> bool {
        matches!(&self.phase, Phase::Open(session) if session.live_since.is_some())
    }

    /// Everything that matches up to `cursor` has come.
    pub(super) fn bookmark(&mut self, cursor: Option<Cursor>) {
        if let Some(cursor) = cursor.filter(|_| self.is_live()) {
            self.ledger.bookmark(cursor.clone());
            self.actions.push_back(Action::Bookmark(cursor));
        }
    }

    fn snapshot(&mut self, now: Instant, part: Part, around: Around) {
        let Phase::Open(session) = &mut self.phase else { return };
        let Some(incoming) = &mut session.snapshot else {
            let reason = "a snapshot came that was not announced".to_owned();
            return self.incomplete(now, reason);
        };
        let (last, repositories) = (part.last, part.repositories.clone());
        if !incoming.push(part, around.text) {
            return self.incomplete(now, "a part of a snapshot is missing".to_owned());
        }
        if !last {
            return;
        }
        let Some(cursor) = around.cursor else {
            return self.incomplete(now, "a snapshot came without its position".to_owned());
        };
        let Some(incoming) = session.snapshot.take() else { return };
        let is_beginning = self.ledger.received().is_none();
        if is_beginning {
            self.ledger.start_at(Some(cursor.clone()));
        } else {
            self.ledger.bookmark(cursor.clone());
        }
        self.owed.settle(&incoming.wanted, is_beginning);
        let snapshot = incoming.finish(repositories, cursor.clone());
        if snapshot.repositories.is_empty() {
            self.actions.push_back(Action::Bookmark(cursor));
        } else {
            self.actions.push_back(Action::Yield(Update::Snapshot(snapshot), Some(cursor)));
        }
    }
}

/// Whether this cannot come before a snapshot has ended.
fn ends_snapshot(message: &ServerMessage, cursor: Option<&Cursor>) -> bool {
    match message {
        ServerMessage::Ping(_) | ServerMessage::Pong(_) => cursor.is_some(),
        ServerMessage::Task(_) | ServerMessage::Subscribed(_) | ServerMessage::Unsubscribed(_) => {
            true
        }
        _ => false,
    }
}
