//! A copy of the store of one moment, and a store out of a copy. Another process may be serving
//! meanwhile.

mod restore;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use url::Url;

use super::seal::{self, Seal};
use super::verify::{self, Contents, Report};
use super::{BUSY_TIMEOUT, DATABASE, session};
use crate::settings::InvalidSettings;

pub use restore::Restored;
pub(crate) use restore::restore;

/// Why there is no copy, no store out of a copy, or no judgement of either.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It is not known where the store is.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// There is no store in the folder.
    #[error("there is no store in {}; name its folder with --data", path.display())]
    NoStore {
        /// The folder.
        path: PathBuf,
    },
    /// Nobody wants to lose an older backup by a slip.
    #[error("{} exists; name another file, or write over it with --force", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The copy would take the place of what is copied.
    #[error("{} is the store itself; name another file", path.display())]
    Itself {
        /// The file.
        path: PathBuf,
    },
    /// Only whoever starts the server may put the journal aside.
    #[error(
        "the journal in {} belongs to another database than the one beside it: somebody has copied \
         an older one back; start the server, which puts the journal aside, then try again",
        path.display()
    )]
    ForeignJournal {
        /// The folder.
        path: PathBuf,
    },
    /// The file is the database of a store, and not the whole of it.
    #[error(
        "{} has a journal beside it, so it is not a backup but the database of a store; name the \
         folder with --data",
        path.display()
    )]
    HasJournal {
        /// The file.
        path: PathBuf,
    },
    /// Another process serves what would be replaced.
    #[error("another process uses {}; stop it first, or name another folder", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The store or the backup was written by a newer version.
    #[error("this is of schema {found} and this version knows {known}; use the newer version")]
    NewerSchema {
        /// What it says.
        found: usize,
        /// What this version can read.
        known: usize,
    },
    /// The copy, or what should be restored, is damaged. Nothing was replaced.
    #[error("{} is damaged; nothing was replaced", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        report: Box<Report>,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or the folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// SQLite cannot go on.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A fault of this program.
    #[error("this cannot be: {0}")]
    Impossible(String),
}

