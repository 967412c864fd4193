//! How much one peer, and all of them together, may cost.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::Args;
use taskwatch_server::{HubConfig, Network, Rate};

use super::duration::positive_duration;
use crate::listener::HttpLimits;
use crate::rest::BodyLimits;

/// Connections that are no WebSocket, beside a part of those that may become one.
const HTTP_CONNECTIONS: usize = 1_024;

/// One address has at most one of so many parts of them.
const HTTP_SHARES: usize = 8;

/// Limits.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitSettings {
    /// Subscribers at the same time, at most a quarter of them over plain HTTP; the next one is answered 503
    #[arg(long, env = "TASKWATCH_MAX_CONNECTIONS", default_value = "10000", value_name = "N")]
    pub max_connections: NonZeroUsize,

    /// Connections of one subject at the same time; the next one is answered 429
    #[arg(
        long,
        env = "TASKWATCH_MAX_CONNECTIONS_PER_PRINCIPAL",
        default_value = "32",
        value_name = "N"
    )]
    pub max_connections_per_principal: NonZeroUsize,

    /// Connections of subscribers from one address at the same time; the next one is answered 429
    #[arg(
        long,
        env = "TASKWATCH_MAX_CONNECTIONS_PER_ADDRESS",
        default_value = "64",
        value_name = "N"
    )]
    pub max_connections_per_address: NonZeroUsize,

    /// New connections of subscribers a second, and at once; above it they are answered 503
    #[arg(long, env = "TASKWATCH_CONNECT_RATE", default_value = "500:1000", value_name = "RATE")]
    pub connect_rate: Rate,

    /// Repositories and patterns that one connection may subscribe to
    #[arg(long, env = "TASKWATCH_MAX_SUBSCRIPTIONS", default_value = "128", value_name = "N")]
    pub max_subscriptions: NonZeroUsize,

    /// Bytes of one message from a client; a larger one closes with 1009
    #[arg(long, env = "TASKWATCH_MAX_MESSAGE_BYTES", default_value = "524288", value_name = "N")]
    pub max_message_bytes: NonZeroUsize,

    /// Messages a second from one client, and at once; above it is closed with 4103
    #[arg(long, env = "TASKWATCH_MESSAGE_RATE", default_value = "20:60", value_name = "RATE")]
    pub message_rate: Rate,

    /// WebSocket pings and pongs a second from one client, and at once
    #[arg(long, env = "TASKWATCH_CONTROL_RATE", default_value = "10:50", value_name = "RATE")]
    pub control_rate: Rate,

    /// Bytes a second from one client, and at once
    #[arg(long, env = "TASKWATCH_BYTE_RATE", default_value = "65536:1048576", value_name = "RATE")]
    pub byte_rate: Rate,

    /// Messages a minute that cannot be read, before a client is closed with 4000
    #[arg(long, env = "TASKWATCH_BAD_MESSAGES_PER_MINUTE", default_value = "10", value_name = "N")]
    pub bad_messages_per_minute: NonZeroU32,

    /// Reads of the log for one subject at the same time; the next one waits
    #[arg(
        long,
        env = "TASKWATCH_MAX_REPLAYS_PER_PRINCIPAL",
        default_value = "2",
        value_name = "N"
    )]
    pub max_replays_per_principal: NonZeroUsize,

    /// How long the head of a request may take
    #[arg(
        long,
        env = "TASKWATCH_HEADER_TIMEOUT",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = positive_duration,
    )]
    pub header_timeout: Duration,

    /// Headers of one request; more are answered 431
    #[arg(
        long,
        env = "TASKWATCH_MAX_HEADERS",
        default_value_t = 64,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(8..=1024),
    )]
    pub max_headers: u16,

    /// Bytes of the head of one request, at least 8192; more are answered 431
    #[arg(
        long,
        env = "TASKWATCH_MAX_HEADER_BYTES",
        default_value_t = 16 << 10,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(8192..=1 << 20),
    )]
    pub max_header_bytes: u32,

    /// Bytes of the body of one request; more are answered 413
    #[arg(long, env = "TASKWATCH_MAX_BODY_BYTES", default_value = "262144", value_name = "N")]
    pub max_body_bytes: NonZeroUsize,

    /// How long the body of a request may take; longer is answered 408
    #[arg(
        long,
        env = "TASKWATCH_BODY_TIMEOUT",
        default_value = "30s",
        value_name = "DURATION",
        value_parser = positive_duration,
    )]
    pub body_timeout: Duration,
}

