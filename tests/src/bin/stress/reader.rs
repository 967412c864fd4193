//! A client on one of the ways to follow events.

use std::io;

use taskwatch_protocol::Seq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::socket::{Frame, Socket, frame};

/// How events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// Over a WebSocket
    Ws,
    /// As server-sent events
    Sse,
}

/// A connection that is subscribed.
#[derive(Debug)]
pub(crate) enum Reader {
    Socket(Socket),
    Stream(EventStream),
}

impl Reader {
    /// Connects, subscribes to a repository, and reads up to the acknowledgement.
    pub(crate) async fn subscribed(way: Way, addr: &str, repository: &str) -> io::Result<Self> {
        Ok(match way {
            Way::Ws => Self::Socket(Socket::subscribed(addr, repository).await?),
            Way::Sse => Self::Stream(EventStream::subscribed(addr, repository).await?),
        })
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> io::Result<Frame> {
        match self {
            Self::Socket(socket) => socket.next().await,
            Self::Stream(stream) => stream.next().await,
        }
    }

    /// Reads so many events.
    pub(crate) async fn events(&mut self, count: usize) -> io::Result<Vec<Seq>> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            if let Frame::Event(seq) = self.next().await? {
                events.push(seq);
            }
        }
        Ok(events)
    }
}

/// Server-sent events in a few lines.
#[derive(Debug)]
pub(crate) struct EventStream {
    stream: TcpStream,
    /// As it came, in chunks.
    received: Vec<u8>,
    /// What the chunks held.
    body: String,
}

impl EventStream {
    async fn subscribed(addr: &str, repository: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(addr).await?;
        let path = format!("/api/v1/events?repository={repository}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut stream = Self { stream, received: vec![], body: String::new() };
        let head = stream.up_to(b"\r\n\r\n").await?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(head));
        }
        while !matches!(stream.next().await?, Frame::Subscribed) {}
        Ok(stream)
    }

    async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some((event, rest)) = self.body.split_once("\n\n") {
                let found = event.lines().find_map(|line| line.strip_prefix("data: ")).map(frame);
                self.body = rest.to_owned();
                if let Some(found) = found {
                    return Ok(found);
                }
            } else {
                self.chunk().await?;
            }
        }
    }

    async fn chunk(&mut self) -> io::Result<()> {
        let size = self.up_to(b"\r\n").await?;
        let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
        while self.received.len() < size + 2 {
            self.receive().await?;
        }
        self.body.push_str(std::str::from_utf8(&self.received[..size]).unwrap());
        self.received.drain(..size + 2);
        if size == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// What stands before a mark, which is taken too.
    async fn up_to(&mut self, mark: &[u8]) -> io::Result<String> {
        loop {
            let end = self.received.windows(mark.len()).position(|bytes| bytes == mark);
            if let Some(end) = end {
                let text = String::from_utf8_lossy(&self.received[..end]).into_owned();
                self.received.drain(..end + mark.len());
                return Ok(text);
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> io::Result<()> {
        self.received.reserve(4096);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
