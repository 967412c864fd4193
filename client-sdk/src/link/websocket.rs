//! One upgraded connection: its messages, and an end as RFC 6455 has it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use taskwatch_protocol::{CloseCode, CloseReason};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Ahead, Received};

/// For closing politely; after it the connection is dropped.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// Read at a time of what nobody wants any more.
const SCRAP: usize = 4 * 1024;

/// An upgraded connection.
pub(crate) struct WebSocket(WebSocketStream<Ahead>);

impl WebSocket {
    pub(crate) fn new(socket: WebSocketStream<Ahead>) -> Self {
        Self(socket)
    }

    /// The next message, or the end. Nothing is lost if it is not waited for.
    pub(crate) async fn next(&mut self) -> Received {
        match self.0.next().await {
            Some(Ok(Message::Close(Some(frame)))) => {
                let reason = CloseReason::parse(frame.reason.as_str());
                Received::Closed(u16::from(frame.code).into(), reason)
            }
            Some(Ok(Message::Close(None))) => {
                Received::Lost("the server closed the connection".to_owned())
            }
            Some(Ok(Message::Text(text))) => Received::Text(text.as_str().into()),
            Some(Ok(Message::Binary(bytes))) => Received::Binary(bytes),
            // A Ping is answered by the way.
            Some(Ok(_)) => Received::Alive,
            // How a server that was killed looks from here.
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                Received::Lost("the connection was cut".to_owned())
            }
            Some(Err(problem)) => match violation(&problem) {
                Some(code) => Received::Broken(code, problem.to_string()),
                None => Received::Lost(problem.to_string()),
            },
            None => Received::Lost("the connection ended".to_owned()),
        }
    }

    /// Writes a message, all the way into the kernel.
    pub(crate) async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.0.send(message).await
    }

    /// Closes the connection with a code, as far as the peer takes part.
    pub(crate) async fn close(mut self, code: CloseCode) {
        let reason = CloseReason { word: code.word().to_owned(), retry_after_ms: None };
        let reason = reason.to_string().into();
        let frame = CloseFrame { code: code.code().into(), reason };
        let farewell = async {
            if self.0.close(Some(frame)).await.is_ok() {
                self.drain().await;
            }
        };
        // A peer that does not answer is not waited for.
        let _ = timeout(FAREWELL_LIMIT, farewell).await;
    }

    /// Sends what is still owed, such as the answer to a close, and leaves the first word of the end
    /// to the peer.
    pub(crate) async fn part(mut self) {
        let farewell = async {
            let _ = self.0.flush().await;
            self.drain().await;
        };
        let _ = timeout(FAREWELL_LIMIT, farewell).await;
    }

    /// Reads to the end of the stream: unread bytes would make the drop a reset, which overtakes
    /// what was written last.
    async fn drain(&mut self) {
        // Not in the future: it is a part of each driver's, which is made for the whole stream.
        let mut scrap = vec![0; SCRAP];
        while let Ok(1..) = self.0.get_mut().read(&mut scrap).await {}
    }
}

/// The close code for a fault of the peer; `None` if the stream itself is gone.
fn violation(problem: &Error) -> Option<CloseCode> {
    match problem {
        Error::Protocol(_) => Some(CloseCode::Protocol),
        Error::Utf8(_) => Some(CloseCode::Utf8),
        Error::Capacity(_) => Some(CloseCode::TooBig),
        _ => None,
    }
}
