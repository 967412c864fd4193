//! What can happen, and the dice that decide.

mod client;
mod faults;
mod traffic;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use taskwatch_client::simulation::Incoming;
use taskwatch_client::{OnGap, Update};
use taskwatch_protocol::{CloseCode, Cursor, Timestamp};
use taskwatch_server::simulation::{Change, Connection, Content, Disk, Held, Server, Truth};
use taskwatch_server::{HubConfig, LogEvent, PageLimit};

use self::client::{Client, seed_jitter};
use self::faults::{FAULTS, Fault};
use crate::network::{Link, Up};
use crate::watcher::Lines;

const REPOSITORIES: [&str; 5] = ["a", "b", "team/a", "team/b", "team/b/c"];
const PATTERNS: [&str; 7] = ["a", "b", "team/a", "team/*", "team/b/*", "*", "nobody"];
const SECOND: Duration = Duration::from_secs(1);
/// After the last fault everybody is level within this: a link that died without a word is noticed
/// after 35 s, and the longest wait of a client is 30 s, or what a server advised.
const LEVEL_WITHIN: Duration = Duration::from_secs(150);
/// As the driver of a stream, at least so often it looks at the clocks.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A change is made.
    Commit,
    /// The hub is told of the oldest change it does not know.
    Publish,
    FanOut,
    Fault,
    /// A dead server is started.
    Start,
    /// The log can be read again.
    Mend,
    /// A client looks at its clocks.
    Tick(usize),
    /// A caller takes updates.
    Read(usize),
    /// Something arrives at a client,
    Down(usize),
    /// or at the server.
    Up(usize),
    /// The server's end of a link: it was woken,
    Turn(usize),
    /// what it waits for comes nearer,
    Fetch(usize),
    /// it writes,
    Write(usize),
    /// and time passes.
    Time(usize),
}

pub(crate) struct World<'a> {
    held: &'a mut Held,
    rng: StdRng,
    now: Duration,
    config: HubConfig,
    largest: usize,
    /// What travels to a client and was not taken there.
    window: usize,
    disk: Disk,
    lines: Lines,
    copy: Option<(Content, Truth)>,
    lives: u64,
    server: Option<Server>,
    is_stopped: bool,
    committed: VecDeque<LogEvent>,
    clients: Vec<Client>,
    links: Vec<Link>,
    faults: Vec<Fault>,
    /// No fault from here on.
    peace: Duration,
    commit_at: Option<Duration>,
    publish_at: Option<Duration>,
    fan_out_at: Option<Duration>,
    fault_at: Option<Duration>,
    start_at: Option<Duration>,
    mend_at: Option<Duration>,
}

impl<'a> World<'a> {
    pub(crate) fn new(seed: u64, held: &'a mut Held) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        seed_jitter(seed);
        // Small, so that queues overflow and memory ends.
        let config = HubConfig {
            queue_events: rng.random_range(1..8),
            cache_events: rng.random_range(1..40),
            page: PageLimit { events: rng.random_range(1..10), bytes: rng.random_range(1..8_000) },
            concurrent_reads: rng.random_range(1..3),
            concurrent_snapshots: rng.random_range(1..3),
            ..HubConfig::default()
        };
        let head = rng.random_range(0..100);
        let (disk, mut truth) = (Disk::new(head), Truth::new(head));
        disk.open(1);
        truth.open(1);
        let server = Server::start(Arc::new(disk.clone()), config.clone());
        // Each case has faults of its own choice, so that all together have every mixture.
        let mut faults: Vec<_> = FAULTS.into_iter().filter(|_| rng.random_ratio(1, 2)).collect();
        faults.extend([Fault::Burst, Fault::Slow]);
        let mut world = Self {
            held,
            now: Duration::ZERO,
            config,
            largest: *[0, 0, 0, 20_000].choose(&mut rng).unwrap(),
            window: rng.random_range(1..10),
            disk,
            lines: vec![truth],
            copy: None,
            lives: 1,
            server: Some(server),
            is_stopped: false,
            committed: VecDeque::new(),
            clients: vec![],
            links: vec![],
            faults,
            peace: SECOND * rng.random_range(20..90),
            commit_at: Some(Duration::ZERO),
            publish_at: None,
            fan_out_at: None,
            fault_at: Some(SECOND),
            start_at: None,
            mend_at: None,
            rng,
        };
        for _ in 0..world.rng.random_range(2..6) {
            world.client();
        }
        world
    }

