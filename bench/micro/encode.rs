//! An event becomes the bytes that all its subscribers are sent.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use taskwatch_server::LogEvent;
use taskwatch_server::protocol::{EventKind, RepositoryName};

use super::event;

pub(crate) fn run(criterion: &mut Criterion) {
    let frame = event(1, "github.com/acme/api");
    let repository: RepositoryName = "github.com/acme/api".parse().unwrap();
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Bytes(frame.encode().len() as u64));
    group.bench_function("event", |bencher| {
        bencher.iter(|| {
            let envelope = black_box(&frame).encode();
            LogEvent::new(1, repository.clone(), EventKind::Created, &envelope)
        });
    });
    group.finish();
}
