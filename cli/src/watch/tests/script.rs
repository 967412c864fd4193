//! A server that plays one connection after the other.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use taskwatch_client::CloseCode;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// What a scripted server does on one connection.
pub(crate) struct Connection {
    /// `data` of the answer to the first `subscribe`.
    pub(crate) answer: Value,
    /// What follows the answer to the first `subscribe`, to the second, and so on. The link is
    /// closed at the end, unless it is the last one.
    pub(crate) follows: Vec<Vec<String>>,
}

/// A server that plays one connection after the other, and its address.
pub(crate) async fn server(connections: Vec<Connection>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let last = connections.len() - 1;
        for (number, connection) in connections.into_iter().enumerate() {
            let (stream, _) = listener.accept().await.unwrap();
            play(stream, connection, number == last).await;
        }
    });
    url
}

async fn play(stream: TcpStream, connection: Connection, stays: bool) {
    let mut link = tokio_tungstenite::accept_async(stream).await.unwrap();
    let limits = json!({
        "max_message_bytes": 524_288, "max_patterns_per_message": 100, "max_patterns": 100,
    });
    let welcome = json!({"type": "welcome", "data": {
        "protocol": 1, "server": "scripted 1.0", "connection_id": ID, "heartbeat_ms": 20_000,
        "limits": limits,
    }});
    link.send(welcome.to_string().into()).await.unwrap();
    let mut follows = connection.follows.into_iter();
    let mut answer = connection.answer;
    while let Some(Ok(message)) = link.next().await {
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["type"] != "subscribe" {
            continue;
        }
        // As in a real one, an announced snapshot has no cursor yet.
        let cursor = answer.get("cursor").cloned().unwrap_or_else(|| json!("c-0"));
        let subscribed =
            json!({"type": "subscribed", "id": frame["id"], "cursor": cursor, "data": answer});
        link.send(subscribed.to_string().into()).await.unwrap();
        answer["mode"] = json!("live");
        for frame in follows.next().unwrap_or_default() {
            link.send(frame.into()).await.unwrap();
        }
        if follows.len() == 0 && !stays {
            // Come back at once: a test does not wait.
            let code = CloseCode::Rebalance.code().into();
            let _ = link.close(Some(CloseFrame { code, reason: "rebalance".into() })).await;
        }
    }
}

pub(crate) const ID: &str = "0192f0c1-2b3c-7def-8a9b-0c1d2e3f4a5b";

pub(crate) fn answer(mode: &str) -> Value {
    json!({"accepted": ["foo"], "denied": [], "mode": mode, "head": "c-9"})
}

/// An event with a field of a newer server.
pub(crate) fn event(seq: u64, title: &str) -> String {
    let task = json!({
        "id": ID, "repository": "foo", "title": title, "status": "pending", "priority": "low",
        "created_at": "2026-11-22T14:03:22Z", "updated_at": "2026-11-22T14:03:22Z", "version": 1,
    });
    let data = json!({
        "task_id": ID, "repository": "foo", "version": 2, "changed_by": "ana", "previous": task,
        "mood": "sunny",
    });
    json!({"type": "task.deleted", "cursor": format!("c-{seq}"), "data": data}).to_string()
}

/// Announces a snapshot, which has its position in its last frame.
pub(crate) fn announced(mode: &str) -> Value {
    let mut announced = answer(mode);
    announced["cursor"] = Value::Null;
    announced
}
