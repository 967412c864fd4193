//! The machine against a model of a server, a network and a caller, in random interleavings.
//!
//! The server follows the wire: one position per connection, changes of the subscription answered
//! when it is level, nothing but pings within a snapshot. The network delays, loses frames and cuts.
//! The caller is checked: what it sees is complete, in order, once, or told as a gap.

mod caller;
mod found;
mod peer;

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use taskwatch_protocol::{
    ClientMessage, CloseReason, Envelope, Mode, Pattern, ServerFrame, ServerMessage, Subscribe,
    Timestamp,
};

use self::caller::Caller;
use self::peer::{Peer, Wire};
use super::*;
use crate::buffer::Buffer;
use crate::testing::{Model, at, seq};
use crate::transport::Route;
use crate::{Freshness, Token, TokenError, Transport, TransportChoice, Update};

/// Names and patterns that overlap.
const PATTERNS: [&str; 5] = ["a/x", "a/y", "b", "a/*", "*"];

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
    /// The provider gives a token, or has none.
    Token(bool),
    /// The link opens, or another attempt is made.
    Connect,
    Cut,
    /// Silence, a full buffer for too long, or a token that is to be renewed.
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
        3 => any::<bool>().prop_map(Step::Token),
        8 => Just(Step::Connect),
        3 => Just(Step::Cut),
        2 => Just(Step::Late),
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

/// Where the stream begins: halfway through what has happened, unless it is now.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    Now,
    Since,
    Time,
    Tail,
}

#[derive(Clone, Copy, Debug)]
struct Choice {
    snapshot: bool,
    on_gap: OnGap,
    start: Start,
    /// The caller is told how fresh the stream is.
    freshness: bool,
    /// The connections cannot talk back, as over plain HTTP.
    listens: bool,
}

fn choice() -> impl Strategy<Value = Choice> {
    let on_gap = prop_oneof![Just(OnGap::Error), Just(OnGap::Live), Just(OnGap::Snapshot)].boxed();
    let start = prop_oneof![
        2 => Just(Start::Now),
        2 => Just(Start::Since),
        1 => Just(Start::Time),
        1 => Just(Start::Tail),
    ];
    (any::<bool>(), on_gap, start, any::<bool>(), any::<bool>()).prop_map(
        |(snapshot, on_gap, start, freshness, listens)| Choice {
            snapshot,
            on_gap,
            start,
            freshness,
            listens,
        },
    )
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
    renewals: u32,
    /// Connections that were made anew without a word.
    redials: u32,
    /// Updates that tell how fresh the stream is.
    fresh: u32,
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
    route: Route,
    /// The connection for which the provider is asked for a token.
    asking: Option<Generation>,
    peer: Option<Peer>,
    stale: VecDeque<(Generation, Wire)>,
    /// When the server was asked something, and where its log was.
    questions: Vec<(Instant, u64)>,
    buffer: Buffer,
    end: Option<WatchError>,
    caller: Caller,
    story: Story,
}

