//! What the server tells about itself, on stderr.

use std::io;

use taskwatch_protocol::escape::LogLines;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts to log what `RUST_LOG` asks for, and warnings without it.
pub(crate) fn start() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_ansi(false)
        // A log quotes the other end; the subscriber hands over whole events.
        .with_writer(|| LogLines(io::stderr()))
        .init();
}
