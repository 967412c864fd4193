//! The HTTP proxy of the environment: a tunnel to the server through it, made by CONNECT.

use std::fmt;
use std::io;

use http::{HeaderValue, StatusCode};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{DialError, Tls, connect, tls};
use crate::address::{Address, Host};
use crate::link::Io;
use crate::{BuildError, WatchError};

/// Bytes of the head of an answer.
const MAX_HEAD: usize = 8 * 1024;

/// The proxy for one server.
#[derive(Clone)]
pub(crate) struct Proxy {
    address: Address,
    /// `Some` if the proxy itself is spoken to over TLS.
    tls: Option<Tls>,
    /// User and password, as the header has them.
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// What the environment says for this server: `ws` goes where `http` would, `wss` where `https`
    /// would. As with curl, an address of this machine is no exception unless `NO_PROXY` names it.
    pub(crate) fn of(
        server: &Address,
        matcher: &Matcher,
        tls: impl FnOnce() -> Result<Tls, BuildError>,
    ) -> Result<Option<Self>, BuildError> {
        let scheme = if server.is_encrypted() { "https" } else { "http" };
        let Ok(target) = format!("{scheme}://{}/", server.authority()).parse() else {
            return Ok(None);
        };
        let Some(intercept) = matcher.intercept(&target) else { return Ok(None) };
        // Without user and password: they are apart.
        let uri = intercept.uri();
        let fault = |reason: String| {
            let proxy = uri.to_string().trim_end_matches('/').to_owned();
            BuildError::Proxy { proxy, reason }
        };
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(fault("only http and https proxies are known here".to_owned()));
        }
        let address = Address::of(uri.clone()).map_err(fault)?;
        let tls = address.is_encrypted().then(tls).transpose()?;
        Ok(Some(Self { address, tls, authorization: intercept.basic_auth().cloned() }))
    }

    /// A tunnel to a server.
    pub(super) async fn connect(&self, host: &Host, port: u16) -> Result<Box<dyn Io>, DialError> {
        let mut io = self.reach().await.map_err(|problem| self.unreachable(&problem))?;
        let target = format!("{host}:{port}");
        let failed = |problem: &dyn fmt::Display| {
            DialError::Failed(format!("the proxy {self} gives no way to {target}: {problem}"))
        };
        match self.ask(&mut io, &target).await.map_err(|problem| failed(&problem))? {
            status if status.is_success() => Ok(io),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(DialError::Final(WatchError::Proxy { proxy: self.to_string() }))
            }
            status => Err(failed(&format!("it answered {status}"))),
        }
    }

    /// Connects to the proxy itself.
    async fn reach(&self) -> io::Result<Box<dyn Io>> {
        let host = self.address.host();
        let tcp = Box::new(connect(host, self.address.port()).await?);
        match &self.tls {
            Some(tls) => tls.handshake(host, tcp).await,
            None => Ok(tcp),
        }
    }

    fn unreachable(&self, problem: &io::Error) -> DialError {
        match tls::certificate_fault(problem) {
            Some(reason) => {
                let reason = format!("that of the proxy {self}: {reason}");
                DialError::Final(WatchError::Certificate { reason })
            }
            None => DialError::Failed(format!("cannot connect to the proxy {self}: {problem}")),
        }
    }

    /// Asks for a tunnel, and takes exactly the head of the answer.
    async fn ask(&self, io: &mut Box<dyn Io>, target: &str) -> io::Result<StatusCode> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend(b"Proxy-Authorization: ");
            request.extend(authorization.as_bytes());
            request.extend(b"\r\n");
        }
        request.extend(b"\r\n");
        io.write_all(&request).await?;
        io.flush().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == MAX_HEAD {
                return Err(io::Error::other("its answer has no end"));
            }
            // Byte by byte: what follows the head is not the proxy's.
            head.push(io.read_u8().await?);
        }
        status(&head).ok_or_else(|| io::Error::other("its answer is not HTTP"))
    }
}

/// The status in the first line of an answer.
fn status(head: &[u8]) -> Option<StatusCode> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let [b'0' | b'1', b' ', status @ ..] = rest else { return None };
    StatusCode::from_bytes(status.get(..3)?).ok()
}

/// Its address, without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.address.host(), self.address.port())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Address {
        Address::of(url.parse().unwrap()).unwrap()
    }

    fn proxy(url: &str, matcher: Matcher) -> Result<Option<String>, BuildError> {
        let proxy = Proxy::of(&server(url), &matcher, || Tls::new(None))?;
        Ok(proxy.map(|proxy| proxy.to_string()))
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_tls_an_encrypted_proxy_is_refused() {
        let matcher = Matcher::builder().all("https://tls").build();
        assert_eq!(proxy("ws://tasks.example", matcher), Err(BuildError::NoTls));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn ws_goes_where_http_goes_and_wss_where_https_goes() {
        let matcher = || {
            Matcher::builder()
                .http("http://ana:s3cret@plain:3128")
                .https("https://tls")
                .no("127.0.0.1, .intern")
                .build()
        };
        for (url, expected) in [
            ("ws://tasks.example/ws", Some("http://plain:3128")),
            ("wss://tasks.example/ws", Some("https://tls:443")),
            ("ws://localhost:8787/ws", Some("http://plain:3128")),
            ("ws://[::1]:8787/ws", Some("http://plain:3128")),
            ("ws://127.0.0.1:8787/ws", None),
            ("wss://tasks.intern/ws", None),
        ] {
            assert_eq!(proxy(url, matcher()).unwrap().as_deref(), expected, "{url}");
        }
        assert_eq!(proxy("ws://tasks.example", Matcher::builder().build()), Ok(None));
    }

    #[test]
    fn a_password_is_in_no_text() {
        let server = server("ws://tasks.example/ws");
        let matcher = Matcher::builder().all("http://ana:s3cret@plain").build();
        let proxy = Proxy::of(&server, &matcher, || Tls::new(None)).unwrap().unwrap();
        assert_eq!(format!("{proxy} {proxy:?}"), "http://plain:80 Proxy(http://plain:80)");
        let matcher = Matcher::builder().all("socks5://ana:s3cret@plain:1080").build();
        let error = Proxy::of(&server, &matcher, || Tls::new(None)).unwrap_err().to_string();
        assert!(error.contains("socks5://plain:1080") && !error.contains("s3cret"), "{error}");
    }
}
