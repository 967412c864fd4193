//! Which tasks somebody wants to see, and in which order: plain data, read in one place whoever
//! asks.

mod history;
mod params;
mod place;

use taskwatch_protocol::{Pattern, Priority, RepositoryName, Seq, Status, Timestamp};
use taskwatch_server::Principal;

pub(crate) use history::HistoryPage;
pub(crate) use params::{
    DEFAULT_LIMIT, InvalidQuery, ListParams, MAX_LIMIT, MAX_VALUE_CHARS, MAX_VALUES, PATTERN,
};
pub(crate) use place::Place;

/// A list that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListQuery {
    pub(crate) filter: Filter,
    pub(crate) sort: Sort,
    /// Tasks on a page, at most.
    pub(crate) limit: usize,
    /// Where a later page begins.
    pub(crate) page: Option<Place>,
    /// Whose list it is: what they may not read is not in it.
    pub(crate) principal: Principal,
}

/// What all tasks of a list have in common. Where several values are given, a task has one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) repository: Option<Pattern>,
    pub(crate) status: Vec<Status>,
    pub(crate) priority: Vec<Priority>,
    pub(crate) assignee: Vec<String>,
    pub(crate) tag: Vec<String>,
    /// What the title or the description holds, in lower case.
    pub(crate) text: Option<String>,
    pub(crate) changed_since: Option<Timestamp>,
}

/// The order of a list. Tasks that are equal in it are in the order of their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) key: SortKey,
    /// The other way round, ids included.
    pub(crate) descending: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SortKey {
    #[default]
    CreatedAt,
    UpdatedAt,
    Priority,
}

impl Sort {
    /// Each order with its word.
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("created_at", Self { key: SortKey::CreatedAt, descending: false }),
        ("-created_at", Self { key: SortKey::CreatedAt, descending: true }),
        ("updated_at", Self { key: SortKey::UpdatedAt, descending: false }),
        ("-updated_at", Self { key: SortKey::UpdatedAt, descending: true }),
        ("priority", Self { key: SortKey::Priority, descending: false }),
        ("-priority", Self { key: SortKey::Priority, descending: true }),
    ];
}

impl ListQuery {
    /// The repositories whose tasks may be in the list.
    pub(crate) fn scope(&self) -> Vec<Pattern> {
        let wanted = self.filter.repository.as_ref().unwrap_or(&Pattern::All);
        let readable = self.principal.readable().iter();
        readable.filter_map(|pattern| pattern.intersection(wanted)).cloned().collect()
    }

    /// The last event that a task may have had to stand on a later page. A task that changed in the
    /// meantime may have moved, so that it would come twice; where nothing moves, it may stay.
    pub(crate) fn unchanged_since(&self) -> Option<Seq> {
        let moves = self.sort.key != SortKey::CreatedAt;
        self.page.as_ref().filter(|_| moves).map(|page| page.head)
    }
}

impl Filter {
    /// Whether a task may be in the list, going by what is short.
    pub(crate) fn matches(&self, task: Short<'_>) -> bool {
        any(&self.status, |status| status.as_str() == task.status)
            && any(&self.priority, |priority| priority.as_str() == task.priority)
            && any(&self.assignee, |assignee| Some(assignee.as_str()) == task.assignee)
            && any(&self.tag, |tag| task.tags.contains(tag))
            && self.changed_since.is_none_or(|since| task.updated_at >= since)
    }

    /// Whether the text that is looked for stands in one of these.
    pub(crate) fn finds_text_in(&self, texts: [&str; 2]) -> bool {
        let found = |text: &String| texts.iter().any(|in_| in_.to_lowercase().contains(text));
        self.text.as_ref().is_none_or(found)
    }
}

/// The fields of a task that say whether it is on a list, but for its text and its repository.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short<'a> {
    pub(crate) status: &'a str,
    pub(crate) priority: &'a str,
    pub(crate) assignee: Option<&'a str>,
    pub(crate) tags: &'a [String],
    pub(crate) updated_at: Timestamp,
}

/// Whether one of the wanted values is met, or none is wanted.
fn any<T>(wanted: &[T], met: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(met)
}

/// Whether one of the patterns matches.
pub(crate) fn in_scope(scope: &[Pattern], repository: &RepositoryName) -> bool {
    scope.iter().any(|pattern| pattern.matches(repository))
}
