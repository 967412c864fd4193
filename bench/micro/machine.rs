//! Events come in as texts, and come out as what the caller of the SDK gets.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use taskwatch_client::OnGap;
use taskwatch_client::simulation::{Choice, Clocks, Incoming, Link, Outgoing, Stream};
use taskwatch_server::protocol::Seq;

use super::{cursor, event};

const EVENTS: Seq = 64;
const NOW: Clocks = Clocks { steady: Duration::ZERO, wall: Duration::ZERO };

pub(crate) fn run(criterion: &mut Criterion) {
    let (mut stream, link) = live();
    let mut head = 0;
    let mut group = criterion.benchmark_group("machine");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("64 events", |bencher| {
        bencher.iter_batched(
            || {
                let texts = (1..=EVENTS).map(|at| event(head + at, "acme/api").encode());
                let texts: Vec<String> = texts.collect();
                head += EVENTS;
                texts
            },
            |texts| {
                for text in texts {
                    stream.incoming(NOW, link, Incoming::Text(text));
                }
                let got = std::iter::from_fn(|| stream.next(NOW)).count();
                assert_eq!(got as u64, EVENTS);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// A stream whose subscription was answered.
fn live() -> (Stream, Link) {
    let choice = Choice {
        patterns: vec!["*".parse().unwrap()],
        since: None,
        snapshot: false,
        on_gap: OnGap::default(),
        room: 1024,
    };
    let mut stream = Stream::new(choice, || 0.5, NOW);
    let [Outgoing::Dial(link)] = stream.outgoing()[..] else { panic!("it dials first") };
    stream.incoming(NOW, link, Incoming::Opened);
    let asked = stream.outgoing();
    let [Outgoing::Text(subscribe)] = &asked[..] else { panic!("{asked:?}") };
    let subscribe: serde_json::Value = serde_json::from_str(subscribe).unwrap();
    let data =
        serde_json::json!({"accepted": ["*"], "denied": [], "mode": "live", "head": cursor(0)});
    let answer = serde_json::json!({
        "type": "subscribed", "id": subscribe["id"], "cursor": cursor(0), "data": data,
    });
    stream.incoming(NOW, link, Incoming::Text(answer.to_string()));
    while stream.next(NOW).is_some() {}
    (stream, link)
}
