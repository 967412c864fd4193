//! Frames out of the body of an answer. Bytes in, texts out.
//!
//! The crate `sse-stream` keeps a line for as long as it grows; here nothing grows beyond a limit. And
//! all that is needed of an event is its data: the frame in it says what it is.

/// The byte order mark that a stream of events may begin with.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// How frames lie in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Server-sent events: lines with fields, and an empty one behind each event.
    Events,
    /// One frame in each line.
    Lines,
}

/// Why a body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooBig,
    NotUtf8,
}

/// Takes a body to pieces, however it is cut.
#[derive(Debug)]
pub(super) struct Decoder {
    form: Form,
    /// The most bytes of one line, and of one frame.
    limit: usize,
    line: Vec<u8>,
    /// The data of an event whose end has not come.
    data: Option<Vec<u8>>,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_return: bool,
    is_first_line: bool,
}

impl Decoder {
    pub(super) fn new(form: Form, limit: usize) -> Self {
        let (line, data) = (Vec::new(), None);
        Self { form, limit, line, data, after_return: false, is_first_line: true }
    }

    /// The next frame; takes what it reads off the front of `input`. `None` when all of it was read.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<String>, Fault> {
        while !input.is_empty() {
            if std::mem::take(&mut self.after_return) && input[0] == b'\n' {
                *input = &input[1..];
                continue;
            }
            let is_end = |byte: &u8| *byte == b'\n' || *byte == b'\r';
            let end = input.iter().position(is_end);
            let (text, rest) = input.split_at(end.unwrap_or(input.len()));
            if self.line.len() + text.len() > self.limit {
                return Err(Fault::TooBig);
            }
            self.line.extend_from_slice(text);
            let Some((end, rest)) = rest.split_first() else {
                *input = rest;
                break;
            };
            *input = rest;
            self.after_return = *end == b'\r';
            let line = std::mem::take(&mut self.line);
            if let Some(frame) = self.line(&line)? {
                return String::from_utf8(frame).map(Some).map_err(|_| Fault::NotUtf8);
            }
        }
        Ok(None)
    }

    /// Whether the body may end here: not within a line or an event.
    pub(super) fn is_between_frames(&self) -> bool {
        self.line.is_empty() && self.data.is_none()
    }

    fn line(&mut self, mut line: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        if std::mem::take(&mut self.is_first_line) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if self.form == Form::Lines {
            return Ok((!line.is_empty()).then(|| line.to_vec()));
        }
        if line.is_empty() {
            return Ok(self.data.take());
        }
        // Every other field, and every comment, only shows that the peer lives.
        let Some(value) = line.strip_prefix(b"data") else { return Ok(None) };
        let value = match value {
            [] => value,
            [b':', b' ', value @ ..] | [b':', value @ ..] => value,
            _ => return Ok(None),
        };
        let before = self.data.as_ref().map_or(0, |data| data.len() + 1);
        if before + value.len() > self.limit {
            return Err(Fault::TooBig);
        }
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64;

    /// What comes out when a body arrives in these pieces.
    fn read<'a>(
        form: Form,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<String>, Result<bool, Fault>) {
        let mut decoder = Decoder::new(form, LIMIT);
        let mut frames = Vec::new();
        for mut piece in pieces {
            loop {
                match decoder.next(&mut piece) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(fault) => return (frames, Err(fault)),
                }
                assert!(decoder.line.len() <= LIMIT, "it grows");
            }
            assert!(piece.is_empty());
        }
        (frames, Ok(decoder.is_between_frames()))
    }

    fn whole(form: Form, body: &str) -> (Vec<String>, Result<bool, Fault>) {
        read(form, [body.as_bytes()])
    }

    #[test]
    fn events_are_read_as_the_standard_has_it() {
        for (body, frames) in [
            ("retry: 1500\n\nid: 7\nevent: ping\ndata: {}\n\n", &["{}"][..]),
            ("data: a\r\n\r\ndata:b\r\rdata\n\n", &["a", "b", ""]),
            ("\u{feff}data: a\n\n", &["a"]),
            (":\n\n: note\ndata: a\ndata:  b\n\n", &["a\n b"]),
            ("data: a\ndatabase: b\n\n", &["a"]),
            ("event: x\nid: 3\n\n", &[]),
            ("data: a\n\ndata: cut", &["a"]),
            ("data: a\n\ndata: cut\n", &["a"]),
        ] {
            let (found, _) = whole(Form::Events, body);
            assert_eq!(found, frames, "{body:?}");
        }
    }

    #[test]
    fn lines_are_frames_unless_they_are_empty() {
        let (frames, end) = whole(Form::Lines, "\n{\"a\":1}\r\n\n: no comment\n");
        assert_eq!(frames, ["{\"a\":1}", ": no comment"]);
        assert_eq!(end, Ok(true));
    }

    #[test]
    fn a_body_that_was_cut_shows_it() {
        for form in [Form::Events, Form::Lines] {
            assert_eq!(whole(form, "data: a\n\n").1, Ok(true));
            assert_eq!(whole(form, "data: a\n\ndata: b").1, Ok(false));
        }
        assert_eq!(whole(Form::Events, "data: a\n").1, Ok(false));
    }

    #[test]
    fn what_is_too_big_is_not_kept() {
        let long = "x".repeat(LIMIT + 1);
        for body in [long.clone(), format!("data: {long}"), format!(": {long}\n")] {
            assert_eq!(whole(Form::Events, &body).1, Err(Fault::TooBig));
        }
        let many = "data: 0123456789012345\n".repeat(4);
        assert_eq!(whole(Form::Events, &many).1, Err(Fault::TooBig));
        assert_eq!(whole(Form::Lines, &long).1, Err(Fault::TooBig));
        assert_eq!(read(Form::Lines, [&b"\xff\n"[..]]).1, Err(Fault::NotUtf8));
    }

    /// A body: of events, of what is between them, and of anything else.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => "[a-z]{0,9}".prop_map(|text| format!("id: 1\ndata: {text}\n\n").into_bytes()),
            2 => "[ -~äö]{0,9}".prop_map(|text| format!("data:{text}\r\n\r\n").into_bytes()),
            1 => Just(b":\r".to_vec()),
            1 => Just(b"\n".to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..9),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn where_it_is_cut_makes_no_difference(
            body in body(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            is_events in any::<bool>(),
        ) {
            let form = if is_events { Form::Events } else { Form::Lines };
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]);
            let (frames, end) = read(form, pieces);
            let (expected, whole) = read(form, [&body[..]]);
            prop_assert_eq!(&frames, &expected);
            prop_assert_eq!(end, whole);
            let bytes = read(form, body.chunks(1));
            prop_assert_eq!(bytes, (expected, whole));
        }
    }
}
