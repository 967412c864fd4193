//! Cuts a client's frames into small ones as they come in, so that memory is taken for what has
//! come and not for what a head claims: tungstenite reserves a frame's whole length at once.

use std::io;

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};

const FIN: u8 = 0x80;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
/// Two bytes, and the mask.
const MIN_HEAD: usize = 6;
/// And a length of 64 bits.
const MAX_HEAD: usize = MIN_HEAD + 8;
/// RFC 6455 §5.5
const MAX_CONTROL: u64 = 125;
/// Payload of one piece. The mask has 4 bytes, so that it begins anew with each piece.
const PIECE: u64 = 4 << 10;

/// The place in the stream of a client's frames.
pub(super) struct Pieces {
    max_payload: u64,
    place: Place,
    /// A head: as far as it has come, or that of the piece that is passed on.
    head: [u8; MAX_HEAD],
    /// The first byte of the next piece's head, were it the last.
    first: u8,
    mask: [u8; 4],
    /// Bytes of the frame behind this piece.
    rest: u64,
}

#[derive(Clone, Copy)]
enum Place {
    /// So much of a frame's head has come.
    Head(usize),
    /// The head of a piece: its length, how much of it was passed on, and the payload behind it.
    Passing { len: usize, passed: usize, payload: u64 },
    /// So much of the piece's payload is still to come.
    Payload(u64),
}

impl Pieces {
    pub(super) fn new(max_payload: usize) -> Self {
        Self {
            max_payload: max_payload as u64,
            place: Place::Head(0),
            head: [0; MAX_HEAD],
            first: 0,
            mask: [0; 4],
            rest: 0,
        }
    }

    /// Reads a part of the stream of pieces, taking what it needs from the client's.
    ///
    /// # Errors
    /// Those of the source; or one that holds a tungstenite error, if the client may not send this.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        mut source: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match self.place {
                Place::Head(came) => {
                    let needed = self.head_len(came).map_err(refused)?;
                    if came == needed {
                        self.begin().map_err(refused)?;
                        continue;
                    }
                    match source(&mut self.head[came..needed])? {
                        0 => return Ok(0),
                        more => self.place = Place::Head(came + more),
                    }
                }
                Place::Passing { len, passed, payload } => {
                    let now = buffer.len().min(len - passed);
                    buffer[..now].copy_from_slice(&self.head[passed..passed + now]);
                    self.place = if passed + now == len {
                        Place::Payload(payload)
                    } else {
                        Place::Passing { len, passed: passed + now, payload }
                    };
                    return Ok(now);
                }
                Place::Payload(0) if self.rest == 0 => self.place = Place::Head(0),
                Place::Payload(0) => self.piece(),
                Place::Payload(left) => {
                    let most =
                        usize::try_from(left).map_or(buffer.len(), |it| it.min(buffer.len()));
                    let came = source(&mut buffer[..most])?;
                    self.place = Place::Payload(left - came as u64);
                    return Ok(came);
                }
            }
        }
    }

    /// How long the head is, of which so much has come; at first what every head has.
    fn head_len(&self, came: usize) -> Result<usize, Error> {
        if came < 2 {
            return Ok(MIN_HEAD);
        }
        if self.head[1] & MASKED == 0 {
            return Err(ProtocolError::UnmaskedFrameFromClient.into());
        }
        Ok(match self.head[1] & !MASKED {
            127 => MAX_HEAD,
            126 => MIN_HEAD + 2,
            _ => MIN_HEAD,
        })
    }

    /// Begins with a frame whose head has come.
    fn begin(&mut self) -> Result<(), Error> {
        let [first, second, a, b, c, d, e, f, g, h, ..] = self.head;
        let (payload, mask_at) = match second & !MASKED {
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
            126 => (u64::from(u16::from_be_bytes([a, b])), 4),
            short => (u64::from(short), 2),
        };
        if first & CONTROL != 0 && payload > MAX_CONTROL {
            return Err(ProtocolError::ControlFrameTooBig.into());
        }
        if payload > self.max_payload {
            let size = usize::try_from(payload).unwrap_or(usize::MAX);
            let max_size = usize::try_from(self.max_payload).unwrap_or(usize::MAX);
            return Err(Error::Capacity(CapacityError::MessageTooLong { size, max_size }));
        }
        self.mask.copy_from_slice(&self.head[mask_at..mask_at + 4]);
        self.first = first;
        self.rest = payload;
        self.piece();
        Ok(())
    }

    /// Goes on to the next piece of a frame.
    fn piece(&mut self) {
        let payload = self.rest.min(PIECE);
        self.rest -= payload;
        self.head[0] = if self.rest == 0 { self.first } else { self.first & !FIN };
        // What follows continues it.
        self.first &= FIN;
        let len = match u8::try_from(payload) {
            Ok(short @ 0..126) => {
                self.head[1] = MASKED | short;
                2
            }
            _ => {
                self.head[1] = MASKED | 126;
                // A piece is no longer than that.
                self.head[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
                4
            }
        };
        self.head[len..len + 4].copy_from_slice(&self.mask);
        self.place = Place::Passing { len: len + 4, passed: 0, payload };
    }
}

