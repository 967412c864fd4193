//! Keeps a journal from being replayed into a database it does not belong to.
//!
//! Copying files back over the store is a restore. If the server was killed, its journal is still
//! there, and SQLite, which cannot tell, would replay it into the older file and break it. So
//! while the store is open a side file names the incarnation whose journal this is; a clean end
//! removes both. The database itself holds its last incarnation outside the journal, see
//! [`begin`]: when the two differ, somebody has exchanged the database.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use taskwatch_protocol::Incarnation;
use url::Url;

use super::{DATABASE, JOURNAL, OpenError, schema};

pub(super) const SESSION: &str = "taskwatch.session";
/// What SQLite keeps beside the database while it is open.
pub(super) const INDEX: &str = "taskwatch.db-shm";
/// Nobody reads it again; but what may hold somebody's work is not for us to delete.
const ASIDE: &str = "taskwatch.db-wal.replaced";

/// Folders with stores that a restore has replaced are called so, with a number behind it.
pub(super) const REPLACED: &str = "replaced-";

/// Whether the journal has a name now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Named,
    /// Somebody else reads: it could not be emptied, and is trusted as it is.
    Busy,
}

/// Before the database is opened: puts a journal aside that belongs to another file.
pub(super) fn set_foreign_journal_aside(dir: &Path) -> io::Result<()> {
    if !has_foreign_journal(dir) {
        return Ok(());
    }
    tracing::warn!("the database was restored from a copy; the other's journal is now {ASIDE}");
    fs::rename(dir.join(JOURNAL), dir.join(ASIDE))?;
    match fs::remove_file(dir.join(INDEX)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether there is a journal that belongs to another file.
pub(super) fn has_foreign_journal(dir: &Path) -> bool {
    let is_empty = fs::metadata(dir.join(JOURNAL)).map_or(true, |journal| journal.len() == 0);
    !is_empty && (never_had_a_journal(dir) || belongs_to_another(dir))
}

/// Whether the database is a copy made with `VACUUM INTO`: it says in its header (format versions,
/// bytes 18 and 19) that it has no write-ahead journal, so the one beside it is another's.
fn never_had_a_journal(dir: &Path) -> bool {
    let header = File::open(dir.join(DATABASE)).and_then(|mut file| {
        let mut header = [0; 20];
        file.read_exact(&mut header).map(|()| header)
    });
    header.is_ok_and(|header| header[18..] == [1, 1])
}

/// Whether the journal's name is not that of the database's last incarnation. A database that does
/// not say is left to SQLite, which will.
fn belongs_to_another(dir: &Path) -> bool {
    let Ok(session) = fs::read_to_string(dir.join(SESSION)) else { return false };
    // Half of a name is none.
    if session.len() != 16 {
        return false;
    }
    last_without_journal(dir).is_some_and(|last| session != name(last))
}

/// After the incarnation was written: moves it out of the journal, and puts its name on what the
/// journal will hold. A crash in between leaves an empty journal, which belongs to anybody.
pub(super) fn begin(dir: &Path, conn: &Connection, id: Incarnation) -> Result<Begun, OpenError> {
    let busy: bool = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    let path = dir.join(SESSION);
    if busy {
        // Somebody else reads, a backup for instance, and the row stays in the journal. Without a
        // name the journal is trusted, as it must be: it will hold what is acknowledged.
        end(dir).map_err(|source| OpenError::Folder { path, source })?;
        return Ok(Begun::Busy);
    }
    let part = dir.join(format!("{SESSION}.part"));
    let write = || {
        let mut file = File::create(&part)?;
        file.write_all(name(id).as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        File::open(dir)?.sync_all()
    };
    if let Err(source) = write() {
        // Who goes on without a name must not leave a wrong one to what is acknowledged.
        let _ = fs::remove_file(&part);
        let _ = end(dir);
        return Err(OpenError::Folder { path, source });
    }
    Ok(Begun::Named)
}

/// What nobody reads any more: the journals of others that were put aside, and what restoring has replaced.
pub(super) fn set_aside(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    // A restore that was killed leaves a part.
    let is_aside =
        |name: &String| name == ASIDE || name.starts_with(REPLACED) || name.ends_with(".part");
    let mut aside: Vec<String> = names.filter(is_aside).collect();
    aside.sort();
    aside
}

/// After a clean end, when there is no journal.
pub(super) fn end(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(SESSION)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn name(id: Incarnation) -> String {
    format!("{:016x}", id.0)
}

fn last_without_journal(dir: &Path) -> Option<Incarnation> {
    let path = std::path::absolute(dir.join(DATABASE)).ok()?;
    let mut url = Url::from_file_path(path).ok()?;
    // Reads the file as it is.
    url.set_query(Some("immutable=1"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(url.as_str(), flags).ok()?;
    schema::last_incarnation(&conn).ok()
}
