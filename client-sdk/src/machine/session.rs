//! One connection: what was asked on it, what is under way, and when it is late.

use std::time::{Duration, Instant};

use taskwatch_protocol::{
    Auth, ClientFrame, ClientMessage, Cursor, Envelope, Pattern, Subscribe, Unsubscribe, Welcome,
};

use super::freshness::Gauge;
use super::renewal::Renewal;
use super::snapshot::Incoming;
use crate::transport::{Route, Transport};
use crate::{Token, Update};

/// From the upgrade to the acknowledgement of the first subscription.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// For the answer to a `ping` after the computer slept.
const PROBE_LIMIT: Duration = Duration::from_secs(3);
/// What the server is taken to send when its `welcome` does not say; and what is believed.
const HEARTBEAT: Duration = Duration::from_secs(20);
const HEARTBEAT_RANGE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];

/// What is known of the present connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) route: Route,
    heard: Instant,
    /// Anything at all came.
    was_heard: bool,
    heartbeat: Duration,
    pub(super) server: String,
    opened: Instant,
    pub(super) live_since: Option<Instant>,
    last_id: u64,
    /// What was not answered yet, the oldest first.
    asked: Vec<Request>,
    /// The position that the first subscription goes on from,
    pub(super) since: Option<Cursor>,
    /// or whether it asks for another beginning than now.
    pub(super) seeks: bool,
    pub(super) catching_up: Option<CatchingUp>,
    /// Announced by its acknowledgement; its last frame has not come.
    pub(super) snapshot: Option<Incoming>,
    probe: Option<(String, Instant)>,
    pub(super) proof_asked: Option<Instant>,
    /// Where the caller wants to know how fresh the stream is.
    pub(super) gauge: Option<Gauge>,
    pub(super) renewal: Renewal,
}

/// A change of the subscription. Its refusal ends the connection.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) id: String,
    /// What was subscribed, without what was removed meanwhile.
    pub(super) repositories: Vec<Pattern>,
    /// Whether it is answered with the present state.
    pub(super) snapshot: bool,
    /// Whether the server may have to read its state before it answers.
    may_take_long: bool,
    is_subscribe: bool,
}

/// A replay runs.
#[derive(Debug)]
pub(super) struct CatchingUp {
    pub(super) over: Over,
    pub(super) replayed: u64,
    pub(super) away: Duration,
}

/// How the end of a replay is seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// By the acknowledgement with this id: the server answers a further subscription only when it has
    /// nothing more to catch up with.
    Answer(String),
    /// By a `ping` with a position: on a connection without questions only who is level is sent one.
    Bookmark,
}

impl Session {
    pub(super) fn new(now: Instant, route: Route, since: Option<Cursor>) -> Self {
        Self {
            route,
            heard: now,
            was_heard: false,
            heartbeat: HEARTBEAT,
            server: String::new(),
            opened: now,
            live_since: None,
            last_id: 0,
            asked: Vec::new(),
            since,
            seeks: false,
            catching_up: None,
            snapshot: None,
            probe: None,
            proof_asked: None,
            gauge: None,
            renewal: Renewal::default(),
        }
    }

    /// Whether anything can be said after the first subscriptions.
    pub(super) fn talks(&self) -> bool {
        self.route.transport == Transport::WebSocket
    }

    /// Whether nothing is under way.
    pub(super) fn is_settled(&self) -> bool {
        let is_busy = self.catching_up.is_some() || self.snapshot.is_some();
        self.live_since.is_some() && self.asked.is_empty() && !is_busy
    }

    /// Whether something that was missed, or the present state of something, is on its way.
    pub(super) fn is_behind(&self) -> bool {
        let is_coming = self.snapshot.is_some() || self.asked_snapshot().is_some();
        self.catching_up.is_some() || is_coming
    }

    /// Whether its silence may be that of something which lets no frames through: a stream of events
    /// can be held back at any time, a WebSocket that let one frame pass lets others pass too.
    pub(super) fn is_mute(&self) -> bool {
        !self.talks() || !self.was_heard
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.was_heard = true;
        // Behind a snapshot an answer comes late; its frames show that the peer lives.
        if self.snapshot.is_some() {
            self.probe_again(now);
        }
    }

    /// What waited unread while the buffer was full says nothing about the peer.
    pub(super) fn reading_again(&mut self, now: Instant) {
        self.heard = now;
        self.probe_again(now);
    }

