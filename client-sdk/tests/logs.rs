//! What is logged, and what is not.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use taskwatch_client::protocol::{
    ClientFrame, ClientMessage, Envelope, Limits, Mode, ServerMessage, Subscribed, Welcome,
};
use taskwatch_client::{Client, Cursor, Priority, Status, Task, TaskEvent, Timestamp, Token};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

const TOKEN: &str = "ana-s3cret";
const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const TITLE: &str = "Water the plants";

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

async fn send(socket: &mut WebSocketStream<TcpStream>, message: ServerMessage, id: Option<String>) {
    let cursor = if matches!(message, ServerMessage::Task(_)) { "c-2" } else { "c-1" };
    let frame = Envelope::new(message).cursor(Cursor::new(cursor)).id(id);
    socket.send(Message::text(frame.encode())).await.unwrap();
}

/// Speaks the server's part on one connection, up to the answer to a subscription.
async fn accept(listener: &TcpListener, mode: Mode) -> WebSocketStream<TcpStream> {
    let mut socket = accept_async(listener.accept().await.unwrap().0).await.unwrap();
    let welcome = Welcome {
        protocol: 1,
        server: String::new(),
        connection_id: ID.parse().unwrap(),
        heartbeat_ms: 20_000,
        limits: Limits { max_message_bytes: 1, max_patterns_per_message: 9, max_patterns: 9 },
        token_expires_in_ms: Some(1_100),
    };
    send(&mut socket, ServerMessage::Welcome(welcome), None).await;
    let asked = frame(&mut socket).await;
    let accepted = vec!["foo".parse().unwrap()];
    let head = Some(Cursor::new("c-1"));
    let subscribed = Subscribed { accepted, denied: vec![], mode, reason: None, head };
    send(&mut socket, ServerMessage::Subscribed(subscribed), asked.id).await;
    socket
}

async fn frame(socket: &mut WebSocketStream<TcpStream>) -> ClientFrame {
    let Message::Text(text) = socket.next().await.unwrap().unwrap() else { panic!("no text") };
    ClientFrame::decode(&text).unwrap()
}

/// What a stream logs at this level that is connected, renews its token, yields an event, is cut off
/// and connected again.
async fn logged(level: &str) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("taskwatch_client={level}")))
        .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(format!("ws://{}", listener.local_addr().unwrap()))
        .token(Token::new(TOKEN).unwrap())
        .backoff_cap(Duration::from_millis(1))
        .build()
        .unwrap();
    let mut events = client.subscribe(["foo"]).unwrap();
    let serve = async {
        let mut socket = accept(&listener, Mode::Live).await;
        let task = Task {
            id: ID.parse().unwrap(),
            repository: "foo".parse().unwrap(),
            title: TITLE.to_owned(),
            description: String::new(),
            status: Status::Pending,
            priority: Priority::Medium,
            assignee: None,
            tags: vec![],
            created_at: Timestamp::from_unix_millis(0),
            updated_at: Timestamp::from_unix_millis(0),
            version: 1,
        };
        send(&mut socket, ServerMessage::Task(TaskEvent::created(task, "ana")), None).await;
        let auth = frame(&mut socket).await;
        assert!(matches!(auth.message, ClientMessage::Auth(_)), "{auth:?}");
        drop(socket);
        accept(&listener, Mode::Resumed).await
    };
    let (_socket, event) = tokio::join!(serve, events.next());
    assert_eq!(event.unwrap().unwrap().task().title, TITLE);
    log.text()
}

#[tokio::test]
async fn no_level_shows_a_token_and_only_trace_shows_tasks() {
    for level in ["info", "debug", "trace"] {
        let log = logged(level).await;
        for part in [
            "taskwatch.stream{stream=",
            "server=\"127.0.0.1:",
            "taskwatch.connection{generation=1 transport=WebSocket}",
            "subscribed resumed=false",
            "interrupted retry_in=",
        ] {
            assert!(log.contains(part), "{part} is missing at {level}:\n{log}");
        }
        assert!(!log.contains(TOKEN), "a token at {level}:\n{log}");
        assert_eq!(log.contains(TITLE), level == "trace", "at {level}:\n{log}");
        assert_eq!(log.contains("why it was interrupted"), level != "info", "at {level}:\n{log}");
    }
}
