//! A log that outlives its server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskwatch_protocol::{
    Cursor, Incarnation, Pattern, Priority, ResetReason, Seq, ServerFrame, ServerMessage, Status,
    Task, TaskEvent, Timestamp,
};
use uuid::Uuid;

use crate::mutant::{self, Mutant};
use crate::{
    EventLog, Incarnations, LogEvent, Page, PageLimit, ReadError, ReadFuture, SeekError,
    SeekFuture, SnapshotError, SnapshotFuture, SnapshotSink, Tail,
};

/// What is kept when a server dies. A clone is the same disk.
#[derive(Clone, Debug)]
pub struct Disk {
    content: Arc<Mutex<Content>>,
}

/// A copy can be put back later.
#[derive(Clone, Debug)]
pub struct Content {
    lives: Vec<(Incarnation, Seq)>,
    /// Every event after this is kept.
    floor: Seq,
    head: Seq,
    events: Vec<LogEvent>,
    /// When each of them happened,
    times: Vec<Timestamp>,
    /// and the newest of those that were forgotten.
    forgotten: Option<Timestamp>,
    tasks: BTreeMap<Uuid, Task>,
    is_broken: bool,
}

/// A change of a task, by numbers that mean something at any time.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Which task changes; a new one if there are not so many.
    pub task: usize,
    /// Whether it is deleted.
    pub is_deletion: bool,
    /// Where a new one belongs.
    pub repository: &'a str,
    /// How long the description is.
    pub bytes: usize,
}

impl Disk {
    /// An empty log in which `head` events were, all of them forgotten.
    pub fn new(head: Seq) -> Self {
        let content = Content {
            lives: vec![],
            floor: head,
            head,
            events: vec![],
            times: vec![],
            forgotten: None,
            tasks: BTreeMap::new(),
            is_broken: false,
        };
        Self { content: Arc::new(Mutex::new(content)) }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server opens it, and begins the life `life`. The number of its first event.
    pub fn open(&self, life: u64) -> Seq {
        let mut content = self.content();
        let first = content.head + 1;
        content.lives.push((Incarnation(life), first));
        first
    }

    /// Makes a change and appends its event.
    pub fn commit(&self, change: Change<'_>, at: Timestamp) -> LogEvent {
        let mut content = self.content();
        let seq = content.head + 1;
        let before = content.tasks.values().nth(change.task).cloned();
        let event = match before {
            Some(before) if change.is_deletion => TaskEvent::deleted(before, "test"),
            Some(before) => {
                let after = Task {
                    title: format!("changed by {seq}"),
                    updated_at: at,
                    version: before.version + 1,
                    ..before.clone()
                };
                TaskEvent::updated(&before, after, "test")
            }
            None => TaskEvent::created(new_task(seq, change, at), "test"),
        };
        if change.is_deletion && event.version > 1 {
            content.tasks.remove(&event.task_id);
        } else {
            content.tasks.insert(event.task_id, event.task().clone());
        }
        let cursor = Incarnations::new(content.lives.clone()).cursor(seq);
        let (repository, kind) = (event.repository.clone(), event.kind());
        let frame = ServerFrame::new(ServerMessage::Task(event)).at(at).cursor(cursor);
        let event = LogEvent::new(seq, repository, kind, &frame.encode());
        content.head = seq;
        content.events.push(event.clone());
        content.times.push(at);
        event
    }

    /// Forgets events up to `floor`.
    pub fn forget(&self, floor: Seq) {
        let mut content = self.content();
        content.floor = content.floor.max(floor.min(content.head));
        let floor = content.floor;
        let gone = content.events.partition_point(|event| event.seq() <= floor);
        content.events.drain(..gone);
        let newest = content.times.drain(..gone).next_back();
        content.forgotten = newest.or(content.forgotten);
    }

    /// From now on nothing can be read, or it can again.
    pub fn set_broken(&self, is_broken: bool) {
        self.content().is_broken = is_broken;
    }

    /// What is on it now.
    pub fn copy(&self) -> Content {
        self.content().clone()
    }

    /// Puts back what was on it once; the disk itself is fine.
    pub fn restore(&self, copy: Content) {
        *self.content() = Content { is_broken: false, ..copy };
    }
}

fn new_task(seq: Seq, change: Change<'_>, at: Timestamp) -> Task {
    Task {
        id: Uuid::from_u64_pair(0, seq),
        repository: change.repository.parse().expect("a name"),
        title: format!("made by {seq}"),
        description: "x".repeat(change.bytes),
        status: Status::Pending,
        priority: Priority::Medium,
        assignee: None,
        tags: vec![],
        created_at: at,
        updated_at: at,
        version: 1,
    }
}

impl EventLog for Disk {
    fn head(&self) -> Seq {
        self.content().head
    }

    fn cursor(&self, seq: Seq) -> Cursor {
        Incarnations::new(self.content().lives.clone()).cursor(seq)
    }

    fn validate(&self, cursor: &Cursor) -> Result<Seq, ResetReason> {
        let content = self.content();
        Incarnations::new(content.lives.clone()).validate(cursor, content.head, content.floor)
    }

    fn read(&self, after: Seq, upto: Seq, limit: PageLimit) -> ReadFuture<'_> {
        Box::pin(async move {
            let content = self.content();
            if content.is_broken {
                return Err(ReadError::Unavailable("broken".to_owned()));
            }
            if after < content.floor {
                return Err(ReadError::Gone);
            }
            let mut page = Page { events: vec![], scanned_to: upto };
            let start = content.events.partition_point(|event| event.seq() <= after);
            let mut bytes = 0;
            for event in content.events[start..].iter().take_while(|event| event.seq() <= upto) {
                bytes += event.envelope().len();
                let is_full = page.events.len() == limit.events || bytes > limit.bytes;
                if let (true, Some(last)) = (is_full, page.events.last()) {
                    page.scanned_to = LogEvent::seq(last);
                    break;
                }
                page.events.push(event.clone());
            }
            Ok(page)
        })
    }

    fn seek_time(&self, time: Timestamp) -> SeekFuture<'_> {
        Box::pin(async move {
            let content = self.content();
            if content.is_broken {
                return Err(SeekError::Unavailable("broken".to_owned()));
            }
            if content.forgotten.is_some_and(|newest| newest >= time) {
                return Err(SeekError::Gone);
            }
            let before = content.times.partition_point(|&at| at < time);
            Ok(before.checked_sub(1).map_or(content.floor, |last| content.events[last].seq()))
        })
    }

    fn seek_tail(&self, mut tail: Tail) -> SeekFuture<'_> {
        Box::pin(async move {
            let content = self.content();
            if content.is_broken {
                return Err(SeekError::Unavailable("broken".to_owned()));
            }
            let upto = tail.upto();
            for event in content.events.iter().rev().filter(|event| event.seq() <= upto) {
                if tail.look_at(event.seq(), event.repository(), event.kind()).is_break() {
                    break;
                }
            }
            Ok(tail.position())
        })
    }

    fn snapshot(&self, _: &[Pattern], mut into: SnapshotSink) -> SnapshotFuture<'_> {
        Box::pin(async move {
            let content = self.content();
            if content.is_broken {
                return Err(SnapshotError::Unavailable("broken".to_owned()));
            }
            for task in content.tasks.values() {
                into.push(task.clone())?;
            }
            // The same mistake that the store makes on purpose.
            let seq = content.head + u64::from(mutant::active(Mutant::StaleSnapshot));
            Ok(into.finish(seq, Incarnations::new(content.lives.clone()).cursor(seq))?)
        })
    }
}
