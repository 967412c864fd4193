//! The two clocks, read here alone.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use taskwatch_protocol::Timestamp;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) wall: Timestamp,
}

/// Reads the one that only goes forward.
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Reads both clocks.
pub(crate) fn now() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    Now { instant: instant(), wall: Timestamp::from_unix_millis(millis) }
}
