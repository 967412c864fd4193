//! One subscriber's socket, driven by one task.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use taskwatch_protocol::{CloseCode, ServerFrame, ServerMessage};
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, Message};

use super::wire::{ByteStream, Wire, violation};
use crate::clock::{Now, now};
use crate::hub::{Joined, Member, Stop, Taken};
use crate::session::{Session, Step};
use crate::{Hub, Page, ReadError};

/// Bytes put together for one write. A write costs about 3.5 µs and each further message in it
/// 0.1 µs, so this is enough; more would only be memory for a peer that reads slowly.
const CHUNK: usize = 32 << 10;
/// A peer whose answers pile up to so much is not read from until it takes them.
const MAX_UNWRITTEN: usize = 64 << 10;
/// So many bytes taken count as progress of a slow peer.
const PROGRESS: usize = 16 << 10;
/// Pages looked through before other connections get a turn.
const PAGES_PER_TURN: usize = 8;
/// How long a closing peer may take to answer.
const CLOSING: Duration = Duration::from_secs(1);

type Reading = Pin<Box<dyn Future<Output = Result<Arc<Page>, ReadError>> + Send>>;

/// Where the next events come from.
enum Source {
    /// Nothing is known to be missing: the fan-out fills the queue.
    Level,
    /// Outside the fan-out: reads on until it is level again.
    Behind,
    /// A page whose rest is still to be sent.
    Page { page: Arc<Page>, next: usize },
    /// The log is being read.
    Reading(Reading),
}

/// How a connection ended.
#[derive(Debug)]
enum Ending {
    /// We close it, with a code.
    Ours(Stop),
    /// The peer closed it, or the stream is gone.
    Theirs,
}

/// Whether filling the buffer has come to its end.
#[derive(PartialEq, Eq)]
enum Filled {
    Done,
    MoreToRead,
}

/// What a connection waits for.
enum Event {
    Stop(Stop),
    Message(Result<Message, tungstenite::Error>),
    /// Bytes came in that do not make a message yet.
    Bytes,
    Wrote(std::io::Result<usize>),
    /// There is something to put into the buffer, or to write from it.
    Output,
    Page(Result<Arc<Page>, ReadError>),
    Time,
}

pub(super) struct Connection<S> {
    hub: Hub,
    wire: Wire<S>,
    session: Session,
    member: Arc<Member>,
    source: Source,
    timer: Pin<Box<Sleep>>,
    write_deadline: Option<Instant>,
    progress: usize,
    /// A full queue sent it to catching up.
    overflowed: bool,
}

impl<S: ByteStream> Connection<S> {
    /// Serves a peer until it leaves, fails, or is told to go.
    pub(super) async fn run(hub: Hub, wire: Wire<S>, session: Session, member: Member) {
        let started = now().instant;
        let mut connection = Self {
            timer: Box::pin(sleep_until(session.deadline().into())),
            hub,
            wire,
            session,
            member: Arc::new(member),
            source: Source::Behind,
            write_deadline: None,
            progress: 0,
            overflowed: false,
        };
        let ending = connection.serve().await;
        connection.hub.exit(&connection.member);
        let code = match ending {
            Ending::Ours(stop) => {
                connection.hub.counters().closed(stop.code);
                connection.close(stop).await;
                Some(stop.code.code())
            }
            Ending::Theirs => {
                let _ = timeout(CLOSING, connection.flush()).await;
                None
            }
        };
        let (delivered, seconds) =
            (connection.session.delivered(), started.elapsed().as_secs_f32());
        tracing::info!(code, delivered, seconds, "connection ended");
    }

    async fn serve(&mut self) -> Ending {
        loop {
            while self.wire.is_idle() && self.fill() == Filled::MoreToRead {
                tokio::task::yield_now().await;
            }
            if let Err(ending) = self.step().await {
                return ending;
            }
        }
    }

    /// Waits for one thing to happen, and deals with it.
    async fn step(&mut self) -> Result<(), Ending> {
        if self.wire.is_idle() {
            self.write_deadline = None;
        } else if self.write_deadline.is_none() {
            self.write_deadline = Some(now().instant + self.hub.config().write_timeout);
        }
        self.set_timer();
        let event = poll_fn(|cx| self.poll_event(cx)).await;
        let received = self.wire.take_received();
        if received > 0 {
            self.take(|session, now| session.heard(now.instant, received))?;
        }
        match event {
            Event::Stop(stop) => Err(Ending::Ours(stop)),
            Event::Message(message) => self.received(message),
            Event::Bytes => {
                self.session.unfinished(now().instant);
                Ok(())
            }
            Event::Wrote(Ok(bytes)) => {
                self.progress += bytes;
                if self.progress >= PROGRESS {
                    // Who takes that much is there: the ping it has to answer may be far behind.
                    // Less proves nothing, the kernel takes it for a peer that is gone too.
                    self.session.heard(now().instant, 0);
                }
                if self.progress >= PROGRESS || self.wire.is_idle() {
                    self.progress = 0;
                    self.write_deadline = None;
                }
                Ok(())
            }
            Event::Wrote(Err(_)) => Err(Ending::Theirs),
            // The next turn takes it.
            Event::Output => Ok(()),
            Event::Page(page) => self.read(page),
            Event::Time => self.time_passed(),
        }
    }

