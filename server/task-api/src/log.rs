//! What the server tells about itself, on stderr.

use std::{env, io};

use taskwatch_protocol::escape::LogLines;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Without `RUST_LOG`: warnings, but not those of the MCP library about what a client asked for, or that it
/// has left. They repeat what it was answered.
const DEFAULT: &str = "warn,rmcp=error,rmcp::service=off";

/// Starts to log what `RUST_LOG` asks for.
pub(crate) fn start() {
    let asked = env::var(EnvFilter::DEFAULT_ENV).ok().filter(|asked| !asked.is_empty());
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.parse_lossy(asked.as_deref().unwrap_or(DEFAULT)))
        .with_ansi(false)
        // A log quotes the other end; the subscriber hands over whole events.
        .with_writer(|| LogLines(io::stderr()))
        .init();
}
