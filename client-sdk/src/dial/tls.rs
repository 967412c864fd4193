//! Who is trusted, and what is wrong with who is not.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;

use crate::BuildError;
use crate::address::Host;
use crate::link::Io;

/// How encrypted connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the roots of the machine, and those in the PEM file.
    pub(crate) fn new(cacert: Option<&Path>) -> Result<Self, BuildError> {
        Ok(Self(Arc::new(config(cacert)?)))
    }

    pub(super) async fn handshake(&self, host: &Host, io: Box<dyn Io>) -> io::Result<Box<dyn Io>> {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
            Host::Ip(ip) => (*ip).into(),
        };
        Ok(Box::new(TlsConnector::from(Arc::clone(&self.0)).connect(name, io).await?))
    }
}

fn config(cacert: Option<&Path>) -> Result<ClientConfig, BuildError> {
    let tls = |problem: rustls::Error| BuildError::Tls { reason: problem.to_string() };
    // One provider, named: with two in a program, rustls' own choice of a default panics.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = cacert.map(roots).transpose()?.unwrap_or_default();
    let verifier: Arc<dyn ServerCertVerifier> = match cacert {
        None => Arc::new(Verifier::new(Arc::clone(&provider)).map_err(tls)?),
        Some(path) => Arc::new(
            Verifier::new_with_extra_roots(roots, Arc::clone(&provider))
                .map_err(|problem| cacert_fault(path, problem.to_string()))?,
        ),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // Otherwise a proxy may choose HTTP/2, which this upgrade is not made of.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, BuildError> {
    let fault = |reason: String| cacert_fault(path, reason);
    // Not by rustls: it has no words for a file that is not there.
    let pem = std::fs::read(path).map_err(|problem| fault(problem.to_string()))?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let roots = roots.map_err(|problem| fault(problem.to_string()))?;
    if roots.is_empty() {
        return Err(fault("it holds no certificate in PEM".to_owned()));
    }
    Ok(roots)
}

fn cacert_fault(path: &Path, reason: String) -> BuildError {
    BuildError::Cacert { path: path.to_owned(), reason }
}

/// What is wrong with the certificate that the peer has shown; `None` if the handshake failed for
/// another reason, which may pass.
pub(super) fn certificate_fault(problem: &io::Error) -> Option<String> {
    let problem = problem.get_ref()?.downcast_ref()?;
    let rustls::Error::InvalidCertificate(fault) = problem else { return None };
    Some(match fault {
        // The signature does not fit if somebody who is trusted has the same name and another key.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "nobody who is trusted has issued it".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; is the clock right?".to_owned()
        }
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let [expected, presented] = [expected.to_str().into_owned(), presented.join(", ")];
            format!("it is not for {expected}, but for {presented}")
        }
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_roots_that_is_none_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str, content: Option<&str>| {
            let path = folder.path().join(name);
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = config(Some(&path)).unwrap_err();
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            error.to_string()
        };
        refused("absent", None);
        assert!(refused("empty", Some("")).contains("no certificate"));
        assert!(refused("text", Some("not PEM at all\n")).contains("no certificate"));
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        refused("cut", Some(cut));
        refused("garbage", Some(&format!("{cut}-----END CERTIFICATE-----\n")));
    }

    #[test]
    fn only_certificates_are_final() {
        let error = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(certificate_fault(&error(unknown)).is_some());
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
        assert_eq!(certificate_fault(&error(alert)), None);
        assert_eq!(certificate_fault(&io::ErrorKind::UnexpectedEof.into()), None);
    }

    #[test]
    fn the_upgrade_is_made_of_http_1() {
        assert_eq!(config(None).unwrap().alpn_protocols, [b"http/1.1"]);
    }
}
