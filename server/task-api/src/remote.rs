//! A server that runs, spoken to over HTTP by the other commands of `taskwatchd`.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderValue;
use clap::Args;
use reqwest::{Certificate, Client, ClientBuilder, redirect};
use url::Url;

const TOKEN_VARIABLE: &str = "TASKWATCH_TOKEN";

/// Which server, and how it is spoken to.
#[derive(Clone, Debug, Args)]
pub struct Remote {
    /// The task server
    #[arg(
        long,
        env = "TASKWATCH_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8787"
    )]
    pub url: String,

    /// A file with the token to show; it is read for each request, so it may be replaced [default: what
    /// the variable TASKWATCH_TOKEN holds]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Trust the certificates in this PEM file as well as those of the system
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
}

/// Why no server can be spoken to with these settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// There can be no server at this URL.
    #[error("--url: {0}")]
    Url(String),
    /// The variable holds what no header can hold.
    #[error("TASKWATCH_TOKEN is not a token: it has characters that a token cannot have")]
    Token,
    /// A file cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be used: {0}")]
    Tls(String),
}

/// Where the token of a request comes from.
#[derive(Debug)]
pub(crate) enum TokenSource {
    None,
    Variable(HeaderValue),
    File(PathBuf),
}

impl Remote {
    /// A client that is given so long for a connection, and then to be told something.
    pub(crate) fn client(
        &self,
        connect: Duration,
        silence: Duration,
    ) -> Result<Client, RemoteError> {
        // This process does nothing else with TLS. Another one may be the default already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(connect)
            .read_timeout(silence)
            .redirect(redirect::Policy::none())
            // A connection for each request: one that was kept may be gone when it is used, and then
            // nobody knows whether the request arrived.
            .pool_max_idle_per_host(0);
        let client = self.trusting(client)?.build();
        client.map_err(|problem| RemoteError::Tls(chain(&problem)))
    }

    fn trusting(&self, client: ClientBuilder) -> Result<ClientBuilder, RemoteError> {
        let Some(path) = &self.cacert else { return Ok(client) };
        let fault = |reason: String| RemoteError::File { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|problem| fault(problem.to_string()))?;
        let roots =
            Certificate::from_pem_bundle(&pem).map_err(|problem| fault(problem.to_string()))?;
        if roots.is_empty() {
            return Err(fault("it holds no certificate in PEM".to_owned()));
        }
        Ok(client.tls_certs_merge(roots))
    }

    /// The address of the server.
    pub(crate) fn base(&self) -> Result<Url, RemoteError> {
        let problem = |problem: url::ParseError| RemoteError::Url(problem.to_string());
        let mut base = Url::parse(&self.url).map_err(problem)?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(RemoteError::Url("it begins with http:// or https://".to_owned()));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(RemoteError::Url("a token is given with --token-file".to_owned()));
        }
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        Ok(base)
    }

    /// Where something of the server is, by its path without a slash in front.
    pub(crate) fn at(&self, path: &str) -> Result<Url, RemoteError> {
        let mut url = self.base()?;
        let path = format!("{}/{path}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(url)
    }

    /// The token, which is there now.
    pub(crate) fn token(&self) -> Result<TokenSource, RemoteError> {
        if let Some(path) = self.token_file.clone() {
            let source = TokenSource::File(path.clone());
            // One that is not there is a mistake in the settings.
            source.header().map_err(|reason| RemoteError::File { path, reason })?;
            return Ok(source);
        }
        match std::env::var_os(TOKEN_VARIABLE).filter(|token| !token.is_empty()) {
            None => Ok(TokenSource::None),
            Some(token) => {
                let token = token.to_str().and_then(bearer).ok_or(RemoteError::Token)?;
                Ok(TokenSource::Variable(token))
            }
        }
    }
}

impl TokenSource {
    /// What a request brings; why not, if it cannot be had.
    pub(crate) fn header(&self) -> Result<Option<HeaderValue>, String> {
        match self {
            Self::None => Ok(None),
            Self::Variable(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let token = std::fs::read_to_string(path).map_err(|problem| problem.to_string())?;
                bearer(&token).map(Some).ok_or_else(|| "it holds no token".to_owned())
            }
        }
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let token = token.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return None;
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What an error says, and what is behind it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: &str) -> Remote {
        Remote { url: url.to_owned(), token_file: None, cacert: None }
    }

    #[test]
    fn a_path_stands_behind_that_of_the_server() {
        for (url, expected) in [
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787/api"),
            ("http://127.0.0.1:8787/", "http://127.0.0.1:8787/api"),
            ("https://example.com/tasks/?a#b", "https://example.com/tasks/api"),
        ] {
            assert_eq!(remote(url).at("api").unwrap().as_str(), expected);
        }
        for url in ["127.0.0.1:8787", "ws://a", "http://me:secret@a", ""] {
            assert!(remote(url).base().is_err(), "{url}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_hidden() {
        assert_eq!(format!("{:?}", bearer("abc\n").unwrap()), "Sensitive");
        assert!(bearer("").is_none() && bearer("two words").is_none());
    }
}
