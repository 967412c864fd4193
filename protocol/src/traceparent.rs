//! The trace that a change belongs to.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The trace that a change belongs to, and the span that asked for it: a `traceparent` of version 00, as
/// W3C Trace Context has it, such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Traceparent(Box<str>);

/// The text is no `traceparent` of version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of version 00")]
pub struct InvalidTraceparent;

impl Traceparent {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the trace: 32 hex digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }
}

impl FromStr for Traceparent {
    type Err = InvalidTraceparent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let is_hex = |part: &&str| {
                part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            };
            parts.next().filter(is_hex).ok_or(InvalidTraceparent)
        };
        let (version, trace, span, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let is_nothing = |id: &str| id.bytes().all(|byte| byte == b'0');
        if version != "00" || is_nothing(trace) || is_nothing(span) || parts.next().is_some() {
            return Err(InvalidTraceparent);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Traceparent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Reads the field of an envelope, which is no worse for a trace that cannot be made out: that is none.
pub(crate) fn lenient<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Traceparent>, D::Error> {
    let text = Option::<&RawValue>::deserialize(deserializer)?;
    let text = text.and_then(|text| serde_json::from_str::<Cow<'_, str>>(text.get()).ok());
    Ok(text.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_one_is_kept_as_it_is() {
        let trace: Traceparent = GOOD.parse().unwrap();
        assert_eq!((trace.as_str(), trace.to_string().len()), (GOOD, 55));
        assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn anything_else_is_none() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        for bad in [
            String::new(),
            format!("01-{trace}-{span}-01"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("00-{trace}-{span}-01-"),
            format!(" 00-{trace}-{span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}é-{span}-01", &trace[..30]),
            format!("00-{trace}{span}--01"),
            format!("00-{trace}-{span}-0g"),
        ] {
            assert_eq!(bad.parse::<Traceparent>(), Err(InvalidTraceparent), "{bad}");
        }
    }
}