    fn probe_again(&mut self, now: Instant) {
        if let Some((_, deadline)) = &mut self.probe {
            *deadline = now + PROBE_LIMIT;
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let silence = self.heard + self.silence_limit();
        let probe = self.probe.as_ref().map(|(_, deadline)| *deadline);
        let others = [probe, self.answer_deadline(), self.renewal.deadline()];
        others.into_iter().flatten().fold(silence, Instant::min)
    }

    /// For the first acknowledgement. A server that reads its state for it may take its time, as
    /// long as it is heard.
    fn answer_deadline(&self) -> Option<Instant> {
        let first = self.asked.first().filter(|_| self.live_since.is_none())?;
        (!first.may_take_long).then_some(self.opened + ANSWER_LIMIT)
    }

    fn silence_limit(&self) -> Duration {
        self.heartbeat * 3 / 2 + Duration::from_secs(5)
    }

    /// For people, when the deadline has passed at `now`.
    pub(super) fn what_is_late(&self, now: Instant) -> String {
        if self.answer_deadline().is_some_and(|deadline| deadline <= now) {
            format!("the subscription was not answered within {ANSWER_LIMIT:?}")
        } else if self.probe.as_ref().is_some_and(|(_, deadline)| *deadline <= now) {
            "the connection did not survive a pause".to_owned()
        } else {
            format!("nothing heard for {:?}", self.silence_limit())
        }
    }

    pub(super) fn welcome(&mut self, welcome: Welcome) {
        let [least, most] = HEARTBEAT_RANGE;
        self.heartbeat = Duration::from_millis(welcome.heartbeat_ms).clamp(least, most);
        self.server = welcome.server;
    }

    /// Sends a new token. The old one holds until the answer.
    pub(super) fn authenticate(&mut self, token: &Token) -> ClientFrame {
        let id = self.id();
        self.renewal.sent(id.clone());
        Envelope::new(ClientMessage::Auth(Auth { token: token.text().to_owned() })).id(id)
    }

    fn id(&mut self) -> String {
        self.last_id += 1;
        self.last_id.to_string()
    }

    pub(super) fn subscribe(&mut self, subscribe: Subscribe) -> ClientFrame {
        let is_sought = subscribe.tail.is_some() || subscribe.since_time.is_some();
        let may_reset = subscribe.on_gap == Some(taskwatch_protocol::OnGap::Snapshot);
        let request = Request {
            id: self.id(),
            repositories: subscribe.repositories.clone(),
            snapshot: subscribe.snapshot,
            may_take_long: subscribe.snapshot || may_reset || is_sought,
            is_subscribe: true,
        };
        self.request(request, ClientMessage::Subscribe(subscribe))
    }

    pub(super) fn unsubscribe(&mut self, repositories: Vec<Pattern>) -> ClientFrame {
        let gone = |pattern: &Pattern| repositories.contains(pattern);
        for request in &mut self.asked {
            request.repositories.retain(|pattern| !gone(pattern));
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.wanted.retain(|pattern| !gone(pattern));
        }
        let request = Request { id: self.id(), ..Request::default() };
        self.request(request, ClientMessage::Unsubscribe(Unsubscribe { repositories }))
    }

    fn request(&mut self, request: Request, message: ClientMessage) -> ClientFrame {
        let frame = Envelope::new(message).id(request.id.clone());
        self.asked.push(request);
        frame
    }

    /// The request that the reply `id` answers.
    pub(super) fn answered(&mut self, id: Option<&str>) -> Option<Request> {
        let place = self.asked.iter().position(|request| Some(&*request.id) == id)?;
        Some(self.asked.remove(place))
    }

    /// The first request, if the first acknowledgement answers it: one that was lost on the way
    /// must not be taken for its successor.
    pub(super) fn first_answered(&mut self, id: Option<&str>) -> Option<Request> {
        let is_first = self.asked.first().is_some_and(|first| id.is_none_or(|id| *id == first.id));
        is_first.then(|| self.asked.remove(0))
    }

    /// Whether another subscription waits for its answer.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.iter().any(|request| request.is_subscribe)
    }

    /// A subscription that will be answered when the connection is level.
    pub(super) fn asked_snapshot(&self) -> Option<&str> {
        self.asked.iter().find(|request| request.snapshot).map(|request| &*request.id)
    }

    /// Asks for a sign of life.
    pub(super) fn probe(&mut self, now: Instant) -> ClientFrame {
        let ping = self.ping();
        self.probe = ping.id.clone().map(|id| (id, now + PROBE_LIMIT));
        ping
    }

    pub(super) fn ping(&mut self) -> ClientFrame {
        let id = self.id();
        Envelope::new(ClientMessage::Ping).id(id)
    }

    /// When to ask how fresh the stream is.
    pub(super) fn question_due(&self) -> Option<Instant> {
        self.gauge.as_ref().filter(|_| self.is_settled()).and_then(Gauge::deadline)
    }

    /// Asks it, if it is time.
    pub(super) fn question(&mut self, now: Instant) -> Option<ClientFrame> {
        self.question_due().filter(|due| *due <= now)?;
        let ping = self.ping();
        if let (Some(gauge), Some(id)) = (&mut self.gauge, &ping.id) {
            gauge.ask(id.clone(), now);
        }
        Some(ping)
    }

    /// Ends the probe if `id` is the answer to it.
    pub(super) fn ponged(&mut self, id: Option<&str>) {
        self.probe.take_if(|(asked, _)| Some(&**asked) == id);
    }

    /// Ends the replay if `id` is the sign of it.
    pub(super) fn level(&mut self, id: Option<&str>) -> Option<Update> {
        let over = Over::Answer(id?.to_owned());
        self.caught_up(&over)
    }

    /// Ends the replay if a position is the sign of it.
    pub(super) fn level_at_bookmark(&mut self) -> Option<Update> {
        self.caught_up(&Over::Bookmark)
    }

    fn caught_up(&mut self, over: &Over) -> Option<Update> {
        let CatchingUp { replayed, away, .. } =
            self.catching_up.take_if(|replay| replay.over == *over)?;
        Some(Update::CaughtUp { replayed, away })
    }
}
