//! The rows of one change: the task, its event, and the answer that is kept.

use rusqlite::Connection;
use serde_json::value::RawValue;
use taskwatch_protocol::{Envelope, EventKind, Seq, Task, TaskChange, TaskEvent, Timestamp};
use taskwatch_server::LogEvent;

use super::changed::{Changed, EncodedTask};
use super::requests::Job;
use super::schema::LogState;
use super::{BatchError, ChangeError, Shared, answers, schema};
use crate::change::{self, Caller, Change, Decision, Refusal};

/// An event on the wire, at most.
const MAX_EVENT_BYTES: usize = 256 * 1024;
/// All that the changes of one job put on the wire, at most: a small patch makes a large event of a
/// large task.
const MAX_JOB_BYTES: usize = 4 * 1024 * 1024;

/// What the changes of one job have written.
pub(super) struct Written {
    pub(super) changes: Vec<Changed>,
    pub(super) events: Vec<LogEvent>,
    pub(super) state: LogState,
    bytes: usize,
}

pub(super) enum WriteError {
    Refused(BatchError),
    Sql { error: rusqlite::Error, index: Option<usize> },
}

impl WriteError {
    /// The error of one of the changes.
    fn of(self, change: usize) -> Self {
        let index = Some(change);
        match self {
            Self::Refused(BatchError { error, .. }) => Self::Refused(BatchError { error, index }),
            Self::Sql { error, .. } => Self::Sql { error, index },
        }
    }
}

impl From<ChangeError> for WriteError {
    fn from(error: ChangeError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<Refusal> for WriteError {
    fn from(refusal: Refusal) -> Self {
        ChangeError::from(refusal).into()
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql { error, index: None }
    }
}

/// Makes the changes of a job, unless they were made before; then the answers are those of then.
///
/// Each change is refused, if it is, before its rows are written.
pub(super) fn write_once(
    conn: &Connection,
    job: &Job,
    now: Timestamp,
    state: LogState,
    shared: &Shared,
) -> Result<Written, WriteError> {
    let mut written = Written { changes: vec![], events: vec![], state, bytes: 0 };
    if let Some(once) = &job.once {
        // Before the changes are looked at: an If-Match may have failed by now, a task may be gone.
        if let Some(changes) = once.recall(answers::load(conn, once)?, now)? {
            for (index, Changed { task, .. }) in changes.iter().enumerate() {
                change::may_write(&job.caller.principal, &task.repository)
                    .map_err(|refusal| WriteError::from(refusal).of(index))?;
            }
            return Ok(Written { changes, ..written });
        }
    }
    for (index, change) in job.changes.iter().enumerate() {
        write_change(conn, &job.caller, change, now, &mut written, shared)
            .map_err(|error| error.of(index))?;
    }
    if let Some(once) = &job.once {
        answers::save(conn, once, now, &written.changes)?;
    }
    Ok(written)
}

/// Appends the event of one change to the log and applies it to the tasks.
fn write_change(
    conn: &Connection,
    caller: &Caller,
    change: &Change,
    now: Timestamp,
    written: &mut Written,
    shared: &Shared,
) -> Result<(), WriteError> {
    let Written { changes, events, state, bytes } = written;
    let before = match change {
        // Its id was drawn for it.
        Change::Create { .. } => None,
        Change::Update { id, .. } | Change::Delete { id, .. } => schema::load_task(conn, *id)?,
    };
    let event = match change.decide(caller, before, now)? {
        Decision::Unchanged(task) => {
            let cursor = shared.incarnations.cursor(state.head);
            *bytes += task.title.len() + task.description.len();
            let json = json(&task)?;
            changes.push(Changed { task: EncodedTask::new(task, json), cursor });
            return Ok(());
        }
        Decision::Event(event) => event,
    };
    let (seq, kind) = (state.head + 1, event.kind());
    let cursor = shared.incarnations.cursor(seq);
    let json = json(event.task())?;
    let envelope = Envelope::new(&event).at(now).cursor(cursor.clone());
    let envelope = envelope.traceparent(caller.trace.clone()).encode_around(&json);
    // A deletion may be longer by the digits of its cursor: a task can always be deleted.
    if envelope.len() > MAX_EVENT_BYTES && kind != EventKind::Deleted {
        return Err(ChangeError::TooLarge { bytes: envelope.len() }.into());
    }
    *bytes += envelope.len();
    if *bytes > MAX_JOB_BYTES {
        return Err(ChangeError::BatchTooLarge.into());
    }
    *state = LogState { head: seq, last_ts: now, ..*state };
    events.push(append(conn, &event, seq, now, &envelope)?);
    changes.push(Changed { task: EncodedTask::new(event.into_task(), json), cursor });
    Ok(())
}

/// Writes an event into the log, and what it does to its task.
pub(super) fn append(
    conn: &Connection,
    event: &TaskEvent,
    seq: Seq,
    now: Timestamp,
    envelope: &str,
) -> rusqlite::Result<LogEvent> {
    let kind = event.kind();
    apply(conn, event, seq)?;
    conn.prepare_cached(
        "INSERT INTO event (seq, repository, kind, ts, task_id, envelope, checksum) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, row_checksum(?1, ?2, ?3, ?4, ?5, ?6))",
    )?
    .execute((
        seq,
        event.repository.as_str(),
        kind.as_str(),
        now.unix_millis(),
        event.task_id.as_bytes(),
        envelope,
    ))?;
    Ok(LogEvent::new(seq, event.repository.clone(), kind, envelope))
}

pub(super) fn json(task: &Task) -> rusqlite::Result<Box<RawValue>> {
    serde_json::value::to_raw_value(task)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// The tasks as they are after an event.
fn apply(conn: &Connection, event: &TaskEvent, seq: Seq) -> rusqlite::Result<()> {
    let task = match &event.change {
        TaskChange::Created { task } | TaskChange::Updated { task, .. } => task,
        TaskChange::Deleted { previous } => {
            conn.prepare_cached("DELETE FROM task WHERE id = ?1")?
                .execute([previous.id.to_string()])?;
            return Ok(());
        }
    };
    conn.prepare_cached(
        "INSERT INTO task (id, repository, title, description, status, priority, assignee, tags, \
                           created_at, updated_at, version, seq, checksum) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
                 row_checksum(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)) \
         ON CONFLICT (id) DO UPDATE SET title = ?3, description = ?4, status = ?5, priority = ?6, \
                           assignee = ?7, tags = ?8, updated_at = ?10, version = ?11, seq = ?12, \
                           checksum = excluded.checksum",
    )?
    .execute((
        task.id.to_string(),
        task.repository.as_str(),
        &task.title,
        &task.description,
        task.status.as_str(),
        task.priority.as_str(),
        task.assignee.as_deref(),
        serde_json::Value::from(task.tags.clone()).to_string(),
        task.created_at.unix_millis(),
        task.updated_at.unix_millis(),
        task.version,
        seq,
    ))?;
    Ok(())
}
