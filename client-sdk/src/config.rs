//! Where to connect, and how hard to try.

use std::time::Duration;

use taskwatch_protocol::{InvalidName, Pattern};
use url::Url;

use crate::EventStream;

/// Watches the tasks of one server. A clone is cheap.
#[derive(Clone, Debug)]
pub struct Client {
    settings: Settings,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) url: Url,
    pub(crate) backoff_initial: Duration,
    pub(crate) backoff_cap: Duration,
    pub(crate) max_elapsed: Option<Duration>,
}

/// Settings of a [`Client`]; see [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    url: String,
    backoff_initial: Duration,
    backoff_cap: Duration,
    max_elapsed: Option<Duration>,
}

/// The address or another setting of a client makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Not a URL at all.
    #[error("{url:?} is not a URL: {reason}")]
    Malformed {
        /// The text that was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A URL of something else.
    #[error("{url:?} must start with http://, https://, ws:// or wss://")]
    Scheme {
        /// The text that was given.
        url: String,
    },
}

impl Client {
    /// Begins with the address of the server: `http`, `https`, `ws` or `wss`. A path is kept as a
    /// prefix, and `/ws` is appended unless it is there.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            url: url.into(),
            backoff_initial: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(30),
            max_elapsed: None,
        }
    }

    /// Watches repositories: names, prefixes such as `github.com/acme/*`, or `*`.
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is neither a name nor a pattern.
    pub fn subscribe<I>(&self, repositories: I) -> Result<EventStream, InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let patterns = patterns(repositories)?;
        Ok(EventStream::new(self.settings.clone(), patterns))
    }
}

pub(crate) fn patterns<I>(repositories: I) -> Result<Vec<Pattern>, InvalidName>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    repositories.into_iter().map(|name| name.as_ref().parse()).collect()
}

impl ClientBuilder {
    /// The ceiling of the first wait; each following one doubles it. Default 0.5 s.
    pub fn backoff_initial(mut self, initial: Duration) -> Self {
        self.backoff_initial = initial;
        self
    }

    /// The highest ceiling of a wait. Default 30 s.
    pub fn backoff_cap(mut self, cap: Duration) -> Self {
        self.backoff_cap = cap;
        self
    }

    /// How long the server may be out of reach before the stream ends with
    /// [`WatchError::Unreachable`](crate::WatchError::Unreachable). Default `None`: for ever.
    pub fn max_elapsed(mut self, limit: Option<Duration>) -> Self {
        self.max_elapsed = limit;
        self
    }

    /// Checks the settings. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`BuildError`] if the address is not one of a server.
    pub fn build(self) -> Result<Client, BuildError> {
        let url = Url::parse(&self.url).map_err(|problem| BuildError::Malformed {
            url: self.url.clone(),
            reason: problem.to_string(),
        })?;
        let settings = Settings {
            url,
            backoff_initial: self.backoff_initial,
            backoff_cap: self.backoff_cap,
            max_elapsed: self.max_elapsed,
        };
        Ok(Client { settings })
    }
}
