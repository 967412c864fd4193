//! Many cases, each decided by its seed alone.
#![expect(clippy::print_stdout, reason = "what a run held is for people to read")]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What a case held, and the hash of all that happened in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    things: BTreeSet<&'static str>,
    hash: u64,
    is_told: bool,
}

impl Held {
    /// The case held this.
    pub fn note(&mut self, thing: &'static str) {
        self.things.insert(thing);
    }

    /// Something happened.
    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        let what = what();
        let mut hasher = DefaultHasher::new();
        (self.hash, &what).hash(&mut hasher);
        self.hash = hasher.finish();
        if self.is_told {
            println!("{what}");
        }
    }

    /// Two cases that went the same way have the same hash.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// Which cases are run.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// What to run to see one case again, after `TASKWATCH_SEED=n `.
    pub command: &'static str,
    /// Cases where `TASKWATCH_CASES` does not say.
    pub cases: u64,
}

impl Seeds {
    /// Runs `case` for every seed, or for that in `TASKWATCH_SEED` alone, and prints what the
    /// cases held.
    ///
    /// # Panics
    /// If a case does, or if too few held lag, resume or join.
    pub fn run(self, case: impl Fn(u64, &mut Held)) {
        if let Some(seed) = variable("TASKWATCH_SEED") {
            return case(seed, &mut Held { is_told: true, ..Held::default() });
        }
        let cases = variable("TASKWATCH_CASES").unwrap_or(self.cases);
        let mut counts = BTreeMap::<_, u64>::new();
        for seed in 0..cases {
            for thing in self.one(seed, &case).things {
                *counts.entry(thing).or_default() += 1;
            }
        }
        println!("{cases} cases; of them held");
        for (thing, count) in &counts {
            println!("{:6.1} %  {thing}", *count as f64 * 100.0 / cases as f64);
        }
        for thing in ["lag", "resume", "join"] {
            let count = counts.get(thing).copied().unwrap_or_default();
            assert!(count * 10 >= cases * 3, "only {count} of {cases} cases held {thing}");
        }
    }

    /// Runs one case; a failure says how to see it again.
    ///
    /// # Panics
    /// If the case does.
    pub fn one(self, seed: u64, case: impl Fn(u64, &mut Held)) -> Held {
        let mut held = Held::default();
        match catch_unwind(AssertUnwindSafe(|| case(seed, &mut held))) {
            Ok(()) => held,
            Err(panic) => {
                println!(
                    "seed {seed} failed; see it again: TASKWATCH_SEED={seed} {}",
                    self.command
                );
                resume_unwind(panic)
            }
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Seeds = Seeds { command: "", cases: 10 };

    #[test]
    #[should_panic(expected = "cases held resume")]
    fn a_run_that_was_too_easy_fails() {
        FEW.run(|seed, held| {
            held.note("lag");
            held.note("join");
            if seed == 3 {
                held.note("resume");
            }
        });
    }

    #[test]
    #[should_panic(expected = "broken")]
    fn a_failure_is_not_swallowed() {
        FEW.run(|seed, _| assert_ne!(seed, 7, "broken"));
    }
}
