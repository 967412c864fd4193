//! What the server has counted.

use std::collections::HashMap;
use std::time::Duration;

use taskwatch_tests::within;
use tokio::time::sleep;

use crate::http::Http;

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// `GET /metrics` at one moment.
#[derive(Debug)]
pub(crate) struct Counters(HashMap<String, u64>);

impl Counters {
    pub(crate) async fn read(addr: &str) -> Self {
        let mut http = Http::connect(addr).await.unwrap();
        http.send("GET", "/metrics", "").await.unwrap();
        let body = http.answer().await.unwrap().body;
        let values = body.lines().filter(|line| !line.starts_with('#'));
        Self(
            values
                .filter_map(|line| line.split_once(' '))
                // Sums of histograms are no whole numbers.
                .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
                .collect(),
        )
    }

    /// Waits until they are as they should be.
    pub(crate) async fn until(addr: &str, what: &str, wanted: impl Fn(&Self) -> bool) -> Self {
        let looking = async {
            loop {
                let counters = Self::read(addr).await;
                if wanted(&counters) {
                    return counters;
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        within(what, looking).await
    }

    /// A value by its name behind `taskwatch_`, with labels if it has any.
    pub(crate) fn get(&self, name: &str) -> u64 {
        let value = self.0.get(&format!("taskwatch_{name}"));
        *value.unwrap_or_else(|| panic!("the server does not count {name}"))
    }

    pub(crate) fn closed(&self, code: u16) -> u64 {
        self.get(&format!("closes_total{{code=\"{code}\"}}"))
    }
}
