//! The hub: plain data behind short locks, and a task for each core that fans out.

mod admission;
mod batch;
mod cache;
mod connections;
mod fanout;
mod lag;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod listeners;
mod pages;
mod place;
mod queue;
mod registry;
mod rewritten;
mod selection;
mod snapshots;
mod stats;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskwatch_protocol::{CloseCode, Seq, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::unconstrained;
use tokio_util::task::TaskTracker;

use admission::Admission;
pub(crate) use admission::{NotAdmitted, Over};
pub(crate) use batch::Frames;
pub(crate) use cache::EventCache;
use connections::Agents;
pub(crate) use connections::{About, Described};
pub use connections::{ConnectionInfo, ConnectionState, ConnectionTransport};
pub(crate) use fanout::FanOut;
use fanout::Shard;
pub(crate) use lag::Lag;
use lag::Recent;
use pages::Pages;
pub(crate) use place::Place;
pub(crate) use queue::{Deliver, Order, SendQueue, Stop, Taken};
pub(crate) use registry::Member;
use registry::{Joined, Registry};
pub(crate) use selection::{Selection, visible};
pub(crate) use snapshots::SnapshotOf;
use snapshots::Snapshots;
pub use stats::HubStats;
pub(crate) use stats::{Counters, Gauge};

use crate::clock::instant;
use crate::session::Rules;
use crate::{
    EventLog, HubConfig, LogEvent, MemoryLog, Page, Principal, ReadError, SeekError, SnapshotError,
    TaskEventPublisher, TaskSnapshot,
};

/// Clients are asked to come back at no more than so many a second.
const RETURNS_PER_SECOND: u64 = 1_000;

/// Tells every subscriber of every change. Cheap to clone; every clone is the same hub.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    config: HubConfig,
    rules: Arc<Rules>,
    log: Arc<dyn EventLog>,
    recent: Mutex<Recent>,
    /// Connections are spread over them when they come.
    shards: Box<[Shard]>,
    next_shard: AtomicUsize,
    pages: Pages,
    snapshots: Snapshots,
    connections: TaskTracker,
    /// Places for those of them that are over plain HTTP.
    streams: Arc<Semaphore>,
    admission: Mutex<Admission>,
    /// Grows before live connections are told to authenticate again.
    access_changes: AtomicU64,
    /// Grows when what was read before is out of date.
    rewrites: AtomicU32,
    agents: Mutex<Agents>,
    draining: AtomicBool,
    counters: Counters,
}

