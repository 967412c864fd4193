//! Where to connect, and how hard to try.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use taskwatch_protocol::{InvalidName, Pattern};
use tracing::warn;

use crate::address::Address;
use crate::dial::{Dialer, Proxy, Tls};
use crate::token::{TokenFile, Tokens};
use crate::{EventStream, InvalidToken, OnGap, TaskView, Token, TokenProvider, TransportChoice};

/// Watches the tasks of one server. A clone is cheap.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) settings: Settings,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dialer: Dialer,
    pub(crate) backoff_initial: Duration,
    pub(crate) backoff_cap: Duration,
    pub(crate) max_elapsed: Option<Duration>,
    pub(crate) transport: TransportChoice,
}

/// Settings of a [`Client`]; see [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    url: String,
    backoff_initial: Duration,
    backoff_cap: Duration,
    max_elapsed: Option<Duration>,
    tokens: Option<Result<Tokens, InvalidToken>>,
    cacert: Option<PathBuf>,
    no_proxy: bool,
    transport: TransportChoice,
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
    /// The address is encrypted, that of a proxy is, or certificates were given, and there is no TLS.
    #[error("this program cannot speak TLS: taskwatch-client was built without its feature `tls`")]
    NoTls,
    /// The roots that this machine trusts cannot be loaded.
    #[error("cannot prepare TLS: {reason}")]
    Tls {
        /// What is wrong.
        reason: String,
    },
    /// The file of further roots is not one.
    #[error("cannot take certificates from {}: {reason}", path.display())]
    Cacert {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The text given as a token cannot be one.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The environment names a proxy that cannot be used.
    #[error("cannot use the proxy {proxy}: {reason}")]
    Proxy {
        /// Its address, without user and password.
        proxy: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Client {
    /// Begins with the address of the server: `http`, `https`, `ws` or `wss`. A path is kept as a
    /// prefix, and `/ws` is appended unless it is there. The name of the host is in ASCII. `https` and
    /// `wss` need the feature `tls`, which is on by default.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            url: url.into(),
            backoff_initial: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(30),
            max_elapsed: None,
            tokens: None,
            cacert: None,
            no_proxy: false,
            transport: TransportChoice::Auto,
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
    /// A permission that is taken away costs the stream those repositories, and no others:
    /// [`Update::Denied`](crate::Update::Denied).
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

    /// Who is asked for tokens: before every connection, before a token runs out, and once more when
    /// the server has refused one. A second refusal in a row ends the stream with
    /// [`WatchError::Rejected`](crate::WatchError::Rejected) or
    /// [`WatchError::Closed`](crate::WatchError::Closed).
    ///
    /// A token that is about to run out is renewed while the connection goes on: after four fifths of
    /// its life, or 30 s before its end, whichever is sooner. Over plain HTTP, where nothing can be said
    /// on a connection, it is asked for before every request, and the server ends what has run out.
    ///
    /// Nothing here logs a token. The library below, `tungstenite`, logs whole requests and frames at
    /// the level `trace`: a program that shows those shows its token.
    pub fn token(mut self, provider: impl TokenProvider) -> Self {
        self.tokens = Some(Ok(Tokens::new(provider)));
        self
    }

    /// A token that stays the same.
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.tokens = Some(Token::new(token.into()).map(Tokens::new));
        self
    }

    /// A file that holds a token, and is read whenever one is needed; it may be replaced. The end of
    /// its last line does not count.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tokens = Some(Ok(Tokens::new(TokenFile(path.into()))));
        self
    }

    /// Trusts the certificates in this PEM file as well as the roots of the machine: that of a private
    /// authority, or one that a server has made for itself. The file is read by
    /// [`build`](Self::build), which refuses it without the feature `tls`.
    pub fn cacert(mut self, path: impl Into<PathBuf>) -> Self {
        self.cacert = Some(path.into());
        self
    }

    /// Connects directly, whatever the environment says.
    ///
    /// Otherwise `HTTPS_PROXY` (for `https` and `wss`), `HTTP_PROXY` (for `http` and `ws`) and
    /// `ALL_PROXY` name an HTTP proxy, with user and password if it wants them, and `NO_PROXY` the
    /// hosts that need none; also in lower case. They are read by [`build`](Self::build). As with
    /// curl, an address of this machine is no exception unless `NO_PROXY` names it. A proxy that wants
    /// another password ends the stream with [`WatchError::Proxy`](crate::WatchError::Proxy); whatever
    /// else it answers is waited out.
    pub fn no_proxy(mut self) -> Self {
        self.no_proxy = true;
        self
    }

    /// Which way events come. By default WebSocket, and plain HTTP only where something between this
    /// machine and the server lets no WebSocket through.
    ///
    /// That is so when an upgrade is refused by anybody but the server, when it breaks off, or when it
    /// is not answered within 5 s. Then, within the same attempt, an answer of server-sent events is
    /// asked for; and if its first byte does not come within 2 s, since something holds it back, events
    /// are polled for. What works is remembered by the stream for about ten minutes, then WebSocket is
    /// tried again. A server that is out of reach is no reason to take another way.
    ///
    /// The events, their order and their positions are the same on each way, and the stream goes on
    /// from one to the other without loss. Over plain HTTP a change of what is watched, and WebSocket
    /// when it is tried again, takes a new connection, which is not told unless it fails.
    pub fn transport(mut self, choice: TransportChoice) -> Self {
        self.transport = choice;
        self
    }

    /// Checks the settings. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`BuildError`] if the address is not one of a server, or another setting makes no sense.
    pub fn build(self) -> Result<Client, BuildError> {
        if self.backoff_initial.is_zero() || self.backoff_cap.is_zero() {
            return Err(BuildError::Backoff);
        }
        let address = Address::endpoint(&self.url)?;
        let tokens = self.tokens.transpose()?;
        let tls = || Tls::new(self.cacert.as_deref());
        let proxy =
            if self.no_proxy { None } else { Proxy::of(&address, &Matcher::from_env(), tls)? };
        let is_encrypted = address.is_encrypted();
        // What a proxy takes for its own machine is not this one.
        let stays_here = address.is_loopback() && proxy.is_none();
        if tokens.is_some() && !is_encrypted && !stays_here {
            warn!("the token goes to {} unencrypted", address.authority());
        }
        // A file that is wrong is told also where it is not needed.
        let tls = (is_encrypted || self.cacert.is_some()).then(tls).transpose()?;
        let settings = Settings {
            dialer: Dialer::new(address, tls.filter(|_| is_encrypted), proxy, tokens),
            backoff_initial: self.backoff_initial,
            backoff_cap: self.backoff_cap,
            max_elapsed: self.max_elapsed,
            transport: self.transport,
        };
        Ok(Client { settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_tls_what_needs_it_is_refused() {
        for builder in [
            Client::builder("https://localhost"),
            Client::builder("wss://localhost"),
            Client::builder("http://localhost").cacert("roots.pem"),
        ] {
            let error = builder.no_proxy().build().unwrap_err();
            assert_eq!(error, BuildError::NoTls);
            assert!(error.to_string().contains("`tls`"), "{error}");
        }
    }

    #[test]
    fn a_wait_of_nothing_is_refused() {
        let builder = Client::builder("http://localhost").backoff_initial(Duration::ZERO);
        assert_eq!(builder.build().unwrap_err(), BuildError::Backoff);
    }
}
