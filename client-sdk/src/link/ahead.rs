//! Reads much at once while much comes, and keeps nothing while it does not.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Io;

/// Some fifty events. To read them in pieces of 4 KiB, as large as an idle stream can afford, was a
/// seventh of the time they took.
const ROOM: usize = 32 * 1024;

/// Bytes, of which more are read than were asked for as long as more have come.
pub(crate) struct Ahead {
    io: Box<dyn Io>,
    /// Empty while nothing is read ahead.
    room: Box<[u8]>,
    /// What was read ahead and not taken.
    held: Range<usize>,
    /// The last reader got all it asked for.
    has_more: bool,
}

impl Ahead {
    pub(crate) fn new(io: Box<dyn Io>) -> Self {
        Self { io, room: Box::default(), held: 0..0, has_more: false }
    }

    /// Reads into the room; `Pending` gives it back.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.room.is_empty() {
            self.room = vec![0; ROOM].into();
        }
        let mut room = ReadBuf::new(&mut self.room);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut room);
        self.held = 0..room.filled().len();
        if self.held.is_empty() {
            self.room = Box::default();
            self.has_more = false;
        }
        read
    }
}

impl AsyncRead for Ahead {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.has_more {
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            this.has_more = buf.remaining() == 0;
            return Poll::Ready(Ok(()));
        }
        if this.held.is_empty() {
            ready!(this.poll_ahead(cx))?;
        }
        let some = this.held.len().min(buf.remaining());
        buf.put_slice(&this.room[this.held.start..][..some]);
        this.held.start += some;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Bytes that come at once, and how many the reader asks for at a time.
    fn arrival() -> impl Strategy<Value = (usize, usize)> {
        (prop_oneof![0..9_usize, 0..3 * ROOM], prop_oneof![1..9_usize, 1..2 * ROOM])
    }

    proptest! {
        #[test]
        fn it_reads_what_came_and_keeps_nothing_when_that_is_all(
            arrivals in prop::collection::vec(arrival(), 1..9),
        ) {
            let (io, mut peer) = duplex(4 * ROOM);
            let mut ahead = Ahead::new(Box::new(io));
            let mut sent = 0_usize;
            for (bytes, asked) in arrivals {
                let came: Vec<u8> = (sent..sent + bytes).map(|at| (at % 251) as u8).collect();
                sent += bytes;
                peer.write_all(&came).now_or_never().unwrap().unwrap();
                let (mut read, mut piece) = (vec![], vec![0; asked]);
                while let Some(some) = ahead.read(&mut piece).now_or_never() {
                    read.extend_from_slice(&piece[..some.unwrap()]);
                }
                prop_assert!(read == came, "{} bytes are not those that came", read.len());
                prop_assert!(ahead.room.is_empty());
            }
            drop(peer);
            let end = ahead.read(&mut [0; 8]).now_or_never();
            prop_assert!(matches!(end, Some(Ok(0))));
        }
    }
}
