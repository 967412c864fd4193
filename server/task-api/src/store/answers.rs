//! Answers that are kept for requests that come again, in the transaction of their change.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use taskwatch_protocol::Timestamp;

use super::changed::Changed;
use super::retention::STEP;
use super::schema;
use crate::idempotency::{Fingerprint, Kept, Once, kept_since};

/// What the key of a request was used for last.
pub(super) fn load(conn: &Connection, once: &Once) -> rusqlite::Result<Option<Kept<Vec<Changed>>>> {
    conn.prepare_cached(
        "SELECT fingerprint, ts, changes FROM answer WHERE principal = ?1 AND key = ?2",
    )?
    .query_row((&once.principal, once.key.as_str()), |row| {
        Ok(Kept {
            fingerprint: Fingerprint(row.get(0)?),
            at: Timestamp::from_unix_millis(row.get(1)?),
            answer: schema::parsed(row, 2, |text| serde_json::from_str(text))?,
        })
    })
    .optional()
}

/// Keeps an answer; one that had its day makes way.
pub(super) fn save(
    conn: &Connection,
    once: &Once,
    now: Timestamp,
    changes: &[Changed],
) -> rusqlite::Result<()> {
    let changes = serde_json::to_string(changes)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    conn.prepare_cached(
        "INSERT OR REPLACE INTO answer (principal, key, fingerprint, ts, changes, checksum) \
         VALUES (?1, ?2, ?3, ?4, ?5, row_checksum(?1, ?2, ?3, ?4, ?5))",
    )?
    .execute((
        &once.principal,
        once.key.as_str(),
        once.fingerprint.0,
        now.unix_millis(),
        changes,
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
