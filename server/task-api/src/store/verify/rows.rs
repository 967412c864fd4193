//! Whether events, tasks and answers agree.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row};
use taskwatch_protocol::{
    EventKind, Seq, ServerFrame, ServerMessage, Task, TaskChange, TaskEvent, Timestamp,
};
use uuid::Uuid;

use super::super::changed::Changed;
use super::super::schema::{self, TASK_COLUMNS};
use super::{Log, Report};

/// The last event of a task.
struct Last {
    seq: Seq,
    version: u64,
    deleted: bool,
}

type LastEvents = HashMap<Uuid, Last>;

/// Compares every row with those that must agree with it.
pub(super) fn check(tx: &Connection, log: &Log, report: &mut Report) -> rusqlite::Result<()> {
    let last = events(tx, log, report)?;
    tasks(tx, log, last, report)?;
    answers(tx, report)
}

/// Every number from the floor to the head is there, with an envelope that says the same as its row.
fn events(tx: &Connection, log: &Log, report: &mut Report) -> rusqlite::Result<LastEvents> {
    let mut last = LastEvents::new();
    let (mut before, mut time) = (log.state.floor, i64::MIN);
    let mut rows =
        tx.prepare("SELECT seq, repository, kind, ts, task_id, envelope FROM event ORDER BY seq")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let seq: Seq = row.get(0)?;
        report.contents.events += 1;
        if seq != before + 1 {
            report.damage(format!("table event: {seq} follows {before}"));
        }
        before = seq;
        let ts = row.get(3)?;
        if ts < time {
            report.damage(format!("event {seq}: its time is before that of the event before it"));
        }
        time = ts;
        match event(row, log, seq) {
            Ok(event) => follow(&mut last, seq, &event, report),
            Err(problem) => report.damage(format!("event {seq}: {problem}")),
        }
    }
    if before != log.state.head {
        report.damage(format!("table event: it ends at {before}, the head is {}", log.state.head));
    }
    if log.state.head > log.state.floor && time != log.state.last_ts.unix_millis() {
        report.damage("table state: the time is not that of the last event");
    }
    Ok(last)
}

/// The event of a row, if the row says the same.
fn event(row: &Row<'_>, log: &Log, seq: Seq) -> Result<TaskEvent, String> {
    let text = |index| -> Result<&str, String> {
        let value = row.get_ref(index).map_err(|error| error.to_string())?;
        value.as_str().map_err(|error| format!("its text cannot be read: {error}"))
    };
    let frame = ServerFrame::decode(text(5)?)
        .map_err(|error| format!("its envelope cannot be read: {error}"))?;
    let (Some(cursor), Some(timestamp)) = (&frame.cursor, frame.timestamp) else {
        return Err("its envelope has no position or no time".into());
    };
    let ServerMessage::Task(event) = frame.message else {
        return Err("its envelope is no task event".into());
    };
    let id: [u8; 16] = row.get(4).map_err(|error| error.to_string())?;
    let ts: i64 = row.get(3).map_err(|error| error.to_string())?;
    let kind = event.kind();
    let about = event.task();
    // After a deletion comes no version that a task has.
    let version = about.version + u64::from(kind == EventKind::Deleted);
    let agree = [
        ("position", log.incarnations.validate(cursor, log.state.head, 0) == Ok(seq)),
        ("repository", text(1)? == event.repository.as_str()),
        ("type", text(2)? == kind.as_str()),
        ("time", Timestamp::from_unix_millis(ts) == timestamp),
        ("task", id == *event.task_id.as_bytes()),
        ("task's id", about.id == event.task_id),
        ("task's repository", about.repository == event.repository),
        ("version", version == event.version && (kind == EventKind::Created) == (version == 1)),
    ];
    match agree.iter().find(|(_, agree)| !agree) {
        Some((what, _)) => Err(format!("its envelope and its row do not agree on the {what}")),
        None => Ok(event),
    }
}

/// The versions of a task have no holes, and nothing comes after its deletion.
fn follow(last: &mut LastEvents, seq: Seq, event: &TaskEvent, report: &mut Report) {
    let deleted = event.kind() == EventKind::Deleted;
    let next = Last { seq, version: event.version, deleted };
    let Some(before) = last.insert(event.task_id, next) else { return };
    if before.deleted || event.version != before.version + 1 {
        report.damage(format!(
            "event {seq}: version {} of task {} follows {}version {} in event {}",
            event.version,
            event.task_id,
            if before.deleted { "the deletion, " } else { "" },
            before.version,
            before.seq,
        ));
    }
}

/// Every task is as its last event says, if that is kept, and every event of a task leads to it.
fn tasks(
    tx: &Connection,
    log: &Log,
    mut last: LastEvents,
    report: &mut Report,
) -> rusqlite::Result<()> {
    let mut rows = tx.prepare(&format!("SELECT {TASK_COLUMNS}, seq, rowid FROM task"))?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        report.contents.tasks += 1;
        let (seq, number): (Seq, i64) = (row.get(11)?, row.get(12)?);
        let task = match schema::task_from_row(row) {
            Ok(task) => task,
            Err(error) => {
                report.damage(format!("table task, row {number}: it cannot be read: {error}"));
                continue;
            }
        };
        let kept = last.remove(&task.id);
        let agrees = match kept {
            Some(last) => !last.deleted && last.seq == seq && says(tx, seq, &task)?,
            None => seq <= log.state.floor,
        };
        if !agrees {
            report.damage(format!("task {}: it is not as its last event says", task.id));
        }
    }
    for (id, last) in last.iter().filter(|(_, last)| !last.deleted) {
        report.damage(format!("task {id}: it is not there, and event {} says it is", last.seq));
    }
    Ok(())
}

/// Whether an event says that the task is so.
fn says(tx: &Connection, seq: Seq, task: &Task) -> rusqlite::Result<bool> {
    let envelope: Option<String> = tx
        .prepare_cached("SELECT envelope FROM event WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    let frame = envelope.and_then(|envelope| ServerFrame::decode(&envelope).ok());
    let Some(ServerMessage::Task(event)) = frame.map(|frame| frame.message) else {
        return Ok(false);
    };
    Ok(match event.change {
        TaskChange::Created { task: after } | TaskChange::Updated { task: after, .. } => {
            *after == *task
        }
        TaskChange::Deleted { .. } => false,
    })
}

fn answers(tx: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut rows = tx.prepare("SELECT rowid, changes FROM answer")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        if serde_json::from_str::<Vec<Changed>>(row.get_ref(1)?.as_str()?).is_err() {
            report.damage(format!("table answer, row {number}: it cannot be read"));
        }
    }
    Ok(())
}
