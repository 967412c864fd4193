//! Pages of lists: which rows are looked at, in which order, and how many at most.

use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::{Transaction, params_from_iter};
use taskwatch_protocol::{Cursor, Pattern, Seq, Task, Timestamp};
use taskwatch_server::Incarnations;
use uuid::Uuid;

use super::reader::{PAGE_BYTES, ranges};
use super::schema::{self, TASK_COLUMNS};
use crate::list::{ListQuery, Place, Short, SortKey, in_scope};

/// Rows that one page looks at. Where few tasks match, a page may then have fewer than it could, or
/// none, and still a next one: no list keeps a connection for long.
const ROWS: usize = 10_000;
/// Text that one page looks through, likewise.
const TEXT_BYTES: usize = 32 * 1024 * 1024;

/// Some tasks, in the order that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskPage {
    pub(crate) tasks: Vec<Task>,
    /// The `page` of the next one, unless this is the last.
    pub(crate) next: Option<String>,
    /// The position of which the list is, on each of its pages: events behind it tell the rest.
    pub(crate) cursor: Cursor,
}

/// A page, before its position is put into text.
#[derive(Debug)]
pub(super) struct Listed {
    tasks: Vec<Task>,
    next: Option<Place>,
    head: Seq,
}

impl Listed {
    pub(super) fn into_page(self, incarnations: &Incarnations) -> TaskPage {
        let next = self.next.map(|place| place.to_string());
        TaskPage { tasks: self.tasks, next, cursor: incarnations.cursor(self.head) }
    }
}

/// A row that may be on the page.
struct Candidate {
    rowid: i64,
    key: i64,
    id: String,
}

/// Rows that an index finds.
struct Lookup {
    index: &'static str,
    condition: &'static str,
    values: Vec<Value>,
}

/// A page of a list, which began at `head` at the earliest.
pub(super) fn list(tx: &Transaction<'_>, query: &ListQuery, head: Seq) -> rusqlite::Result<Listed> {
    // A place of before a restore may be ahead of this log.
    let head = query.page.as_ref().map_or(head, |page| page.head.min(head));
    let scope = query.scope();
    let listed = Listed { tasks: Vec::new(), next: None, head };
    if scope.is_empty() {
        // Nothing is looked through: the time it takes would tell how much is there.
        return Ok(listed);
    }
    let narrow = narrowest(tx, query, &scope)?;
    let mut page =
        Paging { tx, query, scope, listed, rows: 0, bytes: 0, text: 0, at: None, looked_at: None };
    match narrow {
        Some(lookups) => page.gather(&lookups)?,
        None => page.walk()?,
    }
    Ok(page.listed)
}

/// What finds the fewest rows, if some index finds few.
fn narrowest(
    tx: &Transaction<'_>,
    query: &ListQuery,
    scope: &[Pattern],
) -> rusqlite::Result<Option<Vec<Lookup>>> {
    let filter = &query.filter;
    let range = |(from, to)| Lookup {
        index: "task_by_repository",
        condition: "repository >= ?1 AND repository < ?2",
        values: vec![Value::Text(from), Value::Text(to)],
    };
    let assignee = |name: &String| Lookup {
        index: "task_by_assignee",
        condition: "assignee = ?1",
        values: vec![Value::Text(name.clone())],
    };
    let since = filter.changed_since.map(|since| Lookup {
        index: "task_by_update",
        condition: "updated_at >= ?1",
        values: vec![Value::Integer(since.unix_millis())],
    });
    let choices: [Vec<Lookup>; 3] = [
        ranges(scope).into_iter().map(range).collect(),
        filter.assignee.iter().map(assignee).collect(),
        since.into_iter().collect(),
    ];
    let (mut best, mut fewest) = (None, ROWS + 1);
    for choice in choices {
        let mut rows = if choice.is_empty() { fewest } else { 0 };
        for Lookup { index, condition, values } in &choice {
            if rows >= fewest {
                break;
            }
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 FROM task INDEXED BY {index} WHERE {condition} \
                 LIMIT {})",
                fewest - rows
            );
            let mut statement = tx.prepare_cached(&sql)?;
            rows += statement.query_row(params_from_iter(values), |row| row.get::<_, usize>(0))?;
        }
        if rows < fewest {
            (best, fewest) = (Some(choice), rows);
        }
    }
    Ok(best)
}

/// What a row turned out to be.
struct Looked {
    /// Whether it is of a repository that is asked for, and may be read.
    in_scope: bool,
    /// The task, if it belongs on the list.
    task: Option<Task>,
}

/// A page in the making.
struct Paging<'a> {
    tx: &'a Transaction<'a>,
    query: &'a ListQuery,
    scope: Vec<Pattern>,
    listed: Listed,
    rows: usize,
    /// Text of the tasks on the page.
    bytes: usize,
    /// Text that was looked through.
    text: usize,
    /// The last row that was looked at, of those that may be read.
    at: Option<Place>,
    /// The last row that was looked at.
    looked_at: Option<Place>,
}

