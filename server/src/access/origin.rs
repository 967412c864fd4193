//! Where a request may come from: `Host` against DNS rebinding, `Origin` against foreign pages.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::uri::Authority;
use http::{HeaderMap, StatusCode, header};
use taskwatch_protocol::ErrorCode;
use url::{Host, Origin, Url};

use super::Network;
use crate::Problem;

/// What a proxy adds to a request that it passes on.
const PROXY_HEADERS: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// Characters of a foreign origin in the log: a name has no more, and whoever sends it pays nothing.
const MAX_SHOWN: usize = 256;

/// Which hosts a server answers to, and which pages may talk to it.
///
/// IP literals and `localhost` always pass as `Host`, since no DNS name can be pointed at them.
/// A request without `Origin` comes from no page and passes; the server's own origin passes.
#[derive(Clone, Debug, Default)]
pub struct AccessPolicy {
    private: bool,
    hosts: BTreeSet<String>,
    origins: BTreeSet<String>,
    proxies: Vec<Network>,
}

/// The text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin such as https://tasks.example.com")]
pub struct InvalidOrigin(String);

impl AccessPolicy {
    /// For a server that only its own machine reaches: pages from loopback, on any port, pass, and
    /// what came through a proxy does not, since it came from elsewhere.
    #[must_use]
    pub fn private() -> Self {
        Self { private: true, ..Self::default() }
    }

    /// Nothing but what is listed.
    #[must_use]
    pub fn listed() -> Self {
        Self::default()
    }

    /// Answers to this DNS name too, on any port.
    #[must_use]
    pub fn allow_host(mut self, name: &str) -> Self {
        self.hosts.insert(name.to_ascii_lowercase());
        self
    }

    /// Lets pages of this origin connect: scheme, host and, if it is not the default, port.
    ///
    /// # Errors
    /// If the text is not an origin.
    pub fn allow_origin(mut self, origin: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(origin.to_owned());
        let url = Url::parse(origin).map_err(|_| invalid())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let parsed = url.origin();
        if !bare || !parsed.is_tuple() || !url.username().is_empty() {
            return Err(invalid());
        }
        self.origins.insert(parsed.ascii_serialization());
        Ok(self)
    }

    /// Believes these peers when they say, by `X-Forwarded-For`, where a request comes from.
    #[must_use]
    pub fn trust_proxies(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.proxies.extend(networks);
        self
    }

    /// Whether it is for a server that only its own machine reaches.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.private
    }

    pub(super) fn trusted_proxies(&self) -> &[Network] {
        &self.proxies
    }

    /// Whether a request may come from there: its `Host`, its `Origin`, and the way it came.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub fn check(
        &self,
        headers: &HeaderMap,
        uri_authority: Option<&Authority>,
    ) -> Result<(), Problem> {
        self.check_host(headers, uri_authority)?;
        self.check_way(headers)?;
        self.check_origin(headers)
    }

    fn check_way(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.private && PROXY_HEADERS.iter().any(|name| headers.contains_key(*name)) {
            let detail = "this server is for its own machine, and the request came through a proxy; \
                          a server behind one must be told so, and ask for tokens";
            return Err(Problem::new(StatusCode::FORBIDDEN, ErrorCode::Host, detail));
        }
        Ok(())
    }

    fn check_host(
        &self,
        headers: &HeaderMap,
        uri_authority: Option<&Authority>,
    ) -> Result<(), Problem> {
        let refused = || {
            Problem::new(
                StatusCode::FORBIDDEN,
                ErrorCode::Host,
                "this server does not answer to that Host; a DNS name must be allowed by name",
            )
        };
        let authority = match (single(headers, &header::HOST), uri_authority) {
            (Single::One(host), _) => host.parse::<Authority>().map_err(|_| refused())?,
            (Single::Absent, Some(authority)) => authority.clone(),
            _ => return Err(refused()),
        };
        let host = authority.host().to_ascii_lowercase();
        let is_ip = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse::<Ipv6Addr>().is_ok(),
            None => host.parse::<Ipv4Addr>().is_ok(),
        };
        let passes = is_ip || host == "localhost" || self.hosts.contains(&host);
        if passes && is_bare(&authority) { Ok(()) } else { Err(refused()) }
    }

    /// Whether a page may open a connection. Compares whole origins, never their beginnings.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let text = match single(headers, &header::ORIGIN) {
            Single::Absent => return Ok(()),
            Single::One(text) => text,
            Single::Unreadable => "",
        };
        if self.origin_passes(text, headers) {
            return Ok(());
        }
        let shown: String = text.chars().take(MAX_SHOWN).collect();
        tracing::warn!(origin = ?shown, "refused a page of a foreign origin");
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            ErrorCode::Origin,
            "pages of this Origin may not connect; allow it by its scheme, host and port",
        ))
    }

    fn origin_passes(&self, text: &str, headers: &HeaderMap) -> bool {
        let Ok(url) = Url::parse(text) else { return false };
        let origin = url.origin();
        // A browser sends the canonical form; whatever else parses to it is an attempt.
        if !origin.is_tuple() || origin.ascii_serialization() != text {
            return false;
        }
        let Origin::Tuple(scheme, host, port) = &origin else { return false };
        if !matches!(scheme.as_str(), "http" | "https") {
            return false;
        }
        let own = match single(headers, &header::HOST) {
            Single::One(own) => own.to_ascii_lowercase() == authority_of(scheme, host, *port),
            _ => false,
        };
        own || self.origins.contains(text) || (self.private && is_loopback(host))
    }
}

