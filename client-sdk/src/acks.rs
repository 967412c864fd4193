//! What was yielded and is not handled yet. Plain data: nobody waits here.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use taskwatch_protocol::Cursor;

/// Entries for which there is always room.
const ROOM: usize = 64;

/// Events and snapshots in the order in which they were yielded, from the first that is not handled.
#[derive(Default)]
pub(crate) struct Acks {
    yielded: VecDeque<Yielded>,
    /// The number of the first of them.
    first: u64,
    /// The numbers of those that are not handled, by their positions.
    open: HashTable<u64>,
    hasher: DefaultHashBuilder,
    /// Where the stream went back to, and what it had received from behind there and not yielded.
    rewound: (Option<Cursor>, HashSet<Cursor>),
}

struct Yielded {
    cursor: Cursor,
    /// The position of the stream before it was yielded, bookmarks included.
    before: Option<Cursor>,
    is_handled: bool,
}

impl Acks {
    /// Something was yielded at the position `before`; its own is `cursor`.
    pub(crate) fn yielded(&mut self, cursor: Cursor, before: Option<Cursor>) {
        let Self { yielded, first, open, hasher, rewound: (to, ahead) } = self;
        let is_ahead = !ahead.is_empty() && ahead.remove(&cursor);
        let before = if is_ahead { to.clone() } else { before };
        let number = *first + yielded.len() as u64;
        yielded.push_back(Yielded { cursor: cursor.clone(), before, is_handled: false });
        let hash = |number: &u64| hasher.hash_one(&yielded[place(*first, *number)].cursor);
        open.insert_unique(hasher.hash_one(&cursor), number, hash);
    }

    /// What has this position is handled. If there are several, the newest of them: each has an ack of its
    /// own, and until the last has come the position stays before all of them.
    pub(crate) fn ack(&mut self, cursor: &Cursor) {
        let Self { yielded, first, open, hasher, .. } = self;
        let is_it = |number: &u64| yielded[place(*first, *number)].cursor == *cursor;
        let hash = hasher.hash_one(cursor);
        let Some(newest) = open.iter_hash(hash).copied().filter(is_it).max() else { return };
        let Ok(entry) = open.find_entry(hash, |number| *number == newest) else { return };
        let (number, _) = entry.remove();
        yielded[place(*first, number)].is_handled = true;
        while yielded.front().is_some_and(|it| it.is_handled) {
            yielded.pop_front();
            *first += 1;
        }
        if yielded.is_empty() {
            yielded.shrink_to(ROOM);
            open.shrink_to(ROOM, |_| 0);
        }
    }

    /// Something is missing between `to` and these, and comes later: nothing but `to` is before them.
    pub(crate) fn rewound(&mut self, to: Option<Cursor>, mut ahead: HashSet<Cursor>) {
        for it in &mut self.yielded {
            if ahead.remove(&it.cursor) {
                it.before.clone_from(&to);
            }
        }
        self.rewound = (to, ahead);
    }

    /// The position before the first that is not handled; `None` if all are.
    pub(crate) fn limit(&self) -> Option<Option<&Cursor>> {
        self.yielded.front().map(|it| it.before.as_ref())
    }

    /// How many are not handled.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }
}

fn place(first: u64, number: u64) -> usize {
    // What is in memory can be counted.
    usize::try_from(number - first).unwrap_or(usize::MAX)
}

impl fmt::Debug for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.yielded.iter().filter(|it| !it.is_handled).map(|it| &it.cursor);
        f.debug_list().entries(open).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::at;

    #[derive(Clone, Debug)]
    enum Step {
        /// At the next position, or, as a snapshot does, at the same.
        Yield {
            is_next: bool,
        },
        Bookmark,
        /// Of anything that was ever yielded.
        Ack(prop::sample::Index),
        AckUnknown,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<bool>().prop_map(|again| Step::Yield { is_next: !again }),
            2 => Just(Step::Bookmark),
            4 => any::<prop::sample::Index>().prop_map(Step::Ack),
            1 => Just(Step::AckUnknown),
        ]
    }

    /// The story as it was told: positions, and whether something there needs an ack.
    #[derive(Default)]
    struct Model {
        story: Vec<(u64, Option<bool>)>,
    }

    impl Model {
        fn handled(&self) -> Option<u64> {
            let is_open = |entry: &&(u64, Option<bool>)| entry.1 == Some(false);
            let end = self.story.iter().position(|entry| is_open(&entry));
            self.story[..end.unwrap_or(self.story.len())].last().map(|entry| entry.0)
        }

        fn ack(&mut self, seq: u64) {
            let open = self.story.iter_mut().rfind(|entry| **entry == (seq, Some(false)));
            open.into_iter().for_each(|entry| entry.1 = Some(true));
        }
    }

    proptest! {
        #[test]
        fn the_position_is_before_the_first_that_is_open(
            steps in prop::collection::vec(step(), 1..200)
        ) {
            let (mut acks, mut model) = (Acks::default(), Model::default());
            let (mut head, mut position) = (0_u64, None);
            for step in steps {
                match step {
                    Step::Yield { is_next } => {
                        head += u64::from(is_next || head == 0);
                        acks.yielded(at(head), position.replace(at(head)));
                        model.story.push((head, Some(false)));
                    }
                    Step::Bookmark => {
                        head += 1;
                        position = Some(at(head));
                        model.story.push((head, None));
                    }
                    Step::Ack(which) => {
                        let yielded: Vec<_> =
                            model.story.iter().filter(|it| it.1.is_some()).collect();
                        if !yielded.is_empty() {
                            let seq = which.get(&yielded).0;
                            acks.ack(&at(seq));
                            model.ack(seq);
                        }
                    }
                    Step::AckUnknown => acks.ack(&at(1_000_000)),
                }
                let handled = acks.limit().map_or(position.clone(), Option::<&Cursor>::cloned);
                prop_assert_eq!(handled, model.handled().map(at));
                let open = model.story.iter().filter(|it| it.1 == Some(false)).count();
                prop_assert_eq!(acks.open(), open);
                prop_assert!(open > 0 || acks.yielded.is_empty());
            }
        }
    }
}
