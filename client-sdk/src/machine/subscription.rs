//! What the answers to subscriptions mean.

use std::time::{Duration, Instant};

use taskwatch_protocol::{
    Cursor, Denied, ErrorCode, ErrorMessage, Mode, Pattern, Subscribe, Subscribed,
};
use tracing::{info, trace};

use super::comeback::Comeback;
use super::session::{CatchingUp, Over, Request};
use super::snapshot::Incoming;
use super::{Action, Machine, Phase};
use crate::transport::{Route, TRY_AGAIN_SPREAD};
use crate::{Gap, OnGap, Update, WatchError};

impl Machine {
    pub(super) fn subscribed(
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
        self.judged(&request, &data.accepted, data.denied);
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
        let seeks = std::mem::take(&mut session.seeks);
        let refuses_gap = data.mode == Mode::Reset && on_gap == OnGap::Error;
        if data.accepted.is_empty() && !data.denied.is_empty() && !refuses_gap {
            return self.all_denied(&request, data.denied);
        }
        if seeks && !matches!(data.mode, Mode::Resumed | Mode::Reset) {
            return self.stop(Action::Leave, no_seeking());
        }
        // A position that was given and not honoured is a gap, whatever the server calls it.
        let is_gap = data.mode == Mode::Reset || (since.is_some() && data.mode != Mode::Resumed);
        let reason = data.reason.clone().unwrap_or_else(|| "unknown".into());
        if is_gap && on_gap == OnGap::Error {
            return self.stop(Action::Leave, WatchError::Gap { reason });
        }
        let has_snapshot = request.snapshot || (is_gap && on_gap == OnGap::Snapshot);
        if has_snapshot && (data.accepted.is_empty() || !is_announced(&data, cursor.as_ref())) {
            return self.stop(Action::Leave, no_snapshots());
        }
        let resumed = (since.is_some() || seeks) && !is_gap;
        let begins = !resumed || seeks;
        // Without it there would be nothing to go back to when something turns out to be missing.
        if begins && !has_snapshot && cursor.is_none() {
            let reason = "the position at which the stream begins is missing".to_owned();
            return self.incomplete(now, reason);
        }
        session.live_since = Some(now);
        self.is_refused = false;
        self.trying_since = None;
        self.has_begun = true;
        self.beginning = None;
        let away = self.away_since.take().map_or(Duration::ZERO, |since| now - since);
        info!(resumed, ?away, "subscribed");
        let (server, route) = (session.server.clone(), session.route.clone());
        self.actions.push_back(Action::Ready);
        self.routes.worked(now, &route, self.delays.up_to(TRY_AGAIN_SPREAD));
        let before = self.told.replace(route.transport);
        // Whether the caller knows of no interruption, and need not.
        let goes_on = before.is_some() && resumed;
        let carried = self.carried.take();
        if !goes_on || before != self.told {
            let Route { transport, reason, .. } = route;
            self.tell(Update::Connected { resumed, server, transport, fallback: reason });
        }
        if begins {
            self.ledger.start_at(cursor.clone());
        }
        if is_gap {
            let gap = Gap { reason, since, cursor: cursor.clone() };
            self.actions.push_back(Action::Yield(Update::Gap(gap), cursor.clone()));
        }
        self.judged(&request, &data.accepted, data.denied);
        if has_snapshot {
            return self.expect(&request, &data.accepted);
        }
        let is_level = data.head.is_some() && data.head == cursor;
        self.bookmark(cursor);
        match carried {
            _ if !resumed => {}
            Some(CatchingUp { replayed, away, .. }) if goes_on => {
                self.catch_up(is_level, &data.accepted, replayed, away);
            }
            _ if goes_on => {}
            _ => self.catch_up(is_level, &data.accepted, 0, away),
        }
    }

    /// The connection has no subscription yet. Only if nothing more was asked for there never will be.
    fn all_denied(&mut self, request: &Request, denied: Vec<Denied>) {
        let Phase::Open(session) = &mut self.phase else { return };
        if session.is_asking() {
            return self.judged(request, &[], denied);
        }
        let is_told = |known: &Denied| denied.iter().any(|it| it.repository == known.repository);
        self.denied.retain(|known| !is_told(known));
        let mut all = std::mem::take(&mut self.denied);
        all.extend(denied);
        self.stop(Action::Leave, WatchError::Denied { denied: all });
    }

    /// Tells what was denied of a request and what no longer is, as far as it is news.
    fn judged(&mut self, request: &Request, accepted: &[Pattern], denied: Vec<Denied>) {
        let (before, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.denied).into_iter().partition(|known| {
                request.repositories.contains(&known.repository) || denied.contains(known)
            });
        self.denied = others;
        self.denied.extend(denied.iter().cloned());
        if self.with_state {
            // When it is accepted again, its state says what has happened meanwhile.
            self.owed.add(denied.iter().map(|denied| &denied.repository));
        }
        let repositories = before.iter().map(|known| known.repository.clone());
        let granted: Vec<Pattern> =
            repositories.filter(|pattern| accepted.contains(pattern)).collect();
        if !granted.is_empty() {
            self.tell(Update::Granted(granted));
        }
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

    fn catch_up(&mut self, is_level: bool, accepted: &[Pattern], replayed: u64, away: Duration) {
        let Phase::Open(session) = &mut self.phase else { return };
        // A snapshot that was asked for begins when the connection is level. Otherwise it takes a
        // pattern that is subscribed already: what counts is when the answer comes.
        let again = accepted.iter().find(|&pattern| self.wished.contains(pattern));
        let over = match (session.asked_snapshot(), again) {
            _ if is_level => None,
            (Some(id), _) => Some(Over::Answer(id.to_owned())),
            (None, _) if !session.talks() => Some(Over::Bookmark),
            (None, Some(pattern)) => {
                let types = self.types.clone();
                let again = Subscribe { types, ..Subscribe::live(vec![pattern.clone()]) };
                let frame = session.subscribe(again);
                let id = frame.id.clone();
                self.actions.push_back(Action::Send(frame));
                id.map(Over::Answer)
            }
            (None, None) => None,
        };
        match over {
            Some(over) => session.catching_up = Some(CatchingUp { over, replayed, away }),
            None => self.tell(Update::CaughtUp { replayed, away }),
        }
    }

    pub(super) fn refused(&mut self, now: Instant, id: Option<&str>, error: ErrorMessage) {
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

/// Whether a snapshot follows: its position comes with its last frame.
fn is_announced(data: &Subscribed, cursor: Option<&Cursor>) -> bool {
    matches!(data.mode, Mode::Snapshot | Mode::Reset) && cursor.is_none()
}

/// An older server that is asked in a query passes over what it does not know.
fn no_seeking() -> WatchError {
    let reason = "this server does not offer since_time or tail".to_owned();
    WatchError::Refused { code: ErrorCode::Unsupported, reason }
}

/// An older server does not know what it was asked for, and does something else.
fn no_snapshots() -> WatchError {
    let reason = "this server does not send snapshots".to_owned();
    WatchError::Refused { code: ErrorCode::Unsupported, reason }
}
