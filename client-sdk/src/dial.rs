//! From an address to an upgraded connection, or to the reason why not.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use serde::Deserialize;
use taskwatch_protocol::{ErrorCode, PROTOCOL_VERSION, VERSION_HEADER};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::{Host, Url};

use crate::link::{Io, Link};

/// For one of the addresses of a name: one that swallows packets must not keep the others away.
const ADDRESS_LIMIT: Duration = Duration::from_secs(3);
/// Four times the largest event a server makes.
const MAX_MESSAGE: usize = 1024 * 1024;
const READ_BUFFER: usize = 16 * 1024;
/// Subscriptions are all that is ever written; a frame of 128 longest names has 33 KiB.
const MAX_WRITE_BUFFER: usize = 512 * 1024;

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DialError {
    /// Nobody answered, or not in this protocol.
    Failed(String),
    /// Somebody answered, and it was not 101.
    Refused(Refusal),
}

/// The answer of a server, or of something in between, that did not upgrade.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The word of its problem document.
    pub(crate) code: Option<ErrorCode>,
    /// For people.
    pub(crate) detail: String,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// Whether the same request would be refused again. Only our own server can say so: a proxy
    /// answers 404 while what is behind it restarts, and one that removes `Upgrade` makes our own
    /// server say `upgrade_required`.
    pub(crate) fn is_final(&self) -> bool {
        let is_ours = self.code.as_ref().is_some_and(|code| {
            code.is_known() && !code.is_retryable() && *code != ErrorCode::UpgradeRequired
        });
        is_ours || self.status == StatusCode::UNAUTHORIZED
    }

    fn read(response: &Response<Option<Vec<u8>>>) -> Self {
        /// A problem document, as far as it matters here.
        #[derive(Default, Deserialize)]
        struct Problem {
            code: Option<ErrorCode>,
            title: Option<String>,
            detail: Option<String>,
        }
        let status = response.status();
        let headers = response.headers();
        let body = response.body().as_deref().unwrap_or_default();
        let problem: Problem = if is_problem(headers) {
            serde_json::from_slice(body).unwrap_or_default()
        } else {
            Problem::default()
        };
        let said = problem.detail.or(problem.title);
        let detail = said.or_else(|| status.canonical_reason().map(str::to_owned));
        Self {
            status: status.as_u16(),
            code: problem.code,
            detail: detail.unwrap_or_else(|| "no reason given".to_owned()),
            retry_after: retry_after(headers),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}: {}", self.status, self.detail)
    }
}

fn is_problem(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next());
    media_type.is_some_and(|text| text.trim().eq_ignore_ascii_case("application/problem+json"))
}

/// Seconds; the other form of the header, a date, would need a clock that agrees with the server's.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// How connections to one server are made.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    /// `ws` or `wss`, with the path of the upgrade.
    url: Url,
    tls: Option<Arc<ClientConfig>>,
    /// The largest message that is read.
    pub(crate) max_message: usize,
}

impl Dialer {
    /// Loads the trusted roots of the machine if `url` is encrypted.
    pub(crate) fn new(url: Url) -> Result<Self, rustls::Error> {
        let tls = (url.scheme() == "wss").then(tls_config).transpose()?;
        Ok(Self { url, tls, max_message: MAX_MESSAGE })
    }

    /// One attempt. The caller sets the deadline.
    pub(crate) async fn dial(&self) -> Result<Link, DialError> {
        let failed = |step: &str, problem: &dyn fmt::Display| {
            DialError::Failed(format!("{step} {}: {problem}", self.url.authority()))
        };
        let io = self.connect().await.map_err(|problem| failed("cannot connect to", &problem))?;
        let mut request = self
            .url
            .as_str()
            .into_client_request()
            .map_err(|problem| failed("cannot ask", &problem))?;
        request.headers_mut().insert(VERSION_HEADER, HeaderValue::from(PROTOCOL_VERSION));
        match client_async_with_config(request, io, Some(self.limits())).await {
            Ok((socket, _)) => Ok(Link::new(socket)),
            Err(WsError::Http(response)) => Err(DialError::Refused(Refusal::read(&response))),
            Err(problem) => Err(failed("cannot talk to", &problem)),
        }
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

    async fn connect(&self) -> std::io::Result<Box<dyn Io>> {
        let port = self.url.port_or_known_default().unwrap_or(80);
        let (tcp, name) = match self.url.host() {
            Some(Host::Domain(name)) => {
                let tcp = connect_any(lookup_host((name, port)).await?).await?;
                (tcp, ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?)
            }
            Some(Host::Ipv4(ip)) => (
                TcpStream::connect((ip, port)).await?,
                ServerName::from(std::net::IpAddr::from(ip)),
            ),
            Some(Host::Ipv6(ip)) => (
                TcpStream::connect((ip, port)).await?,
                ServerName::from(std::net::IpAddr::from(ip)),
            ),
            None => return Err(std::io::Error::other("the address names no host")),
        };
        tcp.set_nodelay(true)?;
        match &self.tls {
            Some(config) => {
                let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?;
                Ok(Box::new(stream))
            }
            None => Ok(Box::new(tcp)),
        }
    }
}

/// One provider, named: with two in a program, rustls' own choice of a default panics.
fn tls_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    // Otherwise a proxy may choose HTTP/2, which this upgrade is not made of.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Connects to the first address that answers.
async fn connect_any(addresses: impl Iterator<Item = SocketAddr>) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("the name has no address");
    for address in addresses {
        match timeout(ADDRESS_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(problem)) => last = problem,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, media_type: &str, body: &str) -> Refusal {
        let response = Response::builder()
            .status(status)
            .header(CONTENT_TYPE, media_type)
            .header(RETRY_AFTER, "7")
            .body(Some(body.as_bytes().to_vec()));
        Refusal::read(&response.unwrap())
    }

    #[test]
    fn only_our_own_words_are_final() {
        let problem = "application/problem+json; charset=utf-8";
        let ours = refusal(
            400,
            problem,
            r#"{"code":"version_missing","detail":"Missing X-Version header"}"#,
        );
        assert!(ours.is_final());
        assert_eq!(ours.detail, "Missing X-Version header");
        assert!(refusal(401, "text/html", "<h1>no</h1>").is_final());
        for survivable in [
            refusal(404, "text/html", "<h1>default backend</h1>"),
            refusal(404, "application/json", r#"{"code":"not_found"}"#),
            refusal(404, problem, r#"{"code":"from_the_future"}"#),
            refusal(404, problem, r#"{"code":"not_fo"#),
            refusal(426, problem, r#"{"code":"upgrade_required"}"#),
            refusal(503, problem, r#"{"code":"unavailable"}"#),
            refusal(429, problem, r#"{"code":"rate_limited"}"#),
            refusal(502, problem, ""),
        ] {
            assert!(!survivable.is_final(), "{survivable}");
            assert_eq!(survivable.retry_after, Some(Duration::from_secs(7)));
        }
    }

    #[test]
    fn an_answer_without_words_is_still_told() {
        assert_eq!(
            refusal(502, "text/plain", "").to_string(),
            "the server answered 502: Bad Gateway"
        );
        assert_eq!(refusal(599, "text/plain", "").detail, "no reason given");
    }

    #[test]
    fn roots_are_loaded_for_encrypted_addresses_only() {
        let dialer = |url: &str| Dialer::new(url.parse().unwrap()).unwrap();
        assert!(dialer("ws://localhost/ws").tls.is_none());
        let tls = dialer("wss://localhost/ws").tls.unwrap();
        assert_eq!(tls.alpn_protocols, [b"http/1.1"]);
    }
}
