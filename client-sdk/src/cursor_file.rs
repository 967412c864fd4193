//! A position in a file.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use taskwatch_protocol::{Cursor, escape};

/// More than any position has; a file that has more holds something else.
const MAX_FILE: u64 = 4 * 1024;

/// A position in a file, so that a program goes on from it when it runs again.
///
/// The file is one line of text, the [`Cursor`]. A [`save`](Self::save) is whole or did not happen,
/// also if the machine loses its power meanwhile. Only one program at a time can have the file open: it
/// is kept by a lock on a file beside it, with `.lock` behind its name, which stays when the program
/// ends, and is not locked then.
///
/// All this waits for the disk, a save for some milliseconds. On a runtime that does anything else,
/// either save now and then, such as once a second and at the end, or within
/// `tokio::task::spawn_blocking` or `block_in_place`.
///
/// ```no_run
/// use futures_util::StreamExt;
/// use taskwatch_client::{Client, CursorFile};
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut position = CursorFile::open("position")?;
/// let mut events = client.subscribe(["*"])?.since(position.cursor());
/// while let Some(event) = events.next().await {
///     println!("{}", event?.task().title);
///     position.save(&events.cursor().expect("an event has a position"))?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CursorFile {
    path: PathBuf,
    cursor: Option<Cursor>,
    /// Whether it is what the file holds for certain.
    is_saved: bool,
    /// Locked for as long as this lives.
    _lock: File,
}

/// A position cannot be read from its file, or saved in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CursorFileError {
    /// Another program has it open, or this one has it open twice.
    #[error("{} is in use by another program, which has locked {}", path.display(), lock.display())]
    #[non_exhaustive]
    InUse {
        /// The file.
        path: PathBuf,
        /// What is locked.
        lock: PathBuf,
    },
    /// The file is not one line of text. It is left as it is.
    #[error("{} does not hold a position: {reason}", path.display())]
    #[non_exhaustive]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The disk, or a permission.
    #[error("cannot {action} {}: {problem}", path.display())]
    #[non_exhaustive]
    Io {
        /// What was to be done, as a verb.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it was not.
        #[source]
        problem: io::Error,
    },
}

impl CursorFile {
    /// Locks the file, which need not be there yet, and reads it.
    ///
    /// Of a symbolic link, the file behind it is meant.
    ///
    /// # Errors
    /// [`CursorFileError`]: another program has it, it holds something else, or it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CursorFileError> {
        let path = path.as_ref();
        let path = absolute(path).map_err(failed("find", path))?;
        let lock = lock(&path)?;
        let cursor = read(&path)?;
        Ok(Self { is_saved: cursor.is_some(), path, cursor, _lock: lock })
    }

    /// The position that was read or last saved; `None` if there was no file.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor.clone()
    }

    /// Where it is, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a position in the place of the one before. When this returns, it is on the disk; what is
    /// there already is not written again.
    ///
    /// # Errors
    /// [`CursorFileError`]. The file then holds the position of before, or, if only its folder could not
    /// be written to the disk, this one.
    pub fn save(&mut self, cursor: &Cursor) -> Result<(), CursorFileError> {
        if self.is_saved && self.cursor.as_ref() == Some(cursor) {
            return Ok(());
        }
        check(cursor.as_str()).map_err(|reason| self.malformed(reason))?;
        self.is_saved = false;
        // Nobody else writes it: the lock is ours.
        let new = beside(&self.path, ".new");
        write(&new, cursor.as_str()).map_err(failed("write", &new))?;
        fs::rename(&new, &self.path).map_err(failed("replace", &self.path))?;
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        sync_folder(folder).map_err(failed("write", folder))?;
        (self.cursor, self.is_saved) = (Some(cursor.clone()), true);
        Ok(())
    }

    fn malformed(&self, reason: &'static str) -> CursorFileError {
        CursorFileError::Malformed { path: self.path.clone(), reason }
    }
}

/// With no links in it, so that two names of one file have one lock.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            // It would be replaced by the file.
            if fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink()) {
                return Err(io::Error::other("it is a link to a file that is not there"));
            }
            let path = std::path::absolute(path)?;
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(problem);
            };
            Ok(fs::canonicalize(folder)?.join(name))
        }
        found => found,
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn lock(path: &Path) -> Result<File, CursorFileError> {
    let lock = beside(path, ".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&lock);
    let file = file.map_err(failed("open", &lock))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(CursorFileError::InUse { path: path.to_owned(), lock })
        }
        Err(TryLockError::Error(problem)) => Err(failed("lock", &lock)(problem)),
    }
}

