//! The store as a whole. The writer is driven turn by turn: no thread, no sleep.

mod backup;
mod batch;
mod journal;
mod list;
mod once;
mod purge;
mod retention;
mod story;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use futures_util::FutureExt;
use proptest::prelude::*;
use taskwatch_protocol::{Priority, ResetReason, ServerFrame, ServerMessage, Status, TaskChange};
use taskwatch_server::{LogEvent, Page, PageLimit, ReadError, SeekError};
use tempfile::TempDir;

use super::*;
use crate::change::{NewTask, TaskPatch, Via};
use crate::list::ListParams;

const DAY: Duration = Duration::from_secs(86_400);
const START: i64 = 1_700_000_000_000;
const EVERYTHING: PageLimit = PageLimit { events: usize::MAX, bytes: usize::MAX };

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Changed, ChangeError>> + 'a>>;

fn list_of(limit: u64) -> ListQuery {
    let params = ListParams { limit: Some(limit), ..ListParams::default() };
    params.into_query(Principal::anonymous()).unwrap()
}

fn anybody() -> Caller {
    Caller { principal: Principal::anonymous(), via: Via::Api, trace: None }
}

/// Makes one change.
async fn change(store: &Store, change: Change, once: Option<Once>) -> Result<Changed, ChangeError> {
    let changed = store.change(anybody(), vec![change], once).await;
    changed.map(|mut changed| changed.remove(0)).map_err(|batch| batch.error)
}

struct Bench {
    dir: TempDir,
    store: Store,
    writer: Writer,
    now: Arc<AtomicI64>,
    published: RefCell<Vec<LogEvent>>,
}

impl Bench {
    fn new() -> Self {
        Self::keeping(1_000_000, DAY)
    }

    fn keeping(events: u64, age: Duration) -> Self {
        Self::at(TempDir::new().unwrap(), events, age)
    }

    fn at(dir: TempDir, events: u64, age: Duration) -> Self {
        let now = Arc::new(AtomicI64::new(START));
        let clock = Arc::clone(&now);
        let clock = Box::new(move || Timestamp::from_unix_millis(clock.load(Ordering::Relaxed)));
        let retention = Retention { events, age };
        let (store, writer) = Store::open_with_clock(dir.path(), retention, clock).unwrap();
        Self { dir, store, writer, now, published: RefCell::default() }
    }

    /// Stops without a word, as a killed process does, and starts again.
    fn restart(self) -> Self {
        let Self { dir, store, writer, .. } = self;
        let (events, age) = (writer.retention.events, writer.retention.age);
        drop((store, writer));
        Self::at(dir, events, age)
    }

    fn set_clock(&self, offset: i64) {
        self.now.store(START + offset, Ordering::Relaxed);
    }

    fn turn(&mut self) {
        let Self { writer, published, .. } = self;
        let flow = writer.turn(&|event| published.borrow_mut().push(event));
        assert!(matches!(flow, ControlFlow::Continue(())));
    }

    fn make(&mut self, changes: Vec<Change>) -> Vec<Result<Changed, ChangeError>> {
        self.make_once(changes.into_iter().map(|change| (change, None)).collect())
    }

    fn make_once(
        &mut self,
        changes: Vec<(Change, Option<Once>)>,
    ) -> Vec<Result<Changed, ChangeError>> {
        let store = self.store.clone();
        let waiting: Vec<_> =
            changes.into_iter().map(|(change, once)| ask_once(&store, change, once)).collect();
        self.turn();
        waiting.into_iter().map(|answer| answer.now_or_never().expect("answered")).collect()
    }

    fn create(&mut self, n: u64) {
        for _ in 0..n {
            self.make(vec![create("acme/api")]).remove(0).unwrap();
        }
    }

    fn seqs(&self) -> Vec<Seq> {
        self.published.borrow().iter().map(LogEvent::seq).collect()
    }

    async fn read(&self, after: Seq) -> Result<Vec<Seq>, ReadError> {
        let page = self.store.read(after, self.store.head(), EVERYTHING).await?;
        Ok(page.events.iter().map(LogEvent::seq).collect())
    }
}

