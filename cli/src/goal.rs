//! What `--for` waits for, held against what happens. Updates in, a verdict out.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use taskwatch_client::{Pattern, Tasks, Update};

use crate::condition::{Condition, Tally, tasks_in_words};
use crate::status::span;

/// A condition, and the tasks it is about as far as they are known.
///
/// It is met only by tasks that were so at one place of the log: never by a part of a snapshot, nor by
/// what was known before a gap, nor while one of the repositories cannot be seen.
#[derive(Debug)]
pub(crate) struct Goal {
    condition: Condition,
    allow_empty: bool,
    /// What is watched.
    wanted: Vec<Pattern>,
    /// Whose tasks are known.
    known: BTreeSet<Pattern>,
    tasks: Tasks,
    tally: Tally,
    is_met: bool,
}

impl Goal {
    /// `allow_empty` lets `all` of no task at all be so.
    pub(crate) fn new(condition: Condition, allow_empty: bool, wanted: Vec<Pattern>) -> Self {
        let tally = condition.tally([]);
        let (known, tasks) = (BTreeSet::new(), Tasks::default());
        Self { condition, allow_empty, wanted, known, tasks, tally, is_met: false }
    }

    /// What may be a slip in the condition, a sentence each.
    pub(crate) fn doubts(&self) -> &[String] {
        self.condition.doubts()
    }

    /// Takes the next update of a stream that begins with a snapshot, and has one after a gap. True if
    /// the condition is met; then no more should follow.
    pub(crate) fn take(&mut self, update: Update) -> bool {
        self.is_met = self.is_met_behind(update);
        self.is_met
    }

    /// Whether the last update met the condition.
    pub(crate) fn is_met(&self) -> bool {
        self.is_met
    }

    fn is_met_behind(&mut self, update: Update) -> bool {
        match &update {
            Update::Event(event) => {
                let id = event.task_id;
                if let Some(task) = self.tasks.get(id) {
                    self.condition.remove(task, &mut self.tally);
                }
                self.tasks.apply(update);
                if let Some(task) = self.tasks.get(id) {
                    self.condition.add(task, &mut self.tally);
                }
                return self.holds();
            }
            Update::Snapshot(snapshot) => self.known.extend(snapshot.repositories.iter().cloned()),
            Update::Denied(denied) => {
                self.known.retain(|known| denied.iter().all(|denied| denied.repository != *known));
            }
            Update::Gap(_) => self.known.clear(),
            // Nothing that is said of tasks.
            _ => return false,
        }
        self.tasks.apply(update);
        self.tally = self.condition.tally(self.tasks.iter().map(Arc::as_ref));
        self.holds()
    }

    fn holds(&self) -> bool {
        self.unknown().next().is_none() && self.condition.holds(&self.tally, self.allow_empty)
    }

    /// What is watched and cannot be judged.
    fn unknown(&self) -> impl Iterator<Item = &Pattern> {
        self.wanted.iter().filter(|wanted| !self.known.contains(*wanted))
    }

    /// The line that says it is met.
    pub(crate) fn met(&self, after: Duration) -> String {
        format!("met after {} · {}", span(after), tasks_in_words(self.tally.total()))
    }

    /// The line that says what is still in the way.
    pub(crate) fn missing(&self, after: Duration) -> String {
        let unknown: Vec<String> = self.unknown().map(ToString::to_string).collect();
        let missing = if unknown.is_empty() {
            let tasks = self.tasks.iter().map(Arc::as_ref).collect::<Vec<_>>();
            self.condition.missing(&self.tally, self.allow_empty, &tasks)
        } else {
            format!("the tasks of {} are not known", unknown.join(", "))
        };
        format!("not met after {}: {missing}", span(after))
    }
}
