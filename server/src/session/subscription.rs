//! What a connection asks for, and how it is answered.

use std::sync::Arc;

use taskwatch_protocol::{
    Cursor, Denied, Envelope, ErrorCode, ErrorMessage, Mode, OnGap, Pattern, ResetReason,
    ServerFrame, ServerMessage, Subscribe, Subscribed, Unsubscribe, Unsubscribed,
};

use super::Session;
use crate::clock::Now;
use crate::hub::Selection;
use crate::mutant::{self, Mutant};
use crate::{EventLog, SnapshotError};

/// What a client asked for and has not been answered, since the connection is not level.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: Option<String>,
    pub(super) change: Change,
}

#[derive(Debug)]
pub(super) enum Change {
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
}

/// What a request is answered with.
#[derive(Debug)]
pub(crate) enum Answer {
    Frame(ServerFrame),
    /// First the state has to be read.
    Snapshot(SnapshotRequest),
}

/// A subscription that begins with the present state.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotRequest {
    pub(crate) id: Option<String>,
    pub(crate) repositories: Vec<Pattern>,
    /// What else was asked for, and may not be seen.
    pub(crate) denied: Vec<Denied>,
    /// Why the position that was given is not honoured.
    pub(crate) reason: Option<ResetReason>,
}

impl Session {
    /// Answers the oldest request that waits. To be called only while the connection is level
    /// and outside the fan-out, so that the answer stands at its place in the stream: what was
    /// sent before it obeyed the old subscription, what follows obeys the new one.
    pub(crate) fn answer(&mut self, now: Now, log: &dyn EventLog) -> Option<Answer> {
        if self.waiting.is_empty() {
            return None;
        }
        let Request { id, change } = self.waiting.remove(0);
        if self.waiting.is_empty() {
            // Most connections ask once.
            self.waiting = Vec::new();
        }
        let frame = match change {
            Change::Subscribe(subscribe) => match self.subscribe(subscribe, id.clone(), log) {
                Ok(Answer::Frame(frame)) => frame,
                Ok(snapshot) => return Some(snapshot),
                Err(error) => Envelope::new(ServerMessage::Error(error)),
            },
            Change::Unsubscribe(Unsubscribe { repositories }) => {
                Arc::make_mut(&mut self.selection).remove(&repositories);
                let here = log.cursor(self.position);
                let head = Some(here.clone());
                let message = Unsubscribed { accepted: repositories, head };
                Envelope::new(ServerMessage::Unsubscribed(message)).cursor(here)
            }
        };
        self.answered(&frame.message);
        Some(Answer::Frame(frame.at(now.wall).id(id)))
    }

    fn subscribe(
        &mut self,
        request: Subscribe,
        id: Option<String>,
        log: &dyn EventLog,
    ) -> Result<Answer, ErrorMessage> {
        self.may_subscribe(&request)?;
        let Subscribe { repositories, since, on_gap, types, snapshot, .. } = request;
        let (repositories, denied) = self.granted(repositories);
        // The connection is level: its position is the head.
        let head = log.cursor(self.position);
        if repositories.is_empty() {
            return Ok(Answer::Frame(nothing_subscribed(Mode::Live, None, denied, head)));
        }
        let start = since.as_ref().map(|cursor| log.validate(cursor));
        let (mode, reason, cursor) = match start {
            Some(Ok(position)) => {
                let again = u64::from(mutant::active(Mutant::ResumeInclusive));
                self.position = position.saturating_sub(again);
                (Mode::Resumed, None, since)
            }
            None if snapshot => {
                let reason = None;
                return Ok(Answer::Snapshot(SnapshotRequest { id, repositories, denied, reason }));
            }
            None => (Mode::Live, None, Some(head.clone())),
            Some(Err(reason)) if snapshot || on_gap == Some(OnGap::Snapshot) => {
                let reason = Some(reason);
                return Ok(Answer::Snapshot(SnapshotRequest { id, repositories, denied, reason }));
            }
            Some(Err(reason)) if on_gap == Some(OnGap::Live) => {
                (Mode::Reset, Some(reason), Some(head.clone()))
            }
            Some(Err(reason)) => {
                let reset = nothing_subscribed(Mode::Reset, Some(reason), denied, head);
                return Ok(Answer::Frame(reset));
            }
        };
        if !self.subscribed {
            Arc::make_mut(&mut self.selection).set_kinds(types);
        }
        self.add(&repositories);
        let message = Subscribed { accepted: repositories, denied, mode, reason, head: Some(head) };
        let frame = Envelope::new(ServerMessage::Subscribed(message)).cursor(cursor);
        Ok(Answer::Frame(frame))
    }

