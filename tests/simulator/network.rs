//! What lies between a stream and the server.

use std::collections::VecDeque;
use std::time::Duration;

use taskwatch_client::simulation::{self as client, Incoming};
use taskwatch_server::simulation::Connection;

/// What travels to the server.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    Dial,
    Text(String),
    /// The stream has let go of the link.
    Bye,
}

/// Whatever happens on one link, in order: nothing overtakes on the way.
#[derive(Debug)]
pub(crate) struct Way<T> {
    packets: VecDeque<(Duration, T)>,
    latest: Duration,
    is_closed: bool,
}

impl<T> Way<T> {
    fn new() -> Self {
        Self { packets: VecDeque::new(), latest: Duration::ZERO, is_closed: false }
    }

    /// Sends something that is there at `arrival`, but not before what was sent earlier.
    pub(crate) fn send(&mut self, arrival: Duration, packet: T) {
        if !self.is_closed {
            self.latest = self.latest.max(arrival);
            self.packets.push_back((self.latest, packet));
        }
    }

    /// When the next is there.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.packets.front().map(|(arrival, _)| *arrival)
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        self.packets.pop_front().map(|(_, packet)| packet)
    }

    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Loses everything but the first `keep`.
    pub(crate) fn lose(&mut self, keep: usize) {
        self.packets.truncate(keep);
    }

    /// Loses everything, also what is sent later.
    pub(crate) fn close(&mut self) {
        self.lose(0);
        self.is_closed = true;
    }
}

/// One connection with its two ends, each of which may be gone.
#[derive(Debug)]
pub(crate) struct Link {
    /// Whose it is.
    pub(crate) client: usize,
    /// Its name at the stream's end.
    pub(crate) id: client::Link,
    /// Whether the stream still holds it.
    pub(crate) is_held: bool,
    /// The server's end.
    pub(crate) server: Option<Connection>,
    pub(crate) up: Way<Up>,
    pub(crate) down: Way<Incoming>,
    /// Nothing gets through any more, and nobody is told.
    pub(crate) is_silent: bool,
    pub(crate) latency: Duration,
    /// When the server's end does what it has to do.
    pub(crate) due: Due,
}

/// The things the server's end of a link does by itself.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) turn: Option<Duration>,
    pub(crate) fetch: Option<Duration>,
    pub(crate) write: Option<Duration>,
}

impl Link {
    pub(crate) fn new(client: usize, id: client::Link, latency: Duration) -> Self {
        Self {
            client,
            id,
            is_held: true,
            server: None,
            up: Way::new(),
            down: Way::new(),
            is_silent: false,
            latency,
            due: Due::default(),
        }
    }

    /// Whether nothing more can come of it.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_held && self.server.is_none() && (self.is_silent || self.up.len() == 0)
    }
}
