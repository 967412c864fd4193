//! The one thread that writes: changes that wait become one commit, are published in order, and
//! then answered.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, DropBehavior, ErrorCode, TransactionBehavior};
use taskwatch_protocol::Traceparent;
use taskwatch_server::LogEvent;
use taskwatch_server::mutant::{self, Mutant};
use tokio::sync::oneshot;

use super::requests::{self, Job, Order, Request};
use super::rows::{self, WriteError, Written};
use super::schema::{self, LogState};
use super::{BatchError, ChangeError, Clock, JOURNAL, Shared, answers, retention, session};
use crate::change::Change;
use crate::log;
use crate::settings::Retention;

/// How long nothing is asked before old events are looked for.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// What became of each job.
type Outcomes = Vec<Result<Written, BatchError>>;

/// Which jobs can be undone alone.
///
/// A savepoint takes longer than the rows of a change, since SQLite keeps a copy of every page that
/// is touched after it. A job of one change does without: it is refused before its first row.
#[derive(Clone, Copy, PartialEq)]
enum Savepoints {
    OfBatches,
    OfAll,
}

/// The thread's state. Nothing else writes to the file.
pub(crate) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) conn: Connection,
    pub(super) requests: Receiver<Request>,
    pub(super) shared: Arc<Shared>,
    pub(super) state: LogState,
    pub(super) retention: Retention,
    pub(super) clock: Clock,
    /// How long the next turn waits for a change before it looks for old events.
    pub(super) patience: Duration,
    /// When it was last tried whether changes can be made again.
    pub(super) tried: Instant,
    /// Jobs in the last commit.
    pub(super) last_commit: usize,
    /// Bytes of a journal that is long.
    pub(super) long_journal: u64,
    /// Held while the thread lives.
    pub(super) lock: File,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the thread. `publish` is called for each event, in the order of their numbers, once
    /// the event is durable (I5).
    pub(crate) fn start(
        self,
        publish: impl Fn(LogEvent) + Send + 'static,
    ) -> Result<(), std::io::Error> {
        let thread = std::thread::Builder::new().name("store-writer".into());
        thread.spawn(move || {
            let _end = EndWithPanic;
            self.run(&publish);
        })?;
        Ok(())
    }

    fn run(mut self, publish: &dyn Fn(LogEvent)) {
        let closed = loop {
            match self.turn(publish) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(done) => break done,
            }
        };
        let Self { dir, conn, lock, .. } = self;
        // The file alone then holds everything, which is what people copy.
        let tidy = conn.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE)");
        match tidy.and_then(|()| conn.close().map_err(|(_, error)| error)) {
            Ok(()) => {
                if let Err(error) = session::end(&dir) {
                    tracing::warn!(%error, "the side file of the store stays");
                }
            }
            Err(error) => tracing::warn!(%error, "the store was not tidied up; nothing is lost"),
        }
        drop(lock);
        if let Some(done) = closed {
            // Nobody waits any more: that is fine.
            let _ = done.send(());
        }
    }

    /// Serves what waits, then trims a little.
    pub(super) fn turn(
        &mut self,
        publish: &dyn Fn(LogEvent),
    ) -> ControlFlow<Option<oneshot::Sender<()>>> {
        let first = match self.requests.recv_timeout(self.patience) {
            Ok(Request::Change(job)) => Some(*job),
            Ok(Request::Order(order)) => return self.obey(order, publish),
            Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(None),
            Err(RecvTimeoutError::Timeout) => None,
        };
        let idle = first.is_none();
        if let Some(first) = first {
            let (jobs, order) = requests::gather(first, &self.requests, self.last_commit);
            self.last_commit = jobs.len();
            self.commit(jobs, publish);
            if let Some(order) = order {
                return self.obey(order, publish);
            }
        }
        self.trim(idle);
        // Also beside requests that change nothing, and so say nothing about it.
        if self.shared.commits.is_failing() && (idle || self.tried.elapsed() >= IDLE) {
            self.tried = Instant::now();
            self.try_commit();
        }
        self.watch_journal();
        ControlFlow::Continue(())
    }

    fn obey(
        &mut self,
        order: Order,
        publish: &dyn Fn(LogEvent),
    ) -> ControlFlow<Option<oneshot::Sender<()>>> {
        match order {
            Order::Close(done) => return ControlFlow::Break(Some(done)),
            Order::EmptyJournal(done) => {
                // Waits for nobody, and begins the journal anew if all of it could be moved.
                let empty = self.conn.execute_batch("PRAGMA wal_checkpoint(PASSIVE)");
                if let Err(error) = empty {
                    tracing::warn!(%error, "the journal could not be emptied; it grows");
                }
                let _ = done.send(());
            }
            Order::Purge(id, done) => {
                let _ = done.send(self.purge(id, publish));
            }
            Order::CutJournal(done) => {
                let _ = done.send(self.cut_journal());
            }
        }
        ControlFlow::Continue(())
    }

    fn watch_journal(&self) {
        let len = std::fs::metadata(self.dir.join(JOURNAL)).map_or(0, |journal| journal.len());
        if len > self.long_journal {
            self.shared.long_journal.notify_one();
        }
    }

    /// One commit for all jobs; each is answered after it.
    fn commit(&mut self, jobs: Vec<Job>, publish: &dyn Fn(LogEvent)) {
        // Dropped before `jobs`, whose end would tell the callers that nothing was done.
        let _end = EndWithPanic;
        let began = Instant::now();
        let (state, outcomes) = match self.write(&jobs) {
            Ok(written) => {
                // A commit of nothing does not touch the disk, and so says nothing about it.
                if written.0.head > self.state.head {
                    self.committed(written.0.head - self.state.head, began);
                }
                written
            }
            Err(error) => {
                self.survive_or_end(&error);
                for job in jobs {
                    let _ = job.reply.send(Err(ChangeError::Unavailable.into()));
                }
                return;
            }
        };
        self.state = state;
        self.shared.head.store(state.head, Ordering::Release);
        let answers: Vec<_> = outcomes
            .into_iter()
            .map(|outcome| {
                let written = outcome?;
                written.events.into_iter().for_each(publish);
                Ok(written.changes)
            })
            .collect();
        for (job, answer) in jobs.into_iter().zip(answers) {
            drop(job.room);
            // A caller that hung up: its change stands, and was published.
            let _ = job.reply.send(answer);
        }
        if mutant::active(Mutant::AckBeforeCommit) {
            std::thread::sleep(Duration::from_millis(300));
            let _ = self.conn.execute_batch("COMMIT");
        }
    }

    /// So many changes are durable.
    pub(super) fn committed(&self, changes: u64, began: Instant) {
        if self.shared.commits.succeeded(changes, began) {
            tracing::warn!("changes can be made again");
        }
    }

    fn write(&mut self, jobs: &[Job]) -> rusqlite::Result<(LogState, Outcomes)> {
        match self.attempt(jobs, Savepoints::OfBatches) {
            // Nothing of it stays. The next attempt finds out who is to blame, and undoes that alone.
            Err(error) if concerns_one_change(&error) => self.attempt(jobs, Savepoints::OfAll),
            written => written,
        }
    }

    fn attempt(
        &mut self,
        jobs: &[Job],
        savepoints: Savepoints,
    ) -> rusqlite::Result<(LogState, Outcomes)> {
        let mut state = self.state;
        let mut outcomes = Vec::with_capacity(jobs.len());
        // A transaction that begins by reading could not wait for a lock when it comes to write.
        let mut tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in jobs {
            let now = (self.clock)().max(state.last_ts);
            let outcome = if job.changes.len() > 1 || savepoints == Savepoints::OfAll {
                let mut savepoint = tx.savepoint()?;
                match rows::write_once(&savepoint, job, now, state, &self.shared) {
                    Ok(written) => {
                        savepoint.commit()?;
                        Ok(written)
                    }
                    Err(error) => {
                        let refusal = refusal(error, job)?;
                        savepoint.rollback()?;
                        Err(refusal)
                    }
                }
            } else {
                match rows::write_once(&tx, job, now, state, &self.shared) {
                    Ok(written) => Ok(written),
                    Err(WriteError::Refused(refusal)) => Err(refusal),
                    Err(WriteError::Sql { error, .. }) => return Err(error),
                }
            };
            if let Ok(written) = &outcome {
                state = written.state;
            }
            outcomes.push(outcome);
        }
        if state != self.state {
            schema::save_state(&tx, state)?;
        }
        if mutant::active(Mutant::AckBeforeCommit) {
            tx.set_drop_behavior(DropBehavior::Ignore);
        } else {
            tx.commit()?;
        }
        Ok((state, outcomes))
    }

    /// Deletes old events and answers, so few at a time that a writer does not notice.
    pub(super) fn trim(&mut self, idle: bool) {
        let now = (self.clock)();
        let state = match retention::trim(&mut self.conn, self.state, self.retention, now, idle) {
            Ok(state) => state,
            Err(error) => {
                self.survive_or_end(&error);
                self.state
            }
        };
        // Where some were old, more may be.
        let mut more = state.floor > self.state.floor;
        self.state = state;
        self.shared.floor.store(state.floor, Ordering::Release);
        match answers::trim(&mut self.conn, now.max(self.state.last_ts), idle) {
            Ok(trimmed) => more |= trimmed > 0,
            Err(error) => self.survive_or_end(&error),
        }
        self.patience = if more { Duration::ZERO } else { IDLE };
    }

    /// What to do about a transaction that failed; by now it is rolled back, as SQLite says.
    ///
    /// A full disk, a lock held by a backup, or a lack of memory are found before the commit
    /// record is written: the file is as it was, and the next change may succeed. That is not
    /// taken on trust: the log's state is read back.
    ///
    /// Everything else ends the process, above all an error of a write or an fsync: the kernel
    /// may have dropped the pages it could not write, and a later fsync would succeed without
    /// them. What the file holds then is known only to whoever opens it anew. No caller was
    /// answered, nothing was published.
    pub(super) fn survive_or_end(&self, error: &rusqlite::Error) {
        let passing = matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::OutOfMemory
            )
        );
        let clean =
            || self.conn.is_autocommit() && schema::load_state(&self.conn).ok() == Some(self.state);
        if passing && clean() {
            if self.shared.commits.failed(error.to_string()) {
                tracing::error!(%error, "a commit was rolled back; no change is made until one succeeds");
            }
        } else {
            end_process(&format!("the store failed: {error}"));
        }
    }
}

