//! A client's frames (RFC 6455 §5.2), made into messages as their bytes come in. Memory is taken for
//! what has come, never for what a head claims. Knows no stream.

use taskwatch_protocol::CloseCode;

use super::framing::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT};

const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
/// Two bytes, a length of 64 bits, and the mask.
const MAX_HEAD: usize = 14;
/// RFC 6455 §5.5
const MAX_CONTROL: u64 = 125;

/// What the peer has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// It closes, with this code if it named one.
    Close(Option<u16>),
}

/// What the peer may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("{0}")]
    Protocol(&'static str),
    #[error("text that is not UTF-8")]
    Utf8,
    #[error("a message that is too long")]
    TooLong,
}

impl Violation {
    pub(crate) fn code(self) -> CloseCode {
        match self {
            Self::Protocol(_) => CloseCode::Protocol,
            Self::Utf8 => CloseCode::Utf8,
            Self::TooLong => CloseCode::TooBig,
        }
    }
}

/// The place in a client's stream, and what has come of the message there.
#[derive(Debug)]
pub(super) struct Reading {
    max_message: usize,
    place: Place,
    /// Most connections are between two messages.
    begun: Option<Box<Begun>>,
}

/// A message, a control frame between its frames, or both, of which not everything has come.
#[derive(Debug, Default)]
struct Begun {
    /// The kind of the message, text or binary.
    kind: Option<u8>,
    message: Vec<u8>,
    /// Up to here the message is text.
    checked: usize,
    /// Payload of the control frame.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// So much of a frame's head has come.
    Head { bytes: [u8; MAX_HEAD], came: usize },
    /// So much of its payload is still to come.
    Payload { first: u8, mask: [u8; 4], left: u64 },
}

const BEGIN: Place = Place::Head { bytes: [0; MAX_HEAD], came: 0 };

impl Reading {
    pub(super) fn new(max_message: usize) -> Self {
        Self { max_message, place: BEGIN, begun: None }
    }

    /// Takes bytes up to the end of a message, or all there are.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        loop {
            match &mut self.place {
                Place::Head { bytes, came } => {
                    let needed = head_len(&bytes[..*came])?;
                    if *came < needed {
                        let Some(more) = input.split_off(..input.len().min(needed - *came)) else {
                            return Ok(None);
                        };
                        if more.is_empty() {
                            return Ok(None);
                        }
                        bytes[*came..*came + more.len()].copy_from_slice(more);
                        *came += more.len();
                        continue;
                    }
                    let bytes = *bytes;
                    self.begin(bytes)?;
                }
                Place::Payload { first, left: 0, .. } => {
                    let first = *first;
                    self.place = BEGIN;
                    if let Some(incoming) = self.end(first)? {
                        return Ok(Some(incoming));
                    }
                }
                Place::Payload { first, mask, left } => {
                    let now = usize::try_from(*left).map_or(input.len(), |it| it.min(input.len()));
                    let Some(masked) = input.split_off(..now).filter(|it| !it.is_empty()) else {
                        return Ok(None);
                    };
                    let is_control = *first & CONTROL != 0;
                    let begun = self.begun.get_or_insert_default();
                    let payload = if is_control { &mut begun.control } else { &mut begun.message };
                    payload.extend(masked.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
                    mask.rotate_left(now % 4);
                    *left -= now as u64;
                    if !is_control && begun.kind == Some(TEXT) {
                        begun.check()?;
                    }
                }
            }
        }
    }

    /// Begins with the payload of a frame whose head has come.
    fn begin(&mut self, head: [u8; MAX_HEAD]) -> Result<(), Violation> {
        let [first, second, a, b, c, d, e, f, g, h, ..] = head;
        let (payload, mask_at) = match second & !MASKED {
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
            126 => (u64::from(u16::from_be_bytes([a, b])), 4),
            short => (u64::from(short), 2),
        };
        let (opcode, is_last) = (first & OPCODE, first & FIN != 0);
        let begun = self.begun.get_or_insert_default();
        match (opcode, begun.kind) {
            (PING | PONG | CLOSE, _) if !is_last => {
                return Err(Violation::Protocol("a control frame in pieces"));
            }
            (PING | PONG | CLOSE, _) if payload > MAX_CONTROL => {
                return Err(Violation::Protocol("a control frame that is too long"));
            }
            (PING | PONG | CLOSE, _) | (CONTINUATION, Some(_)) => {}
            (TEXT | BINARY, None) => begun.kind = Some(opcode),
            (TEXT | BINARY, Some(_)) => {
                return Err(Violation::Protocol("a message within a message"));
            }
            (CONTINUATION, None) => {
                return Err(Violation::Protocol("a continuation of nothing"));
            }
            _ => return Err(Violation::Protocol("an opcode that means nothing")),
        }
        if opcode & CONTROL == 0 && payload > (self.max_message - begun.message.len()) as u64 {
            return Err(Violation::TooLong);
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&head[mask_at..mask_at + 4]);
        self.place = Place::Payload { first, mask, left: payload };
        Ok(())
    }

    /// What a frame whose payload has come completes, if anything.
    fn end(&mut self, first: u8) -> Result<Option<Incoming>, Violation> {
        if first & (CONTROL | FIN) == 0 {
            return Ok(None);
        }
        let Some(mut begun) = self.begun.take() else { return Ok(None) };
        if first & CONTROL == 0 {
            let Begun { kind, message, .. } = *begun;
            return Ok(Some(match kind {
                Some(TEXT) => {
                    Incoming::Text(String::from_utf8(message).map_err(|_| Violation::Utf8)?)
                }
                _ => Incoming::Binary(message),
            }));
        }
        let control = std::mem::take(&mut begun.control);
        if begun.kind.is_some() {
            self.begun = Some(begun);
        }
        Ok(Some(match first & OPCODE {
            PING => Incoming::Ping(control),
            PONG => Incoming::Pong,
            _ => Incoming::Close(close_code(&control)?),
        }))
    }
}

