//! The tables, how they came to be, and the rows that more than one side reads.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};
use taskwatch_protocol::{Incarnation, Seq, Task, Timestamp};
use taskwatch_server::Incarnations;
use uuid::Uuid;

use super::OpenError;

/// What turns one version of the schema into the next; `user_version` counts those applied.
/// Never edit an entry that was released: append one.
const MIGRATIONS: &[&str] = &[TASKS_AND_LOG, ANSWERS, BATCHES, ORDERS, HISTORY];

const TASKS_AND_LOG: &str = "
    CREATE TABLE task (
        id          TEXT PRIMARY KEY NOT NULL,
        repository  TEXT NOT NULL,
        title       TEXT NOT NULL,
        status      TEXT NOT NULL,
        priority    TEXT NOT NULL,
        assignee    TEXT,
        tags        TEXT NOT NULL,
        created_at  INTEGER NOT NULL,
        updated_at  INTEGER NOT NULL,
        version     INTEGER NOT NULL,
        description TEXT NOT NULL
    ) STRICT;
    CREATE INDEX task_by_repository ON task (repository, id);

    -- The log. `envelope` is what goes on the wire, byte for byte.
    CREATE TABLE event (
        seq        INTEGER PRIMARY KEY NOT NULL,
        repository TEXT NOT NULL,
        kind       TEXT NOT NULL,
        ts         INTEGER NOT NULL,
        envelope   TEXT NOT NULL
    ) STRICT;

    -- One row. `head` is the last number given out and survives an empty log; every event after
    -- `floor` is kept; `last_ts` is the time of event `head`.
    CREATE TABLE state (
        id      INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
        head    INTEGER NOT NULL,
        floor   INTEGER NOT NULL,
        last_ts INTEGER NOT NULL
    ) STRICT;
    INSERT INTO state VALUES (1, 0, 0, 0);

    -- One row for each start of the log: its random id (bits, hence the sign) and the first
    -- number it could give out.
    CREATE TABLE incarnation (
        ordinal INTEGER PRIMARY KEY NOT NULL,
        id      INTEGER NOT NULL,
        first   INTEGER NOT NULL
    ) STRICT;
";

const ANSWERS: &str = "
    -- Answers to requests that bring an `Idempotency-Key`, for when they come again. `ts` is the
    -- time of the log; `task` is the answer's body.
    CREATE TABLE answer (
        principal   TEXT NOT NULL,
        key         TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        ts          INTEGER NOT NULL,
        cursor      TEXT NOT NULL,
        task        TEXT NOT NULL,
        PRIMARY KEY (principal, key)
    ) STRICT;
    CREATE INDEX answer_by_time ON answer (ts);
";

const BATCHES: &str = "
    -- A request may make several changes: `changes` is a list of what the store answered for each.
    UPDATE answer SET task = json_array(json_object('task', json(task), 'cursor', cursor));
    ALTER TABLE answer DROP COLUMN cursor;
    ALTER TABLE answer RENAME COLUMN task TO changes;
";

const ORDERS: &str = "
    -- `seq` is the number of the task's last event, or 0 if that is no longer kept. A new table,
    -- since a column behind a long description is slow to read.
    CREATE TEMP TABLE last_event AS
        SELECT json_extract(envelope, '$.data.task_id') AS id, max(seq) AS seq FROM event GROUP BY 1;
    CREATE INDEX temp.last_event_by_id ON last_event (id);
    ALTER TABLE task RENAME TO old_task;
    CREATE TABLE task (
        id          TEXT PRIMARY KEY NOT NULL,
        seq         INTEGER NOT NULL,
        repository  TEXT NOT NULL,
        title       TEXT NOT NULL,
        status      TEXT NOT NULL,
        priority    TEXT NOT NULL,
        assignee    TEXT,
        tags        TEXT NOT NULL,
        created_at  INTEGER NOT NULL,
        updated_at  INTEGER NOT NULL,
        version     INTEGER NOT NULL,
        description TEXT NOT NULL
    ) STRICT;
    INSERT INTO task
        SELECT id, coalesce((SELECT seq FROM last_event WHERE last_event.id = old_task.id), 0),
               repository, title, status, priority, assignee, tags, created_at, updated_at, version,
               description
        FROM old_task;
    DROP TABLE old_task;
    DROP TABLE last_event;
    CREATE INDEX task_by_repository ON task (repository, id);
    -- The orders of a list.
    CREATE INDEX task_by_creation ON task (created_at, id);
    CREATE INDEX task_by_update ON task (updated_at, id);
    CREATE INDEX task_by_priority ON task
        (CASE priority WHEN 'high' THEN 3 WHEN 'medium' THEN 2 ELSE 1 END, id);
    -- What few tasks may have in common.
    CREATE INDEX task_by_status ON task (status);
    CREATE INDEX task_by_assignee ON task (assignee) WHERE assignee IS NOT NULL;
