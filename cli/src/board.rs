//! The tasks on a full screen, as they are at this moment.
//!
//! `model.rs` decides: updates and keys in, what to show and what to do out. `draw.rs` makes cells of
//! it. `run.rs` and `screen.rs` have the stream, the keys, the clock, the signals and the terminal.

mod draw;
mod entry;
mod history;
mod model;
mod run;
mod screen;
#[cfg(test)]
mod story;

use std::time::Duration;

use jiff::Zoned;
use taskwatch_client::protocol::Timestamp;

pub(crate) use self::run::run;

/// A moment, told by whoever has a clock.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Since the board was opened: for whatever lasts.
    elapsed: Duration,
    /// The time of day, and where.
    wall: Zoned,
}

impl Moment {
    fn timestamp(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.wall.timestamp().as_millisecond())
    }
}
