//! What the server tells about itself, on stderr.

use std::io::{self, Write};

use taskwatch_protocol::escape::LogLine;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts to log what `RUST_LOG` asks for, and warnings without it.
pub(crate) fn start() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_ansi(false)
        .with_writer(|| Harmless(io::stderr()))
        .init();
}

/// Passes each event on as one line, without what could drive a terminal or pass for another line:
/// a log quotes whoever connects.
struct Harmless<W>(W);

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // The subscriber hands over whole events, so no character is cut in two.
        write!(self.0, "{}", LogLine(&String::from_utf8_lossy(event)))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_harmless_line() {
        let mut log = Harmless(Vec::new());
        log.write_all("detail=\u{1b}[2J ü\nERROR \u{9b}\n".as_bytes()).unwrap();
        log.write_all(b"\xff\n").unwrap();
        log.flush().unwrap();
        let shown = "detail=\\u{1b}[2J ü\\u{a}ERROR \\u{9b}\n\u{fffd}\n";
        assert_eq!(String::from_utf8(log.0).unwrap(), shown);
    }
}
