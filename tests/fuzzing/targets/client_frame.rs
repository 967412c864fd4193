//! What a server reads from clients, and what it makes of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use taskwatch_protocol::{ClientFrame, ServerFrame};
use taskwatch_server::HubConfig;
use taskwatch_server::simulation::{Change, Connection, Disk, Server};

/// For texts of the server itself: what it holds is bounded by its limits for one peer.
const MAX_TEXT: usize = 512 << 10;
const LIFE: u64 = 0x9f3a_0c5d_7e21_4b68;

/// What happens to a connection, a line each. `+NAME` is a new task, `>MS` is time that passes, `~`
/// is a pause in which everything is read and written, and anything else is a message of the client.
pub(crate) fn client_frame(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let disk = Disk::new(40);
    disk.open(LIFE);
    let config = HubConfig { cache_events: 8, ..HubConfig::default() };
    let server = Server::start(Arc::new(disk.clone()), config);
    let mut peer = Peer {
        connection: server.accept(Duration::ZERO, 0.5),
        server,
        disk,
        now: Duration::ZERO,
        seen: Seen::default(),
    };
    for line in text.split('\n').take(256) {
        match line.split_at_checked(1) {
            Some(("+", repository)) => peer.commit(repository),
            Some((">", millis)) => peer.passes(millis.parse::<u16>().unwrap_or_default().into()),
            Some(("~", "")) => peer.settle(),
            _ => peer.says(line),
        }
    }
    peer.settle();
}

struct Peer {
    connection: Connection,
    server: Server,
    disk: Disk,
    now: Duration,
    seen: Seen,
}

impl Peer {
    fn commit(&mut self, repository: &str) {
        let is_name = repository.parse::<taskwatch_protocol::RepositoryName>().is_ok();
        let repository = if is_name { repository } else { "foo" };
        let change = Change { task: usize::MAX, is_deletion: false, repository, bytes: 10 };
        self.server.publish(self.disk.commit(change, taskwatch_protocol::Timestamp::default()));
    }

    fn passes(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.connection.tick(self.now);
    }

    fn says(&mut self, text: &str) {
        decoded(text);
        if self.connection.reads() && self.connection.ending().is_none() {
            self.seen.asked(text);
            self.connection.text(self.now, text);
        }
        self.look();
    }

    /// Until nothing more comes of it.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            let is_more = self.server.fan_out(64);
            self.connection.turn(self.now);
            self.connection.fetch(self.now);
            self.look();
            if !is_more && self.connection.is_at_rest() && !self.connection.is_fetching() {
                return;
            }
            if self.connection.ending().is_some() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Takes what is written.
    fn look(&mut self) {
        while let Some(text) = self.connection.write(self.now) {
            self.seen.frame(&text);
        }
    }
}

fn decoded(text: &str) {
    match ClientFrame::decode(text) {
        Ok(frame) => {
            super::client_survives(&frame);
            assert!(frame.id.as_ref().is_none_or(|id| id.len() <= 128));
            assert!(depth(text) <= 16, "{text}");
        }
        Err(error) => {
            assert!(error.message.len() < super::MAX_COMPLAINT, "{error:?}");
            assert!(error.id.is_none_or(|id| id.len() <= 128));
        }
    }
}

/// How deep the value is.
fn depth(text: &str) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(of).max().unwrap_or_default(),
            Value::Object(fields) => 1 + fields.values().map(of).max().unwrap_or_default(),
            _ => 0,
        }
    }
    of(&serde_json::from_str(text).expect("JSON"))
}

/// What a client that notes everything knows.
#[derive(Default)]
struct Seen {
    is_welcome: bool,
    ids: BTreeSet<String>,
    patterns: BTreeSet<String>,
    delivered: u64,
    position: u64,
    /// A subscription was accepted, so bookmarks are true from now on.
    has_begun: bool,
}

impl Seen {
    fn asked(&mut self, text: &str) {
        if let Ok(Value::Object(frame)) = serde_json::from_str(text)
            && let Some(Value::String(id)) = frame.get("id")
        {
            self.ids.insert(id.clone());
        }
    }

    fn frame(&mut self, text: &str) {
        assert!(text.len() <= MAX_TEXT);
        super::server_survives(&ServerFrame::decode(text).expect("a frame"));
        let frame: Value = serde_json::from_str(text).expect("JSON");
        let kind = frame["type"].as_str().expect("a type");
        assert_eq!(kind == "welcome", !self.is_welcome, "{text}");
        self.is_welcome = true;
        // Nothing is answered that was not asked.
        assert!(frame["id"].as_str().is_none_or(|id| self.ids.contains(id)), "{text}");
        let data = &frame["data"];
        match kind {
            "subscribed" => {
                let accepted = strings(&data["accepted"]);
                if !self.has_begun {
                    // It may go on from an earlier position than the head.
                    self.position = 0;
                }
                self.has_begun |= !accepted.is_empty();
                self.patterns.extend(accepted);
                assert!(self.patterns.len() <= 128);
            }
            "unsubscribed" => {
                for gone in strings(&data["accepted"]) {
                    self.patterns.remove(&gone);
                }
            }
            "ping" | "pong" => assert_eq!(data["delivered"], self.delivered, "{text}"),
            "error" => {
                let complaint = frame["error"].as_str().expect("a text");
                assert!(complaint.len() < super::MAX_COMPLAINT, "{complaint}");
            }
            "task.created" => {
                self.delivered += 1;
                let name = data["repository"].as_str().expect("a name");
                let is_wanted =
                    self.patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                        Some(stem) => name.starts_with(stem),
                        None => pattern == name,
                    });
                assert!(is_wanted, "I4 filter: {:?} gets {text}", self.patterns);
            }
            _ => {}
        }
        if let Some(cursor) = frame["cursor"].as_str().filter(|_| self.has_begun) {
            let seq = cursor.rsplit_once('-').expect("a cursor").1.parse().expect("a number");
            let is_new =
                if kind == "task.created" { seq > self.position } else { seq >= self.position };
            assert!(is_new, "I1 order: after {} comes {text}", self.position);
            self.position = seq;
        }
    }
}

fn strings(value: &Value) -> BTreeSet<String> {
    let items = value.as_array().expect("a list").iter();
    items.map(|item| item.as_str().expect("a text").to_owned()).collect()
}
