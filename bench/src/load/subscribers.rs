//! The connections that listen: opened, read, and their messages counted.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::window::{Difference, Tally, Window};
use crate::frame::{self, Frame};
use crate::stamp::{LEN, Scanner, Stamp};

/// What is said on each connection. `{topic}` and `{i}` are the topic and the number of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Speech {
    pub(crate) path: String,
    /// Messages to send once open.
    pub(crate) init: Vec<String>,
    /// Beginnings of short messages, and what to answer.
    pub(crate) replies: Vec<(String, String)>,
    /// Whether a message of the server may go on in the next frame, or share one.
    pub(crate) spanning: bool,
    /// What stands before a cursor.
    pub(crate) cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Connecting,
    Upgrading,
    Open,
    Closed,
}

#[derive(Debug)]
struct Subscriber {
    stream: TcpStream,
    state: State,
    /// `None` for one whose repositories nobody writes to.
    topic: Option<usize>,
    tally: Tally,
    /// A frame of which the rest has not come.
    partial: Vec<u8>,
    /// The end of the last frame, where messages span frames.
    tail: Vec<u8>,
}

/// What has been counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) deliveries: u64,
    pub(crate) bytes: u64,
    pub(crate) reads: u64,
    pub(crate) open: usize,
    /// Closed by the server after they were open.
    pub(crate) killed: u64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Subscribers {
    addr: SocketAddr,
    topics: Vec<String>,
    all: Vec<Subscriber>,
    scanner: Scanner,
    start: Instant,
    pub(crate) counts: Counts,
    /// Nanoseconds from publish to delivery.
    pub(crate) latency: Histogram<u64>,
    /// The first that came, if one is looked for.
    pub(crate) cursor: Option<String>,
    pub(crate) first_fault: Option<String>,
}

impl Subscribers {
    pub(crate) fn new(
        addr: SocketAddr,
        topics: Vec<String>,
        start: Instant,
        latency: Histogram<u64>,
    ) -> Self {
        Self {
            addr,
            topics,
            all: vec![],
            scanner: Scanner::new(),
            start,
            counts: Counts::default(),
            latency,
            cursor: None,
            first_fault: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn connect(&mut self, topic: Option<usize>, registry: &Registry) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.addr)?;
        let token = Token(self.all.len());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let (tally, partial, tail) = (Tally::default(), vec![], vec![]);
        self.all.push(Subscriber { stream, state: State::Connecting, topic, tally, partial, tail });
        Ok(())
    }

    /// How many subscribers of a topic have a message.
    pub(crate) fn reached(&self) -> usize {
        self.all.iter().filter(|one| one.tally.count() > 0).count()
    }

    /// What the subscribers that are still there lost or have twice, of all that was published.
    pub(crate) fn difference(&self, window: &Window) -> Difference {
        let open = self.all.iter().filter(|one| one.state == State::Open);
        let each = open.filter_map(|one| Some(one.tally.compare(window.published(one.topic?))));
        each.fold(Difference::default(), |sum, one| Difference {
            lost: sum.lost + one.lost,
            repeated: sum.repeated + one.repeated,
        })
    }

