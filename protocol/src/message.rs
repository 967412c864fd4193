//! The messages inside an envelope, one type each.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::word::words;
use crate::{Cursor, ErrorCode, EventKind, Pattern, Task, TaskEvent, Timestamp};

/// Declares the messages of one direction: one list makes the enum and its types, so that a variant
/// cannot be added without naming the words it stands for.
macro_rules! messages {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$doc:meta])* $variant:ident $(($data:ty))? = $($kind:literal)|+, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$doc])* $variant $(($data))?, )+
            /// A type this version does not know.
            Unknown(Unknown),
        }

        impl $name {
            /// Every `type` this version knows.
            pub const TYPES: &'static [&'static str] = &[$( $($kind),+ ),+];
        }
    };
}

messages! {
    /// What a server says.
    pub enum ServerMessage {
        /// `task.created`, `task.updated`, `task.deleted`
        Task(TaskEvent) = "task.created" | "task.updated" | "task.deleted",
        /// `ping`: a sign of life and, with a cursor, a bookmark.
        Ping(Heartbeat) = "ping",
        /// `pong`: a bookmark on demand, in reply to a client's `ping`.
        Pong(Heartbeat) = "pong",
        /// `error`: something the client sent could not be done. The connection lives on.
        Error(ErrorMessage) = "error",
        /// `welcome`: the first frame.
        Welcome(Welcome) = "welcome",
        /// `subscribed`: the acknowledgement of `subscribe`, at its place in the stream.
        Subscribed(Subscribed) = "subscribed",
        /// `unsubscribed`: the acknowledgement of `unsubscribe`, at its place in the stream.
        Unsubscribed(Unsubscribed) = "unsubscribed",
        /// `snapshot`: a part of the present state.
        Snapshot(Snapshot) = "snapshot",
        /// `authenticated`: the answer to an `auth` whose token was taken.
        Authenticated(Authenticated) = "authenticated",
    }
}

messages! {
    /// What a client says.
    pub enum ClientMessage {
        /// `ping`: asks for a bookmark.
        Ping = "ping",
        /// `pong`: the answer to a server's `ping`.
        Pong = "pong",
        /// `subscribe`
        Subscribe(Subscribe) = "subscribe",
        /// `unsubscribe`
        Unsubscribe(Unsubscribe) = "unsubscribe",
        /// `auth`: a new token for the same subject.
        Auth(Auth) = "auth",
    }
}

/// A message whose `type` this version does not know.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    /// The `type`.
    pub kind: String,
    /// The `data`, if any.
    pub data: Option<Value>,
}

/// `data` of `ping` and `pong`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    /// Task events written to this connection since it opened, replays included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    /// In the answer to a client's `ping`: the newest position of the log at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Cursor>,
}

/// An `error` frame: a text for people, and words for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorMessage {
    /// The envelope's `error`.
    pub message: String,
    /// What went wrong; empty where the original contract has nothing but a text.
    pub code: ErrorCode,
    /// Whether the same request may succeed later, unchanged: the sender's word, which also
    /// holds for a code the reader does not know.
    pub retryable: bool,
    /// Milliseconds to wait before trying again.
    pub retry_after_ms: Option<u64>,
}

/// `data` of `error`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct ErrorData {
    /// What went wrong.
    #[serde(default = "no_code")]
    code: ErrorCode,
    /// Whether the same request may succeed later, unchanged.
    #[serde(default)]
    retryable: bool,
    /// Milliseconds to wait before trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

fn no_code() -> ErrorCode {
    "".into()
}

impl ErrorMessage {
    /// An error with its code's own word on whether to try again.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retryable = code.is_retryable();
        Self { message: message.into(), code, retryable, retry_after_ms: None }
    }

    pub(crate) fn data(&self) -> ErrorData {
        let Self { code, retryable, retry_after_ms, .. } = self.clone();
        ErrorData { code, retryable, retry_after_ms }
    }

    pub(crate) fn from_parts(message: String, data: Option<ErrorData>) -> Self {
        match data {
            Some(ErrorData { code, retryable, retry_after_ms }) => {
                Self { message, code, retryable, retry_after_ms }
            }
            None => Self::new(no_code(), message),
        }
    }
}

