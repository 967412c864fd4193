//! Addresses of servers and proxies, taken to pieces.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;
use http::uri::{Authority, PathAndQuery};

use crate::BuildError;

/// Where something is, and what it is asked for there. The scheme is `http`, `https`, `ws` or `wss`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    uri: Uri,
    host: Host,
    port: u16,
    is_encrypted: bool,
}

/// A name, which is in lower case, or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Ip(IpAddr),
}

impl Host {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(inner) = text.strip_prefix('[') {
            let ip = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            let ip = ip.ok_or_else(|| format!("{text} is not an IPv6 address"))?;
            return Ok(Self::Ip(ip.into()));
        }
        let is_allowed = |c: &char| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(c);
        match text.chars().find(|c| !is_allowed(c)) {
            _ if text.is_empty() => return Err("it names no host".to_owned()),
            Some(c) if !c.is_ascii() => {
                return Err(format!(
                    "a host name must be ASCII, and this has {c:?}; its form with xn-- is"
                ));
            }
            Some(c) => return Err(format!("a host name cannot have {c:?}")),
            None => {}
        }
        let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            let ip = text.parse::<Ipv4Addr>();
            return match ip {
                Ok(ip) => Ok(Self::Ip(ip.into())),
                Err(_) => Err(format!("{text} is not an IPv4 address")),
            };
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Ip(ip) => ip.is_loopback(),
        }
    }
}

/// As an address has it.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl Address {
    /// The address of the upgrade on the server that this names, with the scheme `ws` or `wss`.
    pub(crate) fn endpoint(text: &str) -> Result<Self, BuildError> {
        let malformed = |reason: String| BuildError::Malformed { url: text.to_owned(), reason };
        let (scheme, rest) = text.split_once("://").map_or((None, text), |it| (Some(it.0), it.1));
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let is_mistyped = scheme.is_none() || authority.is_empty();
        let unexpected = [
            // Also where it is mistyped, as in http:/ana:secret@host.
            ("user or password", authority.contains('@') || (is_mistyped && text.contains('@'))),
            ("query", rest.split('#').any(|part| part.contains('?'))),
            ("fragment", rest.contains('#')),
        ];
        if let Some((part, _)) = unexpected.into_iter().find(|(_, is_there)| *is_there) {
            return Err(BuildError::Unexpected { part });
        }
        let scheme = match scheme.map(str::to_ascii_lowercase).as_deref() {
            Some("http" | "ws") => "ws",
            Some("https" | "wss") => "wss",
            None if !text.contains(':') => {
                return Err(malformed("it does not begin with a scheme, such as http://".into()));
            }
            _ => return Err(BuildError::Scheme { url: text.to_owned() }),
        };
        let (host, port) = host_and_port(authority, scheme).map_err(malformed)?;
        let path = rest.strip_prefix(authority).unwrap_or_default().trim_end_matches('/');
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(malformed("its path goes up or stays, with .. or .".to_owned()));
        }
        let path = if path.ends_with("/ws") { path.to_owned() } else { format!("{path}/ws") };
        let is_plain = |c: char| c.is_ascii_graphic() && !['"', '<', '>', '\\'].contains(&c);
        if let Some(c) = path.chars().find(|c| !is_plain(*c)) {
            return Err(malformed(format!("its path has {c:?}, which must be percent-encoded")));
        }
        let authority =
            if port == default_port(scheme) { host.to_string() } else { format!("{host}:{port}") };
        let uri = format!("{scheme}://{authority}{path}").parse();
        Self::of(uri.map_err(|problem: http::uri::InvalidUri| malformed(problem.to_string()))?)
            .map_err(malformed)
    }

    /// Takes an address as it is.
    pub(crate) fn of(uri: Uri) -> Result<Self, String> {
        let scheme = uri.scheme_str().unwrap_or_default();
        let is_encrypted = match scheme {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(format!("{scheme:?} is not a scheme that is known here")),
        };
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        let (host, port) = host_and_port(authority, scheme)?;
        Ok(Self { uri, host, port, is_encrypted })
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Host and port, without the port that its scheme implies.
    pub(crate) fn authority(&self) -> &str {
        self.uri.authority().map(Authority::as_str).unwrap_or_default()
    }

    /// Without a query.
    pub(crate) fn path(&self) -> &str {
        self.uri.path_and_query().map(PathAndQuery::path).unwrap_or("/")
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Whether it is of this machine for certain.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host.is_loopback()
    }
}

fn default_port(scheme: &str) -> u16 {
    if matches!(scheme, "https" | "wss") { 443 } else { 80 }
}

fn host_and_port(authority: &str, scheme: &str) -> Result<(Host, u16), String> {
    // The colons within brackets are not followed by a port.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        None => default_port(scheme),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().map_err(|_| format!("{port:?} is not a port"))?
        }
        Some(port) => return Err(format!("{port:?} is not a port")),
    };
    Ok((Host::parse(host)?, port))
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
            ("HTTPS://Tasks.Example:443/%20", "wss://tasks.example/%20/ws"),
            ("http://[0:0::1]:8787", "ws://[::1]:8787/ws"),
        ] {
            assert_eq!(Address::endpoint(given).unwrap().uri().to_string(), used);
        }
    }

    #[test]
    fn it_says_where_to_connect() {
        for (given, host, port, is_encrypted, is_loopback) in [
            ("http://127.0.0.1:8787", "127.0.0.1", 8787, false, true),
            ("https://Tasks.Example", "tasks.example", 443, true, false),
            ("ws://[::1]/ws", "[::1]", 80, false, true),
            ("wss://localhost:80", "localhost", 80, true, true),
        ] {
            let address = Address::endpoint(given).unwrap();
            assert_eq!((address.host().to_string().as_str(), address.port()), (host, port));
            assert_eq!(
                (address.is_encrypted(), address.is_loopback()),
                (is_encrypted, is_loopback)
            );
        }
    }

    #[test]
    fn what_is_malformed_is_told_in_words() {
        for (given, reason) in [
            ("localhost", "scheme"),
            ("http://", "no host"),
            ("http://:80", "no host"),
            ("http://t\u{e4}sks.example", "xn--"),
            ("http://tasks example", "' '"),
            ("http://%74asks.example", "'%'"),
            ("http://tasks.example:http", "\"http\" is not a port"),
            ("http://tasks.example:65536", "\"65536\" is not a port"),
            ("http://tasks.example:+80", "\"+80\" is not a port"),
            ("http://tasks.example:", "\"\" is not a port"),
            ("http://256.0.0.1", "IPv4"),
            ("http://1.2.3", "IPv4"),
            ("http://[::g]", "IPv6"),
            ("http://[::1", "IPv6"),
            ("http://::1", "a host name cannot have ':'"),
            ("http://localhost/a b", "percent-encoded"),
            ("http://localhost/\u{e4}", "percent-encoded"),
            ("http://localhost/a/../b", ".."),
            ("http://localhost\\a", "'\\\\'"),
        ] {
            let error = Address::endpoint(given).unwrap_err();
            assert!(matches!(error, BuildError::Malformed { .. }), "{given}: {error:?}");
            assert!(error.to_string().contains(reason), "{given}: {error}");
        }
    }

    #[test]
    fn a_secret_is_not_repeated() {
        for given in [
            "http://ana:s3cret@localhost:x",
            "ftp://ana:s3cret@localhost",
            "ana:s3cret@localhost",
            "http://localhost:x?token=s3cret",
            "localhost#s3cret",
        ] {
            let error = Address::endpoint(given).unwrap_err();
            assert!(matches!(error, BuildError::Unexpected { .. }), "{given}: {error:?}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }
}
