//! A line about something that has happened.

use taskwatch_client::protocol::{EventKind, RepositoryName, TaskEvent, Timestamp};
use uuid::Uuid;

use super::Moment;
use crate::output::{self, TextFormat};
use crate::paint::Paint;

/// Something that has happened. Its texts are harmless already.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// A task changed.
    Change(Change),
    /// The connection has a story too.
    Notice(Notice),
}

/// A change of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    pub(crate) kind: EventKind,
    pub(crate) task: Uuid,
    /// The task's version after it.
    pub(crate) version: u64,
    pub(crate) repository: RepositoryName,
    pub(crate) title: String,
    /// `status pending → in_progress`
    pub(crate) what: String,
    /// Who did it.
    pub(crate) by: String,
    /// Whether it came late.
    pub(crate) replayed: bool,
}

impl Change {
    /// An event that does not say when it happened, happened when it came.
    pub(crate) fn new(
        event: &TaskEvent,
        at: Option<Timestamp>,
        replayed: bool,
        now: &Moment,
    ) -> Self {
        let format = TextFormat::new(Paint(false), &[]);
        Self {
            at: at.unwrap_or_else(|| now.timestamp()),
            kind: event.kind(),
            task: event.task_id,
            version: event.version,
            repository: event.repository.clone(),
            title: output::title(&event.task().title).to_string(),
            what: format.what(&event.change).to_string(),
            by: output::who(&event.changed_by).to_string(),
            replayed,
        }
    }
}

/// What was told of the connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub(crate) at: Timestamp,
    pub(crate) text: String,
    /// Whether something is missing, or may be.
    pub(crate) is_warning: bool,
}
