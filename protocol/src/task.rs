//! Tasks, and what happens to them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::word::words;
use crate::{Changes, FieldChange, RepositoryName, Timestamp};

words! {
    /// Where a task stands.
    pub open enum Status {
        /// Not begun.
        Pending = "pending",
        /// Somebody is on it.
        InProgress = "in_progress",
        /// Done.
        Completed = "completed",
        /// Given up.
        Cancelled = "cancelled",
    }
}

words! {
    /// How much a task matters.
    pub open enum Priority {
        /// Can wait.
        Low = "low",
        /// The usual.
        Medium = "medium",
        /// Before the others.
        High = "high",
    }
}

words! {
    /// The `type` of a task event.
    pub closed enum EventKind {
        /// A task was made.
        Created = "task.created",
        /// A task changed.
        Updated = "task.updated",
        /// A task is gone.
        Deleted = "task.deleted",
    }
}

/// A task. The same JSON in events, snapshots and REST.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Task {
    /// UUID v7, given out by the server.
    pub id: Uuid,
    /// Where it belongs; never changes.
    pub repository: RepositoryName,
    /// One line.
    pub title: String,
    /// Free text, possibly empty.
    #[serde(default)]
    pub description: String,
    /// Where it stands.
    pub status: Status,
    /// How much it matters.
    pub priority: Priority,
    /// Whose it is, if anybody's.
    #[serde(default)]
    pub assignee: Option<String>,
    /// Labels, in the order they were given.
    #[serde(default)]
    pub tags: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// 1 when created, and one more with each change.
    pub version: u64,
}

/// Something that happened to a task: the `data` of a task event.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskEvent {
    /// The task.
    pub task_id: Uuid,
    /// Where it belongs.
    pub repository: RepositoryName,
    /// The task's version after the change.
    pub version: u64,
    /// Who did it: a principal, or `api` where nobody is told apart.
    pub changed_by: String,
    /// What happened.
    pub change: TaskChange,
}

/// What happened to a task, with the state that goes with it.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskChange {
    /// It was made.
    Created {
        /// The new task.
        task: Box<Task>,
    },
    /// It changed.
    Updated {
        /// The task after the change.
        task: Box<Task>,
        /// The fields that changed, except `updated_at` and `version`, which always do.
        changes: Changes,
    },
    /// It is gone.
    Deleted {
        /// The task as it last was.
        previous: Box<Task>,
    },
}

impl TaskEvent {
    /// A task was made.
    #[must_use]
    pub fn created(task: Task, changed_by: impl Into<String>) -> Self {
        let version = task.version;
        Self::about(version, changed_by.into(), TaskChange::Created { task: Box::new(task) })
    }

    /// A task changed from `before` to `after`.
    #[must_use]
    pub fn updated(before: &Task, after: Task, changed_by: impl Into<String>) -> Self {
        let changes = after.changes_since(before);
        let version = after.version;
        let change = TaskChange::Updated { task: Box::new(after), changes };
        Self::about(version, changed_by.into(), change)
    }

    /// A task is gone. The event's version is the one after `previous`.
    #[must_use]
    pub fn deleted(previous: Task, changed_by: impl Into<String>) -> Self {
        let version = previous.version + 1;
        let change = TaskChange::Deleted { previous: Box::new(previous) };
        Self::about(version, changed_by.into(), change)
    }

    fn about(version: u64, changed_by: String, change: TaskChange) -> Self {
        let (task_id, repository) = (change.task().id, change.task().repository.clone());
        Self { task_id, repository, version, changed_by, change }
    }

    /// The event's `type`.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self.change {
            TaskChange::Created { .. } => EventKind::Created,
            TaskChange::Updated { .. } => EventKind::Updated,
            TaskChange::Deleted { .. } => EventKind::Deleted,
        }
    }

    /// The task after the change, or as it last was.
    #[must_use]
    pub fn task(&self) -> &Task {
        self.change.task()
    }

    /// The same without the rest of the event.
    #[must_use]
    pub fn into_task(self) -> Task {
        match self.change {
            TaskChange::Created { task } | TaskChange::Updated { task, .. } => *task,
            TaskChange::Deleted { previous } => *previous,
        }
    }
}

impl TaskChange {
    fn task(&self) -> &Task {
        match self {
            Self::Created { task } | Self::Updated { task, .. } => task,
            Self::Deleted { previous } => previous,
        }
    }
}

