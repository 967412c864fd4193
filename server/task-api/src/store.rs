//! The store: tasks and the log of their events in one SQLite file. All SQL is below here.

mod answers;
mod backup;
mod changed;
mod checksum;
mod list;
mod log;
mod purge;
mod reader;
mod recovery;
mod requests;
mod retention;
mod rows;
mod schema;
mod seal;
mod session;
mod stats;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use taskwatch_protocol::{Incarnation, Pattern, RepositoryName, Seq, Task, Timestamp};
use taskwatch_server::{EventLog, Incarnations, Principal};
use tokio::sync::{Mutex, Notify, Semaphore, oneshot};
use uuid::Uuid;

use crate::change::{Caller, Change, Refusal};
use crate::idempotency::Once;
use crate::list::ListQuery;
use crate::settings::Retention;
use reader::Readers;
use requests::{Job, Order, Request};
use stats::Commits;

pub use backup::{BackedUp, BackupError, Restored};
pub(crate) use backup::{backup, restore, verify_file, verify_store};
pub(crate) use changed::{Changed, EncodedTask};
pub(crate) use list::TaskPage;
pub(crate) use purge::{PurgeError, Purged};
pub(crate) use reader::History;
#[cfg(test)]
pub(crate) use stats::LogStats;
pub(crate) use stats::StoreStats;
pub use verify::{Contents, Report};
pub(crate) use writer::Writer;

const DATABASE: &str = "taskwatch.db";
const JOURNAL: &str = "taskwatch.db-wal";
const LOCK: &str = "taskwatch.lock";
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// From here on the journal is emptied even if readers have to wait for it.
const LONG_JOURNAL: u64 = 64 << 20;
/// Changes that wait for the writer; more callers wait for room.
const WAITING: usize = 1024;

/// Tells the time of events.
type Clock = Box<dyn Fn() -> Timestamp + Send>;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder cannot be made or written to.
    #[error("{} cannot be used: {source}; name another folder with --data", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("another process uses {}; stop it, or name another folder with --data", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error(
        "the store has schema {found} and this version knows {known}; use the newer version, or \
         restore an older copy"
    )]
    NewerSchema {
        /// What the file says.
        found: usize,
        /// What this version can read.
        known: usize,
    },
    /// The disk cannot hold what the journal needs, as some network file systems cannot.
    #[error(
        "{} cannot have a write-ahead journal, only {mode:?}; name a folder on a local disk with --data",
        path.display()
    )]
    NoJournal {
        /// The database.
        path: PathBuf,
        /// What SQLite keeps instead.
        mode: String,
    },
    /// SQLite refuses the file.
    #[error("the store cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("there is no such task or repository")]
    NotFound,
    #[error("this repository may be read with this token, but not changed")]
    Forbidden,
    #[error("the task has version {current} by now; read it again and repeat the change")]
    VersionConflict { current: u64 },
    #[error("this Idempotency-Key was used for another request; take a new one for each change")]
    IdempotencyMismatch,
    #[error("the event of this change has {bytes} bytes, over 256 KiB; shorten the task")]
    TooLarge { bytes: usize },
    #[error("the events of this batch have over 4 MiB; make two of it")]
    BatchTooLarge,
    #[error("the store cannot take changes now; try again later")]
    Unavailable,
    #[error("the change could not be stored")]
    Internal,
}

impl From<Refusal> for ChangeError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            Refusal::Forbidden => Self::Forbidden,
            Refusal::VersionConflict { current } => Self::VersionConflict { current },
            Refusal::KeyOfAnother => Self::IdempotencyMismatch,
        }
    }
}

/// Why none of some changes was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub(crate) struct BatchError {
    /// The first that cannot be made, unless it is about all of them.
    pub(crate) index: Option<usize>,
    pub(crate) error: ChangeError,
}

impl From<ChangeError> for BatchError {
    fn from(error: ChangeError) -> Self {
        Self { index: None, error }
    }
}

/// The store cannot be read now; the reason is in the server's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be read now; try again later")]
pub(crate) struct Unavailable;

/// What readers of the log ask without a query.
#[derive(Debug)]
struct Shared {
    incarnations: Incarnations,
    head: AtomicU64,
    floor: AtomicU64,
    commits: Commits,
    /// Told when the journal is long.
    long_journal: Notify,
}

/// The open store. A clone is the same store; routes make many for one request, so it is one pointer.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    open: Arc<Open>,
}

#[derive(Debug)]
struct Open {
    shared: Arc<Shared>,
    readers: Readers,
    /// For snapshots, which take long: what is short does not wait behind them.
    long_readers: Readers,
    requests: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
    /// Held by who keeps readers waiting for the writer: one at a time, or they would wait for two.
    journal: Mutex<()>,
}

impl Store {
    /// Opens the store in `dir`, or makes it. Changes wait until the writer is started.
    pub(crate) fn open(dir: &Path, retention: Retention) -> Result<(Self, Writer), OpenError> {
        let clock = || Timestamp::from_unix_millis(jiff::Timestamp::now().as_millisecond());
        Self::open_with_clock(dir, retention, Box::new(clock))
    }

