//! Carries out what the hub decides, over pipes in memory. The only file here that waits or reads the
//! clock.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async};

use super::TestHub;
use super::hub::{End, Hub, Step};
use crate::link::Io;
use crate::machine::Now;

/// Bytes that wait in a pipe for its reader.
const PIPE: usize = 64 * 1024;
/// For the client's part in a goodbye.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// What is waited for comes before this, on tokio's clock, or it never comes.
const WAIT_LIMIT: Duration = Duration::from_secs(3600);
/// On a paused clock nothing is left to do when it has passed.
const MOMENT: Duration = Duration::from_millis(1);

/// A hub, and who waits for it.
pub(super) struct Shared {
    hub: Mutex<Hub>,
    beginning: Instant,
    /// For how long the clients' computer has slept.
    slept: Mutex<Duration>,
    /// Something was done to the hub.
    orders: Notify,
    /// A connection has come further.
    progress: Notify,
}

impl Shared {
    pub(super) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "times are counted from here")]
        let beginning = Instant::now();
        Self {
            hub: Mutex::new(Hub::new()),
            beginning,
            slept: Mutex::default(),
            orders: Notify::new(),
            progress: Notify::new(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        #[expect(clippy::disallowed_methods, reason = "the hub's clock is tokio's")]
        let now = Instant::now();
        now.saturating_duration_since(self.beginning)
    }

    pub(super) fn hub(&self) -> MutexGuard<'_, Hub> {
        // A test that panicked has failed already.
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the hub, and wakes everybody whom it may concern.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Hub) -> T) -> T {
        let changed = change(&mut self.hub());
        self.orders.notify_waiters();
        self.progress.notify_waiters();
        changed
    }

    pub(super) fn sleep_computer(&self, time: Duration) {
        *self.slept.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    /// Waits until the hub is so.
    async fn until(&self, is_so: impl Fn(&Hub) -> bool) {
        loop {
            let mut progress = pin!(self.progress.notified());
            progress.as_mut().enable();
            if is_so(&self.hub()) {
                return;
            }
            progress.await;
        }
    }

    /// Waits until the hub is so, for as long as it makes sense.
    #[expect(clippy::panic, reason = "a test that waits in vain has failed")]
    pub(super) async fn expect(&self, what: &str, is_so: impl Fn(&Hub) -> bool) {
        if timeout(WAIT_LIMIT, self.until(is_so)).await.is_err() {
            let hub = self.hub();
            let (all, subscribed) = (hub.count(), hub.count_subscribed());
            panic!(
                "waited in vain for {what}: of {all} connections {subscribed} have a subscription"
            );
        }
    }

    /// Waits until so many connections were sent everything and their clients, on a paused clock, have
    /// done with it what they do.
    pub(super) async fn settle(&self, connections: usize) {
        let is_level = |hub: &Hub| hub.count_level().is_some_and(|count| count >= connections);
        loop {
            self.expect("connections that were sent everything", is_level).await;
            sleep(MOMENT).await;
            if is_level(&self.hub()) {
                return;
            }
        }
    }

    async fn end_of(&self, number: u64) {
        loop {
            let mut orders = pin!(self.orders.notified());
            orders.as_mut().enable();
            if self.hub().end_of(number).is_some() {
                return;
            }
            orders.await;
        }
    }

    fn step(&self, number: u64) -> Step {
        let step = self.hub().step(self.now(), number);
        if let Step::Wait(_) = step {
            self.progress.notify_waiters();
        }
        step
    }

    /// Serves one connection until it ends. Nothing is owed to it then.
    async fn serve(&self, number: u64, io: DuplexStream) {
        let Ok(mut socket) = accept_async(io).await else { return };
        loop {
            let mut orders = pin!(self.orders.notified());
            orders.as_mut().enable();
            match self.step(number) {
                Step::Send(text) => {
                    let sent = tokio::select! {
                        biased;
                        () = self.end_of(number) => Ok(()),
                        sent = futures_util::SinkExt::send(&mut socket, Message::text(text)) => sent,
                    };
                    if sent.is_err() {
                        return;
                    }
                }
                Step::End(End::Break) => return,
                Step::End(End::Close(code, reason)) => {
                    let reason = reason.to_string().into();
                    let frame = CloseFrame { code: code.code().into(), reason };
                    // Whether the client takes part is its own business.
                    let _ = timeout(FAREWELL_LIMIT, close(socket, frame)).await;
                    return;
                }
                // What the client says is taken, as by the buffers of a network, until it lets go.
                Step::End(End::Mute) => {
                    let mut scrap = [0; 512];
                    let came = tokio::select! {
                        biased;
                        () = orders => Ok(1),
                        came = socket.get_mut().read(&mut scrap) => came,
                    };
                    if !matches!(came, Ok(1..)) {
                        return;
                    }
                }
                Step::Wait(until) => tokio::select! {
                    biased;
                    () = orders => {}
                    came = socket.next() => match came {
                        Some(Ok(Message::Text(text))) => {
                            self.hub().hear(self.now(), number, &text);
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return,
                    },
                    () = sleep_until(self.beginning + until) => {}
                },
            }
        }
    }
}

async fn close(mut socket: WebSocketStream<DuplexStream>, frame: CloseFrame) {
    if socket.close(Some(frame)).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

/// What the SDK needs of it.
impl TestHub {
    /// A pipe at whose other end the hub is.
    pub(crate) async fn connect(&self) -> Result<Box<dyn Io>, &'static str> {
        let shared = &self.shared;
        shared.until(Hub::is_reachable).await;
        let now = shared.now();
        let number = shared.hub().open(now).ok_or("the hub refuses")?;
        let (ours, theirs) = duplex(PIPE);
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.serve(number, theirs).await;
            shared.change(|hub| hub.forget(number));
        });
        Ok(Box::new(ours))
    }

    /// The clocks of the computer on which the clients run.
    pub(crate) fn clocks(&self) -> Now {
        let now = self.shared.now();
        let slept = *self.shared.slept.lock().unwrap_or_else(PoisonError::into_inner);
        let beginning = Duration::from_millis(super::BEGINNING.unsigned_abs());
        Now {
            steady: (self.shared.beginning + now).into_std(),
            wall: SystemTime::UNIX_EPOCH + beginning + now + slept,
        }
    }
}
