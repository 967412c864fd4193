//! The words of `error` frames and of the HTTP problems that share them.

use crate::word::words;

words! {
    /// What went wrong, as a word a program can act on.
    pub open enum ErrorCode {
        /// The frame or request could not be read.
        BadMessage = "bad_message",
        /// A repository name or pattern breaks the rules of names.
        InvalidName = "invalid_name",
        /// There is no such thing, or the caller may not know of it.
        NotFound = "not_found",
        /// The token is missing or not valid.
        Unauthorized = "unauthorized",
        /// The caller may read this, but not change it.
        Forbidden = "forbidden",
        /// More repositories than a frame or a connection may name.
        LimitSubscriptions = "limit_subscriptions",
        /// `since`, `since_time` or `tail` in a subscription that is not the connection's first.
        SinceNotFirst = "since_not_first",
        /// Too much, too fast.
        RateLimited = "rate_limited",
        /// The server cannot do this now.
        Unavailable = "unavailable",
        /// The server does not offer this.
        Unsupported = "unsupported",
        /// A fault of the server.
        Internal = "internal",
        /// The request's `Origin` is not allowed.
        Origin = "origin",
        /// The request's `Host` is not one this server answers to.
        Host = "host",
        /// A secret was sent in the URL, where logs keep it.
        TokenInUrl = "token_in_url",
        /// No version was named: neither `X-Version` nor a subprotocol.
        VersionMissing = "version_missing",
        /// The version is not served here.
        Version = "version",
        /// The request came without `Upgrade: websocket`; something between may have removed it.
        UpgradeRequired = "upgrade_required",
        /// The method is not allowed on this route.
        MethodNotAllowed = "method_not_allowed",
        /// The body has a media type this route does not read.
        UnsupportedMediaType = "unsupported_media_type",
        /// Fields of the task are not valid.
        InvalidTask = "invalid_task",
        /// `If-Match` names another version than the task has.
        VersionConflict = "version_conflict",
        /// The `Idempotency-Key` belongs to another request.
        IdempotencyMismatch = "idempotency_mismatch",
        /// The request or the event it would make is too large.
        TooLarge = "too_large",
    }
}

impl ErrorCode {
    /// Whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Internal)
    }
}
