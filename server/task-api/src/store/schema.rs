//! The tables, how they came to be, and the rows that more than one side reads.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};
use taskwatch_protocol::{Incarnation, Seq, Task, Timestamp};
use taskwatch_server::Incarnations;
use uuid::Uuid;

use super::{OpenError, checksum};

/// What turns one version of the schema into the next; `user_version` counts those applied.
/// Never edit an entry that was released: append one.
const MIGRATIONS: &[&str] = &[TASKS_AND_LOG, ANSWERS, BATCHES, HISTORY, ORDERS, GONE, CHECKSUMS];

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

const HISTORY: &str = "
    -- The log knows the task of each event, in 16 bytes. A new table, since a column behind a long
    -- envelope is slow to read.
    ALTER TABLE event RENAME TO old_event;
    CREATE TABLE event (
        seq        INTEGER PRIMARY KEY NOT NULL,
        repository TEXT NOT NULL,
        kind       TEXT NOT NULL,
        ts         INTEGER NOT NULL,
        task_id    BLOB NOT NULL,
        envelope   TEXT NOT NULL
    ) STRICT;
    INSERT INTO event
        SELECT seq, repository, kind, ts,
               unhex(replace(json_extract(envelope, '$.data.task_id'), '-', '')), envelope
        FROM old_event;
    DROP TABLE old_event;
    -- In the order of the numbers, by which rows are kept.
    CREATE INDEX event_by_task ON event (task_id);
";

const ORDERS: &str = "
    -- `seq` is the number of the task's last event, or 0 if that is no longer kept.
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
        SELECT id, coalesce((SELECT max(seq) FROM event
                             WHERE task_id = unhex(replace(old_task.id, '-', ''))), 0),
               repository, title, status, priority, assignee, tags, created_at, updated_at, version,
               description
        FROM old_task;
    DROP TABLE old_task;
    CREATE INDEX task_by_repository ON task (repository, id);
    -- The orders of a list.
    CREATE INDEX task_by_creation ON task (created_at, id);
    CREATE INDEX task_by_update ON task (updated_at, id);
    CREATE INDEX task_by_priority ON task
        (CASE priority WHEN 'high' THEN 3 WHEN 'medium' THEN 2 ELSE 1 END, id);
    -- What few tasks may have in common. A status is not that, and changes often.
    CREATE INDEX task_by_assignee ON task (assignee) WHERE assignee IS NOT NULL;
";

const GONE: &str = "
    -- The time of event `floor`. Where it was not noted, it was that of the oldest event at most.
    ALTER TABLE state ADD COLUMN floor_ts INTEGER NOT NULL DEFAULT 0;
    UPDATE state SET floor_ts = coalesce((SELECT ts FROM event ORDER BY seq LIMIT 1), last_ts);
";

const CHECKSUMS: &str = "
    -- Of the other columns, see `checksum.rs`. Events and answers of before have none: they are many,
    -- and go with the time.
    ALTER TABLE event ADD COLUMN checksum INTEGER;
    ALTER TABLE answer ADD COLUMN checksum INTEGER;
    ALTER TABLE task ADD COLUMN checksum INTEGER;
    UPDATE task SET checksum =
        row_checksum(id, repository, title, description, status, priority, assignee, tags, created_at,
                     updated_at, version, seq);
    ALTER TABLE state ADD COLUMN checksum INTEGER;
    UPDATE state SET checksum = row_checksum(head, floor, last_ts, floor_ts);
    ALTER TABLE incarnation ADD COLUMN checksum INTEGER;
    UPDATE incarnation SET checksum = row_checksum(id, first);
";

/// The row of `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogState {
    pub(super) head: Seq,
    pub(super) floor: Seq,
    pub(super) last_ts: Timestamp,
    /// When event `floor` happened, or later; without a meaning if there never was one.
    pub(super) floor_ts: Timestamp,
}

/// The version that this program writes.
pub(super) const KNOWN: usize = MIGRATIONS.len();

/// The version that a file says it has.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<usize> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings the schema up to date.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), OpenError> {
    checksum::register(conn)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&tx)?;
    let pending = MIGRATIONS.get(found..).ok_or(OpenError::NewerSchema { found, known: KNOWN })?;
    if found > 0 && !pending.is_empty() {
        tracing::warn!(
            from = found,
            to = KNOWN,
            "the store is brought to a new schema: this may take minutes"
        );
    }
    for migration in pending {
        tx.execute_batch(migration)?;
    }
    tx.pragma_update(None, "user_version", KNOWN)?;
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
        "INSERT INTO incarnation (id, first, checksum) VALUES (?1, ?2, row_checksum(?1, ?2))",
        (id.0.cast_signed(), head + 1),
    )?;
    let starts = load_starts(&tx)?;
    tx.commit()?;
    Ok(Incarnations::new(starts))
}

