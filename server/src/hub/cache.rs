//! The newest events, kept in memory for the fan-out and for those who catch up.

use std::collections::VecDeque;

use taskwatch_protocol::Seq;

use crate::{LogEvent, Page, PageLimit};

/// A window on the end of the log: every event after `floor`, up to `head`.
#[derive(Debug)]
pub(crate) struct EventCache {
    events: VecDeque<LogEvent>,
    bytes: usize,
    floor: Seq,
    head: Seq,
    max_events: usize,
    max_bytes: usize,
}

impl EventCache {
    /// An empty window at the end of a log whose newest event is `head`.
    pub(crate) fn new(head: Seq, max_events: usize, max_bytes: usize) -> Self {
        Self { events: VecDeque::new(), bytes: 0, floor: head, head, max_events, max_bytes }
    }

    pub(crate) fn head(&self) -> Seq {
        self.head
    }

    /// Every event after this is here.
    pub(crate) fn floor(&self) -> Seq {
        self.floor
    }

    /// How many events are here.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// And how many bytes their frames have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The place of the first event after `seq`.
    pub(super) fn place_after(&self, seq: Seq) -> usize {
        self.events.partition_point(|event| event.seq() <= seq)
    }

    /// The position before the event in this place.
    pub(crate) fn position_before(&self, place: usize) -> Seq {
        let before = place.checked_sub(1).and_then(|before| self.events.get(before));
        before.map_or(self.floor, LogEvent::seq)
    }

    /// At most so many events up to `upto`, the newest first.
    pub(crate) fn newest(&self, upto: Seq, most: usize) -> Vec<LogEvent> {
        let end = self.events.partition_point(|event| event.seq() <= upto);
        self.events.range(..end).rev().take(most).cloned().collect()
    }

    /// Appends; false, and nothing is changed, if the number is not above the head.
    pub(crate) fn push(&mut self, event: LogEvent) -> bool {
        if event.seq() <= self.head {
            return false;
        }
        self.head = event.seq();
        self.bytes += event.frame().len();
        self.events.push_back(event);
        while self.events.len() > self.max_events || self.bytes > self.max_bytes {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.frame().len();
            self.floor = oldest.seq();
        }
        true
    }

    /// Throws all events away; the numbers go on.
    pub(crate) fn clear(&mut self) {
        (self.events, self.bytes, self.floor) = (VecDeque::new(), 0, self.head);
    }

    /// Events after `after` up to `upto`, as far as `limit` allows; `None` if some of them are no
    /// longer here. Never a part without saying so.
    pub(crate) fn read(&self, after: Seq, upto: Seq, limit: PageLimit) -> Option<Page> {
        if after < self.floor {
            return None;
        }
        let upto = upto.min(self.head);
        let start = self.place_after(after);
        let mut page = Page { events: Vec::new(), scanned_to: upto.max(after) };
        let mut bytes = 0;
        for event in self.events.range(start..).take_while(|event| event.seq() <= upto) {
            bytes += event.frame().len();
            let full = page.events.len() >= limit.events || bytes > limit.bytes;
            if let (true, Some(last)) = (full, page.events.last()) {
                page.scanned_to = last.seq();
                break;
            }
            page.events.push(event.clone());
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::event;
    use proptest::prelude::*;

    const LIMIT: PageLimit = PageLimit { events: 3, bytes: usize::MAX };

    fn seqs(page: &Page) -> Vec<Seq> {
        page.events.iter().map(LogEvent::seq).collect()
    }

    #[test]
    fn what_is_gone_is_said_to_be_gone() {
        let mut cache = EventCache::new(10, 2, usize::MAX);
        for seq in 11..=13 {
            assert!(cache.push(event(seq, "foo")));
        }
        assert!(cache.read(10, 13, LIMIT).is_none());
        assert_eq!(seqs(&cache.read(11, 13, LIMIT).unwrap()), [12, 13]);
    }

    #[test]
    fn what_was_thrown_away_is_not_found_and_what_comes_then_is() {
        let mut cache = EventCache::new(10, 9, usize::MAX);
        for seq in 11..=13 {
            cache.push(event(seq, "foo"));
        }
        cache.clear();
        assert!(cache.read(12, 13, LIMIT).is_none());
        assert_eq!((cache.floor(), cache.head(), cache.bytes), (13, 13, 0));
        assert!(!cache.push(event(13, "foo")) && cache.push(event(14, "foo")));
        assert_eq!(seqs(&cache.read(13, 14, LIMIT).unwrap()), [14]);
    }

    #[test]
    fn numbers_only_grow() {
        let mut cache = EventCache::new(10, 9, usize::MAX);
        assert!(!cache.push(event(10, "foo")));
        assert!(cache.push(event(12, "foo")));
        assert!(!cache.push(event(12, "foo")));
        assert_eq!(cache.head(), 12);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let size = event(1, "foo").frame().len();
        let mut cache = EventCache::new(0, 100, 2 * size);
        for seq in 1..=5 {
            cache.push(event(seq, "foo"));
        }
        assert_eq!(cache.floor(), 3);
    }

    #[test]
    fn a_position_ahead_of_the_head_reads_nothing() {
        let cache = EventCache::new(5, 9, usize::MAX);
        let page = cache.read(7, 9, LIMIT).unwrap();
        assert_eq!((seqs(&page), page.scanned_to), (vec![], 7));
    }

    proptest! {
        #[test]
        fn pages_add_up_to_the_log(
            steps in proptest::collection::vec(1..4_u64, 0..40), events in 1..5_usize, bytes in 1..2_000_usize
        ) {
            let mut cache = EventCache::new(0, 1_000, usize::MAX);
            let mut all = vec![];
            for step in steps {
                all.push(all.last().copied().unwrap_or(0) + step);
                cache.push(event(*all.last().unwrap(), "foo"));
            }
            let (mut read, mut position) = (vec![], 0);
            while position < cache.head() {
                let page = cache.read(position, cache.head(), PageLimit { events, bytes }).unwrap();
                prop_assert!(page.scanned_to > position, "a page moves on");
                prop_assert!(page.events.len() <= events);
                read.extend(seqs(&page));
                position = page.scanned_to;
            }
            prop_assert_eq!(read, all);
        }
    }
}