    fn poll_event(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Event> {
        if let Poll::Ready(stop) = self.member.queue().poll_stop(cx) {
            return Poll::Ready(Event::Stop(stop));
        }
        let was_idle = self.wire.is_idle();
        if !was_idle {
            if let Poll::Ready(result) = self.wire.poll_write(cx) {
                return Poll::Ready(Event::Wrote(result));
            }
        } else if matches!(self.source, Source::Level)
            && self.member.queue().poll_ready(cx).is_ready()
        {
            return Poll::Ready(Event::Output);
        }
        if let Source::Reading(reading) = &mut self.source
            && let Poll::Ready(page) = reading.as_mut().poll(cx)
        {
            return Poll::Ready(Event::Page(page));
        }
        if self.wire.unwritten() < MAX_UNWRITTEN {
            if let Poll::Ready(message) = self.wire.poll_message(cx) {
                return Poll::Ready(Event::Message(message));
            }
            if self.wire.has_received() {
                return Poll::Ready(Event::Bytes);
            }
            // By the way a ping was answered.
            if was_idle && !self.wire.is_idle() {
                return Poll::Ready(Event::Output);
            }
        }
        self.timer.as_mut().poll(cx).map(|()| Event::Time)
    }

    fn set_timer(&mut self) {
        let deadline = self.session.deadline();
        let deadline = self.write_deadline.map_or(deadline, |write| write.min(deadline));
        if self.timer.deadline().into_std() != deadline {
            self.timer.as_mut().reset(deadline.into());
        }
    }

    /// Fills the empty buffer with what comes next, if anything is there, and follows the
    /// sources until one has to be waited for.
    fn fill(&mut self) -> Filled {
        let mut pages = 0;
        while self.wire.unwritten() < CHUNK {
            match &mut self.source {
                Source::Level if self.session.has_waiting() => self.leave(),
                Source::Level => {
                    if !self.take_queue() {
                        break;
                    }
                }
                // Who wants little of a long log gives the others a turn.
                Source::Behind if pages == PAGES_PER_TURN => {
                    return if self.wire.is_idle() { Filled::MoreToRead } else { Filled::Done };
                }
                Source::Behind => {
                    pages += 1;
                    self.read_on();
                }
                Source::Page { page, next } => match page.events.get(*next) {
                    Some(event) => {
                        *next += 1;
                        // A page that others read too may begin before this position.
                        if event.seq() > self.session.position() && self.session.wants(event) {
                            self.wire.put_frame(event.frame());
                            self.session.sent(event.seq());
                            self.hub.counters().replayed.add_one();
                        }
                    }
                    None => {
                        self.session.scanned(page.scanned_to);
                        self.source = Source::Behind;
                    }
                },
                Source::Reading(_) => break,
            }
        }
        Filled::Done
    }

    /// Takes what the fan-out queued; false if there is nothing more to take now.
    fn take_queue(&mut self) -> bool {
        // Read before the queue: what was fanned out by now is in the queue or was taken.
        let fanned = self.hub.fanned();
        match self.member.queue().take(CHUNK) {
            Taken::Frames { frames, empty } => {
                for (seq, frame) in frames {
                    self.wire.put_frame(&frame);
                    self.session.sent(seq);
                }
                if empty {
                    self.session.scanned(fanned);
                }
                false
            }
            Taken::Overflowed { .. } => {
                self.hub.counters().overflows.add_one();
                self.overflowed = true;
                self.leave();
                true
            }
        }
    }

    /// Leaves the fan-out, to go on from the position by reading.
    fn leave(&mut self) {
        self.refresh();
        self.hub.leave(&self.member);
        if let Some(position) = self.member.queue().shut() {
            self.session.scanned(position);
        }
        self.source = Source::Behind;
    }

    /// Moves the position over what was fanned out and is not wanted here.
    fn refresh(&mut self) {
        if matches!(self.source, Source::Level) {
            let fanned = self.hub.fanned();
            if self.member.queue().is_drained() {
                self.session.scanned(fanned);
            }
        }
    }

    /// Answers what waits and joins if level; reads on if not.
    fn read_on(&mut self) {
        let (position, head) = (self.session.position(), self.hub.head());
        if position < head {
            self.source = match self.hub.cached(position, head) {
                Some(page) => Source::Page { page: Arc::new(page), next: 0 },
                None => Source::Reading(Box::pin(self.hub.clone().read_log(position, head))),
            };
        } else if let Some(answer) = self.session.answer(now(), self.hub.log()) {
            if let ServerMessage::Subscribed(subscribed) = &answer.message {
                self.hub.counters().subscribed(subscribed);
            }
            self.send(&answer);
        } else {
            let member = Arc::new(self.member.wanting(self.session.selection().clone()));
            if self.hub.join(&member, position) == Joined::Level {
                self.member = member;
                self.source = Source::Level;
                if std::mem::take(&mut self.overflowed) {
                    self.hub.counters().rejoins.add_one();
                }
            }
        }
    }

    fn read(&mut self, page: Result<Arc<Page>, ReadError>) -> Result<(), Ending> {
        match page {
            Ok(page) => {
                self.source = Source::Page { page, next: 0 };
                Ok(())
            }
            // The reply to its resume will say the reset.
            Err(ReadError::Gone) => Err(Ending::Ours(Stop::new(CloseCode::InsufficientState))),
            Err(error @ ReadError::Unavailable(_)) => {
                tracing::error!(%error, "cannot catch up");
                Err(Ending::Ours(Stop::new(CloseCode::Unavailable)))
            }
        }
    }

    fn received(&mut self, message: Result<Message, tungstenite::Error>) -> Result<(), Ending> {
        match message {
            Ok(Message::Text(text)) => {
                self.refresh();
                let hub = self.hub.clone();
                self.take(|session, now| session.text(now, &text, hub.log()))
            }
            Ok(Message::Ping(_) | Message::Pong(_)) => {
                self.take(|session, now| session.control(now.instant))
            }
            Ok(Message::Binary(_)) => Err(Ending::Ours(Stop::new(CloseCode::Binary))),
            // The next read says that the closing handshake is done.
            Ok(Message::Close(_) | Message::Frame(_)) => Ok(()),
            Err(error) => match violation(&error) {
                Some(code) => {
                    tracing::debug!(%error, "the peer broke the protocol");
                    Err(Ending::Ours(Stop::new(code)))
                }
                None => Err(Ending::Theirs),
            },
        }
    }

    fn time_passed(&mut self) -> Result<(), Ending> {
        if self.write_deadline.is_some_and(|deadline| now().instant >= deadline) {
            return Err(Ending::Ours(Stop::new(CloseCode::Slow)));
        }
        self.refresh();
        let hub = self.hub.clone();
        self.take(|session, now| session.tick(now, hub.log()))
    }

    /// Does what the session says.
    fn take(&mut self, step: impl FnOnce(&mut Session, Now) -> Step) -> Result<(), Ending> {
        match step(&mut self.session, now()) {
            Step::Nothing => Ok(()),
            Step::Send(frame) => {
                self.send(&frame);
                Ok(())
            }
            Step::Close(code) => Err(Ending::Ours(Stop::new(code))),
        }
    }

    fn send(&mut self, frame: &ServerFrame) {
        self.wire.put_text(&frame.encode());
        if matches!(frame.message, ServerMessage::Ping(_)) {
            // A browser shows no protocol pings, and a library answers no JSON ones.
            self.wire.put_ping();
        }
    }

    async fn close(&mut self, stop: Stop) {
        if stop.code == CloseCode::Slow {
            // It takes no bytes: a close frame would wait behind them for ever.
            self.wire.reset_on_drop();
            return;
        }
        self.wire.put_close(stop.code, &stop.reason());
        let farewell = async {
            if self.flush().await.is_ok() {
                let _ = poll_fn(|cx| self.wire.poll_shutdown(cx)).await;
                // Unread bytes at the drop would become a reset that overtakes the close frame.
                poll_fn(|cx| self.wire.poll_drain(cx)).await;
            }
        };
        let answered = timeout(CLOSING, farewell).await.is_ok();
        if !answered && (stop.code == CloseCode::NoPong || !self.wire.is_idle()) {
            // Nobody is there: the kernel need not keep what waits for them.
            self.wire.reset_on_drop();
        }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        while !self.wire.is_idle() {
            poll_fn(|cx| self.wire.poll_write(cx)).await?;
        }
        Ok(())
    }
}
