//! Who may open one more connection. Plain data: no sockets, no clock.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;

use crate::rate::{Refill, TokenBucket};
use crate::{HubConfig, Network};

/// Connections, counted by who made them and from where.
#[derive(Debug)]
pub(super) struct Admission {
    per_principal: usize,
    per_address: usize,
    reads_per_principal: usize,
    connects: TokenBucket,
    connect_rate: Refill,
    principals: HashMap<Arc<str>, Principal>,
    addresses: HashMap<Network, usize>,
}

#[derive(Debug)]
struct Principal {
    connections: usize,
    reads: Arc<Semaphore>,
}

/// What a connection counts as.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    principal: Option<Arc<str>>,
    address: Option<Network>,
    /// Turns at reading the log, shared by the connections of one principal.
    pub(super) reads: Option<Arc<Semaphore>>,
}

/// What a connection is made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    WebSocket,
    /// A response that goes on.
    Stream,
    /// A response that comes as soon as there is something, and is asked for again then.
    Poll,
}

/// Why there may not be one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    /// There are as many as there may be.
    #[error("this server takes no more connections now")]
    Full,
    /// The server is stopping.
    #[error("this server takes no more connections now")]
    Stopping,
    /// They come too fast.
    #[error("too many connections are being made; come back in a moment")]
    TooFast,
    /// This principal has as many as it may have.
    #[error("a principal may have {0} connections; close one first")]
    Principal(usize),
    /// This address has as many as it may have.
    #[error("an address may have {0} connections; close one first")]
    Address(usize),
}

impl NotAdmitted {
    /// The word it is counted by.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Stopping => "stopping",
            Self::TooFast => "rate",
            Self::Principal(_) => "principal",
            Self::Address(_) => "address",
        }
    }
}

impl Admission {
    pub(super) fn new(config: &HubConfig, now: Instant) -> Self {
        Self {
            per_principal: config.max_connections_per_principal,
            per_address: config.max_connections_per_address,
            reads_per_principal: config.reads_per_principal,
            connects: TokenBucket::new(now),
            connect_rate: config.connects.into(),
            principals: HashMap::new(),
            addresses: HashMap::new(),
        }
    }

    /// Counts one more connection, of nobody in particular or of a principal. It was `made` now, or
    /// is one that asks again.
    pub(super) fn enter(
        &mut self,
        subject: Option<&str>,
        address: Option<IpAddr>,
        made: Option<Instant>,
    ) -> Result<Counted, NotAdmitted> {
        let address = address.filter(|address| !address.to_canonical().is_loopback());
        let address = address.map(Network::of_peer);
        let from_there = address.and_then(|address| self.addresses.get(&address));
        if from_there.is_some_and(|&count| count >= self.per_address) {
            return Err(NotAdmitted::Address(self.per_address));
        }
        let known = subject.and_then(|subject| self.principals.get(subject));
        if known.is_some_and(|principal| principal.connections >= self.per_principal) {
            return Err(NotAdmitted::Principal(self.per_principal));
        }
        // Last: who has too many, and keeps trying, must not use up what is for all.
        if let (Some(_), Some(now)) = (address, made)
            && !self.connects.take(now, self.connect_rate, 1)
        {
            return Err(NotAdmitted::TooFast);
        }
        let mut counted = Counted { address, ..Counted::default() };
        if let Some(address) = address {
            *self.addresses.entry(address).or_default() += 1;
        }
        if let Some(subject) = subject {
            let subject: Arc<str> = subject.into();
            let principal = self.principals.entry(subject.clone()).or_insert_with(|| Principal {
                connections: 0,
                reads: Arc::new(Semaphore::new(self.reads_per_principal)),
            });
            principal.connections += 1;
            counted.reads = Some(principal.reads.clone());
            counted.principal = Some(subject);
        }
        Ok(counted)
    }

    /// That connection is gone.
    pub(super) fn leave(&mut self, counted: &Counted) {
        if let Some(address) = counted.address
            && let Some(count) = self.addresses.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
        if let Some(subject) = &counted.principal
            && let Some(principal) = self.principals.get_mut(subject)
        {
            principal.connections -= 1;
            if principal.connections == 0 {
                self.principals.remove(subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Rate;

    fn admission(now: Instant) -> Admission {
        let config = HubConfig {
            max_connections_per_principal: 2,
            max_connections_per_address: 3,
            connects: Rate { per_second: 1, burst: 5 },
            ..HubConfig::default()
        };
        Admission::new(&config, now)
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_principal_has_so_many_connections_from_wherever() {
        let now = Instant::now();
        let mut admission = admission(now);
        let first = admission.enter(Some("ana"), address("192.0.2.1"), Some(now)).unwrap();
        admission.enter(Some("ana"), address("192.0.2.2"), Some(now)).unwrap();
        let refused = admission.enter(Some("ana"), address("127.0.0.1"), Some(now)).unwrap_err();
        assert_eq!(refused, NotAdmitted::Principal(2));
        admission.enter(Some("ben"), None, Some(now)).unwrap();
        admission.leave(&first);
        admission.enter(Some("ana"), None, Some(now)).unwrap();
    }

    #[test]
    fn an_address_has_so_many_connections_except_those_of_this_machine() {
        let now = Instant::now();
        let mut admission = admission(now);
        for last in 1..=3 {
            admission.enter(None, address(&format!("2001:db8::{last}")), Some(now)).unwrap();
        }
        let refused = admission.enter(None, address("2001:db8::9"), Some(now)).unwrap_err();
        assert_eq!(refused, NotAdmitted::Address(3));
        admission.enter(None, address("2001:db8:0:1::9"), Some(now)).unwrap();
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            for _ in 0..9 {
                admission.enter(None, address(own), Some(now)).unwrap();
            }
        }
    }

    #[test]
    fn who_comes_too_fast_waits() {
        let now = Instant::now();
        let mut admission = admission(now);
        for last in 1..=5 {
            admission.enter(None, address(&format!("192.0.2.{last}")), Some(now)).unwrap();
        }
        let sixth = address("192.0.2.6");
        assert_eq!(admission.enter(None, sixth, Some(now)).unwrap_err(), NotAdmitted::TooFast);
        admission.enter(None, sixth, Some(now + Duration::from_secs(1))).unwrap();
        // Who asks again is not one more that comes.
        admission.enter(None, sixth, None).unwrap();
    }

    #[test]
    fn who_is_refused_does_not_make_others_wait() {
        let now = Instant::now();
        let mut admission = admission(now);
        for _ in 0..3 {
            admission.enter(None, address("192.0.2.1"), Some(now)).unwrap();
        }
        for _ in 0..9 {
            let refused = admission.enter(None, address("192.0.2.1"), Some(now)).unwrap_err();
            assert_eq!(refused, NotAdmitted::Address(3));
        }
        admission.enter(None, address("192.0.2.2"), Some(now)).unwrap();
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let now = Instant::now();
        let mut admission = admission(now);
        let counted = admission.enter(Some("ana"), address("192.0.2.1"), Some(now)).unwrap();
        admission.leave(&counted);
        assert!(admission.principals.is_empty() && admission.addresses.is_empty());
    }
}
