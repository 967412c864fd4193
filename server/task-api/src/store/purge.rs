//! Takes the text of one task out of everything that is kept.

use std::fs::File;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, ffi};
use taskwatch_protocol::{Envelope, ServerFrame, ServerMessage, TaskEvent, Timestamp};
use taskwatch_server::LogEvent;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::changed::{Changed, EncodedTask};
use super::requests::{Order, Request};
use super::schema::{self, LogState};
use super::writer::Writer;
use super::{Shared, Store, rows, session, writer};
use crate::scrub::{self, MARK};

/// What a purge has found, and what it leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Purged {
    /// Whether there was a task, which is deleted now.
    pub(crate) deleted: bool,
    /// Events whose text is gone; not those that had none any more.
    pub(crate) events: usize,
    /// Answers that were kept for requests that come again, and whose text is gone.
    pub(crate) answers: usize,
    /// Files beside the store that nobody reads, and that may hold the text.
    pub(crate) left: Vec<String>,
}

/// Why it is not certain that everything is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PurgeError {
    #[error("the store cannot be changed now, and nothing was; try again later")]
    Unavailable,
    #[error("an event of this task cannot be read, and nothing was changed; see the server's log")]
    Unreadable,
    #[error(
        "the text is in no task and in no event any more, but parts of the file that are not in \
         use may hold it: it could not be written anew, see the server's log; purge again"
    )]
    File,
    #[error(
        "the text is in no task and in no event any more, but it may be in the journal, which \
         somebody else is reading; end that, a backup perhaps, and purge again"
    )]
    Journal,
}

impl Store {
    /// Takes the text of a task out of the store, and the task too if it is there. Changes wait while the
    /// file is written anew. A caller that stops waiting leaves text in the journal.
    pub(crate) async fn purge(&self, id: Uuid) -> Result<Purged, PurgeError> {
        let _journal = self.open.journal.lock().await;
        let purged = self.order(|done| Order::Purge(id, done)).await?;
        let (Some(_pause), Some(_long_pause)) =
            (self.open.readers.pause().await, self.open.long_readers.pause().await)
        else {
            return Err(PurgeError::Journal);
        };
        self.order(Order::CutJournal).await?;
        Ok(purged)
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, PurgeError>>) -> Order,
    ) -> Result<T, PurgeError> {
        let (done, answer) = oneshot::channel();
        let order = Request::Order(order(done));
        self.open.requests.send(order).map_err(|_| PurgeError::Unavailable)?;
        answer.await.unwrap_or(Err(PurgeError::Unavailable))
    }
}

impl Writer {
    /// Purges, publishes that the task is gone, and writes the file anew. What is in the journal then
    /// is cut off by [`Self::cut_journal`].
    pub(super) fn purge(
        &mut self,
        id: Uuid,
        publish: &dyn Fn(LogEvent),
    ) -> Result<Purged, PurgeError> {
        let now = (self.clock)().max(self.state.last_ts);
        let (state, purged, event) = match self.scrub(id, now) {
            Ok(scrubbed) => scrubbed,
            Err(error) if writer::concerns_one_change(&error) => {
                tracing::error!(%error, %id, "a task cannot be purged");
                return Err(PurgeError::Unreadable);
            }
            Err(error) => {
                self.survive_or_end(&error);
                return Err(PurgeError::Unavailable);
            }
        };
        self.state = state;
        self.shared.head.store(state.head, Ordering::Release);
        event.into_iter().for_each(publish);
        self.rewrite_file()?;
        Ok(Purged { left: session::set_aside(&self.dir), ..purged })
    }

    fn scrub(
        &mut self,
        id: Uuid,
        now: Timestamp,
    ) -> rusqlite::Result<(LogState, Purged, Option<LogEvent>)> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut purged = Purged { events: events(&tx, id)?, ..Purged::default() };
        purged.answers = answers(&tx, id)?;
        forget_samples(&tx)?;
        let (state, event) = delete(&tx, id, now, self.state, &self.shared)?;
        purged.deleted = event.is_some();
        if state != self.state {
            schema::save_state(&tx, state)?;
        }
        tx.commit()?;
        Ok((state, purged, event))
    }

    /// Copies what is in use into new pages, so that nothing is left in those that are not.
    fn rewrite_file(&mut self) -> Result<(), PurgeError> {
        // While pages change places the file alone says nothing: the journal is to be trusted.
        let unnamed = session::end(&self.dir).and_then(|()| File::open(&self.dir)?.sync_all());
        if let Err(error) = unnamed {
            tracing::error!(%error, "the file of the store is not written anew");
            return Err(PurgeError::File);
        }
        // The copy is as large as the file, which is too much for memory.
        let rewritten = self.conn.execute_batch("PRAGMA temp_store = FILE; VACUUM");
        let restored = self.conn.execute_batch("PRAGMA temp_store = MEMORY");
        if let Err(error) = rewritten.and(restored) {
            tracing::error!(%error, "the file of the store is not written anew");
            if !has_no_room_for_a_copy(&error) {
                self.survive_or_end(&error);
            }
            return Err(PurgeError::File);
        }
        // Most of it now, while readers may still be at work.
        let _ = self.conn.execute_batch("PRAGMA wal_checkpoint(PASSIVE)");
        Ok(())
    }

    /// Empties the journal and cuts it off; nobody may be reading.
    pub(super) fn cut_journal(&mut self) -> Result<(), PurgeError> {
        let named = schema::last_incarnation(&self.conn)
            .map_err(Into::into)
            .and_then(|id| session::begin(&self.dir, &self.conn, id));
        match named {
            Ok(session::Begun::Named) => Ok(()),
            Ok(session::Begun::Busy) => Err(PurgeError::Journal),
            Err(error) => {
                tracing::error!(%error, "the journal could not be cut off");
                Err(PurgeError::Journal)
            }
        }
    }
}

