//! The judge of what a caller of the SDK sees.

use std::collections::BTreeMap;

use taskwatch_client::{Gap, OnGap, Snapshot, Tasks, Update, WatchError};
use taskwatch_server::simulation::{Filter, Held, Truth};

/// Fails with the name of what was broken.
macro_rules! must {
    ($condition:expr, $invariant:literal, $($what:tt)+) => {
        assert!($condition, "{}: {}", $invariant, format_args!($($what)+))
    };
}

/// What happened, in each line of history: a new one begins where an older copy was put back.
pub(crate) type Lines = Vec<Truth>;

/// Follows one stream update by update.
#[derive(Debug)]
pub(crate) struct Watcher {
    on_gap: OnGap,
    with_state: bool,
    /// The line of history that it sees.
    line: usize,
    /// Everything it must see up to here was yielded; `None` before the beginning.
    position: Option<u64>,
    /// What it must see,
    must: Filter,
    /// and what it may see: what it asked for or does not want any more.
    may: Filter,
    /// What it wants in the end.
    wished: Vec<String>,
    /// What a view makes of it; `None` if it cannot be whole.
    view: Option<Tasks>,
    has_joined: bool,
    /// It was given a position and has not gone on from there yet.
    is_resuming: bool,
}

impl Watcher {
    pub(crate) fn new(patterns: Vec<String>, on_gap: OnGap, with_state: bool) -> Self {
        let filter = |patterns| Filter { patterns, ..Filter::default() };
        Self {
            on_gap,
            with_state,
            line: 0,
            position: None,
            must: filter(if with_state { vec![] } else { patterns.clone() }),
            may: filter(patterns.clone()),
            wished: patterns,
            view: with_state.then(Tasks::default),
            has_joined: false,
            is_resuming: false,
        }
    }

    pub(crate) fn wished(&self) -> &[String] {
        &self.wished
    }

    /// Whether this can be added so that its state comes first. What is added before a stream goes
    /// on from a position goes on from there, too.
    pub(crate) fn can_add(&self, pattern: &str) -> bool {
        let was_wished = self.may.patterns.iter().any(|held| held == pattern);
        self.with_state && !self.is_resuming && !was_wished
    }

    pub(crate) fn on_gap(&self) -> OnGap {
        self.on_gap
    }

    pub(crate) fn with_state(&self) -> bool {
        self.with_state
    }

    /// The caller watches this as well, beginning with its state.
    pub(crate) fn add(&mut self, pattern: &str) {
        self.may.patterns.push(pattern.to_owned());
        self.wished.push(pattern.to_owned());
    }

    /// The caller watches this no longer; what is on its way may still come.
    pub(crate) fn remove(&mut self, pattern: &str) {
        self.must.patterns.retain(|held| held != pattern);
        self.wished.retain(|held| held != pattern);
        self.view = None;
    }

    /// The program ended and begins again at the position it saved.
    pub(crate) fn restarts(&mut self, lines: &Lines, cursor: Option<&str>) {
        match cursor {
            Some(cursor) => {
                self.reach(lines, cursor);
                // It goes on from there with all it wants: what was to begin with its state, too.
                if self.must.patterns != self.wished {
                    self.view = None;
                }
                self.must.patterns.clone_from(&self.wished);
                self.is_resuming = true;
            }
            None => *self = Self::new(self.wished.clone(), self.on_gap, self.with_state),
        }
    }

    /// Judges the next update.
    pub(crate) fn update(&mut self, lines: &Lines, update: &Update, held: &mut Held) {
        match update {
            Update::Event(event) => {
                let Some(position) = self.position else {
                    panic!("I3 no gap: not begun: {event:?}")
                };
                let (line, seq) = self.place(lines, event.cursor.as_str());
                let entry = lines[line].entry(seq);
                let is_real = entry.is_some_and(|entry| entry.text == event.envelope());
                must!(is_real, "I5 durable", "no such event: {event:?}");
                must!(self.may.wants(entry.unwrap()), "I4 filter", "{:?} gets {event:?}", self.may);
                must!(seq > position, "I2 once", "after {position} comes {seq}");
                self.line = line;
                self.passes(lines, seq - 1, "the event behind");
                self.position = Some(seq);
                if self.has_joined {
                    held.note("join");
                }
            }
            Update::Bookmark(cursor) => self.reach(lines, cursor.as_str()),
            Update::Snapshot(snapshot) => {
                held.note("snapshot");
                self.snapshot(lines, snapshot);
            }
            Update::Gap(gap) => self.gap(lines, gap, held),
            Update::Connected { resumed, .. } => {
                self.is_resuming = false;
                if *resumed {
                    held.note("resume");
                }
            }
            Update::Parked => held.note("parked"),
            _ => {}
        }
        if let Some(view) = &mut self.view {
            taskwatch_client::simulation::apply(view, update.clone());
        }
    }

    /// The stream has ended; only a gap may end it.
    pub(crate) fn end(&self, lines: &Lines, error: &WatchError, held: &mut Held) {
        let WatchError::Gap { reason } = error else { panic!("the stream ended: {error}") };
        must!(self.on_gap == OnGap::Error, "gap", "it was not to end: {error}");
        self.is_due(lines, reason.as_str(), held);
    }