impl Paging<'_> {
    /// Looks at the rows in their order, from the place of the page on.
    fn walk(&mut self) -> rusqlite::Result<()> {
        let ListQuery { sort, page, filter, .. } = self.query;
        let (key, compare, direction) =
            (key(sort.key), compare(sort.descending), direction(sort.descending));
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        if let Some(place) = page {
            conditions.push(format!("({key}, id) {compare} (?, ?)"));
            values.extend([Value::Integer(place.key), Value::Text(place.id.to_string())]);
        }
        if let (SortKey::UpdatedAt, Some(since)) = (sort.key, filter.changed_since) {
            conditions.push("updated_at >= ?".to_owned());
            values.push(Value::Integer(since.unix_millis()));
        }
        let conditions =
            if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") };
        let sql = format!(
            "SELECT rowid, {key}, id FROM task WHERE {conditions} \
             ORDER BY {key} {direction}, id {direction}"
        );
        let mut statement = self.tx.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            let candidate = Candidate { rowid: row.get(0)?, key: row.get(1)?, id: row.get(2)? };
            if self.look_at(candidate)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Looks at the few rows that were found, in their order.
    fn gather(&mut self, lookups: &[Lookup]) -> rusqlite::Result<()> {
        let ListQuery { sort, page, .. } = self.query;
        let mut candidates = Vec::new();
        for Lookup { index, condition, values } in lookups {
            let key = key(sort.key);
            let sql =
                format!("SELECT rowid, {key}, id FROM task INDEXED BY {index} WHERE {condition}");
            let mut statement = self.tx.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                candidates.push(Candidate {
                    rowid: row.get(0)?,
                    key: row.get(1)?,
                    id: row.get(2)?,
                });
            }
        }
        candidates.sort_by(|a, b| (a.key, &a.id).cmp(&(b.key, &b.id)));
        if sort.descending {
            candidates.reverse();
        }
        let after = page.map(|place| (place.key, place.id.to_string()));
        for candidate in candidates {
            let behind = after.as_ref().is_none_or(|(key, id)| {
                let (this, after) = ((candidate.key, &candidate.id), (*key, id));
                if sort.descending { this < after } else { this > after }
            });
            if behind && self.look_at(candidate)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Takes a row if it matches. Breaks when the page is full, or long enough in the making.
    fn look_at(&mut self, candidate: Candidate) -> rusqlite::Result<ControlFlow<()>> {
        if self.rows == ROWS || self.text > TEXT_BYTES {
            self.listed.next = self.at.or_else(|| self.beyond_others());
            return Ok(ControlFlow::Break(()));
        }
        self.rows += 1;
        let Looked { in_scope, task } = self.matching(candidate.rowid)?;
        if let Some(task) = task {
            if self.listed.tasks.len() == self.query.limit || self.bytes > PAGE_BYTES {
                self.listed.next = self.at;
                return Ok(ControlFlow::Break(()));
            }
            self.bytes += task.title.len() + task.description.len();
            self.listed.tasks.push(task);
        }
        let id = Uuid::try_parse(&candidate.id).unwrap_or_default();
        let (sort, head) = (self.query.sort, self.listed.head);
        self.looked_at = Some(Place { sort, head, key: candidate.key, id });
        if in_scope {
            self.at = self.looked_at;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Where it goes on when nothing on the way may be read: no place there names a task.
    fn beyond_others(&self) -> Option<Place> {
        let exact = self.looked_at?;
        let blurred = exact.without_task();
        let begin = self.query.page.map(|place| (place.key, place.id));
        let place = (blurred.key, blurred.id);
        let gets_on = begin
            .is_none_or(|begin| if exact.sort.descending { place < begin } else { place > begin });
        Some(if gets_on { blurred } else { exact })
    }

    /// The task of a row, if it belongs on the list.
    fn matching(&mut self, rowid: i64) -> rusqlite::Result<Looked> {
        let (filter, unchanged_since) = (&self.query.filter, self.query.unchanged_since());
        let sql = format!("SELECT {TASK_COLUMNS}, seq FROM task WHERE rowid = ?1");
        let mut statement = self.tx.prepare_cached(&sql)?;
        let mut rows = statement.query([rowid])?;
        let other = |in_scope| Looked { in_scope, task: None };
        let Some(row) = rows.next()? else { return Ok(other(false)) };
        if !in_scope(&self.scope, &schema::parsed(row, 1, str::parse)?) {
            return Ok(other(false));
        }
        if unchanged_since.is_some_and(|head| row.get(11).is_ok_and(|seq: Seq| seq > head)) {
            return Ok(other(true));
        }
        let tags: Vec<String> = schema::parsed(row, 7, |text| serde_json::from_str(text))?;
        let short = Short {
            status: row.get_ref(4)?.as_str()?,
            priority: row.get_ref(5)?.as_str()?,
            assignee: row.get_ref(6)?.as_str_or_null()?,
            tags: &tags,
            updated_at: Timestamp::from_unix_millis(row.get(9)?),
        };
        if !filter.matches(short) {
            return Ok(other(true));
        }
        if filter.text.is_some() {
            let texts = [row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?];
            self.text += texts.map(str::len).iter().sum::<usize>();
            if !filter.finds_text_in(texts) {
                return Ok(other(true));
            }
        }
        Ok(Looked { in_scope: true, task: Some(schema::task_from_row(row)?) })
    }
}

/// What an order goes by, as the index has it.
fn key(key: SortKey) -> &'static str {
    match key {
        SortKey::CreatedAt => "created_at",
        SortKey::UpdatedAt => "updated_at",
        SortKey::Priority => "CASE priority WHEN 'high' THEN 3 WHEN 'medium' THEN 2 ELSE 1 END",
    }
}

fn compare(descending: bool) -> &'static str {
    if descending { "<" } else { ">" }
}

fn direction(descending: bool) -> &'static str {
    if descending { "DESC" } else { "ASC" }
}
