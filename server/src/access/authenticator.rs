//! Who brings a token.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use taskwatch_protocol::ErrorCode;
use tokio::sync::watch;

use super::Principal;
use crate::Problem;

/// The secret that a request brings. It never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// A token from its text.
    #[must_use]
    pub fn new(secret: impl Into<Box<str>>) -> Self {
        Self(secret.into())
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a request was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// It brought no token.
    #[error("this server asks for a token: send it as Authorization: Bearer")]
    Missing,
    /// The token is not one of ours. The reason is for the log, not for who asks.
    #[error("the token is not valid here")]
    Invalid(String),
    /// The token was one of ours.
    #[error("the token has run out")]
    Expired,
    /// It cannot be found out now.
    #[error("tokens cannot be checked now")]
    Unavailable(String),
}

/// The future of [`Authenticator::authenticate`].
pub type AuthFuture<'a> = Pin<Box<dyn Future<Output = Result<Principal, AuthError>> + Send + 'a>>;

/// Tells who brings a token, and what they may do.
///
/// One of the things an embedder supplies. It is asked at every request and every upgrade; for live
/// connections again whenever [`changes`](Self::changes) says so, and every minute.
pub trait Authenticator: fmt::Debug + Send + Sync + 'static {
    /// Who brings this token; `None` is a request that brought none.
    ///
    /// An answer must come within 5 s.
    fn authenticate<'a>(&'a self, token: Option<&'a Token>) -> AuthFuture<'a>;

    /// Notified whenever an earlier answer may no longer hold, so that live connections are checked
    /// again at once.
    fn changes(&self) -> Option<watch::Receiver<()>> {
        None
    }
}

/// Lets everybody in, who may then do everything: for a server that only its own machine reaches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Authenticator for Anonymous {
    fn authenticate<'a>(&'a self, _: Option<&'a Token>) -> AuthFuture<'a> {
        Box::pin(std::future::ready(Ok(Principal::anonymous())))
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let detail = error.to_string();
        let challenge = match error {
            AuthError::Missing => "Bearer",
            AuthError::Invalid(_) | AuthError::Expired => "Bearer error=\"invalid_token\"",
            AuthError::Unavailable(_) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return Self::new(status, ErrorCode::Unavailable, detail)
                    .header(RETRY_AFTER, HeaderValue::from_static("1"));
            }
        };
        Self::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }
}