";

const HISTORY: &str = "
    CREATE INDEX event_by_task ON event (json_extract(envelope, '$.data.task_id'), seq);
";

/// The row of `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogState {
    pub(super) head: Seq,
    pub(super) floor: Seq,
    pub(super) last_ts: Timestamp,
}

/// Brings the schema up to date.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), OpenError> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: usize = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let pending =
        MIGRATIONS.get(found..).ok_or(OpenError::NewerSchema { found, known: MIGRATIONS.len() })?;
    for migration in pending {
        tx.execute_batch(migration)?;
    }
    tx.pragma_update(None, "user_version", MIGRATIONS.len())?;
    Ok(tx.commit()?)
}

/// Writes down that the log starts once more, and returns all its starts.
pub(super) fn begin_incarnation(
    conn: &mut Connection,
    id: Incarnation,
) -> rusqlite::Result<Incarnations> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let head = load_state(&tx)?.head;
    tx.execute(
        "INSERT INTO incarnation (id, first) VALUES (?1, ?2)",
        (id.0.cast_signed(), head + 1),
    )?;
    let starts = tx
        .prepare("SELECT id, first FROM incarnation ORDER BY ordinal")?
        .query_map([], |row| Ok((Incarnation(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    tx.commit()?;
    Ok(Incarnations::new(starts))
}

/// The id of the log's last start.
pub(super) fn last_incarnation(conn: &Connection) -> rusqlite::Result<Incarnation> {
    let sql = "SELECT id FROM incarnation ORDER BY ordinal DESC LIMIT 1";
    conn.query_row(sql, [], |row| Ok(Incarnation(row.get::<_, i64>(0)?.cast_unsigned())))
}

pub(super) fn load_state(conn: &Connection) -> rusqlite::Result<LogState> {
    conn.prepare_cached("SELECT head, floor, last_ts FROM state")?.query_row([], |row| {
        let last_ts = Timestamp::from_unix_millis(row.get(2)?);
        Ok(LogState { head: row.get(0)?, floor: row.get(1)?, last_ts })
    })
}

pub(super) fn save_state(conn: &Connection, state: LogState) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE state SET head = ?1, floor = ?2, last_ts = ?3")?.execute((
        state.head,
        state.floor,
        state.last_ts.unix_millis(),
    ))?;
    Ok(())
}

/// The columns of [`task_from_row`].
pub(super) const TASK_COLUMNS: &str = "id, repository, title, description, status, priority, \
     assignee, tags, created_at, updated_at, version";

pub(super) fn load_task(conn: &Connection, id: Uuid) -> rusqlite::Result<Option<Task>> {
    conn.prepare_cached(&format!("SELECT {TASK_COLUMNS} FROM task WHERE id = ?1"))?
        .query_row([id.to_string()], task_from_row)
        .optional()
}

pub(super) fn task_from_row(row: &Row<'_>) -> rusqlite::Result<Task> {
    Ok(Task {
        id: parsed(row, 0, |text| text.parse::<Uuid>())?,
        repository: parsed(row, 1, str::parse)?,
        title: row.get(2)?,
        description: row.get(3)?,
        status: row.get_ref(4)?.as_str()?.into(),
        priority: row.get_ref(5)?.as_str()?.into(),
        assignee: row.get(6)?,
        tags: parsed(row, 7, |text| serde_json::from_str(text))?,
        created_at: Timestamp::from_unix_millis(row.get(8)?),
        updated_at: Timestamp::from_unix_millis(row.get(9)?),
        version: row.get(10)?,
    })
}

