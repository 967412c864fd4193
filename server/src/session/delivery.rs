//! Where a connection's next frames come from: the fan-out, the log, or a snapshot. Knows no
//! socket and waits for nothing; who drives it fetches what it asks for.

mod standing;

use std::sync::Arc;
use std::time::Instant;

use taskwatch_protocol::{CloseCode, Mode, Seq, ServerFrame, ServerMessage};

use super::fetch::Turns;
use super::tally::Tally;
use super::{Answer, End, Fetch, Fetched, SeekRequest, Session, SnapshotRequest};
use crate::clock::Now;
use crate::hub::{Frames, Lag, Member, SnapshotOf, Stop, Taken, visible};
use crate::log::SpooledFrames;
use crate::mutant::{self, Mutant};
use crate::{Hub, Page, ReadError, SeekError, SnapshotError, TaskSnapshot};

/// Bytes put together for one write. A write costs about 3.5 µs and each further message in it
/// 0.1 µs, so this is enough; more would only be memory for a peer that reads slowly.
const CHUNK: usize = 32 << 10;
/// Pages looked through before other connections get a turn.
const PAGES_PER_TURN: usize = 8;

/// Where frames are put together for the next write.
pub(crate) trait Outbox {
    /// Bytes that wait to be written.
    fn unwritten(&self) -> usize;
    /// Puts a frame that was made once for everybody behind what waits.
    fn put_frame(&mut self, frame: &[u8]);
    /// Puts an event behind what waits.
    fn put_event(&mut self, _: Seq, frame: &[u8]) {
        self.put_frame(frame);
    }
    /// Puts events that were put together for everybody who wants the same behind what waits.
    fn put_events(&mut self, frames: &Frames) {
        frames.each().for_each(|(seq, frame)| self.put_event(seq, frame));
    }
    /// Puts a message of this connection behind what waits.
    fn put(&mut self, frame: &ServerFrame);
    /// The same with an answer after which nothing comes, nor would if it were asked for again.
    fn put_last(&mut self, frame: &ServerFrame) {
        self.put(frame);
    }
}

/// What is to be done before there is more to send.
#[derive(Debug)]
pub(crate) enum Next {
    /// Wait for what is under way: a write, the queue, or what was asked for.
    Wait,
    /// Give others a turn and come back.
    Again,
    /// Get this, and hand it in with [`Delivery::fetched`].
    Fetch(Fetch),
    /// End.
    End(End),
}

#[derive(Debug)]
enum Source {
    /// Nothing is known to be missing: the fan-out fills the queue.
    Level,
    /// Outside the fan-out: reads on until it is level again.
    Behind,
    /// A page of which the events from `next` on, up to number `upto`, are still to be sent.
    Page { page: Arc<Page>, next: usize, upto: Seq },
    /// A snapshot of which there is more to send; `None` while a frame is fetched.
    Snapshot(Option<Box<SpooledFrames>>),
    /// Something was asked for.
    Fetching,
}

/// One connection's place in the stream of events.
#[derive(Debug)]
pub(crate) struct Delivery {
    hub: Hub,
    member: Arc<Member>,
    turns: Turns,
    source: Source,
    /// What is to be answered now that its position was looked for.
    sought: Option<Box<(SeekRequest, Result<Seq, SeekError>)>>,
    /// What is to be answered with a snapshot.
    asked: Option<Box<SnapshotRequest>>,
    /// To be sent as soon as the connection's position is that of the snapshot.
    snapshot: Option<Box<TaskSnapshot>>,
    /// A full queue has sent it to catching up.
    overflowed: bool,
    /// How often the log had been rewritten when what is at hand was read.
    rewrites: u32,
    tally: Tally,
}

