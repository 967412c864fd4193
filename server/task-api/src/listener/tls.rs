//! TLS around a connection, with a certificate that can be replaced while the server runs.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum_server::accept::Accept;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};
use taskwatch_server::{FileError, Reloading};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Arrival, Held};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that wait encrypted for a slow peer, over those that wait for it in any case.
const BUFFER: usize = 16 << 10;

/// Accepts TLS connections, for HTTP/1.1 alone.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the certificate and its key, now and whenever their files change. A pair that does not
    /// fit, such as a new certificate whose key has not come yet, changes nothing.
    pub(crate) fn open(certificate: &Path, key: &Path) -> Result<Self, FileError> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let (cert_path, key_path) = (certificate.to_owned(), key.to_owned());
        let named = (certificate.to_owned(), key.to_owned());
        let pair = {
            let provider = provider.clone();
            Reloading::open([cert_path, key_path], move |files| {
                Pair::parse((&named.0, &files[0]), (&named.1, &files[1]), &provider)
            })?
        };
        let unusable = |error: rustls::Error| FileError::new(certificate, error.to_string());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Current(pair)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

/// A certificate with its chain, and its key.
struct Pair(Arc<CertifiedKey>);

/// One certificate has one key.
impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Pair {
    fn parse(
        (cert_path, cert): (&Path, &[u8]),
        (key_path, key): (&Path, &[u8]),
        provider: &CryptoProvider,
    ) -> Result<Self, FileError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
        let chain = chain.map_err(|error| FileError::new(cert_path, format!("no PEM: {error}")))?;
        if chain.is_empty() {
            return Err(FileError::new(cert_path, "has no certificate in PEM"));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            FileError::new(key_path, format!("has no private key in PEM: {error}"))
        })?;
        let pair = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
            let reason = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("is not the key of the certificate in {}", cert_path.display())
                }
                other => format!("cannot be used with {}: {other}", cert_path.display()),
            };
            FileError::new(key_path, reason)
        })?;
        Ok(Self(Arc::new(pair)))
    }
}

/// Shows everybody the certificate that is in force now.
struct Current(Arc<Reloading<Pair>>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current().0.clone())
    }
}

impl<S: Send + 'static> Accept<Arrival, S> for Tls {
    type Stream = TlsStream<TcpStream>;
    type Service = Held<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Held<S>)>> + Send>>;

    fn accept(&self, (stream, place): Arrival, service: S) -> Self::Future {
        let handshake = self
            .acceptor
            .accept_with(stream, |connection| connection.set_buffer_limit(Some(BUFFER)));
        Box::pin(async move {
            let stream = timeout(HANDSHAKE_TIMEOUT, handshake).await??;
            Ok((stream, Held { service, place: Arc::new(place) }))
        })
    }
}
