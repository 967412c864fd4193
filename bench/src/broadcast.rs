//! A peer: the hub that a guide to axum ends with. One broadcast channel for all; each connection's task takes every
//! event and sends those of its repositories.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

use crate::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    /// Bytes of each connection's read buffer, rather than tungstenite's 128 KiB
    #[arg(long)]
    read_buffer: Option<usize>,
}

struct Event {
    repository: String,
    text: Utf8Bytes,
}

#[derive(Clone)]
struct Shared {
    events: Sender<Arc<Event>>,
    read_buffer: Option<usize>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    Runtime::new()?.block_on(async {
        // More than ever wait: nobody is to lose an event.
        let shared = Shared { events: channel(4096).0, read_buffer: args.read_buffer };
        let app = Router::new()
            .route("/ws", get(upgrade))
            .route("/publish", post(publish))
            .with_state(shared);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await?;
        Ok(axum::serve(listener, app).await?)
    })
}

#[derive(Deserialize)]
struct Named {
    repository: String,
}

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: &'a str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    task: &'a RawValue,
}

async fn publish(State(shared): State<Shared>, Json(task): Json<Box<RawValue>>) -> StatusCode {
    let envelope = Envelope { r#type: "task.created", data: Data { task: &task } };
    let (Ok(named), Ok(text)) =
        (serde_json::from_str::<Named>(task.get()), serde_json::to_string(&envelope))
    else {
        return StatusCode::BAD_REQUEST;
    };
    // An error says that nobody listens.
    _ = shared.events.send(Arc::new(Event { repository: named.repository, text: text.into() }));
    StatusCode::NO_CONTENT
}

async fn upgrade(
    State(shared): State<Shared>,
    upgrade: WebSocketUpgrade,
) -> axum::response::Response {
    let upgrade = match shared.read_buffer {
        Some(size) => upgrade.read_buffer_size(size),
        None => upgrade,
    };
    upgrade.on_upgrade(move |socket| serve(socket, shared.events.subscribe()))
}

#[derive(Deserialize)]
struct Subscribe {
    data: Repositories,
}

#[derive(Deserialize)]
struct Repositories {
    repositories: Vec<String>,
}

async fn serve(mut socket: WebSocket, mut events: Receiver<Arc<Event>>) {
    let mut wanted = HashSet::new();
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    if let Ok(subscribe) = serde_json::from_str::<Subscribe>(&text) {
                        wanted.extend(subscribe.data.repositories);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            event = events.recv() => match event {
                Ok(event) if wanted.contains(&event.repository) => {
                    if socket.send(Message::Text(event.text.clone())).await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}
