//! Where the connection is told of.

use tokio::io::AsyncWrite;

use super::print;

/// Where the connection is told of, and, on a terminal, the line that says how it is just now.
pub(super) struct Stderr<W> {
    err: W,
    /// What stands in the last line.
    line: String,
}

impl<W: AsyncWrite + Unpin> Stderr<W> {
    pub(super) fn new(err: W) -> Self {
        Self { err, line: String::new() }
    }

    /// Puts this in the place of the last line; nothing takes it away.
    pub(super) async fn show(&mut self, line: &str) {
        if self.line == line {
            return;
        }
        self.line = line.to_owned();
        let mut line = format!("\r{line}\u{1b}[K");
        let _ = print(&mut self.err, &mut line).await;
    }

    /// Tells something for good.
    pub(super) async fn tell(&mut self, mut line: String) {
        line.push('\n');
        // That nobody reads about the connection is no reason to stop.
        let _ = print(&mut self.err, &mut line).await;
    }
}
