//! What `-v` shows: the SDK's own log, on stderr.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::escape::LogLine;

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
        .with_writer(|| Harmless(io::stderr()))
        .init();
}

/// Passes each event on as one line, without what could drive a terminal or pass for another line:
/// a log quotes the server.
pub(crate) struct Harmless<W>(pub(crate) W);

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
        log.write_all("reason=\u{1b}[2J ü\nERROR \u{9b}\n".as_bytes()).unwrap();
        log.write_all(b"\xff\n").unwrap();
        log.flush().unwrap();
        let shown = "reason=\\u{1b}[2J ü\\u{a}ERROR \\u{9b}\n\u{fffd}\n";
        assert_eq!(String::from_utf8(log.0).unwrap(), shown);
    }
}
