//! Stretches of the log, read once for everybody who catches up at the same time.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::Shared;
use taskwatch_protocol::Seq;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::lock;
use crate::log::Start;
use crate::{EventLog, Page, PageLimit, ReadError, SeekError};

/// Pages kept: at the default size of a page, 8 MiB at most.
const KEPT: usize = 32;

type Read = Shared<Pin<Box<dyn Future<Output = Result<Arc<Page>, ReadError>> + Send>>>;

/// The newest reads of the log, finished or under way. Pages begin at multiples of their size, so
/// that those who were cut at about the same time ask for the same ones.
pub(crate) struct Pages {
    log: Arc<dyn EventLog>,
    limit: PageLimit,
    permits: Arc<Semaphore>,
    reads: Arc<AtomicU64>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_start: BTreeMap<Seq, Read>,
    oldest_first: VecDeque<Seq>,
}

impl Pages {
    /// Reads `log` in pages of `limit`, at most `concurrent` at the same time.
    pub(crate) fn new(log: Arc<dyn EventLog>, limit: PageLimit, concurrent: usize) -> Self {
        Self {
            log,
            limit,
            permits: Arc::new(Semaphore::new(concurrent)),
            reads: Arc::default(),
            kept: Mutex::default(),
        }
    }

    /// How often the log was read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Forgets what was read: it is read again by whoever wants it.
    pub(crate) fn clear(&self) {
        *lock(&self.kept) = Kept::default();
    }

    /// A page that goes beyond `position`; it may also hold events before it. `upto` is above
    /// `position`.
    pub(crate) async fn read(&self, position: Seq, upto: Seq) -> Result<Arc<Page>, ReadError> {
        let size = self.limit.events as u64;
        let block = position - position % size;
        let upto = upto.min(block.saturating_add(size));
        // Where events are large a block has many pages: from the nearest it is one step.
        let mut start = lock(&self.kept).nearest(block, position);
        loop {
            let page = match self.page(start, upto).await {
                // The page begins before what is kept, but the position may not.
                Err(ReadError::Gone) if start < position => {
                    start = position;
                    continue;
                }
                page => page?,
            };
            if page.scanned_to > position {
                return Ok(page);
            }
            if page.scanned_to <= start {
                let text = format!("events after {start}, up to {upto}, are not there");
                return Err(ReadError::Unavailable(text));
            }
            // It was cut short by its bytes, or by the end of the log as it was then.
            start = page.scanned_to;
        }
    }

    /// The position that is looked for. A time takes its turn among the reads. A tail, which may take as
    /// long as a snapshot, has none: what waits behind snapshots must not keep others from reading.
    pub(crate) async fn seek(&self, start: Start) -> Result<Seq, SeekError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        match start {
            Start::Time(time) => {
                let _permit = self.permits.acquire().await;
                self.log.seek_time(time).await
            }
            Start::Tail(tail) => self.log.seek_tail(tail).await,
        }
    }

    async fn page(&self, start: Seq, upto: Seq) -> Result<Arc<Page>, ReadError> {
        let read = lock(&self.kept).find_or_insert(start, || self.begin(start, upto));
        let page = read.clone().await;
        // What has gone wrong, or came to no end, is to be tried again.
        if page.as_ref().map_or(true, |page| page.scanned_to <= start) {
            lock(&self.kept).remove(start, &read);
        }
        page
    }

    fn begin(&self, start: Seq, upto: Seq) -> Read {
        let (log, limit) = (self.log.clone(), self.limit);
        let (permits, reads) = (self.permits.clone(), self.reads.clone());
        let read = async move {
            let _permit = permits.acquire().await;
            reads.fetch_add(1, Ordering::Relaxed);
            log.read(start, upto, limit).await.map(Arc::new)
        };
        // A task of its own: a reader that leaves must not keep a permit that nobody drives on. It
        // ends when nobody has use for it.
        let read = AbortOnDropHandle::new(tokio::spawn(read));
        let result = async move {
            read.await.unwrap_or_else(|error| Err(ReadError::Unavailable(error.to_string())))
        };
        result.boxed().shared()
    }
}

impl Kept {
    /// The last page that is kept and begins between the two; `block` if there is none.
    fn nearest(&self, block: Seq, position: Seq) -> Seq {
        self.by_start.range(block..=position).next_back().map_or(block, |(&start, _)| start)
    }

