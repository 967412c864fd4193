//! Who is connected, summed up. Plain data, written by the server and read by `taskwatchd status`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use taskwatch_protocol::Cursor;
use taskwatch_server::{ConnectionInfo, ConnectionState, ConnectionTransport, Hub};
use url::form_urlencoded;
use uuid::Uuid;

/// Patterns that are named of one connection.
const PATTERNS: usize = 16;

/// How it is told who is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// Summed up for each principal
    #[default]
    Principal,
    /// And each connection too
    Connection,
}

impl By {
    pub(crate) const WORDS: [&str; 2] = ["principal", "connection"];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Principal => Self::WORDS[0],
            Self::Connection => Self::WORDS[1],
        }
    }

    /// What a query asks for.
    pub(crate) fn from_query(query: &str) -> Result<Self, String> {
        let mut by = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if name != "by" {
                return Err("there is no such parameter: this takes `by` alone".to_owned());
            }
            if by.is_some() {
                return Err("by: once is enough".to_owned());
            }
            by = Some(match &*value {
                "principal" => Self::Principal,
                "connection" => Self::Connection,
                _ => return Err(format!("by: one of {}", Self::WORDS.join(", "))),
            });
        }
        Ok(by.unwrap_or_default())
    }
}

/// Who is connected now.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Connections {
    /// The version of the server.
    pub(crate) version: String,
    /// How long it has been running.
    pub(crate) uptime_seconds: f64,
    /// The position of the newest event.
    pub(crate) head: Cursor,
    /// How many are connected.
    pub(crate) total: usize,
    /// Whose they are.
    pub(crate) principals: Vec<PrincipalSum>,
    /// Each of them, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<Vec<Connection>>,
}

/// The connections of one principal together.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PrincipalSum {
    /// The name; null is nobody in particular.
    pub(crate) principal: Option<String>,
    /// How many connections.
    pub(crate) connections: usize,
    /// Those that do not get what happens, but read what they have missed or are sent a state.
    pub(crate) catching_up: usize,
    /// Patterns that they asked for, all together.
    pub(crate) subscriptions: usize,
    /// Events published behind the position of the one that is furthest behind.
    pub(crate) behind: u64,
    /// How long the oldest of these has waited; null if it is none, or no longer in memory.
    pub(crate) behind_seconds: Option<f64>,
    /// Events sent.
    pub(crate) delivered: u64,
    /// Events that wait in their queues.
    pub(crate) queued: usize,
}

/// One connection.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Connection {
    /// The `connection_id` of its `welcome`, and in the server's log.
    pub(crate) id: Uuid,
    /// Whose it is; null is nobody in particular.
    pub(crate) principal: Option<String>,
    /// The other end of its socket; null where it has none of its own.
    pub(crate) peer: Option<String>,
    /// The address it counts for, which behind a trusted proxy is another.
    pub(crate) client: Option<String>,
    /// `websocket`, `sse`, `poll` or `mcp`.
    pub(crate) transport: String,
    /// What the program calls itself.
    pub(crate) user_agent: Option<String>,
    /// How long it has been there.
    pub(crate) age_seconds: f64,
    /// `live`, `catching_up` or `snapshot`.
    pub(crate) state: String,
    /// How many patterns it asked for.
    pub(crate) subscriptions: usize,
    /// The first 16 of them.
    pub(crate) patterns: Vec<String>,
    /// Everything that it wants up to here was given to its socket.
    pub(crate) position: Cursor,
    /// Events published behind that position.
    pub(crate) behind: u64,
    /// How long the oldest of these has waited; null if it is none, or no longer in memory.
    pub(crate) behind_seconds: Option<f64>,
    /// Events sent.
    pub(crate) delivered: u64,
    /// Events that wait in its queue.
    pub(crate) queued: usize,
}

impl Connections {
    /// Those of a hub, of a server that has been running for so long.
    pub(crate) fn of(hub: &Hub, uptime: Duration, by: By) -> Self {
        let head = hub.position();
        let mut all: Vec<_> = hub.connections().into_iter().map(Connection::from).collect();
        all.sort_by(|one, other| one.worst_first().cmp(&other.worst_first()));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: rounded(uptime),
            head,
            total: all.len(),
            principals: by_principal(&all),
            connections: (by == By::Connection).then_some(all),
        }
    }
}

impl Connection {
    fn worst_first(&self) -> impl Ord + use<'_> {
        (Reverse(self.behind), Reverse(self.queued), &self.principal, self.id)
    }
}

