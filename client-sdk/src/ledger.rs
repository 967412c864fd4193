//! Which events have been received, and how far that has been proven.

mod texts;

use std::collections::HashSet;

use taskwatch_protocol::Cursor;

use self::texts::Texts;

/// Frames lost on the way: the server has written another number of events than were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) written: u64,
    pub(crate) read: u64,
}

/// Positions are opaque, so all that is known of them is equality and the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The newest position handed on: the `since` of a reconnect.
    received: Option<Cursor>,
    /// The newest position at which the server's count and ours agreed.
    verified: Option<Cursor>,
    /// Events behind `verified` that were handed on: should it come to that, a replay skips them (I2).
    unverified: Texts,
    /// Events handed on before a rewind that its replay has not come to yet.
    ahead: HashSet<Cursor>,
    /// Task events read from this connection, repeated ones included.
    delivered: u64,
}

impl Ledger {
    pub(crate) fn since(cursor: Option<Cursor>) -> Self {
        Self { received: cursor.clone(), verified: cursor, ..Self::default() }
    }

    pub(crate) fn received(&self) -> Option<&Cursor> {
        self.received.as_ref()
    }

    /// How many events wait for a proof that none is missing between them.
    pub(crate) fn unverified(&self) -> usize {
        self.unverified.len()
    }

    /// The server counts anew on every connection.
    pub(crate) fn new_connection(&mut self) {
        self.delivered = 0;
    }

    /// Notes an event; false if it was handed on before.
    pub(crate) fn event(&mut self, cursor: &Cursor) -> bool {
        self.delivered += 1;
        // Mostly nothing is ahead, and then the cursor need not be hashed for it.
        let was_ahead = !self.ahead.is_empty() && self.ahead.remove(cursor);
        let is_new = self.unverified.insert(cursor.as_str());
        let is_here = self.received.as_ref() == Some(cursor);
        self.received = Some(cursor.clone());
        is_new && !was_ahead && !is_here
    }

    /// Everything that matches up to `cursor` has come.
    pub(crate) fn bookmark(&mut self, cursor: Cursor) {
        self.received = Some(cursor);
    }

    /// Begins anew at `cursor`: what came before is none of this subscription's business.
    pub(crate) fn start_at(&mut self, cursor: Option<Cursor>) {
        self.received.clone_from(&cursor);
        self.verified = cursor;
        self.unverified.clear();
        self.ahead.clear();
    }

    /// Compares the server's count with ours: a bookmark is true only if nothing before it is
    /// missing. If they agree, everything up to it, or else up to `received`, is proven.
    pub(crate) fn verify(
        &mut self,
        written: Option<u64>,
        bookmark: Option<&Cursor>,
    ) -> Result<(), Mismatch> {
        if let Some(written) = written.filter(|&written| written != self.delivered) {
            return Err(Mismatch { written, read: self.delivered });
        }
        if let Some(cursor) = bookmark {
            self.bookmark(cursor.clone());
        }
        if written.is_some() {
            self.verified.clone_from(&self.received);
            self.unverified.clear();
        }
        Ok(())
    }

    /// Goes back to where nothing was missing, and says what was handed on from behind there.
    pub(crate) fn rewind(&mut self) -> &HashSet<Cursor> {
        self.received.clone_from(&self.verified);
        self.ahead.extend(self.unverified.iter().map(Cursor::new));
        self.unverified.clear();
        &self.ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Cursor {
        Cursor::new(seq.to_string())
    }

    #[test]
    fn what_was_handed_on_before_a_rewind_is_not_handed_on_again() {
        let mut ledger = Ledger::since(Some(at(1)));
        assert!(ledger.event(&at(2)) && ledger.event(&at(4)));
        assert_eq!(ledger.verify(Some(3), Some(&at(4))), Err(Mismatch { written: 3, read: 2 }));
        ledger.rewind();
        ledger.new_connection();
        assert_eq!(ledger.received(), Some(&at(1)));
        let replay = [2, 3, 4, 5].map(|seq| ledger.event(&at(seq)));
        assert_eq!(replay, [false, true, false, true]);
        assert_eq!(ledger.verify(Some(4), None), Ok(()));
        assert_eq!(ledger.unverified(), 0);
    }

    #[test]
    fn a_proof_in_the_middle_of_a_replay_does_not_forget_what_lies_ahead() {
        let mut ledger = Ledger::since(Some(at(0)));
        assert!(ledger.event(&at(2)));
        assert!(ledger.verify(Some(2), None).is_err());
        ledger.rewind();
        ledger.new_connection();
        assert!(ledger.event(&at(1)));
        ledger.verify(Some(1), Some(&at(1))).unwrap();
        assert!(!ledger.event(&at(2)));
        assert!(ledger.event(&at(3)));
    }

    #[test]
    fn without_a_count_nothing_is_proven() {
        let mut ledger = Ledger::since(Some(at(1)));
        ledger.event(&at(2));
        ledger.verify(None, None).unwrap();
        ledger.rewind();
        assert_eq!(ledger.received(), Some(&at(1)));
    }

    #[test]
    fn an_event_at_the_position_received_is_a_repetition() {
        let mut ledger = Ledger::default();
        ledger.bookmark(at(3));
        assert!(!ledger.event(&at(3)));
    }
}
