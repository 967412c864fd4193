//! A log in memory, and the publisher that writes to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskwatch_protocol::{
    Cursor, Incarnation, ResetReason, Seq, ServerFrame, ServerMessage, Task, TaskEvent, Timestamp,
};

use super::{EventLog, Incarnations, LogEvent, PageLimit, ReadError, ReadFuture};
use crate::Hub;
use crate::clock::now;
use crate::hub::EventCache;

/// The newest events, kept in memory. It begins with the process and ends with it.
#[derive(Debug)]
pub struct MemoryLog {
    events: Mutex<EventCache>,
    lives: Incarnations,
}

impl MemoryLog {
    /// An empty log that keeps the newest `max_events`, and not more than `max_bytes` of them.
    #[must_use]
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            events: Mutex::new(EventCache::new(0, max_events, max_bytes)),
            lives: Incarnations::new(vec![(Incarnation(rand::random()), 1)]),
        }
    }

    fn events(&self) -> MutexGuard<'_, EventCache> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventLog for MemoryLog {
    fn head(&self) -> Seq {
        self.events().head()
    }

    fn cursor(&self, seq: Seq) -> Cursor {
        self.lives.cursor(seq)
    }

    fn validate(&self, cursor: &Cursor) -> Result<Seq, ResetReason> {
        let events = self.events();
        self.lives.validate(cursor, events.head(), events.floor())
    }

    fn read(&self, after: Seq, upto: Seq, limit: PageLimit) -> ReadFuture<'_> {
        let page = self.events().read(after, upto, limit);
        Box::pin(std::future::ready(page.ok_or(ReadError::Gone)))
    }
}

/// Tells a hub that keeps its own log what happened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskEventPublisher {
    log: Arc<MemoryLog>,
    hub: Hub,
    last: Arc<Mutex<Timestamp>>,
}

impl TaskEventPublisher {
    pub(crate) fn new(log: Arc<MemoryLog>, hub: Hub) -> Self {
        Self { log, hub, last: Arc::default() }
    }

    /// A task was made. The cursor of the event.
    pub fn created(&self, task: Task, changed_by: impl Into<String>) -> Cursor {
        self.publish(TaskEvent::created(task, changed_by))
    }

    /// A task changed from `before` to `after`. The cursor of the event.
    pub fn updated(&self, before: &Task, after: Task, changed_by: impl Into<String>) -> Cursor {
        self.publish(TaskEvent::updated(before, after, changed_by))
    }

    /// A task is gone. The cursor of the event.
    pub fn deleted(&self, previous: Task, changed_by: impl Into<String>) -> Cursor {
        self.publish(TaskEvent::deleted(previous, changed_by))
    }

    /// Something happened to a task. The cursor of the event.
    pub fn publish(&self, event: TaskEvent) -> Cursor {
        // Held until the hub has it: numbers, times and publishing keep one order.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = now().wall.max(*last);
        let seq = self.log.head() + 1;
        let cursor = self.log.cursor(seq);
        let (repository, kind) = (event.repository.clone(), event.kind());
        let frame = ServerFrame::new(ServerMessage::Task(event)).at(*last).cursor(cursor.clone());
        let event = LogEvent::new(seq, repository, kind, &frame.encode());
        self.log.events().push(event.clone());
        self.hub.publish(event);
        cursor
    }
}
