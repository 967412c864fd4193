//! What was received and not yet yielded. Plain data: nobody waits here.

use std::collections::{HashSet, VecDeque};

use taskwatch_protocol::{Cursor, Pattern};

use crate::Update;

/// Updates that wait for the caller.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    entries: VecDeque<Entry>,
    bytes: usize,
    yielded: Option<Cursor>,
}

#[derive(Debug)]
struct Entry {
    update: Update,
    /// The position once this was yielded, bookmarks behind it included.
    position: Option<Cursor>,
}

impl Entry {
    /// Whether this tells of a link that is tried, or was not made.
    fn is_attempt(&self) -> bool {
        matches!(self.update, Update::Connecting { .. } | Update::Interrupted { .. })
    }

    /// Whether this only says that nothing more has happened.
    fn is_quiet(&self) -> bool {
        matches!(self.update, Update::Bookmark(_) | Update::Fresh { .. })
    }

    /// Events and snapshots are what weighs; the rest is small and bounded by count.
    fn bytes(&self) -> usize {
        match &self.update {
            Update::Event(event) => event.envelope().len(),
            Update::Snapshot(snapshot) => snapshot.envelopes().map(str::len).sum(),
            _ => 0,
        }
    }
}

impl Buffer {
    /// From here on the connection is not read. News about the connection count as well, so that
    /// a caller who never polls holds no memory while the link comes and goes.
    pub(crate) const MAX_ENTRIES: usize = 1_024;
    /// The same in bytes of JSON: 4 MiB, or sixteen of the largest events a server makes. A snapshot
    /// is not divided, so a larger one stands alone.
    pub(crate) const MAX_BYTES: usize = 4 * 1024 * 1024;

    /// Entries for which there is always room.
    const ROOM: usize = 64;

    pub(crate) fn since(cursor: Option<Cursor>) -> Self {
        Self { yielded: cursor, ..Self::default() }
    }

    /// Takes anything; who pushes stops when [`is_full`](Self::is_full) says so. In a row of
    /// bookmarks and freshness the newest of each counts: while nothing happens it does not grow.
    pub(crate) fn push(&mut self, update: Update, position: Option<Cursor>) {
        let is_fresh = |update: &Update| matches!(update, Update::Fresh { .. });
        if is_fresh(&update)
            && let Some(last) = self.quiet().find(|entry| is_fresh(&entry.update))
        {
            last.update = update;
            return;
        }
        let position = position.or_else(|| self.received().cloned());
        // A link that is tried again and again is told by its last attempt: a caller who only waits
        // for it to be ready reads nothing, and must not find the buffer full.
        let attempts = self.entries.iter().rev().take(2).filter(|entry| entry.is_attempt()).count();
        if matches!(update, Update::Connecting { .. }) && attempts == 2 {
            self.entries.truncate(self.entries.len() - 2);
        }
        let entry = Entry { update, position };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    /// Everything up to `cursor` was pushed. A row of bookmarks is one entry.
    pub(crate) fn bookmark(&mut self, cursor: Cursor) {
        if let Some(last) = self.entries.back_mut() {
            last.position = Some(cursor.clone());
        } else {
            self.yielded = Some(cursor.clone());
        }
        for entry in self.quiet() {
            entry.position = Some(cursor.clone());
            if let Update::Bookmark(bookmark) = &mut entry.update {
                *bookmark = cursor;
                return;
            }
        }
        self.push(Update::Bookmark(cursor.clone()), Some(cursor));
    }

    /// The entries at the end that say nothing of tasks.
    fn quiet(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().rev().take_while(|entry| entry.is_quiet())
    }

    /// Something is missing between `to` and the events `ahead`, and comes later: as long as it has not,
    /// nothing behind `to` is a position to go on from.
    pub(crate) fn rewound(&mut self, to: Option<&Cursor>, ahead: &HashSet<Cursor>) {
        let is_ahead = |entry: &Entry| matches!(&entry.update, Update::Event(event) if ahead.contains(&event.cursor));
        let waiting = self.entries.iter().filter(|entry| is_ahead(entry)).count();
        let mut first = self.entries.iter().position(is_ahead).unwrap_or(self.entries.len());
        if waiting < ahead.len() {
            self.yielded = to.cloned();
            first = 0;
        }
        for entry in self.entries.iter_mut().skip(first) {
            entry.position = to.cloned();
        }
    }

    /// These are no longer watched: no snapshot of them is yielded any more.
    pub(crate) fn forget(&mut self, gone: &[Pattern]) {
        for entry in &mut self.entries {
            let bytes = entry.bytes();
            let Update::Snapshot(snapshot) = &mut entry.update else { continue };
            snapshot.retain(|pattern| !gone.contains(pattern));
            if snapshot.repositories.is_empty() {
                entry.update = Update::Bookmark(snapshot.cursor.clone());
            }
            self.bytes = self.bytes - bytes + entry.bytes();
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Update> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes();
        self.yielded = entry.position;
        if self.entries.is_empty() {
            // After a burst the room for a thousand entries would stay: 200 KiB of an idle stream.
            self.entries.shrink_to(Self::ROOM);
        }
        Some(entry.update)
    }

    /// Nobody reads any more. The position of what was yielded stays.
    pub(crate) fn clear(&mut self) {
        self.entries = VecDeque::new();
        self.bytes = 0;
    }

    /// The position of what was yielded.
    pub(crate) fn yielded(&self) -> Option<&Cursor> {
        self.yielded.as_ref()
    }

    fn received(&self) -> Option<&Cursor> {
        self.entries.back().map_or(self.yielded.as_ref(), |last| last.position.as_ref())
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= Self::MAX_ENTRIES || self.bytes >= Self::MAX_BYTES
    }

    pub(crate) fn is_half_empty(&self) -> bool {
        self.entries.len() <= Self::MAX_ENTRIES / 2 && self.bytes <= Self::MAX_BYTES / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Snapshot, samples};
    use proptest::prelude::*;

    fn snapshot(repositories: &[&str], seq: u64, bytes: usize) -> Update {
        Update::Snapshot(Snapshot {
            repositories: repositories.iter().map(|name| name.parse().unwrap()).collect(),
            tasks: vec![],
            cursor: samples::at(seq),
            frames: vec!["x".repeat(bytes / 2).into(), "x".repeat(bytes.div_ceil(2)).into()],
        })
    }

    fn fresh(millis: u64) -> Update {
        Update::Fresh { behind: std::time::Duration::from_millis(millis) }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Event(usize),
        Notice,
        Bookmark,
        Fresh,
        Pop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_usize..200_000).prop_map(Step::Event),
            1 => Just(Step::Notice),
            2 => Just(Step::Bookmark),
            2 => Just(Step::Fresh),
            2 => (0_usize..8).prop_map(Step::Pop),
        ]
    }

