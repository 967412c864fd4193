//! What goes into the machine, and what comes out.

use std::time::{Duration, Instant, SystemTime};

use taskwatch_protocol::{
    ClientFrame, CloseCode, CloseReason, Cursor, EventKind, Pattern, Timestamp,
};

use crate::dial::DialError;
use crate::transport::{Route, TransportChoice};
use crate::{OnGap, Token, TokenError, Update, WatchError};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) steady: Instant,
    pub(crate) wall: SystemTime,
}

/// Which connection something belongs to; a later one has a greater number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(pub(super) u64);

#[derive(Debug)]
pub(crate) enum Input {
    Link(Generation, LinkInput),
    /// The caller changed the wished set.
    Wish(Wish),
    /// The buffer is full.
    Full,
    /// The buffer is half empty.
    Room,
    /// Time has passed.
    Tick,
}

#[derive(Debug)]
pub(crate) enum LinkInput {
    /// A connection on this way. Until the first frame it may take another.
    Opened(Route),
    Rerouted(Route),
    /// There is no connection, or a request that it is made of was refused.
    DialFailed(DialError),
    /// What came of [`Action::AskToken`].
    Token(Result<Token, TokenError>),
    Text(Box<str>),
    /// A frame without content: the peer lives.
    Alive,
    Closed(CloseCode, CloseReason),
    Lost(String),
}

/// A change of what the caller wants to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Add(Vec<Pattern>),
    Remove(Vec<Pattern>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Dial(Generation, Route),
    Send(ClientFrame),
    /// Ask for a new token, while the connection goes on.
    AskToken(Generation),
    /// For the caller, with the position that holds once it was yielded.
    Yield(Update, Option<Cursor>),
    /// Everything that matches up to here was yielded.
    Bookmark(Cursor),
    /// The first acknowledgement has come.
    Ready,
    /// Let go of the link without a word: nobody listens at the other end.
    Drop,
    /// Close the link as the protocol has it.
    Leave,
    /// Nothing more will happen.
    Stop(WatchError),
}

/// Where a stream begins, if neither now nor at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    Time(Timestamp),
    /// With so many past events.
    Tail(u32),
}

/// What the caller chose before the stream began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) since: Option<Cursor>,
    /// In the place of `since`.
    pub(crate) beginning: Option<Beginning>,
    /// How often the caller is told how fresh the stream is.
    pub(crate) freshness: Option<Duration>,
    pub(crate) snapshot: bool,
    pub(crate) on_gap: OnGap,
    pub(crate) types: Option<Vec<EventKind>>,
    pub(crate) has_tokens: bool,
    pub(crate) transport: TransportChoice,
}
