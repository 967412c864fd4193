//! The log as it stands in the database file, read without the server's code.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its number.
    pub seq: u64,
    /// The repository.
    pub repository: String,
    /// The envelope as it goes on the wire.
    pub envelope: String,
}

/// Reads the log of the server whose data is in `data`.
///
/// # Panics
/// If the file is not such a database.
#[must_use]
pub fn read_log(data: &Path) -> Vec<LoggedEvent> {
    let file = data.join("taskwatch.db");
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let mut rows =
        database.prepare("SELECT seq, repository, envelope FROM event ORDER BY seq").unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        Ok(LoggedEvent {
            seq: u64::try_from(row.get::<_, i64>(0)?).unwrap(),
            repository: row.get(1)?,
            envelope: row.get(2)?,
        })
    };
    rows.query_map([], row).unwrap().map(Result::unwrap).collect()
}
