//! What the unit tests build on: positions, events, frames.

use std::collections::BTreeMap;

use taskwatch_protocol::{
    Cursor, Envelope, Pattern, Priority, ServerFrame, ServerMessage, Status, Task, TaskChange,
    TaskEvent, Timestamp,
};
use uuid::Uuid;

use crate::Event;

pub(crate) fn at(seq: u64) -> Cursor {
    Cursor::new(format!("c-{seq}"))
}

pub(crate) fn seq(cursor: &Cursor) -> u64 {
    cursor.as_str()[2..].parse().unwrap()
}

pub(crate) fn task_event(seq: u64) -> TaskEvent {
    let task = Task {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        repository: "foo".parse().unwrap(),
        title: format!("task {seq}"),
        description: String::new(),
        status: Status::Pending,
        priority: Priority::Medium,
        assignee: None,
        tags: vec![],
        created_at: Timestamp::from_unix_millis(0),
        updated_at: Timestamp::from_unix_millis(0),
        version: 1,
    };
    TaskEvent::created(task, "test")
}

pub(crate) fn event_frame(seq: u64) -> ServerFrame {
    Envelope::new(ServerMessage::Task(task_event(seq))).cursor(at(seq))
}

pub(crate) fn event(seq: u64) -> Event {
    event_of_bytes(seq, 0)
}

pub(crate) fn event_of_bytes(seq: u64, bytes: usize) -> Event {
    Event {
        event: task_event(seq),
        cursor: at(seq),
        timestamp: None,
        replayed: false,
        traceparent: None,
        envelope: "x".repeat(bytes).into(),
    }
}

/// A log of changes to a few tasks, and the state that it makes.
#[derive(Debug, Default)]
pub(crate) struct Model {
    log: Vec<TaskEvent>,
    tasks: BTreeMap<Uuid, Task>,
    made: u128,
}

impl Model {
    pub(crate) const REPOSITORIES: [&str; 3] = ["a/x", "a/y", "b"];

    pub(crate) fn head(&self) -> u64 {
        self.log.len() as u64
    }

    pub(crate) fn event(&self, seq: u64) -> &TaskEvent {
        &self.log[usize::try_from(seq).unwrap() - 1]
    }

    /// Makes, changes or deletes a task.
    pub(crate) fn change(&mut self, draw: u16) {
        let place = usize::from(draw / 8);
        let some = self.tasks.values().nth(place % self.tasks.len().max(1)).cloned();
        let event = match (draw % 8, some) {
            (0..=3, Some(before)) => {
                let version = before.version + 1;
                let after = Task { version, title: format!("version {version}"), ..before.clone() };
                self.tasks.insert(after.id, after.clone());
                TaskEvent::updated(&before, after, "test")
            }
            (4, Some(task)) => {
                self.tasks.remove(&task.id);
                TaskEvent::deleted(task, "test")
            }
            _ => {
                self.made += 1;
                let TaskChange::Created { task } = task_event(0).change else { unreachable!() };
                let repository = Self::REPOSITORIES[place % 3].parse().unwrap();
                let task = Task { id: Uuid::from_u128(self.made), repository, ..*task };
                self.tasks.insert(task.id, task.clone());
                TaskEvent::created(task, "test")
            }
        };
        self.log.push(event);
    }

    /// The tasks of these repositories after the first `upto` changes, by their ids.
    pub(crate) fn state(&self, repositories: &[Pattern], upto: u64) -> Vec<Task> {
        let mut tasks = BTreeMap::new();
        for event in &self.log[..usize::try_from(upto).unwrap()] {
            match &event.change {
                TaskChange::Deleted { .. } => tasks.remove(&event.task_id),
                _ => tasks.insert(event.task_id, event.task().clone()),
            };
        }
        let wanted = |task: &Task| repositories.iter().any(|it| it.matches(&task.repository));
        tasks.into_values().filter(wanted).collect()
    }
}
