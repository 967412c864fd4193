//! What `-v` shows: the SDK's own log, on stderr.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::escape::LogLines;

/// Starts to log: `-v` what happens, `-vv` why, `-vvv` every step. Without `-v` there is no log.
///
/// Only the SDK says more than warnings, since the libraries below it log whole requests, and
/// those hold secrets.
pub(crate) fn start(verbose: u8) {
    let filter = match verbose {
        0 => return,
        1 => "warn,taskwatch_client=info",
        2 => "warn,taskwatch_client=debug",
        _ => "warn,taskwatch_client=trace",
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(false)
        // A log quotes the other end; the subscriber hands over whole events.
        .with_writer(|| LogLines(io::stderr()))
        .init();
}
