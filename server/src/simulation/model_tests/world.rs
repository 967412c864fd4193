//! What can happen, and the dice that decide.

mod peers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use taskwatch_protocol::{CloseCode, Timestamp};

use super::super::{Change, Connection, Content, Disk, Held, Server, Truth};
use super::grants::Grants;
use super::judge::{Judge, Moment};
use super::step::{STEPS, Step};
use crate::{HubConfig, LogEvent, PageLimit};

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
    was_rewritten: bool,
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
            was_rewritten: false,
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
            Step::Rewrite => {
                self.was_rewritten = true;
                self.server.log_rewritten();
            }
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
        self.was_rewritten = false;
        self.committed.clear();
        self.lives += 1;
        self.disk.open(self.lives);
        self.truth.open(self.lives);
        self.published = self.truth.head();
        self.server = Server::start(Arc::new(self.disk.clone()), self.config.clone());
        self.is_stopped = false;
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
                CloseCode::AccessChanged => self.was_rewritten || self.grants.of(at).is_some(),
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
