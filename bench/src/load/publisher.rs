//! How messages reach a server.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::frame;
use crate::stamp::{Scanner, Stamp};

/// Ways to publish.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(crate) enum Way {
    /// HTTP/1.1 POST over all connections, with one request under way on each
    Http,
    /// Text messages over one WebSocket
    Websocket,
    /// NATS's PUB over one TCP connection
    Nats,
}

/// Where to, and in what words. `{topic}` in the path is the topic.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) way: Way,
    pub(crate) addr: SocketAddr,
    pub(crate) path: String,
}

/// A message as it goes over the wire, with room for its stamp.
#[derive(Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    stamp: usize,
}

impl Message {
    pub(crate) fn new(target: &Target, topic: &str, body: &str) -> Self {
        let mut bytes = vec![];
        match target.way {
            Way::Http => {
                let path = target.path.replace("{topic}", topic);
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    target.addr,
                    body.len()
                );
                bytes.extend(head.bytes().chain(body.bytes()));
            }
            Way::Websocket => frame::masked(frame::TEXT, body.as_bytes(), &mut bytes),
            Way::Nats => bytes.extend(format!("PUB {topic} {}\r\n{body}\r\n", body.len()).bytes()),
        }
        let stamp = Scanner::new().place(&bytes).unwrap_or(0);
        Self { bytes, stamp }
    }

    fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        stamp.write(&mut self.bytes[self.stamp..]);
        &self.bytes
    }
}

/// One connection that publishes.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    ready: bool,
    out: Vec<u8>,
    input: Vec<u8>,
}

/// All of them. Those that may take a message are in `free`.
#[derive(Debug)]
pub(crate) struct Publishers {
    way: Way,
    connections: Vec<Connection>,
    free: Vec<usize>,
    /// Answers that are none.
    pub(crate) accepted: u64,
    /// Answers that are errors.
    pub(crate) refused: u64,
    pub(crate) first_refusal: Option<u16>,
}

impl Publishers {
    pub(crate) fn connect(
        target: &Target,
        count: usize,
        registry: &Registry,
        first: usize,
    ) -> io::Result<Self> {
        let count = if target.way == Way::Http { count } else { 1 };
        let mut connections = vec![];
        for i in 0..count {
            let mut stream = TcpStream::connect(target.addr)?;
            registry.register(
                &mut stream,
                Token(first + i),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            let out = match target.way {
                Way::Http => vec![],
                Way::Websocket => {
                    frame::upgrade(&target.addr.to_string(), &target.path).into_bytes()
                }
                Way::Nats => b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n".to_vec(),
            };
            connections.push(Connection { stream, ready: false, out, input: vec![] });
        }
        Ok(Self {
            way: target.way,
            connections,
            free: vec![],
            accepted: 0,
            refused: 0,
            first_refusal: None,
        })
    }

    pub(crate) fn are_ready(&self) -> bool {
        self.free.len() == self.connections.len()
    }

    pub(crate) fn may_publish(&self) -> bool {
        !self.free.is_empty()
    }

    /// Gives a message to a connection; [`flush`](Self::flush) sends it, if need be.
    pub(crate) fn publish(&mut self, message: &mut Message, stamp: Stamp) -> io::Result<()> {
        let Some(&at) = self.free.last() else { return Ok(()) };
        self.connections[at].out.extend_from_slice(message.stamped(stamp));
        if self.way == Way::Http {
            self.free.pop();
            self.connections[at].flush()?;
        }
        Ok(())
    }

    /// Sends what waits on the connections that take more than one message.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.free.iter().try_for_each(|at| self.connections[*at].flush())
    }

    pub(crate) fn writable(&mut self, at: usize) -> io::Result<()> {
        let connection = &mut self.connections[at];
        // Without it messages of a server that answers nothing wait for an acknowledgement.
        _ = connection.stream.set_nodelay(true);
        if !connection.ready && self.way != Way::Websocket {
            connection.ready = true;
            self.free.push(at);
        }
        connection.flush()
    }

    pub(crate) fn readable(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let connection = &mut self.connections[at];
            match connection.stream.read(buffer) {
                Ok(0) => {
                    return Err(io::Error::other("the server closed a publisher's connection"));
                }
                Ok(n) => connection.input.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            self.input(at)?;
        }
    }

    fn input(&mut self, at: usize) -> io::Result<()> {
        let connection = &mut self.connections[at];
        match self.way {
            Way::Http => {
                while let Some((status, len)) =
                    answer(&connection.input).map_err(io::Error::other)?
                {
                    connection.input.drain(..len);
                    self.free.push(at);
                    if (200..300).contains(&status) {
                        self.accepted += 1;
                    } else {
                        self.refused += 1;
                        self.first_refusal.get_or_insert(status);
                    }
                }
            }
            Way::Websocket if !connection.ready => {
                if let Some(len) = frame::upgraded(&connection.input).map_err(io::Error::other)? {
                    connection.input.drain(..len);
                    connection.ready = true;
                    self.free.push(at);
                }
            }
            // Nothing that a benchmark waits for.
            Way::Websocket => connection.input.clear(),
            Way::Nats => {
                if connection.input.windows(6).any(|line| line == b"PING\r\n") {
                    connection.out.extend(b"PONG\r\n");
                    connection.flush()?;
                }
                connection.input.clear();
            }
        }
        Ok(())
    }
}

impl Connection {
    fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(n) => sent += n,
                // The rest goes when the socket is writable again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => break,
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..sent);
        Ok(())
    }
}

/// Status and length of the HTTP answer at the start of `bytes`, once it is whole.
fn answer(bytes: &[u8]) -> Result<Option<(u16, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut headers);
    let head = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("an answer that is not HTTP: {error}")),
    };
    let value =
        |name: &str| answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if value("transfer-encoding").is_some() {
        return Err("an answer in chunks, which this client does not read".into());
    }
    let body = value("content-length")
        .map_or(Some(0), |header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let len = head + body.ok_or("an answer whose Content-Length is no number")?;
    Ok((bytes.len() >= len).then_some((answer.code.unwrap_or(0), len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_body_does() {
        let one = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        let both = [&one[..], b"HTTP/1.1 204 No Content\r\n\r\n"].concat();
        assert_eq!(answer(&both), Ok(Some((201, one.len()))));
        assert_eq!(answer(&both[one.len()..]), Ok(Some((204, both.len() - one.len()))));
        assert_eq!(answer(&one[..one.len() - 1]), Ok(None));
        assert!(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn every_way_carries_the_stamp() {
        for way in [Way::Http, Way::Websocket, Way::Nats] {
            let target =
                Target { way, addr: ([127, 0, 0, 1], 1).into(), path: "/to/{topic}".into() };
            let body = format!("{{\"title\":\"{}\"}}", Stamp::default().text());
            let mut message = Message::new(&target, "t7", &body);
            let stamp = Stamp { nanos: 5, number: 6 };
            let found = Scanner::new().first(message.stamped(stamp)).map(|(stamp, _)| stamp);
            assert_eq!(found, Some(stamp));
            assert_eq!(message.bytes.windows(2).any(|name| name == b"t7"), way != Way::Websocket);
        }
    }
}
