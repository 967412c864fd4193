//! Makes text of others harmless: what would drive a terminal, hide, or fake a line is shown.
//!
//! Nothing that came over the wire may reach a terminal or a log except through here.

use std::fmt::{self, Write};
use std::io;

/// Whether a terminal would obey or hide this character instead of showing it.
///
/// Control characters (C0, DEL, C1), line and paragraph separators, and every invisible character
/// that Unicode lets change or hide its neighbours: bidi controls, zero-width characters, fillers,
/// annotations and tags. U+FE00 to U+FE0F stay, since they only choose the look of an emoji.
#[must_use]
pub fn is_hazardous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Writes `text`, and what `escape` makes of each hazardous character.
///
/// What is harmless goes out in pieces as long as they come: most texts are one.
fn escaped(
    f: &mut fmt::Formatter<'_>,
    text: &str,
    mut escape: impl FnMut(&mut fmt::Formatter<'_>, char) -> fmt::Result,
) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = first_hazard(rest) {
        let (harmless, hazardous) = rest.split_at(at);
        f.write_str(harmless)?;
        let mut chars = hazardous.chars();
        chars.next().map_or(Ok(()), |c| escape(f, c))?;
        rest = chars.as_str();
    }
    f.write_str(rest)
}

/// Bytes that are looked at together.
const PIECE: usize = 32;

/// Where the first hazardous character begins.
fn first_hazard(text: &str) -> Option<usize> {
    // Printable ASCII is skipped as bytes, without a look at what Unicode says of it: first in pieces that
    // are looked at whole, which takes a tenth of the time.
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~');
    let (pieces, _) = text.as_bytes().as_chunks::<PIECE>();
    let are_plain =
        |piece: &&[u8; PIECE]| piece.iter().fold(true, |all, byte| all & is_plain(byte));
    let plain = pieces.iter().take_while(are_plain).count() * PIECE;
    let plain = plain + text.as_bytes()[plain..].iter().take_while(|byte| is_plain(byte)).count();
    Some(plain + text[plain..].find(is_hazardous)?)
}

/// Text for a person: each hazardous character is written as `\u{1b}`.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(pub &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escaped(f, self.0, |f, c| write!(f, "{}", c.escape_unicode()))
    }
}

/// A JSON text on one line, equal in value, with each hazardous character as a `\u` escape.
///
/// In JSON such characters stand only in strings, except for the whitespace between tokens.
#[derive(Clone, Copy, Debug)]
pub struct JsonLine<'a>(pub &'a str);

impl fmt::Display for JsonLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escaped(f, self.0, |f, c| match c {
            '\n' | '\r' | '\t' => f.write_char(' '),
            c => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}")),
        })
    }
}

/// What is logged at once, as one line: a line break within it cannot fake another one. The line
/// break at its end stays.
#[derive(Clone, Copy, Debug)]
pub struct LogLine<'a>(pub &'a str);

impl fmt::Display for LogLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.strip_suffix('\n') {
            Some(line) => writeln!(f, "{}", Visible(line)),
            None => Visible(self.0).fmt(f),
        }
    }
}

/// Passes a log on to another writer, each event as one [`LogLine`]: a log quotes whoever is at the
/// other end.
///
/// Each write must be a whole event, so that no character is cut in two.
#[derive(Debug)]
pub struct LogLines<W>(pub W);

impl<W: io::Write> io::Write for LogLines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        write!(self.0, "{}", LogLine(&String::from_utf8_lossy(event)))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Passes a log in JSON on to another writer, each event as one [`JsonLine`].
///
/// Each write must be a whole event.
#[derive(Debug)]
pub struct JsonLines<W>(pub W);

