//! What several modules need beside the harness.

mod agent;
mod bare;
mod embedded;
mod log;
mod tls;

pub(crate) use agent::{Agent, STATELESS};
pub(crate) use bare::{Bare, Opcode, frame, narrow};
pub(crate) use embedded::{Embedded, task};
pub(crate) use log::TestLog;
pub(crate) use tls::{Authority, TlsFront};

use std::time::Duration;

use serde_json::Value;
use taskwatch_client::{Client, TransportChoice};
use taskwatch_tests::{LoggedEvent, RawClient};

/// A client of the SDK that comes back quickly.
pub(crate) fn client(url: &str) -> Client {
    client_over(url, TransportChoice::Auto)
}

/// The same, on this way.
pub(crate) fn client_over(url: &str, choice: TransportChoice) -> Client {
    Client::builder(url)
        .backoff_initial(Duration::from_millis(10))
        .backoff_cap(Duration::from_millis(100))
        .transport(choice)
        .build()
        .unwrap()
}

/// What the log holds of some repositories, as it goes on the wire.
pub(crate) fn envelopes(log: &[LoggedEvent], repositories: &[&str]) -> Vec<String> {
    let wanted = |event: &&LoggedEvent| {
        repositories.contains(&"*") || repositories.contains(&event.repository.as_str())
    };
    log.iter().filter(wanted).map(|event| event.envelope.clone()).collect()
}

/// The cursor of an envelope.
pub(crate) fn cursor(envelope: &str) -> String {
    let envelope: Value = serde_json::from_str(envelope).unwrap();
    envelope["cursor"].as_str().unwrap().to_owned()
}

/// The next `count` task events, as they came.
pub(crate) async fn events(client: &mut RawClient, count: usize) -> Vec<String> {
    let mut events = vec![];
    while events.len() < count {
        let text = client.try_next().await.unwrap();
        if text.contains(r#""type":"task."#) {
            events.push(text);
        }
    }
    events
}