    /// What the caller would save is true.
    pub(crate) fn cursor(&self, lines: &Lines, cursor: Option<&str>) {
        let Some(position) = self.position else { return };
        let (line, seq) = self.place(lines, cursor.expect("a position"));
        must!(seq >= position, "cursor", "{seq} is behind what was yielded, {position}");
        let missed = lines[line].wanted(&self.must, position, seq).next();
        must!(missed.is_none(), "cursor", "{seq} is ahead of {missed:?}");
    }

    /// Whether it has seen everything there is.
    pub(crate) fn is_level(&self, lines: &Lines) -> bool {
        let newest = lines.last().unwrap();
        let Some(position) = self.position.filter(|&position| position == newest.head()) else {
            return false;
        };
        let mut wished = self.wished.iter();
        wished.all(|pattern| self.must.patterns.contains(pattern))
            && (self.line + 1 == lines.len() || newest.is_like(&lines[self.line], position))
    }

    /// At the end a view holds what there is.
    pub(crate) fn has_state(&self, lines: &Lines) {
        let Some(view) = &self.view else { return };
        let truth = lines.last().unwrap().state(&self.wished, self.position.unwrap());
        let view: BTreeMap<_, _> = view
            .iter()
            .map(|task| {
                let value = serde_json::to_value(&**task).unwrap();
                (value["id"].to_string(), value)
            })
            .collect();
        must!(view == truth, "I7 snapshot", "the view holds {view:?}, not {truth:?}");
    }

    /// Where a cursor stands. Another line of history than before must hold all that was seen.
    fn place(&self, lines: &Lines, cursor: &str) -> (usize, u64) {
        let place = (self.line..lines.len())
            .find_map(|line| lines[line].seq(cursor).map(|seq| (line, seq)));
        let Some((line, seq)) = place else { panic!("I6 bookmark: {cursor} is no position") };
        if let Some(position) = self.position {
            let is_like = line == self.line || lines[line].is_like(&lines[self.line], position);
            must!(is_like, "I3 no gap", "{cursor} goes on from what is not its past");
        }
        (line, seq)
    }

    /// Nothing it must see lies between its position and `upto`.
    fn passes(&self, lines: &Lines, upto: u64, what: &str) {
        let Some(position) = self.position else { return };
        let missed = lines[self.line].wanted(&self.must, position, upto).next();
        let missed = missed.map(|entry| entry.seq);
        must!(missed.is_none(), "I3 no gap", "{what} {upto} comes, {missed:?} did not");
    }

    /// Everything up to a cursor has come.
    fn reach(&mut self, lines: &Lines, cursor: &str) {
        let (line, seq) = self.place(lines, cursor);
        must!(self.position.is_none_or(|position| seq >= position), "I6 bookmark", "back to {seq}");
        self.line = line;
        self.passes(lines, seq, "bookmark");
        if self.position.is_none() {
            self.has_joined = lines[line].entry(seq).is_some();
        }
        self.position = Some(seq);
    }

    fn snapshot(&mut self, lines: &Lines, snapshot: &Snapshot) {
        let cursor = snapshot.cursor.as_str();
        let is_known = lines.iter().any(|truth| truth.seq(cursor).is_some());
        must!(is_known, "I7 snapshot", "at a position that is none: {snapshot:?}");
        self.reach(lines, cursor);
        let patterns: Vec<String> = snapshot.repositories.iter().map(ToString::to_string).collect();
        let state = lines[self.line].state(&patterns, self.position.unwrap());
        let tasks: BTreeMap<_, _> = snapshot
            .tasks
            .iter()
            .map(|task| (format!("\"{}\"", task.id), serde_json::to_value(task).unwrap()))
            .collect();
        must!(tasks.len() == snapshot.tasks.len(), "I7 snapshot", "a task twice: {snapshot:?}");
        must!(tasks == state, "I7 snapshot", "the state is {state:?}: {snapshot:?}");
        for pattern in patterns {
            if self.wished.contains(&pattern) && !self.must.patterns.contains(&pattern) {
                self.must.patterns.push(pattern);
            }
        }
    }

    fn gap(&mut self, lines: &Lines, gap: &Gap, held: &mut Held) {
        let is_expected = self.on_gap != OnGap::Error || self.with_state;
        must!(is_expected, "gap", "it was to end the stream: {gap:?}");
        self.is_due(lines, gap.reason.as_str(), held);
        let since = gap.since.as_ref().expect("a position").as_str();
        let (_, since) = self.place(lines, since);
        must!(Some(since) == self.position, "gap", "at {:?}: {gap:?}", self.position);
        self.position = None;
        match &gap.cursor {
            Some(cursor) => {
                self.view = None;
                self.reach(lines, cursor.as_str());
            }
            None => self.must.patterns.clear(),
        }
    }

    /// Whether the position really could not be honoured.
    fn is_due(&self, lines: &Lines, reason: &str, held: &mut Held) {
        let is_due = match reason {
            "expired" => {
                held.note("gap expired");
                lines.iter().any(|truth| Some(truth.floor()) > self.position)
            }
            "incarnation" => {
                held.note("gap incarnation");
                lines.len() > 1
            }
            _ => false,
        };
        must!(is_due, "gap", "{reason} at {:?}", self.position);
    }
}
