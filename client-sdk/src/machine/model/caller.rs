//! What the caller of a stream is promised, and what it sees.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use taskwatch_protocol::{Cursor, Pattern};

use crate::samples::{Model, seq};
use crate::{Tasks, Update};

/// What the caller has seen, and what it must have seen.
#[derive(Default)]
pub(super) struct Caller {
    pub(super) wished: BTreeSet<Pattern>,
    pub(super) removed: BTreeSet<Pattern>,
    /// Behind which position every event must come.
    pub(super) from: BTreeMap<Pattern, u64>,
    /// The position of the newest snapshot.
    pub(super) shown: BTreeMap<Pattern, u64>,
    /// The request that a plain subscription was made with.
    pub(super) asked: BTreeMap<Pattern, String>,
    /// How far the stream ever was.
    pub(super) reached: u64,
    pub(super) seen: HashSet<u64>,
    pub(super) newest: u64,
    pub(super) lost: HashSet<u64>,
    pub(super) is_lossy: bool,
    /// Whose state was promised after a gap.
    pub(super) owed: BTreeSet<Pattern>,
    pub(super) gaps_told: u32,
    pub(super) tasks: Tasks,
}

impl Caller {
    pub(super) fn reach(&mut self, position: Option<&Cursor>) {
        self.reached = self.reached.max(position.map_or(0, seq));
    }

    pub(super) fn remove(&mut self, pattern: &Pattern) {
        self.wished.remove(pattern);
        self.removed.insert(pattern.clone());
        self.from.remove(pattern);
        self.shown.remove(pattern);
        self.asked.remove(pattern);
        self.owed.remove(pattern);
        self.tasks.remove(std::slice::from_ref(pattern));
    }

    /// One update, in its place.
    pub(super) fn see(&mut self, update: &Update, log: &Model, with_state: bool) {
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
    pub(super) fn check(&self, position: u64, log: &Model, with_state: bool) {
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
