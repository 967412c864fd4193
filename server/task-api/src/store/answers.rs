//! Answers that are kept for requests that come again, in the transaction of their change.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use taskwatch_protocol::{Cursor, Timestamp};

use super::retention::STEP;
use super::schema;
use super::writer::Changed;
use crate::idempotency::{Fingerprint, Kept, Once, kept_since};

/// What the key of a request was used for last.
pub(super) fn load(conn: &Connection, once: &Once) -> rusqlite::Result<Option<Kept<Changed>>> {
    conn.prepare_cached(
        "SELECT fingerprint, ts, cursor, task FROM answer WHERE principal = ?1 AND key = ?2",
    )?
    .query_row((&once.principal, once.key.as_str()), |row| {
        let cursor = Cursor::new(row.get::<_, String>(2)?);
        let task = schema::parsed(row, 3, |text| serde_json::from_str(text))?;
        Ok(Kept {
            fingerprint: Fingerprint(row.get(0)?),
            at: Timestamp::from_unix_millis(row.get(1)?),
            answer: Changed { task, cursor },
        })
    })
    .optional()
}

/// Keeps an answer; one that had its day makes way.
pub(super) fn save(
    conn: &Connection,
    once: &Once,
    now: Timestamp,
    changed: &Changed,
) -> rusqlite::Result<()> {
    let task = serde_json::to_string(&changed.task)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    conn.prepare_cached(
        "INSERT OR REPLACE INTO answer (principal, key, fingerprint, ts, cursor, task) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((
        &once.principal,
        once.key.as_str(),
        once.fingerprint.0,
        now.unix_millis(),
        changed.cursor.as_str(),
        task,
    ))?;
    Ok(())
}

/// Deletes at most [`STEP`] answers that had their day, and returns how many. As with events, only
/// full steps are worth a commit while changes come in; when `idle`, all of them go.
pub(super) fn trim(conn: &mut Connection, now: Timestamp, idle: bool) -> rusqlite::Result<usize> {
    let before = kept_since(now).unix_millis();
    let least = if idle { 1 } else { STEP };
    let enough = conn
        .prepare_cached("SELECT 1 FROM answer WHERE ts < ?1 ORDER BY ts LIMIT 1 OFFSET ?2")?
        .exists((before, least - 1))?;
    if !enough {
        return Ok(0);
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let trimmed = tx
        .prepare_cached(
            "DELETE FROM answer WHERE rowid IN \
             (SELECT rowid FROM answer WHERE ts < ?1 ORDER BY ts LIMIT ?2)",
        )?
        .execute((before, STEP))?;
    tx.commit()?;
    Ok(trimmed)
}
