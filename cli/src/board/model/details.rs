//! One task, and what happened to it.

use std::sync::Arc;

use taskwatch_client::Task;

use crate::board::entry::Change;
use crate::escape::Visible;

/// One task, and what happened to it.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    /// As it is, or as it last was.
    pub(crate) task: Arc<Task>,
    pub(crate) is_gone: bool,
    /// By version, the last first.
    pub(crate) changes: Vec<Change>,
    pub(crate) history: History,
    /// The first line that is shown.
    pub(crate) scroll: usize,
}

/// How far the changes reach back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// The server was asked.
    Loading,
    /// As far as the server's.
    Whole,
    /// Only to when the board was opened, and why. The text is harmless already.
    Seen(String),
}

impl Details {
    /// A task, and what was seen of it.
    pub(crate) fn new(task: Arc<Task>, seen: impl Iterator<Item = Change>) -> Self {
        let mut details = Self {
            task,
            is_gone: false,
            changes: seen.collect(),
            history: History::Loading,
            scroll: 0,
        };
        details.sort();
        details
    }

    pub(crate) fn fetched(&mut self, history: Result<Vec<Change>, String>) {
        match history {
            Ok(changes) => {
                self.changes.extend(changes);
                self.sort();
                self.history = History::Whole;
            }
            Err(reason) => self.history = History::Seen(Visible(&reason).to_string()),
        }
    }

    /// The task changed.
    pub(crate) fn changed(&mut self, after: Option<Arc<Task>>, change: Change) {
        self.replaced(after);
        self.changes.push(change);
        self.sort();
    }

    /// What the task is now.
    pub(crate) fn replaced(&mut self, task: Option<Arc<Task>>) {
        self.is_gone = task.is_none();
        self.task = task.unwrap_or_else(|| Arc::clone(&self.task));
    }

    fn sort(&mut self) {
        self.changes.sort_by_key(|change| std::cmp::Reverse(change.version));
        self.changes.dedup_by_key(|change| change.version);
    }
}
