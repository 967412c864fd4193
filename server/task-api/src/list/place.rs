//! Where a list goes on.

use std::fmt;
use std::str::FromStr;

use taskwatch_protocol::Seq;
use uuid::Uuid;

use super::{Sort, SortKey};

/// The place behind a task, in a list that began at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sort: Sort,
    /// The number of the last event when the first page was read.
    pub(crate) head: Seq,
    /// What the list is sorted by, of the task.
    pub(crate) key: i64,
    pub(crate) id: Uuid,
}

impl Place {
    /// A place a little before, which tells the time of its task and not which one it is: ids begin
    /// with a time in milliseconds.
    pub(crate) fn without_task(self) -> Self {
        const CHANCE: u128 = (1 << 80) - 1;
        let id = self.id.as_u128();
        let id = if self.sort.descending { id | CHANCE } else { id & !CHANCE };
        Self { id: Uuid::from_u128(id), ..self }
    }
}

/// `p2-<order>-<head>-<key>-<id>`, the numbers in hexadecimal: opaque to clients.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.sort.key {
            SortKey::CreatedAt => 'c',
            SortKey::UpdatedAt => 'u',
            SortKey::Priority => 'p',
        };
        let direction = if self.sort.descending { 'd' } else { 'a' };
        let (head, key, id) = (self.head, self.key, self.id.simple());
        write!(f, "p2-{letter}{direction}-{head:x}-{key:x}-{id}")
    }
}

/// The text is no place that this version wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidPlace;

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let parts: Vec<_> = text.split('-').collect();
        let ["p2", _, head, key, id] = parts[..] else { return Err(InvalidPlace) };
        let key = u64::from_str_radix(key, 16).map_err(|_| InvalidPlace)?.cast_signed();
        let head = Seq::from_str_radix(head, 16).map_err(|_| InvalidPlace)?;
        let id = Uuid::try_parse(id).map_err(|_| InvalidPlace)?;
        let place = |&(_, sort): &(_, Sort)| Self { sort, head, key, id };
        // One place has one text, so the order is the one that is written alike.
        let mut places = Sort::ALL.iter().map(place);
        let same = |place: &Self| place.to_string() == text;
        places.find(same).ok_or(InvalidPlace)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_survives_its_text(
            order in 0..Sort::ALL.len(), head in 0..1_u64 << 63, key: i64, id: u128,
        ) {
            let (_, sort) = Sort::ALL[order];
            let place = Place { sort, head, key, id: Uuid::from_u128(id) };
            prop_assert_eq!(place.to_string().parse(), Ok(place));
        }

        #[test]
        fn no_two_texts_mean_one_place(text in "p2-[cupx][ad]-[0-9a-fF+]{1,17}-[0-9a-f]{1,17}-[0-9a-fA-F]{32}") {
            if let Ok(place) = text.parse::<Place>() {
                prop_assert_eq!(place.to_string(), text);
            }
        }
    }

    #[test]
    fn other_text_is_no_place() {
        for bad in ["", "x", "p1-00000000000000000000000000000007", "p2-ca-1-1", "p2-ca-1-1-7-8"] {
            assert_eq!(bad.parse::<Place>(), Err(InvalidPlace), "{bad:?}");
        }
    }
}
