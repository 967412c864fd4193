//! One subscriber, driven by its task and by the fan-out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use taskwatch_protocol::CloseCode;
use tokio::time::{Sleep, sleep_until};

use super::reading::Incoming;
use super::serve::Ended;
use super::visitor::Begun;
use super::wire::{Left, Wire};
use crate::access::identify;
use crate::clock::{Now, now};
use crate::hub::{About, ConnectionInfo, Described, Lag, Member, Order, Place, Stop};
use crate::session::{Delivery, End, Fetched, Identification, Next, Session, Step};
use crate::{AuthError, Hub, Principal};

/// A peer whose answers pile up to so much is not read from until it takes them.
/// Events do not, unless one alone is as long: a batch has 128 KiB, and less than 32 may wait before it.
pub(crate) const MAX_UNWRITTEN: usize = 192 << 10;
/// So many bytes taken count as progress of a slow peer.
pub(crate) const PROGRESS: usize = 16 << 10;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// We close it, with a code.
    Ours(Stop),
    /// Everything is said that it was for.
    Done,
    /// The peer closed it, or the stream is gone.
    Theirs,
}

/// What a connection waits for.
enum Event {
    Ordered(Order),
    Message(Result<Incoming, Left>),
    /// Bytes came in that do not make a message yet.
    Bytes,
    Wrote(std::io::Result<usize>),
    /// There is something to put into the buffer, or to write from it.
    Output,
    Fetched(Fetched),
    Identified(Box<Identified>),
    Time,
}

/// A question to the authenticator, with its answer.
type Identified = (Identification, Result<Principal, AuthError>);

/// A peer with its session. Driven by its task, and by the fan-out when that has something for it:
/// whoever comes first takes what waits to the peer.
pub(crate) struct Connection<W> {
    place: Place,
    about: Box<About>,
    wire: W,
    session: Session,
    delivery: Delivery,
    /// What the fan-out has left to the task.
    next: Option<Next>,
    fetching: Option<Pin<Box<dyn Future<Output = Fetched> + Send>>>,
    identifying: Option<Pin<Box<dyn Future<Output = Identified> + Send>>>,
    timer: Pin<Box<Sleep>>,
    write_deadline: Option<Instant>,
    progress: usize,
}

impl<W: Wire + 'static> Connection<W> {
    pub(crate) fn new(begun: Begun, wire: W) -> Self {
        let Begun { place, about, session, delivery } = begun;
        Self {
            timer: Box::pin(sleep_until(session.deadline().into())),
            delivery,
            next: None,
            fetching: None,
            identifying: None,
            place,
            about,
            wire,
            session,
            write_deadline: None,
            progress: 0,
        }
    }

    /// Tells it why it ends, if it does not know.
    pub(super) async fn see_off(mut self, ending: Ending) -> Ended<W> {
        // Nothing is kept for a peer that is being seen off.
        self.delivery.end();
        (self.fetching, self.identifying) = (None, None);
        let stop = match ending {
            Ending::Ours(stop) => {
                self.hub().counters().closed(stop.code);
                self.wire.close(stop).await;
                Some(stop)
            }
            Ending::Done | Ending::Theirs => {
                self.wire.finish().await;
                None
            }
        };
        let Self { place, about, wire, session, .. } = self;
        let code = stop.map(|stop| stop.code.code());
        let (delivered, seconds) = (session.delivered(), about.since.elapsed().as_secs_f32());
        // One program may ask many times a second.
        if session.is_poll() {
            tracing::debug!(code, delivered, seconds, "poll ended");
        } else {
            tracing::info!(code, delivered, seconds, "connection ended");
        }
        Ended { stop, bookmark: session.bookmark(place.hub().log()), wire }
    }
}

impl<W: Wire> Connection<W> {
    pub(super) fn member(&self) -> &Arc<Member> {
        self.delivery.member()
    }

    fn hub(&self) -> &Hub {
        self.place.hub()
    }

    /// What it is like now.
    pub(super) fn describe(&mut self) -> Described {
        if self.wire.is_idle() {
            self.delivery.refresh(&mut self.session);
        }
        let Self { about, session, delivery, .. } = self;
        let position = session.position();
        let info = ConnectionInfo {
            id: about.id,
            principal: session.principal().clone(),
            peer: about.peer,
            client: about.client,
            transport: about.transport,
            user_agent: about.agent.clone(),
            age: now().instant.saturating_duration_since(about.since),
            patterns: session.selection().patterns().to_vec(),
            state: delivery.state(session),
            position: self.place.hub().log().cursor(position),
            behind: 0,
            behind_for: None,
            delivered: session.delivered(),
            queued: delivery.member().queue().waiting(),
        };
        Described { info, position }
    }