/// `data` of `welcome`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Welcome {
    /// Major version of the protocol.
    pub protocol: u16,
    /// Name and version of the server, for people.
    pub server: String,
    /// Names this connection in the server's logs.
    pub connection_id: Uuid,
    /// How often a `ping` comes when nothing else does, in milliseconds.
    pub heartbeat_ms: u64,
    /// What this server accepts.
    pub limits: Limits,
    /// Milliseconds until the connection's token runs out; absent if it does not. A span and not a
    /// time, so that the two clocks need not agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires_in_ms: Option<u64>,
}

/// What a server accepts from one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Bytes of one message from the client.
    pub max_message_bytes: u64,
    /// Patterns in one `subscribe` or `unsubscribe`.
    pub max_patterns_per_message: u64,
    /// Patterns one connection may hold.
    pub max_patterns: u64,
}

/// The largest `tail` that is served.
pub const MAX_TAIL: u32 = 10_000;

/// `data` of `subscribe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subscribe {
    /// What to add.
    pub repositories: Vec<Pattern>,
    /// Send everything after this position first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Cursor>,
    /// Send everything that happened at or after this time first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_time: Option<Timestamp>,
    /// Send the last so many of the events that are asked for first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10_000)))]
    pub tail: Option<u32>,
    /// What to do if `since` or `since_time` cannot be honoured; absent means `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_gap: Option<OnGap>,
    /// Send the present state first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub snapshot: bool,
    /// Only these kinds of events; one filter for the connection, set by its first `subscribe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<EventKind>>,
}

impl Subscribe {
    /// Subscribes to what comes from now on.
    #[must_use]
    pub fn live(repositories: Vec<Pattern>) -> Self {
        Self { repositories, ..Self::default() }
    }

    /// Whether it says where to begin: with `since`, `since_time` or `tail`.
    #[must_use]
    pub fn has_start(&self) -> bool {
        self.since.is_some() || self.since_time.is_some() || self.tail.is_some()
    }
}

words! {
    /// What follows a reset.
    pub closed enum OnGap {
        /// The present state, then what follows it.
        Snapshot = "snapshot",
        /// What comes from now on.
        Live = "live",
        /// Nothing is subscribed.
        Error = "error",
    }
}

/// `data` of `unsubscribe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unsubscribe {
    /// What to remove: exactly these patterns.
    pub repositories: Vec<Pattern>,
}

/// `data` of `auth`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Auth {
    /// The new token.
    pub token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth { token: … }")
    }
}

/// `data` of `authenticated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Authenticated {
    /// Whose token it is: the same as before.
    pub subject: String,
    /// Milliseconds until the new token runs out; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires_in_ms: Option<u64>,
}

words! {
    /// How a subscription begins.
    pub open enum Mode {
        /// With what comes from now on.
        Live = "live",
        /// With everything after a position: `since`, or what `since_time` or `tail` stand for.
        Resumed = "resumed",
        /// With the present state.
        Snapshot = "snapshot",
        /// `since` or `since_time` could not be honoured; what follows is what `on_gap` asked for.
        Reset = "reset",
    }
}

words! {
    /// Why `since` or `since_time` could not be honoured.
    pub open enum ResetReason {
        /// Events after it are no longer kept.
        Expired = "expired",
        /// It names a life of the log that this log does not continue.
        Incarnation = "incarnation",
        /// It lies ahead of everything that has happened.
        Future = "future",
        /// It is not a cursor.
        Malformed = "malformed",
    }
}

/// `data` of `subscribed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subscribed {
    /// What is subscribed now, of what was asked for.
    pub accepted: Vec<Pattern>,
    /// What is not, and why.
    #[serde(default)]
    pub denied: Vec<Denied>,
    /// How the subscription begins.
    pub mode: Mode,
    /// With `reset`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ResetReason>,
    /// The newest position of the log at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Cursor>,
}

/// A repository that was not subscribed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Denied {
    /// The pattern that was asked for.
    pub repository: Pattern,
    /// Why: unknown and forbidden look the same.
    pub code: ErrorCode,
}

/// `data` of `unsubscribed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unsubscribed {
    /// What is not subscribed any more, whether or not it was.
    pub accepted: Vec<Pattern>,
    /// The newest position of the log at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Cursor>,
}

/// `data` of `snapshot`: tasks as they are at the cursor that the last frame carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Whose tasks these are.
    pub repositories: Vec<Pattern>,
    /// Some of them.
    pub tasks: Vec<Task>,
    /// Whether this is the first frame of the snapshot.
    pub first: bool,
    /// Whether this is the last one.
    pub last: bool,
}
