//! The machine against a model of a server, a network and a caller, in random interleavings.
//!
//! The server follows the wire: one position per connection, changes of the subscription answered
//! when it is level, nothing but pings within a snapshot. The network delays, loses frames and cuts.
//! The caller is checked: what it sees is complete, in order, once, or told as a gap.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use taskwatch_protocol::{
    ClientMessage, CloseCode, CloseReason, Cursor, Envelope, Heartbeat, Mode, OnGap as WireOnGap,
    Pattern, ResetReason, ServerFrame, ServerMessage, Snapshot as Part, Subscribe, Subscribed,
    Unsubscribed,
};

use super::*;
use crate::buffer::Buffer;
use crate::testing::{Model, at, seq};
use crate::{Tasks, Update};

/// Names and patterns that overlap.
const PATTERNS: [&str; 5] = ["a/x", "a/y", "b", "a/*", "*"];
const TASKS_IN_A_PART: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A task changes.
    Change(u16),
    /// The server sends the next frame.
    Serve,
    /// The oldest frame arrives.
    Arrive,
    /// The oldest frame is lost, if that can be noticed.
    Lose,
    Ping,
    /// The link opens, or another attempt is made.
    Connect,
    Cut,
    /// Silence, or a full buffer for too long.
    Late,
    Sleep,
    /// A frame of an earlier connection arrives.
    Stale,
    /// All history up to now is thrown away.
    Trim,
    Full,
    Room,
    Add(usize),
    Remove(usize),
    /// The caller takes one update.
    Pop,
}

