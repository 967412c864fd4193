//! How the connection stands, for whoever shows it.

use std::time::Instant;

use tokio::sync::watch;

use crate::{Transport, WatchError};

/// How the connection of a stream stands; see [`ConnectionWatch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// There is none and none is wanted: the stream was not polled yet or has been dropped, or nothing
    /// is watched.
    #[default]
    Idle,
    /// It is being made, up to the acknowledgement of what is watched.
    #[non_exhaustive]
    Connecting {
        /// 1 for the first attempt since the link was last proven good.
        attempt: u32,
    },
    /// It is there, and what was missed, or the present state of something, is on its way.
    #[non_exhaustive]
    CatchingUp {
        /// The way on which events come.
        transport: Transport,
        /// Name and version of the server, for people; empty if it did not say.
        server: String,
    },
    /// It is there, and events come as they happen.
    #[non_exhaustive]
    Live {
        /// The way on which events come.
        transport: Transport,
        /// Name and version of the server, for people; empty if it did not say.
        server: String,
    },
    /// It was lost or could not be made, and is made again.
    #[non_exhaustive]
    Waiting {
        /// What happened, for people.
        reason: String,
        /// When the next attempt is made.
        until: Instant,
    },
    /// It was given back, since the caller reads too slowly.
    Parked,
    /// The stream has ended for good.
    Ended(WatchError),
}

impl ConnectionState {
    /// Whether events come as they happen.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }
}

/// Looks at the connection of a stream, wherever the stream is.
///
/// What it says is true at once. It is not in step with what the stream yields: events that came
/// before the connection was lost may still wait to be read, and short states in between are not
/// seen. Whoever needs the order takes the [`updates`](crate::EventStream::updates).
///
/// ```no_run
/// # async fn example(events: taskwatch_client::EventStream) {
/// use taskwatch_client::ConnectionState;
///
/// let mut connection = events.connection();
/// tokio::spawn(async move {
///     while let Some(state) = connection.changed().await {
///         match state {
///             ConnectionState::Live { server, .. } => println!("live on {server}"),
///             ConnectionState::Waiting { reason, .. } => println!("interrupted: {reason}"),
///             _ => {}
///         }
///     }
/// });
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectionWatch(watch::Receiver<ConnectionState>);

impl ConnectionWatch {
    /// How the connection stands now.
    #[must_use]
    pub fn get(&self) -> ConnectionState {
        self.0.borrow().clone()
    }

    /// Waits until it stands differently than when this was last called, or, the first time, than when
    /// the watch was made; `None` when that will not be any more. Nothing is lost if it is not waited
    /// for.
    pub async fn changed(&mut self) -> Option<ConnectionState> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}

/// The other end of it.
#[derive(Debug)]
pub(crate) struct Connection(watch::Sender<ConnectionState>);

impl Connection {
    pub(crate) fn new() -> (Self, ConnectionWatch) {
        let (sender, receiver) = watch::channel(ConnectionState::Idle);
        (Self(sender), ConnectionWatch(receiver))
    }

    /// Shows it to whoever looks.
    pub(crate) fn is(&self, state: ConnectionState) {
        self.0.send_if_modified(|shown| {
            let is_new = *shown != state;
            *shown = state;
            is_new
        });
    }
}
