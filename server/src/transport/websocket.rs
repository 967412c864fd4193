//! A WebSocket over a byte stream: frames read as they come, written as prepared bytes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use taskwatch_protocol::{CloseCode, ServerFrame, ServerMessage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::framing;
use super::reading::{Incoming, Reading};
use super::wire::{CLOSING, Left, Wire};
use crate::hub::{Frames, Stop};
use crate::session::Outbox;

/// Bytes read at a time.
const READ_BUFFER: usize = 16 << 10;

thread_local! {
    /// Where every connection of a thread reads to: it is used up before another comes to read. One
    /// for each would be most of what an idle connection costs.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BUFFER]);
}

/// A byte stream under a WebSocket.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes the drop of the stream a reset, so that the kernel forgets what it still holds.
    fn reset_on_drop(&self) {}
}

/// The stream, the place in what the peer sends, and what is not written yet.
///
/// Pongs and the answer to a close go to the end of `out` like everything else, so that no frame is
/// cut in two by another.
pub(super) struct WebSocket<S> {
    stream: S,
    reading: Reading,
    out: Out,
    written: usize,
    /// Of those, what was not yet told to whoever watches for a peer that takes nothing.
    taken: usize,
    received: usize,
    /// What has come, and was not looked at yet.
    unread: Bytes,
    /// A close frame was put, and nothing may follow it.
    closing: bool,
}

/// What waits to be written.
enum Out {
    /// Put together for many connections, and written from there: a copy for each would be most of
    /// what a delivery costs.
    Shared(Bytes),
    /// Put together here.
    Own(Vec<u8>),
}

impl Out {
    const EMPTY: Self = Self::Own(Vec::new());

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }

    /// Puts more behind what waits.
    fn put(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = match std::mem::replace(self, Self::EMPTY) {
            Self::Shared(bytes) => bytes.to_vec(),
            Self::Own(bytes) => bytes,
        };
        put(&mut bytes);
        *self = Self::Own(bytes);
    }

    fn put_frame(&mut self, opcode: u8, payload: &[u8]) {
        self.put(|out| framing::put_frame(out, opcode, payload));
    }
}

impl<S: ByteStream> WebSocket<S> {
    /// A server's end of an upgraded stream; `early` came in before the upgrade was complete.
    pub(super) fn new(stream: S, early: Bytes, max_message_bytes: usize) -> Self {
        Self {
            stream,
            reading: Reading::new(max_message_bytes),
            out: Out::EMPTY,
            written: 0,
            taken: 0,
            received: early.len(),
            // Copied: taken over, the buffer that the request's head came in would stay for long.
            unread: Bytes::copy_from_slice(&early),
            closing: false,
        }
    }

    /// Writes everything that waits.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while !self.is_idle() {
            poll_fn(|cx| self.poll_write(cx)).await?;
        }
        Ok(())
    }

    /// Puts a close frame at the end of what waits; after it, only the peer's answer matters.
    fn put_close(&mut self, payload: &[u8]) {
        if !self.closing {
            self.closing = true;
            self.out.put_frame(framing::CLOSE, payload);
        }
    }

    /// Goes through what has come, up to the end of a message.
    fn next_unread(&mut self) -> Result<Option<Incoming>, Left> {
        let mut input = &self.unread[..];
        let incoming = self.reading.read(&mut input);
        let rest = input.len();
        self.unread.advance(self.unread.len() - rest);
        if rest == 0 {
            self.unread = Bytes::new();
        }
        incoming.map_err(Left::Violated)
    }

    /// Reads once, and goes through it likewise.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Incoming>, Left>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            let mut input = buffer.filled();
            if read.is_err() || input.is_empty() {
                return Poll::Ready(Err(Left::Gone));
            }
            self.received += input.len();
            let incoming = self.reading.read(&mut input);
            self.unread = Bytes::copy_from_slice(input);
            Poll::Ready(incoming.map_err(Left::Violated))
        })
    }

    /// Answers what asks for it.
    fn answer(&mut self, incoming: &Incoming) {
        match incoming {
            Incoming::Ping(payload) if !self.closing => {
                self.out.put_frame(framing::PONG, payload);
            }
            Incoming::Close(code) => {
                let code = code.map(u16::to_be_bytes);
                self.put_close(code.as_ref().map_or(&[], |code| code));
            }
            _ => {}
        }
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
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, Left>> {
        loop {
            let next = if self.unread.is_empty() {
                ready!(self.poll_next(cx))?
            } else {
                self.next_unread()?
            };
            if let Some(incoming) = next {
                self.answer(&incoming);
                return Poll::Ready(Ok(incoming));
            }
        }
    }

    fn take_received(&mut self) -> usize {
        std::mem::take(&mut self.received)
    }

    fn has_received(&self) -> bool {
        self.received > 0
    }

    fn is_idle(&self) -> bool {
        self.out.bytes().is_empty()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(waiting) =
            self.out.bytes().get(self.written..).filter(|waiting| !waiting.is_empty())
        {
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
            self.out = Out::EMPTY;
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
        let mut payload = stop.code.code().to_be_bytes().to_vec();
        payload.extend_from_slice(stop.reason().to_string().as_bytes());
        self.put_close(&payload);
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
        self.out.bytes().len() - self.written
    }

    fn put_frame(&mut self, frame: &[u8]) {
        self.out.put(|out| out.extend_from_slice(frame));
    }

    fn put_events(&mut self, frames: &Frames) {
        if self.out.bytes().is_empty() {
            self.out = Out::Shared(frames.bytes());
        } else {
            self.out.put(|out| out.extend_from_slice(&frames.bytes()));
        }
    }

    fn put(&mut self, frame: &ServerFrame) {
        self.out.put_frame(framing::TEXT, frame.encode().as_bytes());
        if matches!(frame.message, ServerMessage::Ping(_)) {
            // A browser shows no protocol pings, and a library answers no JSON ones.
            self.out.put_frame(framing::PING, &[]);
        }
    }
}