/// Hands a change in; the answer comes with the writer's next turn.
fn ask(store: &Store, change: Change) -> Waiting<'_> {
    ask_once(store, change, None)
}

fn ask_once(store: &Store, one: Change, once: Option<Once>) -> Waiting<'_> {
    let mut waiting: Waiting<'_> = Box::pin(change(store, one, once));
    assert!(waiting.as_mut().now_or_never().is_none(), "nothing is answered before its commit");
    waiting
}

fn new_task(repository: &str) -> NewTask {
    NewTask {
        repository: repository.parse().unwrap(),
        title: "One".into(),
        description: String::new(),
        status: Status::Pending,
        priority: Priority::Medium,
        assignee: None,
        tags: vec!["a".into()],
    }
}

fn create(repository: &str) -> Change {
    Change::Create { id: Uuid::now_v7(), task: new_task(repository) }
}

fn retitle(id: Uuid, title: &str, if_match: Option<Vec<u64>>) -> Change {
    let patch = TaskPatch { title: Some(title.into()), ..TaskPatch::default() };
    Change::Update { id, patch, if_match }
}

fn event(log: &LogEvent) -> (ServerFrame, taskwatch_protocol::TaskEvent) {
    let frame = ServerFrame::decode(std::str::from_utf8(log.envelope()).unwrap()).unwrap();
    let ServerMessage::Task(event) = frame.message.clone() else { panic!("a task event") };
    (frame, event)
}