/// The starts of the log so far: their ids, and the first number each could give out.
pub(super) fn load_starts(conn: &Connection) -> rusqlite::Result<Vec<(Incarnation, Seq)>> {
    conn.prepare("SELECT id, first FROM incarnation ORDER BY ordinal")?
        .query_map([], |row| Ok((Incarnation(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?)))?
        .collect()
}

/// The id of the log's last start.
pub(super) fn last_incarnation(conn: &Connection) -> rusqlite::Result<Incarnation> {
    let sql = "SELECT id FROM incarnation ORDER BY ordinal DESC LIMIT 1";
    conn.query_row(sql, [], |row| Ok(Incarnation(row.get::<_, i64>(0)?.cast_unsigned())))
}

pub(super) fn load_state(conn: &Connection) -> rusqlite::Result<LogState> {
    conn.prepare_cached("SELECT head, floor, last_ts, floor_ts FROM state")?.query_row([], |row| {
        let [last_ts, floor_ts] = [row.get(2)?, row.get(3)?].map(Timestamp::from_unix_millis);
        Ok(LogState { head: row.get(0)?, floor: row.get(1)?, last_ts, floor_ts })
    })
}

pub(super) fn save_state(conn: &Connection, state: LogState) -> rusqlite::Result<()> {
    let sql = "UPDATE state SET head = ?1, floor = ?2, last_ts = ?3, floor_ts = ?4, \
               checksum = row_checksum(?1, ?2, ?3, ?4)";
    conn.prepare_cached(sql)?.execute((
        state.head,
        state.floor,
        state.last_ts.unix_millis(),
        state.floor_ts.unix_millis(),
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
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use taskwatch_protocol::{Cursor, Envelope, TaskEvent};

    use super::*;
    use crate::idempotency::{Fingerprint, IdempotencyKey, Once};

    /// Makes a file as `version` left it: a task that was made and changed, and one that was made.
    pub(in crate::store) fn fill_of_version(conn: &Connection, version: usize) {
        checksum::register(conn).unwrap();
        conn.execute_batch(MIGRATIONS[0]).unwrap();
        let task = |n: u128, version: u64| Task {
            id: Uuid::from_u128(n),
            repository: "acme/api".parse().unwrap(),
            title: format!("Title {version}"),
            description: "Words".into(),
            status: "pending".into(),
            priority: "low".into(),
            assignee: None,
            tags: vec!["a".into()],
            created_at: Timestamp::from_unix_millis(5),
            updated_at: Timestamp::from_unix_millis(5),
            version,
        };
        let (before, after) = (task(1, 1), task(1, 2));
        let events = [
            TaskEvent::created(before.clone(), "ana"),
            TaskEvent::updated(&before, after.clone(), "ana"),
            TaskEvent::created(task(2, 1), "ana"),
        ];
        conn.execute("INSERT INTO incarnation VALUES (1, 255, 1)", []).unwrap();
        for (event, seq) in events.into_iter().zip(1_u64..) {
            let at = Timestamp::from_unix_millis(5);
            let json = serde_json::value::to_raw_value(event.task()).unwrap();
            let cursor = Cursor::new(format!("c1-00000000000000ff-{seq}"));
            let envelope = Envelope::new(&event).at(at).cursor(cursor).encode_around(&json);
            conn.execute(
                "INSERT INTO event VALUES (?1, 'acme/api', ?2, 5, ?3)",
                (seq, event.kind().as_str(), envelope),
            )
            .unwrap();
        }
        for task in [after, task(2, 1)] {
            conn.execute(
                "INSERT INTO task VALUES (?1, 'acme/api', ?2, 'pending', 'low', NULL, '[\"a\"]', 5, 5, ?3, 'Words')",
                (task.id.to_string(), task.title, task.version),
            )
            .unwrap();
        }
        conn.execute("UPDATE state SET head = 3, last_ts = 5", []).unwrap();
        for migration in &MIGRATIONS[1..version] {
            conn.execute_batch(migration).unwrap();
        }
        conn.pragma_update(None, "user_version", version).unwrap();
    }

    #[test]
    fn a_new_file_gets_every_migration_and_an_old_one_keeps_its_rows() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap();
        let [last_ts, floor_ts] = [5, 4].map(Timestamp::from_unix_millis);
        let state = LogState { head: 9, floor: 3, last_ts, floor_ts };
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
             INSERT INTO event SELECT seq, 'acme/api', 'created', 5, json_object('data',
                 json_object('task_id', '00000000-0000-0000-0000-000000000007'))
                 FROM (SELECT 8 AS seq UNION SELECT 9);
             UPDATE state SET head = 9, floor = 7, last_ts = 6;",
        )
        .unwrap();

        migrate(&mut conn).unwrap();

        let version: usize = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, MIGRATIONS.len());
        // What was thrown away is not younger than the oldest event.
        let [last_ts, floor_ts] = [6, 5].map(Timestamp::from_unix_millis);
        let state = LogState { head: 9, floor: 7, last_ts, floor_ts };
        assert_eq!(load_state(&conn).unwrap(), state);
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
    fn a_file_of_version_2_keeps_its_answers_and_knows_the_last_event_of_each_task() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TASKS_AND_LOG).unwrap();
        conn.execute_batch(ANSWERS).unwrap();
        let id = |n| Uuid::from_u128(n).to_string();
        let task = serde_json::json!({
            "id": id(1), "repository": "acme/api", "title": "é \u{0} \"", "description": "",
            "status": "pending", "priority": "low", "assignee": null, "tags": ["a"],
            "created_at": "2026-11-22T09:58:00.000Z", "updated_at": "2026-11-22T09:58:00.000Z",
            "version": 1,
        });
        conn.execute(
            "INSERT INTO answer VALUES ('ana', 'k', ?1, 5, 'c1-00000000000000ff-1', ?2)",
            ([7_u8; 32], task.to_string()),
        )
        .unwrap();
        for n in 1..=3 {
            conn.execute(
                "INSERT INTO task VALUES (?1, 'acme/api', 'One', 'pending', 'low', NULL, '[]', \
                 5, 6, 2, '')",
                [id(n)],
            )
            .unwrap();
        }
        // Of the third task there is no event any more.
        for (seq, n) in [(4, 1), (5, 2), (6, 1), (7, 9)] {
            let envelope = serde_json::json!({"data": {"task_id": id(n)}}).to_string();
            conn.execute("INSERT INTO event VALUES (?1, 'acme/api', 'x', 5, ?2)", (seq, envelope))
                .unwrap();
        }
        conn.pragma_update(None, "user_version", 2).unwrap();

        migrate(&mut conn).unwrap();

        let seqs: Vec<u64> = conn
            .prepare("SELECT seq FROM task ORDER BY id")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(seqs, [6, 5, 0]);
        let once = Once {
            principal: "ana".into(),
            key: IdempotencyKey::try_from(&b"k"[..]).unwrap(),
            fingerprint: Fingerprint([7; 32]),
        };
        let kept = super::super::answers::load(&conn, &once).unwrap().unwrap();
        let [changed] = &kept.answer[..] else { panic!("{kept:?}") };
        assert_eq!(serde_json::to_value(&changed.task).unwrap(), task);
        assert_eq!(changed.cursor.as_str(), "c1-00000000000000ff-1");
        // As in a file that was made anew.
        let mut anew = Connection::open_in_memory().unwrap();
        migrate(&mut anew).unwrap();
        type Row = (String, String, Option<String>);
        let schema = |conn: &Connection| -> BTreeSet<Row> {
            let mut all = conn.prepare("SELECT type, name, sql FROM sqlite_schema").unwrap();
            let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
            rows.unwrap().collect::<Result<_, _>>().unwrap()
        };
        assert_eq!(schema(&conn), schema(&anew));
    }

    #[test]
    fn the_last_events_are_found_by_an_index() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TASKS_AND_LOG).unwrap();
        let fill = "WITH RECURSIVE
            n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000),
            task_id(i, id) AS (SELECT i, format('00000000-0000-0000-0000-%012d', i) FROM n)
            INSERT INTO event
                SELECT i, 'a', 'x', i, json_object('data', json_object('task_id', id)) FROM task_id;
            INSERT INTO task
                SELECT json_extract(envelope, '$.data.task_id'), 'a', '', '', '', NULL, '[]', 0, 0, 1,
                       ''
                FROM event;";
        conn.execute_batch(fill).unwrap();
        conn.execute_batch(HISTORY).unwrap();
        let steps = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&steps);
        let count = move || {
            counted.fetch_add(1_000, Ordering::Relaxed);
            false
        };
        conn.progress_handler(1_000, Some(count)).unwrap();
        conn.execute_batch(ORDERS).unwrap();
        // A look at all events for each task would be nine million steps, and more.
        assert!(steps.load(Ordering::Relaxed) < 1_000_000);
        let known: u64 = conn
            .query_row("SELECT count(*) FROM task WHERE seq > 0", [], |row| row.get(0))
            .unwrap();
        assert_eq!(known, 3_000);
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
