//! A set of short texts that grows by each event, and is emptied again and again.

use std::fmt;
use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Texts for which there is always room, and their bytes.
const ROOM: usize = 64;
const ROOM_BYTES: usize = ROOM * 32;

/// A set of texts, which lie behind each other in one.
///
/// Up to a hundred thousand are held for a tenth of a second each. As a `HashSet` of cursors, each an
/// allocation of its own that outlived everything around it, they were a seventh of the time for an event.
#[derive(Default)]
pub(super) struct Texts {
    text: String,
    table: HashTable<Range<usize>>,
    hasher: DefaultHashBuilder,
}

impl Texts {
    /// Adds a text; false if it is there already.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        let Self { text: all, table, hasher } = self;
        let is_it = |range: &Range<usize>| &all[range.clone()] == text;
        let hash = |range: &Range<usize>| hasher.hash_one(&all[range.clone()]);
        match table.entry(hasher.hash_one(text), is_it, hash) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(all.len()..all.len() + text.len());
                all.push_str(text);
                true
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.table.iter().map(|range| &self.text[range.clone()])
    }

    /// Empties the set. An idle stream has no use for the room that a burst took.
    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.table.shrink_to(ROOM, |_| 0);
        self.text.clear();
        self.text.shrink_to(ROOM_BYTES);
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(texts in prop::collection::vec("[ab]{0,7}", 0..300), again in "[ab]{0,7}") {
            let (mut ours, mut set) = (Texts::default(), HashSet::new());
            for text in &texts {
                prop_assert_eq!(ours.insert(text), set.insert(text.as_str()));
            }
            prop_assert_eq!(ours.iter().collect::<HashSet<_>>(), set);
            prop_assert_eq!(ours.iter().count(), ours.len());
            ours.clear();
            prop_assert_eq!(ours.len(), 0);
            prop_assert!(ours.text.capacity() <= ROOM_BYTES);
            prop_assert!(ours.insert(&again) && !ours.insert(&again));
        }
    }
}
