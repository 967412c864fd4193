//! A hub for the tests of your own consumers: in this process, without a socket, with faults on demand.
//!
//! The SDK hides what can be hidden: a cut, a restart, a link that died without a word. What cannot be
//! hidden, such as a [gap](crate::Update::Gap), is told once in a while, and so code for it runs for the
//! first time on a bad day. With a [`TestHub`] it runs in a test.
//!
//! The hub is a small model of a server that speaks the protocol over pipes in memory. Above them is the
//! whole of the SDK, as in production. It needs the feature `testing` of this crate, as a
//! dev-dependency.
//!
//! # Testing a consumer
//!
//! Let the consumer follow a hub, change tasks, let something go wrong, wait until everything
//! [was handled](TestHub::settled), and look at what the consumer has made of it:
//!
//! ```
//! use std::collections::BTreeSet;
//! use std::sync::{Arc, Mutex};
//!
//! use futures_util::StreamExt;
//! use taskwatch_client::testing::{TestHub, task};
//! use taskwatch_client::{OnGap, Update, Updates};
//!
//! /// The consumer: the titles of all tasks.
//! async fn follow(mut updates: Updates, titles: Arc<Mutex<BTreeSet<String>>>) {
//!     while let Some(Ok(update)) = updates.next().await {
//!         let mut titles = titles.lock().unwrap();
//!         match update {
//!             Update::Event(event) => {
//!                 titles.insert(event.task().title.clone());
//!             }
//!             // Without this line the test fails.
//!             Update::Snapshot(state) => *titles = state.tasks.into_iter().map(|it| it.title).collect(),
//!             _ => {}
//!         }
//!     }
//! }
//!
//! async fn it_survives_a_gap() -> Result<(), Box<dyn std::error::Error>> {
//!     let hub = TestHub::new();
//!     let events = hub.client().build()?.subscribe(["*"])?.snapshot().on_gap(OnGap::Snapshot);
//!     let titles = Arc::default();
//!     tokio::spawn(follow(events.updates(), Arc::clone(&titles)));
//!     hub.settled(1).await;
//!
//!     hub.create(task("home", "Water the plants"));
//!     hub.expire(); // before it was sent to anybody
//!     hub.create(task("home", "Wash the dishes"));
//!     hub.settled(1).await;
//!
//!     let titles = titles.lock().unwrap();
//!     assert!(titles.iter().eq(["Wash the dishes", "Water the plants"]));
//!     Ok(())
//! }
//!
//! // As does `#[tokio::test(start_paused = true)]`.
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
//! runtime.block_on(it_survives_a_gap())
//! # }
//! ```
//!
//! # Time
//!
//! Everything here, and everything in the SDK, goes by tokio's clock. While that is paused, as with
//! `#[tokio::test(start_paused = true)]` (tokio's feature `test-util`), it stands still as long as
//! anybody has something to do, and then jumps to the next moment for which somebody waits: a
//! connection that died without a word is found out within 35 s, in no time at all. Waits between
//! attempts are not random, and the runtime has one thread, so a test always runs the same. What
//! the consumer itself leaves to chance, such as the branches of a `tokio::select!` without `biased`, is
//! not the hub's to take away.
//!
//! Whoever waits for what never comes waits for ever, since the heartbeats of a connection go on. A
//! `tokio::time::timeout` around it costs no time either.
//!
//! # What it does not do
//!
//! It speaks WebSocket alone, without TLS and proxies, and answers no [request](Client::request). It takes
//! any token, and none runs out. Its only limits are those of patterns and of what waits for an answer.

mod conversation;
mod history;
mod hub;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use taskwatch_protocol::{
    CloseCode, Cursor, Pattern, Priority, Status, Task, TaskEvent, Timestamp,
};
use uuid::Uuid;

use self::hub::{End, Hub, reason};
use self::wire::Shared;
use crate::config::Settings;
use crate::{Client, ClientBuilder, TransportChoice};

/// How often a `ping` comes.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// When every hub begins, in milliseconds since 1970: 2026-01-01T00:00:00Z.
const BEGINNING: i64 = 1_767_225_600_000;
/// Who changes things here.
const CHANGED_BY: &str = "test";

/// A hub in this process. A clone is the same hub.
///
/// Make it inside the tokio runtime of the test: its clock is tokio's.
#[derive(Clone)]
#[must_use]
pub struct TestHub {
    shared: Arc<Shared>,
}

