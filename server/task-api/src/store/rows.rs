//! The rows of one change: the task, its event, and the answer that is kept.

use rusqlite::{Connection, Savepoint};
use taskwatch_protocol::{EventKind, ServerFrame, ServerMessage, TaskChange, TaskEvent, Timestamp};
use taskwatch_server::LogEvent;

use super::schema::LogState;
use super::writer::{Changed, Job};
use super::{ChangeError, Shared, answers, schema};
use crate::change::{self, Decision, Refusal};

/// An event on the wire, at most.
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// What one change has written.
pub(super) struct Written {
    pub(super) changed: Changed,
    pub(super) event: Option<LogEvent>,
    pub(super) state: LogState,
}

pub(super) enum WriteError {
    Refused(ChangeError),
    Sql(rusqlite::Error),
}

impl From<Refusal> for WriteError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Makes the change of a job, unless it was made before; then the answer is that of then.
pub(super) fn write_once(
    savepoint: &Savepoint<'_>,
    job: &Job,
    now: Timestamp,
    state: LogState,
    shared: &Shared,
) -> Result<Written, WriteError> {
    let Some(once) = &job.once else {
        return write_change(savepoint, job, now, state, shared);
    };
    // Before the change is looked at: its If-Match may have failed by now, its task may be gone.
    if let Some(changed) = once.recall(answers::load(savepoint, once)?, now)? {
        change::may_write(&job.principal, &changed.task.repository)?;
        return Ok(Written { changed, event: None, state });
    }
    let written = write_change(savepoint, job, now, state, shared)?;
    answers::save(savepoint, once, now, &written.changed)?;
    Ok(written)
}

/// Appends the event of one change to the log and applies it to the tasks.
fn write_change(
    savepoint: &Savepoint<'_>,
    Job { principal, change, .. }: &Job,
    now: Timestamp,
    state: LogState,
    shared: &Shared,
) -> Result<Written, WriteError> {
    let before = schema::load_task(savepoint, change.id())?;
    let event = match change.decide(principal, before, now)? {
        Decision::Unchanged(task) => {
            let cursor = shared.incarnations.cursor(state.head);
            return Ok(Written { changed: Changed { task, cursor }, event: None, state });
        }
        Decision::Event(event) => event,
    };
    let state = LogState { head: state.head + 1, last_ts: now, ..state };
    let cursor = shared.incarnations.cursor(state.head);
    let (kind, repository, task) = (event.kind(), event.repository.clone(), event.task().clone());
    apply(savepoint, &event)?;
    let frame = ServerFrame::new(ServerMessage::Task(event)).at(now).cursor(cursor.clone());
    let envelope = frame.encode();
    // A deletion may be longer by the digits of its cursor: a task can always be deleted.
    if envelope.len() > MAX_EVENT_BYTES && kind != EventKind::Deleted {
        return Err(WriteError::Refused(ChangeError::TooLarge { bytes: envelope.len() }));
    }
    savepoint
        .prepare_cached(
            "INSERT INTO event (seq, repository, kind, ts, envelope) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((state.head, repository.as_str(), kind.as_str(), now.unix_millis(), &envelope))?;
    let event = LogEvent::new(state.head, repository, kind, &envelope);
    Ok(Written { changed: Changed { task, cursor }, event: Some(event), state })
}

/// The tasks as they are after an event.
fn apply(conn: &Connection, event: &TaskEvent) -> rusqlite::Result<()> {
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
                           created_at, updated_at, version) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
         ON CONFLICT (id) DO UPDATE SET title = ?3, description = ?4, status = ?5, priority = ?6, \
                           assignee = ?7, tags = ?8, updated_at = ?10, version = ?11",
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
    ))?;
    Ok(())
}
