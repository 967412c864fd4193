//! What the operator may choose: flags, each also a `TASKWATCH_*` variable and a line of a file.

mod auth;
mod duration;
mod file;
mod limits;
mod table;
mod tls;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use etcetera::BaseStrategy;
use taskwatch_server::{AccessPolicy, InvalidOrigin, Network};

use crate::log::LogFormat;
pub use auth::AuthSettings;
pub(crate) use duration::duration;
pub(crate) use file::SettingsFile;
pub use limits::LimitSettings;
pub use table::SettingsTable;
pub use tls::TlsSettings;

/// Where a server listens that is told nothing.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8787);

/// A task API with live updates.
#[derive(Clone, Debug, Parser)]
#[command(name = "taskwatchd", version)]
pub struct Settings {
    /// Address to listen on; port 0 takes any free one
    #[arg(long, env = "TASKWATCH_LISTEN", default_value_t = DEFAULT_ADDRESS, value_name = "ADDR")]
    pub listen: SocketAddr,

    /// Folder that holds everything kept [default: taskwatch in the user's data directory]
    #[arg(long, env = "TASKWATCH_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Events to keep for those who come back
    #[arg(
        long,
        env = "TASKWATCH_RETENTION_EVENTS",
        default_value_t = 1_000_000,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=i64::MAX.cast_unsigned()),
    )]
    pub retention_events: u64,

    /// Age up to which events are kept, such as 60s, 5m, 2h or 7d
    #[arg(
        long,
        env = "TASKWATCH_RETENTION_AGE",
        default_value = "7d",
        value_name = "DURATION",
        value_parser = duration,
    )]
    pub retention_age: Duration,

    /// Origin of web pages that may connect, such as `https://tasks.example.com` (repeatable)
    #[arg(long, env = "TASKWATCH_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,

    /// Name under which the server may be addressed, such as tasks.example.com (repeatable)
    #[arg(long, env = "TASKWATCH_ALLOW_HOST", value_delimiter = ',', value_name = "HOST")]
    pub allow_host: Vec<String>,

    /// Address or network of a proxy that says, by X-Forwarded-For, where a request comes from (repeatable)
    #[arg(
        long,
        env = "TASKWATCH_TRUSTED_PROXY",
        value_delimiter = ',',
        value_name = "ADDR|NETWORK"
    )]
    pub trusted_proxy: Vec<Network>,

    /// For whom the lines on stderr are
    #[arg(long, env = "TASKWATCH_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Who may do what.
    #[command(flatten)]
    pub auth: AuthSettings,

    /// TLS by the server itself.
    #[command(flatten)]
    pub tls: TlsSettings,

    /// How much peers may cost.
    #[command(flatten)]
    pub limits: LimitSettings,
}

/// How much of the log is kept, whichever is less.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) events: u64,
    pub(crate) age: Duration,
}

/// Settings that do not go together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSettings {
    /// Everybody who can reach the server could change every task.
    #[error(
        "others could reach this server, and it asks nobody who they are: give --tokens FILE, \
         --jwt-key or --jwt-jwks, or --anonymous to serve everybody, or listen on 127.0.0.1 \
         without --allow-host, --allow-origin and --trusted-proxy"
    )]
    NotPrivate,
    /// Whoever brings no token would be let in too.
    #[error("--anonymous serves everybody; leave it out, or leave out --tokens and --jwt-…")]
    AnonymousAndMore,
    /// JSON Web Tokens could not be checked with what is given.
    #[error("{0}")]
    Jwt(&'static str),
    /// A certificate without its key, or a key without its certificate.
    #[error("--tls-cert and --tls-key go together: give both or none")]
    HalfTls,
    /// `--allow-origin` is not an origin.
    #[error("--allow-origin {origin}: {source}")]
    Origin {
        /// What was given.
        origin: String,
        /// What is wrong with it.
        source: InvalidOrigin,
    },
    /// Two addresses, and one can be served.
    #[error(
        "a socket on {handed} was handed over, and --listen says {listen}: leave --listen out, or change \
         ListenStream= of the socket"
    )]
    Address {
        /// Where the socket listens.
        handed: SocketAddr,
        /// What `--listen` says.
        listen: SocketAddr,
    },
    /// There is no home directory to put the data in.
    #[error("there is no home directory; name a folder with --data")]
    NoHome,
}

