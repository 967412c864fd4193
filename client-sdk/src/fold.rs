//! Tasks as snapshots and events leave them. Plain data: nobody waits here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use taskwatch_protocol::{Cursor, Pattern, RepositoryName, Task, TaskChange, TaskEvent};
use uuid::Uuid;

use crate::{Snapshot, Update};

/// The tasks of some repositories, all at one position. A clone is cheap: it shares the tasks.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tasks: BTreeMap<Uuid, Arc<Task>>,
    /// Whose snapshot has come.
    repositories: BTreeSet<Pattern>,
    /// Tasks of which an event was left out, and their newest version: what was lost on the way
    /// comes late, and must not bring back what was deleted meanwhile.
    incomplete: HashMap<Uuid, u64>,
    cursor: Option<Cursor>,
}

impl Tasks {
    /// The task with this id, if there is one.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Task>> {
        // Ids begin with the time of their making.
        self.tasks.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The position that they are at; `None` before the first snapshot.
    #[must_use]
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Whether the state of this repository is known.
    #[must_use]
    pub fn covers(&self, repository: &RepositoryName) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(repository))
    }

    /// Takes the next update of a stream that begins with a [snapshot](crate::EventStream::snapshot)
    /// and has another one after a gap ([`OnGap::Snapshot`](crate::OnGap::Snapshot)); false if nothing
    /// changed.
    ///
    /// Between a gap and the snapshot that follows it the tasks stay as they last were, and
    /// [`covers`](Self::covers) nothing.
    pub fn apply(&mut self, update: Update) -> bool {
        match update {
            Update::Event(event) => {
                let has_changed = self.covers(&event.repository) && self.event(event.event);
                has_changed | self.reach(event.cursor)
            }
            Update::Snapshot(snapshot) => {
                self.replace(snapshot);
                true
            }
            Update::Bookmark(cursor) => self.reach(cursor),
            Update::Gap(_) => {
                // Out of date, and shown until the snapshot that follows says better.
                self.repositories.clear();
                false
            }
            Update::Denied(denied) => {
                let gone: Vec<_> = denied.into_iter().map(|denied| denied.repository).collect();
                self.remove(&gone)
            }
            _ => false,
        }
    }

    /// These are no longer of interest; false if nothing changed.
    pub(crate) fn remove(&mut self, gone: &[Pattern]) -> bool {
        let before = self.repositories.len();
        self.repositories.retain(|pattern| !gone.contains(pattern));
        if self.repositories.len() == before {
            return false;
        }
        self.keep_covered();
        true
    }

    fn reach(&mut self, cursor: Cursor) -> bool {
        let has_changed = self.cursor.as_ref() != Some(&cursor);
        self.cursor = Some(cursor);
        has_changed
    }

    fn replace(&mut self, snapshot: Snapshot) {
        let Snapshot { repositories, tasks, cursor, .. } = snapshot;
        // Also what is left from before a gap goes.
        self.keep_covered();
        let is_replaced = |task: &Task| repositories.iter().any(|p| p.matches(&task.repository));
        self.tasks.retain(|_, task| !is_replaced(task));
        self.tasks.extend(tasks.into_iter().map(|task| (task.id, Arc::new(task))));
        self.repositories.extend(repositories);
        self.cursor = Some(cursor);
    }

    fn keep_covered(&mut self) {
        let Self { tasks, repositories, .. } = self;
        tasks.retain(|_, task| repositories.iter().any(|p| p.matches(&task.repository)));
    }

    /// The highest version of a task wins, in whatever order they come.
    fn event(&mut self, event: TaskEvent) -> bool {
        let TaskEvent { task_id, version, change, .. } = event;
        let shown = self.tasks.get(&task_id).map(|task| task.version);
        let known = shown.max(self.incomplete.get(&task_id).copied()).unwrap_or(0);
        if known >= version {
            return false;
        }
        if known + 1 < version || self.incomplete.contains_key(&task_id) {
            self.incomplete.insert(task_id, version);
        }
        match change {
            TaskChange::Created { task } | TaskChange::Updated { task, .. } => {
                self.tasks.insert(task_id, Arc::new(*task));
                true
            }
            TaskChange::Deleted { .. } => self.tasks.remove(&task_id).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Model, at};
    use crate::{Event, Gap, ResetReason};
    use proptest::prelude::*;

    fn patterns(names: &[&str]) -> Vec<Pattern> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn event(model: &Model, seq: u64) -> Update {
        let event = model.event(seq).clone();
        Update::Event(Event {
            event,
            cursor: at(seq),
            timestamp: None,
            replayed: false,
            traceparent: None,
            envelope: "".into(),
        })
    }

    fn snapshot(model: &Model, names: &[&str], seq: u64) -> Update {
        let repositories = patterns(names);
        let tasks = model.state(&repositories, seq);
        Update::Snapshot(Snapshot { repositories, tasks, cursor: at(seq), frames: vec![] })
    }

    fn tasks(state: &Tasks) -> Vec<Task> {
        state.iter().map(|task| (**task).clone()).collect()
    }

    proptest! {
        #[test]
        fn a_snapshot_and_what_follows_are_what_all_events_make(
            draws: Vec<u16>, cut: prop::sample::Index, late: prop::sample::Index,
        ) {
            let mut model = Model::default();
            draws.iter().for_each(|draw| model.change(*draw));
            let head = model.head();
            let all = patterns(&["*"]);
            let from = cut.index(draws.len() + 1) as u64;
            let mut state = Tasks::default();
            prop_assert!(state.apply(snapshot(&model, &["*"], from)));
            for seq in from + 1..=head {
                state.apply(event(&model, seq));
                prop_assert_eq!(tasks(&state), model.state(&all, seq));
                prop_assert_eq!(state.cursor(), Some(&at(seq)));
            }

            // An event that was lost comes when its loss was noticed.
            let mut late_state = Tasks::default();
            late_state.apply(snapshot(&model, &["*"], from));
            let late = from + 1 + late.index((head - from).max(1) as usize) as u64;
            for seq in (from + 1..=head).filter(|seq| *seq != late) {
                late_state.apply(event(&model, seq));
            }
            if late <= head {
                late_state.apply(event(&model, late));
            }
            prop_assert_eq!(tasks(&late_state), model.state(&all, head));

            // What was known before counts for nothing.
            state.apply(snapshot(&model, &["*"], from));
            prop_assert_eq!(tasks(&state), model.state(&all, from));
        }
    }

    fn model() -> Model {
        let mut model = Model::default();
        (0..200_u16).for_each(|draw| model.change(draw.wrapping_mul(40_503)));
        model
    }

    #[test]
    fn a_snapshot_replaces_its_repositories_alone() {
        let model = model();
        let mut state = Tasks::default();
        state.apply(snapshot(&model, &["a/x"], 50));
        state.apply(snapshot(&model, &["b"], 100));
        let mut both = model.state(&patterns(&["a/x"]), 50);
        both.extend(model.state(&patterns(&["b"]), 100));
        both.sort_by_key(|task| task.id);
        assert_eq!(tasks(&state), both);
        assert!(state.covers(&"b".parse().unwrap()) && !state.covers(&"a/y".parse().unwrap()));
    }

    #[test]
    fn what_is_removed_or_denied_leaves_unless_something_else_covers_it() {
        let model = model();
        let mut state = Tasks::default();
        state.apply(snapshot(&model, &["a/*", "a/x", "b"], 100));
        assert!(state.remove(&patterns(&["a/x", "b"])));
        assert!(!state.remove(&patterns(&["b"])));
        assert_eq!(tasks(&state), model.state(&patterns(&["a/*"]), 100));
        let foreign = (101..=200).find(|seq| model.event(*seq).repository.as_str() == "b").unwrap();
        state.apply(event(&model, foreign));
        assert_eq!(tasks(&state), model.state(&patterns(&["a/*"]), 100));
        let denied =
            crate::Denied { repository: "a/*".parse().unwrap(), code: crate::ErrorCode::NotFound };
        assert!(state.apply(Update::Denied(vec![denied])));
        assert!(state.is_empty());
    }

    #[test]
    fn after_a_gap_the_snapshot_is_all_there_is() {
        let model = model();
        let mut state = Tasks::default();
        state.apply(snapshot(&model, &["a/x", "b"], 50));
        let gap = Gap { reason: ResetReason::Expired, since: None, cursor: None };
        assert!(!state.apply(Update::Gap(gap)));
        assert_eq!(tasks(&state), model.state(&patterns(&["a/x", "b"]), 50), "shown meanwhile");
        state.apply(snapshot(&model, &["b"], 100));
        assert_eq!(tasks(&state), model.state(&patterns(&["b"]), 100));
    }
}
