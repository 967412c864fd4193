//! The least work with which one thread can fan out: one write(2) of K whole frames to each socket. No queues, no
//! timers, no answers to the publisher. What a server costs above this is its own.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use crate::Failure;
use crate::frame::{self, Frame};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    /// Messages in one write
    #[arg(long, default_value_t = 1)]
    batch: usize,
}

/// What has not filled a batch goes out when the publisher has paused for so long.
const PAUSE: Duration = Duration::from_millis(20);

/// One topic: its subscribers, and the frames that wait.
#[derive(Debug, Default)]
struct Topic {
    subscribers: Vec<TcpStream>,
    waiting: Vec<u8>,
    frames: usize,
}

impl Topic {
    fn send(&mut self) {
        let waiting = &self.waiting;
        // Who has gone is missed by the client, which knows why.
        self.subscribers.retain_mut(|subscriber| subscriber.write_all(waiting).is_ok());
        self.waiting.clear();
        self.frames = 0;
    }
}

type Topics = HashMap<String, Topic>;

/// `GET /subscribe/TOPIC` listens, and any other path publishes: text messages that name the topic
/// as `"repository":"TOPIC"`. One publisher at a time.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))?;
    let mut topics = Topics::new();
    for stream in listener.incoming() {
        let mut stream = stream?;
        // A probe of the port says nothing.
        let Ok(Some(path)) = upgrade(&mut stream) else { continue };
        if let Some(topic) = path.strip_prefix("/subscribe/") {
            topics.entry(topic.to_owned()).or_default().subscribers.push(stream);
        } else {
            publish(stream, args.batch, &mut topics)?;
            topics.clear();
        }
    }
    Ok(())
}

/// Reads a request for a WebSocket and answers it. Its path; `None` if the peer left.
fn upgrade(stream: &mut TcpStream) -> io::Result<Option<String>> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut len) = ([0; 4096], 0);
    loop {
        let n = stream.read(&mut buffer[len..])?;
        if n == 0 {
            return Ok(None);
        }
        len += n;
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        if request.parse(&buffer[..len]).map_err(io::Error::other)?.is_complete() {
            let path = request.path.map(str::to_owned);
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept:";
            stream.write_all(format!("{answer} {}\r\n\r\n", frame::ACCEPT).as_bytes())?;
            return Ok(path);
        }
    }
}

fn publish(mut publisher: TcpStream, batch: usize, topics: &mut Topics) -> io::Result<()> {
    if batch > 1 {
        publisher.set_read_timeout(Some(PAUSE))?;
    }
    let (mut input, mut buffer) = (vec![], vec![0; 64 << 10]);
    loop {
        match publisher.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => input.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                topics.values_mut().filter(|topic| topic.frames > 0).for_each(Topic::send);
            }
            Err(error) => return Err(error),
        }
        let mut taken = 0;
        while let Some(frame) = Frame::parse(&input[taken..]) {
            taken += frame.len;
            let Some(topic) = name(frame.payload).and_then(|name| topics.get_mut(name)) else {
                continue;
            };
            frame::unmasked(frame.opcode, frame.payload, &mut topic.waiting);
            topic.frames += 1;
            if topic.frames >= batch {
                topic.send();
            }
        }
        input.drain(..taken);
    }
}

/// The topic a message is for.
fn name(message: &[u8]) -> Option<&str> {
    let before = b"\"repository\":\"";
    let start = memchr::memmem::find(message, before)? + before.len();
    let len = memchr::memchr(b'"', &message[start..])?;
    std::str::from_utf8(&message[start..start + len]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_topic() {
        assert_eq!(name(br#"{"repository":"t12","title":"x"}"#), Some("t12"));
        assert_eq!(name(br#"{"title":"x"}"#), None);
    }
}
