//! From an address to a connection, or to the reason why not.

mod http1;
mod proxy;
mod refusal;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "dial/no_tls.rs"]
mod tls;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use taskwatch_protocol::{PROTOCOL_VERSION, VERSION_HEADER};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tracing::debug;

pub(crate) use self::http1::{Connection, EVENTS, LINES};
pub(crate) use self::proxy::Proxy;
pub(crate) use self::refusal::Refusal;
pub(crate) use self::tls::Tls;
use crate::address::{Address, Host};
use crate::link::{Ahead, Io, Link, Requests, WebSocket};
use crate::token::Tokens;
use crate::transport::{Route, Transport};
use crate::{Token, TokenError, WatchError};

/// For one of several addresses of a name: one that swallows packets must not keep the others away.
const ADDRESS_LIMIT: Duration = Duration::from_secs(3);
/// For the answer to an upgrade where there is another way. A proxy that knows no WebSocket may wait for
/// more of the request for ever.
const UPGRADE_LIMIT: Duration = Duration::from_secs(5);
/// Four times the largest event a server makes.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Most of what an idle stream costs. What waits beyond it is read at once by [`Ahead`].
const READ_BUFFER: usize = 4 * 1024;
/// Subscriptions are all that is ever written; a frame of 128 longest names has 33 KiB.
const MAX_WRITE_BUFFER: usize = 512 * 1024;

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DialError {
    /// Nobody answered, or not in this protocol.
    Failed(String),
    /// Somebody answered, and it was not 101.
    Refused(Refusal),
    /// Another attempt would end in the same way.
    Final(WatchError),
}

impl From<TokenError> for DialError {
    fn from(problem: TokenError) -> Self {
        match problem {
            TokenError::Temporary(reason) => Self::Failed(format!("there is no token: {reason}")),
            TokenError::Final(reason) => Self::Final(WatchError::Token { reason }),
        }
    }
}

/// How connections to one server are made.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    /// That of the upgrade.
    address: Address,
    /// `Some` if the address is encrypted.
    tls: Option<Tls>,
    proxy: Option<Proxy>,
    tokens: Option<Tokens>,
    /// The largest message that is read.
    pub(crate) max_message: usize,
}

impl Dialer {
    pub(crate) fn new(
        address: Address,
        tls: Option<Tls>,
        proxy: Option<Proxy>,
        tokens: Option<Tokens>,
    ) -> Self {
        Self { address, tls, proxy, tokens, max_message: MAX_MESSAGE }
    }

    pub(crate) fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// A token for a connection that goes on.
    pub(crate) async fn token(&self) -> Result<Token, TokenError> {
        match &self.tokens {
            Some(tokens) => tokens.get().await,
            None => Err(TokenError::Final("there is nobody to ask for tokens".to_owned())),
        }
    }

    /// One attempt on this way, and the connection with the way that it took. The caller sets the
    /// deadline.
    pub(crate) async fn dial(&self, route: Route) -> Result<(Route, Link), DialError> {
        let route = match route.transport {
            Transport::WebSocket => match self.upgrade(&route).await? {
                Ok(socket) => return Ok((route, Link::WebSocket(Box::new(socket)))),
                Err(route) => route,
            },
            Transport::Sse | Transport::LongPoll => route,
        };
        let connection = self.open().await?;
        let requests = Requests::new(self.clone(), route.clone(), connection);
        Ok((route, Link::Http(Box::new(requests))))
    }

    /// An upgraded connection, or the way to take instead.
    async fn upgrade(&self, route: &Route) -> Result<Result<WebSocket, Route>, DialError> {
        let request = self.address.uri().into_client_request();
        let mut request = request.map_err(|problem| self.failed("ask", &problem))?;
        let headers = request.headers_mut();
        headers.insert(VERSION_HEADER, HeaderValue::from(PROTOCOL_VERSION));
        if let Some(tokens) = &self.tokens {
            headers.insert(AUTHORIZATION, tokens.get().await?.header());
        }
        let io = self.connect().await?;
        let upgrade = client_async_with_config(request, Ahead::new(io), Some(self.limits()));
        let limit = if route.has_fallback() { UPGRADE_LIMIT } else { Duration::MAX };
        // From here on it is not the network that fails, but who answers.
        let (blocked, error) = match timeout(limit, upgrade).await {
            Ok(Ok((socket, _))) => return Ok(Ok(WebSocket::new(socket))),
            Ok(Err(WsError::Http(response))) => {
                let refusal = Refusal::read(&response);
                (refusal.is_block().then(|| refusal.to_string()), DialError::Refused(refusal))
            }
            Ok(Err(problem)) => (Some(problem.to_string()), self.failed("talk to", &problem)),
            Err(_) => {
                let reason = format!("no answer within {UPGRADE_LIMIT:?}");
                (Some(reason.clone()), DialError::Failed(reason))
            }
        };
        match blocked.and_then(|why| route.blocked(&why)) {
            Some(route) => {
                debug!(reason = route.reason, "another way");
                Ok(Err(route))
            }
            None => Err(error),
        }
    }

    fn failed(&self, step: &str, problem: &dyn fmt::Display) -> DialError {
        DialError::Failed(format!("cannot {step} {}: {problem}", self.address.authority()))
    }

    /// tungstenite's own limits are 64 MiB for a message and none for what waits to be written.
    fn limits(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_WRITE_BUFFER.max(self.max_message + READ_BUFFER))
            .max_message_size(Some(self.max_message))
            .max_frame_size(Some(self.max_message))
            .accept_unmasked_frames(false)
    }

    async fn connect(&self) -> Result<Box<dyn Io>, DialError> {
        let failed = |problem: &dyn fmt::Display| self.failed("connect to", problem);
        let (host, port) = (self.address.host(), self.address.port());
        let io: Box<dyn Io> = match &self.proxy {
            Some(proxy) => proxy.connect(host, port).await?,
            None => Box::new(connect(host, port).await.map_err(|it| failed(&it))?),
        };
        let Some(tls) = &self.tls else { return Ok(io) };
        match tls.handshake(host, io).await {
            Ok(stream) => Ok(stream),
            Err(problem) => Err(match tls::certificate_fault(&problem) {
                Some(reason) => DialError::Final(WatchError::Certificate { reason }),
                None => failed(&problem),
            }),
        }
    }
}

/// Connects to the first address of a host that answers.
async fn connect(host: &Host, port: u16) -> std::io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match host {
        Host::Name(name) => lookup_host((name.as_str(), port)).await?.collect(),
        Host::Ip(ip) => vec![(*ip, port).into()],
    };
    let limit = if addresses.len() > 1 { ADDRESS_LIMIT } else { Duration::MAX };
    let mut last = std::io::Error::other("the name has no address");
    for address in addresses {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Ok(Err(problem)) => last = problem,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