impl World {
    fn new(choice: Choice, before: &[u16]) -> Self {
        let mut log = Model::default();
        before.iter().for_each(|draw| log.change(*draw));
        let half = log.head() / 2;
        let since = (choice.start == Start::Since).then(|| at(half));
        let beginning = match choice.start {
            Start::Now | Start::Since => None,
            Start::Time => {
                let millis = i64::try_from(half + 1).unwrap();
                Some(Beginning::Time(Timestamp::from_unix_millis(millis)))
            }
            Start::Tail => Some(Beginning::Tail(u32::try_from(half + 1).unwrap())),
        };
        let sse = TransportChoice::Sse;
        let plan = Plan {
            transport: if choice.listens { sse } else { TransportChoice::WebSocket },
            since: since.clone(),
            beginning,
            freshness: choice.freshness.then(|| Duration::from_secs(1)),
            snapshot: choice.snapshot,
            on_gap: choice.on_gap,
            has_tokens: true,
            ..Plan::default()
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
            route: Route::only(Transport::WebSocket),
            asking: None,
            peer: None,
            stale: VecDeque::new(),
            questions: Vec::new(),
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
        let was_up = self.peer.is_some();
        let mut was_told = false;
        while let Some(action) = self.machine.poll_action() {
            was_told |= matches!(action, Action::Yield(..));
            match action {
                Action::Dial(generation, route) => {
                    self.story.redials += u32::from(was_up && !was_told);
                    self.generation = generation;
                    self.is_dialling = true;
                    self.route = route;
                }
                Action::Send(Envelope { message, id, .. }) => {
                    let is_first = self.peer.as_ref().is_some_and(|peer| !peer.has_answered);
                    assert!(!self.choice.listens || is_first, "nothing can be said: {message:?}");
                    if let ClientMessage::Subscribe(Subscribe { repositories, .. }) = &message {
                        for pattern in repositories {
                            let id = id.clone().unwrap();
                            self.caller.asked.insert(pattern.clone(), id);
                        }
                    }
                    if message == ClientMessage::Ping {
                        self.questions.push((self.now.steady, self.log.head()));
                    }
                    if let Some(peer) = &mut self.peer {
                        peer.hear(message, id, self.log.head());
                    }
                }
                Action::Yield(update, position) => {
                    if let Update::Fresh(Freshness { behind, .. }) = update {
                        self.is_fresh(behind);
                    }
                    self.caller.reach(position.as_ref());
                    self.buffer.push(update, position);
                }
                Action::Bookmark(cursor) => {
                    self.caller.reach(Some(&cursor));
                    self.buffer.bookmark(cursor);
                }
                Action::Ready => {}
                Action::AskToken(generation) => self.asking = Some(generation),
                Action::Drop | Action::Leave => self.hang_up(),
                Action::Stop(error) => self.end = Some(error),
            }
        }
    }

    /// What had happened so long ago was yielded.
    fn is_fresh(&mut self, behind: Duration) {
        let then = self.now.steady - behind;
        let asked = self.questions.iter().filter(|(at, _)| *at == then).map(|(_, head)| *head);
        let promised = asked.min().expect("it was asked then");
        assert!(self.caller.reached >= promised, "not so fresh: {promised} has not come");
        self.story.fresh += 1;
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
            self.link(LinkInput::Opened(self.route.clone()));
            if !self.choice.listens {
                self.link(link_input(Wire::Frame(peer::welcome())));
            }
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
        self.link(link_input(wire.clone()));
        // A frame that shows a loss ends its connection, and promises nothing.
        if let (Wire::Frame(frame), Some(_)) = (&wire, &self.peer) {
            self.note(frame);
        }
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
                // What was removed and added again meanwhile was asked for once more.
                let asked = &self.caller.asked;
                let is_it = |pattern: &&Pattern| asked.get(*pattern) == frame.id.as_ref();
                let owed: Vec<_> = data.accepted.iter().filter(is_it).cloned().collect();
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

    /// What is wished ends a connection that cannot be told.
    fn own_up_if_it_listens(&mut self) {
        if self.choice.listens {
            self.own_up();
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
                if let Some(peer) = &mut self.peer
                    // Who cannot ask learns from it that it is level.
                    && (!self.choice.listens || peer.is_level(&self.log))
                {
                    peer.ping();
                }
            }
            Step::Token(is_there) => {
                if let Some(generation) = self.asking.take() {
                    self.story.renewals += 1;
                    let token = is_there.then(|| Token::new("an-example-token").unwrap());
                    let token = token.ok_or(TokenError::Temporary("locked".into()));
                    self.input(Input::Link(generation, LinkInput::Token(token)));
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
                self.own_up_if_it_listens();
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
            Step::Add(place) => {
                self.own_up_if_it_listens();
                self.add(place);
            }
            Step::Remove(place) => {
                self.own_up_if_it_listens();
                self.remove(place);
            }
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
    let config = Config { failure_persistence: None, ..Config::default() };
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
    let redials = count(|it| it.redials);
    println!(
        "{cases} cases: {resumes} with a resume, {lags} with lag, {joins} with a join, {} with a reset, \
         {} with a snapshot, {} with a cut one, {} with a loss, {} with a renewal, \
         {redials} with a quiet connection, {} told how fresh they are",
        count(|it| it.resets),
        count(|it| it.snapshots),
        count(|it| it.cut_snapshots),
        count(|it| it.losses),
        count(|it| it.renewals),
        count(|it| it.fresh),
    );
    for share in [resumes, lags, joins] {
        assert!(share * 10 >= stories.len() * 3, "the cases were too easy");
    }
    // Only one half of the cases may have any, and of the other half one half.
    assert!(redials * 10 >= stories.len(), "the cases were too easy");
    assert!(count(|it| it.fresh) * 10 >= stories.len(), "the cases were too easy");
}
