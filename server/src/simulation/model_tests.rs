//! Random interleavings of everything that can happen to a hub and its connections, each frame
//! judged by a model that knows what the peer must be told. A seed decides all of it, down to
//! whether the fan-out rests between two pushes of one event.

mod judge;
mod step;
mod world;

use super::{Held, Seeds};
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
