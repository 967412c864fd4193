//! What makes a message known again, wherever a server puts it: when it was sent, and which of its topic it is.

use std::ops::Range;

use memchr::memmem::Finder;

/// Begins with a byte that is rare in text and JSON, so that the search skips most of a message.
const MARK: &[u8] = b"~at:";
const NANOS: Range<usize> = MARK.len()..MARK.len() + 16;
const NUMBER: Range<usize> = NANOS.end + 1..NANOS.end + 11;
/// Bytes of a stamp; all have the same, so that one can be written over another.
pub(crate) const LEN: usize = NUMBER.end;

/// The time is in nanoseconds since the client's start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stamp {
    pub(crate) nanos: u64,
    pub(crate) number: u64,
}

impl Stamp {
    pub(crate) fn text(self) -> String {
        format!("~at:{:016}.{:010}", self.nanos, self.number)
    }

    /// Writes it over another, without making a text first.
    pub(crate) fn write(self, at: &mut [u8]) {
        put(&mut at[NANOS], self.nanos);
        put(&mut at[NUMBER], self.number);
    }

    fn read(at: &[u8]) -> Option<Self> {
        Some(Self { nanos: digits(at.get(NANOS)?)?, number: digits(at.get(NUMBER)?)? })
    }
}

fn put(at: &mut [u8], mut value: u64) {
    for digit in at.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn digits(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0, |value: u64, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value * 10 + u64::from(digit))
    })
}

/// Finds stamps.
#[derive(Debug)]
pub(crate) struct Scanner(Finder<'static>);

impl Scanner {
    pub(crate) fn new() -> Self {
        Self(Finder::new(MARK))
    }

    /// The place of the first stamp.
    pub(crate) fn place(&self, bytes: &[u8]) -> Option<usize> {
        self.0.find(bytes)
    }

    /// The first stamp, and what comes after it.
    pub(crate) fn first<'a>(&self, mut bytes: &'a [u8]) -> Option<(Stamp, &'a [u8])> {
        loop {
            let found = &bytes[self.0.find(bytes)?..];
            if let Some(stamp) = Stamp::read(found) {
                return Some((stamp, &found[LEN..]));
            }
            bytes = &found[MARK.len()..];
        }
    }

    /// All stamps of a stream that comes in pieces, of which `tail` holds the end of the last ones.
    pub(crate) fn spanning(&self, tail: &mut Vec<u8>, piece: &[u8], mut found: impl FnMut(Stamp)) {
        // Either part is shorter than a stamp: what is whole in both together spans them.
        tail.extend_from_slice(&piece[..piece.len().min(LEN - 1)]);
        if let Some((stamp, _)) = self.first(tail) {
            found(stamp);
        }
        let mut rest = piece;
        while let Some((stamp, after)) = self.first(rest) {
            found(stamp);
            rest = after;
        }
        if piece.len() >= LEN - 1 {
            tail.clear();
            // A stamp that was found is not to be found again.
            tail.extend_from_slice(&rest[rest.len().saturating_sub(LEN - 1)..]);
        } else {
            tail.drain(..tail.len().saturating_sub(LEN - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { nanos: 1_234_567_890, number: 42 };

    #[test]
    fn a_stamp_is_written_over_another_and_found_within_a_message() {
        let mut message = format!("{{\"title\":\"{}\",\"~at:\":1}}", Stamp::default().text());
        let mut bytes = std::mem::take(&mut message).into_bytes();
        let scanner = Scanner::new();
        let at = scanner.place(&bytes).unwrap();
        STAMP.write(&mut bytes[at..]);
        let (found, after) = scanner.first(&bytes).unwrap();
        assert_eq!((found, after), (STAMP, &b"\",\"~at:\":1}"[..]));
        assert_eq!(STAMP.text().len(), LEN);
        assert_eq!(scanner.first(after), None);
    }

    #[test]
    fn what_only_looks_like_one_is_passed_over() {
        let scanner = Scanner::new();
        let bytes = format!("~at:12345~at:x{}", STAMP.text());
        assert_eq!(scanner.first(bytes.as_bytes()).map(|(stamp, _)| stamp), Some(STAMP));
        assert_eq!(scanner.first(&STAMP.text().as_bytes()[..LEN - 1]), None);
    }

    #[test]
    fn a_stream_cut_anywhere_has_each_stamp_once() {
        let all: Vec<Stamp> = (0..20).map(|number| Stamp { nanos: number * 7, number }).collect();
        let stream: String = all.iter().map(|stamp| format!("x{}yz", stamp.text())).collect();
        for size in 1..stream.len() {
            let (scanner, mut tail, mut found) = (Scanner::new(), vec![], vec![]);
            for piece in stream.as_bytes().chunks(size) {
                scanner.spanning(&mut tail, piece, |stamp| found.push(stamp));
                assert!(tail.len() < LEN);
            }
            assert_eq!(found, all, "in pieces of {size}");
        }
    }
}
