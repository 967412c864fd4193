//! WebSocket frames as a server writes them: unmasked, unfragmented (RFC 6455 §5.2).

use bytes::{BufMut, Bytes, BytesMut};

/// The last frame of a message.
pub(super) const FIN: u8 = 0x80;
/// Opcode of a frame that continues a message.
pub(super) const CONTINUATION: u8 = 0x0;
/// Opcode of a text message.
pub(crate) const TEXT: u8 = 0x1;
/// Opcode of a binary message; this protocol has none.
pub(super) const BINARY: u8 = 0x2;
/// Opcode of a close.
pub(super) const CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub(crate) const PING: u8 = 0x9;
/// Opcode of a pong.
pub(super) const PONG: u8 = 0xA;

/// A text frame of `payload` in one piece, and the length of its header.
pub(crate) fn text_frame(payload: &[u8]) -> (Bytes, usize) {
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    put_frame(&mut frame, TEXT, payload);
    let header_len = frame.len() - payload.len();
    (frame.freeze(), header_len)
}

/// What stands in a frame of [`text_frame`].
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    let header_len = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(header_len..).unwrap_or_default()
}

/// Writes a frame.
pub(crate) fn put_frame(out: &mut impl BufMut, opcode: u8, payload: &[u8]) {
    out.put_u8(FIN | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ 0..=125), _) => out.put_u8(len),
        (_, Ok(len)) => {
            out.put_u8(126);
            out.put_u16(len);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(payload.len() as u64);
        }
    }
    out.put_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket};

    #[test]
    fn another_implementation_reads_every_length() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let text = "x".repeat(len);
            let (frame, header_len) = text_frame(text.as_bytes());
            assert_eq!(&frame[header_len..], text.as_bytes());
            assert_eq!(payload(&frame), text.as_bytes());
            let stream = std::io::Cursor::new(frame.to_vec());
            let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
            assert_eq!(socket.read().unwrap(), Message::text(text), "{len}");
        }
    }
}