/// The disk, or where temporary files go, does not take a second copy. The file is as it was.
fn has_no_room_for_a_copy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::DiskFull))
        || code == Some(ffi::SQLITE_IOERR_GETTEMPPATH)
}

/// Scrubs the events of a task, and says how many had text.
fn events(conn: &Connection, id: Uuid) -> rusqlite::Result<usize> {
    let mut list = conn.prepare("SELECT seq FROM event WHERE task_id = ?1")?;
    let seqs: Vec<i64> =
        list.query_map([id.as_bytes()], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut read = conn.prepare("SELECT envelope FROM event WHERE seq = ?1")?;
    let mut write = conn.prepare(
        "UPDATE event SET envelope = ?2, \
         checksum = row_checksum(seq, repository, kind, ts, task_id, ?2) WHERE seq = ?1",
    )?;
    let mut scrubbed = 0;
    for seq in seqs {
        let before: String = read.query_row([seq], |row| row.get(0))?;
        let after = envelope(&before)?;
        if after != before {
            write.execute((seq, after))?;
            scrubbed += 1;
        }
    }
    Ok(scrubbed)
}

fn envelope(text: &str) -> rusqlite::Result<String> {
    let unreadable =
        |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error);
    let frame = ServerFrame::decode(text).map_err(|error| unreadable(error.into()))?;
    let ServerMessage::Task(event) = frame.message else {
        return Err(unreadable("it is no event of a task".into()));
    };
    let message = ServerMessage::Task(scrub::event(event));
    Ok(ServerFrame { message, ..frame }.encode())
}

/// Scrubs a task in the answers that are kept, and says how many had it. They stay: the requests must
/// not be carried out again.
fn answers(conn: &Connection, id: Uuid) -> rusqlite::Result<usize> {
    let mut list =
        conn.prepare("SELECT rowid, changes FROM answer WHERE instr(changes, ?1) > 0")?;
    let mut write = conn.prepare(
        "UPDATE answer SET changes = ?2, \
         checksum = row_checksum(principal, key, fingerprint, ts, ?2) WHERE rowid = ?1",
    )?;
    let mut rows = list.query([id.to_string()])?;
    let mut scrubbed = Vec::new();
    while let Some(row) = rows.next()? {
        let before = row.get_ref(1)?.as_str()?;
        let changes: Vec<Changed> = schema::parsed(row, 1, |text| serde_json::from_str(text))?;
        let changes = changes.into_iter().map(|change| {
            if change.task.id != id {
                return Ok(change);
            }
            let task = scrub::task((*change.task).clone());
            let json = rows::json(&task)?;
            Ok(Changed { task: EncodedTask::new(task, json), ..change })
        });
        let changes = changes.collect::<rusqlite::Result<Vec<_>>>()?;
        let after = serde_json::to_string(&changes)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        if after != before {
            scrubbed.push((row.get::<_, i64>(0)?, after));
        }
    }
    // A row that is changed while rows are looked for may be found twice.
    for change in &scrubbed {
        write.execute((change.0, &change.1))?;
    }
    Ok(scrubbed.len())
}

/// SQLite keeps samples of what is in its indexes, names of people among them. It takes new ones.
fn forget_samples(conn: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat4'";
    match conn.query_row(sql, [], |_| Ok(())).optional()? {
        Some(()) => conn.execute_batch("DELETE FROM sqlite_stat4"),
        None => Ok(()),
    }
}

/// Deletes the task, if there is one, by an event that has no text either.
fn delete(
    conn: &Connection,
    id: Uuid,
    now: Timestamp,
    state: LogState,
    shared: &Shared,
) -> rusqlite::Result<(LogState, Option<LogEvent>)> {
    let Some(task) = schema::load_task(conn, id)? else { return Ok((state, None)) };
    let event = TaskEvent::deleted(scrub::task(task), MARK);
    let seq = state.head + 1;
    let cursor = shared.incarnations.cursor(seq);
    let envelope = Envelope::new(ServerMessage::Task(event.clone())).at(now).cursor(cursor);
    let event = rows::append(conn, &event, seq, now, &envelope.encode())?;
    Ok((LogState { head: seq, last_ts: now, ..state }, Some(event)))
}
