//! What the tests of the board build on: moments, tasks and updates.

use std::sync::LazyLock;

use futures_util::{SinkExt, StreamExt};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use taskwatch_client::protocol::{Cursor, TaskEvent};
use taskwatch_client::{Client, Event, Gap, OnGap, Snapshot, Task, Transport, Update};
use tokio::net::TcpListener;
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

/// What nobody but the SDK makes, so it comes from a server.
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(play(listener));
    let events = Client::builder(url).build().unwrap().subscribe(["*"]).unwrap();
    let mut updates = events.since(Cursor::new("c-1")).on_gap(OnGap::Snapshot).updates();
    let (mut snapshot, mut gap) = (None, None);
    loop {
        match updates.next().await.unwrap().unwrap() {
            Update::Event(event) => return (event, snapshot.unwrap(), gap.unwrap()),
            Update::Snapshot(received) => snapshot = Some(received),
            Update::Gap(received) => gap = Some(received),
            _ => {}
        }
    }
}

/// Sends a gap, a snapshot and an event.
async fn play(listener: TcpListener) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut link = tokio_tungstenite::accept_async(stream).await.unwrap();
    let limits = json!({
        "max_message_bytes": 524_288, "max_patterns_per_message": 100, "max_patterns": 100,
    });
    let welcome = json!({"type": "welcome", "data": {
        "protocol": 1, "server": "scripted", "connection_id": Uuid::from_u128(1),
        "heartbeat_ms": 20_000, "limits": limits,
    }});
    link.send(welcome.to_string().into()).await.unwrap();
    let mut first = Some([
        json!({"type": "snapshot", "cursor": "c-5", "data": {
            "repositories": ["*"], "tasks": [], "first": true, "last": true,
        }}),
        created_frame("received"),
    ]);
    while let Some(Ok(message)) = link.next().await {
        let frame: Value = serde_json::from_str(message.to_text().unwrap()).unwrap_or_default();
        let mut answer =
            json!({"type": "pong", "id": frame["id"], "cursor": "c-6", "data": {"head": "c-6"}});
        if frame["type"] == "subscribe" {
            answer["type"] = json!("subscribed");
            answer["data"] =
                json!({"accepted": ["*"], "denied": [], "mode": "live", "head": "c-6"});
            if first.is_some() {
                answer["data"]["mode"] = json!("reset");
                answer["data"]["reason"] = json!("expired");
                answer["cursor"] = Value::Null;
            }
        } else if frame["type"] != "ping" {
            continue;
        }
        link.send(answer.to_string().into()).await.unwrap();
        if frame["type"] == "subscribe" {
            for frame in first.take().into_iter().flatten() {
                link.send(frame.to_string().into()).await.unwrap();
            }
        }
    }
}
