//! What the tests of the board build on: moments, tasks and updates.

use std::sync::LazyLock;

use futures_util::StreamExt;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use taskwatch_client::protocol::TaskEvent;
use taskwatch_client::testing::{self, TestHub};
use taskwatch_client::{Event, Gap, OnGap, Snapshot, Task, Transport, Update};
use uuid::Uuid;

use super::*;

/// So many milliseconds after the board was opened, at half past two in the afternoon.
pub(super) fn moment(millis: u64) -> Moment {
    let elapsed = Duration::from_millis(millis);
    let start: jiff::Timestamp = "2026-11-22T14:30:00Z".parse().unwrap();
    let wall = start.to_zoned(TimeZone::UTC).saturating_add(elapsed);
    Moment { elapsed, wall }
}

/// Task number `id`, last changed so many seconds before the board was opened.
pub(super) fn task(id: u32, title: &str, status: &str, seconds: u32) -> Task {
    let changed = moment(0).timestamp().unix_millis() - i64::from(seconds) * 1_000;
    serde_json::from_value(json!({
        "id": Uuid::from_u128((0x0192_f0c1_2b3c_7def << 64) + u128::from(id)),
        "repository": "acme/api", "title": title, "status": status, "priority": "medium",
        "created_at": "2026-11-20T09:00:00Z",
        "updated_at": Timestamp::from_unix_millis(changed), "version": 1,
    }))
    .unwrap()
}

/// The same task, changed so many milliseconds after the board was opened.
pub(super) fn changed(before: &Task, millis: u64, change: impl FnOnce(&mut Task)) -> Update {
    let mut after = before.clone();
    after.version += 1;
    after.updated_at = moment(millis).timestamp();
    change(&mut after);
    event(TaskEvent::updated(before, after, "ben"), millis)
}

pub(super) fn created(task: &Task, millis: u64) -> Update {
    event(TaskEvent::created(task.clone(), "ana"), millis)
}

pub(super) fn deleted(task: &Task, millis: u64) -> Update {
    event(TaskEvent::deleted(task.clone(), "ben"), millis)
}

pub(super) fn event(event: TaskEvent, millis: u64) -> Update {
    let mut update = received().0.clone();
    update.event = event;
    update.timestamp = Some(moment(millis).timestamp());
    Update::Event(update)
}

pub(super) fn replayed(mut update: Update) -> Update {
    if let Update::Event(event) = &mut update {
        event.replayed = true;
    }
    update
}

pub(super) fn snapshot(tasks: &[Task]) -> Update {
    let mut snapshot = received().1.clone();
    snapshot.tasks = tasks.to_vec();
    Update::Snapshot(snapshot)
}

pub(super) fn gap() -> Update {
    Update::Gap(received().2.clone())
}

pub(super) fn connected(resumed: bool) -> Update {
    let server = "taskwatch/0.1.0".to_owned();
    Update::Connected { resumed, server, transport: Transport::WebSocket, fallback: None }
}

pub(super) fn interrupted(retry_in: u64) -> Update {
    let reason = "the connection was cut".to_owned();
    Update::Interrupted { reason, retry_in: Duration::from_millis(retry_in) }
}

pub(super) fn fresh(behind: u64) -> Update {
    Update::Fresh { behind: Duration::from_millis(behind) }
}

/// A frame as a server sends it.
pub(super) fn created_frame(title: &str) -> Value {
    let event = TaskEvent::created(task(1, title, "pending", 0), "ana");
    let data = serde_json::to_value(&event).unwrap();
    json!({"type": "task.created", "cursor": "c-6", "data": data})
}

/// What nobody but the SDK makes, so it comes from a hub.
type Received = (Event, Snapshot, Gap);

fn received() -> &'static Received {
    static RECEIVED: LazyLock<Received> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let limit = Duration::from_secs(60);
        runtime.block_on(async { tokio::time::timeout(limit, receive()).await }).unwrap()
    });
    &RECEIVED
}

async fn receive() -> Received {
    let hub = TestHub::new();
    let position = hub.create(testing::task("acme/api", "kept"));
    hub.create(testing::task("acme/api", "gone by"));
    hub.expire();
    let events = hub.client().build().unwrap().subscribe(["*"]).unwrap();
    let mut updates = events.since(position).on_gap(OnGap::Snapshot).updates();
    let (mut snapshot, mut gap) = (None, None);
    loop {
        match updates.next().await.unwrap().unwrap() {
            Update::Event(event) => return (event, snapshot.unwrap(), gap.unwrap()),
            Update::Snapshot(received) => {
                snapshot = Some(received);
                hub.create(testing::task("acme/api", "received"));
            }
            Update::Gap(received) => gap = Some(received),
            _ => {}
        }
    }
}
