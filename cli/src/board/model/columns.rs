//! Which tasks stand where: by status, the last changed on top. Kept as tasks change, since to sort all
//! of them for each picture would take longer than everything else.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use taskwatch_client::{Status, Task, Timestamp};
use uuid::Uuid;

/// Where a task stands in its column.
pub(crate) type Place = (Reverse<Timestamp>, Uuid);

/// The tasks of one status.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) status: Status,
    /// How many there are, shown or not.
    pub(crate) total: usize,
    /// Those that the filter lets through.
    pub(crate) places: BTreeSet<Place>,
}

/// All columns: those of every server first, then those that only this one knows.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    filter: Filter,
}

impl Columns {
    pub(crate) fn new() -> Self {
        let columns = Status::KNOWN.iter().cloned().map(Column::new).collect();
        Self { columns, filter: Filter::default() }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Column> {
        self.columns.iter()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Column> {
        self.columns.get(number)
    }

    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Shows these tasks, and of them what the filter lets through.
    pub(crate) fn show<'a>(&mut self, tasks: impl Iterator<Item = &'a Task>, filter: Filter) {
        *self = Self { filter, ..Self::new() };
        tasks.for_each(|task| self.insert(task));
    }

    pub(crate) fn insert(&mut self, task: &Task) {
        let is_shown = self.filter.lets_through(task);
        let number = self.number(&task.status).unwrap_or_else(|place| {
            self.columns.insert(place, Column::new(task.status.clone()));
            place
        });
        let column = &mut self.columns[number];
        column.total += 1;
        if is_shown {
            column.places.insert(place(task));
        }
    }

    /// Takes a task out, as it was inserted.
    pub(crate) fn remove(&mut self, task: &Task) {
        let Ok(number) = self.number(&task.status) else { return };
        let column = &mut self.columns[number];
        column.places.remove(&place(task));
        column.total = column.total.saturating_sub(1);
        // A status that only this server knows is shown while a task has it.
        if column.total == 0 && !column.status.is_known() {
            self.columns.remove(number);
        }
    }

    /// The column of a status, or where it would be.
    pub(crate) fn number(&self, status: &Status) -> Result<usize, usize> {
        let rank = |status: &Status| {
            let known = Status::KNOWN.iter().position(|known| known == status);
            (known.unwrap_or(usize::MAX), status.as_str().to_owned())
        };
        let wanted = rank(status);
        self.columns.binary_search_by(|column| rank(&column.status).cmp(&wanted))
    }
}

impl Column {
    fn new(status: Status) -> Self {
        Self { status, total: 0, places: BTreeSet::new() }
    }

    /// The task in this row, or the last one.
    pub(crate) fn at_most(&self, row: usize) -> Option<Uuid> {
        self.places.iter().take(row.saturating_add(1)).next_back().map(|(_, id)| *id)
    }

    /// In which row a task stands.
    pub(crate) fn row(&self, task: &Task) -> Option<usize> {
        let place = place(task);
        self.places.contains(&place).then(|| self.places.range(..place).count())
    }

    /// Who stands where a task was, or before it.
    pub(crate) fn next_to(&self, task: &Task) -> Option<Uuid> {
        let place = place(task);
        let below = self.places.range(place..).next();
        below.or_else(|| self.places.range(..place).next_back()).map(|(_, id)| *id)
    }
}

fn place(task: &Task) -> Place {
    (Reverse(task.updated_at), task.id)
}

/// Which tasks are shown: those in which each of these words stands somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    text: String,
    words: Vec<String>,
}

impl Filter {
    pub(crate) fn new(text: String) -> Self {
        let words = text.split_whitespace().map(str::to_lowercase).collect();
        Self { text, words }
    }

    /// As it was typed.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    fn lets_through(&self, task: &Task) -> bool {
        if self.is_empty() {
            return true;
        }
        let texts = [&*task.title, task.repository.as_str()].into_iter();
        let texts = texts.chain(task.assignee.as_deref()).chain(task.tags.iter().map(|tag| &**tag));
        let mut texts: Vec<String> = texts.map(str::to_lowercase).collect();
        texts.push(task.id.to_string());
        self.words.iter().all(|word| texts.iter().any(|text| text.contains(word.as_str())))
    }
}