    #[test]
    fn a_link_that_never_comes_does_not_fill_it() {
        let mut buffer = Buffer::default();
        for attempt in 1..=5_000 {
            buffer.push(Update::Connecting { attempt }, None);
            let retry_in = std::time::Duration::ZERO;
            buffer.push(Update::Interrupted { reason: "refused".into(), retry_in }, None);
        }
        assert!(!buffer.is_full());
        assert_eq!(buffer.pop(), Some(Update::Connecting { attempt: 5_000 }));
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_both_positions_are_true(
            steps in proptest::collection::vec(step(), 1..400)
        ) {
            let mut buffer = Buffer::default();
            let mut pushed = VecDeque::new();
            let (mut seq, mut largest) = (0_u64, 0);
            for step in steps {
                match step {
                    Step::Pop(count) => for _ in 0..count {
                        match buffer.pop() {
                            Some(Update::Event(event)) => {
                                prop_assert_eq!(pushed.pop_front(), Some(event.cursor));
                            }
                            Some(_) => {}
                            None => break,
                        }
                    },
                    _ if buffer.is_full() => {
                        prop_assert!(!buffer.is_half_empty());
                        continue;
                    }
                    Step::Event(bytes) => {
                        seq += 1;
                        largest = largest.max(bytes);
                        let cursor = samples::at(seq);
                        let event = samples::event_of_bytes(seq, bytes);
                        buffer.push(Update::Event(event), Some(cursor.clone()));
                        pushed.push_back(cursor);
                    }
                    Step::Notice => buffer.push(Update::Parked, None),
                    Step::Bookmark => {
                        seq += 1;
                        buffer.bookmark(samples::at(seq));
                    }
                    Step::Fresh => buffer.push(fresh(1), None),
                }
                prop_assert!(buffer.entries.len() <= Buffer::MAX_ENTRIES);
                prop_assert!(buffer.bytes < Buffer::MAX_BYTES + largest.max(1));
                // Received: the newest position pushed, whatever was yielded.
                let newest = (seq > 0).then(|| samples::at(seq));
                prop_assert_eq!(buffer.received().cloned(), newest.clone());
                // Yielded: just before the oldest event that waits, or all the way.
                match (pushed.front(), buffer.yielded()) {
                    (None, yielded) => if buffer.entries.is_empty() {
                        prop_assert_eq!(yielded.cloned(), newest);
                    },
                    (Some(next), Some(yielded)) => {
                        prop_assert!(samples::seq(yielded) < samples::seq(next));
                    }
                    (Some(_), None) => {}
                }
            }
            let sum: usize = buffer.entries.iter().map(Entry::bytes).sum();
            prop_assert_eq!(buffer.bytes, sum);
        }
    }