impl Task {
    /// The fields in which this task differs from `before`, except `updated_at` and `version`.
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> Changes {
        let mut changes = Changes::default();
        let mut note = |field: &str, from: Value, to: Value| {
            if from != to {
                changes.insert(field, FieldChange::new(from, to));
            }
        };
        note("title", before.title.as_str().into(), self.title.as_str().into());
        note("description", before.description.as_str().into(), self.description.as_str().into());
        note("status", before.status.as_str().into(), self.status.as_str().into());
        note("priority", before.priority.as_str().into(), self.priority.as_str().into());
        note("assignee", before.assignee.as_deref().into(), self.assignee.as_deref().into());
        note("tags", before.tags.clone().into(), self.tags.clone().into());
        changes
    }
}

/// `data` of a task event as it stands on the wire; which fields are there depends on the type.
#[derive(Serialize, Deserialize)]
pub(crate) struct TaskEventData<'a, T> {
    task_id: Uuid,
    repository: RepositoryName,
    version: u64,
    changed_by: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Cow<'a, Changes>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<T>,
}

impl TaskEventData<'_, Box<Task>> {
    pub(crate) fn into_event(self, kind: &EventKind) -> Result<TaskEvent, &'static str> {
        let change = match kind {
            EventKind::Created => TaskChange::Created { task: self.task.ok_or("task is missing")? },
            EventKind::Updated => TaskChange::Updated {
                task: self.task.ok_or("task is missing")?,
                changes: self.changes.unwrap_or_default().into_owned(),
            },
            EventKind::Deleted => {
                TaskChange::Deleted { previous: self.previous.ok_or("previous is missing")? }
            }
            EventKind::Other(_) => return Err("not a task event"),
        };
        Ok(TaskEvent {
            task_id: self.task_id,
            repository: self.repository,
            version: self.version,
            changed_by: self.changed_by.into_owned(),
            change,
        })
    }
}

impl TaskEvent {
    /// The `data` with the task in some form.
    pub(crate) fn data<T>(&self, state: T) -> TaskEventData<'_, T> {
        let (task, changes, previous) = match &self.change {
            TaskChange::Created { .. } => (Some(state), None, None),
            TaskChange::Updated { changes, .. } => {
                (Some(state), Some(Cow::Borrowed(changes)), None)
            }
            TaskChange::Deleted { .. } => (None, None, Some(state)),
        };
        TaskEventData {
            task_id: self.task_id,
            repository: self.repository.clone(),
            version: self.version,
            changed_by: Cow::Borrowed(&self.changed_by),
            task,
            changes,
            previous,
        }
    }
}

impl Serialize for TaskEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.data(self.task()).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn task() -> Task {
        Task {
            id: Uuid::from_u128(7),
            repository: "foo".parse().unwrap(),
            title: "water the plants".into(),
            description: String::new(),
            status: Status::Pending,
            priority: Priority::Medium,
            assignee: None,
            tags: vec![],
            created_at: Timestamp::from_unix_millis(0),
            updated_at: Timestamp::from_unix_millis(0),
            version: 1,
        }
    }

    #[test]
    fn changes_name_what_differs_and_nothing_else() {
        let before = task();
        let after = Task {
            status: Status::InProgress,
            assignee: Some("ana".into()),
            version: 2,
            updated_at: Timestamp::from_unix_millis(5),
            ..before.clone()
        };
        let changes = serde_json::to_value(after.changes_since(&before)).unwrap();
        assert_eq!(
            changes,
            json!({
                "status": {"from": "pending", "to": "in_progress"},
                "assignee": {"from": null, "to": "ana"},
            })
        );
    }

    #[test]
    fn long_values_are_left_out_and_said_to_be() {
        let before = task();
        let after = Task { description: "x".repeat(255), ..before.clone() };
        let change = &after.changes_since(&before)["description"];
        assert_eq!(serde_json::to_value(change).unwrap(), json!({"from": "", "truncated": true}));
    }

    #[test]
    fn a_deletion_counts_as_a_version_of_its_own() {
        let event = TaskEvent::deleted(task(), "api");
        assert_eq!((event.version, event.task().version), (2, 1));
        assert_eq!(event.kind(), EventKind::Deleted);
    }

    #[test]
    fn words_and_fields_of_the_future_survive() {
        let mut value = serde_json::to_value(task()).unwrap();
        value["status"] = json!("blocked");
        value["due"] = json!("tomorrow");
        let task: Task = serde_json::from_value(value).unwrap();
        assert_eq!(task.status.as_str(), "blocked");
        assert!(!task.status.is_known());
    }
}
