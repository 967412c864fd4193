//! The hub and its connections without tasks, sockets and clocks, for tests that decide what
//! happens when. Only what `transport/connection.rs` does around the state machines is done here
//! in another way: frames are texts, and whoever drives it says when something is read or written.
#![expect(clippy::expect_used, reason = "a harness fails by panicking")]

mod disk;
#[cfg(test)]
mod model_tests;
mod seeds;
mod truth;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

#[cfg(test)]
use taskwatch_protocol::Subscribe;
use taskwatch_protocol::{CloseCode, CloseReason, Seq, ServerFrame, Timestamp};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

pub use self::disk::{Change, Content, Disk};
pub use self::seeds::{Held, Seeds};
pub use self::truth::{Entry, Filter, Truth};
use crate::clock::Now;
pub use crate::hub::listeners::{Listener, Listeners};
use crate::hub::{FanOut, Order, Stop};
#[cfg(test)]
use crate::session::Terms;
use crate::session::{Delivery, End, Fetch, Fetched, Identification, Next, Outbox, Session, Step};
pub use crate::transport::echo::echo;
use crate::transport::framing;
use crate::transport::{MAX_UNWRITTEN, PROGRESS};
use crate::{EventLog, Hub, HubConfig, HubStats, LogEvent, Principal, Token};

/// So many fan out: each has its own connections, and none waits for another.
const WORKERS: usize = 2;

/// A hub whose fan-out goes on when it is told to.
#[derive(Debug)]
pub struct Server {
    hub: Hub,
    fan_outs: Vec<FanOut>,
    clock: Clock,
    /// For reads of the log, which are shared between connections and so have tasks.
    runtime: Arc<Runtime>,
}

/// The time is what has passed since the beginning.
#[derive(Clone, Copy, Debug)]
struct Clock {
    beginning: Instant,
}

impl Clock {
    fn at(self, now: Duration) -> Now {
        let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        Now { instant: self.beginning + now, wall: Timestamp::from_unix_millis(millis) }
    }
}

impl Server {
    pub fn start(log: Arc<dyn EventLog>, config: HubConfig) -> Self {
        let (hub, fan_outs) = Hub::new(log, config, WORKERS);
        let runtime = Arc::new(Builder::new_current_thread().build().expect("a runtime"));
        Self { hub, fan_outs, clock: Clock { beginning: Instant::now() }, runtime }
    }

    pub fn publish(&self, event: LogEvent) {
        self.hub.publish(event);
    }

    /// Fans out, and rests after so many connections, be it between two that want the same event;
    /// false if there is nothing left.
    pub fn fan_out(&mut self, connections: usize) -> bool {
        // Which of them is first differs from time to time, as it would.
        self.fan_outs.rotate_left(1);
        let Self { hub, fan_outs, .. } = self;
        fan_outs.iter_mut().any(|fan_out| hub.fan_out(fan_out, connections))
    }

    /// Tells every connection to end.
    pub fn stop(&self, draw: impl FnMut(u64) -> u64) {
        self.hub.stop_connections(draw);
    }

    /// The newest event that was published.
    pub fn head(&self) -> Seq {
        self.hub.head()
    }

    /// Everything up to here was given to its subscribers.
    pub fn fanned(&self) -> Seq {
        self.hub.fanned_to_all()
    }

    pub fn stats(&self) -> HubStats {
        self.hub.stats()
    }

    /// What principals may see has changed.
    pub fn access_changed(&self) {
        self.hub.access_changed();
    }

    /// The log is not what it was, and is to be read again.
    pub fn log_rewritten(&self) {
        self.hub.forget();
        self.hub.read_again();
    }

    /// A connection after its upgrade, of nobody in particular.
    pub fn accept(&self, now: Duration, phase: f64) -> Connection {
        self.accept_of(Principal::anonymous(), None, now, phase)
    }

    /// A connection of somebody whom their token has shown to be the principal.
    pub fn accept_of(
        &self,
        principal: Principal,
        token: Option<Token>,
        now: Duration,
        phase: f64,
    ) -> Connection {
        let mut connection = self.enter(principal, token, now, phase);
        let welcome = connection.session.welcome("simulation", Uuid::nil(), self.clock.at(now));
        connection.out.put(&welcome);
        connection
    }

