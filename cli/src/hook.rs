//! What `--exec` runs for each event, so that each is handled at least once and none is passed over.

mod environment;
mod queue;
mod run;

pub(crate) use self::run::{Hook, Problem, Setting, run};
