//! What the frames of a connection mean, from the upgrade to its end.

use std::time::{Duration, Instant};

use taskwatch_protocol::{
    ClientMessage, Cursor, Denied, Envelope, ErrorCode, ErrorMessage, Heartbeat, Mode,
    OnGap as WireOnGap, Pattern, ServerFrame, ServerMessage, Snapshot as Part, Subscribe,
    Subscribed, TaskEvent, Timestamp,
};
use tracing::trace;

use super::session::{CatchingUp, Request, Session};
use super::snapshot::Incoming;
use super::{Action, BACK_OFF, Comeback, Machine, Phase};
use crate::ledger::Mismatch;
use crate::{Event, Gap, OnGap, Update, WatchError};

/// So many unproven events make the machine ask for a proof, so that it can forget them; not more
/// often than once per interval, since a server limits how often it is asked.
const PROVE_AFTER: usize = 1_024;
const PROVE_INTERVAL: Duration = Duration::from_secs(1);

/// What stands around a message.
struct Around {
    cursor: Option<Cursor>,
    timestamp: Option<Timestamp>,
    text: Box<str>,
}

impl Machine {
    /// Asks for everything at once: one frame goes on from the position, and another asks for the
    /// state of what has none.
    pub(super) fn opened(&mut self, now: Instant) {
        if self.wished.is_empty() {
            self.trying_since = None;
            self.hang_up(now, Action::Leave);
            return;
        }
        self.ledger.new_connection();
        if self.ledger.received().is_none() && !self.owed.is_empty() {
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
        let mut session = Box::new(Session::new(now, since.clone()));
        if !held.is_empty() {
            let on_gap = match self.on_gap() {
                _ if since.is_none() => None,
                OnGap::Error => None,
                OnGap::Live => Some(WireOnGap::Live),
                OnGap::Snapshot => Some(WireOnGap::Snapshot),
            };
            let types = self.types.clone();
            let frame =
                session.subscribe(Subscribe { since, on_gap, types, ..Subscribe::live(held) });
            self.actions.push_back(Action::Send(frame));
        }
        if !owed.is_empty() {
            let frame = session.subscribe(Subscribe { snapshot: true, ..Subscribe::live(owed) });
            self.actions.push_back(Action::Send(frame));
        }
        self.phase = Phase::Open(session);
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
        let Envelope { message, timestamp, cursor, id } = frame;
        if session.snapshot.is_some() && ends_snapshot(&message, cursor.as_ref()) {
            // Between its frames comes nothing else, so the last of them is missing.
            return self.incomplete(now, "a snapshot came without its end".to_owned());
        }
        match message {
            ServerMessage::Task(event) => {
                self.event(now, event, Around { cursor, timestamp, text });
            }
            ServerMessage::Snapshot(part) => {
                self.snapshot(now, part, Around { cursor, timestamp, text });
            }
            ServerMessage::Ping(heartbeat) => {
                let pong = Envelope::new(ClientMessage::Pong).id(id);
                self.actions.push_back(Action::Send(pong));
                self.heartbeat(now, heartbeat, cursor);
            }
            ServerMessage::Pong(heartbeat) => {
                session.ponged(id.as_deref());
                self.heartbeat(now, heartbeat, cursor);
            }
            ServerMessage::Welcome(welcome) => session.welcome(welcome),
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
        let Around { cursor: Some(cursor), timestamp, text: envelope } = around else {
            return self.incomplete(now, "an event came without its position".to_owned());
        };
        let is_new = self.ledger.event(&cursor);
        if self.ledger.unverified() >= PROVE_AFTER
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
        let event = Event { event, cursor: cursor.clone(), timestamp, replayed, envelope };
        self.actions.push_back(Action::Yield(Update::Event(event), Some(cursor)));
    }

    fn heartbeat(&mut self, now: Instant, heartbeat: Heartbeat, cursor: Option<Cursor>) {
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
        self.actions.extend(cursor.map(Action::Bookmark));
    }

    /// Something is missing of what the server has sent, so more may be: goes back to where nothing
    /// was.
    fn incomplete(&mut self, now: Instant, reason: String) {
        if self.owed.may_rewind() {
            self.ledger.rewind();
        } else {
            self.owed.add(&self.wished);
        }
        self.lost(now, reason, BACK_OFF);
    }

    fn is_live(&self) -> bool {
        matches!(&self.phase, Phase::Open(session) if session.live_since.is_some())
    }

    /// Everything that matches up to `cursor` has come.
    fn bookmark(&mut self, cursor: Option<Cursor>) {
        if let Some(cursor) = cursor.filter(|_| self.is_live()) {
            self.ledger.bookmark(cursor.clone());
            self.actions.push_back(Action::Bookmark(cursor));
        }
    }

    fn subscribed(
        &mut self,
        now: Instant,
        id: Option<&str>,
        cursor: Option<Cursor>,
        data: Subscribed,
    ) {
        let Phase::Open(session) = &mut self.phase else { return };
        if session.live_since.is_none() {
            return match session.first_answered(id) {
                Some(request) => self.acknowledged(now, request, cursor, data),
                None => self.incomplete(now, "an acknowledgement is missing".to_owned()),
            };
        }
        let Some(request) = session.answered(id) else {
            return trace!(?data, "ignored: it answers nothing that was asked");
        };
        let caught_up = session.level(id);
        let has_snapshot = request.snapshot && !data.accepted.is_empty();
        if has_snapshot && !is_announced(&data, cursor.as_ref()) {
            return self.stop(Action::Leave, no_snapshots());
        }
        self.bookmark(cursor);
        if let Some(caught_up) = caught_up {
            self.tell(caught_up);
        }
        self.denied(&request, data.denied);
        if has_snapshot {
            self.expect(&request, &data.accepted);
        }
    }

    /// The first acknowledgement of a connection.
    fn acknowledged(
        &mut self,
        now: Instant,
        request: Request,
        cursor: Option<Cursor>,
        data: Subscribed,
    ) {
        let on_gap = self.on_gap();
        let Phase::Open(session) = &mut self.phase else { return };
        let since = session.since.take();
        // A position that was given and not honoured is a gap, whatever the server calls it.
        let is_gap = data.mode == Mode::Reset || (since.is_some() && data.mode != Mode::Resumed);
        let reason = data.reason.clone().unwrap_or_else(|| "unknown".into());
        if is_gap && on_gap == OnGap::Error {
            return self.stop(Action::Leave, WatchError::Gap { reason });
        }
        if data.accepted.is_empty() && !data.denied.is_empty() && !session.is_asking() {
            return self.stop(Action::Leave, WatchError::Denied { denied: data.denied });
        }
        let has_snapshot = request.snapshot || (is_gap && on_gap == OnGap::Snapshot);
        let is_nothing = data.accepted.is_empty() && data.denied.is_empty();
        if has_snapshot && (is_nothing || !is_announced(&data, cursor.as_ref())) {
            return self.stop(Action::Leave, no_snapshots());
        }
        session.live_since = Some(now);
        self.trying_since = None;
        self.has_begun = true;
        let away = self.away_since.take().map_or(Duration::ZERO, |since| now - since);
        let resumed = since.is_some() && !is_gap;
        let server = session.server.clone();
        self.actions.push_back(Action::Ready);
        self.tell(Update::Connected { resumed, server });
        if !resumed {
            self.ledger.start_at(cursor.clone());
        }
        if is_gap {
            let gap = Gap { reason, since, cursor: cursor.clone() };
            self.actions.push_back(Action::Yield(Update::Gap(gap), cursor.clone()));
        }
        self.denied(&request, data.denied);
        if has_snapshot {
            return self.expect(&request, &data.accepted);
        }
        let is_level = data.head.is_some() && data.head == cursor;
        self.bookmark(cursor);
        if resumed {
            self.catch_up(is_level, &data.accepted, away);
        }
    }

    /// Tells what was denied of a request, unless it was denied before.
    fn denied(&mut self, request: &Request, denied: Vec<Denied>) {
        let (before, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.denied).into_iter().partition(|known| {
                request.repositories.contains(&known.repository) || denied.contains(known)
            });
        self.denied = others;
        self.denied.extend(denied.iter().cloned());
        if !denied.is_empty() && denied != before {
            self.tell(Update::Denied(denied));
        }
    }

    /// A snapshot of what was accepted follows. Until all of it has come, these patterns have no
    /// position.
    fn expect(&mut self, request: &Request, accepted: &[Pattern]) {
        let Phase::Open(session) = &mut self.phase else { return };
        let wanted = |pattern: &&Pattern| accepted.contains(pattern);
        let wanted: Vec<Pattern> = request.repositories.iter().filter(wanted).cloned().collect();
        self.owed.add(&wanted);
        session.snapshot = (!accepted.is_empty()).then(|| Incoming::new(wanted));
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

    fn catch_up(&mut self, is_level: bool, accepted: &[Pattern], away: Duration) {
        let Phase::Open(session) = &mut self.phase else { return };
        // A snapshot that was asked for begins when the connection is level. Otherwise it takes a
        // pattern that is subscribed already: what counts is when the answer comes.
        let again = accepted.iter().find(|&pattern| self.wished.contains(pattern));
        let id = match (session.asked_snapshot(), again) {
            _ if is_level => None,
            (Some(id), _) => Some(id.to_owned()),
            (None, Some(pattern)) => {
                let types = self.types.clone();
                let again = Subscribe { types, ..Subscribe::live(vec![pattern.clone()]) };
                let frame = session.subscribe(again);
                let id = frame.id.clone();
                self.actions.push_back(Action::Send(frame));
                id
            }
            (None, None) => None,
        };
        match id {
            Some(id) => session.catching_up = Some(CatchingUp { id, replayed: 0, away }),
            None => self.tell(Update::CaughtUp { replayed: 0, away }),
        }
    }

    fn refused(&mut self, now: Instant, id: Option<&str>, error: ErrorMessage) {
        let Phase::Open(session) = &mut self.phase else { return };
        let Some(request) = session.answered(id) else {
            return trace!(?error, "ignored: it concerns nothing that was asked");
        };
        let caught_up = session.level(id);
        if let Some(caught_up) = caught_up {
            self.tell(caught_up);
            // A server that will not say when it is level is no reason to leave it.
            if !request.snapshot {
                return;
            }
        }
        let ErrorMessage { message, code, retryable, retry_after_ms } = error;
        if retryable {
            let at_least = Duration::from_millis(retry_after_ms.unwrap_or_default());
            let reason = format!("the server put the subscription off: {message}");
            self.lost(now, reason, Comeback::BackOff { at_least });
        } else {
            self.stop(Action::Leave, WatchError::Refused { code, reason: message });
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

/// Whether a snapshot follows: its position comes with its last frame.
fn is_announced(data: &Subscribed, cursor: Option<&Cursor>) -> bool {
    matches!(data.mode, Mode::Snapshot | Mode::Reset) && cursor.is_none()
}

/// An older server does not know what it was asked for, and does something else.
fn no_snapshots() -> WatchError {
    let reason = "this server does not send snapshots".to_owned();
    WatchError::Refused { code: ErrorCode::Unsupported, reason }
}
