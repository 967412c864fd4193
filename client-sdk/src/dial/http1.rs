//! Requests over plain HTTP.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use taskwatch_protocol::{PROTOCOL_VERSION, VERSION_HEADER};
use tokio::task::JoinHandle;

use super::{DialError, Dialer};
use crate::transport::Transport;

/// What a stream of events is, and what one frame in each line.
pub(crate) const EVENTS: &str = "text/event-stream";
pub(crate) const LINES: &str = "application/jsonl";
/// Beside the path of the upgrade, below the same prefix.
const EVENTS_PATH: &str = "/api/v1/events";
const CHANGES_PATH: &str = "/api/v1/changes";
/// Read ahead of who takes the body, at most.
const READ_BUFFER: usize = 64 * 1024;

/// A connection for one request after the other.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    was_used: bool,
}

impl Connection {
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.was_used = true;
        self.sender.send_request(request).await
    }

    /// Whether the peer may have closed it since the last answer.
    pub(crate) fn was_used(&self) -> bool {
        self.was_used
    }
}

impl Drop for Connection {
    /// An answer that is not wanted any more is not read to its end.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Dialer {
    /// A connection for requests over plain HTTP.
    pub(crate) async fn open(&self) -> Result<Connection, DialError> {
        let io = TokioIo::new(self.connect().await?);
        let handshake = Builder::new().max_buf_size(READ_BUFFER).handshake(io).await;
        let (sender, connection) = handshake.map_err(|it| self.failed("talk to", &it))?;
        // Its end is told to who waits for an answer.
        let driver = tokio::spawn(async { drop(connection.await) });
        Ok(Connection { sender, driver, was_used: false })
    }

    /// A request for events, with a token that is asked for now.
    pub(crate) async fn request(
        &self,
        transport: Transport,
        query: &str,
    ) -> Result<Request<Full<Bytes>>, DialError> {
        let (path, accept) = match transport {
            Transport::Sse => (EVENTS_PATH, EVENTS),
            _ => (CHANGES_PATH, LINES),
        };
        let request = Request::get(self.path(&format!("{path}?{query}")))
            .header(ACCEPT, accept)
            // Compressed, it would come when a block is full.
            .header(ACCEPT_ENCODING, "identity")
            .header(CACHE_CONTROL, "no-store")
            .body(Full::default());
        self.addressed(request.map_err(|problem| self.failed("ask", &problem))?).await
    }

    /// Any request whose address is a path of the server, with a token that is asked for now.
    pub(crate) async fn request_of(
        &self,
        request: Request<Bytes>,
    ) -> Result<Request<Full<Bytes>>, DialError> {
        let mut request = request.map(Full::new);
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        *request.uri_mut() =
            self.path(path).parse().map_err(|problem| self.failed("ask", &problem))?;
        self.addressed(request).await
    }

    /// A path of the server is below the same prefix as that of the upgrade.
    fn path(&self, path: &str) -> String {
        let path_of_hub = self.address.path();
        let prefix = path_of_hub.strip_suffix("/ws").unwrap_or(path_of_hub);
        format!("{prefix}{path}")
    }

    /// Says to whom the request goes, and who asks.
    async fn addressed(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Request<Full<Bytes>>, DialError> {
        let host = HeaderValue::from_str(self.address.authority())
            .map_err(|problem| self.failed("ask", &problem))?;
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        headers.insert(VERSION_HEADER, HeaderValue::from(PROTOCOL_VERSION));
        if let Some(tokens) = &self.tokens {
            headers.insert(AUTHORIZATION, tokens.get().await?.header());
        }
        Ok(request)
    }
}
