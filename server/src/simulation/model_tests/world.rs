//! What can happen, and the dice that decide.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use taskwatch_protocol::{ClientFrame, ClientMessage, CloseCode, Timestamp};

use super::super::{Change, Connection, Content, Disk, Held, Server, Truth};
use super::grants::Grants;
use super::judge::{Judge, Moment};
use super::step::{STEPS, Step};
use crate::session::Terms;
use crate::{EventLog, HubConfig, LogEvent, PageLimit, Token};

const REPOSITORIES: [&str; 5] = ["a", "b", "team/a", "team/b", "team/b/c"];
const PATTERNS: [&str; 7] = ["a", "b", "team/a", "team/*", "team/b/*", "*", "nobody"];
const KINDS: [&str; 3] = ["task.created", "task.updated", "task.deleted"];

/// Of who cannot talk back: how long a poll waits, which is longer than until the next heartbeat,
const WAIT: Duration = Duration::from_secs(25);
/// and how long it stays.
const LIFETIME: Duration = Duration::from_secs(120);

/// Somebody who connects again and again.
#[derive(Default)]
struct Peer {
    link: Option<Link>,
    /// The cursors it was ever told.
    known: Vec<String>,
}

struct Link {
    connection: Connection,
    judge: Judge,
    /// How many of the messages that were not written yet have been judged.
    judged: usize,
    /// When the peer last said something.
    spoke: Duration,
    /// When it took how many bytes.
    took: Vec<(Duration, usize)>,
}

pub(super) struct World<'a> {
    held: &'a mut Held,
    rng: StdRng,
    weights: Vec<(Step, u32)>,
    now: Duration,
    config: HubConfig,
    largest: usize,
    disk: Disk,
    truth: Truth,
    copy: Option<(Content, Truth)>,
    lives: u64,
    server: Server,
    is_stopped: bool,
    is_broken: bool,
    /// Since the server was started: what was asked for then may come later.
    was_broken: bool,
    /// Committed, and not published.
    committed: VecDeque<LogEvent>,
    published: u64,
    peers: Vec<Peer>,
    grants: Grants,
}

impl<'a> World<'a> {
    pub(super) fn new(seed: u64, held: &'a mut Held) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Each case has its own idea of what is frequent, so that all together have every mixture.
        let weights = STEPS.map(|(step, least, most)| (step, rng.random_range(least..=most)));
        // Small, so that queues overflow and memory ends.
        let grants = Grants::default();
        let config = HubConfig {
            authenticator: Arc::new(grants.clone()),
            queue_events: rng.random_range(1..8),
            cache_events: rng.random_range(1..16),
            page: PageLimit { events: rng.random_range(1..8), bytes: rng.random_range(1..4_000) },
            concurrent_reads: rng.random_range(1..3),
            concurrent_snapshots: rng.random_range(1..3),
            ..HubConfig::default()
        };
        // Some snapshots are of several frames.
        let largest = *[0, 0, 0, 20_000].choose(&mut rng).unwrap();
        let head = rng.random_range(0..100);
        let (disk, mut truth) = (Disk::new(head), Truth::new(head));
        disk.open(1);
        truth.open(1);
        let server = Server::start(Arc::new(disk.clone()), config.clone());
        let peers: Vec<_> = (0..rng.random_range(1..5)).map(|_| Peer::default()).collect();
        grants.everything_to(peers.len());
        Self {
            held,
            rng,
            weights: weights.to_vec(),
            now: Duration::ZERO,
            config,
            largest,
            disk,
            truth,
            copy: None,
            lives: 1,
            server,
            is_stopped: false,
            is_broken: false,
            was_broken: false,
            committed: VecDeque::new(),
            published: head,
            peers,
            grants,
        }
    }

    /// Takes a few hundred steps.
    pub(super) fn go_on(&mut self) {
        for _ in 0..self.rng.random_range(100..600) {
            self.now += Duration::from_millis(self.rng.random_range(0..40));
            let (step, _) = *self.weights.choose_weighted(&mut self.rng, |step| step.1).unwrap();
            let at = self.rng.random_range(0..self.peers.len());
            self.held.tell(|| format!("{step:?} {at}"));
            self.take(step, at);
        }
    }

