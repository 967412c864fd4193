//! The least that keeps what taskwatchd keeps: a loop that inserts the rows of a change into taskwatchd's own file, so
//! many changes in a transaction. No requests, no decisions, no answers, nobody to tell.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, TransactionBehavior, params_from_iter};
use uuid::Uuid;

use crate::process::{self, Processes};
use crate::row::{Row, RunName};
use crate::{Failure, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store of a taskwatchd that has made a change and was stopped: its tables, indices and rows
    #[arg(long)]
    store: PathBuf,
    /// Changes in a transaction
    #[arg(long, default_value_t = 64)]
    batch: u32,
    /// Seconds that are measured
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// What strace writes of the syncs of this process
    #[arg(long)]
    syncs: Option<PathBuf>,
    #[command(flatten)]
    run: RunName,
}

/// A row like those that are there.
struct Sample {
    insert: String,
    values: Vec<Value>,
    /// Places of what differs from row to row.
    seq: usize,
    id: usize,
}

impl Sample {
    fn of(store: &Connection, table: &str, id: &str) -> rusqlite::Result<Self> {
        let mut query = store.prepare(&format!("SELECT * FROM {table} LIMIT 1"))?;
        let (seq, id) = (query.column_index("seq")?, query.column_index(id)?);
        let count = query.column_count();
        let values = query.query_row([], |row| (0..count).map(|at| row.get(at)).collect())?;
        let places = vec!["?"; count].join(", ");
        Ok(Self { insert: format!("INSERT INTO {table} VALUES ({places})"), values, seq, id })
    }

    fn insert(&mut self, store: &Connection, seq: i64, id: Value) -> rusqlite::Result<()> {
        self.values[self.seq] = Value::Integer(seq);
        self.values[self.id] = id;
        store.prepare_cached(&self.insert)?.execute(params_from_iter(&self.values))?;
        Ok(())
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut store = Connection::open(&args.store)?;
    // As in taskwatchd. The journal's mode is the file's.
    store.pragma_update(None, "synchronous", "FULL")?;
    store.pragma_update(None, "temp_store", "MEMORY")?;
    let mut task = Sample::of(&store, "task", "id")?;
    let mut event = Sample::of(&store, "event", "task_id")?;
    let mut head: i64 = store.query_row("SELECT head FROM state", [], |row| row.get(0))?;

    let syncs = process::syncs(args.syncs.as_deref());
    let (cpu, machine) = (Processes::own().cpu(), process::machine());
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(args.seconds);
    let mut changes: u64 = 0;
    while Instant::now() < end {
        let transaction = store.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for _ in 0..args.batch {
            head += 1;
            let id = Uuid::now_v7();
            task.insert(&transaction, head, Value::Text(id.to_string()))?;
            event.insert(&transaction, head, Value::Blob(id.as_bytes().to_vec()))?;
        }
        transaction.prepare_cached("UPDATE state SET head = ?1")?.execute([head])?;
        transaction.commit()?;
        changes += u64::from(args.batch);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = Processes::own().cpu() - cpu;
    let syncs = process::syncs(args.syncs.as_deref()) - syncs;
    let row = Row {
        seconds,
        publishes: changes,
        publishes_per_s: changes as f64 / seconds,
        cpu_us_per_publish: cpu.all() * 1e6 / changes.max(1) as f64,
        syncs_per_publish: syncs as f64 / changes.max(1) as f64,
        server_cores: cpu.all() / seconds,
        other_cores: (process::machine() - machine - cpu.all()).max(0.0) / seconds,
        ..args.run.row()
    };
    print(&serde_json::to_string(&row)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_inserted_as_it_is_but_for_its_number_and_its_id() {
        let store = Connection::open_in_memory().unwrap();
        store
            .execute_batch(
                "CREATE TABLE event (seq INTEGER PRIMARY KEY, kind TEXT, task_id BLOB, envelope TEXT);
                 INSERT INTO event VALUES (1, 'task.created', x'01', '{}');",
            )
            .unwrap();
        let mut sample = Sample::of(&store, "event", "task_id").unwrap();
        sample.insert(&store, 2, Value::Blob(vec![2])).unwrap();
        let row: (i64, String, Vec<u8>, String) = store
            .query_row("SELECT * FROM event WHERE seq = 2", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .unwrap();
        assert_eq!(row, (2, "task.created".into(), vec![2], "{}".into()));
    }
}
