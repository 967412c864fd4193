//! A time span as people write it.

use std::time::Duration;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration such as 60s, 5m, 2h or 7d")]
pub(crate) struct InvalidDuration;

/// A number with a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidDuration)?;
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(InvalidDuration),
    };
    let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or(InvalidDuration)
}

/// The same, but not nothing.
pub(super) fn positive_duration(text: &str) -> Result<Duration, InvalidDuration> {
    duration(text).and_then(|span| if span.is_zero() { Err(InvalidDuration) } else { Ok(span) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [
            ("60s", Some(60)),
            ("5m", Some(300)),
            ("2h", Some(7200)),
            ("7d", Some(604_800)),
            ("0s", Some(0)),
            ("7", None),
            ("d", None),
            ("", None),
            ("-1s", None),
            ("1 s", None),
            ("1w", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(duration(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
