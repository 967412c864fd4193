//! Why a stream ended for good.

use taskwatch_protocol::{CloseCode, Denied, ErrorCode, ResetReason};

/// Why a stream ended for good. Whatever can be survived is an [`Update`](crate::Update) instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The server's own answer to the connection attempt says that repeating it cannot help.
    #[error("the server refused the connection: {reason} ({status})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The word of the answer's problem document; `None` if it has none.
        code: Option<ErrorCode>,
        /// The answer's own words, for people.
        reason: String,
    },
    /// The server closed the connection for a reason that a new one would meet again.
    #[error("the server closed the connection for good: {reason} ({code})")]
    Closed {
        /// The close code.
        code: CloseCode,
        /// What it means, for people.
        reason: String,
    },
    /// The server does not accept the subscription.
    #[error("the server refused the subscription: {reason} ({code})")]
    Refused {
        /// The word of the server's `error` frame.
        code: ErrorCode,
        /// Its text, for people.
        reason: String,
    },
    /// A snapshot holds whole tasks, so it cannot be had for some kinds of events only: either
    /// [`types`](crate::EventStream::types) or the snapshot must go.
    #[error("a snapshot and a choice of event types do not go together")]
    FilteredSnapshot,
    /// None of the repositories exists for this principal: forbidden and unknown look the same.
    #[error("no such repository: {}", names(.denied))]
    Denied {
        /// Every pattern that was asked for, and why not.
        denied: Vec<Denied>,
    },
    /// Events were lost: the server cannot go on from the position, and a gap was not allowed.
    #[error("the server cannot go on from this position: {reason}")]
    Gap {
        /// Why the position could not be honoured.
        reason: ResetReason,
    },
    /// The server was out of reach for longer than [`max_elapsed`](crate::ClientBuilder::max_elapsed).
    #[error("gave up after {attempts} attempts: {reason}")]
    Unreachable {
        /// Attempts since the link was last up.
        attempts: u32,
        /// What the last attempt met, for people.
        reason: String,
    },
    /// The [provider](crate::TokenProvider) says that it will never have a token.
    #[error("there is no token: {reason}")]
    Token {
        /// Its own words.
        reason: String,
    },
    /// The server, or who answered in its place, has a certificate that is not trusted. More can be
    /// trusted with [`cacert`](crate::ClientBuilder::cacert).
    #[error("the server's certificate is not accepted: {reason}")]
    Certificate {
        /// What is wrong with it, for people.
        reason: String,
    },
    /// The HTTP proxy wants a user and a password, or others than those it was given.
    #[error("the proxy {proxy} refuses: it wants a user and a password that it knows (407)")]
    Proxy {
        /// Its address, without user and password.
        proxy: String,
    },
    /// The runtime that kept the stream going has ended.
    #[error("the runtime of the stream has ended")]
    Aborted,
}

fn names(denied: &[Denied]) -> String {
    let names: Vec<String> = denied.iter().map(|entry| entry.repository.to_string()).collect();
    names.join(", ")
}
