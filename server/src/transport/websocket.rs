//! A WebSocket over a byte stream: read through tungstenite, written as prepared bytes.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use taskwatch_protocol::{CloseCode, CloseReason, ServerFrame, ServerMessage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame, Message, Role, WebSocketConfig, WebSocketContext,
};
use tokio_tungstenite::tungstenite::{Error, error::ProtocolError};

use super::framing;
use super::pieces::Pieces;
use super::wire::{CLOSING, Wire};
use crate::hub::Stop;
use crate::session::Outbox;

/// Bytes read at a time; the default of 128 KiB would be 1.25 GiB for 10,000 connections.
const READ_BUFFER: usize = 4 << 10;

/// A byte stream under a WebSocket.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes the drop of the stream a reset, so that the kernel forgets what it still holds.
    fn reset_on_drop(&self) {}
}

/// The stream, the state of the protocol, and what is not written yet.
///
/// Whatever tungstenite writes by itself (pongs, the answer to a close) goes to the end of `out`
/// like everything else, so that no frame is cut in two by another.
pub(super) struct WebSocket<S> {
    stream: S,
    context: WebSocketContext,
    out: Vec<u8>,
    written: usize,
    /// Of those, what was not yet told to whoever watches for a peer that takes nothing.
    taken: usize,
    received: usize,
    pieces: Pieces,
    /// What came in before the upgrade was complete.
    early: Bytes,
}

/// Lends tungstenite the stream for one read.
struct Lent<'a, 'b, S> {
    stream: &'a mut S,
    cx: &'a mut Context<'b>,
    out: &'a mut Vec<u8>,
    received: &'a mut usize,
    pieces: &'a mut Pieces,
    early: &'a mut Bytes,
}

impl<S: AsyncRead + Unpin> Read for Lent<'_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { stream, cx, received, pieces, early, .. } = self;
        pieces.read(buffer, |wanted| {
            let mut wanted = ReadBuf::new(wanted);
            if early.is_empty() {
                match Pin::new(&mut **stream).poll_read(cx, &mut wanted) {
                    Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
                    Poll::Ready(result) => result?,
                }
            } else {
                let now = wanted.remaining().min(early.len());
                wanted.put_slice(&early.split_to(now));
                if early.is_empty() {
                    **early = Bytes::new();
                }
            }
            **received += wanted.filled().len();
            Ok(wanted.filled().len())
        })
    }
}

impl<S> Write for Lent<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: ByteStream> WebSocket<S> {
    /// A server's end of an upgraded stream; `early` came in before the upgrade was complete.
    pub(super) fn new(stream: S, early: Bytes, max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(READ_BUFFER)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        // Copied: taken over, the buffer that the request's head came in would stay for long.
        let early = Bytes::copy_from_slice(&early);
        let context = WebSocketContext::new(Role::Server, Some(config));
        let pieces = Pieces::new(max_message_bytes);
        Self { stream, context, out: Vec::new(), written: 0, taken: 0, received: 0, pieces, early }
    }

    /// Writes everything that waits.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while !self.is_idle() {
            poll_fn(|cx| self.poll_write(cx)).await?;
        }
        Ok(())
    }

    /// Puts a close frame at the end of what waits; after it, only the peer's answer matters.
    fn put_close(&mut self, code: CloseCode, reason: &CloseReason) {
        let frame = CloseFrame { code: code.code().into(), reason: reason.to_string().into() };
        let Self { stream, context, out, received, pieces, early, .. } = self;
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        // Fails only if the peer has closed already, and then nothing is owed.
        let _ = context.close(&mut Lent { stream, cx, out, received, pieces, early }, Some(frame));
    }

    /// Reads and forgets; ready when the peer has closed the stream.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl<S: ByteStream> Wire for WebSocket<S> {
    /// Pings are answered and closes acknowledged by the way.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        let Self { stream, context, out, received, pieces, early, .. } = self;
        match context.read(&mut Lent { stream, cx, out, received, pieces, early }) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            // What `pieces` refuses comes through tungstenite as an error of the stream.
            Err(Error::Io(error)) => Poll::Ready(Err(error.downcast().unwrap_or_else(Error::Io))),
            result => Poll::Ready(result),
        }
    }

    fn take_received(&mut self) -> usize {
        std::mem::take(&mut self.received)
    }

    fn has_received(&self) -> bool {
        self.received > 0
    }

    fn is_idle(&self) -> bool {
        self.out.is_empty()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(waiting) = self.out.get(self.written..).filter(|waiting| !waiting.is_empty()) {
            let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, waiting))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
            self.taken += taken;
        }
        if self.unwritten() == 0 {
            // What TLS took waits inside it until it is flushed.
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            // An idle connection holds no buffer.
            self.out = Vec::new();
            self.written = 0;
        }
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }

    async fn close(&mut self, stop: Stop) {
        if stop.code == CloseCode::Slow {
            // It takes no bytes: a close frame would wait behind them for ever.
            self.stream.reset_on_drop();
            return;
        }
        self.put_close(stop.code, &stop.reason());
        let answered = self.finish().await;
        if !answered && stop.code == CloseCode::NoPong {
            // Nobody is there: the kernel need not keep what waits for them.
            self.stream.reset_on_drop();
        }
    }

    async fn finish(&mut self) -> bool {
        let farewell = async {
            if self.flush().await.is_ok() {
                let _ = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
                // Unread bytes at the drop would become a reset that overtakes the close frame.
                poll_fn(|cx| self.poll_drain(cx)).await;
            }
        };
        let answered = timeout(CLOSING, farewell).await.is_ok();
        if !self.is_idle() {
            self.stream.reset_on_drop();
        }
        answered
    }
}

impl<S> Outbox for WebSocket<S> {
    fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    fn put_frame(&mut self, frame: &[u8]) {
        self.out.extend_from_slice(frame);
    }

    fn put(&mut self, frame: &ServerFrame) {
        framing::put_frame(&mut self.out, framing::TEXT, frame.encode().as_bytes());
        if matches!(frame.message, ServerMessage::Ping(_)) {
            // A browser shows no protocol pings, and a library answers no JSON ones.
            framing::put_frame(&mut self.out, framing::PING, &[]);
        }
    }
}

/// The close code for a fault of the peer; `None` if the stream itself is gone.
pub(super) fn violation(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        Error::Utf8(_) => Some(CloseCode::Utf8),
        Error::Capacity(_) => Some(CloseCode::TooBig),
        _ => None,
    }
}
