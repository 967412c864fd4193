//! What `-v` shows: the SDK's own log, on stderr.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::escape::Visible;

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

/// Passes lines on as they are, except for what could drive a terminal: a log quotes the server.
struct Harmless<W>(W);

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The subscriber hands over whole lines, so no character is cut in two.
        for line in String::from_utf8_lossy(bytes).split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => writeln!(self.0, "{}", Visible(line))?,
                None => write!(self.0, "{}", Visible(line))?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_harmless() {
        let mut log = Harmless(Vec::new());
        log.write_all("reason=\u{1b}[2J ü\n\u{9b}".as_bytes()).unwrap();
        log.write_all(b"\xff\n").unwrap();
        log.flush().unwrap();
        assert_eq!(String::from_utf8(log.0).unwrap(), "reason=\\u{1b}[2J ü\n\\u{9b}\u{fffd}\n");
    }
}
