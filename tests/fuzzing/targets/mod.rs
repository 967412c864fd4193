//! What is fuzzed. Each function takes any bytes and panics if something that must hold does not;
//! what must hold is written down here once more, and shares no code with what is tested.

mod access;
mod client_frame;
mod cursor;
mod escaping;
mod pattern;
mod rest;
mod server_frame;

pub(crate) use access::access;
pub(crate) use client_frame::client_frame;
pub(crate) use cursor::cursor;
pub(crate) use escaping::escaping;
pub(crate) use pattern::pattern;
pub(crate) use rest::rest;
pub(crate) use server_frame::server_frame;

use std::fmt::Debug;

use serde_json::Value;
use taskwatch_protocol::{ClientFrame, Envelope, ServerFrame};

/// What is refused is told in few words, even if it was long.
const MAX_COMPLAINT: usize = 2_048;

/// A frame as it was read and as it is written are the same.
fn survives<M: Debug + PartialEq>(
    frame: &Envelope<M>,
    encode: impl Fn(&Envelope<M>) -> String,
    decode: impl Fn(&str) -> Envelope<M>,
) {
    let text = encode(frame);
    let again = decode(&text);
    // What nobody here knows may hold fractions, which are read to within their last digit.
    if !has_fraction(&serde_json::from_str(&text).expect("JSON")) {
        assert_eq!(again, *frame, "{text}");
    }
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}

fn server_survives(frame: &ServerFrame) {
    survives(frame, ServerFrame::encode, |text| ServerFrame::decode(text).expect("a frame"));
}

fn client_survives(frame: &ClientFrame) {
    survives(frame, ClientFrame::encode, |text| ClientFrame::decode(text).expect("a frame"));
}

/// Whether a terminal or a log could be fooled by it.
fn is_hazard(c: char) -> bool {
    const ODD: &[char] = &['\u{ad}', '\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'];
    let (number, between) = (c as u32, |first, last| (first..=last).contains(&(c as u32)));
    number < 0x20
        || between(0x7f, 0x9f)
        || between(0x202a, 0x202e)
        || between(0x2066, 0x2069)
        || between(0x200b, 0x200d)
        || between(0x2060, 0x2064)
        || between(0xe0000, 0xe007f)
        || number == 0xfeff
        || ODD.contains(&c)
}
