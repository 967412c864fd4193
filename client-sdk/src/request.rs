//! One request of the server's HTTP API, on the same way that streams take.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use taskwatch_protocol::ErrorCode;
use tokio::time::timeout;

use crate::dial::{Connection, DialError, Dialer, Refusal};
use crate::{Client, WatchError};

/// For a token and a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// For the whole answer. A server gives a change up earlier.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// A hundred of the largest tasks.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// Why a request has no answer, or was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The server, or something in between, answered with a status that is no success.
    #[error("the server refused: {detail} ({status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The word of the answer's problem document; `None` if it has none, and so is perhaps not
        /// the server's.
        code: Option<ErrorCode>,
        /// The answer's own words, for people.
        detail: String,
        /// How long the server wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// Nobody was reached, so nothing was sent: the request may be made again.
    #[error("{reason}")]
    Unreachable {
        /// What is in the way, for people.
        reason: String,
    },
    /// The connection broke, or the answer did not come within 30 s. Whether the server has done what was
    /// asked is not known: a change should be made again only with the `Idempotency-Key` that it had.
    #[error("there is no answer: {reason}")]
    Cut {
        /// What happened, for people.
        reason: String,
    },
    /// The answer is larger than 32 MiB.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// Bytes that are taken.
        limit: usize,
    },
    /// There is no token.
    #[error("there is no token: {reason}")]
    Token {
        /// The provider's own words.
        reason: String,
    },
    /// The server, or who answered in its place, has a certificate that is not trusted.
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
}

impl From<DialError> for RequestError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Failed(reason) => Self::Unreachable { reason },
            DialError::Refused(refusal) => refusal.into(),
            DialError::Final(WatchError::Token { reason }) => Self::Token { reason },
            DialError::Final(WatchError::Certificate { reason }) => Self::Certificate { reason },
            DialError::Final(WatchError::Proxy { proxy }) => Self::Proxy { proxy },
            DialError::Final(other) => Self::Unreachable { reason: other.to_string() },
        }
    }
}

impl From<Refusal> for RequestError {
    fn from(Refusal { status, code, detail, retry_after }: Refusal) -> Self {
        Self::Refused { status, code, detail, retry_after }
    }
}

impl Client {
    /// Makes one request of the server's HTTP API, such as one that lists or changes tasks.
    ///
    /// The address of the request is a path of the server with a query, such as
    /// `/api/v1/tasks?repository=foo`; the prefix of the client's address is put before it. It goes the way
    /// of the streams: through the proxy of the environment, with the trusted certificates, and with a
    /// token that is asked for now, once more if the server refuses it with 401. Each request has a
    /// connection of its own.
    ///
    /// ```no_run
    /// use taskwatch_client::{Bytes, Client, http::Request};
    ///
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let request = Request::post("/api/v1/tasks")
    ///     .header("Content-Type", "application/json")
    ///     .header("Idempotency-Key", "8f0e6d1c")
    ///     .body(Bytes::from(r#"{"repository":"foo","title":"Water the plants"}"#))?;
    /// let answer = client.request(request).await?;
    /// println!("{}", String::from_utf8_lossy(answer.body()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RequestError`] if there is no answer, or one whose status is neither a success nor 304. An answer
    /// has up to 32 MiB, and is waited for up to 30 s once there is a connection.
    pub async fn request(&self, request: Request<Bytes>) -> Result<Response<Bytes>, RequestError> {
        let dialer = &self.settings.dialer;
        match attempt(dialer, request.clone()).await {
            Err(RequestError::Refused { status: 401, .. }) if dialer.has_tokens() => {
                attempt(dialer, request).await
            }
            answer => answer,
        }
    }
}

async fn attempt(
    dialer: &Dialer,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, RequestError> {
    let prepared = async {
        let request = dialer.request_of(request).await?;
        Ok::<_, DialError>((dialer.open().await?, request))
    };
    let late = |_| DialError::Failed(format!("no connection within {CONNECT_LIMIT:?}"));
    let (connection, request) = timeout(CONNECT_LIMIT, prepared).await.map_err(late)??;
    let late = |_| RequestError::Cut { reason: format!("nothing came within {ANSWER_LIMIT:?}") };
    timeout(ANSWER_LIMIT, exchange(connection, request)).await.map_err(late)?
}

async fn exchange(
    mut connection: Connection,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, RequestError> {
    let cut = |reason: String| RequestError::Cut { reason };
    let response = connection.exchange(request).await.map_err(|it| cut(it.to_string()))?;
    if !response.status().is_success() && response.status() != StatusCode::NOT_MODIFIED {
        return Err(Refusal::of(response).await.into());
    }
    let (head, body) = response.into_parts();
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
        Err(problem) if problem.is::<LengthLimitError>() => {
            Err(RequestError::TooLarge { limit: MAX_ANSWER })
        }
        Err(problem) => Err(cut(problem.to_string())),
    }
}
