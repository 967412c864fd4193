//! Who is connected, and how far each of them has come.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use taskwatch_protocol::{Cursor, Pattern, Seq};
use uuid::Uuid;

use super::{Hub, Over, lock};
use crate::Principal;
use crate::clock::instant;

/// Names of programs that are kept once for all who bring them.
const AGENTS: usize = 16;
/// More of a name is not kept.
const AGENT_CHARS: usize = 128;

/// A connection, as it is at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The `connection_id` of its `welcome`, and in the log.
    pub id: Uuid,
    /// Whose it is.
    pub principal: Principal,
    /// The other end of its socket, if it has one of its own.
    pub peer: Option<SocketAddr>,
    /// The address it counts for: behind a trusted proxy another one than that of the peer.
    pub client: Option<IpAddr>,
    /// What it is made over.
    pub transport: ConnectionTransport,
    /// What the program calls itself, if it said so: text of others, at most 128 characters.
    pub user_agent: Option<Arc<str>>,
    /// How long it has been there.
    pub age: Duration,
    /// What it asked for.
    pub patterns: Vec<Pattern>,
    /// What it is doing.
    pub state: ConnectionState,
    /// Everything that it wants up to here was given to its socket.
    pub position: Cursor,
    /// How many events were published behind its position, wanted or not. It need not be given them
    /// to be level, so of who is live and wants few this is 0.
    pub behind: u64,
    /// How long the oldest of them has waited, unless there is none or memory does not reach back to it.
    pub behind_for: Option<Duration>,
    /// Events sent.
    pub delivered: u64,
    /// Events that wait in its queue.
    pub queued: usize,
}

/// What a connection is made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionTransport {
    /// A WebSocket.
    WebSocket,
    /// Server-sent events.
    Stream,
    /// A poll, which ends with its answer.
    Poll,
    /// A call of [`Hub::changes`].
    Call,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// It gets what happens.
    Live,
    /// It reads what it has missed.
    CatchingUp,
    /// It is being sent the state of tasks.
    Snapshot,
}

/// What stays the same of a connection. It is kept for each, so it is small.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) id: Uuid,
    pub(crate) since: Instant,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) client: Option<IpAddr>,
    pub(crate) transport: ConnectionTransport,
    pub(crate) agent: Option<Arc<str>>,
}

impl About {
    /// A connection that is made now.
    pub(crate) fn new(transport: ConnectionTransport) -> Self {
        let (id, since) = (Uuid::new_v4(), instant());
        Self { id, since, peer: None, client: None, transport, agent: None }
    }
}

impl From<Over> for ConnectionTransport {
    fn from(over: Over) -> Self {
        match over {
            Over::WebSocket => Self::WebSocket,
            Over::Stream => Self::Stream,
            Over::Poll => Self::Poll,
        }
    }
}

/// Names of programs: most connections are of a few.
#[derive(Debug, Default)]
pub(super) struct Agents(VecDeque<Arc<str>>);

impl Agents {
    fn share(&mut self, name: &str) -> Arc<str> {
        let end = name.char_indices().nth(AGENT_CHARS).map_or(name.len(), |(at, _)| at);
        let name = &name[..end];
        if let Some(known) = self.0.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.0.truncate(AGENTS - 1);
        self.0.push_front(name.clone());
        name
    }
}

impl Hub {
    /// Everybody who is connected now. Each connection is looked at by itself, one after the other:
    /// the fan-out waits for none of them, and they are not all of one moment.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let queues = self.queues();
        let described = queues.iter().filter_map(|queue| queue.describe());
        described
            .map(|Described { mut info, position }| {
                let recent = lock(&self.shared.recent);
                info.behind = recent.events.head().saturating_sub(position);
                let is_here = info.behind > 0 && position >= recent.events.floor();
                let published = recent.published_after(position).filter(|_| is_here);
                drop(recent);
                info.behind_for = published.map(|at| instant().saturating_duration_since(at));
                info
            })
            .collect()
    }

    /// The cursor of the newest event that was published.
    #[must_use]
    pub fn position(&self) -> Cursor {
        self.log().cursor(self.head())
    }

    /// The name of a program as others have it too.
    pub(crate) fn agent(&self, name: &str) -> Arc<str> {
        lock(&self.shared.agents).share(name)
    }
}

/// What a connection says of itself; how far behind it is depends on others.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) info: ConnectionInfo,
    pub(crate) position: Seq,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_not_longer_than_it_is_useful() {
        let mut agents = Agents::default();
        let first = agents.share("watch/1");
        assert!(Arc::ptr_eq(&first, &agents.share("watch/1")));
        assert_eq!(agents.share(&"é".repeat(500)).chars().count(), AGENT_CHARS);
        for other in 0..100 {
            agents.share(&other.to_string());
        }
        assert_eq!(agents.0.len(), AGENTS);
        assert!(!Arc::ptr_eq(&first, &agents.share("watch/1")));
    }
}