fn step() -> impl Strategy<Value = Step> {
    let pattern = 0..PATTERNS.len();
    prop_oneof![
        20 => any::<u16>().prop_map(Step::Change),
        40 => Just(Step::Serve),
        40 => Just(Step::Arrive),
        2 => Just(Step::Lose),
        6 => Just(Step::Ping),
        8 => Just(Step::Connect),
        3 => Just(Step::Cut),
        1 => Just(Step::Late),
        1 => Just(Step::Sleep),
        2 => Just(Step::Stale),
        1 => Just(Step::Trim),
        2 => Just(Step::Full),
        3 => Just(Step::Room),
        4 => pattern.clone().prop_map(Step::Add),
        3 => pattern.prop_map(Step::Remove),
        20 => Just(Step::Pop),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Choice {
    snapshot: bool,
    on_gap: OnGap,
    since: bool,
}

fn choice() -> impl Strategy<Value = Choice> {
    let on_gap = prop_oneof![Just(OnGap::Error), Just(OnGap::Live), Just(OnGap::Snapshot)].boxed();
    (any::<bool>(), on_gap, any::<bool>()).prop_map(|(snapshot, on_gap, since)| Choice {
        snapshot,
        on_gap,
        since,
    })
}

#[derive(Clone, Debug)]
enum Wire {
    Frame(ServerFrame),
    Close(CloseCode),
}

/// The server's end of a connection.
#[derive(Debug)]
struct Peer {
    position: u64,
    patterns: BTreeSet<Pattern>,
    subscribed: bool,
    waiting: VecDeque<(Option<String>, ClientMessage)>,
    delivered: u64,
    /// What is left of a snapshot.
    parts: VecDeque<ServerFrame>,
    out: VecDeque<Wire>,
    /// An event was lost on the way, and no count has told the client.
    has_lost: bool,
    /// A part of an answer was lost. That the rest comes shows it.
    has_lost_answer: bool,
}

impl Peer {
    fn new(position: u64) -> Self {
        Self {
            position,
            patterns: BTreeSet::new(),
            subscribed: false,
            waiting: VecDeque::new(),
            delivered: 0,
            parts: VecDeque::new(),
            out: VecDeque::new(),
            has_lost: false,
            has_lost_answer: false,
        }
    }

    fn send(&mut self, frame: ServerFrame) {
        self.out.push_back(Wire::Frame(frame));
    }

    fn bookmark(&self) -> Option<Cursor> {
        self.parts.is_empty().then(|| at(self.position))
    }

    /// Sends the next frame, if there is one to send.
    fn serve(&mut self, log: &Model, floor: u64) -> bool {
        if let Some(part) = self.parts.pop_front() {
            self.send(part);
            return true;
        }
        while self.subscribed && self.position < log.head() {
            if self.position < floor {
                self.out.push_back(Wire::Close(CloseCode::InsufficientState));
                return false;
            }
            self.position += 1;
            let event = log.event(self.position);
            if self.patterns.iter().any(|pattern| pattern.matches(&event.repository)) {
                self.delivered += 1;
                let frame = Envelope::new(ServerMessage::Task(event.clone()));
                self.send(frame.cursor(at(self.position)));
                return true;
            }
        }
        self.position = log.head();
        match self.waiting.pop_front() {
            None => false,
            Some((id, ClientMessage::Subscribe(data))) => {
                self.subscribe(id, data, log, floor);
                true
            }
            Some((id, ClientMessage::Unsubscribe(data))) => {
                self.patterns.retain(|pattern| !data.repositories.contains(pattern));
                let head = Some(at(self.position));
                let done = Unsubscribed { accepted: data.repositories, head: head.clone() };
                self.send(Envelope::new(ServerMessage::Unsubscribed(done)).cursor(head).id(id));
                true
            }
            Some(other) => panic!("{other:?}"),
        }
    }

    fn subscribe(&mut self, id: Option<String>, data: Subscribe, log: &Model, floor: u64) {
        assert!(!self.subscribed || data.since.is_none(), "since comes first");
        let head = Some(at(self.position));
        let is_reset = data.since.as_ref().is_some_and(|since| seq(since) < floor);
        let with_state = data.snapshot && data.since.is_none()
            || is_reset && data.on_gap == Some(WireOnGap::Snapshot);
        let mut accepted = data.repositories.clone();
        let (mode, cursor) = match &data.since {
            _ if is_reset && with_state => (Mode::Reset, None),
            _ if with_state => (Mode::Snapshot, None),
            _ if is_reset && data.on_gap == Some(WireOnGap::Live) => (Mode::Reset, head.clone()),
            _ if is_reset => {
                accepted.clear();
                (Mode::Reset, None)
            }
            Some(since) => {
                self.position = seq(since);
                (Mode::Resumed, Some(since.clone()))
            }
            None => (Mode::Live, head.clone()),
        };
        self.subscribed |= !accepted.is_empty();
        self.patterns.extend(accepted.iter().cloned());
        if with_state {
            let tasks = log.state(&accepted, self.position);
            let mut parts: Vec<_> = tasks.chunks(TASKS_IN_A_PART).map(<[_]>::to_vec).collect();
            parts.resize(parts.len().max(1), vec![]);
            let end = parts.len() - 1;
            self.parts.extend(parts.into_iter().enumerate().map(|(place, tasks)| {
                let (first, last) = (place == 0, place == end);
                let part = Part { repositories: accepted.clone(), tasks, first, last };
                let cursor = last.then(|| at(self.position));
                Envelope::new(ServerMessage::Snapshot(part)).cursor(cursor).id(id.clone())
            }));
        }
        let reason = is_reset.then_some(ResetReason::Expired);
        let data = Subscribed { accepted, denied: vec![], mode, reason, head };
        self.send(Envelope::new(ServerMessage::Subscribed(data)).cursor(cursor).id(id));
    }

    fn hear(&mut self, message: ClientMessage, id: Option<String>) {
        match message {
            ClientMessage::Ping => {
                let pong = ServerMessage::Pong(Heartbeat { delivered: Some(self.delivered) });
                self.send(Envelope::new(pong).cursor(self.bookmark()).id(id));
            }
            ClientMessage::Pong => {}
            other => self.waiting.push_back((id, other)),
        }
    }

    fn ping(&mut self) {
        let ping = ServerMessage::Ping(Heartbeat { delivered: Some(self.delivered) });
        self.send(Envelope::new(ping).cursor(self.bookmark()));
    }
}

/// How much of what was meant to happen happened.
#[derive(Clone, Copy, Debug, Default)]
struct Story {
    resumes: u32,
    lags: u32,
    joins: u32,
    resets: u32,
    snapshots: u32,
    cut_snapshots: u32,
    losses: u32,
}

struct World {
    choice: Choice,
    log: Model,
    /// Events up to here are no longer kept.
    floor: u64,
    machine: Machine,
    now: Now,
    generation: Generation,
    is_dialling: bool,
    peer: Option<Peer>,
    stale: VecDeque<(Generation, Wire)>,
    buffer: Buffer,
    end: Option<WatchError>,
    caller: Caller,
    story: Story,
}

/// What the caller has seen, and what it must have seen.
#[derive(Default)]
struct Caller {
    wished: BTreeSet<Pattern>,
    removed: BTreeSet<Pattern>,
    /// Behind which position every event must come.
    from: BTreeMap<Pattern, u64>,
    /// The position of the newest snapshot.
    shown: BTreeMap<Pattern, u64>,
    /// The request that a plain subscription was made with.
    asked: BTreeMap<Pattern, String>,
    /// How far the stream ever was.
    reached: u64,
    seen: HashSet<u64>,
    newest: u64,
    lost: HashSet<u64>,
    is_lossy: bool,
    /// Whose state was promised after a gap.
    owed: BTreeSet<Pattern>,
    gaps_told: u32,
    tasks: Tasks,
}

impl World {
    fn new(choice: Choice, before: &[u16]) -> Self {
        let mut log = Model::default();
        before.iter().for_each(|draw| log.change(*draw));
        let since = choice.since.then(|| at(log.head() / 2));
        let plan = Plan {
            since: since.clone(),
            snapshot: choice.snapshot,
            on_gap: choice.on_gap,
            types: None,
        };
        let delays = Delays::new(Duration::from_secs(1), Duration::from_secs(1), || 0.0);
        #[expect(clippy::disallowed_methods, reason = "any beginning will do")]
        let now = Now { steady: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        let mut world = Self {
            choice,
            log,
            floor: 0,
            machine: Machine::new(plan, delays, None),
            now,
            generation: Generation(0),
            is_dialling: false,
            peer: None,
            stale: VecDeque::new(),
            buffer: Buffer::since(since),
            end: None,
            caller: Caller::default(),
            story: Story::default(),
        };
        world.add(0);
        world
    }

    fn input(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Dial(generation) => {
                    self.generation = generation;
                    self.is_dialling = true;
                }
                Action::Send(Envelope { message, id, .. }) => {
                    if let ClientMessage::Subscribe(Subscribe { repositories, .. }) = &message {
                        for pattern in repositories {
                            let id = id.clone().unwrap();
                            self.caller.asked.insert(pattern.clone(), id);
                        }
                    }
                    if let Some(peer) = &mut self.peer {
                        peer.hear(message, id);
                    }
                }
                Action::Yield(update, position) => {
                    self.caller.reach(position.as_ref());
                    self.buffer.push(update, position);
                }
                Action::Bookmark(cursor) => {
                    self.caller.reach(Some(&cursor));
                    self.buffer.bookmark(cursor);
                }
                Action::Ready => {}
                Action::Drop | Action::Leave => self.hang_up(),
                Action::Stop(error) => self.end = Some(error),
            }
        }
    }

    fn link(&mut self, input: LinkInput) {
        self.input(Input::Link(self.generation, input));
    }

    fn hang_up(&mut self) {
        self.is_dialling = false;
        let Some(peer) = self.peer.take() else { return };
        self.story.cut_snapshots += u32::from(!peer.parts.is_empty());
        let generation = self.generation;
        self.stale.extend(peer.out.into_iter().map(|wire| (generation, wire)));
    }

    fn add(&mut self, place: usize) {
        let pattern: Pattern = PATTERNS[place].parse().unwrap();
        self.caller.wished.insert(pattern.clone());
        self.input(Input::Wish(Wish::Add(vec![pattern])));
    }

    fn remove(&mut self, place: usize) {
        let pattern: Pattern = PATTERNS[place].parse().unwrap();
        let gone = vec![pattern.clone()];
        self.buffer.forget(&gone);
        self.caller.remove(&pattern);
        self.input(Input::Wish(Wish::Remove(gone)));
    }

    fn connect(&mut self) {
        if self.is_dialling {
            self.is_dialling = false;
            self.peer = Some(Peer::new(self.log.head()));
            self.link(LinkInput::Opened);
        } else if let Some(deadline) = self.machine.deadline().filter(|_| self.peer.is_none()) {
            self.advance(deadline);
        }
    }

    fn advance(&mut self, until: Instant) {
        let time = until.saturating_duration_since(self.now.steady);
        self.now.steady += time;
        self.now.wall += time;
        self.input(Input::Tick);
    }

    /// The oldest frame arrives; false if there is none, or it is not read.
    fn arrive(&mut self) -> bool {
        if !self.machine.is_reading() {
            return false;
        }
        let Some(wire) = self.peer.as_mut().and_then(|peer| peer.out.pop_front()) else {
            return false;
        };
        if let Wire::Frame(frame) = &wire {
            self.note(frame);
        }
        self.link(link_input(wire));
        true
    }

    /// What the caller is promised by this frame.
    fn note(&mut self, frame: &ServerFrame) {
        let ServerMessage::Subscribed(data) = &frame.message else { return };
        self.story.resumes += u32::from(data.mode == Mode::Resumed);
        self.story.joins += u32::from(frame.id.as_deref() != Some("1"));
        self.story.resets += u32::from(data.mode == Mode::Reset);
        let Some(position) = frame.cursor.as_ref().map(seq) else {
            if data.mode == Mode::Reset {
                self.caller.from.retain(|pattern, _| !data.accepted.contains(pattern));
                let wished = |pattern: &&Pattern| self.caller.wished.contains(*pattern);
                let owed: Vec<_> = data.accepted.iter().filter(wished).cloned().collect();
                self.caller.owed.extend(owed);
            }
            return;
        };
        for pattern in &data.accepted {
            if self.caller.asked.get(pattern) != frame.id.as_ref() {
                continue;
            }
            if data.mode == Mode::Reset {
                self.caller.from.insert(pattern.clone(), position);
            } else {
                // A stream that went back for a loss had been further.
                let from = position.max(self.caller.reached);
                self.caller.from.entry(pattern.clone()).or_insert(from);
            }
        }
    }

    /// A loss is not hidden by the end of its connection: the next count tells it first.
    fn own_up(&mut self) {
        if self.peer.as_ref().is_some_and(|peer| peer.has_lost) {
            while self.arrive() {}
            while let Some(peer) = &mut self.peer {
                if !peer.parts.is_empty() {
                    peer.serve(&self.log, self.floor);
                } else {
                    peer.ping();
                }
                while self.arrive() {}
            }
        }
    }

    fn lose(&mut self) {
        if self.machine.is_full() {
            return;
        }
        let Some(peer) = &mut self.peer else { return };
        match peer.out.front() {
            Some(Wire::Frame(Envelope { message: ServerMessage::Task(_), cursor, .. })) => {
                self.caller.lost.insert(seq(cursor.as_ref().unwrap()));
                peer.has_lost = true;
            }
            Some(Wire::Frame(Envelope { message: ServerMessage::Snapshot(part), .. }))
                if !peer.has_lost_answer && (part.first || part.last) =>
            {
                peer.has_lost_answer = true;
            }
            Some(Wire::Frame(Envelope { message: ServerMessage::Subscribed(data), .. }))
                if !peer.has_lost_answer && data.mode == Mode::Snapshot =>
            {
                peer.has_lost_answer = true;
            }
            Some(Wire::Frame(Envelope { message: ServerMessage::Ping(_), .. })) => {}
            _ => return,
        }
        peer.out.pop_front();
        self.caller.is_lossy = true;
        self.story.losses += 1;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change(draw) => self.log.change(draw),
            Step::Serve => {
                if let Some(peer) = &mut self.peer {
                    peer.serve(&self.log, self.floor);
                }
            }
            Step::Arrive => drop(self.arrive()),
            Step::Lose => self.lose(),
            Step::Ping => {
                if let Some(peer) = &mut self.peer {
                    peer.ping();
                }
            }
            Step::Connect => self.connect(),
            Step::Cut => {
                self.own_up();
                if self.peer.is_some() && self.machine.is_reading() {
                    self.link(LinkInput::Lost("cut".into()));
                }
            }
            Step::Late => {
                self.own_up();
                if let Some(deadline) = self.machine.deadline() {
                    self.advance(deadline);
                }
            }
            Step::Sleep => {
                self.now.wall += Duration::from_secs(60);
                self.input(Input::Tick);
            }
            Step::Stale => {
                if let Some((generation, wire)) = self.stale.pop_front() {
                    self.input(Input::Link(generation, link_input(wire)));
                }
            }
            Step::Trim => self.floor = self.log.head(),
            Step::Full => {
                self.own_up();
                if !self.machine.is_full() {
                    self.story.lags += 1;
                    self.input(Input::Full);
                }
            }
            Step::Room => {
                if self.machine.is_full() {
                    self.input(Input::Room);
                }
            }
            Step::Add(place) => self.add(place),
            Step::Remove(place) => self.remove(place),
            Step::Pop => drop(self.pop()),
        }
        assert!(self.machine.is_reading() || self.machine.is_full());
    }

    fn pop(&mut self) -> bool {
        let Some(update) = self.buffer.pop() else { return false };
        let state = self.choice.snapshot;
        self.story.snapshots += u32::from(matches!(update, Update::Snapshot(_)));
        self.caller.see(&update, &self.log, state);
        self.caller.tasks.apply(update);
        if let Some(position) = self.buffer.yielded() {
            self.caller.check(seq(position), &self.log, state);
        }
        true
    }

    /// Without further faults everything comes to rest: then nothing is missing.
    fn come_to_rest(&mut self) {
        self.own_up();
        let gave_up = |world: &Self| world.end.is_some();
        let mut quiet = 0;
        while quiet < 3 && !gave_up(self) {
            while self.pop() {}
            if self.machine.is_full() {
                self.input(Input::Room);
            }
            if self.peer.is_none() {
                self.connect();
            }
            let mut has_moved = false;
            if let Some(peer) = &mut self.peer {
                while peer.serve(&self.log, self.floor) {
                    has_moved = true;
                }
                peer.ping();
            }
            while self.arrive() {}
            quiet = if has_moved || self.is_dialling { 0 } else { quiet + 1 };
        }
        while self.pop() {}
        if let Some(end) = &self.end {
            let is_gap = matches!(end, WatchError::Gap { .. });
            assert!(is_gap && self.choice.on_gap == OnGap::Error, "{end}");
            return;
        }
        let head = self.log.head();
        for pattern in &self.caller.wished {
            assert!(self.caller.from.contains_key(pattern), "{pattern} has not begun");
        }
        if !self.caller.wished.is_empty() {
            assert_eq!(self.buffer.yielded(), Some(&at(head)));
            assert!(self.caller.owed.is_empty(), "no state of {:?}", self.caller.owed);
            self.caller.lost.clear();
            self.caller.is_lossy = false;
            self.caller.check(head, &self.log, self.choice.snapshot);
        }
        if self.story.resets > 0 && self.choice.on_gap != OnGap::Error {
            assert!(self.caller.gaps_told > 0 || self.story.cut_snapshots > 0);
        }
    }
}