/// What the caller of a job is told that was not made, unless the error is not the job's alone.
fn refusal(error: WriteError, job: &Job) -> rusqlite::Result<BatchError> {
    match error {
        WriteError::Refused(refusal) => Ok(refusal),
        WriteError::Sql { error, index } if concerns_one_change(&error) => {
            let task = index.and_then(|index| job.changes.get(index)).map(Change::id);
            let trace_id = job.caller.trace.as_ref().map(Traceparent::trace_id);
            tracing::error!(%error, ?task, trace_id, "a change cannot be stored");
            Ok(BatchError { index, error: ChangeError::Internal })
        }
        WriteError::Sql { error, .. } => Err(error),
    }
}

/// Errors of one change's rows; the savepoint is still there to go back to.
pub(super) fn concerns_one_change(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch
        ),
        // Not from SQLite: a row that does not read as a task.
        None => true,
    }
}

/// A writer that is gone would leave a server that serves and cannot change anything.
struct EndWithPanic;

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            end_process("the store's writer panicked");
        }
    }
}

/// Ends at once: no handler may run that would answer somebody.
fn end_process(why: &str) -> ! {
    log::fail(why);
    log::fail(
        "stopping, since what is not safely stored may not be acknowledged; check the disk and start again",
    );
    std::process::abort()
}
