//! The little of RFC 6455 that both ends of a benchmark need.

/// The example of RFC 6455, 1.3: with one key for all, the answer is known beforehand.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A frame in a buffer; its payload is not unmasked, which is right for the masks made here.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes with its header.
    pub(crate) len: usize,
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`, if it is whole.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (claim, mut head) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
            short => (u64::from(short), 2),
        };
        if second & 0x80 != 0 {
            head += 4;
        }
        let len = usize::try_from(claim).ok()?.checked_add(head)?;
        Some(Self { opcode: first & 0xf, payload: bytes.get(head..len)?, len })
    }
}

/// Adds a frame of a server.
pub(crate) fn unmasked(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    frame(opcode, 0, payload, out);
}

/// Adds a frame of a client. The mask is zero, which is allowed, and costs nothing here.
pub(crate) fn masked(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    frame(opcode, 0x80, payload, out);
}

#[expect(clippy::cast_possible_truncation, reason = "each in the range of its arm")]
fn frame(opcode: u8, mask: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ ..126 => out.push(mask | len as u8),
        len @ 126..=0xffff => {
            out.push(mask | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(mask | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    if mask != 0 {
        out.extend([0; 4]);
    }
    out.extend_from_slice(payload);
}

/// A client's request for a WebSocket; `X-Version` is our server's, and nothing to others.
pub(crate) fn upgrade(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nX-Version: 1\r\n\r\n"
    )
}

/// The bytes of the answer to [`upgrade`], once it is whole; an error is its status.
pub(crate) fn upgraded(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(bytes) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(len)) if answer.code == Some(101) => {
            let accept =
                answer.headers.iter().find(|h| h.name.eq_ignore_ascii_case("sec-websocket-accept"));
            match accept {
                Some(header) if header.value == ACCEPT.as_bytes() => Ok(Some(len)),
                _ => Err("the answer to the upgrade is not for its key".into()),
            }
        }
        Ok(_) => Err(format!("the upgrade was answered {}", answer.code.unwrap_or_default())),
        Err(error) => Err(format!("the answer to the upgrade: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_come_back_and_no_part_of_one_does() {
        for len in [0, 1, 125, 126, 0xffff, 0x10000] {
            let payload = vec![b'x'; len];
            for make in [unmasked, masked] {
                let mut out = vec![];
                make(TEXT, &payload, &mut out);
                let whole = out.len();
                assert_eq!(Frame::parse(&out[..whole - 1]), None);
                out.extend(b"next");
                let frame = Frame { opcode: TEXT, payload: &payload, len: whole };
                assert_eq!(Frame::parse(&out), Some(frame));
            }
        }
    }

    #[test]
    fn a_claim_beyond_all_memory_is_a_frame_that_is_not_whole() {
        let mut bytes = vec![0x81, 127];
        bytes.extend([0xff; 8]);
        assert_eq!(Frame::parse(&bytes), None);
    }

    #[test]
    fn an_upgrade_is_accepted_only_with_the_answer_to_its_key() {
        let answer = format!("HTTP/1.1 101 S\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n");
        assert_eq!(upgraded(answer.as_bytes()), Ok(Some(answer.len())));
        assert_eq!(upgraded(&answer.as_bytes()[..20]), Ok(None));
        assert!(upgraded(b"HTTP/1.1 101 S\r\nSec-WebSocket-Accept: x\r\n\r\n").is_err());
        assert!(upgraded(b"HTTP/1.1 503 S\r\n\r\n").unwrap_err().contains("503"));
    }
}