fn link_input(wire: Wire) -> LinkInput {
    match wire {
        Wire::Frame(frame) => LinkInput::Text(frame.encode().into()),
        Wire::Close(code) => {
            let reason = CloseReason { word: code.word().into(), retry_after_ms: None };
            LinkInput::Closed(code, reason)
        }
    }
}

impl Caller {
    fn reach(&mut self, position: Option<&Cursor>) {
        self.reached = self.reached.max(position.map_or(0, seq));
    }

    fn remove(&mut self, pattern: &Pattern) {
        self.wished.remove(pattern);
        self.removed.insert(pattern.clone());
        self.from.remove(pattern);
        self.shown.remove(pattern);
        self.asked.remove(pattern);
        self.owed.remove(pattern);
        self.tasks.remove(std::slice::from_ref(pattern));
    }

    /// One update, in its place.
    fn see(&mut self, update: &Update, log: &Model, with_state: bool) {
        match update {
            Update::Event(event) => {
                let seq = seq(&event.cursor);
                assert_eq!(&event.event, log.event(seq), "it is what happened");
                assert!(self.seen.insert(seq), "I2: {seq} came twice");
                let is_late = self.lost.contains(&seq);
                let is_lossy = !self.lost.is_empty();
                let has_come_back = is_late || is_lossy && !with_state;
                assert!(seq > self.newest || has_come_back, "I1: {seq} after {}", self.newest);
                self.newest = self.newest.max(seq);
                let matches = |pattern: &&Pattern| pattern.matches(&event.repository);
                assert!(
                    self.wished.union(&self.removed).any(|pattern| matches(&pattern)),
                    "I4: nobody asked for {}",
                    event.repository
                );
                let is_in = |(pattern, shown): (&Pattern, &u64)| matches(&pattern) && seq <= *shown;
                assert!(is_late || !self.shown.iter().any(is_in), "I7: {seq} was in a snapshot");
            }
            Update::Snapshot(snapshot) => {
                let position = seq(&snapshot.cursor);
                let state = log.state(&snapshot.repositories, position);
                assert_eq!(snapshot.tasks, state, "I7: the state at {position}");
                for pattern in &snapshot.repositories {
                    assert!(self.wished.contains(pattern), "{pattern} was removed");
                    self.owed.remove(pattern);
                    // Behind it a gap may have been told to the stream already.
                    let from = self.from.entry(pattern.clone()).or_insert(position);
                    *from = position.max(*from);
                    self.shown.insert(pattern.clone(), position);
                }
            }
            Update::Gap(_) => {
                self.gaps_told += 1;
                self.shown.clear();
            }
            _ => {}
        }
    }