/// A new task: pending, of medium priority, with an id of its own. Change what matters before
/// [`create`](TestHub::create).
///
/// ```
/// use taskwatch_client::Status;
/// use taskwatch_client::testing::task;
///
/// let mut done = task("github.com/acme/api", "Water the plants");
/// done.status = Status::Completed;
/// ```
///
/// # Panics
/// If `repository` is no name.
#[must_use]
#[track_caller]
pub fn task(repository: &str, title: &str) -> Task {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let made = MADE.fetch_add(1, Ordering::Relaxed) + 1;
    let at = Timestamp::from_unix_millis(BEGINNING);
    // The shape of version 7, as a server gives them out: they sort by when they were made.
    let id = Uuid::from_u128((u128::from(made) << 80) | (7 << 76) | (2 << 62));
    #[expect(clippy::expect_used, reason = "a test with a wrong name has failed")]
    let repository = repository.parse().expect("the name of a repository");
    Task {
        id,
        repository,
        title: title.to_owned(),
        description: String::new(),
        status: Status::Pending,
        priority: Priority::Medium,
        assignee: None,
        tags: Vec::new(),
        created_at: at,
        updated_at: at,
        version: 1,
    }
}

impl Default for TestHub {
    fn default() -> Self {
        Self::new()
    }
}

impl TestHub {
    /// An empty hub that everybody may read, with nothing wrong.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared::new()) }
    }

    /// A client of this hub. The waits between its attempts, random otherwise, are half of the most that
    /// they can be, so that a test always runs the same. It speaks WebSocket, and the hub nothing else.
    pub fn client(&self) -> ClientBuilder {
        let builder = Client::builder("ws://localhost").no_proxy();
        builder.transport(TransportChoice::WebSocket).hub(self.clone())
    }

    /// Puts the hub where a network would be.
    pub(crate) fn take_over(self, mut settings: Settings) -> Settings {
        settings.dialer.hub = Some(self);
        settings.draw = || 0.5;
        settings
    }
}

impl fmt::Debug for TestHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestHub").finish_non_exhaustive()
    }
}

/// # Tasks and events
/// Each returns the position of its event.
impl TestHub {
    /// Makes a task, as it is.
    ///
    /// # Panics
    /// If there is one with this id.
    #[track_caller]
    pub fn create(&self, task: Task) -> Cursor {
        assert!(self.task(task.id).is_none(), "there is a task {} already", task.id);
        self.publish(TaskEvent::created(task, CHANGED_BY))
    }

    /// Changes a task. Its version and its time of change are taken care of.
    ///
    /// # Panics
    /// If there is none with this id.
    #[track_caller]
    pub fn update(&self, id: Uuid, change: impl FnOnce(&mut Task)) -> Cursor {
        let before = self.existing(id);
        let mut after = before.clone();
        change(&mut after);
        after.id = id;
        after.version = before.version + 1;
        after.updated_at = self.time();
        self.publish(TaskEvent::updated(&before, after, CHANGED_BY))
    }

    /// Deletes a task.
    ///
    /// # Panics
    /// If there is none with this id.
    #[track_caller]
    pub fn delete(&self, id: Uuid) -> Cursor {
        let previous = self.existing(id);
        self.publish(TaskEvent::deleted(previous, CHANGED_BY))
    }

    /// Publishes an event as it is, and does to the task what it says, whether or not that fits to what
    /// was before.
    pub fn publish(&self, event: TaskEvent) -> Cursor {
        let now = self.shared.now();
        self.shared.change(|hub| hub.append(now, event))
    }

    /// The task with this id, if there is one.
    #[must_use]
    pub fn task(&self, id: Uuid) -> Option<Task> {
        self.shared.hub().history.task(id).cloned()
    }

    /// All tasks as they are now, the oldest first.
    #[must_use]
    pub fn tasks(&self) -> Vec<Task> {
        self.shared.hub().history.tasks().cloned().collect()
    }

    /// The position of the newest event.
    #[must_use]
    pub fn head(&self) -> Cursor {
        let hub = self.shared.hub();
        hub.history.cursor(hub.history.head())
    }

    #[track_caller]
    fn existing(&self, id: Uuid) -> Task {
        let task = self.task(id);
        #[expect(clippy::expect_used, reason = "a test that changes what is not there has failed")]
        task.expect("a task with this id")
    }

    fn time(&self) -> Timestamp {
        hub::wall(self.shared.now())
    }
}