    /// The same of somebody who asks for this and cannot talk back.
    #[cfg(test)]
    fn listen(
        &self,
        (principal, token): (Principal, Option<Token>),
        subscriptions: Vec<Subscribe>,
        terms: Terms,
        now: Duration,
        phase: f64,
    ) -> Connection {
        let mut connection = self.enter(principal, token, now, phase);
        connection.session.listen(terms, self.clock.at(now).instant);
        subscriptions.into_iter().for_each(|asked| connection.session.request(asked));
        connection.happens(now, |_, _| {});
        connection
    }

    fn enter(
        &self,
        principal: Principal,
        token: Option<Token>,
        now: Duration,
        phase: f64,
    ) -> Connection {
        let (member, position) = self.hub.enter(principal, self.hub.access_changes());
        let now = self.clock.at(now);
        let selection = member.selection().clone();
        let session = Session::new(self.hub.rules(), selection, token, position, phase, now);
        Connection {
            delivery: Delivery::new(self.hub.clone(), member, None),
            session,
            hub: self.hub.clone(),
            clock: self.clock,
            runtime: self.runtime.clone(),
            fetching: None,
            identifying: None,
            again: false,
            out: Out::default(),
            write_deadline: None,
            progress: 0,
            ending: None,
            is_over: false,
        }
    }
}

/// What waits to be written: whole messages.
#[derive(Debug, Default)]
struct Out {
    texts: VecDeque<String>,
    bytes: usize,
}

impl Outbox for Out {
    fn unwritten(&self) -> usize {
        self.bytes
    }

    fn put_frame(&mut self, frame: &[u8]) {
        let text = framing::payload(frame).to_vec();
        let text = String::from_utf8(text).expect("a text");
        self.bytes += text.len();
        self.texts.push_back(text);
    }

    fn put(&mut self, frame: &ServerFrame) {
        let text = frame.encode();
        self.bytes += text.len();
        self.texts.push_back(text);
    }
}

type Fetching = Pin<Box<dyn Future<Output = Fetched> + Send>>;

/// One connection of a [`Server`]. Each method is one thing that may happen to it.
pub struct Connection {
    hub: Hub,
    session: Session,
    delivery: Delivery,
    clock: Clock,
    runtime: Arc<Runtime>,
    fetching: Option<Fetching>,
    identifying: Option<Box<Identification>>,
    /// It has given others a turn.
    again: bool,
    out: Out,
    write_deadline: Option<Instant>,
    progress: usize,
    ending: Option<Stop>,
    is_over: bool,
}

impl Connection {
    /// A text came in. Only to be called while it [`reads`](Self::reads).
    pub fn text(&mut self, now: Duration, text: &str) {
        self.happens(now, |it, now| {
            let step = it.session.heard(now.instant, text.len());
            it.obey(step);
            it.delivery.refresh(&mut it.session);
            let step = it.session.text(now, text, it.hub.log(), it.hub.head());
            it.obey(step);
        });
    }

    /// Whether it takes what comes in.
    pub fn reads(&self) -> bool {
        self.out.bytes < MAX_UNWRITTEN
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) {
        self.happens(now, |it, now| {
            if it.write_deadline.is_some_and(|deadline| now.instant >= deadline) {
                return it.ending = Some(Stop::new(CloseCode::Slow));
            }
            it.delivery.refresh(&mut it.session);
            let step = it.session.tick(now, it.hub.log());
            it.obey(step);
        });
    }

    /// When it wants to be told of the time at the latest.
    pub fn deadline(&self) -> Duration {
        let deadline = self.session.deadline();
        let deadline = self.write_deadline.map_or(deadline, |write| write.min(deadline));
        deadline.saturating_duration_since(self.clock.beginning)
    }

    /// It looks whether it was woken: by its queue, by an order to stop, or by itself.
    pub fn turn(&mut self, now: Duration) {
        let cx = &mut Context::from_waker(Waker::noop());
        let queue = self.delivery.member().queue();
        match queue.poll_order(cx) {
            Poll::Ready(Order::Stop(stop)) => self.ending = self.ending.or(Some(stop)),
            Poll::Ready(Order::Authenticate) => self.happens(now, |it, now| {
                let step = it.session.authenticate(now.instant);
                it.obey(step);
            }),
            Poll::Pending => self.identify(now),
        }
        let queue = self.delivery.member().queue();
        let queued = self.delivery.is_level() && queue.poll_ready(cx).is_ready();
        if queued || std::mem::take(&mut self.again) {
            self.happens(now, |_, _| {});
        }
    }

