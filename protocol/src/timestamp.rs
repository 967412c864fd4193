//! Points in time on the wire: RFC 3339, UTC, milliseconds.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::Offset;
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
        if let Some(time) = plain(text.as_bytes()) {
            return Ok(time);
        }
        // jiff also reads a space, or nothing but a date: RFC 3339 wants the T.
        if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
            return Err(InvalidTimestamp);
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        Ok(Self::from_unix_millis(time.as_millisecond()))
    }
}

/// A time as it is written here. An event has three of them; to read all that RFC 3339 allows took 8 % of
/// the time for an event.
fn plain(text: &[u8]) -> Option<Timestamp> {
    let &[
        a,
        b,
        c,
        d,
        b'-',
        m,
        n,
        b'-',
        x,
        y,
        b'T',
        g,
        h,
        b':',
        i,
        j,
        b':',
        s,
        t,
        b'.',
        u,
        v,
        w,
        b'Z',
    ] = text
    else {
        return None;
    };
    let number = |digits: &[u8]| {
        let digit = |digit: &u8| digit.is_ascii_digit().then(|| i16::from(digit - b'0'));
        digits.iter().try_fold(0, |sum, next| Some(sum * 10 + digit(next)?))
    };
    let part = |tens, ones| number(&[tens, ones]).and_then(|part| i8::try_from(part).ok());
    let [month, day, hour] = [part(m, n)?, part(x, y)?, part(g, h)?];
    let [minute, second] = [part(i, j)?, part(s, t)?];
    let nanos = i32::from(number(&[u, v, w])?) * 1_000_000;
    let time = DateTime::new(number(&[a, b, c, d])?, month, day, hour, minute, second, nanos);
    let time = Offset::UTC.to_timestamp(time.ok()?).ok()?;
    Some(Timestamp::from_unix_millis(time.as_millisecond()))
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn the_plain_form_means_what_it_means_to_jiff(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\\.[0-9]{3}Z"
        ) {
            let read = text.parse::<jiff::Timestamp>();
            match plain(text.as_bytes()) {
                Some(time) => prop_assert_eq!(time.unix_millis(), read.unwrap().as_millisecond()),
                // A leap second is left to jiff too.
                None => prop_assert!(read.is_err() || &text[17..19] == "60"),
            }
        }

        #[test]
        fn what_is_written_is_plain(millis in RANGE) {
            let time = Timestamp::from_unix_millis(millis);
            prop_assert_eq!(plain(time.to_string().as_bytes()), Some(time));
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
