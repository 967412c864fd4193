//! One connection: its frames, and its end.

mod ahead;
mod decoder;
mod http;
mod series;
mod websocket;

use bytes::Bytes;
use taskwatch_protocol::{ClientFrame, CloseCode, CloseReason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;

pub(crate) use self::ahead::Ahead;
pub(crate) use self::http::Requests;
pub(crate) use self::websocket::WebSocket;
use crate::dial::DialError;
use crate::transport::Route;

/// What bytes go through: TCP, with TLS or without.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to the server, whichever way it took.
pub(crate) enum Link {
    WebSocket(Box<WebSocket>),
    Http(Box<Requests>),
}

/// What came.
#[derive(Debug)]
pub(crate) enum Received {
    /// A frame.
    Text(Box<str>),
    /// A binary message, which means nothing here.
    Binary(Bytes),
    /// A sign of life without content.
    Alive,
    /// The way was blocked, and this one is taken instead. Nothing has come yet.
    Rerouted(Route),
    /// The server refused a request, or it could not be made. The end.
    Refused(DialError),
    /// The peer closes. [`Link::part`] answers it.
    Closed(CloseCode, CloseReason),
    /// The peer broke the protocol. [`Link::close`] tells it with this code.
    Broken(CloseCode, String),
    /// The connection is gone.
    Lost(String),
}

impl Link {
    /// What comes next, or the end. Nothing is lost if it is not waited for.
    pub(crate) async fn next(&mut self) -> Received {
        match self {
            Self::WebSocket(socket) => socket.next().await,
            Self::Http(requests) => requests.next().await,
        }
    }

    /// Says something, all the way into the kernel. Over plain HTTP that is a part of the next request.
    pub(crate) async fn send(&mut self, frame: &ClientFrame) -> Result<(), String> {
        match self {
            Self::WebSocket(socket) => {
                let message = Message::text(frame.encode());
                socket.send(message).await.map_err(|problem| problem.to_string())
            }
            Self::Http(requests) => {
                requests.ask(frame);
                Ok(())
            }
        }
    }

    /// Closes the connection with a code, as far as the peer takes part.
    pub(crate) async fn close(self, code: CloseCode) {
        match self {
            Self::WebSocket(socket) => socket.close(code).await,
            // Nobody listens: the server sees that the answer is not read any more.
            Self::Http(_) => {}
        }
    }

    /// Sends what is still owed, and leaves the first word of the end to the peer.
    pub(crate) async fn part(self) {
        match self {
            Self::WebSocket(socket) => socket.part().await,
            Self::Http(_) => {}
        }
    }
}