    /// What may be subscribed to, and what not. Of everything, everything that may be seen is meant.
    fn granted(&self, repositories: Vec<Pattern>) -> (Vec<Pattern>, Vec<Denied>) {
        let readable = self.selection.principal().readable();
        let (granted, denied): (Vec<_>, Vec<_>) = repositories.into_iter().partition(|asked| {
            let visible = |granted: &Pattern| granted.intersection(asked).is_some();
            *asked == Pattern::All || readable.iter().any(visible)
        });
        let not_found = |repository| Denied { repository, code: ErrorCode::NotFound };
        (granted, denied.into_iter().map(not_found).collect())
    }

    fn add(&mut self, repositories: &[Pattern]) {
        Arc::make_mut(&mut self.selection).add(repositories);
        self.subscribed = true;
    }

    /// The answer in front of a snapshot of the very position at which the connection is. Until
    /// [`Self::end_snapshot`] no event and no bookmark may follow.
    pub(crate) fn begin_snapshot(
        &mut self,
        request: SnapshotRequest,
        now: Now,
        log: &dyn EventLog,
    ) -> ServerFrame {
        self.in_snapshot = true;
        self.add(&request.repositories);
        let message = Subscribed {
            accepted: request.repositories,
            denied: request.denied,
            mode: if request.reason.is_some() { Mode::Reset } else { Mode::Snapshot },
            reason: request.reason,
            head: Some(log.cursor(self.position)),
        };
        Envelope::new(ServerMessage::Subscribed(message)).at(now.wall).id(request.id)
    }

    /// The last frame of the snapshot is on its way.
    pub(crate) fn end_snapshot(&mut self) {
        self.in_snapshot = false;
        self.owe_bookmark();
    }

    /// The answer if there is no snapshot; nothing is subscribed.
    pub(crate) fn refuse_snapshot(
        &mut self,
        request: SnapshotRequest,
        error: &SnapshotError,
        now: Now,
    ) -> ServerFrame {
        let code = match error {
            SnapshotError::Unsupported => ErrorCode::Unsupported,
            SnapshotError::Unavailable(_) => ErrorCode::Unavailable,
        };
        // What exactly is wrong with the store is none of the peer's business.
        let text = match error {
            SnapshotError::Unsupported => error.to_string(),
            SnapshotError::Unavailable(_) => "the state cannot be read now".to_owned(),
        };
        let error = ServerMessage::Error(ErrorMessage::new(code, text));
        self.answered(&error);
        Envelope::new(error).at(now.wall).id(request.id)
    }

    /// The cursor a heartbeat may carry. None while the first subscription is not accepted yet:
    /// whoever saved the head, and lost the answer to a `since` or the tasks of a snapshot, would
    /// resume behind them.
    pub(crate) fn bookmark(&self, log: &dyn EventLog) -> Option<Cursor> {
        let ahead = u64::from(mutant::active(Mutant::BookmarkAhead));
        let undecided = self.asked && !self.subscribed;
        (!undecided && !self.in_snapshot).then(|| log.cursor(self.position + ahead))
    }

    fn may_subscribe(&self, request: &Subscribe) -> Result<(), ErrorMessage> {
        if request.since_time.is_some() || request.tail.is_some() {
            let text = "this server does not offer since_time or tail";
            return Err(ErrorMessage::new(ErrorCode::Unsupported, text));
        }
        if self.subscribed && request.since.is_some() {
            let text = "since belongs into a connection's first subscription";
            return Err(ErrorMessage::new(ErrorCode::SinceNotFirst, text));
        }
        let kinds = if self.subscribed { self.selection.kinds() } else { request.types.as_deref() };
        let other_types = request.types.as_deref().is_some_and(|types| Some(types) != kinds);
        if other_types {
            let text = "types is set by a connection's first subscription and cannot change";
            return Err(ErrorMessage::new(ErrorCode::BadMessage, text));
        }
        let snapshot = request.snapshot || request.on_gap == Some(OnGap::Snapshot);
        if snapshot && kinds.is_some() {
            let text = "a snapshot is no event: types and a snapshot do not go together";
            return Err(ErrorMessage::new(ErrorCode::BadMessage, text));
        }
        let mut wanted = Selection::clone(&self.selection);
        wanted.add(&request.repositories);
        let limit = self.rules.limits.max_patterns;
        if wanted.patterns().len() as u64 > limit {
            let text = format!("a connection may hold {limit} repositories or patterns");
            return Err(ErrorMessage::new(ErrorCode::LimitSubscriptions, text));
        }
        Ok(())
    }
}

/// Nothing follows: the connection's first subscription is still to come. Without a cursor, since
/// whoever saved it would not be sent what it has not seen.
fn nothing_subscribed(
    mode: Mode,
    reason: Option<ResetReason>,
    denied: Vec<Denied>,
    head: Cursor,
) -> ServerFrame {
    let message = Subscribed { accepted: vec![], denied, mode, reason, head: Some(head) };
    Envelope::new(ServerMessage::Subscribed(message))
}