    fn open_with_clock(
        dir: &Path,
        retention: Retention,
        clock: Clock,
    ) -> Result<(Self, Writer), OpenError> {
        let lock = lock(dir)?;
        let path = dir.join(DATABASE);
        session::set_foreign_journal_aside(dir)
            .map_err(|source| OpenError::Folder { path: dir.to_owned(), source })?;
        let mut conn = Connection::open(&path)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        journal(&conn, &path)?;
        // Without FULL a power cut may take back what was acknowledged.
        conn.pragma_update(None, "synchronous", "FULL")?;
        // A savepoint must not need a temporary file: where files run out, changes still work.
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        conn.pragma_update(None, "journal_size_limit", LONG_JOURNAL)?;
        schema::migrate(&mut conn)?;
        let incarnation = Incarnation(rand::random());
        let incarnations = schema::begin_incarnation(&mut conn, incarnation)?;
        session::begin(dir, &conn, incarnation)?;
        let state = schema::load_state(&conn)?;

        let shared = Arc::new(Shared {
            incarnations,
            head: AtomicU64::new(state.head),
            floor: AtomicU64::new(state.floor),
            commits: Commits::default(),
            long_journal: Notify::new(),
        });
        let (sender, requests) = mpsc::channel();
        let open = Open {
            shared: Arc::clone(&shared),
            readers: Readers::open(&path)?,
            long_readers: Readers::open(&path)?,
            requests: sender,
            room: Arc::new(Semaphore::new(WAITING)),
            journal: Mutex::default(),
        };
        let writer = Writer {
            dir: dir.to_owned(),
            conn,
            requests,
            shared,
            state,
            retention,
            clock,
            patience: writer::IDLE,
            tried: Instant::now(),
            last_commit: 0,
            long_journal: LONG_JOURNAL,
            lock,
        };
        Ok((Self { open: Arc::new(open) }, writer))
    }

    /// Makes changes that the caller may make, or none of them. They are durable, and published one
    /// behind the other, when this returns; a caller that stops waiting does not undo them. With
    /// `once`, changes that were made before are not made again, and what was returned then is
    /// returned.
    pub(crate) async fn change(
        &self,
        caller: Caller,
        changes: Vec<Change>,
        once: Option<Once>,
    ) -> Result<Vec<Changed>, BatchError> {
        let acquired = Arc::clone(&self.open.room).acquire_owned().await;
        let room = acquired.map_err(|_| ChangeError::Unavailable)?;
        let (reply, answer) = oneshot::channel();
        let job = Job { caller, changes, once, reply, room };
        self.open
            .requests
            .send(Request::Change(Box::new(job)))
            .map_err(|_| ChangeError::Unavailable)?;
        // A writer that closed before it came to this job has dropped it.
        answer.await.unwrap_or(Err(ChangeError::Unavailable.into()))
    }

    /// A task, if there is one.
    pub(crate) async fn get(&self, id: Uuid) -> Result<Option<Task>, Unavailable> {
        self.open.readers.read(move |tx| schema::load_task(tx, id)).await
    }

    /// Some tasks, and the position of which they are.
    pub(crate) async fn list(&self, query: ListQuery) -> Result<TaskPage, Unavailable> {
        // Before the tasks are read: what is published later is told by events.
        let head = self.head();
        let page = self.open.readers.read(move |tx| list::list(tx, &query, head)).await?;
        Ok(page.into_page(&self.open.shared.incarnations))
    }

    /// The names of repositories that have tasks, of those that match, from behind one on.
    pub(crate) async fn repositories(
        &self,
        patterns: Vec<Pattern>,
        after: Option<RepositoryName>,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, Unavailable> {
        self.open.readers.read(move |tx| reader::repositories(tx, &patterns, after, limit)).await
    }

    /// Events of a task behind a position, if the principal may read any, or the task.
    pub(crate) async fn history(
        &self,
        principal: Principal,
        id: Uuid,
        after: Seq,
        limit: usize,
    ) -> Result<Option<History>, Unavailable> {
        self.open.readers.read(move |tx| reader::history(tx, &principal, id, after, limit)).await
    }

    /// Runs until the store is closed, and empties the journal whenever it is long. SQLite does so by
    /// itself, but only at a moment without readers; many who read in turn leave none.
    pub(crate) async fn keep_journal_short(&self) {
        loop {
            self.open.shared.long_journal.notified().await;
            let _journal = self.open.journal.lock().await;
            let (Some(_pause), Some(_long_pause)) =
                (self.open.readers.pause().await, self.open.long_readers.pause().await)
            else {
                return;
            };
            let (done, emptied) = oneshot::channel();
            if self.open.requests.send(Request::Order(Order::EmptyJournal(done))).is_err() {
                return;
            }
            let _ = emptied.await;
        }
    }

    /// Makes the changes that wait, then closes the file. Later calls are refused.
    pub(crate) async fn close(&self) {
        self.open.readers.close().await;
        self.open.long_readers.close().await;
        self.open.shared.long_journal.notify_one();
        let (done, closed) = oneshot::channel();
        if self.open.requests.send(Request::Order(Order::Close(done))).is_ok() {
            let _ = closed.await;
        }
    }
}

/// Has SQLite keep a write-ahead journal. The answer is read to its end: whether the change of the
/// mode was committed is told only there, and the mode that SQLite names afterwards is not the file's.
fn journal(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let mut change = conn.prepare("PRAGMA journal_mode = WAL")?;
    let answer =
        change.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    match answer.first() {
        Some(mode) if mode != "wal" => {
            Err(OpenError::NoJournal { path: path.to_owned(), mode: mode.clone() })
        }
        _ => Ok(()),
    }
}

/// Claims the folder for this process. A file of its own, since SQLite's locks on the database
/// come and go, and would not keep a second server from starting.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let folder = |path: &Path| {
        let path = path.to_owned();
        |source| OpenError::Folder { path, source }
    };
    std::fs::create_dir_all(dir).map_err(folder(dir))?;
    let path = dir.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(folder(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(folder(&path)(source)),
    }
}
