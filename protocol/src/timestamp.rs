//! Points in time on the wire: RFC 3339, UTC, milliseconds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, to the millisecond. Written as `2026-11-22T10:00:00.000Z`; any RFC 3339 text
/// is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(with = "String", extend("format" = "date-time"))
)]
pub struct Timestamp {
    unix_millis: i64,
}

/// The text is not an RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time such as 2026-11-22T10:00:00Z")]
pub struct InvalidTimestamp;

/// Years 0000 to 9999, the range RFC 3339 can write.
const RANGE: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_207_200_000;

impl Timestamp {
    /// From milliseconds since 1970-01-01T00:00:00Z; what RFC 3339 cannot write is clamped.
    #[must_use]
    pub fn from_unix_millis(millis: i64) -> Self {
        Self { unix_millis: millis.clamp(*RANGE.start(), *RANGE.end()) }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.unix_millis
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every value was clamped to a range that jiff can hold.
        let time = jiff::Timestamp::from_millisecond(self.unix_millis).map_err(|_| fmt::Error)?;
        write!(f, "{time:.3}")
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // jiff also reads a space, or nothing but a date: RFC 3339 wants the T.
        if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
            return Err(InvalidTimestamp);
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        Ok(Self::from_unix_millis(time.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::text::read(deserializer, str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_milliseconds_and_utc() {
        let time = Timestamp::from_unix_millis(1_795_341_600_000);
        assert_eq!(time.to_string(), "2026-11-22T10:00:00.000Z");
        assert_eq!(time.to_string().parse(), Ok(time));
    }

    #[test]
    fn it_reads_offsets_and_finer_fractions() {
        let time: Timestamp = "2026-11-22T12:00:00.123456789+02:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-22T10:00:00.123Z");
    }

    #[test]
    fn other_text_is_refused() {
        for bad in ["", "yesterday", "2026-11-22", "2026-11-22 10:00:00Z", "1795341600"] {
            assert_eq!(bad.parse::<Timestamp>(), Err(InvalidTimestamp), "{bad:?}");
        }
    }

    #[test]
    fn extremes_are_clamped_and_still_written() {
        for millis in [i64::MIN, i64::MAX] {
            let time = Timestamp::from_unix_millis(millis);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
