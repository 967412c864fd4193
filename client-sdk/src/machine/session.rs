//! One connection, from the upgrade to its end: what is asked, and what the answers mean.

use std::time::{Duration, Instant};

use taskwatch_protocol::{
    ClientFrame, ClientMessage, Cursor, Envelope, ErrorMessage, EventKind, Heartbeat, Mode,
    OnGap as WireOnGap, Pattern, ServerFrame, ServerMessage, Subscribe, Subscribed, TaskEvent,
    Timestamp, Unsubscribe, Welcome,
};
use tracing::trace;

use super::{Action, BACK_OFF, Comeback, Machine, Phase};
use crate::ledger::Mismatch;
use crate::{Event, Gap, OnGap, Update, WatchError};

/// From the upgrade to the acknowledgement of the first subscription.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// For the answer to a `ping` after the computer slept.
const PROBE_LIMIT: Duration = Duration::from_secs(3);
/// What the server is taken to send when its `welcome` does not say; and what is believed.
const HEARTBEAT: Duration = Duration::from_secs(20);
const HEARTBEAT_RANGE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];
/// So many unproven events make the machine ask for a proof, so that it can forget them; not more
/// often than once per interval, since a server limits how often it is asked.
const PROVE_AFTER: usize = 1_024;
const PROVE_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of the present connection.
#[derive(Debug)]
pub(super) struct Session {
    heard: Instant,
    heartbeat: Duration,
    server: String,
    opened: Instant,
    live_since: Option<Instant>,
    last_id: u64,
    /// Requests whose refusal ends the connection.
    asked: Vec<String>,
    catching_up: Option<CatchingUp>,
    probe: Option<(String, Instant)>,
    proof_asked: Option<Instant>,
}

/// A replay runs. It is over when the acknowledgement of `id` comes: the server answers a further
/// subscription only when it has nothing more to catch up with.
#[derive(Debug)]
struct CatchingUp {
    id: String,
    replayed: u64,
    away: Duration,
}

impl Session {
    fn new(now: Instant) -> Self {
        Self {
            heard: now,
            heartbeat: HEARTBEAT,
            server: String::new(),
            opened: now,
            live_since: None,
            last_id: 0,
            asked: Vec::new(),
            catching_up: None,
            probe: None,
            proof_asked: None,
        }
    }

