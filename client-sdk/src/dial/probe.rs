//! The steps of a connection one by one, for who wants to know which of them fails.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{DialError, Dialer, Tls, connect, look_up, tls};
use crate::address::Host;
use crate::link::Io;

/// How long somebody may take to say something in plain text.
const WORD_LIMIT: Duration = Duration::from_secs(3);

/// Why there is no encrypted connection.
pub(crate) enum TlsFault {
    /// What is wrong with the certificate.
    Certificate(String),
    /// The port speaks HTTP in plain text.
    Plain,
    /// Anything else.
    Other(String),
}

impl Dialer {
    /// The proxy in between, without user and password.
    pub(crate) fn proxy(&self) -> Option<String> {
        self.proxy.as_ref().map(ToString::to_string)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Whom this machine itself has to reach: the proxy, or the server if there is none.
    pub(crate) fn nearest(&self) -> (&Host, u16) {
        let address = self.proxy.as_ref().map_or(&self.address, |proxy| proxy.address());
        (address.host(), address.port())
    }

    /// The addresses of who has to be reached.
    pub(crate) async fn look_up(&self) -> io::Result<Vec<IpAddr>> {
        let (host, port) = self.nearest();
        let addresses = look_up(host, port).await?;
        match addresses[..] {
            [] => Err(io::Error::other("the name has no address")),
            _ => Ok(addresses.iter().map(|address| address.ip()).collect()),
        }
    }

    /// The address that was reached.
    pub(crate) async fn reach(&self) -> io::Result<String> {
        let (host, port) = self.nearest();
        Ok(connect(host, port).await?.peer_addr()?.to_string())
    }

    /// A connection to the server, through the proxy if there is one, on which nothing was said.
    pub(crate) async fn tunnel(&self) -> Result<Box<dyn Io>, DialError> {
        let (host, port) = (self.address.host(), self.address.port());
        match &self.proxy {
            Some(proxy) => proxy.connect(host, port).await,
            None => {
                let tcp = connect(host, port).await;
                Ok(Box::new(tcp.map_err(|problem| self.failed("connect to", &problem))?))
            }
        }
    }

    /// The version of TLS that the server speaks, and when its certificate runs out, in seconds since 1970.
    pub(crate) async fn handshake(
        &self,
        io: Box<dyn Io>,
    ) -> Result<(String, Option<u64>), TlsFault> {
        let Some(tls) = &self.tls else { return Err(TlsFault::Other("it is not used".into())) };
        match tls.look(self.address.host(), io).await {
            Ok(seen) => Ok(seen),
            Err(problem) => Err(match tls::certificate_fault(&problem) {
                Some(reason) => TlsFault::Certificate(reason),
                None if self.speaks_plainly().await => TlsFault::Plain,
                None => TlsFault::Other(problem.to_string()),
            }),
        }
    }

    /// Whether the server understands HTTP in plain text.
    async fn speaks_plainly(&self) -> bool {
        let ask = async {
            let mut io = self.tunnel().await.ok()?;
            io.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
            let mut word = [0; 5];
            io.read_exact(&mut word).await.ok()?;
            Some(word == *b"HTTP/")
        };
        timeout(WORD_LIMIT, ask).await.ok().flatten().unwrap_or(false)
    }

    /// Whether the server wants to speak TLS, whoever it says it is.
    pub(crate) async fn wants_tls(&self) -> bool {
        let ask = async {
            let tls = Tls::new(None).ok()?;
            let io = self.tunnel().await.ok()?;
            match tls.look(self.address.host(), io).await {
                Ok(_) => Some(true),
                Err(problem) => Some(tls::certificate_fault(&problem).is_some()),
            }
        };
        timeout(WORD_LIMIT, ask).await.ok().flatten().unwrap_or(false)
    }
}
