//! Many streams of the SDK against the hub, both as their state machines, over a network, disks
//! and clocks that are simulated: one thread, no real time, and no chance but the seed.
//!
//! `world.rs` is what can happen, `network.rs` what lies between the two sides, `watcher.rs` the
//! judge of what a caller of the SDK sees.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod network;
mod watcher;
mod world;

use taskwatch_server::simulation::{Held, Seeds};
use world::World;

const SEEDS: Seeds = Seeds {
    command: "cargo test -p taskwatch-tests --test simulator whatever_happens -- --nocapture",
    cases: 50,
};

fn case(seed: u64, held: &mut Held) {
    let mut world = World::new(seed, held);
    world.go_on();
    world.come_to_rest();
}

#[test]
fn whatever_happens_every_stream_is_whole() {
    SEEDS.run(case);
}

#[test]
fn a_seed_replays() {
    for seed in 0..4 {
        let hash = || SEEDS.one(seed, case).hash();
        assert_eq!(hash(), hash());
    }
    assert_ne!(SEEDS.one(0, case).hash(), SEEDS.one(1, case).hash());
}

/// Cases that failed once.
mod found {
    use super::{SEEDS, case};

    #[test]
    fn a_long_way_over_a_slow_link() {
        // 500 events to catch up with, 0.3 s each: no fault of either side, but of the network as
        // it was simulated.
        SEEDS.one(1310, case);
    }
}
