//! Who is to get an event, and what it takes to become one of them.

use criterion::{BenchmarkId, Criterion, Throughput};
use taskwatch_server::LogEvent;
use taskwatch_server::protocol::{EventKind, Pattern};
use taskwatch_server::simulation::{Listener, Listeners};

use super::event;

fn patterns(names: impl Iterator<Item = String>) -> Vec<Pattern> {
    names.map(|name| name.parse().unwrap()).collect()
}

/// So many who listen to `acme/api`, and so many with 100 subscriptions each to something else.
fn listeners(wanting: usize, others: usize) -> (Listeners, Vec<Listener>) {
    let mut listeners = Listeners::default();
    let mut all = vec![];
    for _ in 0..wanting {
        all.push(listeners.join(&patterns(std::iter::once("acme/api".to_owned()))));
    }
    for other in 0..others {
        let names = (0..100).map(|at| format!("other/{other}-{at}"));
        all.push(listeners.join(&patterns(names)));
    }
    (listeners, all)
}

pub(crate) fn run(criterion: &mut Criterion) {
    let created = (1..=64).map(|seq| {
        let envelope = event(seq, "acme/api").encode();
        LogEvent::new(seq, "acme/api".parse().unwrap(), EventKind::Created, &envelope)
    });
    let created: Vec<LogEvent> = created.collect();
    let mut group = criterion.benchmark_group("recipients");
    for (events, wanting, others) in [(1, 10, 0), (1, 10, 1000), (1, 1000, 0), (64, 1000, 0)] {
        let (mut listeners, _all) = listeners(wanting, others);
        group.throughput(Throughput::Elements((events * wanting) as u64));
        let all = wanting + others * 100;
        let id = BenchmarkId::from_parameter(format!("of {events}, {wanting} of {all}"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                assert_eq!(listeners.recipients(&created[..events]), events * wanting);
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("join and leave");
    for count in [1, 100] {
        let (mut listeners, _all) = listeners(1000, 0);
        let names = patterns((0..count).map(|at| format!("acme/{at}")));
        group.throughput(Throughput::Elements(count));
        let id = BenchmarkId::from_parameter(count);
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                let listener = listeners.join(&names);
                listeners.leave(&listener);
            });
        });
    }
    group.finish();
}