/// # Permissions
impl TestHub {
    /// From now on nothing that matches this name or pattern may be read. Connections are closed with
    /// 4203, as when permissions change.
    ///
    /// # Panics
    /// If it is neither a name nor a pattern.
    #[track_caller]
    pub fn deny(&self, pattern: &str) {
        self.permit(pattern, false);
    }

    /// Takes back what [`deny`](Self::deny) was told with the same text.
    ///
    /// # Panics
    /// If it is neither a name nor a pattern.
    #[track_caller]
    pub fn allow(&self, pattern: &str) {
        self.permit(pattern, true);
    }

    #[track_caller]
    fn permit(&self, pattern: &str, is_allowed: bool) {
        #[expect(clippy::expect_used, reason = "a test with a wrong name has failed")]
        let pattern: Pattern = pattern.parse().expect("a repository or a pattern");
        self.shared.change(|hub| hub.deny(pattern, !is_allowed));
    }
}

/// # Faults
/// They concern all clients of the hub.
impl TestHub {
    /// Breaks all connections, now: what was on its way is lost with them.
    pub fn cut(&self) {
        self.shared.change(|hub| hub.end_all(&End::Break));
    }

    /// So many more frames go out, to whomever. The next one breaks its connection instead. Frames are
    /// not only events: a connection begins with two others.
    pub fn cut_after(&self, frames: u64) {
        self.shared.change(|hub| hub.cut_after(frames));
    }

    /// Every frame from now on comes that late.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|hub| hub.delay(delay));
    }

    /// Connections stay, and nothing comes through them any more; attempts to connect are not answered
    /// until [`heal`](Self::heal). Connections of before stay dead then, too.
    pub fn half_open(&self) {
        self.shared.change(Hub::mute);
    }

    /// Takes back [`half_open`](Self::half_open) for new connections, [`delay`](Self::delay), and what is
    /// left of [`refuse`](Self::refuse), [`lose`](Self::lose) and [`cut_after`](Self::cut_after).
    pub fn heal(&self) {
        self.shared.change(Hub::heal);
    }

    /// The next attempts to connect fail, so many of them.
    pub fn refuse(&self, attempts: u64) {
        self.shared.change(|hub| hub.refuse(attempts));
    }

    /// The next events vanish on their way, so many of them, and are counted as if they had come. The
    /// SDK finds out at the next heartbeat, within 20 s, and goes back for them: they come late, behind
    /// what came meanwhile. If the connection ends before that, nobody finds out.
    pub fn lose(&self, events: u64) {
        self.shared.change(|hub| hub.lose(events));
    }

    /// Closes all connections with a code. Some codes end a stream for good.
    pub fn close(&self, code: CloseCode) {
        self.shared.change(|hub| hub.end_all(&End::Close(code, reason(code, None))));
    }

    /// Closes all connections with 1012, as a server that restarts: nobody is to come back sooner than
    /// after this time.
    pub fn drain(&self, retry_after: Duration) {
        let code = CloseCode::Restart;
        let end = End::Close(code, reason(code, Some(retry_after)));
        self.shared.change(|hub| hub.end_all(&end));
    }

    /// Throws away all events so far; the tasks stay. Whoever has not been sent them all is told of a
    /// gap: `expired`.
    pub fn expire(&self) {
        self.shared.change(|hub| hub.history.expire());
    }

    /// Begins another life of the log, as when older data was restored; the tasks stay. Connections
    /// break, and no position of before is honoured: `incarnation`.
    pub fn new_incarnation(&self) {
        self.shared.change(|hub| {
            hub.history.begin_anew();
            hub.end_all(&End::Break);
        });
    }

    /// The computer on which the clients run slept for so long. The clock of the wall has gone on, and no
    /// other.
    pub fn sleep_computer(&self, time: Duration) {
        self.shared.sleep_computer(time);
    }
}

/// # What to wait for
///
/// Each panics after an hour on tokio's clock, which on a paused one is at once.
impl TestHub {
    /// How many connections there are, without those that are [half open](Self::half_open).
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.hub().count()
    }

    /// Waits until at least so many connections have a subscription that was accepted.
    pub async fn connected(&self, connections: usize) {
        let is_so = |hub: &Hub| hub.count_subscribed() >= connections;
        self.shared.expect("connections with a subscription", is_so).await;
    }

    /// Waits until there are at least so many connections, and all of them have been sent everything.
    ///
    /// On a paused clock it also waits until everybody in the runtime has done what there was to do, so
    /// that consumers have handled what came, unless they wait for something else.
    pub async fn settled(&self, connections: usize) {
        self.shared.settle(connections).await;
    }
}