    #[test]
    fn a_bookmark_counts_as_soon_as_what_lies_before_it_was_yielded() {
        let mut buffer = Buffer::default();
        buffer.push(Update::Event(samples::event(1)), Some(samples::at(1)));
        buffer.bookmark(samples::at(5));
        assert_eq!(buffer.yielded(), None);
        buffer.pop();
        assert_eq!(buffer.yielded(), Some(&samples::at(5)));
        buffer.bookmark(samples::at(6));
        assert_eq!(buffer.pop(), Some(Update::Bookmark(samples::at(6))));
        assert_eq!(buffer.pop(), None);
        buffer.bookmark(samples::at(7));
        assert_eq!(buffer.yielded(), Some(&samples::at(7)));
    }

    #[test]
    fn while_nothing_happens_the_newest_bookmark_and_freshness_are_all_there_is() {
        let mut buffer = Buffer::default();
        buffer.push(Update::Event(samples::event(1)), Some(samples::at(1)));
        for round in 2..5_000 {
            buffer.bookmark(samples::at(round));
            buffer.push(fresh(round), None);
        }
        assert_eq!(buffer.entries.len(), 3);
        buffer.push(Update::Event(samples::event(5_000)), Some(samples::at(5_000)));
        buffer.push(fresh(5_000), None);
        buffer.pop();
        let quiet = [buffer.pop(), buffer.pop()].map(Option::unwrap);
        assert_eq!(quiet, [Update::Bookmark(samples::at(4_999)), fresh(4_999)]);
        assert_eq!(buffer.yielded(), Some(&samples::at(4_999)));
        assert!(matches!(buffer.pop(), Some(Update::Event(_))));
        assert_eq!(buffer.pop(), Some(fresh(5_000)));
    }

    #[test]
    fn a_snapshot_weighs_what_its_json_does_and_may_stand_alone() {
        let mut buffer = Buffer::default();
        buffer.push(snapshot(&["foo"], 1, Buffer::MAX_BYTES - 1), Some(samples::at(1)));
        assert!(!buffer.is_full());
        buffer.push(snapshot(&["bar"], 2, 3 * Buffer::MAX_BYTES), Some(samples::at(2)));
        assert!(buffer.is_full());
        assert_eq!(buffer.yielded(), None);
        buffer.pop();
        assert!(buffer.is_full());
        assert_eq!(buffer.yielded(), Some(&samples::at(1)));
        buffer.pop();
        assert!(buffer.is_half_empty());
    }

    #[test]
    fn what_is_no_longer_watched_is_taken_out_of_the_snapshots_that_wait() {
        let gone = ["foo".parse().unwrap()];
        let mut buffer = Buffer::default();
        buffer.push(snapshot(&["foo"], 1, Buffer::MAX_BYTES), Some(samples::at(1)));
        buffer.push(snapshot(&["bar", "foo"], 2, Buffer::MAX_BYTES), Some(samples::at(2)));
        buffer.push(snapshot(&["bar"], 3, 10), Some(samples::at(3)));
        buffer.forget(&gone);
        assert!(buffer.is_half_empty());
        assert_eq!(buffer.pop(), Some(Update::Bookmark(samples::at(1))));
        assert_eq!(buffer.yielded(), Some(&samples::at(1)));
        let Some(Update::Snapshot(rest)) = buffer.pop() else { panic!("a snapshot") };
        assert_eq!(rest.repositories, ["bar".parse().unwrap()]);
        assert_eq!(buffer.pop(), Some(snapshot(&["bar"], 3, 10)));
        assert_eq!(buffer.bytes, 0);
    }

    #[test]
    fn full_is_a_count_or_a_weight() {
        let mut buffer = Buffer::default();
        buffer.push(Update::Event(samples::event_of_bytes(1, Buffer::MAX_BYTES)), None);
        assert!(buffer.is_full());
        buffer.pop();
        assert!(buffer.is_half_empty());
        (0..Buffer::MAX_ENTRIES).for_each(|_| buffer.push(Update::Parked, None));
        assert!(buffer.is_full());
        (0..Buffer::MAX_ENTRIES / 2 - 1).for_each(|_| drop(buffer.pop()));
        assert!(!buffer.is_half_empty());
        buffer.pop();
        assert!(buffer.is_half_empty());
    }
}