impl From<ConnectionInfo> for Connection {
    fn from(info: ConnectionInfo) -> Self {
        Self {
            id: info.id,
            principal: info.principal.subject().map(str::to_owned),
            peer: info.peer.map(|peer| peer.to_string()),
            client: info.client.map(|client| client.to_string()),
            transport: transport(info.transport).to_owned(),
            user_agent: info.user_agent.as_deref().map(str::to_owned),
            age_seconds: rounded(info.age),
            state: state(info.state).to_owned(),
            subscriptions: info.patterns.len(),
            patterns: info.patterns.iter().take(PATTERNS).map(ToString::to_string).collect(),
            position: info.position,
            behind: info.behind,
            behind_seconds: info.behind_for.map(rounded),
            delivered: info.delivered,
            queued: info.queued,
        }
    }
}

fn transport(transport: ConnectionTransport) -> &'static str {
    match transport {
        ConnectionTransport::WebSocket => "websocket",
        ConnectionTransport::Stream => "sse",
        ConnectionTransport::Poll => "poll",
        // Nobody else calls the hub here.
        _ => "mcp",
    }
}

const LIVE: &str = "live";

fn state(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::Live => LIVE,
        ConnectionState::Snapshot => "snapshot",
        _ => "catching_up",
    }
}

/// To the millisecond.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000.0).round() / 1_000.0
}

fn by_principal(connections: &[Connection]) -> Vec<PrincipalSum> {
    let mut sums: BTreeMap<Option<&str>, PrincipalSum> = BTreeMap::new();
    for one in connections {
        let sum = sums.entry(one.principal.as_deref()).or_insert_with(|| PrincipalSum {
            principal: one.principal.clone(),
            ..PrincipalSum::default()
        });
        sum.connections += 1;
        sum.catching_up += usize::from(one.state != LIVE);
        sum.subscriptions += one.subscriptions;
        if one.behind > sum.behind {
            (sum.behind, sum.behind_seconds) = (one.behind, one.behind_seconds);
        }
        sum.delivered += one.delivered;
        sum.queued += one.queued;
    }
    let mut sums: Vec<_> = sums.into_values().collect();
    sums.sort_by_key(|sum| (Reverse(sum.behind), Reverse(sum.queued)));
    sums
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn connection(principal: Option<&str>, behind: u64, state: &str) -> Connection {
        Connection {
            id: Uuid::from_u128(behind.into()),
            principal: principal.map(str::to_owned),
            peer: Some("127.0.0.1:4711".to_owned()),
            client: None,
            transport: "websocket".to_owned(),
            user_agent: Some("watch/1".to_owned()),
            age_seconds: 61.0,
            state: state.to_owned(),
            subscriptions: 2,
            patterns: vec!["a".to_owned(), "b/*".to_owned()],
            position: Cursor::new("c1-a-1"),
            behind,
            behind_seconds: (behind > 0).then_some(1.5),
            delivered: 10,
            queued: 3,
        }
    }

    #[test]
    fn the_worst_comes_first_and_each_principal_is_summed_up() {
        let sums = by_principal(&[
            connection(Some("ana"), 0, "live"),
            connection(Some("ben"), 7, "catching_up"),
            connection(Some("ben"), 70, "snapshot"),
            connection(None, 1, "live"),
        ]);
        let names: Vec<_> = sums.iter().map(|sum| sum.principal.as_deref()).collect();
        assert_eq!(names, [Some("ben"), None, Some("ana")]);
        let ben = &sums[0];
        assert_eq!((ben.connections, ben.catching_up, ben.subscriptions), (2, 2, 4));
        assert_eq!((ben.behind, ben.behind_seconds), (70, Some(1.5)));
        assert_eq!((ben.delivered, ben.queued), (20, 6));
        assert_eq!(sums[2].behind_seconds, None);
    }

    #[test]
    fn a_query_names_one_of_two_ways() {
        assert_eq!(By::from_query(""), Ok(By::Principal));
        assert_eq!(By::from_query("by=connection"), Ok(By::Connection));
        for by in [By::Principal, By::Connection] {
            assert_eq!(By::from_query(&format!("by={}", by.word())), Ok(by));
        }
        for bad in ["by=", "by=Principal", "limit=1", "by=principal&by=principal"] {
            assert!(By::from_query(bad).is_err(), "{bad}");
        }
    }
}
