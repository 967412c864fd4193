//! Cases that failed once, made smaller.

use super::Step::*;
use super::{Choice, Start, run};
use crate::OnGap;

const PLAIN: Choice = Choice {
    snapshot: false,
    on_gap: OnGap::Error,
    start: Start::Now,
    freshness: false,
    listens: false,
};
const STATE: Choice = Choice { snapshot: true, ..PLAIN };

#[test]
fn a_proof_in_the_middle_of_a_replay() {
    let choice = Choice { start: Start::Since, ..PLAIN };
    let begin = [Change(0), Change(0), Connect, Serve, Arrive, Serve, Lose, Serve, Full];
    let replay = [Room, Connect, Serve, Arrive, Serve, Arrive, Ping, Arrive];
    let story = run(choice, &[], &[&begin[..], &replay].concat());
    assert_eq!((story.losses, story.resumes), (1, 2));
}

#[test]
fn a_loss_behind_a_snapshot_that_was_added() {
    let steps = [
        Add(2),
        Connect,
        Change(0),
        Change(6621),
        Change(413),
        Change(0),
        Change(0),
        Change(0),
        Change(0),
        Change(0),
        Change(0),
        Change(0),
        Change(0),
        Serve,
        Change(0),
        Arrive,
        Change(0),
        Change(29749),
        Change(0),
        Serve,
        Serve,
        Change(1493),
        Serve,
        Change(18397),
        Arrive,
        Change(3912),
        Serve,
        Add(1),
        Serve,
        Arrive,
        Pop,
        Change(885),
        Lose,
        Serve,
        Serve,
        Serve,
        Change(0),
        Connect,
        Change(0),
        Pop,
        Change(0),
        Change(0),
        Change(0),
        Connect,
    ];
    assert_eq!(run(STATE, &[], &steps).losses, 1);
}

#[test]
fn a_lost_part_of_a_snapshot_behind_a_lost_event() {
    let before = [0, 6_672, 40, 13, 312, 0, 45_125];
    let steps = [
        Add(1),
        Connect,
        Serve,
        Arrive,
        Change(48),
        Serve,
        Serve,
        Arrive,
        Change(0),
        Change(19_845),
        Arrive,
        Change(31_749),
        Serve,
        Add(2),
        Lose,
        Serve,
        Serve,
        Arrive,
        Lose,
        Connect,
        Change(0),
        Pop,
        Full,
        Change(0),
        Pop,
        Full,
    ];
    assert_eq!(run(STATE, &before, &steps).losses, 2);
}