    /// After the last fault everybody gets everything.
    pub(super) fn come_to_rest(&mut self) {
        if self.is_stopped {
            self.restart();
        }
        self.mend(false);
        self.held.tell(|| "come to rest".to_owned());
        for round in 0.. {
            assert!(round < 3_000, "liveness: no rest");
            self.now += Duration::from_millis(1);
            self.publish(usize::MAX);
            let more = self.server.fan_out(64);
            for at in 0..self.peers.len() {
                self.with(at, |connection, _, now| connection.turn(now));
                self.with(at, |connection, _, now| connection.fetch(now));
                self.read(at, usize::MAX);
            }
            let links = || self.peers.iter().filter_map(|peer| peer.link.as_ref());
            if !more && links().all(|link| link.connection.is_at_rest()) {
                break;
            }
        }
        for at in 0..self.peers.len() {
            self.bookmark(at);
            let Some(link) = &self.peers[at].link else { continue };
            assert!(!link.judge.is_poll(), "liveness: it was to wait so long: {:?}", link.judge);
            assert_eq!(link.judge.unanswered(), 0, "liveness: {:?}", link.judge);
            // Without a subscription nothing says how far it is.
            let is_level = link.judge.position() == self.truth.head();
            assert!(is_level || !link.judge.is_subscribed(), "liveness: {:?}", link.judge);
            let held = link.judge.granted().map(|granted| granted.iter().map(String::as_str));
            let granted =
                self.grants.of(at).is_some_and(|now| held.is_some_and(|held| held.eq(now)));
            assert!(
                granted,
                "I4 filter: a permission is gone, not the connection: {:?}",
                link.judge
            );
        }
    }

    /// Has a peer told how far it is: because it asks, or because it waits.
    fn bookmark(&mut self, at: usize) {
        let Some(link) = &self.peers[at].link else { return };
        if link.judge.can_talk() {
            return self.take(Step::Ping, at);
        }
        self.now += WAIT;
        // Its token may be due as well, and comes first.
        for _ in 0..2 {
            self.with(at, |connection, _, now| connection.tick(now));
            self.with(at, |connection, _, now| connection.turn(now));
        }
        self.read(at, usize::MAX);
    }

    fn take(&mut self, step: Step, at: usize) {
        match step {
            Step::Commit => (0..self.rng.random_range(1..4)).for_each(|_| self.commit()),
            Step::Publish => {
                let count = self.rng.random_range(1..6);
                self.publish(count);
            }
            Step::FanOut => {
                let pushes = self.rng.random_range(0..4);
                self.server.fan_out(pushes);
            }
            Step::Forget => {
                let floor = self.rng.random_range(self.truth.floor()..=self.truth.head());
                self.disk.forget(floor);
                self.truth.forget(floor);
            }
            Step::Connect => self.connect(at),
            Step::Cut => self.cut(at),
            Step::Subscribe => self.subscribe(at),
            Step::Unsubscribe => {
                let data = json!({"repositories": self.some(&PATTERNS, 2)});
                self.ask(at, "unsubscribe", &data);
            }
            Step::Ping => self.say(at, |judge, _| judge.ping()),
            Step::Read => {
                let count = self.rng.random_range(1..6);
                self.read(at, count);
            }
            Step::Turn => self.with(at, |connection, _, now| connection.turn(now)),
            Step::Fetch => self.with(at, |connection, _, now| connection.fetch(now)),
            Step::Tick => {
                let seconds = *[1, 5, 9, 20, 46].choose(&mut self.rng).unwrap();
                self.now += Duration::from_secs(seconds);
                self.with(at, |connection, _, now| connection.tick(now));
            }
            Step::Grant => self.grant(at),
            Step::Break => self.mend(!self.is_broken),
            Step::Stop => {
                self.is_stopped = true;
                self.held.note("shutdown");
                self.server.stop(|most| most);
            }
            Step::Restart => self.restart(),
            Step::Restore => {
                if let Some((content, truth)) = self.copy.take() {
                    self.held.note("restore");
                    (self.truth, self.committed) = (truth, VecDeque::new());
                    self.disk.restore(content);
                    self.restart();
                }
            }
            Step::Copy => self.copy = Some((self.disk.copy(), self.truth.clone())),
        }
    }