    /// The caller may save `position`: everything up to it was seen.
    fn check(&self, position: u64, log: &Model, with_state: bool) {
        for (pattern, from) in &self.from {
            for seq in from + 1..=position {
                let is_missing = pattern.matches(&log.event(seq).repository)
                    && !self.seen.contains(&seq)
                    && !self.lost.contains(&seq);
                assert!(!is_missing, "I3, I6: {seq} of {pattern} is missing at {position}");
            }
        }
        // After a loss the position goes back, and the tasks do not.
        let is_exact = with_state && !self.is_lossy && self.tasks.cursor().is_some();
        for pattern in self.shown.keys().filter(|_| is_exact) {
            let shown = self.tasks.iter().filter(|task| pattern.matches(&task.repository));
            let shown: Vec<_> = shown.map(|task| (task.id, task.version)).collect();
            let state = log.state(std::slice::from_ref(pattern), position);
            let state: Vec<_> = state.iter().map(|task| (task.id, task.version)).collect();
            assert_eq!(shown, state, "I7: the fold of {pattern} at {position}");
        }
    }
}

fn run(choice: Choice, before: &[u16], steps: &[Step]) -> Story {
    let mut world = World::new(choice, before);
    for step in steps {
        if world.end.is_some() {
            break;
        }
        world.step(*step);
    }
    world.come_to_rest();
    world.story
}

