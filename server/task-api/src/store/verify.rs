//! Whether a store says the truth: what SQLite can check, a checksum of each row, and whether the rows
//! agree with each other.

mod rows;

use std::collections::BTreeSet;
use std::fmt;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use taskwatch_protocol::{Incarnation, Seq};
use taskwatch_server::Incarnations;

use super::schema::{self, LogState};
use super::{BackupError, checksum};

/// Findings that are told; the others are counted.
const TOLD: usize = 100;

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contents {
    /// The version of its tables.
    pub schema: usize,
    /// Events kept.
    pub events: u64,
    /// Tasks.
    pub tasks: u64,
    /// The position behind the last event; empty if it cannot be told.
    pub head: String,
}

/// What was found out about a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What it holds, as far as it could be read.
    pub contents: Contents,
    /// What is damaged, each in a sentence: the first hundred.
    pub damage: Vec<String>,
    /// How much more is damaged.
    pub more: usize,
    /// What could not be looked at, and is no damage.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether no damage was found.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.damage.is_empty()
    }

    pub(super) fn damage(&mut self, what: impl Into<String>) {
        if self.damage.len() < TOLD {
            self.damage.push(what.into());
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schema, events, tasks, head } = self;
        let head = if head.is_empty() { "unknown" } else { head };
        write!(f, "{events} events, {tasks} tasks, head {head}, schema {schema}")
    }
}

/// Looks at everything, in one read transaction.
///
/// # Errors
/// If the store was written by a newer version.
pub(super) fn verify(conn: &mut Connection) -> Result<Report, BackupError> {
    let mut report = Report::default();
    match look(conn, &mut report) {
        Ok(()) => Ok(report),
        Err(BackupError::Sqlite(error)) if is_damage(&error) => {
            report.damage(format!("it cannot be read on: {error}"));
            Ok(report)
        }
        Err(error) => Err(error),
    }
}

/// Of the file, and not of who looks or of what else goes on.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    !matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
        )
    )
}

fn look(conn: &mut Connection, report: &mut Report) -> Result<(), BackupError> {
    // Nothing that a damaged schema may hold is run.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    checksum::register(conn)?;
    let tx = conn.transaction()?;
    structure(&tx, report)?;
    let (found, known) = (schema::version(&tx)?, schema::KNOWN);
    report.contents.schema = found;
    if found > known {
        return Err(BackupError::NewerSchema { found, known });
    }
    if found == 0 {
        report.damage("it is no store: it has no schema");
        return Ok(());
    }
    if found < known {
        report.notes.push(format!(
            "it has schema {found} and not yet {known}: its rows were not compared, only counted"
        ));
        return Ok(count(&tx, &mut report.contents)?);
    }
    if tables(&tx)? != expected_tables()? {
        report.damage("the tables are not those of its schema");
    }
    for (table, columns) in checksum::COVERED {
        checksums(&tx, table, columns, report)?;
    }
    if let Some(log) = log(&tx, report)? {
        report.contents.head = log.incarnations.cursor(log.state.head).as_str().to_owned();
        rows::check(&tx, &log, report)?;
    }
    Ok(())
}

/// What can be told of every schema.
fn count(tx: &Connection, contents: &mut Contents) -> rusqlite::Result<()> {
    contents.events = tx.query_row("SELECT count(*) FROM event", [], |row| row.get(0))?;
    contents.tasks = tx.query_row("SELECT count(*) FROM task", [], |row| row.get(0))?;
    let head: Seq = tx.query_row("SELECT head FROM state", [], |row| row.get(0))?;
    let starts = schema::load_starts(tx)?;
    if starts.is_sorted_by_key(|&(_, first)| first) {
        contents.head = Incarnations::new(starts).cursor(head).as_str().to_owned();
    }
    Ok(())
}

/// What SQLite knows to check: pages, order, indexes against tables, types. Content it takes as it is.
fn structure(tx: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut check = tx.prepare("PRAGMA integrity_check")?;
    let mut lines = check.query([])?;
    while let Some(line) = lines.next()? {
        let line: String = line.get(0)?;
        if line != "ok" {
            report.damage(format!("SQLite: {}", line.replace('\n', " ")));
        }
    }
    Ok(())
}

/// The tables and indexes, however they are indented, but for SQLite's own notes.
fn tables(conn: &Connection) -> rusqlite::Result<BTreeSet<(String, String, Option<String>)>> {
    conn.prepare("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'")?
        .query_map([], |row| {
            let sql: Option<String> = row.get(2)?;
            let sql = sql.map(|sql| sql.split_whitespace().collect::<Vec<_>>().join(" "));
            Ok((row.get(0)?, row.get(1)?, sql))
        })?
        .collect()
}

fn expected_tables() -> Result<BTreeSet<(String, String, Option<String>)>, BackupError> {
    let mut anew = Connection::open_in_memory()?;
    schema::migrate(&mut anew).map_err(|error| BackupError::Impossible(error.to_string()))?;
    Ok(tables(&anew)?)
}

fn checksums(
    tx: &Connection,
    table: &str,
    columns: &str,
    report: &mut Report,
) -> rusqlite::Result<()> {
    let mut wrong = tx.prepare(&format!(
        "SELECT rowid FROM {table} WHERE checksum IS NOT NULL AND checksum <> row_checksum({columns})"
    ))?;
    let mut rows = wrong.query([])?;
    while let Some(row) = rows.next()? {
        let row: i64 = row.get(0)?;
        report.damage(format!("table {table}, row {row}: not as it was written"));
    }
    let without = format!("SELECT count(*) FROM {table} WHERE checksum IS NULL");
    let without: u64 = tx.query_row(&without, [], |row| row.get(0))?;
    match table {
        _ if without == 0 => {}
        "event" | "answer" => report.notes.push(format!(
            "{without} rows of table {table} were written before rows had checksums; of these only \
             what other rows say was compared"
        )),
        _ => report.damage(format!("table {table}: {without} rows have no checksum")),
    }
    Ok(())
}

/// What the rows of the log are held against.
struct Log {
    state: LogState,
    incarnations: Incarnations,
}

/// The state and the starts of the log, unless they make no sense.
fn log(tx: &Connection, report: &mut Report) -> rusqlite::Result<Option<Log>> {
    let state = schema::load_state(tx)?;
    let starts = schema::load_starts(tx)?;
    if state.floor > state.head {
        let LogState { head, floor, .. } = state;
        report.damage(format!("table state: the floor, {floor}, is above the head, {head}"));
    }
    let ids: BTreeSet<u64> = starts.iter().map(|&(Incarnation(id), _)| id).collect();
    if ids.len() < starts.len() {
        report.damage("table incarnation: two starts of the log have one id");
    }
    let first = |&(_, first): &(Incarnation, Seq)| first;
    let beyond = starts.iter().map(first).max().is_some_and(|last| last > state.head + 1);
    if !starts.is_sorted_by_key(first) || beyond {
        report.damage("table incarnation: the starts of the log are out of order");
        return Ok(None);
    }
    Ok(Some(Log { state, incarnations: Incarnations::new(starts) }))
}
