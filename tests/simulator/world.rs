//! What can happen, and the dice that decide.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use taskwatch_client::simulation::{Choice, Clocks, Incoming, Outgoing, Stream};
use taskwatch_client::{OnGap, Update};
use taskwatch_protocol::{CloseCode, Pattern, Timestamp};
use taskwatch_server::simulation::{Change, Connection, Content, Disk, Held, Server, Truth};
use taskwatch_server::{HubConfig, LogEvent, PageLimit};

use crate::network::{Link, Up};
use crate::watcher::{Lines, Watcher};

const REPOSITORIES: [&str; 5] = ["a", "b", "team/a", "team/b", "team/b/c"];
const PATTERNS: [&str; 7] = ["a", "b", "team/a", "team/*", "team/b/*", "*", "nobody"];
const SECOND: Duration = Duration::from_secs(1);
/// After the last fault everybody is level within this: a link that died without a word is noticed
/// after 35 s, and the longest wait of a client is 30 s, or what a server advised.
const LEVEL_WITHIN: Duration = Duration::from_secs(150);
/// As the driver of a stream, at least so often it looks at the clocks.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

thread_local! {
    static JITTER: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0));
}

/// The jitter of the SDK's waits.
fn jitter() -> f64 {
    JITTER.with_borrow_mut(|rng| rng.random())
}

/// What goes wrong, and what else changes by itself.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A link is cut; each side hears of it at its own time.
    Cut,
    /// Nothing gets through a link any more, and nobody is told.
    Silence,
    /// For a while nothing gets through to one client; then all of it does.
    Partition,
    /// The server is killed,
    Kill,
    /// or told to stop, and is away for a while.
    Stop,
    /// An older copy of the log is put back.
    Restore,
    /// The copy is made.
    Copy,
    /// Retention.
    Forget,
    /// The log cannot be read for a while.
    Break,
    /// A caller does not read for a while.
    Slow,
    /// A client's computer sleeps for a while.
    Sleep,
    /// A client's program ends, and begins again at the position it saved.
    Program,
    /// A caller wants more,
    Add,
    /// or less.
    Remove,
    /// Much happens at once.
    Burst,
}

const FAULTS: [Fault; 15] = [
    Fault::Cut,
    Fault::Silence,
    Fault::Partition,
    Fault::Kill,
    Fault::Stop,
    Fault::Restore,
    Fault::Copy,
    Fault::Forget,
    Fault::Break,
    Fault::Slow,
    Fault::Sleep,
    Fault::Program,
    Fault::Add,
    Fault::Remove,
    Fault::Burst,
];

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

struct Client {
    stream: Stream,
    watcher: Watcher,
    room: usize,
    /// How long its computer has slept, and until when it does.
    slept: Duration,
    asleep_until: Duration,
    slow_until: Duration,
    partitioned_until: Duration,
    ticked: Duration,
    read_at: Option<Duration>,
}

impl Client {
    fn new(patterns: &[&str], choice: (OnGap, bool), room: usize, now: Duration) -> Self {
        let (on_gap, snapshot) = choice;
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let watcher = Watcher::new(patterns, on_gap, snapshot);
        let stream = open(&watcher, None, room, Clocks { steady: now, wall: now });
        Self {
            stream,
            watcher,
            room,
            slept: Duration::ZERO,
            asleep_until: now,
            slow_until: now,
            partitioned_until: now,
            ticked: now,
            read_at: None,
        }
    }

    fn clocks(&self, now: Duration) -> Clocks {
        Clocks { steady: now - self.slept, wall: now }
    }
}

