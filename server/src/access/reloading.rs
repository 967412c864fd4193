//! Files that others edit while the server runs.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How often files are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// Two changes within one tick of a file system's clock look like one. A file that changed less than
/// this ago is read again, whatever it looks like.
const SETTLED: Duration = Duration::from_secs(2);
/// A larger file is a mistake.
const MAX_BYTES: u64 = 64 << 20;

/// A file that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct FileError {
    path: PathBuf,
    reason: String,
}

impl FileError {
    /// What is wrong with the file at `path`.
    #[must_use]
    pub fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }
}

/// What some files say, read again whenever they change.
///
/// If they cannot be read, or what they say cannot be used, then what they said before stays, and
/// an error is logged: once for each change, not for each look.
pub struct Reloading<T> {
    paths: Vec<PathBuf>,
    parse: Box<Parse<T>>,
    seen: Mutex<Seen>,
    current: RwLock<Arc<T>>,
    changed: watch::Sender<()>,
}

type Parse<T> = dyn Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + Sync;

/// What was there when it was last read.
#[derive(Debug)]
struct Seen {
    stamps: Vec<Option<Stamp>>,
    settled: bool,
    content: Content,
}

type Content = Result<[u8; 32], FileError>;

/// Two files that differ in none of this are the same, if they are old enough.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    /// Also of its name: it grows when another file is renamed to this one, whatever its age.
    changed: (i64, i64),
}

impl<T: PartialEq + Send + Sync + 'static> Reloading<T> {
    /// Reads the files, in this order, and looks at them every half second from now on. The caller
    /// waits for the disk.
    ///
    /// # Errors
    /// If one cannot be read, or `parse` refuses them.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(
        paths: impl IntoIterator<Item = PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, FileError> {
        let reloading = Arc::new(Self::read(paths, parse)?);
        let watched = Arc::downgrade(&reloading);
        tokio::spawn(async move {
            let mut tick = interval(EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let Some(reloading) = watched.upgrade() else { return };
                // It is a file: whoever reads it waits for a disk.
                if tokio::task::spawn_blocking(move || reloading.reload()).await.is_err() {
                    return;
                }
            }
        });
        Ok(reloading)
    }

    /// The same, read again only when asked to.
    pub(super) fn read(
        paths: impl IntoIterator<Item = PathBuf>,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let paths: Vec<_> = paths.into_iter().collect();
        let (stamps, settled) = look(&paths);
        let files = read_all(&paths)?;
        let seen = Seen { stamps, settled, content: Ok(digest(&files)) };
        let current = Arc::new(parse(&files)?);
        Ok(Self {
            paths,
            parse: Box::new(parse),
            seen: Mutex::new(seen),
            current: RwLock::new(current),
            changed: watch::Sender::default(),
        })
    }

    /// Reads the files again if they have changed.
    pub(super) fn reload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (stamps, settled) = look(&self.paths);
        if seen.settled && stamps == seen.stamps {
            return;
        }
        let read = read_all(&self.paths);
        let content = read.as_ref().map(|files| digest(files)).map_err(Clone::clone);
        let same = content == seen.content;
        // Why it could not be read may have nothing to do with the file.
        *seen = Seen { stamps, settled: settled && content.is_ok(), content };
        if same {
            return;
        }
        match read.and_then(|files| (self.parse)(&files)) {
            Ok(new) if new == *self.current() => {}
            Ok(new) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(new);
                drop(current);
                self.changed.send_replace(());
            }
            Err(error) => tracing::error!(%error, "what was read before stays in force"),
        }
    }
}

impl<T> Reloading<T> {
    /// What the files say, or said when they last could be used.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notified when they say something else.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// Warns of a file with which others may do what they must not: `mode` has the bits for that.
pub(super) fn warn_if_others_may(mode: u32, path: &Path) {
    if fs::metadata(path).is_ok_and(|file| file.mode() & mode != 0) {
        let path = path.display();
        tracing::warn!(%path, "others may change this file, or read its secret, and so let anybody in");
    }
}

fn look(paths: &[PathBuf]) -> (Vec<Option<Stamp>>, bool) {
    let stamps: Vec<_> = paths.iter().map(|path| Stamp::of(path)).collect();
    let settled = stamps.iter().flatten().all(Stamp::is_settled);
    (stamps, settled)
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            file: (file.dev(), file.ino()),
            bytes: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }

    fn is_settled(&self) -> bool {
        let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(self.changed.0).unwrap_or(0));
        // In the future, it is in the future.
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED)
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, FileError> {
    paths.iter().map(|path| read_file(path)).collect()
}

fn read_file(path: &Path) -> Result<Vec<u8>, FileError> {
    let unusable = |reason: String| FileError::new(path, reason);
    let unreadable = |error| unusable(format!("cannot be read: {error}"));
    let file = fs::metadata(path).map_err(unreadable)?;
    if !file.is_file() {
        return Err(unusable("is not a file".to_owned()));
    }
    if file.len() > MAX_BYTES {
        return Err(unusable(format!("is larger than {} MiB", MAX_BYTES >> 20)));
    }
    fs::read(path).map_err(unreadable)
}

fn digest(files: &[Vec<u8>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for file in files {
        hash.update((file.len() as u64).to_be_bytes());
        hash.update(file);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tempfile::TempDir;

    use super::*;

    fn number(path: &Path, files: &[Vec<u8>]) -> Result<u32, FileError> {
        let text = String::from_utf8_lossy(&files[0]);
        text.trim().parse().map_err(|_| FileError::new(path, "is no number"))
    }

    fn reloading(path: &Path) -> Result<Reloading<u32>, FileError> {
        let named = path.to_owned();
        Reloading::read([path.to_owned()], move |files| number(&named, files))
    }

    #[test]
    fn what_changes_is_read_again_and_what_is_wrong_changes_nothing() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("number");
        fs::write(&path, "1").unwrap();
        let number = reloading(&path).unwrap();
        let changes = number.changes();
        let changed = || changes.has_changed().unwrap();
        number.reload();
        assert_eq!((*number.current(), changed()), (1, false));

        // As long, and within one tick of the clock.
        fs::write(&path, "2").unwrap();
        number.reload();
        assert_eq!((*number.current(), changed()), (2, true));

        let mut changes = number.changes();
        fs::write(&path, "two").unwrap();
        number.reload();
        fs::remove_file(&path).unwrap();
        number.reload();
        fs::create_dir(&path).unwrap();
        number.reload();
        fs::remove_dir(&path).unwrap();
        fs::write(&path, " 2\n").unwrap();
        number.reload();
        assert_eq!(*number.current(), 2);
        assert!(!changes.has_changed().unwrap(), "it says what it said");

        let other = dir.path().join("other");
        fs::write(&other, "3").unwrap();
        fs::rename(&other, &path).unwrap();
        number.reload();
        assert_eq!(*number.current(), 3);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
    }

    #[test]
    fn an_old_file_is_not_read_at_every_look() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("number");
        fs::write(&path, "1").unwrap();
        let number = reloading(&path).unwrap();
        // As if it had been read long after it was written.
        number.seen.lock().unwrap().settled = true;
        number.seen.lock().unwrap().content = Ok([0; 32]);
        number.reload();
        assert_eq!(number.seen.lock().unwrap().content, Ok([0; 32]), "it was read");
        fs::write(&path, "23").unwrap();
        number.reload();
        assert_eq!(*number.current(), 23);
    }

    #[test]
    fn an_error_is_told_once() {
        static PARSED: AtomicUsize = AtomicUsize::new(0);
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("number");
        fs::write(&path, "1").unwrap();
        let number = Reloading::read([path.clone()], |files| {
            PARSED.fetch_add(1, Ordering::Relaxed);
            number(Path::new("number"), files)
        });
        let number = number.unwrap();
        fs::write(&path, "one").unwrap();
        (0..5).for_each(|_| number.reload());
        assert_eq!(PARSED.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("number");
        let error = reloading(&path).unwrap_err().to_string();
        assert!(error.contains("number: cannot be read: No such file"), "{error}");
        let error = reloading(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("is not a file"), "{error}");
        fs::write(&path, "x").unwrap();
        let error = reloading(&path).unwrap_err().to_string();
        assert!(error.ends_with("number: is no number"), "{error}");
    }
}
