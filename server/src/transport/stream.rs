//! The byte stream that HTTP leaves behind when it is done with a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::server::TlsStream;

use super::websocket::ByteStream;

/// Bytes the kernel may hold unsent for one connection: what a stalled peer can cost.
const NOTSENT_LOWAT: u32 = 64 << 10;

/// Bytes the kernel may hold for one connection altogether, those on their way included. Linux
/// doubles this for its own overhead, and lets the last write go over it; left alone it would let
/// a busy connection grow to 4 MiB.
const SEND_BUFFER: usize = 80 << 10;

/// An upgraded connection. Of those whose kind is known, nothing is left of what hyper held.
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
    Other(Box<TokioIo<Upgraded>>),
}

impl Stream {
    /// The stream, and what came in early; `None` if the connection broke before.
    pub(super) async fn of(upgrade: OnUpgrade) -> Option<(Self, Bytes)> {
        let upgraded = match downcast::<TokioIo<TcpStream>>(upgrade.await.ok()?) {
            Ok(parts) => return Some((Self::Tcp(parts.io.into_inner()).limited(), parts.read_buf)),
            Err(upgraded) => upgraded,
        };
        #[cfg(feature = "tls")]
        let upgraded = match downcast::<TokioIo<TlsStream<TcpStream>>>(upgraded) {
            Ok(parts) => {
                let stream = Self::Tls(Box::new(parts.io.into_inner()));
                return Some((stream.limited(), parts.read_buf));
            }
            Err(upgraded) => upgraded,
        };
        Some((Self::Other(Box::new(TokioIo::new(upgraded))), Bytes::new()))
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Other(_) => None,
        }
    }

    /// Sends at once, and holds little.
    fn limited(self) -> Self {
        if let Some(socket) = self.socket() {
            let _ = socket.set_nodelay(true);
            let _ = SockRef::from(socket).set_tcp_notsent_lowat(NOTSENT_LOWAT);
            let _ = SockRef::from(socket).set_send_buffer_size(SEND_BUFFER);
        }
        self
    }
}

impl ByteStream for Stream {
    fn reset_on_drop(&self) {
        if let Some(socket) = self.socket() {
            let _ = SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

/// Calls the same method of whichever stream it is.
macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $call,
            #[cfg(feature = "tls")]
            Self::Tls($stream) => $call,
            Self::Other($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
