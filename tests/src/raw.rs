//! A WebSocket without the SDK, for what the wire itself must show.

use std::sync::LazyLock;

use futures_util::{SinkExt, StreamExt};
use jsonschema::Validator;
use serde_json::Value;
use taskwatch_protocol::{SCHEMA, ServerFrame};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::within;

/// What `schema.json` says of frames of a server.
static SERVER_FRAME: LazyLock<Validator> = LazyLock::new(|| {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    schema["anyOf"] = serde_json::json!([{"$ref": "#/$defs/ServerFrame"}]);
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap()
});

/// Checks that a server may send this.
///
/// # Panics
/// If `schema.json` says otherwise.
pub fn expect_server_frame(frame: &Value) {
    let valid = SERVER_FRAME.validate(frame);
    assert!(valid.is_ok(), "not as in schema.json: {frame}: {valid:?}");
}

/// A raw connection to the hub.
#[derive(Debug)]
pub struct RawClient {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl RawClient {
    /// Connects to `http://ADDR` with `X-Version: 1`; `path` is `/ws` with a query, if any.
    pub async fn connect(url: &str, path: &str) -> Self {
        Self::try_connect(url, path, &[("X-Version", "1")]).await.unwrap()
    }

    /// Connects with exactly these headers beside those of the handshake.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn try_connect(
        url: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Box<Error>> {
        let url = format!("{}{path}", url.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        for &(name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let (socket, _) = within("a WebSocket", connect_async(request)).await?;
        Ok(Self { socket })
    }

    /// Connects, subscribes, and reads up to the acknowledgement.
    pub async fn subscribed(url: &str, repositories: &[&str]) -> Self {
        let mut client = Self::connect(url, "/ws").await;
        client
            .send(serde_json::json!({"type": "subscribe", "data": {"repositories": repositories}}))
            .await;
        client.until("subscribed").await;
        client
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends a ping of the WebSocket protocol, and waits for its pong.
    pub async fn ping(&mut self) {
        self.socket.send(Message::Ping("are you there".into())).await.unwrap();
        loop {
            match within("a pong", self.socket.next()).await.unwrap().unwrap() {
                Message::Pong(payload) if *payload == *b"are you there" => return,
                _ => {}
            }
        }
    }

    /// The next text frame; `Err` with the close frame, if there was one, at the end.
    ///
    /// # Errors
    /// If the connection is closed.
    pub async fn try_next(&mut self) -> Result<String, Option<CloseFrame>> {
        loop {
            match within("a frame", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
                Some(Ok(Message::Close(frame))) => return Err(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next frame as JSON.
    pub async fn next(&mut self) -> Value {
        let text = self.try_next().await.expect("the connection is open");
        assert!(ServerFrame::decode(&text).is_ok(), "unreadable: {text}");
        let frame = serde_json::from_str(&text).unwrap();
        expect_server_frame(&frame);
        frame
    }

    /// Reads up to a frame of this type, and returns it.
    pub async fn until(&mut self, kind: &str) -> Value {
        // Heartbeats would come for ever.
        within(kind, self.first(|found| found == kind)).await
    }

    async fn first(&mut self, wanted: impl Fn(&str) -> bool) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"].as_str().is_some_and(&wanted) {
                return frame;
            }
        }
    }

    /// The next task event.
    pub async fn next_event(&mut self) -> Value {
        within("a task event", self.first(|kind| kind.starts_with("task."))).await
    }

    /// Reads to the end of the connection: its close code.
    pub async fn closed(&mut self) -> Option<u16> {
        let closed = async {
            loop {
                if let Err(frame) = self.try_next().await {
                    return frame.map(|frame| frame.code.into());
                }
            }
        };
        within("the end of a connection", closed).await
    }
}
