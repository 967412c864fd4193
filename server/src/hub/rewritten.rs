//! What the hub does when the log has changed behind it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use taskwatch_protocol::Seq;

use super::{Hub, lock};

/// How often the workers are looked at, who have a few events on their way at most.
const LOOK: Duration = Duration::from_millis(1);

impl Hub {
    /// Tells the hub that events of the log are not what they were, as after a deletion of what must
    /// not be read any more. Numbers, repositories and kinds must be the same.
    ///
    /// All that is in memory is thrown away, and whoever was about to be sent something is sent what
    /// the log says now; so nothing is missed and nothing comes twice. Who is amid a snapshot is closed
    /// with 4203, and comes back for another. When this returns, all that is put together for a
    /// peer from then on is read anew. What stands in a socket's buffer goes out.
    pub async fn log_rewritten(&self) {
        let upto = self.forget();
        // A worker that has begun with events is not called back: it is done in a moment. When the hub
        // stops there may be none left.
        while self.fanned_to_all() < upto && !self.is_draining() {
            tokio::time::sleep(LOOK).await;
        }
        self.read_again();
    }

    /// Forgets what was read. Up to where it was.
    pub(crate) fn forget(&self) -> Seq {
        let upto = {
            let mut cache = lock(&self.shared.cache);
            cache.clear();
            cache.head()
        };
        self.shared.pages.clear();
        // Last: who looks at the number first, and then reads, reads anew or finds another number.
        self.shared.rewrites.fetch_add(1, Ordering::SeqCst);
        // Those who are behind the cache have to notice.
        self.wake_workers();
        upto
    }

    /// Sends those to the log for whom something waits.
    pub(crate) fn read_again(&self) {
        let waiting = self.queues();
        waiting.iter().filter(|queue| queue.waiting() > 0).for_each(|queue| queue.overflow());
    }

    /// How often the log was rewritten.
    pub(crate) fn rewrites(&self) -> u32 {
        self.shared.rewrites.load(Ordering::SeqCst)
    }
}
