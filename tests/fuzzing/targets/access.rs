//! Where requests may come from.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderName, HeaderValue};
use taskwatch_protocol::ErrorCode;
use taskwatch_server::AccessPolicy;

const LISTED_HOST: &str = "tasks.example.com";
const LISTED_ORIGINS: [&str; 2] = ["https://tasks.example.com", "http://a.example:8080"];

/// What a proxy adds.
const PROXIED: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// The lines of a request's head, such as `Host: localhost`. An empty line before them makes the
/// server a public one.
pub(crate) fn access(input: &[u8]) {
    let (is_private, head) = match input.strip_prefix(b"\n") {
        Some(head) => (false, head),
        None => (true, input),
    };
    let policy = if is_private {
        AccessPolicy::private()
    } else {
        let policy = AccessPolicy::listed().allow_host(LISTED_HOST);
        LISTED_ORIGINS
            .iter()
            .fold(policy, |policy, origin| policy.allow_origin(origin).expect("an origin"))
    };
    let headers = headers(head);
    let all = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let (hosts, origins): (Vec<&[u8]>, Vec<&[u8]>) = (all("host"), all("origin"));
    let refused = policy.check(&headers, None).err();
    let refused = refused.map(|problem| {
        assert_eq!(problem.status(), 403);
        problem.code().clone()
    });
    let is_good_way = !is_private || PROXIED.iter().all(|name| !headers.contains_key(*name));
    let expected = if hosts.len() != 1 || !is_good_host(hosts[0], is_private) || !is_good_way {
        Some(ErrorCode::Host)
    } else {
        match is_good_origin(&origins, &hosts, is_private) {
            Some(is_good) => (!is_good).then_some(ErrorCode::Origin),
            // A name whose canonical form takes more to tell.
            None => return,
        }
    };
    assert_eq!(refused, expected, "private: {is_private}, {headers:?}");
}

/// As a server reads them: a name, a colon, and what follows without the spaces around it.
fn headers(head: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// An address, `localhost` or the listed name, and a port or none.
fn is_good_host(host: &[u8], is_private: bool) -> bool {
    let Ok(host) = str::from_utf8(host) else { return false };
    let (name, port) = split_port(host);
    let is_port = |port: &str| {
        !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u32>().is_ok_and(|port| port <= 65_535)
    };
    let name = name.to_ascii_lowercase();
    let ip6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_ip = name.parse::<Ipv4Addr>().is_ok()
        || ip6.is_some_and(|name| name.parse::<Ipv6Addr>().is_ok());
    let is_listed = !is_private && name == LISTED_HOST;
    port.is_none_or(is_port) && (is_ip || is_listed || name == "localhost")
}

/// `None` if this oracle cannot tell.
fn is_good_origin(origins: &[&[u8]], hosts: &[&[u8]], is_private: bool) -> Option<bool> {
    let [origin] = origins else { return Some(origins.is_empty()) };
    let Ok(origin) = str::from_utf8(origin) else { return Some(false) };
    let (scheme, authority) = match origin.split_once("://") {
        Some((scheme @ ("http" | "https"), authority)) => (scheme, authority),
        _ => return Some(false),
    };
    let (name, port) = split_port(authority);
    let default = if scheme == "http" { "80" } else { "443" };
    let is_canonical = port.is_none_or(|port| {
        port != default && port.parse::<u16>().is_ok_and(|number| number.to_string() == port)
    });
    if !is_canonical {
        return Some(false);
    }
    let is_loopback = name == "localhost"
        || name == "[::1]"
        || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.octets()[0] == 127);
    if (is_private && is_loopback) || (!is_private && LISTED_ORIGINS.contains(&origin)) {
        return Some(true);
    }
    // Its own origin: the host that was asked for.
    let own = match hosts {
        [host] => host.eq_ignore_ascii_case(authority.as_bytes()),
        _ => false,
    };
    let is_plain = name.split('.').all(|label| {
        !label.is_empty() && label.len() < 64 && label.bytes().all(|byte| byte.is_ascii_lowercase())
    });
    match own {
        false => Some(false),
        true if is_plain && name.len() < 250 || name.parse::<Ipv4Addr>().is_ok() => Some(true),
        true => None,
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    }
}
