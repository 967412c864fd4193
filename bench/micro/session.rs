//! A text of a client comes in, and its answer goes out.

use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use taskwatch_server::simulation::{Connection, Server};
use taskwatch_server::{HubConfig, MemoryLog};

/// Between two messages, so that there are never too many.
const PAUSE: Duration = Duration::from_secs(1);

struct Peer {
    connection: Connection,
    now: Duration,
}

impl Peer {
    fn says(&mut self, text: &str) {
        self.now += PAUSE;
        self.connection.text(self.now, text);
    }

    fn reads(&mut self, answer: &str) {
        let text = self.connection.write(self.now).unwrap();
        assert!(text.contains(answer), "{text}");
    }
}

pub(crate) fn run(criterion: &mut Criterion) {
    let config = HubConfig::default();
    let log = Arc::new(MemoryLog::new(config.cache_events, config.cache_bytes));
    let server = Server::start(log, config);
    let connection = server.accept(Duration::ZERO, 0.5);
    let mut peer = Peer { connection, now: Duration::ZERO };
    peer.reads("welcome");
    let mut group = criterion.benchmark_group("session");
    group.bench_function("ping", |bencher| {
        bencher.iter(|| {
            peer.says(r#"{"type":"ping","id":"p1"}"#);
            peer.reads("pong");
        });
    });
    group.bench_function("subscribe and unsubscribe", |bencher| {
        bencher.iter(|| {
            peer.says(r#"{"type":"subscribe","id":"s1","data":{"repositories":["acme/*"]}}"#);
            peer.reads("subscribed");
            peer.says(r#"{"type":"unsubscribe","id":"u1","data":{"repositories":["acme/*"]}}"#);
            peer.reads("unsubscribed");
        });
    });
    group.finish();
}
