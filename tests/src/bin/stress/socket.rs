//! A WebSocket client in a few lines: little memory, and what it reads is known to the byte.

use std::io;
use std::net::Ipv4Addr;

use taskwatch_protocol::{Position, Seq};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A connection to the hub.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    received: Vec<u8>,
    /// So much of it was taken.
    taken: usize,
}

/// What the server sends.
#[derive(Debug)]
pub(crate) enum Frame {
    /// An event of a task.
    Event(Seq),
    /// The heartbeat; where that can be answered, it was.
    Ping,
    /// The subscription is acknowledged.
    Subscribed,
    /// Anything else.
    Other,
}

impl Socket {
    /// Connects, subscribes to a repository, and reads up to the acknowledgement.
    pub(crate) async fn subscribed(addr: &str, repository: &str) -> io::Result<Self> {
        Self::subscribed_over(TcpStream::connect(addr).await?, addr, repository).await
    }

    /// The same over a stream that is there.
    pub(crate) async fn subscribed_over(
        mut stream: TcpStream,
        addr: &str,
        repository: &str,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let request = upgrade(addr, &format!("/ws?repo={repository}"));
        stream.write_all(request.as_bytes()).await?;
        let mut socket = Self { stream, received: vec![], taken: 0 };
        let head = socket.head().await?;
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(io::Error::other(head));
        }
        while !matches!(socket.next().await?, Frame::Subscribed) {}
        Ok(socket)
    }

    /// The client's address.
    pub(crate) fn addr(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }

    /// The next frame. Heartbeats are answered, in the ways of both protocols.
    pub(crate) async fn next(&mut self) -> io::Result<Frame> {
        let (opcode, payload) = self.frame().await?;
        if opcode == PING {
            self.send(PONG, &payload).await?;
            return Ok(Frame::Other);
        }
        if opcode != TEXT {
            return Err(io::Error::other(format!("opcode {opcode}: {payload:?}")));
        }
        let frame = frame(std::str::from_utf8(&payload).unwrap());
        if matches!(frame, Frame::Ping) {
            self.send(TEXT, br#"{"type":"pong"}"#).await?;
        }
        Ok(frame)
    }

    async fn head(&mut self) -> io::Result<String> {
        loop {
            let end = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                self.taken = end + 4;
                return Ok(String::from_utf8_lossy(&self.received[..end]).into_owned());
            }
            self.receive().await?;
        }
    }

    async fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let first = self.take(2).await?;
        let (opcode, length) = (first[0] & 0x0f, first[1]);
        assert!(first[0] & 0xf0 == 0x80 && length < 128, "a whole frame, not masked");
        let length = match length {
            126 => usize::from(u16::from_be_bytes(self.take(2).await?.try_into().unwrap())),
            127 => u64::from_be_bytes(self.take(8).await?.try_into().unwrap()) as usize,
            short => usize::from(short),
        };
        Ok((opcode, self.take(length).await?.to_vec()))
    }

    async fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.received.len() < self.taken + count {
            self.received.drain(..self.taken);
            self.taken = 0;
            self.receive().await?;
        }
        self.taken += count;
        Ok(&self.received[self.taken - count..self.taken])
    }

    async fn receive(&mut self) -> io::Result<()> {
        self.received.reserve(4096);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Sends a short frame. Its mask is zero, which leaves the payload as it is.
    async fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126).unwrap();
        let frame = [&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0], payload].concat();
        self.stream.write_all(&frame).await
    }
}

/// What an envelope is. The type stands first, and the cursor before the data.
pub(crate) fn frame(envelope: &str) -> Frame {
    let kind = envelope.strip_prefix(r#"{"type":""#).unwrap();
    if kind.starts_with("task.") {
        let cursor = envelope.split_once(r#""cursor":""#).unwrap().1;
        Frame::Event(seq(cursor.split_once('"').unwrap().0))
    } else if kind.starts_with("ping") {
        Frame::Ping
    } else if kind.starts_with("subscribed") {
        Frame::Subscribed
    } else {
        Frame::Other
    }
}

/// The head of a request that becomes a WebSocket.
pub(crate) fn upgrade(addr: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         X-Version: 1\r\n\r\n"
    )
}

/// Connects from one of many addresses of loopback: one alone has too few ports for many
/// connections that come and go.
pub(crate) async fn connect_from(number: usize, addr: &str) -> io::Result<TcpStream> {
    let source = Ipv4Addr::new(127, 0, 1, (number % 200) as u8 + 1);
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(addr.parse().expect("an address")).await
}

/// The number in a cursor.
pub(crate) fn seq(cursor: &str) -> Seq {
    cursor.parse::<Position>().expect("a cursor of the server").seq
}
