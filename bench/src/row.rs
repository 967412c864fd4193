//! What one run says, as one line of JSON.

use serde::{Deserialize, Serialize};

/// What a row is called.
#[derive(Debug, clap::Args)]
pub(crate) struct RunName {
    #[arg(long, default_value = "")]
    peer: String,
    #[arg(long, default_value = "")]
    shape: String,
    #[arg(long, default_value_t = 1)]
    round: u32,
}

impl RunName {
    /// A row without figures.
    pub(crate) fn row(&self) -> Row {
        let (peer, shape) = (self.peer.clone(), self.shape.clone());
        Row { peer, shape, round: self.round, ..Row::default() }
    }
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Row {
    pub(crate) peer: String,
    pub(crate) shape: String,
    pub(crate) round: u32,
    /// Why there are no figures.
    pub(crate) error: Option<String>,
    pub(crate) subscribers: usize,
    pub(crate) seconds: f64,
    pub(crate) publishes: u64,
    pub(crate) publishes_per_s: f64,
    pub(crate) deliveries: u64,
    pub(crate) deliveries_per_s: f64,
    /// Of the server and its children.
    pub(crate) cpu_us_per_delivery: f64,
    pub(crate) user_us_per_delivery: f64,
    pub(crate) system_us_per_delivery: f64,
    pub(crate) cpu_us_per_publish: f64,
    /// Where strace counts them.
    pub(crate) syncs_per_publish: f64,
    pub(crate) server_cores: f64,
    /// Near 1 the client was the limit, and not the server.
    pub(crate) client_cores: f64,
    /// What neither of both took.
    pub(crate) other_cores: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) bytes_per_delivery: f64,
    pub(crate) deliveries_per_read: f64,
    /// Of one turn of a micro-benchmark, in the median.
    pub(crate) nanoseconds: f64,
    /// Messages that a subscriber which was there to the end did not get, summed over all.
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    /// Subscribers that the server closed.
    pub(crate) killed: u64,
    /// Publishes that were answered with an error.
    pub(crate) refused: u64,
    pub(crate) rss_before: u64,
    pub(crate) rss_subscribed: u64,
    pub(crate) rss_stayed: u64,
    pub(crate) rss_after: u64,
    /// Bytes, once all have subscribed, and after the time they then stay idle.
    pub(crate) rss_per_connection: f64,
    pub(crate) rss_per_connection_stayed: f64,
}

impl Row {
    /// What is wrong beyond being slow.
    pub(crate) fn fault(&self) -> Option<String> {
        if let Some(error) = &self.error {
            return Some(error.clone());
        }
        let bad = [
            ("lost", self.lost),
            ("repeated", self.repeated),
            ("killed", self.killed),
            ("refused", self.refused),
        ];
        let bad: Vec<String> =
            bad.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
        (!bad.is_empty()).then(|| bad.join(", "))
    }
}