/// A stream of what a watcher wants.
fn open(
    watcher: &Watcher,
    since: Option<taskwatch_protocol::Cursor>,
    room: usize,
    now: Clocks,
) -> Stream {
    let patterns = watcher.wished().iter().map(|pattern| pattern.parse().unwrap()).collect();
    let (snapshot, on_gap) = (watcher.with_state(), watcher.on_gap());
    Stream::new(Choice { patterns, since, snapshot, on_gap, room }, jitter, now)
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
        JITTER.with_borrow_mut(|jitter| *jitter = StdRng::seed_from_u64(seed));
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

    /// Carries out what a client wants.
    fn talk(&mut self, at: usize) {
        for outgoing in self.clients[at].stream.outgoing() {
            self.held.tell(|| format!("{at} -> {outgoing:?}"));
            let arrival = |rng: &mut StdRng, now, link: &Link| {
                now + link.latency + Duration::from_micros(rng.random_range(0..2_000))
            };
            let newest = self.links.iter_mut().rev().find(|link| link.client == at && link.is_held);
            match (outgoing, newest) {
                (Outgoing::Dial(id), _) => {
                    let latency = *[1, 20, 300].choose(&mut self.rng).unwrap();
                    let mut link = Link::new(at, id, Duration::from_millis(latency));
                    link.up.send(arrival(&mut self.rng, self.now, &link), Up::Dial);
                    self.links.push(link);
                }
                (Outgoing::Text(text), Some(link)) => {
                    link.up.send(arrival(&mut self.rng, self.now, link), Up::Text(text));
                }
                (Outgoing::Drop | Outgoing::Leave, Some(link)) => {
                    link.is_held = false;
                    link.up.send(arrival(&mut self.rng, self.now, link), Up::Bye);
                }
                _ => {}
            }
        }
        let read_at = self.soon(50);
        let client = &mut self.clients[at];
        client.read_at = client.read_at.or(Some(read_at));
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
    fn open(&mut self, at: usize, since: Option<taskwatch_protocol::Cursor>) {
        let arrival = self.soon(500);
        for link in self.links.iter_mut().filter(|link| link.client == at) {
            link.is_held = false;
            link.down.close();
            link.up.send(arrival, Up::Bye);
        }
        let client = &mut self.clients[at];
        let now = client.clocks(self.now);
        client.stream = open(&client.watcher, since, client.room, now);
        self.talk(at);
    }

    /// Something goes to a client.
    fn down(&mut self, at: usize, incoming: Incoming) {
        let jitter = Duration::from_micros(self.rng.random_range(0..2_000));
        let link = &mut self.links[at];
        link.down.send(self.now + link.latency + jitter, incoming);
    }

    /// Something arrives at the server.
    fn up(&mut self, at: usize) {
        let Some(packet) = self.links[at].up.take() else { return };
        self.held.tell(|| format!("server <- {packet:?}"));
        match packet {
            Up::Dial => match self.server.as_ref().filter(|_| !self.is_stopped) {
                Some(server) => {
                    let connection = server.accept(self.now, self.rng.random());
                    self.links[at].server = Some(connection);
                    self.down(at, Incoming::Opened);
                }
                None => self.down(at, Incoming::NotOpened("nobody is there".to_owned())),
            },
            Up::Text(text) => self.serve(at, |connection, now| connection.text(now, &text)),
            Up::Bye => self.links[at].server = None,
        }
    }

    /// Something happens at the server's end of a link.
    fn serve(&mut self, at: usize, what: impl FnOnce(&mut Connection, Duration)) {
        let Some(connection) = &mut self.links[at].server else { return };
        what(connection, self.now);
        let Some((code, reason)) = connection.ending() else { return };
        self.held.tell(|| format!("closed with {code}"));
        let is_right = match code {
            CloseCode::Restart => self.is_stopped,
            CloseCode::Slow | CloseCode::NoPong | CloseCode::Unavailable => true,
            CloseCode::InsufficientState => true,
            _ => false,
        };
        assert!(is_right, "closed with {code}");
        let mut left = vec![];
        while let Some(text) = connection.write(self.now) {
            left.push(text);
        }
        self.links[at].server = None;
        if code == CloseCode::Slow {
            return self.down(at, Incoming::Lost("reset".to_owned()));
        }
        left.into_iter().for_each(|text| self.down(at, Incoming::Text(text)));
        self.down(at, Incoming::Closed(code, reason));
    }

    /// The server's end of a link does what it has to do, at its own time.
    fn plan(&mut self, at: usize) {
        let (soon, later) = (self.soon(3), self.soon(20));
        let link = &mut self.links[at];
        let Some(connection) = &link.server else { return };
        if connection.is_fetching() {
            link.due.fetch = link.due.fetch.or(Some(later));
        }
        if !connection.unwritten().is_empty() && link.down.len() < self.window {
            link.due.write = link.due.write.or(Some(soon));
        }
        if connection.gives_way() {
            link.due.turn = link.due.turn.or(Some(soon));
        }
    }

    fn wake_all(&mut self) {
        for at in 0..self.links.len() {
            let soon = self.soon(3);
            let turn = &mut self.links[at].due.turn;
            *turn = turn.or(Some(soon));
        }
    }

    /// A while that ends before the last fault.
    fn while_from_now(&mut self, seconds: u64) -> Duration {
        self.soon(seconds * 1_000).min(self.peace)
    }

    fn fault(&mut self) {
        let Some(&fault) = self.faults.choose(&mut self.rng) else { return };
        let at = self.rng.random_range(0..self.clients.len());
        if self.now < self.clients[at].asleep_until {
            return;
        }
        self.held.tell(|| format!("{fault:?} {at}"));
        match fault {
            Fault::Cut => {
                if let Some(link) = self.link(at) {
                    self.held.note("cut");
                    self.cut(link);
                }
            }
            Fault::Silence => {
                if let Some(link) = self.link(at) {
                    self.held.note("silence");
                    self.links[link].is_silent = true;
                }
            }
            Fault::Partition => {
                self.held.note("partition");
                self.clients[at].partitioned_until = self.while_from_now(60);
            }
            Fault::Kill => self.kill(),
            Fault::Stop => {
                if let Some(server) = &self.server {
                    self.held.note("shutdown");
                    self.is_stopped = true;
                    let rng = &mut self.rng;
                    server.stop(|most| rng.random_range(0..=most));
                    self.wake_all();
                    self.start_at = Some(self.while_from_now(5));
                }
            }
            Fault::Restore => {
                if let Some((content, truth)) = self.copy.take() {
                    self.held.note("restore");
                    self.kill();
                    self.disk.restore(content);
                    self.lines.push(truth);
                }
            }
            Fault::Copy => {
                self.copy = Some((self.disk.copy(), self.lines.last().unwrap().clone()));
            }
            Fault::Forget => {
                let truth = self.lines.last_mut().unwrap();
                let floor = self.rng.random_range(truth.floor()..=truth.head());
                truth.forget(floor);
                self.disk.forget(floor);
            }
            Fault::Break => {
                self.disk.set_broken(true);
                self.mend_at = Some(self.while_from_now(5));
            }
            Fault::Slow => self.clients[at].slow_until = self.while_from_now(30),
            Fault::Sleep => {
                let until = self.while_from_now(120);
                let client = &mut self.clients[at];
                self.held.note("sleep");
                client.slept += until - self.now;
                client.asleep_until = until;
            }
            Fault::Program => {
                self.held.note("program restarted");
                let cursor = self.clients[at].stream.cursor();
                let watcher = &mut self.clients[at].watcher;
                watcher.restarts(&self.lines, cursor.as_ref().map(|it| it.as_str()));
                self.open(at, cursor);
            }
            Fault::Add => {
                let pattern = *PATTERNS.choose(&mut self.rng).unwrap();
                let client = &mut self.clients[at];
                let now = client.clocks(self.now);
                if client.watcher.with_state() && !client.watcher.has_ever_wished(pattern) {
                    client.watcher.add(pattern);
                    client.stream.add(now, one(pattern));
                }
                self.talk(at);
            }
            Fault::Remove => {
                let client = &mut self.clients[at];
                let now = client.clocks(self.now);
                if let [_, pattern] = client.watcher.wished() {
                    let pattern = pattern.clone();
                    client.watcher.remove(&pattern);
                    client.stream.remove(now, one(&pattern));
                }
                self.talk(at);
            }
            Fault::Burst => (0..self.rng.random_range(10..100)).for_each(|_| self.commit()),
        }
    }

    /// A link of a client, if there is one.
    fn link(&self, client: usize) -> Option<usize> {
        self.links.iter().position(|link| link.client == client && link.is_held)
    }

    /// Both ends are told, each at its own time; of what was on its way some arrives.
    fn cut(&mut self, at: usize) {
        let (up, down) = (self.soon(3_000), self.soon(3_000));
        let link = &mut self.links[at];
        link.down.lose(self.rng.random_range(0..=link.down.len()));
        link.up.lose(self.rng.random_range(0..=link.up.len()));
        link.down.send(down, Incoming::Lost("cut".to_owned()));
        link.up.send(up, Up::Bye);
    }

    /// The server is gone; its clients are told, or not.
    fn kill(&mut self) {
        if self.server.is_none() {
            return;
        }
        self.count();
        self.held.note("restart");
        self.server = None;
        self.committed.clear();
        (self.publish_at, self.fan_out_at) = (None, None);
        self.disk.set_broken(false);
        for at in 0..self.links.len() {
            if self.links[at].server.take().is_none() {
                continue;
            }
            if self.rng.random_ratio(1, 5) {
                self.links[at].is_silent = true;
            } else {
                self.cut(at);
            }
        }
        self.start_at = Some(self.while_from_now(20));
    }

    fn start(&mut self) {
        self.kill();
        self.start_at = None;
        self.is_stopped = false;
        self.lives += 1;
        self.disk.open(self.lives);
        self.lines.last_mut().unwrap().open(self.lives);
        self.server = Some(Server::start(Arc::new(self.disk.clone()), self.config.clone()));
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

fn one(pattern: &str) -> Vec<Pattern> {
    vec![pattern.parse().unwrap()]
}
