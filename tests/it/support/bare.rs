//! A WebSocket frame by frame, for peers that misbehave: nothing is answered unasked.

use socket2::{Domain, Socket, Type};
use taskwatch_tests::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl From<u8> for Opcode {
    fn from(code: u8) -> Self {
        match code {
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => panic!("a server sends no frame of kind {other}"),
        }
    }
}

/// A connection after its upgrade.
pub(crate) struct Bare {
    stream: TcpStream,
}

impl Bare {
    /// Connects to `ADDR` and upgrades; `path` is `/ws` with a query, if any.
    pub(crate) async fn connect(addr: &str, path: &str) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        Self::upgrade(stream, path, "").await
    }

    /// The same with a kernel that takes little for a reader who does not read.
    pub(crate) async fn connect_narrow(addr: &str, path: &str) -> Self {
        Self::upgrade(narrow(addr), path, "").await
    }

    /// The same of somebody with a token.
    pub(crate) async fn connect_narrow_as(token: &str, addr: &str, path: &str) -> Self {
        Self::upgrade(narrow(addr), path, &format!("Authorization: Bearer {token}\r\n")).await
    }

    async fn upgrade(mut stream: TcpStream, path: &str, headers: &str) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Version: 1\r\n{headers}Upgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("an upgrade", stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { stream }
    }

    /// Sends any bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends one whole text message, as a client should.
    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send(&frame(Opcode::Text, text.as_bytes())).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<(Opcode, Vec<u8>)> {
        within("a frame", self.read()).await
    }

    async fn read(&mut self) -> Option<(Opcode, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).await.ok()?;
        assert_eq!(head[0] & 0xf0, 0x80, "the server sends whole messages");
        assert_eq!(head[1] & 0x80, 0, "and masks none");
        let len = match head[1] {
            126 => usize::from(self.stream.read_u16().await.ok()?),
            127 => usize::try_from(self.stream.read_u64().await.ok()?).unwrap(),
            short => usize::from(short),
        };
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((Opcode::from(head[0] & 0x0f), payload))
    }

    /// The next text message.
    pub(crate) async fn next_text(&mut self) -> Option<String> {
        loop {
            let (opcode, payload) = self.next().await?;
            if opcode == Opcode::Text {
                return Some(String::from_utf8(payload).unwrap());
            }
        }
    }

    /// Reads up to the end: the close code, if one was sent.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            let (opcode, payload) = self.next().await?;
            if opcode == Opcode::Close {
                return Some(u16::from_be_bytes([payload[0], payload[1]]));
            }
        }
    }
}

/// A connection whose kernel takes little for a reader who does not read.
pub(crate) fn narrow(addr: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let addr: std::net::SocketAddr = addr.parse().unwrap();
    socket.connect(&addr.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpStream::from_std(socket.into()).unwrap()
}

/// A whole message in one masked frame.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![0x80 | opcode as u8];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