    /// What the fan-out has queued, taken to the peer at once, and added to `written`. False if the
    /// task has to go on.
    pub(super) fn deliver(&mut self, now: Now, written: &mut Lag) -> bool {
        if !self.wire.is_idle() || self.next.is_some() {
            // The task is at it, and takes the queue when it is done.
            return true;
        }
        // Who would be woken is the task; it looks by itself if it has to go on.
        let cx = &mut Context::from_waker(Waker::noop());
        while self.delivery.is_level() {
            match self.delivery.fill(&mut self.session, now, &mut self.wire) {
                Next::Wait if self.wire.is_idle() => return true,
                Next::Wait => {}
                next => {
                    self.next = Some(next);
                    return false;
                }
            }
            match self.wire.poll_write(cx) {
                Poll::Ready(Ok(bytes)) => self.wrote(bytes, now.instant),
                Poll::Ready(Err(_)) | Poll::Pending => return false,
            }
            if !self.wire.is_idle() {
                return false;
            }
            self.delivery.written(now.instant, Some(written));
        }
        false
    }

    /// Goes on until there is something to wait for.
    pub(super) fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            while self.wire.is_idle() {
                let Self { delivery, session, wire, .. } = self;
                let next = self.next.take();
                match next.unwrap_or_else(|| delivery.fill(session, now(), wire)) {
                    Next::Wait => break,
                    Next::Again => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Next::Fetch(fetch) => {
                        self.fetching = Some(Box::pin(fetch.run(self.hub().clone(), now())));
                    }
                    Next::End(End::Done) => return Poll::Ready(Ending::Done),
                    Next::End(End::Close(code)) => {
                        return Poll::Ready(Ending::Ours(Stop::new(code)));
                    }
                }
            }
            if self.wire.is_idle() {
                self.write_deadline = None;
            } else if self.write_deadline.is_none() {
                self.write_deadline = Some(now().instant + self.hub().config().write_timeout);
            }
            self.set_timer();
            let event = ready!(self.poll_event(cx));
            if let Err(ending) = self.happened(event) {
                return Poll::Ready(ending);
            }
        }
    }

    fn happened(&mut self, event: Event) -> Result<(), Ending> {
        let received = self.wire.take_received();
        if received > 0 {
            self.take(|session, now| session.heard(now.instant, received))?;
        }
        match event {
            Event::Ordered(Order::Stop(stop)) => Err(Ending::Ours(stop)),
            Event::Ordered(Order::Authenticate) => {
                self.take(|session, now| session.authenticate(now.instant))
            }
            Event::Message(message) => self.received(message),
            Event::Bytes => {
                self.session.unfinished(now().instant);
                Ok(())
            }
            Event::Wrote(Ok(bytes)) => {
                let now = now().instant;
                self.wrote(bytes, now);
                if self.wire.is_idle() {
                    self.delivery.written(now, None);
                }
                Ok(())
            }
            Event::Wrote(Err(_)) => Err(Ending::Theirs),
            // The next turn takes it.
            Event::Output => Ok(()),
            Event::Fetched(fetched) => {
                let Self { delivery, session, wire, .. } = self;
                delivery.fetched(fetched, session, now(), wire).map_err(Ending::Ours)
            }
            Event::Identified(answered) => {
                let (asked, answer) = *answered;
                self.take(|session, now| session.identified(asked, answer, now))
            }
            Event::Time => self.time_passed(),
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let queue = self.delivery.member().queue();
        if let Poll::Ready(order) = queue.poll_order(cx) {
            return Poll::Ready(Event::Ordered(order));
        }
        if let Some(identifying) = &mut self.identifying
            && let Poll::Ready(answered) = identifying.as_mut().poll(cx)
        {
            self.identifying = None;
            return Poll::Ready(Event::Identified(Box::new(answered)));
        }
        let was_idle = self.wire.is_idle();
        if !was_idle {
            if let Poll::Ready(result) = self.wire.poll_write(cx) {
                return Poll::Ready(Event::Wrote(result));
            }
        } else if self.delivery.is_level() && queue.poll_ready(cx).is_ready() {
            return Poll::Ready(Event::Output);
        }
        if let Some(fetching) = &mut self.fetching
            && let Poll::Ready(fetched) = fetching.as_mut().poll(cx)
        {
            self.fetching = None;
            return Poll::Ready(Event::Fetched(fetched));
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

    fn wrote(&mut self, bytes: usize, now: Instant) {
        self.progress += bytes;
        if self.progress >= PROGRESS {
            // Who takes that much is there: the ping it has to answer may be far behind. Less
            // proves nothing, the kernel takes it for a peer that is gone too.
            self.session.alive(now);
        }
        if self.progress >= PROGRESS || self.wire.is_idle() {
            self.progress = 0;
            self.write_deadline = None;
        }
    }

    fn received(&mut self, message: Result<Incoming, Left>) -> Result<(), Ending> {
        match message {
            Ok(Incoming::Text(text)) => {
                self.delivery.refresh(&mut self.session);
                let hub = self.hub().clone();
                self.take(|session, now| session.text(now, &text, hub.log(), hub.head()))
            }
            Ok(Incoming::Ping(_) | Incoming::Pong) => {
                self.take(|session, now| session.control(now.instant))
            }
            Ok(Incoming::Binary(_)) => Err(Ending::Ours(Stop::new(CloseCode::Binary))),
            Ok(Incoming::Close(_)) | Err(Left::Gone) => Err(Ending::Theirs),
            Err(Left::Violated(violation)) => {
                tracing::debug!(%violation, "the peer broke the protocol");
                Err(Ending::Ours(Stop::new(violation.code())))
            }
        }
    }

    fn time_passed(&mut self) -> Result<(), Ending> {
        if self.write_deadline.is_some_and(|deadline| now().instant >= deadline) {
            return Err(Ending::Ours(Stop::new(CloseCode::Slow)));
        }
        self.delivery.refresh(&mut self.session);
        let hub = self.hub().clone();
        self.take(|session, now| session.tick(now, hub.log()))
    }

    /// Does what the session says.
    fn take(&mut self, step: impl FnOnce(&mut Session, Now) -> Step) -> Result<(), Ending> {
        match step(&mut self.session, now()) {
            Step::Nothing => Ok(()),
            Step::Send(frame) => {
                self.wire.put(&frame);
                Ok(())
            }
            Step::Identify(asked) => {
                let hub = self.hub().clone();
                self.identifying = Some(Box::pin(async move {
                    let authenticator = &*hub.config().authenticator;
                    let answer = identify(authenticator, asked.token.as_ref()).await;
                    (*asked, answer)
                }));
                Ok(())
            }
            Step::KeepAlive => {
                self.wire.keep_alive();
                Ok(())
            }
            Step::Close(code) => Err(Ending::Ours(Stop::new(code))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::io;
    use std::sync::Mutex;
    use std::time::Duration;

    use taskwatch_protocol::{EventKind, Pattern, Seq, ServerFrame, Subscribe};
    use tokio::task::{JoinHandle, yield_now};
    use tokio::time::timeout;

    use super::*;
    use crate::hub::SendQueue;
    use crate::session::Outbox;
    use crate::transport::Visitor;
    use crate::transport::serve::{Serve, Served};
    use crate::transport::stream::Stream;
    use crate::transport::websocket::WebSocket;
    use crate::{HubConfig, LogEvent, MemoryLog};

    /// A peer that takes what it is sent, a frame at a time, as long as it is open.
    #[derive(Default)]
    struct Peer {
        out: Vec<Seq>,
        has: Arc<Mutex<Has>>,
        fails_at: Option<Seq>,
    }

    #[derive(Default)]
    struct Has {
        events: Vec<Seq>,
        is_full: bool,
        /// Whoever waits for it to take more.
        waker: Option<Waker>,
        /// How often its task looked whether it said something.
        turns: usize,
    }

    impl Outbox for Peer {
        fn unwritten(&self) -> usize {
            self.out.len()
        }

        fn put_frame(&mut self, _: &[u8]) {}

        fn put_event(&mut self, seq: Seq, _: &[u8]) {
            assert!(self.fails_at != Some(seq), "it fails at {seq}");
            self.out.push(seq);
        }

        fn put(&mut self, _: &ServerFrame) {}
    }

    impl Wire for Peer {
        fn is_idle(&self) -> bool {
            self.out.is_empty()
        }

        fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
            let mut has = self.has.lock().unwrap();
            if has.is_full {
                has.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            has.events.append(&mut self.out);
            Poll::Ready(Ok(1))
        }

        fn poll_message(&mut self, _: &mut Context<'_>) -> Poll<Result<Incoming, Left>> {
            self.has.lock().unwrap().turns += 1;
            Poll::Pending
        }

        fn close(&mut self, _: Stop) -> impl Future<Output = ()> + Send {
            ready(())
        }

        fn finish(&mut self) -> impl Future<Output = bool> + Send {
            ready(true)
        }
    }

    fn hub(config: HubConfig) -> Hub {
        Hub::with_log(Arc::new(MemoryLog::new(1_000, 1 << 20)), config)
    }

    /// A connection that is level.
    async fn connect(hub: &Hub, peer: Peer) -> (Arc<Mutex<Has>>, JoinHandle<Ended<Peer>>) {
        let has = peer.has.clone();
        let visitor = Visitor::known_elsewhere(hub, Principal::anonymous()).unwrap();
        let asked = vec![Subscribe::live(vec![Pattern::All])];
        let connection = Connection::new(visitor.begin(hub, None, asked, now()), peer);
        let task = tokio::spawn(connection.run());
        until(|| has.lock().unwrap().turns > 0).await;
        (has, task)
    }

    async fn until(is_so: impl Fn() -> bool) {
        let turns = async {
            while !is_so() {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), turns).await.expect("it comes");
    }

    /// No heartbeat gives a task a turn that it should have had before.
    fn quiet() -> HubConfig {
        let hour = Duration::from_secs(3600);
        HubConfig { heartbeat: hour, silence: hour, write_timeout: hour, ..HubConfig::default() }
    }

    fn publish(hub: &Hub, seqs: impl IntoIterator<Item = Seq>) {
        for seq in seqs {
            let envelope = r#"{"type":"task.created","data":{"repository":"foo"}}"#;
            hub.publish(LogEvent::new(seq, "foo".parse().unwrap(), EventKind::Created, envelope));
        }
    }

    #[tokio::test]
    async fn who_takes_everything_has_it_without_a_turn_of_its_task() {
        let hub = hub(quiet());
        let (has, _task) = connect(&hub, Peer::default()).await;
        let turns = has.lock().unwrap().turns;
        publish(&hub, 1..=100);
        until(|| has.lock().unwrap().events.len() == 100).await;
        assert_eq!(has.lock().unwrap().events, (1..=100).collect::<Vec<_>>());
        assert_eq!(has.lock().unwrap().turns, turns);
        until(|| hub.stats().lags.count() == 100).await;
    }

    #[tokio::test]
    async fn who_takes_nothing_now_has_the_rest_from_its_task() {
        let hub = hub(quiet());
        let (has, _task) = connect(&hub, Peer::default()).await;
        has.lock().unwrap().is_full = true;
        publish(&hub, 1..=10);
        until(|| has.lock().unwrap().waker.as_ref().is_some_and(|it| !it.will_wake(Waker::noop())))
            .await;
        publish(&hub, 11..=20);
        has.lock().unwrap().is_full = false;
        let waker = has.lock().unwrap().waker.take();
        assert_eq!(hub.stats().lags.count(), 0, "nothing was written");
        waker.unwrap().wake();
        until(|| has.lock().unwrap().events.len() == 20).await;
        assert_eq!(has.lock().unwrap().events, (1..=20).collect::<Vec<_>>());
        until(|| hub.stats().lags.count() == 20).await;
    }

    #[tokio::test]
    async fn a_burst_sends_nobody_to_the_log_who_takes_everything() {
        let hub = hub(HubConfig { queue_events: 8, ..quiet() });
        let (has, _task) = connect(&hub, Peer::default()).await;
        publish(&hub, 1..=100);
        until(|| has.lock().unwrap().events.len() == 100).await;
        assert_eq!(has.lock().unwrap().events, (1..=100).collect::<Vec<_>>());
        assert_eq!(hub.stats().overflows, 0);
    }

    #[tokio::test]
    async fn subscriptions_are_counted_as_long_as_the_connection_is_there() {
        let hub = hub(quiet());
        let (_, one) = connect(&hub, Peer::default()).await;
        let (_, other) = connect(&hub, Peer::default()).await;
        assert_eq!(hub.stats().subscriptions, 2);
        one.abort();
        until(|| hub.stats().subscriptions == 1).await;
        other.abort();
        until(|| hub.stats().subscriptions == 0).await;
    }

    #[tokio::test]
    async fn who_fails_in_the_fan_out_fails_alone() {
        let hub = hub(quiet());
        let (_, fails) = connect(&hub, Peer { fails_at: Some(2), ..Peer::default() }).await;
        let (has, _task) = connect(&hub, Peer::default()).await;
        publish(&hub, 1..=3);
        assert!(fails.await.err().unwrap().is_panic());
        publish(&hub, 4..=4);
        until(|| has.lock().unwrap().events.len() == 4).await;
    }

    #[test]
    fn what_is_kept_for_an_idle_connection_is_small() {
        type Tcp = WebSocket<Stream>;
        // Ten thousand of them are usual. What only few need belongs into a box.
        let parts = [size_of::<Served<Tcp>>(), size_of::<Serve<Tcp>>(), size_of::<SendQueue>()];
        assert!(parts.iter().sum::<usize>() <= 896, "{parts:?}");
    }
}
