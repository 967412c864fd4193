//! Where a request comes from, when proxies stand between.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// One address, or a network such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

/// The text is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an IP address nor a network such as 10.0.0.0/8")]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| text.parse());
        network.map(Self).map_err(|_| InvalidNetwork(text.to_owned()))
    }
}

impl Network {
    /// What belongs to whoever has this address: with IPv6 that is a whole /64.
    #[must_use]
    pub fn of_peer(address: IpAddr) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V6(v6) if !v6.is_loopback() => {
                let first = Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX));
                IpNet::new(first.into(), 64)
            }
            other => Ok(other.into()),
        };
        Self(network.unwrap_or_else(|_| address.into()))
    }

    /// Whether the address is one of it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

/// The nearest address that is not one of a trusted proxy. Each proxy appends whom it was asked by,
/// so what stands further left may be anybody's invention.
pub(super) fn of_client(trusted: &[Network], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let mut nearest = peer;
    // As bytes: a line is not to be passed over because a part of it, further left, is no text.
    let values: Vec<&[u8]> =
        headers.get_all(FORWARDED_FOR).iter().map(|it| it.as_bytes()).collect();
    for hop in values.iter().rev().flat_map(|value| value.rsplit(|&byte| byte == b',')) {
        // What cannot be read hides whoever asked the nearest hop that can.
        let Some(address) = parse(hop) else { break };
        nearest = address;
        if !is_trusted(address) {
            break;
        }
    }
    nearest
}

/// Some proxies add a port.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?.trim();
    let address = hop.parse().ok().or_else(|| {
        let with_port = hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
        let bare = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
        with_port.or_else(bare)
    });
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed_and_only_from_the_right() {
        let trusted: Vec<Network> =
            ["127.0.0.1", "10.0.0.0/8"].iter().map(|text| text.parse().unwrap()).collect();
        for (peer, forwarded, client) in [
            ("192.0.2.9", &["203.0.113.5"][..], "192.0.2.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.5"], "203.0.113.5"),
            ("::ffff:127.0.0.1", &["203.0.113.5"], "203.0.113.5"),
            ("127.0.0.1", &["8.8.8.8, 203.0.113.5, 10.1.2.3"], "203.0.113.5"),
            ("127.0.0.1", &["8.8.8.8", "203.0.113.5"], "203.0.113.5"),
            ("127.0.0.1", &["203.0.113.5:4711"], "203.0.113.5"),
            ("127.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("127.0.0.1", &["8.8.8.8, unknown, 10.1.2.3"], "10.1.2.3"),
            ("127.0.0.1", &[""], "127.0.0.1"),
            ("127.0.0.1", &["\u{e9}, 203.0.113.5"], "203.0.113.5"),
            ("127.0.0.1", &["\u{e9}", "203.0.113.5"], "203.0.113.5"),
        ] {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(FORWARDED_FOR, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let found = of_client(&trusted, peer.parse().unwrap(), &headers);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn an_ipv6_peer_has_a_whole_64() {
        let of = |text: &str| Network::of_peer(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::1"), "::1".parse().unwrap());
    }

    #[test]
    fn a_network_is_an_address_or_a_range() {
        for good in ["127.0.0.1", "::1", "10.0.0.0/8", "fd00::/8"] {
            assert!(good.parse::<Network>().is_ok(), "{good}");
        }
        for bad in ["", "localhost", "10.0.0.0/33", "10.0.0"] {
            assert!(bad.parse::<Network>().is_err(), "{bad:?}");
        }
    }
}