    /// Does what a socket is ready for.
    pub(crate) fn on_event(
        &mut self,
        event: &Event,
        speech: &Speech,
        window: &mut Window,
        registry: &Registry,
        buffer: &mut [u8],
    ) {
        let at = event.token().0;
        if self.all[at].state == State::Connecting && (event.is_writable() || event.is_error()) {
            self.upgrade(at, speech, window);
        }
        if !event.is_readable() && !event.is_read_closed() {
            return;
        }
        while matches!(self.all[at].state, State::Upgrading | State::Open) {
            let one = &mut self.all[at];
            let held = one.partial.len();
            buffer[..held].copy_from_slice(&one.partial);
            match one.stream.read(&mut buffer[held..]) {
                Ok(0) => self.close(at, "the server closed a connection", window),
                Ok(n) => {
                    one.partial.clear();
                    self.counts.reads += 1;
                    self.counts.bytes += n as u64;
                    let is_full = held + n == buffer.len();
                    self.input(at, &buffer[..held + n], speech, window, registry);
                    // Less than there was room for: the socket is empty, and the next event tells of more.
                    if !is_full && !event.is_read_closed() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.close(at, &error.to_string(), window),
            }
        }
    }

    fn upgrade(&mut self, at: usize, speech: &Speech, window: &mut Window) {
        let path = self.fill(&speech.path, at);
        let one = &mut self.all[at];
        one.state = State::Upgrading;
        _ = one.stream.set_nodelay(true);
        self.send(at, frame::upgrade(&self.addr.to_string(), &path).as_bytes(), window);
    }

    fn input(
        &mut self,
        at: usize,
        mut bytes: &[u8],
        speech: &Speech,
        window: &mut Window,
        registry: &Registry,
    ) {
        if self.all[at].state == State::Upgrading {
            match frame::upgraded(bytes) {
                Ok(None) => return self.all[at].partial.extend_from_slice(bytes),
                Err(error) => return self.close(at, &error, window),
                Ok(Some(head)) => {
                    bytes = &bytes[head..];
                    self.open(at, speech, window, registry);
                }
            }
        }
        let now = self.now();
        while let Some(frame) = Frame::parse(bytes) {
            bytes = &bytes[frame.len..];
            match frame.opcode {
                frame::PING => {
                    let mut pong = vec![];
                    frame::masked(frame::PONG, frame.payload, &mut pong);
                    self.send(at, &pong, window);
                }
                frame::PONG => {}
                frame::CLOSE => {
                    let reason =
                        String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default());
                    return self.close(at, &format!("the server said goodbye: {reason}"), window);
                }
                _ => self.message(at, frame.payload, now, speech, window),
            }
        }
        self.all[at].partial.extend_from_slice(bytes);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn open(&mut self, at: usize, speech: &Speech, window: &mut Window, registry: &Registry) {
        let one = &mut self.all[at];
        one.state = State::Open;
        self.counts.open += 1;
        // From now on nobody asks whether it takes more.
        let kept = registry.reregister(&mut one.stream, Token(at), Interest::READABLE);
        if let Some(topic) = one.topic {
            window.join(topic);
        }
        match kept {
            Ok(()) => self.say(at, &speech.init, window),
            Err(error) => self.close(at, &error.to_string(), window),
        }
    }

    /// Sends these messages in one write.
    pub(crate) fn say(&mut self, at: usize, messages: &[String], window: &mut Window) {
        let mut out = vec![];
        for message in messages {
            frame::masked(frame::TEXT, self.fill(message, at).as_bytes(), &mut out);
        }
        self.send(at, &out, window);
    }

    fn message(
        &mut self,
        at: usize,
        payload: &[u8],
        now: u64,
        speech: &Speech,
        window: &mut Window,
    ) {
        let (one, counts, latency) = (&mut self.all[at], &mut self.counts, &mut self.latency);
        let mut count = |stamp: Stamp| {
            let Some(topic) = one.topic else { return };
            one.tally.add(stamp.number);
            counts.deliveries += 1;
            latency.saturating_record(now.saturating_sub(stamp.nanos));
            window.arrived(topic, stamp.number);
        };
        if speech.spanning {
            self.scanner.spanning(&mut one.tail, payload, count);
        } else if let Some((stamp, _)) = self.scanner.first(payload) {
            count(stamp);
            return;
        }
        if let (None, Some(before)) = (&self.cursor, &speech.cursor) {
            self.cursor = text_behind(payload, before);
        }
        // What is answered is shorter than what is delivered.
        if payload.len() < 8 * LEN
            && let Some((_, answer)) =
                speech.replies.iter().find(|(start, _)| payload.starts_with(start.as_bytes()))
        {
            let mut out = vec![];
            frame::masked(frame::TEXT, self.fill(answer, at).as_bytes(), &mut out);
            self.send(at, &out, window);
        }
    }

    /// All that is sent here is little: a socket that does not take it at once is broken.
    fn send(&mut self, at: usize, bytes: &[u8], window: &mut Window) {
        match self.all[at].stream.write(bytes) {
            Ok(n) if n == bytes.len() => {}
            Ok(_) => self.close(at, "the server does not read", window),
            Err(error) => self.close(at, &error.to_string(), window),
        }
    }

    fn close(&mut self, at: usize, why: &str, window: &mut Window) {
        let one = &mut self.all[at];
        if one.state == State::Open {
            self.counts.killed += 1;
            self.counts.open -= 1;
            if let Some(topic) = one.topic {
                window.leave(topic);
            }
        }
        one.state = State::Closed;
        _ = one.stream.shutdown(std::net::Shutdown::Both);
        self.first_fault.get_or_insert_with(|| why.to_owned());
    }

    /// Connections that will not open any more.
    pub(crate) fn failed(&self) -> usize {
        self.all.iter().filter(|one| one.state == State::Closed).count()
    }

    fn fill(&self, template: &str, at: usize) -> String {
        let topic = self.all[at].topic.map_or("", |topic| self.topics[topic].as_str());
        let cursor = self.cursor.as_deref().unwrap_or_default();
        let filled = template.replace("{topic}", topic).replace("{cursor}", cursor);
        filled.replace("{i}", &at.to_string())
    }
}

/// What stands behind `before`, up to the next quotation mark.
fn text_behind(message: &[u8], before: &str) -> Option<String> {
    let start = memchr::memmem::find(message, before.as_bytes())? + before.len();
    let len = memchr::memchr(b'"', &message[start..])?;
    String::from_utf8(message[start..start + len].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stands_behind_its_name() {
        let message = br#"{"type":"subscribed","cursor":"c1-ff-7","data":{"head":"c1-ff-9"}}"#;
        assert_eq!(text_behind(message, r#""cursor":""#).as_deref(), Some("c1-ff-7"));
        assert_eq!(text_behind(message, r#""since":""#), None);
        assert_eq!(text_behind(&message[..30], r#""cursor":""#), None);
    }
}
