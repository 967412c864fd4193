//! When to dial, wait, subscribe, resume or stop. Knows no socket and no clock.
//!
//! The contract: [`Machine::handle`] one input, then [`Machine::poll_action`] until `None`, then
//! the next input, at the latest at [`Machine::deadline`].

mod comeback;
mod frames;
mod freshness;
#[cfg(test)]
mod model;
mod renewal;
mod session;
mod snapshot;
mod step;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use taskwatch_protocol::{Denied, EventKind, Pattern, Subscribe};
use tracing::trace;

use self::comeback::BACK_OFF;
use self::session::{CatchingUp, Session};
use self::snapshot::Owed;
pub(crate) use self::step::{Action, Beginning, Generation, Input, LinkInput, Now, Plan, Wish};
use crate::backoff::Delays;
use crate::ledger::Ledger;
use crate::transport::{Routes, Transport};
use crate::{OnGap, Update, WatchError};

/// For everything between the first packet and the connection, on whichever way.
const DIAL_LIMIT: Duration = Duration::from_secs(15);
/// For how long a full buffer keeps the link before giving it back.
const PARK_AFTER: Duration = Duration::from_secs(5);
/// A wall clock ahead of the steady one by more than this means that the machine slept.
const SLEPT: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Phase {
    /// Nothing is wished.
    Idle,
    Waiting {
        until: Instant,
    },
    Dialling {
        until: Instant,
    },
    Open(Box<Session>),
    /// The caller reads too slowly.
    Parked,
    Stopped,
}

#[derive(Debug)]
pub(crate) struct Machine {
    on_gap: OnGap,
    types: Option<Vec<EventKind>>,
    /// Whether what is watched begins with its present state.
    with_state: bool,
    /// Whether a subscription was acknowledged.
    has_begun: bool,
    /// Asked for until then, in the place of a position.
    beginning: Option<Beginning>,
    freshness: Option<Duration>,
    wished: BTreeSet<Pattern>,
    owed: Owed,
    ledger: Ledger,
    routes: Routes,
    delays: Delays,
    max_elapsed: Option<Duration>,
    phase: Phase,
    generation: Generation,
    actions: VecDeque<Action>,
    clocks: Option<Now>,
    /// Attempts since the link was last proven.
    attempts: u32,
    /// Since when a link has been tried for; `None` while there is one or none is wanted.
    trying_since: Option<Instant>,
    /// When the last live link ended; `None` while there is one, and before the first.
    away_since: Option<Instant>,
    /// On which way the caller knows the stream to be connected. It stays so while a connection is made
    /// anew only because nothing can be said on the last one.
    told: Option<Transport>,
    /// What the last connection had still to catch up with, if the caller waits to be told.
    carried: Option<CatchingUp>,
    /// "Come back at once" is obeyed once, then only by a link that has proven itself.
    hurried: bool,
    full_since: Option<Instant>,
    /// The denials that the caller knows of.
    denied: Vec<Denied>,
    /// Whether there is somebody to ask for tokens.
    has_tokens: bool,
    /// The server has refused a token since a subscription was last acknowledged.
    is_refused: bool,
}

impl Machine {
    /// Begins with nothing wished; the first [`Wish::Add`] dials.
    pub(crate) fn new(plan: Plan, delays: Delays, max_elapsed: Option<Duration>) -> Self {
        Self {
            on_gap: plan.on_gap,
            types: plan.types,
            with_state: plan.snapshot,
            has_begun: false,
            beginning: plan.beginning,
            freshness: plan.freshness,
            owed: Owed::default(),
            wished: BTreeSet::new(),
            ledger: Ledger::since(plan.since),
            routes: Routes::new(plan.transport),
            delays,
            max_elapsed,
            phase: Phase::Idle,
            generation: Generation(0),
            actions: VecDeque::new(),
            clocks: None,
            attempts: 0,
            trying_since: None,
            away_since: None,
            told: None,
            carried: None,
            hurried: false,
            full_since: None,
            denied: Vec::new(),
            has_tokens: plan.has_tokens,
            is_refused: false,
        }
    }

