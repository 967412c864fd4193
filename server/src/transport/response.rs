//! A response that frames are written into for as long as it lasts.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use taskwatch_protocol::{CloseCode, ServerFrame};
use tokio::time::timeout;

use super::body::ChunkSender;
use super::encoding::Encoding;
use super::framing;
use super::reading::Incoming;
use super::wire::{CLOSING, Left, Wire};
use crate::hub::Stop;
use crate::session::Outbox;

/// What is not written yet, and where it goes.
#[derive(Debug)]
pub(super) struct ResponseWire {
    encoding: Encoding,
    out: Vec<u8>,
    /// Bytes of the chunk that was put and not taken.
    in_flight: usize,
    body: ChunkSender,
}

impl ResponseWire {
    pub(super) fn new(encoding: Encoding, body: ChunkSender, retry_ms: u64) -> Self {
        let mut out = Vec::new();
        encoding.put_start(&mut out, retry_ms);
        Self { encoding, out, in_flight: 0, body }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while !self.is_idle() {
            poll_fn(|cx| self.poll_write(cx)).await?;
        }
        Ok(())
    }
}

impl Wire for ResponseWire {
    fn is_idle(&self) -> bool {
        self.out.is_empty() && self.in_flight == 0
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.in_flight == 0 && !self.out.is_empty() {
            let chunk = Bytes::from(std::mem::take(&mut self.out));
            self.in_flight = chunk.len();
            self.body.put(chunk);
        }
        let taken = ready!(self.body.poll_taken(cx));
        Poll::Ready(match taken {
            Ok(()) => Ok(std::mem::take(&mut self.in_flight)),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        })
    }

    /// Nothing comes in; only that the peer has left is seen.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, Left>> {
        self.body.poll_abandoned(cx).map(|()| Err(Left::Gone))
    }

    fn keep_alive(&mut self) {
        self.encoding.put_nothing(&mut self.out);
    }

    async fn close(&mut self, stop: Stop) {
        // Who takes no bytes would not take these.
        if stop.code != CloseCode::Slow {
            self.encoding.put_close(&mut self.out, stop);
            self.finish().await;
        }
    }

    async fn finish(&mut self) -> bool {
        let is_taken = matches!(timeout(CLOSING, self.flush()).await, Ok(Ok(())));
        if is_taken {
            self.body.complete();
        }
        is_taken
    }
}

impl Outbox for ResponseWire {
    fn unwritten(&self) -> usize {
        self.out.len()
    }

    fn put_frame(&mut self, frame: &[u8]) {
        self.encoding.put(&mut self.out, framing::payload(frame));
    }

    fn put(&mut self, frame: &ServerFrame) {
        self.encoding.put(&mut self.out, frame.encode().as_bytes());
    }

    fn put_last(&mut self, frame: &ServerFrame) {
        self.encoding.put_last(&mut self.out, frame.encode().as_bytes());
    }
}
