//! The data of server-sent events, out of the pieces in which they come.

/// What has come of a stream.
#[derive(Debug, Default)]
pub(super) struct EventData {
    line: Vec<u8>,
    data: Vec<u8>,
    after_cr: bool,
}

impl EventData {
    /// The data of each event that ends in this piece. Events without data are signs of life.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        let mut events = Vec::new();
        for &byte in piece {
            // A line ends with LF, CR, or both.
            let second = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                b'\n' | b'\r' if second => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => self.line.push(byte),
            }
        }
        events
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return Some(std::mem::take(&mut self.data)).filter(|data| !data.is_empty());
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_the_same_however_it_was_cut() {
        let stream =
            b": hello\nid: 7\ndata: {\"a\":1}\n\ndata:x\r\ndata: y\r\n\r\nretry: 5\n\ndata: z\r\rdata: cut";
        for size in 1..=stream.len() {
            let mut events = EventData::default();
            let data: Vec<_> = stream.chunks(size).flat_map(|piece| events.push(piece)).collect();
            assert_eq!(data, [&b"{\"a\":1}"[..], b"x\ny", b"z"], "{size}");
        }
    }
}