impl<W: io::Write> io::Write for JsonLines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        match text.strip_suffix('\n') {
            Some(line) => writeln!(self.0, "{}", JsonLine(line))?,
            None => write!(self.0, "{}", JsonLine(&text))?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_drives_a_terminal_is_shown() {
        for (text, shown) in [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{1b}]52;c;ZWNobw==\u{7}", "\\u{1b}]52;c;ZWNobw==\\u{7}"),
            ("a\nb\r\tc\0", "a\\u{a}b\\u{d}\\u{9}c\\u{0}"),
            ("\u{7f}\u{9b}31m\u{9d}", "\\u{7f}\\u{9b}31m\\u{9d}"),
            ("a\u{202e}b\u{2066}c\u{200f}\u{61c}", "a\\u{202e}b\\u{2066}c\\u{200f}\\u{61c}"),
            (
                "\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}",
                "\\u{200b}\\u{200d}\\u{2060}\\u{feff}\\u{ad}",
            ),
            ("\u{2028}\u{2029}\u{85}", "\\u{2028}\\u{2029}\\u{85}"),
            ("\u{e0041}\u{e007f}\u{e0100}", "\\u{e0041}\\u{e007f}\\u{e0100}"),
        ] {
            assert_eq!(Visible(text).to_string(), shown);
        }
    }

    #[test]
    fn what_people_write_is_left_alone() {
        for text in
            ["", "Grüße, 世界", "naïve – “quoted” → ok", "שלום مرحبا", "❤\u{fe0f} 👍🏽", "\\u{1b}"]
        {
            assert_eq!(Visible(text).to_string(), text);
        }
    }

    #[test]
    fn json_is_one_line_of_the_same_value() {
        for (json, line) in [
            ("{\"a\":\n\t1}\r\n", "{\"a\":  1}  "),
            ("\"\u{7f}\u{9b}\u{202e}\"", r#""\u007f\u009b\u202e""#),
            ("\"\u{e0041}\"", r#""\udb40\udc41""#),
            (r#""\u001b[2J \"x\" ü""#, r#""\u001b[2J \"x\" ü""#),
        ] {
            assert_eq!(JsonLine(json).to_string(), line);
        }
    }

    #[test]
    fn a_log_line_is_one() {
        for (logged, line) in [
            ("reason=\u{1b}[2J ü\nERROR \u{9b}\n", "reason=\\u{1b}[2J ü\\u{a}ERROR \\u{9b}\n"),
            ("a\r\n", "a\\u{d}\n"),
            ("a\nb", "a\\u{a}b"),
            ("", ""),
        ] {
            assert_eq!(LogLine(logged).to_string(), line);
        }
    }

    #[test]
    fn a_logged_event_is_one_harmless_line() {
        let mut log = LogLines(Vec::new());
        io::Write::write_all(&mut log, "detail=\u{1b}[2J ü\nERROR \u{9b}\n".as_bytes()).unwrap();
        io::Write::write_all(&mut log, b"\xff\n").unwrap();
        io::Write::flush(&mut log).unwrap();
        let shown = "detail=\\u{1b}[2J ü\\u{a}ERROR \\u{9b}\n\u{fffd}\n";
        assert_eq!(String::from_utf8(log.0).unwrap(), shown);
    }

    #[test]
    fn a_logged_object_is_one_line_of_the_same_value() {
        let mut log = JsonLines(Vec::new());
        io::Write::write_all(&mut log, "{\"a\":\n\"\u{9b}\u{2028}ü\"}\n".as_bytes()).unwrap();
        io::Write::write_all(&mut log, b"{}").unwrap();
        io::Write::flush(&mut log).unwrap();
        let shown = "{\"a\": \"\\u009b\\u2028ü\"}\n{}";
        assert_eq!(String::from_utf8(log.0).unwrap(), shown);
    }

    /// Strings rich in what must not get through, which random text rarely holds.
    fn nasty() -> impl Strategy<Value = String> {
        let hazard = prop_oneof![
            any::<char>(),
            proptest::char::range('\0', '\u{9f}'),
            proptest::char::range('\u{2000}', '\u{206f}'),
            proptest::char::range('\u{e0000}', '\u{e01ff}'),
        ];
        proptest::collection::vec(hazard, 0..64).prop_map(String::from_iter)
    }

    /// Objects and arrays of such strings, as keys and as values.
    fn nasty_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![nasty().prop_map(Value::from), any::<i64>().prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(nasty(), inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_hazardous_gets_through(text in nasty()) {
            prop_assert!(!Visible(&text).to_string().contains(is_hazardous));
        }

        #[test]
        fn json_keeps_its_value(value in nasty_json(), pretty: bool) {
            let json = if pretty { format!("{value:#}") } else { value.to_string() };
            let line = JsonLine(&json).to_string();
            prop_assert!(!line.contains(is_hazardous));
            prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
        }
    }
}
