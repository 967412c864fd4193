//! Events that go to many sockets as the same bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use taskwatch_protocol::Seq;

use crate::LogEvent;

/// Some events in order, at least one, with their frames behind each other. It is put together once
/// for all who want the same: 64 frames then cost a connection as much as one.
struct Batch {
    bytes: Bytes,
    /// The number of each, and where its frame ends.
    events: Box<[(Seq, usize)]>,
    /// When the first of those was published that were given together with these.
    published: Instant,
}

/// A batch from one of its events on. A clone shares the bytes.
#[derive(Clone)]
pub(crate) struct Frames {
    batch: Arc<Batch>,
    from: usize,
}

impl Frames {
    /// All of these events, published then or later; `None` if there is none.
    pub(crate) fn of<'a>(
        events: impl Iterator<Item = &'a LogEvent> + Clone,
        published: Instant,
    ) -> Option<Self> {
        let bytes = match (events.clone().next()?, events.clone().count()) {
            (alone, 1) => alone.frame().clone(),
            _ => {
                let frames: Vec<&[u8]> = events.clone().map(|event| &event.frame()[..]).collect();
                Bytes::from(frames.concat())
            }
        };
        let mut end = 0;
        let ends = events.map(|event| {
            end += event.frame().len();
            (event.seq(), end)
        });
        let batch = Batch { events: ends.collect(), bytes, published };
        Some(Self { batch: Arc::new(batch), from: 0 })
    }

    /// Those of them after `seq`; `None` if there is none.
    pub(super) fn after(&self, seq: Seq) -> Option<Self> {
        let later = self.numbers().partition_point(|&(number, _)| number <= seq);
        let from = self.from + later;
        (from < self.batch.events.len()).then(|| Self { batch: self.batch.clone(), from })
    }

    fn numbers(&self) -> &[(Seq, usize)] {
        self.batch.events.get(self.from..).unwrap_or_default()
    }

    fn start(&self) -> usize {
        self.from.checked_sub(1).map_or(0, |before| self.batch.events[before].1)
    }

    /// How many events.
    pub(crate) fn count(&self) -> usize {
        self.batch.events.len() - self.from
    }

    /// When they were published, or a little earlier.
    pub(crate) fn published(&self) -> Instant {
        self.batch.published
    }

    pub(super) fn first(&self) -> Seq {
        self.numbers().first().map_or(0, |&(seq, _)| seq)
    }

    pub(crate) fn last(&self) -> Seq {
        self.numbers().last().map_or(0, |&(seq, _)| seq)
    }

    /// All frames.
    pub(crate) fn bytes(&self) -> Bytes {
        self.batch.bytes.slice(self.start()..)
    }

    pub(super) fn len(&self) -> usize {
        self.batch.bytes.len() - self.start()
    }

    /// Each event with its frame.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Seq, &[u8])> {
        let mut start = self.start();
        self.numbers().iter().map(move |&(seq, end)| {
            let frame = &self.batch.bytes[start..end];
            start = end;
            (seq, frame)
        })
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.numbers().iter().map(|(seq, _)| seq)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::event;

    fn of(events: &[LogEvent]) -> Frames {
        Frames::of(events.iter(), Instant::now()).unwrap()
    }

    fn seqs(frames: &Frames) -> Vec<Seq> {
        frames.each().map(|(seq, _)| seq).collect()
    }

    #[test]
    fn each_frame_is_found_again_and_all_of_them_are_the_bytes() {
        let events: Vec<LogEvent> = [3, 4, 100, 1_000].map(|seq| event(seq, "foo")).into();
        for from in 0..events.len() {
            let after = events.get(from.wrapping_sub(1)).map_or(0, LogEvent::seq);
            let frames = of(&events).after(after).unwrap();
            let expected: Vec<_> =
                events[from..].iter().map(|event| (event.seq(), &event.frame()[..])).collect();
            assert_eq!(frames.each().collect::<Vec<_>>(), expected);
            assert_eq!(
                frames.bytes(),
                expected.iter().flat_map(|(_, frame)| *frame).copied().collect::<Vec<_>>()
            );
            assert_eq!((frames.count(), frames.len()), (expected.len(), frames.bytes().len()));
            assert_eq!((frames.first(), frames.last()), (events[from].seq(), 1_000));
        }
    }

    #[test]
    fn what_is_behind_is_left_out() {
        let events: Vec<LogEvent> = [3, 5, 7].map(|seq| event(seq, "foo")).into();
        let frames = of(&events);
        assert_eq!(seqs(&frames.after(4).unwrap()), [5, 7]);
        assert_eq!(seqs(&frames.after(4).unwrap().after(5).unwrap()), [7]);
        assert!(frames.after(7).is_none());
        assert!(Frames::of([].iter(), Instant::now()).is_none());
    }

    #[test]
    fn one_event_alone_is_not_copied() {
        let event = event(1, "foo");
        let frames = of(std::slice::from_ref(&event));
        assert_eq!(frames.bytes().as_ptr(), event.frame().as_ptr());
    }
}