    pub(super) fn live_since(&self) -> Option<Instant> {
        self.live_since
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// What waited unread while the buffer was full says nothing about the peer.
    pub(super) fn reading_again(&mut self, now: Instant) {
        self.heard = now;
        if let Some((_, deadline)) = &mut self.probe {
            *deadline = now + PROBE_LIMIT;
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let silence = self.heard + self.silence_limit();
        let probe = self.probe.as_ref().map(|(_, deadline)| *deadline);
        let answer = self.live_since.is_none().then_some(self.opened + ANSWER_LIMIT);
        [probe, answer].into_iter().flatten().fold(silence, Instant::min)
    }

    fn silence_limit(&self) -> Duration {
        self.heartbeat * 3 / 2 + Duration::from_secs(5)
    }

    /// For people, when the deadline has passed.
    pub(super) fn what_is_late(&self) -> String {
        if self.live_since.is_none() {
            format!("the subscription was not answered within {ANSWER_LIMIT:?}")
        } else if self.probe.is_some() {
            "the connection did not survive a pause".to_owned()
        } else {
            format!("nothing heard for {:?}", self.silence_limit())
        }
    }

    fn id(&mut self) -> String {
        self.last_id += 1;
        self.last_id.to_string()
    }

    pub(super) fn subscribe(
        &mut self,
        repositories: Vec<Pattern>,
        since: Option<Cursor>,
        on_gap: Option<WireOnGap>,
        types: Option<Vec<EventKind>>,
    ) -> ClientFrame {
        let subscribe = Subscribe { since, on_gap, types, ..Subscribe::live(repositories) };
        self.request(ClientMessage::Subscribe(subscribe))
    }

    pub(super) fn unsubscribe(&mut self, repositories: Vec<Pattern>) -> ClientFrame {
        self.request(ClientMessage::Unsubscribe(Unsubscribe { repositories }))
    }

    fn request(&mut self, message: ClientMessage) -> ClientFrame {
        let id = self.id();
        self.asked.push(id.clone());
        Envelope::new(message).id(id)
    }

    /// Whether the reply `id` answers a request; if so, it is answered.
    fn answered(&mut self, id: Option<&str>) -> bool {
        let before = self.asked.len();
        self.asked.retain(|asked| Some(asked.as_str()) != id);
        self.asked.len() < before
    }

    /// Asks for a sign of life.
    pub(super) fn probe(&mut self, now: Instant) -> ClientFrame {
        let id = self.id();
        self.probe = Some((id.clone(), now + PROBE_LIMIT));
        Envelope::new(ClientMessage::Ping).id(id)
    }

    /// Ends the replay if `id` is the sign of it.
    fn level(&mut self, id: Option<&str>) -> Option<Update> {
        let caught_up = self.catching_up.take_if(|replay| Some(replay.id.as_str()) == id)?;
        Some(Update::CaughtUp { replayed: caught_up.replayed, away: caught_up.away })
    }
}

impl Machine {
    pub(super) fn opened(&mut self, now: Instant) {
        if self.wished.is_empty() {
            self.trying_since = None;
            self.hang_up(now, Action::Leave);
            return;
        }
        self.ledger.new_connection();
        let mut session = Box::new(Session::new(now));
        let since = self.ledger.received().cloned();
        let on_gap = match self.on_gap {
            OnGap::Live if since.is_some() => Some(WireOnGap::Live),
            OnGap::Live | OnGap::Error => None,
        };
        let wished = self.wished.iter().cloned().collect();
        let frame = session.subscribe(wished, since, on_gap, self.types.clone());
        self.actions.push_back(Action::Send(frame));
        self.phase = Phase::Open(session);
    }

    pub(super) fn receive(&mut self, now: Instant, text: Box<str>) {
        let Phase::Open(session) = &mut self.phase else { return };
        session.heard(now);
        let frame = match ServerFrame::decode(&text) {
            Ok(frame) => frame,
            // It may have been an event, so it cannot be skipped: never a silent gap (I3).
            Err(error) => {
                return self.lost(now, format!("a frame could not be read: {error}"), BACK_OFF);
            }
        };
        let Envelope { message, timestamp, cursor, id } = frame;
        match message {
            ServerMessage::Task(event) => self.event(now, event, cursor, timestamp, text),
            ServerMessage::Ping(heartbeat) => {
                let pong = Envelope::new(ClientMessage::Pong).id(id);
                self.actions.push_back(Action::Send(pong));
                self.heartbeat(now, heartbeat, cursor);
            }
            ServerMessage::Pong(heartbeat) => {
                session.probe.take_if(|(asked, _)| Some(&*asked) == id.as_ref());
                self.heartbeat(now, heartbeat, cursor);
            }
            ServerMessage::Welcome(welcome) => session.welcome(welcome),
            ServerMessage::Subscribed(data) => self.subscribed(now, id, cursor, data),
            ServerMessage::Unsubscribed(_) => {
                session.answered(id.as_deref());
                self.bookmark(cursor);
            }
            ServerMessage::Error(error) => self.refused(now, id, error),
            other => trace!(?other, "ignored"),
        }
    }

    fn event(
        &mut self,
        now: Instant,
        event: TaskEvent,
        cursor: Option<Cursor>,
        timestamp: Option<Timestamp>,
        envelope: Box<str>,
    ) {
        let Phase::Open(session) = &mut self.phase else { return };
        let Some(cursor) = cursor else {
            return self.lost(now, "an event came without its position".to_owned(), BACK_OFF);
        };
        let is_new = self.ledger.event(&cursor);
        if self.ledger.unverified() >= PROVE_AFTER
            && session.proof_asked.is_none_or(|asked| now - asked >= PROVE_INTERVAL)
        {
            session.proof_asked = Some(now);
            let id = session.id();
            self.actions.push_back(Action::Send(Envelope::new(ClientMessage::Ping).id(id)));
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
            self.ledger.rewind();
            let reason = format!(
                "{written} events were sent and {read} came; going back to where none was missing"
            );
            return self.lost(now, reason, BACK_OFF);
        }
        self.actions.extend(cursor.map(Action::Bookmark));
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
        id: Option<String>,
        cursor: Option<Cursor>,
        data: Subscribed,
    ) {
        let Phase::Open(session) = &mut self.phase else { return };
        session.answered(id.as_deref());
        if session.live_since.is_none() {
            return self.acknowledged(now, cursor, data);
        }
        let caught_up = session.level(id.as_deref());
        self.bookmark(cursor);
        if let Some(caught_up) = caught_up {
            self.tell(caught_up);
        }
        if !data.denied.is_empty() {
            self.tell(Update::Denied(data.denied));
        }
    }

    /// The first acknowledgement of a connection.
    fn acknowledged(&mut self, now: Instant, cursor: Option<Cursor>, data: Subscribed) {
        let since = self.ledger.received().cloned();
        // A position that was given and not honoured is a gap, whatever the server calls it.
        let is_gap = data.mode == Mode::Reset || (since.is_some() && data.mode != Mode::Resumed);
        let reason = data.reason.unwrap_or_else(|| "unknown".into());
        if is_gap && self.on_gap == OnGap::Error {
            return self.stop(Action::Leave, WatchError::Gap { reason });
        }
        if data.accepted.is_empty() && !data.denied.is_empty() {
            return self.stop(Action::Leave, WatchError::Denied { denied: data.denied });
        }
        let Phase::Open(session) = &mut self.phase else { return };
        session.live_since = Some(now);
        self.trying_since = None;
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
        if self.denied != data.denied {
            self.denied.clone_from(&data.denied);
            if !data.denied.is_empty() {
                self.tell(Update::Denied(data.denied));
            }
        }
        let is_level = data.head.is_some() && data.head == cursor;
        self.bookmark(cursor);
        if resumed {
            self.catch_up(is_level, &data.accepted, away);
        }
    }

    fn catch_up(&mut self, is_level: bool, accepted: &[Pattern], away: Duration) {
        let Phase::Open(session) = &mut self.phase else { return };
        // A pattern that is subscribed already: what counts is when the answer comes.
        match accepted.iter().find(|&pattern| self.wished.contains(pattern)) {
            Some(pattern) if !is_level => {
                let again = vec![pattern.clone()];
                let frame = session.subscribe(again, None, None, self.types.clone());
                let id = session.last_id.to_string();
                session.catching_up = Some(CatchingUp { id, replayed: 0, away });
                self.actions.push_back(Action::Send(frame));
            }
            _ => self.tell(Update::CaughtUp { replayed: 0, away }),
        }
    }

    fn refused(&mut self, now: Instant, id: Option<String>, error: ErrorMessage) {
        let Phase::Open(session) = &mut self.phase else { return };
        if !session.answered(id.as_deref()) {
            trace!(?error, "ignored: it concerns nothing that was asked");
            return;
        }
        // A server that will not say when it is level is no reason to leave it.
        if let Some(caught_up) = session.level(id.as_deref()) {
            return self.tell(caught_up);
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

impl Session {
    fn welcome(&mut self, welcome: Welcome) {
        let [least, most] = HEARTBEAT_RANGE;
        self.heartbeat = Duration::from_millis(welcome.heartbeat_ms).clamp(least, most);
        self.server = welcome.server;
    }
}
