//! Whether the server speaks TLS itself.

use std::path::PathBuf;

use clap::Args;
use taskwatch_server::FileError;

use super::InvalidSettings;
use crate::listener::Tls;

/// TLS by the server itself.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsSettings {
    /// File with the certificate and its chain, in PEM. Read again when it changes
    #[arg(long, env = "TASKWATCH_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// File with the certificate's key, in PEM
    #[arg(long, env = "TASKWATCH_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

impl TlsSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSettings> {
        let is_whole = self.tls_cert.is_some() == self.tls_key.is_some();
        if is_whole { Ok(()) } else { Err(InvalidSettings::HalfTls) }
    }

    /// Reads the files, if there are any.
    pub(crate) fn open(&self) -> Result<Option<Tls>, FileError> {
        let pair = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        pair.map(|(certificate, key)| Tls::open(certificate, key)).transpose()
    }
}
