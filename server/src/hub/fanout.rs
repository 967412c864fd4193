//! The one task that gives events to their subscribers, in order.

use std::sync::atomic::Ordering;

use taskwatch_protocol::Seq;

use super::{Hub, Shared, lock};
use crate::{Page, PageLimit};

/// Events taken from the cache at a time.
const BATCH: PageLimit = PageLimit { events: 64, bytes: usize::MAX };

/// Pushes after which the connections get a turn.
const SLICE: usize = 1_024;

/// Runs until the hub is shut down and its last connection is gone.
pub(super) async fn run(hub: Hub) {
    let shared = &*hub.shared;
    let mut fanned = shared.fanned.load(Ordering::Acquire);
    loop {
        let batch = next_batch(shared, fanned);
        match batch {
            Batch::Events(page) if page.events.is_empty() => tokio::select! {
                () = shared.published.notified() => {}
                () = shared.connections.wait() => return,
            },
            Batch::Events(page) => {
                fanned = page.scanned_to;
                give(shared, page).await;
            }
            Batch::Missed { floor } => {
                fanned = floor;
                lock(&shared.registry).skip_to(floor);
                shared.fanned.store(floor, Ordering::Release);
            }
        }
    }
}

enum Batch {
    Events(Page),
    /// Publishing outran this task by more than the cache holds.
    Missed {
        floor: Seq,
    },
}

fn next_batch(shared: &Shared, fanned: Seq) -> Batch {
    let cache = lock(&shared.cache);
    match cache.read(fanned, cache.head(), BATCH) {
        Some(page) => Batch::Events(page),
        None => Batch::Missed { floor: cache.floor() },
    }
}

async fn give(shared: &Shared, page: Page) {
    let mut recipients = Vec::new();
    let mut pushed = 0;
    for event in page.events {
        lock(&shared.registry).recipients(&event, &mut recipients);
        for member in recipients.drain(..) {
            member.queue().push(&event);
            pushed += 1;
            if pushed % SLICE == 0 {
                tokio::task::yield_now().await;
            }
        }
        // Only now is it true of everybody that is level.
        shared.fanned.store(event.seq(), Ordering::Release);
    }
}