/// A lock whose data is never left half-changed: a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A hub over a log that numbers its own events, to which [`Hub::publish`] tells what was
    /// committed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn with_log(log: Arc<dyn EventLog>, config: HubConfig) -> Self {
        let workers = Handle::current().metrics().num_workers();
        let (hub, fan_outs) = Self::new(log, config, workers);
        for fan_out in fan_outs {
            // It writes to many sockets in a turn, and gives turns by itself.
            tokio::spawn(unconstrained(fanout::run(hub.clone(), fan_out)));
        }
        tokio::spawn(hub.clone().follow_access_changes());
        hub
    }

    /// A hub, and so many that fan out for somebody to drive.
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        config: HubConfig,
        workers: usize,
    ) -> (Self, Vec<FanOut>) {
        let head = log.head();
        let cache = EventCache::new(head, config.cache_events, config.cache_bytes);
        let shared = Arc::new(Shared {
            recent: Mutex::new(Recent::new(cache)),
            shards: (0..workers).map(|_| Shard::new(head)).collect(),
            next_shard: AtomicUsize::new(0),
            pages: Pages::new(log.clone(), config.page, config.concurrent_reads),
            snapshots: Snapshots::new(&config),
            connections: TaskTracker::new(),
            streams: Arc::new(Semaphore::new(config.max_streams.min(Semaphore::MAX_PERMITS))),
            admission: Mutex::new(Admission::new(&config, instant())),
            access_changes: AtomicU64::new(0),
            rewrites: AtomicU32::new(0),
            agents: Mutex::default(),
            draining: AtomicBool::new(false),
            counters: Counters::default(),
            log,
            rules: Arc::new(Rules::of(&config)),
            config,
        });
        (Self { shared }, (0..workers).map(|shard| FanOut::new(shard, head)).collect())
    }

    /// A hub that numbers the events itself and keeps the newest in memory, for those who only
    /// want to tell. Its history is as long as the event cache and ends with the process.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn in_memory(config: HubConfig) -> (Self, TaskEventPublisher) {
        let log = Arc::new(MemoryLog::new(config.cache_events, config.cache_bytes));
        let hub = Self::with_log(log.clone(), config);
        let publisher = TaskEventPublisher::new(log, hub.clone());
        (hub, publisher)
    }

    /// Tells everybody who wants it. Returns at once, whoever is listening, so it may be called
    /// inside a commit section; it must be called in the order of the log. An event whose number
    /// is not above the newest is ignored and counted.
    pub fn publish(&self, event: LogEvent) {
        let counters = &self.shared.counters;
        let now = instant();
        let is_new = lock(&self.shared.recent).push(event, now);
        if is_new { &counters.published } else { &counters.ignored }.add_one();
        self.wake_workers();
    }

    fn wake_workers(&self) {
        self.shared.shards.iter().for_each(|shard| shard.published.notify_one());
    }

    /// Gives published events to at most so many connections; false if none is left.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn fan_out(&self, fan_out: &mut FanOut, connections: usize) -> bool {
        fan_out.give(&self.shared, connections) == fanout::Progress::More
    }

    /// Closes every connection with 1012, asking the clients to spread their return, and waits
    /// until they are gone or the drain window is over. New connections are refused from now on.
    pub async fn shutdown(&self) {
        self.stop_connections(|most| rand::random_range(0..=most));
        self.shared.connections.close();
        self.wake_workers();
        let waited =
            tokio::time::timeout(self.shared.config.drain_window, self.shared.connections.wait());
        if waited.await.is_err() {
            tracing::warn!(
                left = self.shared.connections.len(),
                "connections outlived the drain window"
            );
        }
    }

    /// Tells every connection to end, and its peer to come back after a number of milliseconds
    /// that `draw` picks, up to the one it is given.
    pub(crate) fn stop_connections(&self, mut draw: impl FnMut(u64) -> u64) {
        self.shared.draining.store(true, Ordering::SeqCst);
        let queues = self.queues();
        let spread = self.return_spread(queues.len());
        for queue in queues {
            let wait = draw(spread.as_millis() as u64);
            queue.stop(Stop { retry_after_ms: Some(wait), ..Stop::new(CloseCode::Restart) });
        }
    }

    fn queues(&self) -> Vec<Arc<SendQueue>> {
        self.shared.shards.iter().flat_map(|shard| lock(&shard.registry).queues()).collect()
    }

    fn return_spread(&self, connections: usize) -> Duration {
        let needed = Duration::from_millis(connections as u64 * 1_000 / RETURNS_PER_SECOND);
        needed.min(self.shared.config.drain_window)
    }

    /// What this hub has done since it started.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let Shared { connections, streams, counters, pages, snapshots, config, .. } = &*self.shared;
        let max_streams = config.max_streams.min(Semaphore::MAX_PERMITS);
        let (cache_events, cache_bytes) = {
            let cache = &lock(&self.shared.recent).events;
            (cache.len(), cache.bytes())
        };
        HubStats {
            connections: connections.len(),
            max_connections: config.max_connections,
            streams: max_streams.saturating_sub(streams.available_permits()),
            is_stopping: self.is_draining(),
            queued_events: self.queues().iter().map(|queue| queue.waiting()).sum(),
            cache_events,
            cache_bytes,
            spools: snapshots.spools().count.get(),
            spool_bytes: snapshots.spools().bytes.get(),
            log_reads: pages.reads(),
            ..counters.stats()
        }
    }

    pub(crate) fn config(&self) -> &HubConfig {
        &self.shared.config
    }

    pub(crate) fn rules(&self) -> &Arc<Rules> {
        &self.shared.rules
    }

    pub(crate) fn log(&self) -> &dyn EventLog {
        &*self.shared.log
    }

    /// A place for one more connection, if there is room. A shutdown waits until it is dropped.
    pub(crate) fn admit(
        &self,
        principal: &Principal,
        address: Option<IpAddr>,
        over: Over,
    ) -> Result<Place, NotAdmitted> {
        let place = Place::take(self, principal, address, over);
        place.inspect_err(|refused| self.shared.counters.refused(refused.word()))
    }

    /// A number that grows when what principals may see may have changed.
    pub(crate) fn access_changes(&self) -> u64 {
        self.shared.access_changes.load(Ordering::SeqCst)
    }

    /// Tells live connections to authenticate again whenever the authenticator says so, until the
    /// hub is shut down and its last connection is gone.
    async fn follow_access_changes(self) {
        let Some(mut changes) = self.shared.config.authenticator.changes() else { return };
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = self.shared.connections.wait() => return,
            }
            self.access_changed();
        }
    }

    /// Tells live connections to authenticate again.
    pub(crate) fn access_changed(&self) {
        // First: who enters after the list was taken finds another number than it began with.
        self.shared.access_changes.fetch_add(1, Ordering::SeqCst);
        let queues = self.queues();
        queues.iter().for_each(|queue| queue.authenticate());
    }

    fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::SeqCst)
    }

    /// Adds a connection that wants nothing yet, and the position at which it is level. Its
    /// principal was found out when there had been so many changes of access.
    pub(crate) fn enter(&self, principal: Principal, access_changes: u64) -> (Member, Seq) {
        let queue = Arc::new(SendQueue::default());
        let selection = Arc::new(Selection::of(principal));
        let shards = &self.shared.shards;
        let shard = self.shared.next_shard.fetch_add(1, Ordering::Relaxed) % shards.len();
        let member = lock(&shards[shard].registry).enter(shard, queue.clone(), selection);
        if self.access_changes() != access_changes {
            queue.authenticate();
        }
        // A shutdown that listed the queues before this one was among them has set this flag.
        if self.is_draining() {
            queue.stop(Stop::new(CloseCode::Restart));
        }
        (member, self.head())
    }

    /// Makes a connection level that wants this, unless events after its position were given out
    /// already.
    pub(crate) fn join(
        &self,
        member: &Member,
        selection: &Arc<Selection>,
        position: Seq,
    ) -> Option<Arc<Member>> {
        let mut registry = lock(&self.shard(member).registry);
        let member = Arc::new(member.wanting(registry.alike(selection)));
        (registry.join(&member, position) == Joined::Level).then_some(member)
    }

    /// Takes a level connection out of the fan-out; its queue ignores what still comes.
    pub(crate) fn leave(&self, member: &Member) {
        lock(&self.shard(member).registry).leave(member);
    }

    /// Removes a connection for good.
    pub(crate) fn exit(&self, member: &Member) {
        lock(&self.shard(member).registry).exit(member);
    }

    fn shard(&self, member: &Member) -> &Shard {
        &self.shared.shards[member.shard()]
    }

    /// Everything up to here is in the queue of this connection, if it is level.
    pub(crate) fn fanned(&self, member: &Member) -> Seq {
        self.shard(member).fanned.load(Ordering::Acquire)
    }

    /// Everything up to here is in the queues of all who are level.
    pub(crate) fn fanned_to_all(&self) -> Seq {
        let fanned = self.shared.shards.iter().map(|shard| shard.fanned.load(Ordering::Acquire));
        fanned.min().unwrap_or_default()
    }

    /// The newest event that was published, though the fan-out may not have come to it: whoever
    /// subscribes after a change was acknowledged begins behind it.
    pub(crate) fn head(&self) -> Seq {
        lock(&self.shared.recent).events.head()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Events after `after` up to `upto` from memory; `None` if memory does not reach back.
    pub(crate) fn cached(&self, after: Seq, upto: Seq) -> Option<Page> {
        lock(&self.shared.recent).events.read(after, upto, self.shared.config.page)
    }

    /// The same from the log, in a page that others may be reading too: it can also hold events
    /// up to `after`.
    pub(crate) async fn read_log(&self, after: Seq, upto: Seq) -> Result<Arc<Page>, ReadError> {
        self.shared.pages.read(after, upto).await
    }

    /// The position at which somebody wants to begin.
    pub(crate) async fn seek(&self, start: crate::log::Start) -> Result<Seq, SeekError> {
        self.shared.pages.seek(start).await
    }

    /// The present state of some repositories, when it is its turn.
    pub(crate) async fn snapshot(
        &self,
        of: SnapshotOf,
        at: Timestamp,
    ) -> Result<TaskSnapshot, SnapshotError> {
        let Shared { snapshots, log, config, .. } = &*self.shared;
        snapshots.take(&**log, config, of, at).await
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
