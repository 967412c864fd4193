//! What travels between a task server and those who watch it.
//!
//! Everything on the wire is one JSON text: an [`Envelope`] around a [`ServerMessage`] or a
//! [`ClientMessage`]. This crate holds those types and nothing that waits, dials or reads a clock.
//! `PROTOCOL.md` beside it is the same specification for readers who do not know Rust; the files
//! in `vectors/` hold one frame of each type. [`SCHEMA`] is the same for programs; the feature
//! `schema` makes it out of the types, which then implement `schemars::JsonSchema`.
//!
//! A reader ignores what it does not know: an unknown `type` decodes to `Unknown`, unknown fields
//! are skipped, and unknown words (statuses, codes, reasons) are kept as text.

mod changes;
mod close;
mod cursor;
mod envelope;
mod error;
pub mod escape;
mod message;
mod repository;
#[cfg(feature = "schema")]
pub mod schema;
mod task;
mod text;
mod timestamp;
mod traceparent;
mod version;
mod word;

pub use changes::{Changes, FieldChange, MAX_CHANGE_VALUE_BYTES};
pub use close::{Advice, CloseCode, CloseReason};
pub use cursor::{Cursor, Incarnation, MalformedCursor, Position, Seq};
pub use envelope::{ClientFrame, DecodeError, Envelope, MAX_DEPTH, ServerFrame};
pub use error::ErrorCode;
pub use message::{
    Auth, Authenticated, ClientMessage, Denied, ErrorMessage, Heartbeat, Limits, MAX_TAIL, Mode,
    OnGap, ResetReason, ServerMessage, Snapshot, Subscribe, Subscribed, Unknown, Unsubscribe,
    Unsubscribed, Welcome,
};
pub use repository::{InvalidName, Pattern, RepositoryName};
pub use task::{EventKind, Priority, Status, Task, TaskChange, TaskEvent};
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use traceparent::{InvalidTraceparent, Traceparent};
pub use version::{PROTOCOL_VERSION, SUBPROTOCOL, VERSION_HEADER, major_version};

/// The JSON Schema of every frame, as text: `schema.json` beside `PROTOCOL.md`.
pub const SCHEMA: &str = include_str!("../schema.json");
