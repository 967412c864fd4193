//! A server that writes prepared events as fast as its clients take them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskwatch_client::protocol::Timestamp;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};
use uuid::Uuid;

use crate::Failure;
use crate::frame;

/// A reader that chose this id is closed when everything was sent to it: for those that would stay.
const CLOSE: &str = "close";
pub(super) const SUBSCRIBE: &str = r#"{"type":"subscribe","id":"1","data":{"repositories":["*"]}}"#;
/// In the title of the first event, and in nothing that comes before it.
pub(super) const FIRST: &str = "Water the plants 1";
/// Written at once: some twenty events, in several segments.
const CHUNK: usize = 16 * 1024;
/// There may be thousands of connections, with a thread each.
const STACK: usize = 128 * 1024;

#[derive(Debug)]
pub(super) struct Server(Receiver<Duration>);

/// Frames that go out in one write, and how many.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    events: usize,
}

impl Server {
    /// Has so many events for each client.
    pub(super) fn start(port: u16, events: usize) -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let (sender, runs) = channel();
        let chunks: Arc<[Chunk]> = chunks(events).into();
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (sender, chunks) = (sender.clone(), Arc::clone(&chunks));
                // How a connection ended is nobody's business.
                let serving = move || drop(serve(tcp, &chunks, &sender));
                drop(thread::Builder::new().stack_size(STACK).spawn(serving));
            }
        });
        Ok(Self(runs))
    }

    /// From the subscription of the last connection, which has ended, to its end.
    pub(super) fn last_run(&self) -> Result<Duration, Failure> {
        Ok(self.0.recv_timeout(Duration::from_secs(10))?)
    }
}

fn serve(tcp: TcpStream, chunks: &[Chunk], runs: &Sender<Duration>) -> Result<(), Failure> {
    tcp.set_nodelay(true)?;
    let mut out = tcp.try_clone()?;
    let mut socket = tungstenite::accept(tcp).map_err(|error| error.to_string())?;
    let limits = json!({
        "max_message_bytes": 524_288, "max_patterns_per_message": 128, "max_patterns": 128,
    });
    let welcome = json!({"type": "welcome", "data": {
        "protocol": 1, "server": "bench", "connection_id": Uuid::nil(), "heartbeat_ms": 60_000,
        "limits": limits,
    }});
    socket.send(welcome.to_string().into())?;
    let Some(subscribe) = request(&mut socket) else { return Ok(()) };
    let data = json!({"accepted": ["*"], "denied": [], "mode": "live", "head": cursor(0)});
    let subscribed =
        json!({"type": "subscribed", "id": subscribe["id"], "cursor": cursor(0), "data": data});
    socket.send(subscribed.to_string().into())?;
    let begun = Instant::now();
    if chunks.is_empty() {
        while request(&mut socket).is_some() {}
        return Ok(());
    }
    // From here on one thread reads and another writes.
    let (sender, pings) = channel();
    let reading = move || {
        while let Some(frame) = request(&mut socket) {
            drop(sender.send(frame));
        }
    };
    let reading = thread::Builder::new().stack_size(STACK).spawn(reading)?;
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
    if subscribe["id"] == CLOSE {
        drop(out.write_all(&[0x80 | frame::CLOSE, 2, 0x03, 0xe8]));
    }
    for ping in pings {
        drop(out.write_all(&pong(&ping, delivered)));
    }
    drop(reading.join());
    Ok(runs.send(begun.elapsed())?)
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

fn frame(message: &Value) -> Vec<u8> {
    let mut out = vec![];
    frame::unmasked(frame::TEXT, message.to_string().as_bytes(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use taskwatch_client::protocol::{ServerFrame, ServerMessage};

    use super::*;

    #[test]
    fn chunks_are_events_as_the_protocol_has_them() {
        let chunks = chunks(100);
        assert!(chunks.iter().all(|chunk| chunk.bytes.len() <= CHUNK && chunk.events > 1));
        let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
        let (mut rest, mut read) = (&bytes[..], 0);
        while let Some(frame) = frame::Frame::parse(rest) {
            rest = &rest[frame.len..];
            read += 1;
            let text = std::str::from_utf8(frame.payload).unwrap();
            let decoded = ServerFrame::decode(text).unwrap();
            assert!(matches!(decoded.message, ServerMessage::Task(_)), "{text}");
            assert_eq!(decoded.cursor.unwrap().as_str(), cursor(read));
        }
        assert_eq!((read, rest.len()), (100, 0));
    }
}
