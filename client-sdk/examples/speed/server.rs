//! A server that writes prepared events as fast as its client takes them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskwatch_client::protocol::Timestamp;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};
use uuid::Uuid;

/// Written at once: some twenty events, in several segments.
const CHUNK: usize = 16 * 1024;
/// There may be thousands of connections, with a thread each.
const STACK: usize = 128 * 1024;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    runs: Receiver<Run>,
}

/// From the subscription of a connection to its end.
pub(crate) struct Run {
    pub(crate) elapsed: Duration,
}

/// Frames of WebSocket that go out in one write, and how many.
struct Chunk {
    bytes: Vec<u8>,
    events: usize,
}

impl Server {
    /// Has so many events for each client.
    pub(crate) fn start(events: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, runs) = channel();
        let chunks = Arc::new(chunks(events));
        thread::spawn(move || {
            for tcp in listener.incoming() {
                let (sender, chunks) = (sender.clone(), Arc::clone(&chunks));
                let serving = move || serve(tcp.unwrap(), &chunks, &sender);
                thread::Builder::new().stack_size(STACK).spawn(serving).unwrap();
            }
        });
        Self { address, runs }
    }

    /// What the last connection took, which has ended.
    pub(crate) fn last_run(&self) -> Run {
        self.runs.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

/// How a connection ended is nobody's business.
fn serve(tcp: TcpStream, chunks: &[Chunk], runs: &Sender<Run>) {
    tcp.set_nodelay(true).unwrap();
    let mut out = tcp.try_clone().unwrap();
    let Ok(mut socket) = tungstenite::accept(tcp) else { return };
    let limits = json!({
        "max_message_bytes": 524_288, "max_patterns_per_message": 128, "max_patterns": 128,
    });
    let welcome = json!({"type": "welcome", "data": {
        "protocol": 1, "server": "speed", "connection_id": Uuid::nil(), "heartbeat_ms": 60_000,
        "limits": limits,
    }});
    socket.send(welcome.to_string().into()).unwrap();
    let Some(subscribe) = request(&mut socket) else { return };
    let data = json!({"accepted": ["*"], "denied": [], "mode": "live", "head": cursor(0)});
    let subscribed =
        json!({"type": "subscribed", "id": subscribe["id"], "cursor": cursor(0), "data": data});
    socket.send(subscribed.to_string().into()).unwrap();
    let begun = now();
    if chunks.is_empty() {
        while request(&mut socket).is_some() {}
        return;
    }
    // From here on one thread reads and another writes.
    let (sender, pings) = channel();
    let reading = move || {
        while let Some(frame) = request(&mut socket) {
            drop(sender.send(frame));
        }
    };
    let reading = thread::Builder::new().stack_size(STACK).spawn(reading).unwrap();
    let mut delivered = 0;
    for chunk in chunks {
        for ping in pings.try_iter() {
            drop(out.write_all(&pong(&ping, delivered)));
        }
        if out.write_all(&chunk.bytes).is_err() {
            break;
        }
        delivered += chunk.events;
    }
    if subscribe["id"] == "close" {
        drop(out.write_all(&[0x88, 2, 0x03, 0xe8]));
    }
    for ping in pings {
        drop(out.write_all(&pong(&ping, delivered)));
    }
    reading.join().unwrap();
    drop(runs.send(Run { elapsed: begun.elapsed() }));
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

/// The next frame of the client; `None` at the end.
fn request<S: Read + Write>(socket: &mut WebSocket<S>) -> Option<Value> {
    loop {
        match socket.read().ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => {
                drop(socket.flush());
                return None;
            }
            _ => {}
        }
    }
}

fn pong(ping: &Value, delivered: usize) -> Vec<u8> {
    let data = json!({"delivered": delivered});
    frame(&json!({"type": "pong", "id": ping["id"], "cursor": cursor(delivered), "data": data}))
}

fn cursor(seq: usize) -> String {
    format!("c1-9f3a0c5d7e214b68-{seq}")
}

/// A task that is made, worked on and done, and its neighbours.
fn chunks(events: usize) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = vec![];
    for seq in 1..=events {
        let bytes = frame(&event(seq));
        match chunks.last_mut().filter(|last| last.bytes.len() + bytes.len() <= CHUNK) {
            Some(last) => {
                last.bytes.extend(bytes);
                last.events += 1;
            }
            None => chunks.push(Chunk { bytes, events: 1 }),
        }
    }
    chunks
}

fn event(seq: usize) -> Value {
    let id = Uuid::from_u128(0x019a_bb4e_5c00_7a31_8f02_0000_0000_0000 + seq as u128 / 3);
    let at = Timestamp::from_unix_millis(1_795_341_600_000 + seq as i64).to_string();
    let (status, version) = [("pending", 1), ("in_progress", 2), ("completed", 3)][seq % 3];
    let task = json!({
        "id": id, "repository": "github.com/acme/api", "title": format!("Water the plants {seq}"),
        "description": "Every second day, and not the cactus: it has had enough for this year.",
        "status": status, "priority": "medium", "assignee": "ana", "tags": ["home", "garden"],
        "created_at": "2026-11-22T09:58:00.000Z", "updated_at": at, "version": version,
    });
    let mut data = json!({
        "task_id": id, "repository": "github.com/acme/api", "version": version, "changed_by": "ana",
        "task": task,
    });
    let kind = if version == 1 { "task.created" } else { "task.updated" };
    if version > 1 {
        data["changes"] = json!({"status": {"from": "pending", "to": status}});
    }
    json!({"type": kind, "timestamp": at, "cursor": cursor(seq), "data": data})
}

/// A text of 126 bytes to 64 KiB as a frame of a server, and a shorter one too.
fn frame(message: &Value) -> Vec<u8> {
    let text = message.to_string();
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(len @ ..=125) => frame.push(len),
        _ => {
            frame.push(126);
            frame.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}
