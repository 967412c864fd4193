//! The ways to misbehave.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::socket::{connect_from, upgrade};

const FIN: u8 = 0x80;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
/// The length of the mask, which is zero, so that it changes nothing.
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0; 4];
/// More than any limit of messages or control frames.
const FLOOD: usize = 500;
/// More than one read of the server takes.
const PART: usize = 64 << 10;

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Subscribes to everything and never reads.
    NeverReads,
    FloodsPings,
    /// Frames that are not masked, or have reserved bits, or are not UTF-8.
    BadFrames,
    TooBig,
    /// A frame that is never finished.
    HalfFrame,
    /// A reset in the middle of a frame.
    ResetMidFrame,
    /// Subscribes, leaves, comes back.
    ComesAndGoes,
    /// Subscribes and unsubscribes without end.
    Churns,
    /// What is no HTTP at all.
    NoHttp,
    /// A head that is never finished.
    HalfHead,
}

impl Kind {
    pub(crate) const ALL: [Self; 10] = [
        Self::NeverReads,
        Self::FloodsPings,
        Self::BadFrames,
        Self::TooBig,
        Self::HalfFrame,
        Self::ResetMidFrame,
        Self::ComesAndGoes,
        Self::Churns,
        Self::NoHttp,
        Self::HalfHead,
    ];

    fn upgrades(self) -> bool {
        !matches!(self, Self::NoHttp | Self::HalfHead)
    }
}

/// Connects as far as this kind does.
///
/// # Errors
/// If the server refuses.
pub(crate) async fn connect(kind: Kind, number: usize, addr: &str) -> io::Result<TcpStream> {
    let mut stream = connect_from(number, addr).await?;
    if kind.upgrades() {
        let everything = matches!(kind, Kind::NeverReads | Kind::ComesAndGoes);
        let path = if everything { "/ws?repo=*" } else { "/ws" };
        stream.write_all(upgrade(addr, path).as_bytes()).await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        if &status != b"HTTP/1.1 101" {
            return Err(io::Error::other(String::from_utf8_lossy(&status)));
        }
    }
    Ok(stream)
}

/// Misbehaves, and goes on until the server has closed the connection or it makes no sense any more.
///
/// # Errors
/// As the server closes it.
pub(crate) async fn misbehave(kind: Kind, number: usize, mut stream: TcpStream) -> io::Result<()> {
    let longer = [frame_head(TEXT, 512 << 10), vec![b' '; PART]].concat();
    match kind {
        Kind::NeverReads => return std::future::pending().await,
        Kind::FloodsPings => {
            stream.write_all(&frame(PING, b"still there?").repeat(FLOOD)).await?;
        }
        Kind::BadFrames => {
            let bad = [&[FIN | TEXT, 2, b'{', b'}'], &[0xf1, MASKED, 0, 0, 0, 0][..]];
            let not_utf8 = frame(TEXT, b"\xff");
            let bad = bad.get(number % 3).copied().unwrap_or(&not_utf8);
            stream.write_all(bad).await?;
        }
        Kind::TooBig => {
            stream.write_all(&[frame_head(TEXT, 1 << 20), vec![b' '; PART]].concat()).await?;
        }
        Kind::HalfFrame => stream.write_all(&longer).await?,
        Kind::ResetMidFrame => {
            stream.write_all(&longer).await?;
            stream.set_zero_linger()?;
            return Ok(());
        }
        Kind::ComesAndGoes => {
            let polite = (number / Kind::ALL.len()).is_multiple_of(2);
            if !polite {
                return Ok(());
            }
            stream.write_all(&frame(CLOSE, &1000_u16.to_be_bytes())).await?;
        }
        Kind::Churns => {
            let subscribe =
                format!(r#"{{"type":"subscribe","data":{{"repositories":["c{number}"]}}}}"#);
            let unsubscribe = subscribe.replace("subscribe", "unsubscribe");
            let both = [frame(TEXT, subscribe.as_bytes()), frame(TEXT, unsubscribe.as_bytes())];
            let (mut reader, mut writer) = stream.split();
            let churn = async {
                for _ in 0..FLOOD {
                    writer.write_all(&both.concat()).await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                io::Result::Ok(())
            };
            return tokio::select! {
                read = read_to_end(&mut reader) => read,
                churned = churn => churned,
            };
        }
        Kind::NoHttp => stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1].repeat(FLOOD)).await?,
        Kind::HalfHead => stream.write_all(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n").await?,
    }
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<()> {
    tokio::io::copy(stream, &mut tokio::io::sink()).await.map(drop)
}

/// A frame of a payload that may have 65,535 bytes.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    [frame_head(opcode, payload.len()), payload.to_vec()].concat()
}

fn frame_head(opcode: u8, claimed: usize) -> Vec<u8> {
    let mut head = vec![FIN | opcode];
    match u8::try_from(claimed) {
        Ok(length @ 0..126) => head.push(MASKED | length),
        _ => {
            head.push(MASKED | 127);
            head.extend((claimed as u64).to_be_bytes());
        }
    }
    head.extend(MASK);
    head
}