impl Begun {
    /// Refuses text as soon as it is none. Its last character may still be incomplete.
    fn check(&mut self) -> Result<(), Violation> {
        match str::from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_some() => return Err(Violation::Utf8),
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }
}

/// How long a head is that begins with this.
fn head_len(head: &[u8]) -> Result<usize, Violation> {
    let &[first, second, ..] = head else { return Ok(2) };
    if first & RESERVED != 0 {
        return Err(Violation::Protocol("a reserved bit"));
    }
    if second & MASKED == 0 {
        return Err(Violation::Protocol("a frame without a mask"));
    }
    Ok(match second & !MASKED {
        127 => MAX_HEAD,
        126 => 8,
        _ => 6,
    })
}

/// The code in a close frame (RFC 6455 §7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(Violation::Protocol("half a close code")),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::Protocol("a close code that may not be sent"));
    }
    str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
    Ok(Some(code))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, ErrorKind, Read, Write};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
    use tokio_tungstenite::tungstenite::{Error, Message};

    use super::*;

    const MAX: usize = 64 << 10;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 20, 30, 200];
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(MASKED | short as u8),
            medium @ 126..0x1_0000 => {
                frame.push(MASKED | 126);
                frame.extend((medium as u16).to_be_bytes());
            }
            long => {
                frame.push(MASKED | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// What is made of a stream that comes in steps, up to a close, a violation or its end.
    fn read(stream: &[u8], step: usize) -> (Vec<Incoming>, Option<Violation>) {
        let mut reading = Reading::new(MAX);
        let mut all = vec![];
        for mut input in stream.chunks(step) {
            loop {
                match reading.read(&mut input) {
                    Ok(None) => break,
                    Ok(Some(incoming)) => {
                        let is_close = matches!(incoming, Incoming::Close(_));
                        all.push(incoming);
                        if is_close {
                            return (all, None);
                        }
                    }
                    Err(violation) => return (all, Some(violation)),
                }
            }
            assert!(input.is_empty(), "all of it is taken");
        }
        (all, None)
    }

    /// A peer that sends this and takes everything.
    struct Sent(Cursor<Vec<u8>>);

    impl Read for Sent {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(ErrorKind::WouldBlock.into()),
                some => Ok(some),
            }
        }
    }

    impl Write for Sent {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What another implementation makes of it, and the code it would close with.
    fn theirs(stream: Vec<u8>) -> (Vec<Incoming>, Option<CloseCode>) {
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
        let sent = Sent(Cursor::new(stream));
        let mut socket = WebSocket::from_raw_socket(sent, Role::Server, Some(config));
        let mut all = vec![];
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => all.push(Incoming::Text(text.to_string())),
                Ok(Message::Binary(bytes)) => all.push(Incoming::Binary(bytes.to_vec())),
                Ok(Message::Ping(payload)) => all.push(Incoming::Ping(payload.to_vec())),
                Ok(Message::Pong(_)) => all.push(Incoming::Pong),
                Ok(Message::Close(frame)) => {
                    all.push(Incoming::Close(frame.map(|frame| frame.code.into())));
                    return (all, None);
                }
                Ok(Message::Frame(_)) => unreachable!("only for writing"),
                Err(Error::Io(_)) => return (all, None),
                Err(Error::Protocol(_)) => return (all, Some(CloseCode::Protocol)),
                Err(Error::Utf8(_)) => return (all, Some(CloseCode::Utf8)),
                Err(Error::Capacity(_)) => return (all, Some(CloseCode::TooBig)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn any_payload() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => "[aä漢😀]{0,40}".prop_map(String::into_bytes),
            2 => vec(any::<u8>(), 0..20),
            1 => (100_usize..40_000).prop_map(|len| vec![b'x'; len]),
        ]
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop_oneof![6 => Just(1_u8), 4 => Just(0), 2 => Just(2), 1 => 0..16_u8];
        (opcode, prop::bool::weighted(0.7), prop::bool::weighted(0.01), any_payload()).prop_map(
            |(opcode, is_last, reserved, mut payload)| {
                if opcode & CONTROL != 0 {
                    payload.truncate(126);
                }
                // Another code is made into a close frame there.
                if opcode == CLOSE && payload.len() >= 2 {
                    payload[..2].copy_from_slice(&1000_u16.to_be_bytes());
                }
                let first = opcode
                    | if is_last || opcode & CONTROL != 0 { FIN } else { 0 }
                    | if reserved { 0x40 } else { 0 };
                frame(first, &payload)
            },
        )
    }

    proptest! {
        #[test]
        fn it_reads_what_another_implementation_reads(
            frames in vec(any_frame(), 1..8),
            step in prop_oneof![1..20_usize, 1..50_000_usize],
        ) {
            let stream = frames.concat();
            let (ours, violation) = read(&stream, step);
            let (theirs, code) = theirs(stream);
            // Where text breaks off is seen here before its message is complete, and a frame that
            // may not stand there comes after it: then the codes may differ, the messages not.
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(violation.is_some(), code.is_some(), "{:?} {:?}", violation, code);
            if violation != Some(Violation::Utf8) {
                prop_assert_eq!(violation.map(Violation::code), code);
            }
        }

        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(
            frames in vec(any_frame(), 1..8),
            step in 1..50_000_usize,
        ) {
            let stream = frames.concat();
            prop_assert_eq!(read(&stream, step), read(&stream, usize::MAX));
        }
    }

    #[test]
    fn a_head_that_may_not_be_is_refused_before_its_payload() {
        let long =
            |first, len: u64| [&[first, MASKED | 127], &len.to_be_bytes()[..], &[0; 4]].concat();
        let too_long = [MAX as u64 + 1, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX];
        for head in too_long.map(|len| long(FIN | TEXT, len)) {
            assert_eq!(read(&head, 1).1, Some(Violation::TooLong), "{head:?}");
        }
        for head in [
            long(FIN | PING, 126),
            long(FIN | CLOSE, u64::MAX),
            vec![FIN | PING, 0],
            vec![FIN | TEXT, 127],
            frame(PING, b""),
            frame(FIN | CONTINUATION, b""),
            frame(FIN | 3, b""),
            frame(FIN | 0x20 | TEXT, b""),
        ] {
            assert!(matches!(read(&head, 1).1, Some(Violation::Protocol(_))), "{head:?}");
        }
    }

    #[test]
    fn a_message_is_no_longer_than_allowed_in_however_many_frames() {
        let half = vec![b'x'; MAX / 2];
        let whole = [frame(TEXT, &half), frame(FIN | CONTINUATION, &half)].concat();
        assert_eq!(read(&whole, 1000).0, [Incoming::Text("x".repeat(MAX))]);
        let more = [frame(TEXT, &half), frame(0, &half), frame(FIN, b"x")].concat();
        assert_eq!(read(&more, 1000), (vec![], Some(Violation::TooLong)));
    }

    #[test]
    fn text_that_is_none_is_refused_at_once() {
        let begun = frame(TEXT, b"abc\xff");
        assert_eq!(read(&begun, 1), (vec![], Some(Violation::Utf8)));
        // Half a character may be completed by the next frame, or not.
        let halves = [frame(TEXT, "ä".as_bytes().split_at(1).0), frame(FIN, b"\xa4")].concat();
        assert_eq!(read(&halves, 1).0, [Incoming::Text("ä".into())]);
        let half = frame(FIN | TEXT, b"\xc3");
        assert_eq!(read(&half, 1), (vec![], Some(Violation::Utf8)));
    }

    #[test]
    fn a_close_says_a_code_that_may_be_sent() {
        let close = |payload: &[u8]| read(&frame(FIN | CLOSE, payload), 1);
        assert_eq!(close(b"").0, [Incoming::Close(None)]);
        assert_eq!(close(b"\x03\xe8bye").0, [Incoming::Close(Some(1000))]);
        assert_eq!(close(b"\x0f\xa0").0, [Incoming::Close(Some(4000))]);
        for payload in [&b"\x03"[..], b"\x03\xed", b"\x03\xe7", b"\x13\x88", b"\x00\x00"] {
            assert!(matches!(close(payload).1, Some(Violation::Protocol(_))), "{payload:?}");
        }
        assert_eq!(close(b"\x03\xe8\xff").1, Some(Violation::Utf8));
    }
}