    fn client(&mut self) {
        let patterns: Vec<_> = PATTERNS.sample(&mut self.rng, 2).copied().collect();
        let on_gap = *[OnGap::Error, OnGap::Live, OnGap::Snapshot].choose(&mut self.rng).unwrap();
        let choice = (on_gap, self.rng.random());
        let room = self.rng.random_range(4..80);
        self.clients.push(Client::new(&patterns, choice, room, self.now));
        self.talk(self.clients.len() - 1);
    }

    /// Until the last fault.
    pub(crate) fn go_on(&mut self) {
        while self.now < self.peace {
            self.step();
        }
    }

    /// After it everybody sees everything, soon.
    pub(crate) fn come_to_rest(&mut self) {
        self.held.tell(|| "peace".to_owned());
        (self.fault_at, self.commit_at) = (None, None);
        // A network without faults has room for more than one message at a time.
        self.window = self.window.max(16);
        self.commit();
        while !self.clients.iter().all(|client| client.watcher.is_level(&self.lines)) {
            let late = self.clients.iter().find(|client| !client.watcher.is_level(&self.lines));
            assert!(
                self.now < self.peace + LEVEL_WITHIN,
                "liveness: not level after {LEVEL_WITHIN:?}: {:?}",
                late.map(|client| &client.watcher)
            );
            self.step();
        }
        self.clients.iter().for_each(|client| client.watcher.has_state(&self.lines));
        self.count();
    }

    fn step(&mut self) {
        let (at, event) = self.next();
        self.now = self.now.max(at);
        let now = self.now;
        self.held.tell(|| format!("{now:?} {event:?}"));
        match event {
            Event::Commit => {
                self.commit();
                self.commit_at = Some(self.soon(1_000));
            }
            Event::Publish => {
                self.publish_at = None;
                if let (Some(server), Some(event)) = (&self.server, self.committed.pop_front()) {
                    server.publish(event);
                }
                self.fan_out_at = self.fan_out_at.or(Some(self.soon(10)));
            }
            Event::FanOut => {
                let pushes = self.rng.random_range(0..4);
                let more = self.server.as_mut().is_some_and(|server| server.fan_out(pushes));
                self.fan_out_at = more.then(|| self.soon(10));
                self.wake_all();
            }
            Event::Fault => {
                self.fault();
                self.fault_at = Some(self.soon(6_000));
            }
            Event::Start => self.start(),
            Event::Mend => {
                self.mend_at = None;
                self.disk.set_broken(false);
            }
            Event::Tick(at) => {
                let client = &mut self.clients[at];
                if now >= client.asleep_until {
                    client.ticked = now;
                    client.stream.tick(client.clocks(now));
                    self.talk(at);
                }
            }
            Event::Read(at) => self.read(at),
            Event::Down(at) => {
                let (client, id) = (self.links[at].client, self.links[at].id);
                if let Some(incoming) = self.links[at].down.take() {
                    self.held.tell(|| match &incoming {
                        Incoming::Text(text) => format!("{client} <- {text}"),
                        other => format!("{client} <- {other:?}"),
                    });
                    let client = &mut self.clients[client];
                    client.stream.incoming(client.clocks(now), id, incoming);
                }
                self.talk(client);
            }
            Event::Up(at) => self.up(at),
            Event::Turn(at) => {
                self.links[at].due.turn = None;
                self.serve(at, |connection, now| connection.turn(now));
            }
            Event::Fetch(at) => {
                self.links[at].due.fetch = None;
                self.serve(at, |connection, now| connection.fetch(now));
            }
            Event::Write(at) => {
                self.links[at].due.write = None;
                let mut text = None;
                self.serve(at, |connection, now| text = connection.write(now));
                if let Some(text) = text {
                    self.down(at, Incoming::Text(text));
                }
            }
            Event::Time(at) => self.serve(at, |connection, now| connection.tick(now)),
        }
        self.links.retain(|link| !link.is_over());
        for at in 0..self.links.len() {
            self.plan(at);
        }
        if self.server.is_some() && !self.committed.is_empty() && self.publish_at.is_none() {
            self.publish_at = Some(self.soon(20));
        }
    }