/// Nothing but a host and a port, which a parsed authority need not be.
fn is_bare(authority: &Authority) -> bool {
    let Some(rest) = authority.as_str().strip_prefix(authority.host()) else { return false };
    let Some(port) = rest.strip_prefix(':') else { return rest.is_empty() };
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

fn authority_of(scheme: &str, host: &Host, port: u16) -> String {
    match (scheme, port) {
        ("http", 80) | ("https", 443) => host.to_string(),
        _ => format!("{host}:{port}"),
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

enum Single<'a> {
    Absent,
    One(&'a str),
    /// Not text, or more than one.
    Unreadable,
}

fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Single<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Single::Absent,
        (Some(value), None) => value.to_str().map_or(Single::Unreadable, Single::One),
        _ => Single::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn headers(host: &str, origins: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        headers
    }

    fn origin_ok(policy: &AccessPolicy, origin: &str) -> bool {
        policy.check_origin(&headers("127.0.0.1:8787", &[origin])).is_ok()
    }

    #[test]
    fn a_private_server_lets_loopback_pages_in() {
        let policy = AccessPolicy::private();
        for good in [
            "http://localhost",
            "http://localhost:3000",
            "http://127.0.0.1:5173",
            "https://localhost:8443",
            "http://[::1]:9",
            "http://127.0.0.1:8787",
        ] {
            assert!(origin_ok(&policy, good), "{good}");
        }
        assert!(policy.check_origin(&headers("localhost", &[])).is_ok(), "no page, no origin");
    }

    #[test]
    fn whatever_only_looks_like_localhost_is_refused() {
        let policy = AccessPolicy::private();
        for bad in [
            "http://localhost.evil.com",
            "http://localhost:3000.evil.com",
            "http://localhost@evil.com",
            "http://localhost%2eevil.com",
            "http://127.0.0.1.nip.io",
            "http://xn--lcalhost-7fg.com",
            "null",
            "file://",
            "",
            "http://LOCALHOST",
            "http://localhost/",
            "http://localhost:80",
            "http://127.1",
            "ftp://localhost",
            "http://evil.com#localhost",
            "ws://localhost",
            "http://localhost http://localhost",
        ] {
            assert!(!origin_ok(&policy, bad), "{bad:?}");
        }
        let twice = headers("localhost", &["http://localhost", "http://localhost"]);
        assert!(policy.check_origin(&twice).is_err());
    }

    #[test]
    fn a_listed_server_lets_in_what_is_listed_and_itself() {
        let policy = AccessPolicy::listed().allow_origin("https://Tasks.example.com:443/").unwrap();
        assert!(origin_ok(&policy, "https://tasks.example.com"));
        assert!(!origin_ok(&policy, "http://tasks.example.com"));
        assert!(!origin_ok(&policy, "https://tasks.example.com:8443"));
        assert!(!origin_ok(&policy, "http://localhost:3000"));
        assert!(origin_ok(&policy, "http://127.0.0.1:8787"), "its own origin");
        for bad in ["", "tasks.example.com", "https://a/b", "https://u@a", "data:x", "https://a?b"]
        {
            assert!(AccessPolicy::listed().allow_origin(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_dns_name_must_be_listed_as_host() {
        let policy = AccessPolicy::private().allow_host("Tasks.example.com");
        for good in [
            "127.0.0.1",
            "127.0.0.1:8787",
            "[::1]:8787",
            "localhost:1",
            "LOCALHOST",
            "192.168.1.7",
            "tasks.example.com:443",
        ] {
            assert!(policy.check_host(&headers(good, &[]), None).is_ok(), "{good}");
        }
        for bad in [
            "evil.com",
            "localhost.evil.com",
            "x@localhost",
            "",
            "127.0.0.1.nip.io",
            "a b",
            "[127.0.0.1]",
            "localhost:",
            "localhost:x",
            "127.0.0.1:27.0.0.1.nip.io",
        ] {
            assert!(policy.check_host(&headers(bad, &[]), None).is_err(), "{bad:?}");
        }
        assert!(policy.check_host(&HeaderMap::new(), None).is_err());
        let uri: Authority = "localhost:80".parse().unwrap();
        assert!(policy.check_host(&HeaderMap::new(), Some(&uri)).is_ok());
    }

    #[test]
    fn what_came_through_a_proxy_is_not_for_a_private_server() {
        for name in PROXY_HEADERS {
            let mut headers = headers("127.0.0.1:8787", &[]);
            headers.insert(name, HeaderValue::from_static("127.0.0.1"));
            let private = AccessPolicy::private().check(&headers, None);
            assert_eq!(private.unwrap_err().code(), &ErrorCode::Host, "{name}");
            assert!(AccessPolicy::listed().check(&headers, None).is_ok(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn only_the_canonical_entry_passes(text in "(https?://)?[a-z.:@%/0-9]{0,20}") {
            let policy = AccessPolicy::listed().allow_origin("https://a.b").unwrap();
            let passes = policy.check_origin(&headers("localhost", &[&text])).is_ok();
            prop_assert_eq!(passes, text == "https://a.b" || text == "http://localhost" || text == "https://localhost");
        }
    }
}