/// A column whose text stands for something else.
pub(super) fn parsed<T, E>(
    row: &Row<'_>,
    index: usize,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> rusqlite::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    parse(row.get_ref(index)?.as_str()?).map_err(|problem| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::new(problem),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_gets_every_migration_and_an_old_one_keeps_its_rows() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap();
        let state = LogState { head: 9, floor: 3, last_ts: Timestamp::from_unix_millis(5) };
        save_state(&conn, state).unwrap();
        migrate(&mut conn).unwrap();
        assert_eq!(load_state(&conn).unwrap(), state);
    }

    #[test]
    fn a_file_of_version_1_keeps_its_tasks_and_its_log() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TASKS_AND_LOG).unwrap();
        conn.execute_batch(
            "PRAGMA user_version = 1;
             INSERT INTO incarnation VALUES (1, 255, 1);
             INSERT INTO task VALUES ('00000000-0000-0000-0000-000000000007', 'acme/api', 'One',
                 'pending', 'low', NULL, '[\"a\"]', 5, 6, 2, 'Words');
             INSERT INTO event VALUES (8, 'acme/api', 'created', 5, '{}'),
                                      (9, 'acme/api', 'updated', 6, '{}');
             UPDATE state SET head = 9, floor = 7, last_ts = 6;",
        )
        .unwrap();

        migrate(&mut conn).unwrap();

        let version: usize = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, MIGRATIONS.len());
        let last_ts = Timestamp::from_unix_millis(6);
        assert_eq!(load_state(&conn).unwrap(), LogState { head: 9, floor: 7, last_ts });
        let task = load_task(&conn, Uuid::from_u128(7)).unwrap().unwrap();
        assert_eq!(
            (task.title.as_str(), task.version, &task.tags[..]),
            ("One", 2, &["a".into()][..])
        );
        let count = |table| {
            let sql = format!("SELECT count(*) FROM {table}");
            conn.query_row(&sql, [], |row| row.get::<_, u64>(0)).unwrap()
        };
        assert_eq!((count("event"), count("answer")), (2, 0));
        assert_eq!(last_incarnation(&conn).unwrap(), Incarnation(255));
    }

    #[test]
    fn a_file_of_version_2_gets_what_lists_histories_and_batches_need() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TASKS_AND_LOG).unwrap();
        conn.execute_batch(ANSWERS).unwrap();
        conn.execute_batch(
            "PRAGMA user_version = 2;
             INSERT INTO task VALUES ('a', 'acme/api', 'One', 'pending', 'low', NULL, '[]', 5, 6, 2, ''),
                                     ('b', 'acme/api', 'Two', 'pending', 'low', NULL, '[]', 5, 6, 2, '');
             INSERT INTO event VALUES (8, 'acme/api', 'created', 5, '{\"data\":{\"task_id\":\"a\"}}'),
                                      (9, 'acme/api', 'updated', 6, '{\"data\":{\"task_id\":\"a\"}}');
             INSERT INTO answer VALUES ('api', 'k', x'00', 5, 'c1-x-9', '{\"id\":\"ä\",\"version\":18446744073709551615}');",
        )
        .unwrap();

        migrate(&mut conn).unwrap();

        let seq = |id: &str| -> Seq {
            conn.query_row("SELECT seq FROM task WHERE id = ?1", [id], |row| row.get(0)).unwrap()
        };
        assert_eq!((seq("a"), seq("b")), (9, 0));
        let changes: String =
            conn.query_row("SELECT changes FROM answer", [], |row| row.get(0)).unwrap();
        let task = r#"{"id":"ä","version":18446744073709551615}"#;
        assert_eq!(changes, format!(r#"[{{"task":{task},"cursor":"c1-x-9"}}]"#));
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.pragma_update(None, "user_version", MIGRATIONS.len() + 1).unwrap();
        let problem = migrate(&mut conn).unwrap_err();
        assert!(matches!(problem, OpenError::NewerSchema { .. }), "{problem}");
    }

    #[test]
    fn an_incarnation_has_64_bits() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap();
        let lives = begin_incarnation(&mut conn, Incarnation(u64::MAX)).unwrap();
        assert_eq!(lives.cursor(0).as_str(), "c1-ffffffffffffffff-0");
    }
}
