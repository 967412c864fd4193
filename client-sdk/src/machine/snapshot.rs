//! The present state on its way: for which patterns it is owed, and what has come of it.

use std::collections::BTreeSet;

use taskwatch_protocol::{Cursor, Pattern, Snapshot as Part, Task};

use crate::Snapshot;

/// Which patterns have no position to go on from, since their snapshot has not come.
#[derive(Debug, Default)]
pub(super) struct Owed {
    patterns: BTreeSet<Pattern>,
    /// A snapshot has come behind the newest position that is proven. From there its patterns cannot
    /// go on: what lies between is in it already.
    is_unproven: bool,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    pub(super) fn contains(&self, pattern: &Pattern) -> bool {
        self.patterns.contains(pattern)
    }

    pub(super) fn add<'a>(&mut self, patterns: impl IntoIterator<Item = &'a Pattern>) {
        self.patterns.extend(patterns.into_iter().cloned());
    }

    /// Nobody wants these any more.
    pub(super) fn remove(&mut self, gone: &[Pattern]) {
        self.patterns.retain(|pattern| !gone.contains(pattern));
    }

    /// Their snapshot has come.
    pub(super) fn settle(&mut self, patterns: &[Pattern], is_proven: bool) {
        self.patterns.retain(|pattern| !patterns.contains(pattern));
        self.is_unproven |= !is_proven;
    }

    /// Everything received is proven.
    pub(super) fn prove(&mut self) {
        self.is_unproven = false;
    }

    /// Whether the newest position that is proven is good for everything.
    pub(super) fn may_rewind(&self) -> bool {
        !self.is_unproven
    }
}

/// A snapshot that was announced. It is shown whole or not at all.
#[derive(Debug)]
pub(super) struct Incoming {
    /// What it was asked for, without what was removed meanwhile.
    pub(super) wanted: Vec<Pattern>,
    tasks: Vec<Task>,
    frames: Vec<Box<str>>,
}

impl Incoming {
    pub(super) fn new(wanted: Vec<Pattern>) -> Self {
        Self { wanted, tasks: Vec::new(), frames: Vec::new() }
    }

    /// Takes a frame; false if it does not follow what has come.
    pub(super) fn push(&mut self, part: Part, frame: Box<str>) -> bool {
        let follows = part.first == self.frames.is_empty();
        self.tasks.extend(part.tasks);
        self.frames.push(frame);
        follows
    }

    /// What to show of it, now that all of it has come.
    pub(super) fn finish(self, repositories: Vec<Pattern>, cursor: Cursor) -> Snapshot {
        let Self { wanted, tasks, frames } = self;
        let mut snapshot = Snapshot { repositories, tasks, cursor, frames };
        snapshot.retain(|pattern| wanted.contains(pattern));
        snapshot
    }
}
