//! What the unit tests build on: positions, events, frames.

use taskwatch_protocol::{
    Cursor, Envelope, Priority, ServerFrame, ServerMessage, Status, Task, TaskEvent, Timestamp,
};

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
        envelope: "x".repeat(bytes).into(),
    }
}