    /// Feeds one input. Drain [`Self::poll_action`] before the next.
    pub(crate) fn handle(&mut self, now: Now, input: Input) {
        if self.slept(now) {
            self.wake(now.steady);
        }
        let now = now.steady;
        match input {
            Input::Link(generation, input) if generation == self.generation => {
                self.link(now, input);
            }
            Input::Link(generation, _) => trace!(?generation, "late frame of an older connection"),
            Input::Wish(wish) => self.wish(now, wish),
            Input::Full => self.full_since = self.full_since.or(Some(now)),
            Input::Room => self.room(now),
            Input::Tick => {}
        }
        self.due(now);
    }

    /// What to do next; `None` when everything is said.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Tick`] is due at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Idle | Phase::Parked | Phase::Stopped => None,
            Phase::Waiting { until } | Phase::Dialling { until } => Some(*until),
            // While the link is not read, its silence proves nothing.
            Phase::Open(session) => Some(match self.full_since {
                Some(since) => since + PARK_AFTER,
                None => [self.try_again(session), session.question_due()]
                    .into_iter()
                    .flatten()
                    .fold(session.deadline(), Instant::min),
            }),
        }
    }

    /// When a connection that goes well makes room for an attempt with WebSocket.
    fn try_again(&self, session: &Session) -> Option<Instant> {
        self.routes.try_again().filter(|_| session.is_settled())
    }

    /// Whether the buffer was full, and is not half empty yet.
    pub(crate) fn is_full(&self) -> bool {
        self.full_since.is_some()
    }

    /// Whether the link may be read: not while the buffer is full.
    pub(crate) fn is_reading(&self) -> bool {
        !(self.is_full() && matches!(self.phase, Phase::Open(_)))
    }

    fn due(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.phase {
            Phase::Waiting { .. } => self.dial(now),
            Phase::Dialling { .. } => {
                self.lost(now, format!("no connection within {DIAL_LIMIT:?}"), BACK_OFF);
            }
            Phase::Open(_) if self.full_since.is_some() => self.park(now),
            Phase::Open(session) => {
                if session.renewal.starts(now) {
                    return self.actions.push_back(Action::AskToken(self.generation));
                }
                if let Some(question) = session.question(now) {
                    return self.actions.push_back(Action::Send(question));
                }
                if session.deadline() > now {
                    return self.redial(now);
                }
                if session.is_mute() {
                    self.routes.mute(&session.route);
                }
                let reason = session.what_is_late(now);
                self.lost(now, reason, BACK_OFF);
            }
            Phase::Idle | Phase::Parked | Phase::Stopped => {}
        }
    }

    fn link(&mut self, now: Instant, input: LinkInput) {
        match input {
            LinkInput::Opened(route) => self.opened(now, route),
            LinkInput::Rerouted(route) => {
                if let Phase::Open(session) = &mut self.phase {
                    session.route = route;
                }
            }
            LinkInput::DialFailed(error) => self.dial_failed(now, error),
            LinkInput::Token(token) => self.renew(now, token),
            LinkInput::Text(text) => self.receive(now, text),
            LinkInput::Alive => {
                if let Phase::Open(session) = &mut self.phase {
                    session.heard(now);
                }
            }
            LinkInput::Closed(code, reason) => self.closed(now, code, &reason),
            LinkInput::Lost(reason) => self.lost(now, reason, BACK_OFF),
        }
    }

    fn wish(&mut self, now: Instant, wish: Wish) {
        let changed: Vec<Pattern> = match &wish {
            Wish::Add(patterns) => {
                let new = |pattern: &&Pattern| self.wished.insert((*pattern).clone());
                patterns.iter().filter(new).cloned().collect()
            }
            Wish::Remove(patterns) => {
                patterns.iter().filter(|pattern| self.wished.remove(pattern)).cloned().collect()
            }
        };
        if changed.is_empty() {
            return;
        }
        match wish {
            Wish::Add(_) => self.added(now, changed),
            Wish::Remove(_) => self.removed(now, changed),
        }
    }

    fn added(&mut self, now: Instant, patterns: Vec<Pattern>) {
        // What is wished before the stream has begun goes on from the position it was given, if any.
        let is_open = matches!(self.phase, Phase::Open(_));
        let is_given = self.ledger.received().is_some() || self.beginning.is_some();
        let has_position = !self.has_begun && !is_open && is_given;
        let snapshot = self.with_state && !has_position;
        if snapshot {
            self.owed.add(&patterns);
        }
        match &mut self.phase {
            Phase::Idle => self.dial(now),
            Phase::Open(session) if !session.talks() => self.redial(now),
            Phase::Open(session) => {
                let types = self.types.clone();
                let subscribe = Subscribe { snapshot, types, ..Subscribe::live(patterns) };
                self.actions.push_back(Action::Send(session.subscribe(subscribe)));
            }
            // The next connection's first frames name everything that is wished.
            _ => {}
        }
    }

    fn removed(&mut self, now: Instant, patterns: Vec<Pattern>) {
        self.owed.remove(&patterns);
        self.denied.retain(|denied| !patterns.contains(&denied.repository));
        match &mut self.phase {
            Phase::Open(session) if !session.talks() => self.redial(now),
            Phase::Open(session) => {
                self.actions.push_back(Action::Send(session.unsubscribe(patterns)));
            }
            _ => {}
        }
    }

    /// What to do about a gap. A position given to a stream that begins with the present state is
    /// worth a try.
    fn on_gap(&self) -> OnGap {
        if self.with_state && !self.has_begun { OnGap::Snapshot } else { self.on_gap }
    }

    fn dial(&mut self, now: Instant) {
        if self.wished.is_empty() || self.full_since.is_some() {
            self.trying_since = None;
            self.told = None;
            self.phase = if self.wished.is_empty() { Phase::Idle } else { Phase::Parked };
            return;
        }
        if self.types.is_some() && (self.with_state || self.on_gap == OnGap::Snapshot) {
            // The server would refuse it, perhaps only when it comes to a gap.
            return self.stop(Action::Drop, WatchError::FilteredSnapshot);
        }
        self.generation.0 += 1;
        self.attempts = self.attempts.saturating_add(1);
        self.trying_since = self.trying_since.or(Some(now));
        self.phase = Phase::Dialling { until: now + DIAL_LIMIT };
        if self.told.is_none() {
            self.tell(Update::Connecting { attempt: self.attempts });
        }
        let route = self.routes.next(now);
        self.actions.push_back(Action::Dial(self.generation, route));
    }

    fn park(&mut self, now: Instant) {
        self.hang_up(now, Action::Leave);
        self.told = None;
        self.phase = Phase::Parked;
        self.tell(Update::Parked);
    }

    fn room(&mut self, now: Instant) {
        self.full_since = None;
        match &mut self.phase {
            Phase::Parked => {
                // Being slow is no failure of the link: this attempt does not count.
                self.attempts = self.attempts.saturating_sub(1);
                self.dial(now);
            }
            Phase::Open(session) => session.reading_again(now),
            _ => {}
        }
    }

    /// Whether the computer slept since the last input. Also remembers the clocks.
    fn slept(&mut self, now: Now) -> bool {
        let Some(before) = self.clocks.replace(now) else { return false };
        let steady = now.steady.saturating_duration_since(before.steady);
        let wall = now.wall.duration_since(before.wall).unwrap_or_default();
        wall > steady + SLEPT
    }

    /// After a sleep the link is probably dead, and a wait has probably been long enough.
    fn wake(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Open(session) if !session.talks() => self.redial(now),
            Phase::Open(session) => {
                let probe = session.probe(now);
                self.actions.push_back(Action::Send(probe));
            }
            Phase::Waiting { until } => *until = now,
            _ => {}
        }
    }

    fn stop(&mut self, how: Action, error: WatchError) {
        self.phase = Phase::Stopped;
        self.generation.0 += 1;
        self.actions.push_back(how);
        self.actions.push_back(Action::Stop(error));
    }

    /// News that do not move the position.
    fn tell(&mut self, update: Update) {
        self.actions.push_back(Action::Yield(update, None));
    }
}
