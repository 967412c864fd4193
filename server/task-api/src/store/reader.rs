//! Reads, on a few connections of their own: no reader waits for a writer, nor the other way
//! round.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, Transaction};
use taskwatch_protocol::{EventKind, Pattern, RepositoryName, Seq, Task, Timestamp};
use taskwatch_server::{LogEvent, Page, PageLimit, Principal, ReadError, SeekError, Tail};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use super::schema::{self, TASK_COLUMNS};
use super::{BUSY_TIMEOUT, Unavailable};

/// Connections of one kind of readers.
const CONNECTIONS: usize = 4;
/// A page of a list or a history ends behind what goes beyond this.
pub(super) const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Read-only connections, each lent to one reader at a time.
#[derive(Debug)]
pub(super) struct Readers {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let open = |_| {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let conn = Connection::open_with_flags(path, flags)?;
            conn.busy_timeout(BUSY_TIMEOUT)?;
            Ok(conn)
        };
        let idle = (0..CONNECTIONS).map(open).collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(Self {
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Arc::new(Mutex::new(idle)),
        })
    }

    /// Runs `query` in one read transaction, so that all it reads is of the same moment.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Unavailable)?;
        let idle = Arc::clone(&self.idle);
        let task = tokio::task::spawn_blocking(move || {
            // Held to the end of the read, not of the waiting: a caller that hangs up does not
            // make room before its connection is back.
            let _permit = permit;
            let mut conn = locked(&idle).pop().ok_or(Unavailable)?;
            let answer = conn.transaction().and_then(|tx| query(&tx));
            locked(&idle).push(conn);
            answer.map_err(|error| {
                tracing::error!(%error, "a read failed");
                Unavailable
            })
        });
        task.await.map_err(|_| Unavailable)?
    }

    /// Waits for the readers, and lets none begin before the permit is dropped. `None` if they are
    /// closed.
    pub(super) async fn pause(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire_many(CONNECTIONS as u32).await.ok()
    }

    /// Waits for the readers and closes their connections.
    pub(super) async fn close(&self) {
        if let Some(all) = self.pause().await {
            self.permits.close();
            all.forget();
        }
        locked(&self.idle).clear();
    }
}

fn locked(idle: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tasks of some repositories as they are now, and the number of the last event that is in
/// them: both are of the same moment, since they are read in one transaction (I7).
pub(super) fn snapshot(
    tx: &Transaction<'_>,
    repositories: &[Pattern],
    push: &mut dyn FnMut(Task) -> io::Result<()>,
) -> rusqlite::Result<io::Result<Seq>> {
    let head = schema::load_state(tx)?.head;
    let sql = format!(
        "SELECT {TASK_COLUMNS} FROM task WHERE repository >= ?1 AND repository < ?2 \
         ORDER BY repository, id"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    for (from, to) in ranges(repositories) {
        let mut rows = statement.query((from, to))?;
        while let Some(row) = rows.next()? {
            if let Err(error) = push(schema::task_from_row(row)?) {
                return Ok(Err(error));
            }
        }
    }
    Ok(Ok(head))
}

/// Names of repositories that have tasks, in order, from behind `after` on. Each is found by one look
/// into the index, however many tasks it has.
pub(super) fn repositories(
    tx: &Transaction<'_>,
    patterns: &[Pattern],
    after: Option<RepositoryName>,
    limit: usize,
) -> rusqlite::Result<Vec<RepositoryName>> {
    let mut next = tx.prepare_cached(
        "SELECT repository FROM task WHERE repository >= ?1 AND repository < ?2 \
         ORDER BY repository LIMIT 1",
    )?;
    // A blank stands before every character of a name, and so between a name and all longer ones.
    let behind = |name: &RepositoryName| format!("{name} ");
    let mut names = Vec::new();
    let after = after.as_ref().map(behind).unwrap_or_default();
    for (from, to) in ranges(patterns) {
        let mut from = from.max(after.clone());
        while names.len() < limit {
            let mut rows = next.query((&from, &to))?;
            let Some(row) = rows.next()? else { break };
            let name = schema::parsed(row, 0, str::parse)?;
            from = behind(&name);
            names.push(name);
        }
    }
    Ok(names)
}

/// Which names some patterns stand for, in order and without overlap: from the first to before
/// the second.
pub(super) fn ranges(patterns: &[Pattern]) -> Vec<(String, String)> {
    // A blank stands before, and a DEL behind, every character that a name may have.
    let range = |pattern: &Pattern| match pattern {
        Pattern::All => (String::new(), "\x7f".to_owned()),
        Pattern::Prefix(prefix) => (prefix.to_string(), format!("{prefix}\x7f")),
        Pattern::Exact(name) => (name.to_string(), format!("{name} ")),
    };
    let mut ranges: Vec<_> = patterns.iter().map(range).collect();
    ranges.sort();
    ranges.dedup_by(|next, kept| {
        let overlap = next.0 < kept.1;
        if overlap && next.1 > kept.1 {
            kept.1 = std::mem::take(&mut next.1);
        }
        overlap
    });
    ranges
}

/// What happened to a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// The envelopes as they are on the wire, in the order of the log.
    pub(crate) events: Vec<String>,
    /// Where it goes on, unless this is all.
    pub(crate) next: Option<Seq>,
}

/// The events of a task behind a position, unless there is nothing that may be read. What happened
/// before the log's oldest event is not told.
pub(super) fn history(
    tx: &Transaction<'_>,
    principal: &Principal,
    id: Uuid,
    after: Seq,
    limit: usize,
) -> rusqlite::Result<Option<History>> {
    let mut statement = tx.prepare_cached(
        "SELECT seq, repository, envelope FROM event WHERE task_id = ?1 AND seq > ?2 ORDER BY seq",
    )?;
    let mut rows = statement.query((id.as_bytes(), after))?;
    let (mut history, mut bytes, mut last) = (History::default(), 0, None);
    while let Some(row) = rows.next()? {
        let repository: RepositoryName = schema::parsed(row, 1, str::parse)?;
        // The first tells of all, since a task's repository never changes.
        if !principal.may_read(&repository) {
            return Ok(None);
        }
        if history.events.len() == limit || bytes > PAGE_BYTES {
            history.next = last;
            break;
        }
        last = Some(row.get(0)?);
        let envelope: String = row.get(2)?;
        bytes += envelope.len();
        history.events.push(envelope);
    }
    let may_read = |task: Task| principal.may_read(&task.repository);
    let known = !history.events.is_empty() || schema::load_task(tx, id)?.is_some_and(may_read);
    Ok(known.then_some(history))
}

/// The events after `after`, up to and with `upto`, or `Gone`: a part of them is never an answer.
pub(super) fn events(
    tx: &Transaction<'_>,
    after: Seq,
    upto: Seq,
    limit: PageLimit,
) -> rusqlite::Result<Result<Page, ReadError>> {
    // In the transaction of the rows: retention may move on while they are read.
    let state = schema::load_state(tx)?;
    if after < state.floor {
        return Ok(Err(ReadError::Gone));
    }
    // Nothing is said about what is not committed yet.
    let upto = upto.min(state.head);
    let mut statement = tx.prepare_cached(
        "SELECT seq, repository, kind, envelope FROM event \
         WHERE seq > ?1 AND seq <= ?2 ORDER BY seq",
    )?;
    let mut rows = statement.query((after, upto))?;
    let mut page = Page { events: Vec::new(), scanned_to: upto.max(after) };
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let envelope = row.get_ref(3)?.as_str()?;
        bytes += envelope.len();
        if let Some(last) = page.events.last()
            && (page.events.len() >= limit.events || bytes > limit.bytes)
        {
            page.scanned_to = last.seq();
            break;
        }
        let repository = schema::parsed(row, 1, str::parse)?;
        let kind = EventKind::from(row.get_ref(2)?.as_str()?);
        page.events.push(LogEvent::new(row.get(0)?, repository, kind, envelope));
    }
    Ok(Ok(page))
}

