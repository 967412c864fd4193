//! What a connection asks for, and how it is answered.

use std::sync::Arc;

use taskwatch_protocol::{
    Cursor, Denied, Envelope, ErrorCode, ErrorMessage, EventKind, MAX_TAIL, Mode, OnGap, Pattern,
    ResetReason, Seq, ServerFrame, ServerMessage, Subscribe, Subscribed, Unsubscribe, Unsubscribed,
};

use super::Session;
use crate::clock::Now;
use crate::hub::Selection;
use crate::log::Start;
use crate::mutant::{self, Mutant};
use crate::{EventLog, SeekError, SnapshotError, Tail};

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
    /// First the position has to be found.
    Seek(Box<SeekRequest>),
    /// First the state has to be read.
    Snapshot(SnapshotRequest),
}

/// A subscription, as far as it may be had.
#[derive(Debug)]
struct Granted {
    id: Option<String>,
    repositories: Vec<Pattern>,
    /// What else was asked for, and may not be seen.
    denied: Vec<Denied>,
    on_gap: Option<OnGap>,
    types: Option<Vec<EventKind>>,
    snapshot: bool,
}

/// A subscription that begins where its time or its last events are.
#[derive(Debug)]
pub(crate) struct SeekRequest {
    pub(crate) start: Start,
    granted: Granted,
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
                Ok(answer) => return Some(self.answer_with(answer, id, now)),
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
        Some(self.answer_with(Answer::Frame(frame), id, now))
    }

    fn answer_with(&mut self, answer: Answer, id: Option<String>, now: Now) -> Answer {
        let Answer::Frame(frame) = answer else { return answer };
        self.answered(&frame.message);
        Answer::Frame(frame.at(now.wall).id(id))
    }

    fn subscribe(
        &mut self,
        request: Subscribe,
        id: Option<String>,
        log: &dyn EventLog,
    ) -> Result<Answer, ErrorMessage> {
        self.may_subscribe(&request)?;
        let Subscribe { repositories, since, since_time, tail, on_gap, snapshot, types } = request;
        let (repositories, denied) = self.granted(repositories);
        if repositories.is_empty() {
            let head = log.cursor(self.position);
            return Ok(Answer::Frame(nothing_subscribed(Mode::Live, None, denied, head)));
        }
        let tail = tail.map(|events| {
            let mut selection = Selection::clone(&self.selection);
            selection.set_kinds(types.clone());
            selection.add(&repositories);
            Start::Tail(Tail::new(selection, events, self.position))
        });
        let granted = Granted { id, repositories, denied, on_gap, types, snapshot };
        if let Some(start) = since_time.map(Start::Time).or(tail) {
            return Ok(Answer::Seek(Box::new(SeekRequest { start, granted })));
        }
        let start = since.map(|cursor| log.validate(&cursor).map(|position| (position, cursor)));
        Ok(self.begin(granted, start, log))
    }

    /// Answers a subscription whose position was looked for. As [`Self::answer`] only while the
    /// connection is level.
    pub(crate) fn sought(
        &mut self,
        SeekRequest { granted, .. }: SeekRequest,
        found: Result<Seq, SeekError>,
        now: Now,
        log: &dyn EventLog,
    ) -> Answer {
        let id = granted.id.clone();
        let start = match found {
            // The log may hold more than was published: that is still to come.
            Ok(position) => {
                let position = position.min(self.position);
                Ok((position, log.cursor(position)))
            }
            Err(SeekError::Gone) => Err(ResetReason::Expired),
            Err(error) => {
                let frame = Envelope::new(ServerMessage::Error(not_found(&error)));
                return self.answer_with(Answer::Frame(frame), id, now);
            }
        };
        let answer = self.begin(granted, Some(start), log);
        self.answer_with(answer, id, now)
    }

    /// Begins a subscription: at a position that was asked for, if it can be honoured.
    fn begin(
        &mut self,
        granted: Granted,
        start: Option<Result<(Seq, Cursor), ResetReason>>,
        log: &dyn EventLog,
    ) -> Answer {
        let Granted { id, repositories, denied, on_gap, types, snapshot } = granted;
        // The connection is level: its position is the head.
        let head = log.cursor(self.position);
        let (mode, reason, cursor) = match start {
            Some(Ok((position, cursor))) => {
                let again = u64::from(mutant::active(Mutant::ResumeInclusive));
                self.position = position.saturating_sub(again);
                (Mode::Resumed, None, cursor)
            }
            None if snapshot => {
                let reason = None;
                return Answer::Snapshot(SnapshotRequest { id, repositories, denied, reason });
            }
            None => (Mode::Live, None, head.clone()),
            Some(Err(reason)) if snapshot || on_gap == Some(OnGap::Snapshot) => {
                let reason = Some(reason);
                return Answer::Snapshot(SnapshotRequest { id, repositories, denied, reason });
            }
            Some(Err(reason)) if on_gap == Some(OnGap::Live) => {
                (Mode::Reset, Some(reason), head.clone())
            }
            Some(Err(reason)) => {
                let reset = nothing_subscribed(Mode::Reset, Some(reason), denied, head);
                return Answer::Frame(reset);
            }
        };
        if !self.subscribed {
            Arc::make_mut(&mut self.selection).set_kinds(types);
        }
        self.add(&repositories);
        let message = Subscribed { accepted: repositories, denied, mode, reason, head: Some(head) };
        Answer::Frame(Envelope::new(ServerMessage::Subscribed(message)).cursor(cursor))
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
        check_start(request).map_err(|text| ErrorMessage::new(ErrorCode::BadMessage, text))?;
        if self.subscribed && request.has_start() {
            let text = "since, since_time and tail belong into a connection's first subscription";
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

/// Whether it is clear where a subscription is to begin; if not, the text for its peer.
pub(crate) fn check_start(request: &Subscribe) -> Result<(), String> {
    let Subscribe { since, since_time, tail, snapshot, .. } = request;
    let starts = [since.is_some(), since_time.is_some(), tail.is_some()];
    if starts.into_iter().filter(|is_given| *is_given).count() > 1 {
        return Err("since, since_time and tail exclude each other".to_owned());
    }
    if tail.is_some_and(|events| !(1..=MAX_TAIL).contains(&events)) {
        return Err(format!("tail is a number of events from 1 to {MAX_TAIL}"));
    }
    if *snapshot && (since_time.is_some() || tail.is_some()) {
        let text = "a snapshot begins with the present: it does not go with since_time or tail";
        return Err(text.to_owned());
    }
    Ok(())
}

/// Why there is no position to begin at. What exactly is wrong with the store is none of the peer's
/// business.
fn not_found(error: &SeekError) -> ErrorMessage {
    match error {
        SeekError::Unsupported => ErrorMessage::new(ErrorCode::Unsupported, error.to_string()),
        SeekError::Gone | SeekError::Unavailable(_) => {
            tracing::warn!(%error, "a subscription cannot begin");
            ErrorMessage::new(ErrorCode::Unavailable, "the log cannot be read now")
        }
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
