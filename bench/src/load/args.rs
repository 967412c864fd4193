//! What to do to which server.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::publisher::{Target, Way};
use crate::row::RunName;
use crate::stamp::Stamp;

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(super) enum Mode {
    /// As fast as it goes, with a limit on what is not yet at every subscriber
    Flood,
    /// So many publishes a second
    Rate,
    /// Nothing is published: memory
    Idle,
    /// As fast as the answers come, to nobody
    Commit,
    /// All subscribers go on, at the same time, from where so much has been published since
    Resume,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum)]
    pub(super) mode: Mode,
    /// Port of the server, on 127.0.0.1
    #[arg(long)]
    pub(super) port: u16,
    /// Path of the WebSocket; `{topic}` and `{i}` are filled in, also in the messages
    #[arg(long, default_value = "/ws")]
    pub(super) path: String,
    /// Text message that subscribes (repeatable)
    #[arg(long)]
    pub(super) init: Vec<String>,
    /// START=>ANSWER: what to answer to short messages (repeatable)
    #[arg(long)]
    pub(super) reply: Vec<String>,
    /// Messages may span frames, or share one
    #[arg(long)]
    pub(super) spanning: bool,
    /// How to publish
    #[arg(long, value_enum, default_value = "http")]
    pub(super) publish: Way,
    #[arg(long)]
    pub(super) publish_path: Option<String>,
    #[arg(long)]
    pub(super) publish_port: Option<u16>,
    /// HTTP connections that publish
    #[arg(long, default_value_t = 1)]
    pub(super) publishers: usize,
    #[arg(long, default_value_t = 1000)]
    pub(super) subscribers: usize,
    /// Subscriber i listens to topic i modulo this; publishes go round
    #[arg(long, default_value_t = 1)]
    pub(super) topics: usize,
    /// Messages that may be under way in a flood
    #[arg(long, default_value_t = 64)]
    pub(super) window: u64,
    /// Publishes a second
    #[arg(long, default_value_t = 50.0)]
    pub(super) rate: f64,
    /// Bytes of a published body
    #[arg(long, default_value_t = 512)]
    pub(super) size: usize,
    /// Messages that everybody has missed who resumes
    #[arg(long, default_value_t = 1000)]
    pub(super) behind: u64,
    /// Text message of who resumes; `{cursor}` is where from
    #[arg(long)]
    pub(super) resume: Vec<String>,
    /// What stands before a cursor in the answer to a subscription
    #[arg(long)]
    pub(super) cursor: Option<String>,
    /// More connections, which listen to what nobody publishes
    #[arg(long, default_value_t = 0)]
    pub(super) bystanders: usize,
    #[arg(long)]
    pub(super) bystander_init: Vec<String>,
    /// Seconds that are measured
    #[arg(long, default_value_t = 3.0)]
    pub(super) seconds: f64,
    /// Seconds to wait, at the end, for what is under way
    #[arg(long, default_value_t = 3.0)]
    pub(super) drain: f64,
    /// Seconds to stay idle, after which memory is measured again
    #[arg(long, default_value_t = 0.0)]
    pub(super) stay: f64,
    /// What strace writes of the server's syncs
    #[arg(long)]
    pub(super) syncs: Option<PathBuf>,
    /// The server's process
    #[arg(long)]
    pub(super) server_pid: Option<u32>,
    #[command(flatten)]
    pub(super) run: RunName,
}

impl Args {
    pub(super) fn target(&self) -> Target {
        let port = self.publish_port.unwrap_or(self.port);
        let path = self.publish_path.clone().unwrap_or_else(|| "/publish".to_owned());
        Target { way: self.publish, addr: SocketAddr::from(([127, 0, 0, 1], port)), path }
    }
}

/// A task as every peer takes it, with its stamp in the title, of so many bytes.
pub(super) fn body(topic: &str, size: usize) -> String {
    let stamp = Stamp::default().text();
    let body = |filler: &str| {
        format!(r#"{{"repository":"{topic}","title":"{stamp}","description":"{filler}"}}"#)
    };
    body(&"x".repeat(size.saturating_sub(body("").len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_size_that_was_asked_for() {
        assert_eq!(body("t17", 512).len(), 512);
        assert!(body("t17", 0).contains("~at:"));
    }
}
