//! Inputs that are like those of a corpus, on a stable compiler: what a fuzzer does without being
//! told which of them reached something new.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// As long as what `ci/fuzz` makes.
const MAX_BYTES: usize = 8 << 10;

/// What tends to stand at a boundary.
const ODD: [&[u8]; 12] = [
    b"\0",
    b"\"",
    b"\\u001b",
    b"{",
    b"]",
    b"*",
    b"/",
    b"-1",
    b"18446744073709551616",
    b"\xff",
    b"\r\n",
    "\u{202e}".as_bytes(),
];

/// How many inputs are made for each target, and from which seed; `ci/fuzz --short` chooses both.
pub(crate) fn plan() -> (u64, u64) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    (number("TASKWATCH_FUZZ_CASES").unwrap_or(200), number("TASKWATCH_SEED").unwrap_or(0))
}

/// The input of a case.
pub(crate) fn input(corpus: &[Vec<u8>], seed: u64, case: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(1 << 20).wrapping_add(case));
    let mut input = corpus.choose(&mut rng).cloned().unwrap_or_default();
    for _ in 0..rng.random_range(1..6) {
        mutate(&mut input, corpus, &mut rng);
    }
    input.truncate(MAX_BYTES);
    input
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut StdRng) {
    let at = rng.random_range(0..=input.len());
    let upto = (at + rng.random_range(0..32)).min(input.len());
    match rng.random_range(0..6) {
        0 => {
            input[at..upto].iter_mut().take(1).for_each(|byte| *byte ^= 1 << rng.random_range(0..8))
        }
        1 => drop(input.drain(at..upto)),
        2 => {
            let again = input[at..upto].to_vec();
            input.splice(at..at, again);
        }
        3 => {
            let odd = ODD.choose(rng).copied().unwrap_or_default();
            input.splice(at..at, odd.iter().copied());
        }
        4 => input.insert(at, rng.random()),
        _ => {
            let other = corpus.choose(rng).map_or(&[][..], Vec::as_slice);
            let from = rng.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}