impl BackupError {
    /// What becomes of the error of a file.
    fn of(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// What it holds.
    pub contents: Contents,
    /// Its size.
    pub bytes: u64,
}

/// Copies the store in `dir` into `file`, as it is at one moment, and verifies the copy.
pub(crate) fn backup(dir: &Path, file: &Path, force: bool) -> Result<BackedUp, BackupError> {
    let exists = || BackupError::Exists { path: file.to_owned() };
    if !force && file.exists() {
        return Err(exists());
    }
    let part = with_suffix(file, ".part");
    let store = open_store(dir)?;
    if fs::canonicalize(file)
        .is_ok_and(|file| fs::canonicalize(dir.join(DATABASE)).ok() == Some(file))
    {
        return Err(BackupError::Itself { path: file.to_owned() });
    }
    let made = write_copy(&store, &part).and_then(|()| {
        // The moment that was copied is no longer held: the journal may be emptied again.
        drop(store);
        seal_and_verify(&part)
    });
    let moved = made.and_then(|made| {
        if !force && file.exists() {
            return Err(exists());
        }
        put_in_place(&part, file)?;
        Ok(made)
    });
    if moved.is_err() {
        let _ = fs::remove_file(&part);
    }
    moved
}

fn seal_and_verify(part: &Path) -> Result<BackedUp, BackupError> {
    let mut file =
        File::options().read(true).write(true).open(part).map_err(BackupError::of(part))?;
    seal::put(&mut file).and_then(|()| file.sync_all()).map_err(BackupError::of(part))?;
    let report = verify_file(part)?;
    if !report.is_good() {
        return Err(BackupError::Damaged { path: part.to_owned(), report: Box::new(report) });
    }
    let bytes = file.metadata().map_err(BackupError::of(part))?.len();
    Ok(BackedUp { contents: report.contents, bytes })
}

/// Looks at a backup, or at another database that nobody uses.
pub(crate) fn verify_file(path: &Path) -> Result<Report, BackupError> {
    let mut file = File::open(path).map_err(BackupError::of(path))?;
    let journal = fs::metadata(with_suffix(path, "-wal"));
    if journal.is_ok_and(|journal| journal.len() > 0) {
        return Err(BackupError::HasJournal { path: path.to_owned() });
    }
    let seal = seal::check(&mut file).map_err(BackupError::of(path))?;
    let mut report = match open_file(path).and_then(|mut conn| verify::verify(&mut conn)) {
        Ok(report) => report,
        // What the file says of itself is not to be believed then.
        Err(BackupError::NewerSchema { .. } | BackupError::Sqlite(_)) if seal == Seal::Broken => {
            Report::default()
        }
        Err(BackupError::Sqlite(error)) if verify::is_damage(&error) => {
            let mut report = Report::default();
            report.damage(error.to_string());
            report
        }
        Err(error) => return Err(error),
    };
    match seal {
        Seal::Whole => {}
        Seal::Broken => report.damage.insert(
            0,
            "the file is not as it was written: its checksum is another, or its end is missing"
                .into(),
        ),
        Seal::Missing => report.notes.push(
            "the file has no checksum of its own: it was not made by `taskwatchd backup`, and of its \
             bytes only what is in rows was compared"
                .into(),
        ),
    }
    Ok(report)
}

/// Looks at the store in `dir`, which may be in use.
pub(crate) fn verify_store(dir: &Path) -> Result<Report, BackupError> {
    match open_store(dir) {
        Ok(mut conn) => verify::verify(&mut conn),
        Err(BackupError::Sqlite(error)) if verify::is_damage(&error) => {
            let mut report = Report::default();
            report.damage(error.to_string());
            Ok(report)
        }
        Err(error) => Err(error),
    }
}

/// Opens a store beside whoever serves it, in order to read.
fn open_store(dir: &Path) -> Result<Connection, BackupError> {
    let path = dir.join(DATABASE);
    if !path.exists() {
        return Err(BackupError::NoStore { path: dir.to_owned() });
    }
    if session::has_foreign_journal(dir) {
        return Err(BackupError::ForeignJournal { path: dir.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // Who closes a store last would move its journal into it and delete it, by its name: that may be
    // another store's by then.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(conn)
}

/// Opens a file that nobody writes to, and leaves nothing beside it.
fn open_file(path: &Path) -> Result<Connection, BackupError> {
    let absolute = std::path::absolute(path).map_err(BackupError::of(path))?;
    let mut url = Url::from_file_path(absolute)
        .map_err(|()| BackupError::of(path)(io::ErrorKind::InvalidInput.into()))?;
    url.set_query(Some("immutable=1"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(url.as_str(), flags)?)
}

/// One read transaction. The copy has no free pages, and so nothing of what was deleted, and says in its
/// header that it never had a journal.
fn write_copy(conn: &Connection, part: &Path) -> Result<(), BackupError> {
    remove(part).map_err(BackupError::of(part))?;
    // SQLite fills an empty file, and leaves its mode: what is in it is for its owner.
    let empty = File::options().write(true).create_new(true).mode(0o600).open(part);
    empty.map_err(BackupError::of(part))?;
    let path = part.to_str().ok_or_else(|| {
        BackupError::of(part)(io::Error::other("SQLite takes only names in UTF-8"))
    })?;
    conn.execute("VACUUM INTO ?1", [path])?;
    Ok(())
}

/// Gives a file its name, durably.
fn put_in_place(part: &Path, file: &Path) -> Result<(), BackupError> {
    fs::rename(part, file).map_err(BackupError::of(file))?;
    sync_folder_of(file)
}

fn sync_folder_of(file: &Path) -> Result<(), BackupError> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(BackupError::of(folder))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
