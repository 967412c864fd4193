//! The lives of a log, and which cursors of theirs still hold.

use taskwatch_protocol::{Cursor, Incarnation, Position, ResetReason, Seq};

/// Every start of a log, in order: its random id and the first number it could give out.
///
/// A cursor of a life that a later start cut short, because an older copy was put back, is told
/// from one that the log still continues.
#[derive(Clone, Debug)]
pub struct Incarnations {
    starts: Vec<(Incarnation, Seq)>,
}

impl Incarnations {
    /// The starts so far, oldest first, with the first number each could give out. A log has
    /// begun at least once: an empty list counts as one start at number 1.
    #[must_use]
    pub fn new(starts: Vec<(Incarnation, Seq)>) -> Self {
        debug_assert!(starts.is_sorted_by_key(|&(_, first)| first), "starts are in order");
        if starts.is_empty() { Self { starts: vec![(Incarnation(0), 1)] } } else { Self { starts } }
    }

    /// The cursor of a position, in the life that the number belongs to.
    #[must_use]
    pub fn cursor(&self, seq: Seq) -> Cursor {
        // A life begins at the position before its first event.
        let after = self.starts.partition_point(|&(_, first)| first.saturating_sub(1) <= seq);
        let index = after.saturating_sub(1);
        let incarnation = self.starts.get(index).map_or(Incarnation(0), |&(life, _)| life);
        Position { incarnation, seq }.to_cursor()
    }

    /// The position a cursor names, in a log that ends at `head` and holds everything after
    /// `floor`.
    ///
    /// # Errors
    /// Why reading cannot go on from there.
    pub fn validate(&self, cursor: &Cursor, head: Seq, floor: Seq) -> Result<Seq, ResetReason> {
        let Position { incarnation, seq } =
            Position::try_from(cursor).map_err(|_| ResetReason::Malformed)?;
        let index = self
            .starts
            .iter()
            .position(|&(life, _)| life == incarnation)
            .ok_or(ResetReason::Incarnation)?;
        let (_, first) = self.starts[index];
        if seq < first.saturating_sub(1) {
            return Err(ResetReason::Incarnation);
        }
        match self.starts.get(index + 1) {
            Some(&(_, next_first)) if seq > next_first.saturating_sub(1) => {
                return Err(ResetReason::Incarnation);
            }
            None if seq > head => return Err(ResetReason::Future),
            _ => {}
        }
        if seq < floor { Err(ResetReason::Expired) } else { Ok(seq) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(life: u64, seq: Seq) -> Cursor {
        Position { incarnation: Incarnation(life), seq }.to_cursor()
    }

    /// Life 1 began at 1, life 2 at 101; the log ends at 120 and holds everything after 50.
    fn check(life: u64, seq: Seq) -> Result<Seq, ResetReason> {
        let lives = Incarnations::new(vec![(Incarnation(1), 1), (Incarnation(2), 101)]);
        lives.validate(&cursor(life, seq), 120, 50)
    }

    #[test]
    fn a_plain_restart_resets_nobody() {
        assert_eq!(check(1, 99), Ok(99));
        assert_eq!(check(1, 100), Ok(100));
        assert_eq!(check(2, 100), Ok(100));
        assert_eq!(check(2, 120), Ok(120));
    }

    #[test]
    fn whoever_saw_what_a_restored_copy_lacks_is_reset() {
        assert_eq!(check(1, 101), Err(ResetReason::Incarnation));
        assert_eq!(check(3, 60), Err(ResetReason::Incarnation));
        assert_eq!(check(2, 99), Err(ResetReason::Incarnation));
    }

    #[test]
    fn retention_is_exact_at_its_edge() {
        assert_eq!(check(1, 49), Err(ResetReason::Expired));
        assert_eq!(check(1, 50), Ok(50));
        assert_eq!(check(1, 51), Ok(51));
    }

    #[test]
    fn the_future_and_garbage_are_refused() {
        assert_eq!(check(2, 121), Err(ResetReason::Future));
        let lives = Incarnations::new(vec![]);
        assert_eq!(lives.validate(&Cursor::new(""), 0, 0), Err(ResetReason::Malformed));
    }

    #[test]
    fn a_cursor_is_written_in_the_life_its_number_belongs_to() {
        let lives = Incarnations::new(vec![(Incarnation(1), 1), (Incarnation(2), 101)]);
        assert_eq!(lives.cursor(0), cursor(1, 0));
        assert_eq!(lives.cursor(99), cursor(1, 99));
        assert_eq!(lives.cursor(100), cursor(2, 100));
        for seq in 50..=120 {
            assert_eq!(lives.validate(&lives.cursor(seq), 120, 50), Ok(seq));
        }
    }

    #[test]
    fn starts_without_an_event_between_them_are_all_honoured() {
        let lives =
            Incarnations::new(vec![(Incarnation(1), 1), (Incarnation(2), 1), (Incarnation(3), 1)]);
        for life in 1..=3 {
            assert_eq!(lives.validate(&cursor(life, 0), 0, 0), Ok(0));
        }
        assert_eq!(lives.validate(&cursor(2, 1), 5, 0), Err(ResetReason::Incarnation));
        assert_eq!(lives.validate(&cursor(3, 1), 5, 0), Ok(1));
    }
}
