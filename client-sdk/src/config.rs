//! Where to connect, and how hard to try.

use std::time::Duration;

use taskwatch_protocol::{InvalidName, Pattern};
use url::Url;

use crate::dial::Dialer;
use crate::{EventStream, OnGap, TaskView};

/// Watches the tasks of one server. A clone is cheap.
#[derive(Clone, Debug)]
pub struct Client {
    settings: Settings,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dialer: Dialer,
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
    /// A part that means nothing here: a secret, a query or a fragment.
    #[error("the server's address may not have a {part}")]
    Unexpected {
        /// Its name. The address itself is not repeated: it may hold a password.
        part: &'static str,
    },
    /// A wait of zero would make a client hammer its server.
    #[error("backoff_initial and backoff_cap must be more than zero")]
    Backoff,
    /// The roots that this machine trusts cannot be loaded.
    #[error("cannot prepare TLS: {reason}")]
    Tls {
        /// What is wrong.
        reason: String,
    },
}

/// The URL of the upgrade, with the scheme `ws` or `wss`.
fn endpoint(text: &str) -> Result<Url, BuildError> {
    let scheme = || BuildError::Scheme { url: text.to_owned() };
    let mut url = Url::parse(text).map_err(|problem| BuildError::Malformed {
        url: text.to_owned(),
        reason: problem.to_string(),
    })?;
    let unexpected = [
        ("user or password", !url.username().is_empty() || url.password().is_some()),
        ("query", url.query().is_some()),
        ("fragment", url.fragment().is_some()),
    ];
    if let Some((part, _)) = unexpected.into_iter().find(|(_, is_there)| *is_there) {
        return Err(BuildError::Unexpected { part });
    }
    let wire = match url.scheme() {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        _ => return Err(scheme()),
    };
    url.set_scheme(wire).map_err(|()| scheme())?;
    let prefix = url.path().trim_end_matches('/');
    let path = if prefix.ends_with("/ws") { prefix.to_owned() } else { format!("{prefix}/ws") };
    url.set_path(&path);
    Ok(url)
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
    /// Nothing is dialled before the stream is first polled, or asked whether it is
    /// [`ready`](EventStream::ready); that must happen inside a tokio runtime. With no repository
    /// at all it waits for [`add`](EventStream::add).
    ///
    /// # Recovery
    /// A lost connection is made again, after a random wait of up to 0.5 s that doubles to 30 s,
    /// and the subscription goes on after the last event received: what happened meanwhile is
    /// replayed, and nothing is yielded twice. This holds for a restart of the server, a cut in
    /// mid-stream, a link that died without a word, a computer that slept, and events that got
    /// lost on the way, which are found by counting. None of it ends the stream.
    ///
    /// If the server's history no longer reaches back to that position, the stream ends with
    /// [`WatchError::Gap`](crate::WatchError::Gap), or, with [`OnGap::Live`](crate::OnGap::Live) or
    /// [`OnGap::Snapshot`](crate::OnGap::Snapshot), says so and goes on. There is never a silent gap.
    ///
    /// The position received is not the one to save: up to 1,024 events (or 4 MiB) wait in a
    /// buffer. [`cursor`](EventStream::cursor) is the position of what was yielded, and a program
    /// that restarts goes on [`since`](EventStream::since) there. When the buffer is full the
    /// connection is not read, after 5 s it is given back, and it is made again when half of the
    /// buffer was yielded: a slow reader loses nothing.
    ///
    /// An `Err` comes at most once, last, and only when coming back cannot help.
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

    /// The tasks of these repositories, kept current: for programs that want the state rather than
    /// the events that lead to it.
    ///
    /// The connection is made at once, in the background, and is recovered like that of a
    /// [stream](Self::subscribe). Where events were lost the state is fetched anew, so a gap does not
    /// end a view. While the server is out of reach the tasks stay as they last were.
    ///
    /// ```no_run
    /// # async fn example(client: taskwatch_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut view = client.view(["github.com/acme/*"])?;
    /// view.ready().await?;
    /// loop {
    ///     let tasks = view.tasks();
    ///     println!("{} tasks at {:?}", tasks.len(), tasks.cursor());
    ///     view.changed().await?;
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is neither a name nor a pattern.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn view<I>(&self, repositories: I) -> Result<TaskView, InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let events = self.subscribe(repositories)?.snapshot().on_gap(OnGap::Snapshot);
        Ok(TaskView::new(events.updates()))
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
        if self.backoff_initial.is_zero() || self.backoff_cap.is_zero() {
            return Err(BuildError::Backoff);
        }
        let dialer = Dialer::new(endpoint(&self.url)?)
            .map_err(|problem| BuildError::Tls { reason: problem.to_string() })?;
        let settings = Settings {
            dialer,
            backoff_initial: self.backoff_initial,
            backoff_cap: self.backoff_cap,
            max_elapsed: self.max_elapsed,
        };
        Ok(Client { settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_or_ws_and_ends_in_ws() {
        for (given, used) in [
            ("http://127.0.0.1:8787", "ws://127.0.0.1:8787/ws"),
            ("https://tasks.example", "wss://tasks.example/ws"),
            ("ws://localhost/ws", "ws://localhost/ws"),
            ("wss://tasks.example/team/", "wss://tasks.example/team/ws"),
            ("http://[::1]:80/a/ws/", "ws://[::1]/a/ws"),
            ("http://localhost/news", "ws://localhost/news/ws"),
        ] {
            assert_eq!(endpoint(given).unwrap().as_str(), used);
        }
    }

    #[test]
    fn what_is_no_address_of_a_server_is_refused() {
        let refused = |url: &str| Client::builder(url).build().unwrap_err();
        assert!(matches!(refused("localhost"), BuildError::Malformed { .. }));
        assert!(matches!(refused("ftp://localhost"), BuildError::Scheme { .. }));
        assert!(matches!(refused("localhost:8787"), BuildError::Scheme { .. }));
        for (url, part) in [
            ("http://ana:secret@localhost", "user or password"),
            ("http://localhost?token=secret", "query"),
            ("http://localhost#top", "fragment"),
        ] {
            assert_eq!(refused(url), BuildError::Unexpected { part });
        }
    }

    #[test]
    fn a_wait_of_nothing_is_refused() {
        let builder = Client::builder("http://localhost").backoff_initial(Duration::ZERO);
        assert_eq!(builder.build().unwrap_err(), BuildError::Backoff);
    }
}
