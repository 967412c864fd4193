//! A checksum of each row, in the row: a byte that changed on the disk and still reads as text is
//! found by it. SQLite has none.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

/// The columns that the checksum of a row is over, in this order, for each table.
pub(super) const COVERED: [(&str, &str); 5] = [
    ("incarnation", "id, first"),
    ("state", "head, floor, last_ts, floor_ts"),
    ("event", "seq, repository, kind, ts, task_id, envelope"),
    (
        "task",
        "id, repository, title, description, status, priority, assignee, tags, created_at, \
         updated_at, version, seq",
    ),
    ("answer", "principal, key, fingerprint, ts, changes"),
];

/// Lets SQL on this connection say `row_checksum(…)`.
pub(super) fn register(conn: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    conn.create_scalar_function("row_checksum", -1, flags, |context| {
        Ok(of((0..context.len()).map(|index| context.get_raw(index))))
    })
}

/// The first 64 bits of a SHA-256. Each value comes with its type and its length, so that no two rows
/// are the same bytes.
fn of<'a>(values: impl Iterator<Item = ValueRef<'a>>) -> i64 {
    let mut hash = Sha256::new();
    for value in values {
        let (kind, bytes): (u8, &[u8]) = match &value {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(number) => (1, &number.to_le_bytes()),
            ValueRef::Real(number) => (2, &number.to_le_bytes()),
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(blob) => (4, blob),
        };
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_type_or_in_where_it_is_cut_differs() {
        let conn = Connection::open_in_memory().unwrap();
        register(&conn).unwrap();
        let of = |values: &str| -> i64 {
            let sql = format!("SELECT row_checksum({values})");
            conn.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        let all = ["", "NULL", "''", "x''", "0", "0.0", "'ab', 'c'", "'a', 'bc'", "'abc'", "1, 2"];
        let mut sums: Vec<_> = all.iter().map(|values| of(values)).collect();
        assert_eq!(of("1, 2"), sums[9]);
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), all.len());
    }
}
