//! A log in memory, and the publisher that writes to it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskwatch_protocol::{
    Cursor, Incarnation, ResetReason, Seq, ServerFrame, ServerMessage, Task, TaskEvent, Timestamp,
};

use super::{
    EventLog, Incarnations, LogEvent, PageLimit, ReadError, ReadFuture, SeekError, SeekFuture, Tail,
};
use crate::Hub;
use crate::clock::now;
use crate::hub::EventCache;

/// Events that are looked at for a tail in one turn: who publishes waits for the lock.
const LOOKS_IN_A_TURN: usize = 256;

/// The newest events, kept in memory. It begins with the process and ends with it.
#[derive(Debug)]
pub struct MemoryLog {
    kept: Mutex<Kept>,
    lives: Incarnations,
}

#[derive(Debug)]
struct Kept {
    events: EventCache,
    /// When they happened.
    times: VecDeque<Timestamp>,
    /// When the newest event happened that is no longer kept.
    gone: Option<Timestamp>,
}

impl Kept {
    fn push(&mut self, event: LogEvent, at: Timestamp) {
        if self.events.push(event) {
            self.times.push_back(at);
        }
        while self.times.len() > self.events.len() {
            self.gone = self.times.pop_front();
        }
    }

    fn seek_time(&self, time: Timestamp) -> Result<Seq, SeekError> {
        if self.gone.is_some_and(|gone| gone >= time) {
            return Err(SeekError::Gone);
        }
        let place = self.times.partition_point(|&at| at < time);
        Ok(self.events.position_before(place))
    }
}

impl MemoryLog {
    /// An empty log that keeps the newest `max_events`, and not more than `max_bytes` of them.
    #[must_use]
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            kept: Mutex::new(Kept {
                events: EventCache::new(0, max_events, max_bytes),
                times: VecDeque::new(),
                // What happened before is not known here.
                gone: Some(now().wall),
            }),
            lives: Incarnations::new(vec![(Incarnation(rand::random()), 1)]),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventLog for MemoryLog {
    fn head(&self) -> Seq {
        self.kept().events.head()
    }

    fn cursor(&self, seq: Seq) -> Cursor {
        self.lives.cursor(seq)
    }

    fn validate(&self, cursor: &Cursor) -> Result<Seq, ResetReason> {
        let events = &self.kept().events;
        self.lives.validate(cursor, events.head(), events.floor())
    }

    fn read(&self, after: Seq, upto: Seq, limit: PageLimit) -> ReadFuture<'_> {
        let page = self.kept().events.read(after, upto, limit);
        Box::pin(std::future::ready(page.ok_or(ReadError::Gone)))
    }

    fn seek_time(&self, time: Timestamp) -> SeekFuture<'_> {
        let found = self.kept().seek_time(time);
        Box::pin(std::future::ready(found))
    }

    fn seek_tail(&self, mut tail: Tail) -> SeekFuture<'_> {
        Box::pin(async move {
            let mut upto = tail.upto();
            loop {
                let events = self.kept().events.newest(upto, LOOKS_IN_A_TURN);
                let Some(oldest) = events.last() else { return Ok(tail.position()) };
                upto = oldest.seq() - 1;
                for event in &events {
                    if tail.look_at(event.seq(), event.repository(), event.kind()).is_break() {
                        return Ok(tail.position());
                    }
                }
                tokio::task::yield_now().await;
            }
        })
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
        self.log.kept().push(event.clone(), *last);
        self.hub.publish(event);
        cursor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::event;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    #[test]
    fn a_time_is_the_position_before_what_happened_then() {
        let log = MemoryLog::new(3, usize::MAX);
        // What happened before it began is not known.
        assert_eq!(log.kept().seek_time(at(5)), Err(SeekError::Gone));
        log.kept().gone = None;
        for (seq, millis) in [(1, 10), (2, 20), (3, 20)] {
            log.kept().push(event(seq, "foo"), at(millis));
        }
        let times = [0, 10, 11, 20, 21].map(|millis| log.kept().seek_time(at(millis)));
        assert_eq!(times, [Ok(0), Ok(0), Ok(1), Ok(1), Ok(3)]);
        // What was thrown away is missed only by who goes back so far.
        log.kept().push(event(4, "foo"), at(30));
        let times = [0, 10, 11, 20].map(|millis| log.kept().seek_time(at(millis)));
        assert_eq!(times, [Err(SeekError::Gone), Err(SeekError::Gone), Ok(1), Ok(1)]);
    }
}
