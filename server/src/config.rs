//! What an embedder may set, with defaults that suit one machine and any network.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{AccessPolicy, Anonymous, Authenticator, PageLimit, Rate};

/// Settings of a hub: `HubConfig { path: "/live".into(), ..HubConfig::default() }`.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// From where requests may come.
    pub access: AccessPolicy,
    /// Who they come from, and what those may see.
    pub authenticator: Arc<dyn Authenticator>,
    /// How often a live connection's token is looked at again, besides when the authenticator says
    /// that something has changed.
    pub authenticate_again: Duration,
    /// Path of the WebSocket endpoint.
    pub path: String,
    /// Path of the same events as `text/event-stream`.
    pub events_path: String,
    /// Path of the same events for who asks again and again.
    pub changes_path: String,
    /// How long a stream over plain HTTP lasts, give or take a fifth. Then its peer is asked to come
    /// back: nothing on the way keeps a response for ever, and some balance requests.
    pub stream_lifetime: Duration,
    /// Name and version told to clients.
    pub server_name: String,
    /// How often a `ping` goes out, give or take a tenth.
    pub heartbeat: Duration,
    /// A peer from which nothing came for so long is closed with 4101, if it can talk at all.
    pub silence: Duration,
    /// A peer that takes no bytes for so long is closed with 4100.
    pub write_timeout: Duration,
    /// Connections at the same time; the next one is answered 503.
    pub max_connections: usize,
    /// Of those, connections over plain HTTP: streams, polls, and [`Hub::changes`](crate::Hub::changes).
    /// Unlike a WebSocket they go on to be one of the listener's HTTP connections, which it may limit.
    pub max_streams: usize,
    /// Connections of one principal at the same time; the next one is answered 429. Those who are
    /// nobody in particular are not counted.
    pub max_connections_per_principal: usize,
    /// Connections from one address at the same time, or of one /64 with IPv6; the next one is
    /// answered 429. Those of the own machine are not counted.
    pub max_connections_per_address: usize,
    /// New connections; who comes too fast is answered 503. Those of the own machine are not counted,
    /// and no polls: they come as often as there is something to tell.
    pub connects: Rate,
    /// Messages from one peer; above it is closed with 4103, as with the next two.
    pub messages: Rate,
    /// WebSocket pings and pongs from one peer.
    pub controls: Rate,
    /// Bytes from one peer. At once it may send at least two messages of the largest size.
    pub bytes: Rate,
    /// Messages of one peer that cannot be read, in a minute, before it is closed with 4000.
    pub bad_messages_per_minute: u32,
    /// Reads of the log for one principal at the same time, except those who are nobody in
    /// particular; the next one waits.
    pub reads_per_principal: usize,
    /// Bytes of one message from a client; the original contract's figure.
    pub max_message_bytes: usize,
    /// Patterns in one `subscribe` or `unsubscribe`. As many as a connection may hold: who comes
    /// back asks for all of them in one message, since only the first may carry `since`.
    pub max_patterns_per_message: usize,
    /// Patterns one connection may hold.
    pub max_patterns: usize,
    /// Events waiting for one connection before it reads the log instead; the original
    /// contract's figure.
    pub queue_events: usize,
    /// Bytes waiting for one connection; a single larger event may stand alone.
    pub queue_bytes: usize,
    /// Newest events kept in memory for those who catch up.
    pub cache_events: usize,
    /// Bytes of them.
    pub cache_bytes: usize,
    /// How much one read of the log may return.
    pub page: PageLimit,
    /// Reads of the log at the same time.
    pub concurrent_reads: usize,
    /// Snapshots read from the log at the same time, and snapshots that wait in memory for their
    /// peers at the same time; more wait in files.
    pub concurrent_snapshots: usize,
    /// Bytes of one snapshot that wait in memory; what is more waits in a file.
    pub snapshot_bytes: usize,
    /// Bytes of all these files together. Who would need more is told `unavailable`.
    pub spool_bytes: u64,
    /// Folder of these files, which have no name; `None` is the system's for temporary files.
    pub spool_dir: Option<PathBuf>,
    /// How long a shutdown waits for connections to close, and over how long the clients are
    /// asked to spread their return.
    pub drain_window: Duration,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            access: AccessPolicy::private(),
            authenticator: Arc::new(Anonymous),
            authenticate_again: Duration::from_secs(60),
            path: "/ws".into(),
            events_path: "/api/v1/events".into(),
            changes_path: "/api/v1/changes".into(),
            stream_lifetime: Duration::from_secs(600),
            server_name: concat!("taskwatch/", env!("CARGO_PKG_VERSION")).into(),
            heartbeat: Duration::from_secs(20),
            silence: Duration::from_secs(45),
            write_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            max_streams: 2_500,
            max_connections_per_principal: 32,
            max_connections_per_address: 64,
            connects: Rate { per_second: 500, burst: 1_000 },
            messages: Rate { per_second: 20, burst: 60 },
            controls: Rate { per_second: 10, burst: 50 },
            bytes: Rate { per_second: 64 << 10, burst: 1 << 20 },
            bad_messages_per_minute: 10,
            reads_per_principal: 2,
            max_message_bytes: 512 << 10,
            max_patterns_per_message: 128,
            max_patterns: 128,
            queue_events: 256,
            queue_bytes: 256 << 10,
            cache_events: 65_536,
            cache_bytes: 32 << 20,
            page: PageLimit { events: 256, bytes: 256 << 10 },
            concurrent_reads: 4,
            concurrent_snapshots: 4,
            snapshot_bytes: 8 << 20,
            spool_bytes: 1 << 30,
            spool_dir: None,
            drain_window: Duration::from_secs(30),
        }
    }
}
