//! An endpoint that sends back what it receives, over the same handshake, bytes and closing as a
//! subscriber's: conformance suites ask for one. It has no subscriptions and no rate limits.

use std::future::poll_fn;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::Message;

use super::framing::{BINARY, TEXT, put_frame};
use super::stream::Stream;
use super::upgrade::{check_handshake, switching_protocols, upgrade_required};
use super::websocket::{WebSocket, violation};
use super::wire::Wire;
use crate::hub::Stop;
use crate::session::Outbox;

/// What the largest cases of the suites need.
const MAX_MESSAGE: usize = 16 << 20;

/// A router that echoes at `/`.
pub fn echo() -> Router {
    Router::new().route("/", get(accept))
}

async fn accept(mut request: Request) -> Response {
    let accept_key = match check_handshake(request.headers()) {
        Ok(accept_key) => accept_key,
        Err(refused) => return refused.into_response(),
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return upgrade_required().into_response();
    };
    tokio::spawn(async move {
        if let Some((stream, early)) = Stream::of(upgrade).await {
            serve(stream, early).await;
        }
    });
    switching_protocols(accept_key, false)
}

async fn serve(stream: Stream, early: Bytes) {
    let mut wire = WebSocket::new(stream, early, MAX_MESSAGE);
    let stop = loop {
        if wire.flush().await.is_err() {
            return;
        }
        let (opcode, payload) = match poll_fn(|cx| wire.poll_message(cx)).await {
            Ok(Message::Text(text)) => (TEXT, Bytes::from(text)),
            Ok(Message::Binary(bytes)) => (BINARY, bytes),
            Ok(_) => continue,
            Err(error) => break violation(&error).map(Stop::new),
        };
        let mut frame = Vec::with_capacity(payload.len() + 10);
        put_frame(&mut frame, opcode, &payload);
        wire.put_frame(&frame);
    };
    match stop {
        Some(stop) => wire.close(stop).await,
        None => {
            wire.finish().await;
        }
    }
}