    /// The authenticator answers what it was asked.
    fn identify(&mut self, now: Duration) {
        let Some(asked) = self.identifying.take() else { return };
        let hub = self.hub.clone();
        let question = hub.config().authenticator.authenticate(asked.token.as_ref());
        let answer = self.runtime.block_on(question);
        self.happens(now, |it, now| {
            let step = it.session.identified(*asked, answer, now);
            it.obey(step);
        });
    }

    /// What it waits for comes one step nearer: what is asked for, read, or handed in.
    pub fn fetch(&mut self, now: Duration) {
        let Some(fetching) = &mut self.fetching else { return };
        let polled = self.runtime.block_on(async {
            let polled = std::future::poll_fn(|cx| Poll::Ready(fetching.as_mut().poll(cx))).await;
            tokio::task::yield_now().await;
            polled
        });
        if let Poll::Ready(fetched) = polled {
            self.fetching = None;
            self.happens(now, |it, now| {
                let Self { delivery, session, out, .. } = it;
                if let Err(stop) = delivery.fetched(fetched, session, now, out) {
                    it.ending = Some(stop);
                }
            });
        }
    }

    /// Whether it waits for nothing but its next [`turn`](Self::turn).
    pub fn gives_way(&self) -> bool {
        self.again
    }

    pub fn is_fetching(&self) -> bool {
        self.fetching.is_some()
    }

    /// The peer takes the next message.
    pub fn write(&mut self, now: Duration) -> Option<String> {
        let text = self.out.texts.pop_front()?;
        self.out.bytes -= text.len();
        self.progress += text.len();
        self.happens(now, |it, now| {
            if it.progress >= PROGRESS {
                it.session.alive(now.instant);
            }
            if it.progress >= PROGRESS || it.out.texts.is_empty() {
                it.progress = 0;
                it.write_deadline = None;
            }
        });
        Some(text)
    }

    /// What was not written yet.
    pub fn unwritten(&self) -> &VecDeque<String> {
        &self.out.texts
    }

    /// How it was ended from this side.
    pub fn ending(&self) -> Option<(CloseCode, CloseReason)> {
        self.ending.map(|stop| (stop.code, stop.reason()))
    }

    /// Whether everything was said that it was for.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether it was sent all there is, and nothing waits.
    pub fn is_at_rest(&self) -> bool {
        self.delivery.is_level()
            && self.delivery.member().queue().is_drained()
            && self.out.texts.is_empty()
            && !self.session.has_waiting()
            && self.identifying.is_none()
    }

    /// Something happens; then it puts together what comes next, as its task would.
    fn happens(&mut self, now: Duration, what: impl FnOnce(&mut Self, Now)) {
        let now = self.clock.at(now);
        if self.ending.is_none() && !self.is_over {
            what(self, now);
        }
        while self.ending.is_none() && !self.is_over && self.out.texts.is_empty() && !self.again {
            match self.delivery.fill(&mut self.session, now, &mut self.out) {
                Next::Wait => break,
                Next::Again => self.again = true,
                Next::End(End::Done) => self.is_over = true,
                Next::End(End::Close(code)) => self.ending = Some(Stop::new(code)),
                // A file would be read by a thread, and threads follow no seed.
                Next::Fetch(Fetch::Frame(mut frames)) => {
                    let frame = frames.read().map(|frame| (frames, frame));
                    self.fetching = Some(Box::pin(std::future::ready(Fetched::Frame(frame))));
                }
                Next::Fetch(fetch) => {
                    self.fetching = Some(Box::pin(fetch.run(self.hub.clone(), now)));
                }
            }
        }
        if !self.out.texts.is_empty() && self.write_deadline.is_none() {
            self.write_deadline = Some(now.instant + self.hub.config().write_timeout);
        }
    }

    fn obey(&mut self, step: Step) {
        match step {
            Step::Nothing => {}
            Step::Send(frame) => self.out.put(&frame),
            Step::Identify(asked) => self.identifying = Some(asked),
            Step::KeepAlive => {}
            Step::Close(code) => self.ending = self.ending.or(Some(Stop::new(code))),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}