impl Delivery {
    pub(crate) fn new(hub: Hub, member: Member, turns: Turns) -> Self {
        let (member, source) = (Arc::new(member), Source::Behind);
        let (sought, asked, snapshot, rewrites) = (None, None, None, hub.rewrites());
        let (overflowed, tally) = (false, Tally::default());
        Self { hub, member, turns, source, sought, asked, snapshot, overflowed, rewrites, tally }
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    pub(crate) fn is_level(&self) -> bool {
        matches!(self.source, Source::Level)
    }

    /// Leaves the hub; nothing comes any more, and what was kept for the peer is let go.
    pub(crate) fn end(&mut self) {
        self.hub.exit(&self.member);
        self.tally.subscribed(0, self.hub.counters());
        (self.source, self.snapshot) = (Source::Fetching, None);
    }

    /// Puts what comes next into the outbox, and follows the sources until one has to be waited
    /// for or there is enough for one write.
    pub(crate) fn fill(&mut self, session: &mut Session, now: Now, out: &mut impl Outbox) -> Next {
        let next = self.follow(session, now, out);
        if out.unwritten() > 0 {
            session.spoke(now.instant);
        }
        next
    }

    fn follow(&mut self, session: &mut Session, now: Now, out: &mut impl Outbox) -> Next {
        let mut pages = 0;
        while out.unwritten() < CHUNK {
            if self.is_stale() {
                return Next::End(End::Close(CloseCode::AccessChanged));
            }
            if let Some(end) = session.end() {
                // What was said before the end is written first.
                return if out.unwritten() == 0 { Next::End(end) } else { Next::Wait };
            }
            match &mut self.source {
                Source::Level if session.has_waiting() => self.leave(session),
                Source::Level => {
                    if !self.take_queue(session, out) {
                        match session.level(now, self.hub.log()) {
                            Some(bookmark) => out.put(&bookmark),
                            None => break,
                        }
                    }
                }
                // Who wants little of a long log gives the others a turn.
                Source::Behind if pages == PAGES_PER_TURN => return Next::Again,
                Source::Behind => {
                    pages += 1;
                    if let Some(fetch) = self.read_on(session, now, out) {
                        self.source = Source::Fetching;
                        return Next::Fetch(fetch);
                    }
                }
                Source::Page { page, next, upto } => match page.events.get(*next) {
                    Some(event) if event.seq() <= *upto => {
                        *next += 1;
                        // A page that others read too may begin before this position.
                        if event.seq() > session.position()
                            && (session.wants(event) || mutant::active(Mutant::ForgetFilter))
                        {
                            if session.has_room(event.frame().len()) {
                                out.put_event(event.seq(), event.frame());
                                session.sent(1, event.seq());
                                self.hub.counters().sent.add_one();
                                self.hub.counters().replayed.add_one();
                            }
                            if let Some(count) = session.count(now, self.hub.log()) {
                                out.put(&count);
                            }
                        }
                    }
                    _ => {
                        session.scanned(page.scanned_to.min(*upto));
                        self.source = Source::Behind;
                    }
                },
                Source::Snapshot(frames) => {
                    let Some(frames) = frames.take() else { break };
                    return Next::Fetch(Fetch::Frame(frames));
                }
                Source::Fetching => break,
            }
        }
        Next::Wait
    }

    /// Goes on with what was asked for.
    pub(crate) fn fetched(
        &mut self,
        fetched: Fetched,
        session: &mut Session,
        now: Now,
        out: &mut impl Outbox,
    ) -> Result<(), Stop> {
        self.source = Source::Behind;
        let Some(fetched) = self.not_stale(fetched)? else { return Ok(()) };
        match fetched {
            Fetched::Page(Ok(page)) => {
                let upto = self.goal();
                self.source = Source::Page { page, next: 0, upto };
            }
            // The reply to its resume will say the reset.
            Fetched::Page(Err(ReadError::Gone)) => {
                return Err(Stop::new(CloseCode::InsufficientState));
            }
            Fetched::Page(Err(error @ ReadError::Unavailable(_))) => {
                tracing::error!(%error, "cannot catch up");
                return Err(Stop::new(CloseCode::Unavailable));
            }
            Fetched::Sought(request, found) => self.sought = Some(Box::new((*request, found))),
            Fetched::Snapshot(snapshot) => {
                let snapshot = snapshot.and_then(|snapshot| {
                    let late = snapshot.seq() < session.position();
                    let error = || SnapshotError::Unavailable("it is of the past".to_owned());
                    if late { Err(error()) } else { Ok(snapshot) }
                });
                match snapshot {
                    Ok(snapshot) => self.snapshot = Some(Box::new(snapshot)),
                    Err(error) => self.refuse_snapshot(&error, session, now, out),
                }
            }
            Fetched::Frame(Ok((frames, frame))) => {
                out.put_frame(&frame);
                if frames.is_empty() {
                    session.end_snapshot();
                    self.hub.counters().snapshots.add_one();
                } else {
                    self.source = Source::Snapshot(Some(frames));
                }
            }
            Fetched::Frame(Err(error)) => {
                tracing::error!(%error, "a snapshot cannot be read back");
                return Err(Stop::new(CloseCode::Unavailable));
            }
        }
        Ok(())
    }

    /// Takes what the fan-out queued; false if there is nothing more to take now.
    fn take_queue(&mut self, session: &mut Session, out: &mut impl Outbox) -> bool {
        // Read before the queue: what was fanned out by now is in the queue or was taken.
        let fanned = self.hub.fanned(&self.member);
        match self.member.queue().take() {
            Taken::Nothing => {
                session.scanned(fanned);
                false
            }
            Taken::Frames { frames, empty } => {
                self.hub.counters().sent.add(frames.count() as u64);
                if mutant::active(Mutant::SkipEvent) {
                    let kept = frames.each().filter(|(seq, _)| seq % 50 != 0);
                    kept.for_each(|(seq, frame)| {
                        out.put_event(seq, frame);
                        session.sent(1, seq);
                    });
                } else {
                    out.put_events(&frames);
                    session.sent(frames.count() as u64, frames.last());
                }
                self.tally.took(&frames);
                if empty {
                    session.scanned(fanned);
                }
                !empty
            }
            Taken::Overflowed => {
                self.hub.counters().overflows.add_one();
                self.overflowed = true;
                self.leave(session);
                true
            }
        }
    }

    /// Whatever was taken is written, in a pass of the fan-out or not.
    pub(crate) fn written(&mut self, now: Instant, pass: Option<&mut Lag>) {
        self.tally.written(now, pass, self.hub.counters());
    }

    /// Leaves the fan-out, to go on from the position by reading.
    fn leave(&mut self, session: &mut Session) {
        self.refresh(session);
        self.hub.leave(&self.member);
        if let Some(position) = self.member.queue().shut() {
            session.scanned(position);
        }
        self.source = Source::Behind;
    }

    /// How far it reads: exactly to the snapshot that is to be sent, else to the head.
    fn goal(&self) -> Seq {
        self.snapshot.as_ref().map_or_else(|| self.hub.head(), |snapshot| snapshot.seq())
    }

    /// Reads on; once that is done sends what waits to be sent there, and joins if it is level.
    fn read_on(&mut self, session: &mut Session, now: Now, out: &mut impl Outbox) -> Option<Fetch> {
        let (position, upto) = (session.position(), self.goal());
        if position < upto {
            if session.wants_nothing() {
                session.scanned(upto);
                return None;
            }
            let cached = self.hub.cached(position, upto);
            // What a snapshot has seen may not have been published yet: it is in the log.
            let Some(page) = cached.filter(|page| page.scanned_to > position) else {
                return Some(Fetch::Page { after: position, upto, turns: self.turns.clone() });
            };
            self.source = Source::Page { page: Arc::new(page), next: 0, upto };
            return None;
        }
        if let Some(snapshot) = self.snapshot.take()
            && let Some(request) = self.asked.take()
        {
            out.put(&session.begin_snapshot(*request, now, self.hub.log()));
            self.source = Source::Snapshot(Some(Box::new(snapshot.into_frames())));
            return None;
        }
        let answer = match self.sought.take() {
            Some(sought) => {
                let (request, found) = *sought;
                Some(session.sought(request, found, now, self.hub.log()))
            }
            None => session.answer(now, self.hub.log()),
        };
        self.tally.subscribed(session.selection().patterns().len(), self.hub.counters());
        match answer {
            Some(Answer::Frame(answer)) => {
                if let ServerMessage::Subscribed(subscribed) = &answer.message {
                    if subscribed.mode == Mode::Resumed {
                        self.hub.counters().resumes.add_one();
                    }
                    self.hub.counters().reset(subscribed.reason.as_ref());
                }
                say(&answer, session, out);
            }
            Some(Answer::Snapshot(request)) => {
                self.hub.counters().reset(request.reason.as_ref());
                let (repositories, id) = (request.repositories.clone(), request.id.clone());
                let visible = visible(&repositories, session.principal());
                self.asked = Some(Box::new(request));
                let of = Box::new(SnapshotOf { repositories, visible, id });
                return Some(Fetch::Snapshot { of, turns: self.turns.clone() });
            }
            Some(Answer::Seek(request)) => {
                return Some(Fetch::Seek { request, turns: self.turns.clone() });
            }
            None => self.join(session, now, out),
        }
        None
    }

    fn refuse_snapshot(
        &mut self,
        error: &SnapshotError,
        session: &mut Session,
        now: Now,
        out: &mut impl Outbox,
    ) {
        if matches!(error, SnapshotError::Unavailable(_)) {
            tracing::warn!(%error, "no snapshot");
        }
        if let Some(request) = self.asked.take() {
            let answer = session.refuse_snapshot(*request, error, now);
            say(&answer, session, out);
        }
    }

    fn join(&mut self, session: &mut Session, now: Now, out: &mut impl Outbox) {
        let position = session.position() + u64::from(mutant::active(Mutant::JoinLate));
        if let Some(member) = self.hub.join(&self.member, session.selection(), position) {
            session.share(member.selection());
            self.member = member;
            self.source = Source::Level;
            if std::mem::take(&mut self.overflowed) {
                self.hub.counters().rejoins.add_one();
            }
            if let Some(bookmark) = session.level(now, self.hub.log()) {
                out.put(&bookmark);
            }
        }
    }
}

/// Puts an answer where it belongs: at the end, if it is one.
fn say(answer: &ServerFrame, session: &Session, out: &mut impl Outbox) {
    if session.end() == Some(End::Done) { out.put_last(answer) } else { out.put(answer) }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.end();
    }
}
