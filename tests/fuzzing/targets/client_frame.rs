//! What a server reads from clients, and what it makes of them.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use taskwatch_protocol::{ClientFrame, ServerFrame};
use taskwatch_server::simulation::{Change, Connection, Disk, Server};
use taskwatch_server::{AuthError, AuthFuture, Authenticator, HubConfig, Principal, Token};

/// For texts of the server itself: what it holds is bounded by its limits for one peer.
const MAX_TEXT: usize = 512 << 10;
const LIFE: u64 = 0x9f3a_0c5d_7e21_4b68;

/// What Ana may read. Nobody in particular may read everything.
const ANA: &[&str] = &["foo", "acme/*"];

/// What happens to a connection, a line each. `+NAME` is a new task, `>MS` is time that passes, `~`
/// is a pause in which everything is read and written, `^` takes away the tokens of everybody, and
/// anything else is a message of the client, who is Ana if the first line is `=`.
pub(crate) fn client_frame(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (is_ana, text) = match text.strip_prefix("=\n") {
        Some(text) => (true, text),
        None => (false, &*text),
    };
    let disk = Disk::new(40);
    disk.open(LIFE);
    let office = Arc::new(Office::default());
    let config =
        HubConfig { cache_events: 8, authenticator: office.clone(), ..HubConfig::default() };
    let server = Server::start(Arc::new(disk.clone()), config);
    let connection = if is_ana {
        let token = Token::new("ana");
        let ana = office.principal(&token).expect("Ana");
        server.accept_of(ana, Some(token), Duration::ZERO, 0.5)
    } else {
        server.accept(Duration::ZERO, 0.5)
    };
    let readable = if is_ana { ANA } else { &["*"] };
    let seen = Seen { readable, ..Seen::default() };
    let mut peer = Peer { connection, server, disk, office, is_ana, now: Duration::ZERO, seen };
    for line in text.split('\n').take(256) {
        match line.split_at_checked(1) {
            Some(("+", repository)) => peer.commit(repository),
            Some((">", millis)) => peer.passes(millis.parse::<u16>().unwrap_or_default().into()),
            Some(("~", "")) => peer.settle(),
            Some(("^", "")) => peer.withdraw(),
            _ => peer.says(line),
        }
    }
    peer.settle();
}

/// Knows Ana, by two tokens and by one with which she may read less, and Ben.
#[derive(Debug, Default)]
struct Office {
    is_closed: AtomicBool,
}

impl Office {
    fn principal(&self, token: &Token) -> Result<Principal, AuthError> {
        let (who, patterns) = match token.expose() {
            "ana" | "ana again" => ("ana", ANA),
            "ana less" => ("ana", &ANA[..1]),
            "ben" => ("ben", ANA),
            _ => return Err(AuthError::Invalid("nobody".to_owned())),
        };
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(AuthError::Invalid("closed".to_owned()));
        }
        let patterns = patterns.iter().map(|pattern| pattern.parse().expect("a pattern"));
        Ok(Principal::new(who).reading(patterns))
    }
}

impl Authenticator for Office {
    fn authenticate<'a>(&'a self, token: Option<&'a Token>) -> AuthFuture<'a> {
        let nobody = || Ok(Principal::anonymous());
        Box::pin(ready(token.map_or_else(nobody, |token| self.principal(token))))
    }
}

struct Peer {
    connection: Connection,
    server: Server,
    disk: Disk,
    office: Arc<Office>,
    is_ana: bool,
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

    fn withdraw(&mut self) {
        self.office.is_closed.store(true, Ordering::Relaxed);
        self.server.access_changed();
        self.settle();
        assert!(!self.is_ana || self.connection.ending().is_some(), "Ana is still there");
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
            if self.connection.deadline() <= self.now {
                self.connection.tick(self.now);
            }
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
    readable: &'static [&'static str],
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

    /// It was asked for, and it is theirs.
    fn may_see(&self, name: &str, text: &str) {
        let is_wanted = self.patterns.iter().any(|pattern| matches(pattern, name));
        assert!(is_wanted, "I4 filter: {:?} gets {text}", self.patterns);
        let is_theirs = self.readable.iter().any(|pattern| matches(pattern, name));
        assert!(is_theirs, "I4 filter: {text} is not theirs");
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
                let may_read = |pattern: &String| {
                    pattern == "*" || self.readable.iter().any(|it| overlap(it, pattern))
                };
                assert!(accepted.iter().all(may_read), "{text}");
                for denied in data["denied"].as_array().into_iter().flatten() {
                    let pattern = denied["repository"].as_str().expect("a pattern").to_owned();
                    assert!(!may_read(&pattern), "{text}");
                    assert_eq!(denied["code"], "not_found");
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
                self.may_see(name, text);
            }
            "snapshot" => {
                for task in data["tasks"].as_array().expect("tasks") {
                    self.may_see(task["repository"].as_str().expect("a name"), text);
                }
            }
            "authenticated" => assert!(self.readable == ANA && data["subject"] == "ana", "{text}"),
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

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => name.starts_with(stem),
        None => pattern == name,
    }
}

/// Whether some name may match both.
fn overlap(one: &str, other: &str) -> bool {
    let stem = |pattern: &str| pattern.trim_end_matches('*').to_owned();
    matches(one, &stem(other)) || matches(other, &stem(one))
}

fn strings(value: &Value) -> BTreeSet<String> {
    let items = value.as_array().expect("a list").iter();
    items.map(|item| item.as_str().expect("a text").to_owned()).collect()
}