impl Settings {
    /// Whether only this machine reaches the server, and under no name that others could give it.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.listen.ip().is_loopback()
            && self.allow_host.is_empty()
            && self.allow_origin.is_empty()
            && self.trusted_proxy.is_empty()
    }

    /// Takes the address of a socket that was handed over for that of `--listen`, if that says nothing else.
    pub(crate) fn listen_on(&mut self, handed: SocketAddr) -> Result<(), InvalidSettings> {
        let listen = self.listen;
        if listen != DEFAULT_ADDRESS && listen != handed {
            return Err(InvalidSettings::Address { handed, listen });
        }
        self.listen = handed;
        Ok(())
    }

    /// Who may come from where, if the settings go together.
    pub(crate) fn access(&self) -> Result<AccessPolicy, InvalidSettings> {
        self.auth.check(self.is_private())?;
        self.tls.check()?;
        if self.is_private() {
            return Ok(AccessPolicy::private());
        }
        let hosts = AccessPolicy::listed().trust_proxies(self.trusted_proxy.iter().copied());
        let hosts = self.allow_host.iter().fold(hosts, |policy, host| policy.allow_host(host));
        self.allow_origin.iter().try_fold(hosts, |policy, origin| {
            policy
                .allow_origin(origin)
                .map_err(|source| InvalidSettings::Origin { origin: origin.clone(), source })
        })
    }

    /// The folder for the store.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, InvalidSettings> {
        data_dir(self.data.as_deref())
    }

    pub(crate) fn retention(&self) -> Retention {
        Retention { events: self.retention_events, age: self.retention_age }
    }
}

/// The folder for the store, if it is not this one.
pub(crate) fn data_dir(named: Option<&Path>) -> Result<PathBuf, InvalidSettings> {
    named.map(Path::to_owned).or_else(default_data_dir).ok_or(InvalidSettings::NoHome)
}

/// The folder for the store of who names none.
fn default_data_dir() -> Option<PathBuf> {
    let user = etcetera::choose_base_strategy().ok()?;
    Some(user.data_dir().join("taskwatch"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn settings(flags: &[&str]) -> Settings {
        Settings::parse_from([&["taskwatchd"], flags].concat())
    }

    #[test]
    fn the_flags_are_sound() {
        Settings::command().debug_assert();
        let settings = settings(&[]);
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8787");
        assert_eq!(settings.retention_events, 1_000_000);
        assert_eq!(settings.retention_age, Duration::from_secs(7 * 86_400));
    }

    #[test]
    fn a_socket_that_was_handed_over_is_asked_what_its_address_is_asked() {
        let public = "192.0.2.1:443".parse().unwrap();
        let mut told_nothing = settings(&[]);
        told_nothing.listen_on(public).unwrap();
        assert!(matches!(told_nothing.access().unwrap_err(), InvalidSettings::NotPrivate));
        settings(&["--listen", "192.0.2.1:443"]).listen_on(public).unwrap();
        let mut another = settings(&["--listen", "127.0.0.1:443"]);
        let refused = another.listen_on(public).unwrap_err();
        assert!(matches!(refused, InvalidSettings::Address { .. }), "{refused}");
    }

    #[test]
    fn only_a_private_server_is_anonymous_without_being_told() {
        for (flags, private) in [
            (&[][..], true),
            (&["--listen", "[::1]:0"], true),
            (&["--listen", "127.9.9.9:1"], true),
            (&["--listen", "0.0.0.0:0"], false),
            (&["--listen", "192.0.2.1:80"], false),
            (&["--allow-host", "tasks.example.com"], false),
            (&["--allow-origin", "http://localhost:3000"], false),
            (&["--trusted-proxy", "127.0.0.1"], false),
        ] {
            let mut settings = settings(flags);
            assert_eq!(settings.is_private(), private, "{flags:?}");
            assert_eq!(settings.access().is_ok(), private, "{flags:?}");
            settings.auth.anonymous = true;
            assert!(settings.access().is_ok(), "{flags:?}");
            settings.auth.tokens = Some("tokens".into());
            let refused = settings.access().unwrap_err();
            assert!(matches!(refused, InvalidSettings::AnonymousAndMore), "{flags:?}");
            settings.auth.anonymous = false;
            assert!(settings.access().is_ok(), "{flags:?}");
        }
    }
}