    fn commit(&mut self) {
        let change = Change {
            task: self.rng.random_range(0..12),
            is_deletion: self.rng.random_ratio(1, 4),
            repository: REPOSITORIES.choose(&mut self.rng).unwrap(),
            bytes: self.largest,
        };
        let millis = i64::try_from(self.now.as_millis()).unwrap();
        let event = self.disk.commit(change, Timestamp::from_unix_millis(millis));
        self.truth.commit(event.envelope());
        self.committed.push_back(event);
    }

    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            let Some(event) = self.committed.pop_front() else { break };
            self.published = event.seq();
            self.server.publish(event);
        }
        if self.published - self.server.fanned() > self.config.cache_events as u64 {
            self.held.note("fan-out outrun");
        }
    }

    fn mend(&mut self, is_broken: bool) {
        self.is_broken = is_broken;
        self.was_broken |= is_broken;
        self.disk.set_broken(is_broken);
    }

    /// Killed and started again. What was committed is there, published or not.
    fn restart(&mut self) {
        self.held.note("restart");
        self.peers.iter_mut().for_each(|peer| peer.link = None);
        self.mend(false);
        self.was_broken = false;
        self.committed.clear();
        self.lives += 1;
        self.disk.open(self.lives);
        self.truth.open(self.lives);
        self.published = self.truth.head();
        self.server = Server::start(Arc::new(self.disk.clone()), self.config.clone());
        self.is_stopped = false;
    }

    fn connect(&mut self, at: usize) {
        if self.peers[at].link.is_some() {
            return;
        }
        let Some(principal) = self.grants.principal(at) else { return };
        let (token, phase) = (Some(Token::new(at.to_string())), self.rng.random());
        let granted = self.grants.of(at).unwrap_or_default();
        let granted = granted.into_iter().map(str::to_owned).collect();
        let (connection, judge) = if self.rng.random_ratio(2, 3) {
            let connection = self.server.accept_of(principal, token, self.now, phase);
            (connection, Judge::new(self.server.head(), granted))
        } else {
            let is_poll = self.rng.random();
            let mut judge = Judge::listening(self.server.head(), granted, is_poll);
            let mut asked = vec![self.subscription(at, true)];
            if self.rng.random_ratio(1, 3) {
                asked.push(json!({"repositories": self.some(&PATTERNS, 2), "snapshot": true}));
            }
            self.held.note(if is_poll { "poll" } else { "stream" });
            self.held.tell(|| format!("{at} asks for {asked:?}"));
            let asked = asked.iter().map(|data| {
                let frame = judge.ask("subscribe", data, &self.truth);
                let ClientMessage::Subscribe(asked) = ClientFrame::decode(&frame).unwrap().message
                else {
                    unreachable!("that is what was asked")
                };
                asked
            });
            let terms = Terms { lifetime: LIFETIME, wait: is_poll.then_some(WAIT) };
            let asked = asked.collect();
            let who = (principal, token);
            (self.server.listen(who, asked, terms, self.now, phase), judge)
        };
        let (spoke, took) = (self.now, vec![]);
        self.peers[at].link = Some(Link { connection, judge, judged: 0, spoke, took });
        self.with(at, |_, _, _| {});
    }

    fn grant(&mut self, at: usize) {
        let grant = match self.rng.random_range(0..8) {
            0 => None,
            1..4 => Some(vec!["*"]),
            _ => Some(self.some(&PATTERNS, 3)),
        };
        self.held.tell(|| format!("{at} may see {grant:?}"));
        self.held.note("permission changed");
        self.grants.set(at, grant);
        self.server.access_changed();
    }

    fn cut(&mut self, at: usize) {
        if self.peers[at].link.take().is_some() {
            self.held.note("cut");
        }
    }

    fn some(&mut self, words: &[&'static str], most: usize) -> Vec<&'static str> {
        let count = self.rng.random_range(1..=most);
        words.sample(&mut self.rng, count).copied().collect()
    }

    fn subscribe(&mut self, at: usize) {
        let Some(link) = self.peers[at].link.as_ref().filter(|link| link.judge.can_talk()) else {
            return;
        };
        let is_first = link.judge.is_new();
        let data = self.subscription(at, is_first);
        self.ask(at, "subscribe", &data);
    }

    /// Something to ask for.
    fn subscription(&mut self, at: usize, is_first: bool) -> Value {
        let mut data = json!({"repositories": self.some(&PATTERNS, 2)});
        let has_been_here = is_first && !self.peers[at].known.is_empty();
        if self.rng.random_ratio(if has_been_here { 8 } else { 1 }, 10) {
            data["since"] = self.since(at);
            let on_gap = [json!("live"), json!("snapshot"), json!("error"), Value::Null];
            data["on_gap"] = on_gap.choose(&mut self.rng).unwrap().clone();
        }
        if self.rng.random_ratio(1, 4) {
            data["snapshot"] = true.into();
        }
        if self.rng.random_ratio(1, 8) {
            data["types"] = json!(self.some(&KINDS, 2));
        }
        data
    }

    /// The newest cursor the peer knows, an earlier one, or one that is none.
    fn since(&mut self, at: usize) -> Value {
        let known = &self.peers[at].known;
        match self.rng.random_range(0..20) {
            0 => "not a cursor".into(),
            1 => self.disk.cursor(self.truth.head() + 3).as_str().into(),
            2..8 => known.choose(&mut self.rng).cloned().unwrap_or_default().into(),
            _ => known.last().cloned().unwrap_or_default().into(),
        }
    }

    fn ask(&mut self, at: usize, kind: &str, data: &Value) {
        self.held.tell(|| format!("{kind} {data}"));
        self.say(at, |judge, truth| judge.ask(kind, data, truth));
    }

    /// The peer sends something, if it has not asked too much already.
    fn say(&mut self, at: usize, what: impl FnOnce(&mut Judge, &Truth) -> String) {
        let Some(link) = &mut self.peers[at].link else { return };
        let may = link.judge.can_talk() && link.judge.unanswered() < 4;
        if may && link.connection.reads() {
            let text = what(&mut link.judge, &self.truth);
            link.spoke = self.now;
            self.with(at, |connection, _, now| connection.text(now, &text));
        }
    }

    /// The peer takes some messages.
    fn read(&mut self, at: usize, count: usize) {
        for _ in 0..count {
            let mut text = None;
            self.with(at, |connection, judged, now| {
                text = connection.write(now);
                *judged -= usize::from(text.is_some());
            });
            let Some(text) = text else { break };
            if let Some(link) = &mut self.peers[at].link {
                link.took.push((self.now, text.len()));
            }
            let frame: Value = serde_json::from_str(&text).unwrap();
            self.peers[at].known.extend(frame["cursor"].as_str().map(str::to_owned));
        }
    }

    /// Something happens to a connection, and what it says about it is judged.
    fn with(&mut self, at: usize, what: impl FnOnce(&mut Connection, &mut usize, Duration)) {
        let Some(link) = &mut self.peers[at].link else { return };
        what(&mut link.connection, &mut link.judged, self.now);
        let moment = Moment { truth: &self.truth, head: self.server.head() };
        for text in link.connection.unwritten().iter().skip(link.judged) {
            self.held.tell(|| format!("{at} <- {text}"));
            link.judge.frame(moment, text, self.held);
        }
        link.judged = link.connection.unwritten().len();
        if let Some((code, _)) = link.connection.ending() {
            self.held.tell(|| format!("{at} closed with {code}"));
            let taken: usize = link
                .took
                .iter()
                .filter(|(then, _)| *then + self.config.write_timeout > self.now)
                .map(|(_, bytes)| bytes)
                .sum();
            let is_right = match code {
                CloseCode::InsufficientState => self.truth.floor() > link.judge.position(),
                CloseCode::NoPong => {
                    link.judge.can_talk() && self.now - link.spoke >= self.config.silence
                }
                CloseCode::Rebalance => !link.judge.can_talk() && self.now - link.spoke >= LIFETIME,
                CloseCode::Slow => taken < 16 << 10 && link.judged > 0,
                CloseCode::Restart => self.is_stopped,
                CloseCode::AccessChanged => self.grants.of(at).is_some(),
                CloseCode::Unauthorized => self.grants.of(at).is_none(),
                CloseCode::Unavailable => self.was_broken,
                _ => false,
            };
            assert!(is_right, "closed with {code}: {:?}", link.judge);
            if code == CloseCode::InsufficientState {
                self.held.note("overtaken by retention");
            }
            self.peers[at].link = None;
        } else if link.connection.is_over() {
            let is_right = link.judge.is_over() || link.judge.is_full();
            assert!(is_right, "ended before its time: {:?}", link.judge);
            self.held.tell(|| format!("{at} was told everything"));
            self.peers[at].link = None;
        }
        let stats = self.server.stats();
        for (count, thing) in [
            (stats.overflows, "lag"),
            (stats.rejoins, "lag, and level again"),
            (stats.snapshots, "snapshot"),
            (stats.log_reads, "pages of the log"),
        ] {
            if count > 0 {
                self.held.note(thing);
            }
        }
    }
}
