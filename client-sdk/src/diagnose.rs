//! What stands between this machine and a server: each step of the way, and the first that fails.
//!
//! ```no_run
//! use taskwatch_client::diagnose::Outcome;
//!
//! # async fn example(client: taskwatch_client::Client) {
//! client
//!     .diagnose(["foo".parse().unwrap()], |finding| match finding.outcome {
//!         Outcome::Failed(fault) => println!("{}: {fault:?}", finding.check.as_str()),
//!         _ => {}
//!     })
//!     .await;
//! # }
//! ```

mod examination;
mod report;
mod talk;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use taskwatch_protocol::{ErrorCode, Pattern};

use self::examination::Examination;
use crate::Client;

/// A clock may be wrong by so much before it is a [`Fault::Clock`].
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// One step of the way to a server, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// The name of the server, or of the proxy before it, has addresses.
    Name,
    /// One of them takes connections.
    Tcp,
    /// The proxy of the environment, if there is one, lets the client through to the server.
    Proxy,
    /// The server speaks TLS where its address says so, and has a certificate that is trusted.
    Tls,
    /// Who answers there is a task server.
    Server,
    /// WebSocket gets through.
    Upgrade,
    /// Both speak the same version of the protocol.
    Version,
    /// The server takes the token.
    Token,
    /// A repository may be watched; once for each.
    Permission,
    /// How long a question and its answer take.
    RoundTrip,
    /// Server-sent events come as they are sent. The client needs them only where WebSocket is blocked.
    Sse,
    /// The two clocks agree.
    Clock,
}

impl Check {
    const ALL: [Self; 12] = [
        Self::Name,
        Self::Tcp,
        Self::Proxy,
        Self::Tls,
        Self::Server,
        Self::Upgrade,
        Self::Version,
        Self::Token,
        Self::Permission,
        Self::RoundTrip,
        Self::Sse,
        Self::Clock,
    ];

    /// A word for it, such as `round_trip`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Tcp => "tcp",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Server => "server",
            Self::Upgrade => "upgrade",
            Self::Version => "version",
            Self::Token => "token",
            Self::Permission => "permission",
            Self::RoundTrip => "round_trip",
            Self::Sse => "sse",
            Self::Clock => "clock",
        }
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// What was found.
    pub outcome: Outcome,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is as it should be.
    Good(Fact),
    /// The client works, but something should be looked after.
    Warning(Fault),
    /// It is not as it should be.
    Failed(Fault),
    /// What it needs is missing, so it was not looked at.
    Skipped,
}

/// What is as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// A name has these addresses.
    Addresses {
        /// The name, or a number.
        host: String,
        /// At least one.
        addresses: Vec<IpAddr>,
    },
    /// A connection was made.
    Connected {
        /// Address and port of the server, or of the proxy.
        to: String,
        /// How long it took, the look-up of the name included.
        took: Duration,
    },
    /// The environment names no proxy for this server.
    Direct,
    /// The proxy has connected to the server.
    Proxied {
        /// Its address, without user and password.
        proxy: String,
    },
    /// The address asks for no TLS.
    Plain,
    /// The certificate is trusted.
    Encrypted {
        /// The version of TLS, such as `TLSv1_3`.
        version: String,
        /// How long the certificate lasts; `None` if that is not known.
        lasts: Option<Duration>,
    },
    /// A task server answers.
    Server,
    /// The connection is a WebSocket now.
    Upgraded,
    /// The server speaks this client's version.
    Version {
        /// The protocol's major version.
        protocol: u16,
        /// The server's name and version, in its own words.
        server: String,
    },
    /// No token was shown, and none was asked for.
    NoToken,
    /// The token was taken.
    Token {
        /// Whose it is, if the server says so.
        subject: Option<String>,
        /// How long it lasts; `None` if it does not run out, or if that is not known.
        expires_in: Option<Duration>,
    },
    /// This may be watched.
    Permitted {
        /// A name or a pattern.
        repository: Pattern,
    },
    /// Questions are answered.
    RoundTrip {
        /// The shortest of several.
        best: Duration,
    },
    /// The first server-sent event came.
    Streamed {
        /// How long it took, the connection included.
        took: Duration,
    },
    /// The clocks agree.
    Clock {
        /// Milliseconds that the server's is ahead of this machine's; below zero if it is behind.
        ahead_ms: i64,
    },
}

