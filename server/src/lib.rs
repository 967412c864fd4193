//! A hub that tells every subscriber of every change, mounted on any axum [`Router`].
//!
//! ```text
//!  commit ──► Hub::publish      encoded once ──► event cache, wake; returns at once
//!                  │
//!             fan-out tasks     registry: who wants it, by name, prefix or *
//!                  ├──► send queue ──► connection ──► socket        level
//!                  └──► queue full: cleared; reads cache or log     catching up
//! ```
//!
//! An embedder either publishes through a [`TaskEventPublisher`] and lets the hub number the
//! events ([`Hub::in_memory`]), or brings a durable [`EventLog`] and publishes what it committed
//! ([`Hub::with_log`]). Either way [`routes`] mounts the WebSocket endpoint, and the same events over
//! plain HTTP.
//!
//! [`Router`]: axum::Router

mod access;
mod changes;
mod clock;
mod config;
mod histogram;
mod hub;
mod log;
#[doc(hidden)]
pub mod mutant;
mod problem;
mod rate;
mod routes;
mod schema;
mod session;
#[cfg(any(test, feature = "simulation"))]
#[doc(hidden)]
pub mod simulation;
mod transport;

pub use access::{
    AccessPolicy, Anonymous, AuthError, AuthFuture, Authenticator, FileError, InvalidNetwork,
    InvalidOrigin, Network, Principal, Reloading, Token, TokenGrant, TokensFile, authenticate,
    guard,
};
#[cfg(feature = "jwt")]
pub use access::{InvalidAlgorithm, Jwt, JwtAlgorithm, JwtConfig, JwtKeys};
pub use changes::{Changes, ChangesError, ChangesRequest};
pub use config::HubConfig;
pub use histogram::{Distribution, Histogram};
pub use hub::{ConnectionInfo, ConnectionState, ConnectionTransport, Hub, HubStats};
pub use log::{
    EventLog, Incarnations, LogEvent, MemoryLog, Page, PageLimit, ReadError, ReadFuture, SeekError,
    SeekFuture, SnapshotError, SnapshotFuture, SnapshotSink, Tail, TaskEventPublisher,
    TaskSnapshot,
};
pub use problem::Problem;
pub use rate::{InvalidRate, Rate};
pub use routes::routes;
/// The wire types, for embedders who publish.
pub use taskwatch_protocol as protocol;
