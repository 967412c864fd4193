//! After a commit has failed: whether changes can be made again.

use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use rusqlite::TransactionBehavior;

use super::schema;
use super::writer::Writer;

/// Bytes that must find room before changes are called possible again: those of a large commit.
const ROOM: u64 = 1 << 20;

impl Writer {
    /// Finds out whether changes can be made again, where nobody asks for any: whoever is told that they
    /// cannot goes elsewhere.
    pub(super) fn try_commit(&mut self) {
        // A page may find a place where a change does not.
        if !has_room(&self.dir) {
            return;
        }
        let (began, state) = (Instant::now(), self.state);
        let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate);
        let tried = transaction.and_then(|tx| {
            schema::save_state(&tx, state)?;
            tx.commit()
        });
        match tried {
            Ok(()) => self.committed(0, began),
            Err(error) => self.survive_or_end(&error),
        }
    }
}

/// Whether a file of some size can be stored there; it has no name, and is gone at once.
fn has_room(dir: &Path) -> bool {
    let stored = tempfile::tempfile_in(dir).and_then(|mut file| {
        io::copy(&mut io::repeat(0).take(ROOM), &mut file)?;
        file.sync_data()
    });
    stored.is_ok()
}
