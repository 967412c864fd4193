//! An endpoint that sends back what it receives, over the same handshake, bytes and closing as a
//! subscriber's: conformance suites ask for one. It has no subscriptions and no rate limits.

use std::future::poll_fn;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;

use super::framing::{BINARY, TEXT, put_frame};
use super::reading::Incoming;
use super::stream::Stream;
use super::upgrade::{check_handshake, switching_protocols, upgrade_required};
use super::websocket::WebSocket;
use super::wire::{Left, Wire};
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
            Ok(Incoming::Text(text)) => (TEXT, text.into_bytes()),
            Ok(Incoming::Binary(bytes)) => (BINARY, bytes),
            Ok(Incoming::Ping(_) | Incoming::Pong) => continue,
            Ok(Incoming::Close(_)) | Err(Left::Gone) => break None,
            Err(Left::Violated(violation)) => break Some(Stop::new(violation.code())),
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