/// What is not as it should be. Texts are those of the system, of the server or of whoever answered in its
/// place: make them harmless before a person sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The name cannot be looked up.
    Unresolved {
        /// The name of the server, or of the proxy.
        host: String,
        /// Whether it is that of the proxy.
        is_proxy: bool,
        /// Why not.
        reason: String,
    },
    /// No connection can be made.
    Unreachable {
        /// Host and port of the server, or of the proxy.
        to: String,
        /// Whether it is the proxy.
        is_proxy: bool,
        /// What the system calls it: refused, timed out, or other.
        kind: io::ErrorKind,
        /// Its words.
        reason: String,
    },
    /// The proxy does not connect to the server.
    Proxy {
        /// Its address, without user and password.
        proxy: String,
        /// What it said.
        reason: String,
    },
    /// The proxy wants a user and a password, or others.
    ProxyPassword {
        /// Its address, without user and password.
        proxy: String,
    },
    /// The certificate is not trusted.
    Certificate {
        /// Why not.
        reason: String,
    },
    /// The address says `https`, and the port speaks HTTP in plain text.
    NoTls,
    /// The address says `http`, and the port speaks TLS.
    OnlyTls,
    /// TLS does not come about for another reason.
    Handshake {
        /// Which.
        reason: String,
    },
    /// Who answers is not a task server.
    Stranger {
        /// The status of the answer.
        status: u16,
        /// What it calls itself.
        by: Option<String>,
    },
    /// Who answers does not speak HTTP, or not in time.
    NoHttp {
        /// What happened.
        reason: String,
    },
    /// Something between this machine and the server lets no WebSocket through.
    Blocked {
        /// The status of its answer, if there was one.
        status: Option<u16>,
        /// What it calls itself.
        by: Option<String>,
        /// What it said.
        reason: String,
    },
    /// The server refuses for another reason than version, token or permission.
    Refused {
        /// The status of the answer.
        status: u16,
        /// The server's word.
        code: Option<ErrorCode>,
        /// The server's text.
        detail: String,
    },
    /// The server does not speak this client's version.
    Version {
        /// What this client speaks.
        ours: u16,
        /// What the server says about it.
        detail: String,
    },
    /// The server wants a token, and none was shown.
    TokenMissing,
    /// The server does not take the token.
    TokenRefused {
        /// What it says about it.
        detail: String,
    },
    /// The provider has no token.
    TokenUnavailable {
        /// Its own words.
        reason: String,
    },
    /// There is nothing of that name, or nothing that may be read.
    Denied {
        /// A name or a pattern.
        repository: Pattern,
        /// The server's word.
        code: ErrorCode,
    },
    /// Nothing came in this time.
    Silent {
        /// How long it was waited for.
        within: Duration,
    },
    /// The connection ended.
    Lost {
        /// How.
        reason: String,
    },
    /// The clocks do not agree.
    Clock {
        /// Milliseconds that the server's is ahead of this machine's; below zero if it is behind.
        ahead_ms: i64,
    },
}

impl Fault {
    /// Whether the server was reached and said no: to the version, the token, or the permission.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Version { .. }
                | Self::TokenMissing
                | Self::TokenRefused { .. }
                | Self::TokenUnavailable { .. }
                | Self::Denied { .. }
        )
    }
}

impl Client {
    /// Goes the way to the server step by step, and tells what it finds as it finds it: for each
    /// [`Check`] one finding, in order, and for [`Check::Permission`] one for each repository. Without a
    /// repository, `*` stands for all that may be read.
    ///
    /// It makes several connections and changes nothing. Each step has up to 5 s.
    pub async fn diagnose(
        &self,
        repositories: impl IntoIterator<Item = Pattern>,
        tell: impl FnMut(Finding),
    ) {
        let repositories: Vec<_> = repositories.into_iter().collect();
        let repositories = if repositories.is_empty() { vec![Pattern::All] } else { repositories };
        Examination::new(&self.settings.dialer, repositories, tell).run().await;
    }
}