/// `PROPTEST_CASES` says how many cases; in a long run enough of them must have been interesting.
#[test]
fn whatever_happens_the_caller_sees_everything_once_and_in_order_or_is_told() {
    let mut config = Config::default();
    config.failure_persistence = None;
    let cases = config.cases;
    let mut runner = TestRunner::new(config);
    let before = prop::collection::vec(any::<u16>(), 0..20);
    let steps = prop::collection::vec(step(), 50..300);
    let stories = std::cell::RefCell::new(Vec::new());
    let result = runner.run(&(choice(), before, steps), |(choice, before, steps)| {
        stories.borrow_mut().push(run(choice, &before, &steps));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let stories = stories.into_inner();
    let count = |happened: fn(&Story) -> u32| stories.iter().filter(|it| happened(it) > 0).count();
    let (resumes, lags, joins) =
        (count(|it| it.resumes), count(|it| it.lags), count(|it| it.joins));
    println!(
        "{cases} cases: {resumes} with a resume, {lags} with lag, {joins} with a join, {} with a reset, \
         {} with a snapshot, {} with a cut one, {} with a loss",
        count(|it| it.resets),
        count(|it| it.snapshots),
        count(|it| it.cut_snapshots),
        count(|it| it.losses),
    );
    for share in [resumes, lags, joins] {
        assert!(share * 10 >= stories.len() * 3, "the cases were too easy");
    }
}

/// Cases that failed once, made smaller.
mod found {
    use super::Step::*;
    use super::*;

    const PLAIN: Choice = Choice { snapshot: false, on_gap: OnGap::Error, since: false };
    const STATE: Choice = Choice { snapshot: true, ..PLAIN };

    #[test]
    fn a_proof_in_the_middle_of_a_replay() {
        let choice = Choice { since: true, ..PLAIN };
        let begin = [Change(0), Change(0), Connect, Serve, Arrive, Serve, Lose, Serve, Full];
        let replay = [Room, Connect, Serve, Arrive, Serve, Arrive, Ping, Arrive];
        let story = run(choice, &[], &[&begin[..], &replay].concat());
        assert_eq!((story.losses, story.resumes), (1, 2));
    }

    #[test]
    fn a_loss_behind_a_snapshot_that_was_added() {
        let steps = [
            Add(2),
            Connect,
            Change(0),
            Change(6621),
            Change(413),
            Change(0),
            Change(0),
            Change(0),
            Change(0),
            Change(0),
            Change(0),
            Change(0),
            Change(0),
            Serve,
            Change(0),
            Arrive,
            Change(0),
            Change(29749),
            Change(0),
            Serve,
            Serve,
            Change(1493),
            Serve,
            Change(18397),
            Arrive,
            Change(3912),
            Serve,
            Add(1),
            Serve,
            Arrive,
            Pop,
            Change(885),
            Lose,
            Serve,
            Serve,
            Serve,
            Change(0),
            Connect,
            Change(0),
            Pop,
            Change(0),
            Change(0),
            Change(0),
            Connect,
        ];
        assert_eq!(run(STATE, &[], &steps).losses, 1);
    }

    #[test]
    fn a_lost_part_of_a_snapshot_behind_a_lost_event() {
        let before = [0, 6_672, 40, 13, 312, 0, 45_125];
        let steps = [
            Add(1),
            Connect,
            Serve,
            Arrive,
            Change(48),
            Serve,
            Serve,
            Arrive,
            Change(0),
            Change(19_845),
            Arrive,
            Change(31_749),
            Serve,
            Add(2),
            Lose,
            Serve,
            Serve,
            Arrive,
            Lose,
            Connect,
            Change(0),
            Pop,
            Full,
            Change(0),
            Pop,
            Full,
        ];
        assert_eq!(run(STATE, &before, &steps).losses, 2);
    }
}
