//! Random interleavings of everything that can happen to a hub and its connections, each frame
//! judged by a model that knows what the peer must be told. A seed decides all of it, down to
//! whether the fan-out rests between two pushes of one event.

mod grants;
mod judge;
mod step;
mod world;

use std::sync::Arc;
use std::time::Duration;

use taskwatch_protocol::{ServerFrame, Timestamp};

use super::{Change, Disk, Held, Seeds, Server};
use crate::HubConfig;
use world::World;

const SEEDS: Seeds =
    Seeds { command: "cargo test -p taskwatch-server whatever_happens -- --nocapture", cases: 150 };

fn case(seed: u64, held: &mut Held) {
    let mut world = World::new(seed, held);
    world.go_on();
    world.come_to_rest();
}

#[test]
fn whatever_happens_everybody_is_told_the_truth() {
    SEEDS.run(case);
}

#[test]
fn a_seed_replays() {
    for seed in 0..20 {
        let hash = || SEEDS.one(seed, case).hash();
        assert_eq!(hash(), hash());
    }
    assert_ne!(SEEDS.one(0, case).hash(), SEEDS.one(1, case).hash());
}

/// The fan-out may be slow: what was acknowledged before somebody subscribed is not news to them.
#[test]
fn who_subscribes_begins_behind_what_was_published() {
    let disk = Disk::new(0);
    disk.open(1);
    let mut server = Server::start(Arc::new(disk.clone()), HubConfig::default());
    let change = Change { task: usize::MAX, is_deletion: false, repository: "foo", bytes: 0 };
    let publish = |server: &Server| {
        server.publish(disk.commit(change, Timestamp::from_unix_millis(0)));
    };
    let mut connection = server.accept(Duration::ZERO, 0.5);
    assert!(connection.write(Duration::ZERO).unwrap().contains("welcome"));
    publish(&server);
    connection.text(Duration::ZERO, r#"{"type":"subscribe","data":{"repositories":["foo"]}}"#);
    publish(&server);
    while server.fan_out(1) {}
    connection.turn(Duration::ZERO);
    let frames = std::iter::from_fn(|| connection.write(Duration::ZERO));
    let cursors: Vec<_> = frames
        .map(|frame| ServerFrame::decode(&frame).unwrap())
        .filter_map(|frame| frame.cursor)
        .map(|cursor| cursor.as_str().rsplit('-').next().unwrap().to_owned())
        .collect();
    // The answer, then the event after it.
    assert_eq!(cursors, ["1", "2"]);
}
