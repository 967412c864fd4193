//! A log whose reads the test can hold up.

use std::sync::{Arc, Mutex};

use taskwatch_protocol::{
    Cursor, Incarnation, Pattern, ResetReason, ServerFrame, ServerMessage, TaskEvent, Timestamp,
};
use taskwatch_server::{
    EventLog, Incarnations, LogEvent, Page, PageLimit, ReadFuture, SnapshotFuture, SnapshotSink,
};
use tokio::sync::{RwLock, RwLockWriteGuard};

use super::task;

/// Every event that was appended, in order, numbered from 1.
pub(crate) struct TestLog {
    events: Mutex<Vec<LogEvent>>,
    lives: Incarnations,
    gate: RwLock<()>,
}

impl TestLog {
    pub(crate) fn new() -> Arc<Self> {
        let lives = Incarnations::new(vec![(Incarnation(7), 1)]);
        Arc::new(Self { events: Mutex::default(), lives, gate: RwLock::default() })
    }

    /// Appends a new task; the hub has still to be told.
    pub(crate) fn append(&self, repository: &str, title: &str) -> LogEvent {
        let mut events = self.events.lock().unwrap();
        let seq = events.len() as u64 + 1;
        let event = TaskEvent::created(task(repository, title), "test");
        let frame = ServerFrame::new(ServerMessage::Task(event))
            .at(Timestamp::default())
            .cursor(self.lives.cursor(seq));
        let kind = taskwatch_protocol::EventKind::Created;
        let event = LogEvent::new(seq, repository.parse().unwrap(), kind, &frame.encode());
        events.push(event.clone());
        event
    }

    pub(crate) fn events(&self) -> Vec<LogEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Holds up every read until the guard is dropped.
    pub(crate) async fn hold(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }
}

impl EventLog for TestLog {
    fn head(&self) -> u64 {
        self.events.lock().unwrap().len() as u64
    }

    fn cursor(&self, seq: u64) -> Cursor {
        self.lives.cursor(seq)
    }

    fn validate(&self, cursor: &Cursor) -> Result<u64, ResetReason> {
        self.lives.validate(cursor, self.head(), 0)
    }

    fn read(&self, after: u64, upto: u64, limit: PageLimit) -> ReadFuture<'_> {
        Box::pin(async move {
            let _open = self.gate.read().await;
            let all = self.events.lock().unwrap();
            let events: Vec<_> = all
                .iter()
                .filter(|event| event.seq() > after && event.seq() <= upto)
                .take(limit.events)
                .cloned()
                .collect();
            let scanned_to = events.last().map_or(upto, LogEvent::seq);
            Ok(Page { events, scanned_to })
        })
    }

    fn snapshot(&self, _: &[Pattern], mut into: SnapshotSink) -> SnapshotFuture<'_> {
        Box::pin(async move {
            let _open = self.gate.read().await;
            let events = self.events();
            for event in &events {
                let frame = std::str::from_utf8(event.envelope()).unwrap();
                let ServerMessage::Task(event) = ServerFrame::decode(frame).unwrap().message else {
                    unreachable!("the log holds events")
                };
                into.push(event.task().clone())?;
            }
            let head = events.len() as u64;
            Ok(into.finish(head, self.cursor(head))?)
        })
    }
}
