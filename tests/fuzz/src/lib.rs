//! What is fuzzed stands in `tests/fuzzing`, where the stable tests replay the corpora.

#[path = "../../fuzzing/targets/mod.rs"]
mod targets;

pub use targets::*;