    /// The earliest of everything that is due; the dice decide between two at the same time.
    fn next(&mut self) -> (Duration, Event) {
        let mut events = vec![];
        let mut plan = |at: Option<Duration>, event| events.extend(at.map(|at| (at, event)));
        plan(self.commit_at, Event::Commit);
        plan(self.publish_at.filter(|_| self.server.is_some()), Event::Publish);
        plan(self.fan_out_at, Event::FanOut);
        plan(self.fault_at, Event::Fault);
        plan(self.start_at, Event::Start);
        plan(self.mend_at, Event::Mend);
        for (at, client) in self.clients.iter().enumerate() {
            let deadline = client.stream.deadline().map(|deadline| deadline + client.slept);
            let tick = client.ticked + LONGEST_SLEEP;
            let tick = deadline.map_or(tick, |deadline| deadline.min(tick));
            plan(Some(tick.max(client.asleep_until)), Event::Tick(at));
            let awake = client.slow_until.max(client.asleep_until);
            plan(client.read_at.map(|read| read.max(awake)), Event::Read(at));
        }
        for (at, link) in self.links.iter().enumerate() {
            let client = &self.clients[link.client];
            if !link.is_silent {
                // What an abandoned link still brings comes in any case.
                let reads = client.stream.reads() || !link.is_held;
                let there = client.partitioned_until.max(client.asleep_until);
                plan(link.down.next().filter(|_| reads).map(|at| at.max(there)), Event::Down(at));
                let takes = link.server.as_ref().is_none_or(Connection::reads);
                let there = client.partitioned_until;
                plan(link.up.next().filter(|_| takes).map(|at| at.max(there)), Event::Up(at));
            }
            let Some(server) = &link.server else { continue };
            plan(link.due.turn, Event::Turn(at));
            plan(link.due.fetch, Event::Fetch(at));
            plan(link.due.write, Event::Write(at));
            plan(Some(server.deadline()), Event::Time(at));
        }
        let earliest = events.iter().map(|(at, _)| *at).min().unwrap();
        events.retain(|(at, _)| *at <= earliest.max(self.now));
        *events.choose(&mut self.rng).unwrap()
    }

    /// Some time within so many milliseconds.
    fn soon(&mut self, millis: u64) -> Duration {
        self.now + Duration::from_micros(self.rng.random_range(0..=millis * 1_000))
    }

    fn commit(&mut self) {
        let change = Change {
            task: self.rng.random_range(0..12),
            is_deletion: self.rng.random_ratio(1, 4),
            repository: REPOSITORIES.choose(&mut self.rng).unwrap(),
            bytes: self.largest,
        };
        // Without a server there is nobody to make changes.
        if self.server.is_some() {
            let millis = i64::try_from(self.now.as_millis()).unwrap();
            let event = self.disk.commit(change, Timestamp::from_unix_millis(millis));
            self.lines.last_mut().unwrap().commit(event.envelope());
            self.committed.push_back(event);
        }
    }

    /// The caller takes some updates.
    fn read(&mut self, at: usize) {
        let count = self.rng.random_range(1..10);
        let client = &mut self.clients[at];
        client.read_at = None;
        let now = client.clocks(self.now);
        for _ in 0..count {
            let Some(next) = client.stream.next(now) else { break };
            self.held.tell(|| match &next {
                Ok(Update::Event(event)) => format!("{at} yields {}", event.cursor),
                Ok(Update::Snapshot(state)) => format!("{at} yields the state at {}", state.cursor),
                other => format!("{at} yields {other:?}"),
            });
            match next {
                Ok(update) => {
                    client.watcher.update(&self.lines, &update, self.held);
                    let cursor = client.stream.cursor();
                    client.watcher.cursor(&self.lines, cursor.as_ref().map(|it| it.as_str()));
                }
                Err(error) => {
                    client.watcher.end(&self.lines, &error, self.held);
                    // The program begins anew, with what happens from now on.
                    client.watcher.restarts(&self.lines, None);
                    self.open(at, None);
                    break;
                }
            }
        }
        let more = self.clients[at].stream.waiting() > 0;
        self.talk(at);
        if !more {
            self.clients[at].read_at = None;
        }
    }

    /// A client's program begins, after an earlier one is gone with its links.
    fn open(&mut self, at: usize, since: Option<Cursor>) {
        let arrival = self.soon(500);
        for link in self.links.iter_mut().filter(|link| link.client == at) {
            link.is_held = false;
            link.down.close();
            link.up.send(arrival, Up::Bye);
        }
        self.clients[at].begin(since, self.now);
        self.talk(at);
    }

    /// Notes what the server's counters know.
    fn count(&mut self) {
        let Some(server) = &self.server else { return };
        let stats = server.stats();
        for (count, thing) in [(stats.overflows, "lag"), (stats.rejoins, "lag, and level again")] {
            if count > 0 {
                self.held.note(thing);
            }
        }
        for (code, count) in stats.closes {
            if count > 0 && code == CloseCode::Slow {
                self.held.note("closed as slow");
            }
        }
    }
}