impl LimitSettings {
    /// These limits in a hub's settings.
    pub(crate) fn hub(&self, rest: HubConfig) -> HubConfig {
        HubConfig {
            max_connections: self.max_connections.get(),
            // As many more may speak HTTP, so that streams leave room for others.
            max_streams: self.max_connections.get().div_ceil(4),
            max_connections_per_principal: self.max_connections_per_principal.get(),
            max_connections_per_address: self.max_connections_per_address.get(),
            connects: self.connect_rate,
            messages: self.message_rate,
            controls: self.control_rate,
            bytes: self.byte_rate,
            bad_messages_per_minute: self.bad_messages_per_minute.get(),
            reads_per_principal: self.max_replays_per_principal.get(),
            max_message_bytes: self.max_message_bytes.get(),
            max_patterns_per_message: self.max_subscriptions.get(),
            max_patterns: self.max_subscriptions.get(),
            ..rest
        }
    }

    pub(crate) fn http(&self, trusted_proxies: Vec<Network>) -> HttpLimits {
        let connections = HTTP_CONNECTIONS + self.max_connections.get() / 4;
        HttpLimits {
            connections,
            connections_per_address: connections / HTTP_SHARES,
            trusted_proxies,
            header_timeout: self.header_timeout,
            max_headers: self.max_headers.into(),
            max_header_bytes: self.max_header_bytes as usize,
        }
    }

    pub(crate) fn body(&self) -> BodyLimits {
        BodyLimits { bytes: self.max_body_bytes.get(), timeout: self.body_timeout }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Settings;

    fn limits(flags: &[&str]) -> Result<LimitSettings, clap::Error> {
        let settings = Settings::try_parse_from([&["taskwatchd"], flags].concat())?;
        Ok(settings.limits)
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let default = HubConfig::default();
        let limited = limits(&[]).unwrap().hub(HubConfig::default());
        assert_eq!(format!("{limited:?}"), format!("{default:?}"));
    }

    #[test]
    fn every_limit_can_be_set_and_none_can_be_nothing() {
        for flag in [
            "--max-connections",
            "--max-connections-per-principal",
            "--max-connections-per-address",
            "--max-subscriptions",
            "--max-message-bytes",
            "--bad-messages-per-minute",
            "--max-replays-per-principal",
            "--max-body-bytes",
            "--max-headers",
        ] {
            assert!(limits(&[flag, "9"]).is_ok(), "{flag}");
            assert!(limits(&[flag, "0"]).is_err(), "{flag}");
        }
        for flag in ["--connect-rate", "--message-rate", "--control-rate", "--byte-rate"] {
            assert!(limits(&[flag, "9:9"]).is_ok(), "{flag}");
            assert!(limits(&[flag, "9"]).is_err() && limits(&[flag, "0:9"]).is_err(), "{flag}");
        }
        for flag in ["--header-timeout", "--body-timeout"] {
            assert!(limits(&[flag, "9s"]).is_ok(), "{flag}");
            assert!(limits(&[flag, "0s"]).is_err(), "{flag}");
        }
        // hyper takes no less.
        assert!(limits(&["--max-header-bytes", "8192"]).is_ok());
        assert!(limits(&["--max-header-bytes", "8191"]).is_err());
    }

    #[test]
    fn what_is_set_arrives() {
        let flags = ["--max-connections", "7", "--max-subscriptions", "5", "--byte-rate", "8:9"];
        let limits = limits(&flags).unwrap();
        let hub = limits.hub(HubConfig::default());
        assert_eq!(
            (hub.max_connections, hub.max_patterns, hub.max_patterns_per_message),
            (7, 5, 5)
        );
        assert_eq!(hub.bytes, Rate { per_second: 8, burst: 9 });
        assert_eq!(limits.http(vec![]).connections, HTTP_CONNECTIONS + 1);
    }
}
