//! WebSocket frames as a server writes them: unmasked, unfragmented (RFC 6455 §5.2).

use bytes::{BufMut, Bytes, BytesMut};

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;

/// A text frame of `payload` in one piece, and the length of its header.
pub(crate) fn text_frame(payload: &[u8]) -> (Bytes, usize) {
    let mut frame = BytesMut::with_capacity(payload.len() + 10);
    put_header(&mut frame, TEXT, payload.len());
    let header_len = frame.len();
    frame.put_slice(payload);
    (frame.freeze(), header_len)
}

/// Writes the header of a frame whose payload has `len` bytes.
pub(crate) fn put_header(out: &mut impl BufMut, opcode: u8, len: usize) {
    out.put_u8(FIN | opcode);
    match len {
        0..=125 => out.put_u8(len as u8),
        126..=0xffff => {
            out.put_u8(126);
            out.put_u16(len as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(len as u64);
        }
    }
}
