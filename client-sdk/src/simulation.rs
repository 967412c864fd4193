//! A stream without a socket, a runtime and a clock, for tests that decide what happens when. Only
//! what `driver.rs` does around the machine is done here in another way.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use taskwatch_protocol::{CloseCode, CloseReason, Cursor, Pattern};

use crate::backoff::Delays;
use crate::dial::DialError;
use crate::feed::{Feed, News};
use crate::machine::{Action, Generation, Input, LinkInput, Machine, Now, Plan, Wish};
use crate::transport::Route;
use crate::{OnGap, Tasks, Transport, Update, WatchError};

/// What the caller chose.
#[derive(Clone, Debug)]
pub struct Choice {
    pub patterns: Vec<Pattern>,
    pub since: Option<Cursor>,
    pub snapshot: bool,
    pub on_gap: OnGap,
    /// How many updates may wait for the caller.
    pub room: usize,
}

/// Which connection something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(Generation);

/// What comes from the network.
#[derive(Clone, Debug)]
pub enum Incoming {
    Opened,
    NotOpened(String),
    Text(String),
    Closed(CloseCode, CloseReason),
    Lost(String),
}

/// What goes to it.
#[derive(Clone, Debug)]
pub enum Outgoing {
    Dial(Link),
    Text(String),
    /// The link is let go of without a word,
    Drop,
    /// or closed.
    Leave,
}

/// One stream: the machine, and the feed between it and the caller.
#[derive(Debug)]
pub struct Stream {
    machine: Machine,
    feed: Feed,
    room: usize,
    beginning: Instant,
    outgoing: Vec<Outgoing>,
    is_over: bool,
}

/// What has passed since the beginning, on the clock that stands still while the computer sleeps
/// and on that of the wall.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    pub steady: Duration,
    pub wall: Duration,
}

impl Stream {
    pub fn new(choice: Choice, draw: fn() -> f64, now: Clocks) -> Self {
        let Choice { patterns, since, snapshot, on_gap, room } = choice;
        let feed = Feed::new();
        feed.begin_at(since.clone());
        let plan = Plan { since, snapshot, on_gap, ..Plan::default() };
        let delays = Delays::new(Duration::from_millis(500), Duration::from_secs(30), draw);
        let machine = Machine::new(plan, delays, None);
        #[expect(clippy::disallowed_methods, reason = "any beginning will do")]
        let beginning = Instant::now();
        let (outgoing, is_over) = (vec![], false);
        let mut stream = Self { machine, feed, room, beginning, outgoing, is_over };
        stream.handle(now, Input::Wish(Wish::Add(patterns)));
        stream
    }

    /// What is to be done on the network, in order.
    pub fn outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    /// Something came. Only to be called while it [`reads`](Self::reads).
    pub fn incoming(&mut self, now: Clocks, Link(generation): Link, incoming: Incoming) {
        let input = match incoming {
            Incoming::Opened => LinkInput::Opened(Route::only(Transport::WebSocket)),
            Incoming::NotOpened(reason) => LinkInput::DialFailed(DialError::Failed(reason)),
            Incoming::Text(text) => LinkInput::Text(text.into()),
            Incoming::Closed(code, reason) => LinkInput::Closed(code, reason),
            Incoming::Lost(reason) => LinkInput::Lost(reason),
        };
        self.handle(now, Input::Link(generation, input));
    }

    pub fn reads(&self) -> bool {
        self.machine.is_reading()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Clocks) {
        self.handle(now, Input::Tick);
    }

    /// When it wants to be told of the time at the latest, on the steady clock.
    pub fn deadline(&self) -> Option<Duration> {
        Some(self.machine.deadline()?.saturating_duration_since(self.beginning))
    }

    /// The caller watches these as well.
    pub fn add(&mut self, now: Clocks, patterns: Vec<Pattern>) {
        self.feed.wish(Wish::Add(patterns));
        self.caller_changed(now);
    }

    /// The caller watches these no longer.
    pub fn remove(&mut self, now: Clocks, patterns: Vec<Pattern>) {
        self.feed.wish(Wish::Remove(patterns));
        self.caller_changed(now);
    }

    /// The caller asks for the next update; `None` if there is none yet.
    pub fn next(&mut self, now: Clocks) -> Option<Result<Update, WatchError>> {
        let next = match self.feed.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => next,
            Poll::Pending => None,
        };
        self.caller_changed(now);
        next
    }

    /// How many updates wait for the caller.
    pub fn waiting(&self) -> usize {
        self.feed.len()
    }

    pub fn cursor(&self) -> Option<Cursor> {
        self.feed.position()
    }

    fn caller_changed(&mut self, now: Clocks) {
        for wish in self.feed.take_wishes() {
            self.handle(now, Input::Wish(wish));
        }
        if self.machine.is_full() && self.waiting() <= self.room / 2 {
            self.handle(now, Input::Room);
        }
    }

    fn handle(&mut self, now: Clocks, input: Input) {
        if self.is_over {
            return;
        }
        let now =
            Now { steady: self.beginning + now.steady, wall: SystemTime::UNIX_EPOCH + now.wall };
        self.machine.handle(now, input);
        self.perform();
        if !self.machine.is_full() && self.waiting() >= self.room {
            self.machine.handle(now, Input::Full);
            self.perform();
        }
    }

    fn tell(&self, news: News) {
        self.feed.take(&mut vec![news]);
    }

    fn perform(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Dial(generation, _) => self.outgoing.push(Outgoing::Dial(Link(generation))),
                Action::Send(frame) => self.outgoing.push(Outgoing::Text(frame.encode())),
                // Only who has tokens is told to ask for one.
                Action::AskToken(_) => {}
                Action::Yield(update, position) => self.tell(News::Update(update, position)),
                Action::Bookmark(cursor) => self.tell(News::Bookmark(cursor)),
                Action::Ready => self.tell(News::Ready),
                Action::Drop => self.outgoing.push(Outgoing::Drop),
                Action::Leave => self.outgoing.push(Outgoing::Leave),
                Action::Stop(error) => {
                    self.feed.end(error);
                    self.is_over = true;
                    return;
                }
            }
        }
    }
}

/// What a view makes of an update.
pub fn apply(tasks: &mut Tasks, update: Update) {
    tasks.apply(update);
}