fn read(path: &Path) -> Result<Option<Cursor>, CursorFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(problem) => return Err(failed("open", path)(problem)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    let malformed = |reason| CursorFileError::Malformed { path: path.to_owned(), reason };
    let text = str::from_utf8(&bytes).map_err(|_| malformed("it is not text"))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    check(line).map_err(malformed)?;
    Ok(Some(Cursor::new(line)))
}

/// Whether a text can be a position, and a line of a file.
fn check(line: &str) -> Result<(), &'static str> {
    if line.is_empty() {
        Err("it is empty")
    } else if line.len() as u64 > MAX_FILE {
        Err("it is too long")
    } else if line.contains(['\n', '\r']) {
        Err("it has more than one line")
    } else if line.contains(|c: char| c.is_whitespace() || escape::is_hazardous(c)) {
        Err("it has spaces or invisible characters")
    } else {
        Ok(())
    }
}

fn write(path: &Path, line: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    writeln!(file, "{line}")?;
    file.sync_all()
}

/// A name is on the disk when its folder is. Only Unix has a way to ask for that.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> CursorFileError {
    move |problem| CursorFileError::Io { action, path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::at;

    #[test]
    fn what_was_saved_is_read_by_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("position");
        let mut file = CursorFile::open(&path).unwrap();
        assert_eq!(file.cursor(), None);
        for seq in 1..=3 {
            file.save(&at(seq)).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("c-{seq}\n"));
            assert_eq!(file.cursor(), Some(at(seq)));
        }
        drop(file);
        assert_eq!(CursorFile::open(&path).unwrap().cursor(), Some(at(3)));
        // Whatever an editor has made of its end.
        for text in ["c-4", "c-4\n", "c-4\r\n"] {
            fs::write(&path, text).unwrap();
            assert_eq!(CursorFile::open(&path).unwrap().cursor(), Some(at(4)));
        }
    }

    #[test]
    fn what_is_saved_already_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("position");
        let mut file = CursorFile::open(&path).unwrap();
        file.save(&at(1)).unwrap();
        fs::remove_file(&path).unwrap();
        file.save(&at(1)).unwrap();
        assert!(!path.exists());
        file.save(&at(2)).unwrap();
        assert!(path.exists());
    }

    #[test]
    fn one_program_at_a_time_has_it_whatever_it_calls_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("position"), folder.path().join("link"));
        fs::write(&path, "c-1\n").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&path, &link).unwrap();
        #[cfg(not(unix))]
        let link = (drop(link), path.clone()).1;
        let mut first = CursorFile::open(&link).unwrap();
        for name in [&path, &link] {
            let error = CursorFile::open(name).unwrap_err();
            assert!(matches!(error, CursorFileError::InUse { .. }), "{error}");
            assert!(error.to_string().contains("position.lock"), "{error}");
        }
        first.save(&at(2)).unwrap();
        drop(first);
        assert_eq!(CursorFile::open(&path).unwrap().cursor(), Some(at(2)));
    }

    #[test]
    fn what_is_no_position_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("position");
        for (bytes, reason) in [
            (&b""[..], "empty"),
            (b"\n", "empty"),
            (b"c-1\nc-2\n", "more than one line"),
            (b"c-1\n\n", "more than one line"),
            (b"c-1 \n", "spaces"),
            (b"c-\0\n", "invisible"),
            (b"\xff\n", "not text"),
            (&b"x".repeat(5_000), "too long"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = CursorFile::open(&path).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("position"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        fs::write(&path, "c-1\n").unwrap();
        let mut file = CursorFile::open(&path).unwrap();
        assert!(file.save(&Cursor::new("two\nlines")).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "c-1\n");
    }

    #[test]
    fn a_save_that_fails_leaves_the_position_of_before_and_can_be_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("position");
        let mut file = CursorFile::open(&path).unwrap();
        file.save(&at(1)).unwrap();
        let in_the_way = folder.path().join("position.new");
        fs::create_dir(&in_the_way).unwrap();
        let error = file.save(&at(2)).unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("position.new"), "{error}");
        assert_eq!(file.cursor(), Some(at(1)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "c-1\n");
        fs::remove_dir(&in_the_way).unwrap();
        file.save(&at(2)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "c-2\n");
    }

    #[test]
    fn a_file_that_cannot_be_had_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        for (path, named) in [(folder.path().join("absent/position"), "absent"), (inner, "inner")] {
            let error = CursorFile::open(&path).unwrap_err().to_string();
            assert!(error.starts_with("cannot ") && error.contains(named), "{error}");
        }
    }
}