/// The position before the first event at or after `time`, found by halving: times never decrease
/// along the log (I9).
pub(super) fn seek_time(
    tx: &Transaction<'_>,
    time: Timestamp,
) -> rusqlite::Result<Result<Seq, SeekError>> {
    let state = schema::load_state(tx)?;
    if state.floor > 0 && state.floor_ts >= time {
        return Ok(Err(SeekError::Gone));
    }
    let mut next =
        tx.prepare_cached("SELECT seq, ts FROM event WHERE seq > ?1 ORDER BY seq LIMIT 1")?;
    // What is known to be before the time, and what is not.
    let (mut before, mut upto) = (state.floor, state.head);
    while before < upto {
        let middle = before + (upto - before) / 2;
        let mut rows = next.query([middle])?;
        match rows.next()? {
            Some(row) if row.get::<_, i64>(1)? < time.unix_millis() => before = row.get(0)?,
            _ => upto = middle,
        }
    }
    Ok(Ok(before))
}

/// Shows the events to a tail, the newest first. The envelopes are not read.
pub(super) fn seek_tail(tx: &Transaction<'_>, mut tail: Tail) -> rusqlite::Result<Seq> {
    let mut statement = tx.prepare_cached(
        "SELECT seq, repository, kind FROM event WHERE seq <= ?1 ORDER BY seq DESC",
    )?;
    let mut rows = statement.query([tail.upto()])?;
    while let Some(row) = rows.next()? {
        let repository = schema::parsed(row, 1, str::parse)?;
        let kind = EventKind::from(row.get_ref(2)?.as_str()?);
        if tail.look_at(row.get(0)?, &repository, &kind).is_break() {
            break;
        }
    }
    Ok(tail.position())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_what_the_patterns_match_and_do_not_overlap(
            patterns in proptest::collection::vec("(\\*|[ab.~](/[ab]){0,2}(/\\*)?)", 1..5),
            name in "[ab](/?[ab.~-]){0,3}",
        ) {
            let patterns: Vec<Pattern> =
                patterns.iter().filter_map(|pattern| pattern.parse().ok()).collect();
            let Ok(name) = name.parse::<RepositoryName>() else { return Ok(()) };
            let ranges = ranges(&patterns);
            let text = name.to_string();
            let inside = ranges.iter().filter(|(from, to)| *from <= text && text < *to).count();
            let matches = patterns.iter().any(|pattern| pattern.matches(&name));
            prop_assert_eq!(inside, usize::from(matches));
            prop_assert!(ranges.is_sorted_by(|one, next| one.1 <= next.0));
        }
    }
}
