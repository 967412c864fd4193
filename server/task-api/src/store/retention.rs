//! Which events are old enough to go.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use taskwatch_protocol::{Seq, Timestamp};

use super::schema::{self, LogState};
use crate::settings::Retention;

/// Events deleted in one turn.
pub(super) const STEP: u64 = 500;

/// Deletes at most [`STEP`] events, and moves the floor with them. Returns the state then.
///
/// While changes come in, only full steps are worth a commit of their own; so at most a step more
/// than configured is kept. When `idle`, everything that is old goes.
pub(super) fn trim(
    conn: &mut Connection,
    state: LogState,
    retention: Retention,
    now: Timestamp,
    idle: bool,
) -> rusqlite::Result<LogState> {
    let by_count = state.head.saturating_sub(retention.events);
    let by_age = expired(conn, state, retention, now, idle)?;
    let floor = by_count.max(by_age).min(state.floor + STEP);
    let least = if idle { 1 } else { STEP };
    if floor < state.floor + least {
        return Ok(state);
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let floor_ts = tx
        .prepare_cached("SELECT ts FROM event WHERE seq <= ?1 ORDER BY seq DESC LIMIT 1")?
        .query_row([floor], |row| row.get(0))
        .optional()?;
    let floor_ts = floor_ts.map_or(state.floor_ts, Timestamp::from_unix_millis);
    let state = LogState { floor, floor_ts, ..state };
    schema::save_state(&tx, state)?;
    tx.prepare_cached("DELETE FROM event WHERE seq <= ?1")?.execute([floor])?;
    tx.commit()?;
    Ok(state)
}

/// The last event of the next step that is too old, or the floor. Times never decrease along the
/// log (I9), so everything before it is too old as well.
fn expired(
    conn: &Connection,
    state: LogState,
    retention: Retention,
    now: Timestamp,
    idle: bool,
) -> rusqlite::Result<Seq> {
    let age = i64::try_from(retention.age.as_millis()).unwrap_or(i64::MAX);
    let before = now.unix_millis().saturating_sub(age);
    let (from, upto) = (state.floor + if idle { 1 } else { STEP }, state.floor + STEP);
    let last = conn
        .prepare_cached(
            "SELECT seq FROM event WHERE seq BETWEEN ?1 AND ?2 AND ts < ?3 \
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row((from, upto, before), |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(state.floor))
}