    fn find_or_insert(&mut self, start: Seq, begin: impl FnOnce() -> Read) -> Read {
        if let Some(read) = self.by_start.get(&start) {
            return read.clone();
        }
        let read = begin();
        self.by_start.insert(start, read.clone());
        self.oldest_first.push_back(start);
        if self.oldest_first.len() > KEPT
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_start.remove(&oldest);
        }
        read
    }

    /// Removes a read, unless another has taken its place.
    fn remove(&mut self, start: Seq, read: &Read) {
        if self.by_start.get(&start).is_some_and(|kept| kept.ptr_eq(read)) {
            self.by_start.remove(&start);
            self.oldest_first.retain(|&kept| kept != start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::event;
    use crate::{LogEvent, ReadFuture};
    use taskwatch_protocol::{Cursor, ResetReason};

    /// Events `floor + 1` to `head`; a read takes one turn of the runtime.
    struct Numbers {
        floor: Seq,
        head: AtomicU64,
    }

    impl EventLog for Numbers {
        fn head(&self) -> Seq {
            self.head.load(Ordering::Relaxed)
        }
        fn cursor(&self, seq: Seq) -> Cursor {
            Cursor::new(seq.to_string())
        }
        fn validate(&self, _: &Cursor) -> Result<Seq, ResetReason> {
            unreachable!("nobody asks")
        }
        fn read(&self, after: Seq, upto: Seq, limit: PageLimit) -> ReadFuture<'_> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                if after < self.floor {
                    return Err(ReadError::Gone);
                }
                let last = upto.min(after.saturating_add(limit.bytes as u64));
                let events = (after + 1..=last).map(|seq| event(seq, "foo")).collect();
                Ok(Page { events, scanned_to: last })
            })
        }
    }

    /// Pages of 10 events, cut short after `bytes`, which here are events.
    fn pages(floor: Seq, head: Seq, bytes: usize) -> (Arc<Numbers>, Arc<Pages>) {
        let log = Arc::new(Numbers { floor, head: AtomicU64::new(head) });
        let pages = Pages::new(log.clone(), PageLimit { events: 10, bytes }, 2);
        (log, Arc::new(pages))
    }

    async fn all(pages: &Pages, mut position: Seq, head: Seq) -> Vec<Seq> {
        let mut seqs = vec![];
        while position < head {
            let page = pages.read(position, head).await.unwrap();
            let new = page.events.iter().map(LogEvent::seq).filter(|&seq| seq > position);
            seqs.extend(new);
            position = page.scanned_to;
        }
        seqs
    }

    #[tokio::test]
    async fn those_who_come_together_share_the_reads() {
        let (_, pages) = pages(0, 95, usize::MAX);
        let readers = (0..50).map(|position| {
            let pages = pages.clone();
            tokio::spawn(async move { (position, all(&pages, position, 95).await) })
        });
        for reader in readers.collect::<Vec<_>>() {
            let (position, seqs) = reader.await.unwrap();
            assert_eq!(seqs, (position + 1..=95).collect::<Vec<_>>());
        }
        assert_eq!(pages.reads(), 10);
    }

    #[tokio::test]
    async fn pages_cut_short_by_their_bytes_are_whole_together() {
        let (_, pages) = pages(0, 50, 3);
        for position in [0, 1, 9, 10, 34] {
            assert_eq!(all(&pages, position, 50).await, (position + 1..=50).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_page_that_ended_with_the_log_goes_on_as_the_log_does() {
        let (log, pages) = pages(0, 14, usize::MAX);
        assert_eq!(all(&pages, 12, 14).await, [13, 14]);
        log.head.store(23, Ordering::Relaxed);
        assert_eq!(all(&pages, 12, 23).await, (13..=23).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn retention_is_exact_though_pages_begin_before_it() {
        let (_, pages) = pages(15, 40, usize::MAX);
        assert!(matches!(pages.read(14, 40).await, Err(ReadError::Gone)));
        assert_eq!(all(&pages, 15, 40).await, (16..=40).collect::<Vec<_>>());
        assert_eq!(all(&pages, 17, 40).await, (18..=40).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn readers_who_leave_keep_nobody_waiting() {
        let (_, pages) = pages(0, 95, usize::MAX);
        for position in [0, 10, 20, 30] {
            // Begun, and given up while the log is being read.
            assert!(pages.read(position, 95).now_or_never().is_none());
        }
        assert_eq!(all(&pages, 40, 95).await, (41..=95).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn only_so_many_pages_are_kept() {
        let (_, pages) = pages(0, 10_000, usize::MAX);
        assert_eq!(all(&pages, 0, 10_000).await.len(), 10_000);
        let kept = lock(&pages.kept);
        assert_eq!((kept.by_start.len(), kept.oldest_first.len()), (KEPT, KEPT));
    }
}