/// As `kill -9` leaves the folder: the database, its journal and the side file, of one moment.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn changes_that_wait_become_one_commit_and_are_published_in_order() {
    let mut bench = Bench::new();
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&commits);
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        false
    };
    bench.writer.conn.commit_hook(Some(count)).unwrap();

    let answers = bench.make((0..5).map(|_| create("acme/api")).collect());

    assert_eq!(commits.load(Ordering::Relaxed), 1);
    assert_eq!(bench.seqs(), [1, 2, 3, 4, 5]);
    for (answer, seq) in answers.iter().zip(1..) {
        assert_eq!(answer.as_ref().unwrap().cursor, bench.store.cursor(seq));
    }
    assert_eq!(bench.read(0).await.unwrap(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn what_is_published_is_what_is_stored_and_durable() {
    let mut bench = Bench::new();
    let waiting = ask(&bench.store, create("acme/api"));
    let reader = Connection::open(bench.dir.path().join(DATABASE)).unwrap();
    let _ = bench.writer.turn(&|event| {
        // I5: another connection sees the event by the time it is published.
        let sql = "SELECT envelope FROM event WHERE seq = ?1";
        let stored: String = reader.query_row(sql, [event.seq()], |row| row.get(0)).unwrap();
        assert_eq!(stored.as_bytes(), event.envelope());
        bench.published.borrow_mut().push(event);
    });
    let task = Task::clone(&waiting.await.unwrap().task);
    let (frame, event) = event(&bench.published.borrow()[0]);
    assert_eq!(frame.cursor, Some(bench.store.cursor(1)));
    assert_eq!(frame.timestamp, Some(task.created_at));
    assert_eq!((event.changed_by.as_str(), event.task()), ("api", &task));
    assert_eq!(bench.store.get(task.id).await.unwrap(), Some(task));
}

#[tokio::test]
async fn a_change_that_fails_sinks_no_other() {
    let mut bench = Bench::new();
    let trigger = "CREATE TRIGGER broken BEFORE INSERT ON event WHEN NEW.repository = 'bad' \
                   BEGIN SELECT RAISE(ABORT, 'broken'); END";
    bench.writer.conn.execute_batch(trigger).unwrap();
    let long = NewTask { description: "x".repeat(300_000), ..new_task("acme/api") };
    let long = Change::Create { id: Uuid::now_v7(), task: long };
    let nobody = Uuid::now_v7();

    let answers = bench.make(vec![
        create("acme/api"),
        create("bad"),
        long,
        retitle(nobody, "Two", None),
        create("acme/web"),
    ]);

    assert!(answers[0].is_ok() && answers[4].is_ok());
    assert_eq!(answers[1], Err(ChangeError::Internal));
    assert!(matches!(answers[2], Err(ChangeError::TooLarge { bytes }) if bytes > 300_000));
    assert_eq!(answers[3], Err(ChangeError::NotFound));
    assert_eq!(bench.seqs(), [1, 2]);
    let page = bench.store.list(list_of(10)).await.unwrap();
    assert_eq!(page.tasks.len(), 2);
}

#[tokio::test]
async fn changes_of_one_commit_see_each_other() {
    let mut bench = Bench::new();
    let id = Uuid::now_v7();
    let delete = Change::Delete { id, if_match: Some(vec![2]) };
    let answers = bench.make(vec![
        Change::Create { id, task: new_task("acme/api") },
        retitle(id, "Two", Some(vec![1])),
        retitle(id, "Three", Some(vec![1])),
        retitle(id, "Two", None),
        delete,
    ]);
    assert_eq!(answers[1].as_ref().unwrap().task.version, 2);
    assert_eq!(answers[2], Err(ChangeError::VersionConflict { current: 2 }));
    // Nothing to change: no event, the same version, the position so far.
    assert_eq!(answers[3], answers[1]);
    assert_eq!(answers[4].as_ref().unwrap().cursor, bench.store.cursor(3));
    assert_eq!(bench.seqs(), [1, 2, 3]);
    assert_eq!(bench.store.get(id).await.unwrap(), None);
}

#[tokio::test]
async fn a_caller_who_hangs_up_loses_nothing() {
    let mut bench = Bench::new();
    drop(ask(&bench.store, create("acme/api")));
    bench.turn();
    assert_eq!(bench.seqs(), [1]);
    assert_eq!(bench.read(0).await.unwrap(), [1]);
    assert_eq!(bench.store.open.room.available_permits(), WAITING);
}

#[tokio::test]
async fn a_full_disk_is_survived() {
    let mut bench = Bench::new();
    bench.create(1);
    let pages: u32 = bench.writer.conn.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
    bench.writer.conn.query_row("PRAGMA max_page_count = 1", [], |_| Ok(())).unwrap();
    let task = NewTask { description: "x".repeat(60_000), ..new_task("acme/api") };
    let large = Change::Create { id: Uuid::now_v7(), task };

    let answers = bench.make(vec![create("acme/api"), large.clone()]);
    assert_eq!(answers, [Err(ChangeError::Unavailable), Err(ChangeError::Unavailable)]);
    let failure = bench.store.stats().await.commit_failure.unwrap();
    assert!(failure.contains("full"), "{failure}");
    // One that changes nothing does not touch the disk.
    let nothing = Change::Delete { id: Uuid::now_v7(), if_match: None };
    assert_eq!(bench.make(vec![nothing]), [Err(ChangeError::NotFound)]);
    assert!(bench.store.stats().await.commit_failure.is_some());

    let enough = format!("PRAGMA max_page_count = {}", pages + 1000);
    bench.writer.conn.query_row(&enough, [], |_| Ok(())).unwrap();
    assert!(bench.make(vec![large]).remove(0).is_ok());
    assert_eq!(bench.seqs(), [1, 2]);
    assert_eq!(bench.store.stats().await.commit_failure, None);
}

#[tokio::test]
async fn it_is_found_out_without_a_change_that_changes_can_be_made_again() {
    let mut bench = Bench::new();
    bench.writer.patience = Duration::ZERO;
    bench.writer.shared.commits.failed("the disk is full".into());
    bench.turn();
    assert_eq!(bench.store.stats().await.commit_failure, None);
    assert_eq!(bench.store.stats().await.commit_changes.count(), 0);
}

#[tokio::test]
async fn commits_and_the_log_are_counted() {
    let mut bench = Bench::keeping(10, DAY);
    let empty = bench.store.stats().await;
    assert_eq!(empty.log.map(|log| (log.events, log.oldest)), Some((0, None)));
    bench.make(vec![create("acme/api"), create("acme/api"), create("acme/api")]);
    bench.set_clock(5_000);
    bench.create(9);
    bench.writer.trim(true);
    let stats = bench.store.stats().await;
    assert_eq!((stats.commit_changes.count(), stats.commit_changes.sum), (10, 12));
    assert_eq!((stats.commit_micros.count(), stats.commit_failure), (10, None));
    let log = stats.log.unwrap();
    assert_eq!((log.events, log.oldest), (10, Some(Timestamp::from_unix_millis(START))));
    let file = std::fs::metadata(bench.dir.path().join(DATABASE)).unwrap();
    assert!(log.bytes >= file.len() && log.bytes > 0);
    bench.store.open.readers.close().await;
    assert_eq!(bench.store.stats().await.log, None);
}

#[tokio::test]
async fn time_never_goes_back_along_the_log() {
    let mut bench = Bench::new();
    let mut stamps = Vec::new();
    for offset in [0, 50, 20, -90_000, 60] {
        bench.set_clock(offset);
        bench.create(1);
        let (frame, _) = event(bench.published.borrow().last().unwrap());
        stamps.push(frame.timestamp.unwrap().unix_millis() - START);
    }
    assert_eq!(stamps, [0, 50, 50, 50, 60]);
    bench = bench.restart();
    bench.create(1);
    let (frame, _) = event(bench.published.borrow().last().unwrap());
    assert_eq!(frame.timestamp.unwrap().unix_millis() - START, 60);
}

#[tokio::test]
async fn a_read_says_how_far_it_has_looked() {
    let mut bench = Bench::new();
    bench.create(5);
    let size = bench.published.borrow()[0].envelope().len();
    let read = async |after, upto, events, bytes| {
        let page = bench.store.read(after, upto, PageLimit { events, bytes }).await.unwrap();
        let seqs: Vec<_> = page.events.iter().map(LogEvent::seq).collect();
        (seqs, page.scanned_to)
    };
    assert_eq!(read(0, 5, 10, usize::MAX).await, (vec![1, 2, 3, 4, 5], 5));
    assert_eq!(read(1, 3, 10, usize::MAX).await, (vec![2, 3], 3));
    assert_eq!(read(0, 5, 2, usize::MAX).await, (vec![1, 2], 2));
    assert_eq!(read(2, 5, 10, size * 2).await, (vec![3, 4], 4));
    assert_eq!(read(2, 5, 10, 1).await, (vec![3], 3));
    assert_eq!(read(5, 5, 10, 1).await, (vec![], 5));
    assert_eq!(read(3, 99, 10, usize::MAX).await, (vec![4, 5], 5), "no word on the future");
}

#[tokio::test]
async fn a_folder_belongs_to_one_process() {
    let bench = Bench::new();
    let retention = Retention { events: 1, age: DAY };
    let second = Store::open(bench.dir.path(), retention);
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    bench.restart();
}

#[test]
fn a_folder_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let opened = Store::open(file.path(), Retention { events: 1, age: DAY });
    assert!(matches!(opened, Err(OpenError::Folder { .. })));
}

#[tokio::test]
async fn closing_makes_what_waits_and_leaves_one_file() {
    let dir = TempDir::new().unwrap();
    let retention = Retention { events: 10, age: DAY };
    let (store, writer) = Store::open(dir.path(), retention).unwrap();
    let waiting: Vec<_> = (0..100).map(|_| ask(&store, create("acme/api"))).collect();
    let (seen, published) = mpsc::channel();
    writer.start(move |event| seen.send(event.seq()).unwrap()).unwrap();
    store.close().await;

    assert_eq!(published.iter().collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    for answer in waiting {
        assert!(answer.await.is_ok());
    }
    assert_eq!(change(&store, create("acme/api"), None).await, Err(ChangeError::Unavailable));
    assert_eq!(store.get(Uuid::now_v7()).await, Err(Unavailable));
    let mut left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [DATABASE, LOCK]);
}
