//! Live task events as a `Stream` that hides reconnection and resubscription.
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use taskwatch_client::Client;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("http://127.0.0.1:8787").build()?;
//! let mut events = client.subscribe(["github.com/acme/*"])?;
//! while let Some(event) = events.next().await {
//!     let event = event?;
//!     println!("{} {}", event.kind(), event.task().title);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Every event comes exactly once and in order, whatever happens to the connection. If that cannot
//! be kept, because the server's history no longer reaches back far enough, the stream says so.
//! [`Client::subscribe`] has the details.
//!
//! A program that wants the tasks themselves rather than what happens to them takes a
//! [view](Client::view). In between there are the [`updates`](EventStream::updates) of a stream that
//! begins with a [`snapshot`](EventStream::snapshot): the state, then exactly what follows it.

mod address;
mod backoff;
mod buffer;
mod config;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod conformance;
mod cursor_file;
mod dial;
mod driver;
mod error;
mod feed;
mod fold;
mod ledger;
mod link;
mod machine;
mod request;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
mod stream;
#[cfg(test)]
mod testing;
mod token;
mod transport;
mod update;
mod view;

/// So that its code is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use bytes::Bytes;
pub use http;
pub use taskwatch_protocol as protocol;
pub use taskwatch_protocol::{
    CloseCode, Cursor, Denied, ErrorCode, EventKind, InvalidName, Pattern, Priority,
    RepositoryName, ResetReason, Status, Task, TaskChange, TaskEvent, Timestamp,
};

pub use config::{BuildError, Client, ClientBuilder};
pub use cursor_file::{CursorFile, CursorFileError};
pub use error::WatchError;
pub use fold::Tasks;
pub use request::RequestError;
pub use stream::{EventStream, Updates};
pub use token::{InvalidToken, Token, TokenError, TokenFuture, TokenProvider};
pub use transport::{Transport, TransportChoice};
pub use update::{Event, Freshness, Gap, OnGap, Snapshot, Update};
pub use view::TaskView;