fn refused(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read, Write};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

    use super::*;

    const MAX: usize = 64 << 10;

    /// A client's stream that comes in steps, cut into pieces.
    struct Cut {
        stream: Cursor<Vec<u8>>,
        step: usize,
        pieces: Pieces,
    }

    impl Cut {
        fn new(stream: Vec<u8>, step: usize) -> Self {
            Self { stream: Cursor::new(stream), step, pieces: Pieces::new(MAX) }
        }
    }

    impl Read for Cut {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.pieces.read(buffer, |wanted| {
                let most = wanted.len().min(self.step);
                self.stream.read(&mut wanted[..most])
            })
        }
    }

    impl Write for Cut {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

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

    /// What tungstenite makes of a stream, up to its end.
    fn messages(stream: impl Read + Write) -> (Vec<Message>, String) {
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
        let mut socket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
        let mut messages = vec![];
        loop {
            match socket.read() {
                Ok(message) => messages.push(message),
                Err(Error::Io(error)) => return (messages, error.to_string()),
                Err(error) => return (messages, error.to_string()),
            }
        }
    }

    proptest! {
        #[test]
        fn the_messages_are_the_same(
            frames in vec((0_u8..=15, any::<bool>(), 0_usize..3 * PIECE as usize), 1..6),
            step in 1_usize..6000,
        ) {
            let mut stream = vec![];
            for (opcode, fin, len) in frames {
                let len = if opcode & CONTROL == 0 { len } else { len % 126 };
                let first = opcode | if fin { FIN } else { 0 };
                // A close code that may be sent, if it is one.
                let payload: Vec<_> = [3, 232].iter().chain(b"abcdefg".iter().cycle()).take(len).copied().collect();
                let payload = if opcode == 8 { payload } else { b"abcdefg".repeat(len / 7 + 1)[..len].to_vec() };
                stream.extend(frame(first, &payload));
            }
            prop_assert_eq!(
                messages(Cut::new(stream.clone(), step)),
                messages(Cursor::new(stream)),
            );
        }

        #[test]
        fn no_piece_is_long(len in 0_usize..=MAX, size in 1_usize..6000) {
            let payload = vec![7; len];
            let mut cut = Cut::new(frame(FIN | 2, &payload), usize::MAX);
            let mut pieces = vec![];
            let mut buffer = vec![0; size];
            loop {
                match cut.read(&mut buffer).unwrap() {
                    0 => break,
                    came => pieces.extend_from_slice(&buffer[..came]),
                }
            }
            let mut at = 0;
            while at < pieces.len() {
                let (head, payload) = match pieces[at + 1] & !MASKED {
                    126 => (8, usize::from(u16::from_be_bytes([pieces[at + 2], pieces[at + 3]]))),
                    127 => panic!("a long piece"),
                    short => (6, usize::from(short)),
                };
                prop_assert!(payload <= PIECE as usize);
                at += head + payload;
            }
            prop_assert_eq!(at, pieces.len());
            prop_assert_eq!(messages(Cursor::new(pieces)).0, [Message::binary(payload)]);
        }
    }

    #[test]
    fn what_may_not_be_sent_is_refused_by_its_head() {
        let refusal = |head: &[u8]| {
            let error = Cut::new(head.to_vec(), 1).read(&mut [0; 64]).unwrap_err();
            error.downcast::<Error>().unwrap()
        };
        let claims =
            |first, len: u64| [&[first, MASKED | 127], &len.to_be_bytes()[..], &[0; 4]].concat();
        for len in [MAX as u64 + 1, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX] {
            assert!(matches!(refusal(&claims(FIN | 1, len)), Error::Capacity(_)), "{len}");
        }
        for (head, error) in [
            (claims(FIN | 9, 126), ProtocolError::ControlFrameTooBig),
            (claims(FIN | 8, u64::MAX), ProtocolError::ControlFrameTooBig),
            (vec![FIN | 9, 0], ProtocolError::UnmaskedFrameFromClient),
            (vec![FIN | 1, 127], ProtocolError::UnmaskedFrameFromClient),
        ] {
            assert!(matches!(refusal(&head), Error::Protocol(found) if found == error), "{head:?}");
        }
    }
}
