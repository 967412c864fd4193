//! Points in time, as a person gives them: `10m`, `14:00`, `2026-11-22T14:00`. Pure: the present is an argument.

use jiff::civil::{DateTime, Time};
use jiff::{Span, Zoned};
use taskwatch_client::protocol::{Cursor, Timestamp};

/// What `--since` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// A position.
    Cursor(Cursor),
    /// A time, in the words of who gave it.
    Moment(Moment),
}

/// A time that was checked, and means something once it is known what time it is, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// `10m`, `2h30m`, `7d`: so far from now. In nanoseconds it would lose what a day is.
    Distance(String),
    /// `14:00`: today.
    TimeOfDay(Time),
    /// `2026-11-22`, `2026-11-22T14:00`: where the watcher is.
    Civil(DateTime),
    /// `2026-11-22T14:00Z`: the same everywhere.
    Exact(jiff::Timestamp),
}

/// A text is neither a time nor a distance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a time such as 14:00, 2026-11-22T14:00 or 2026-11-22T14:00Z, or a distance such as 90s, 10m, 2h, 7d"
)]
pub(crate) struct NotAMoment;

impl std::str::FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        let form = if let Ok(exact) = text.parse() {
            Form::Exact(exact)
        } else if let Ok(time) = text.parse()
            && text.contains(':')
        {
            Form::TimeOfDay(time)
        } else if let Ok(civil) = text.parse() {
            Form::Civil(civil)
        } else if text.parse::<Span>().is_ok_and(|span| span.is_positive()) {
            Form::Distance(text.to_owned())
        } else {
            return Err(NotAMoment);
        };
        Ok(Self(form))
    }
}

impl std::str::FromStr for Since {
    type Err = NotAMoment;

    /// No cursor begins with a digit, so that a mistyped time is not taken for one.
    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        match text.chars().next() {
            None => Err(NotAMoment),
            Some(first) if first.is_ascii_digit() => text.parse().map(Self::Moment),
            Some(_) => Ok(Self::Cursor(Cursor::new(text))),
        }
    }
}

impl Moment {
    /// The time it means; a distance goes back from now. `None` beyond what a calendar holds.
    pub(crate) fn past(&self, now: &Zoned) -> Option<Timestamp> {
        self.at(now, |now, span| now.checked_sub(span))
    }

    /// The time it means; a distance goes forward from now. `None` beyond what a calendar holds.
    pub(crate) fn future(&self, now: &Zoned) -> Option<Timestamp> {
        self.at(now, |now, span| now.checked_add(span))
    }

    fn at(
        &self,
        now: &Zoned,
        distant: impl FnOnce(&Zoned, Span) -> Result<Zoned, jiff::Error>,
    ) -> Option<Timestamp> {
        let here = |civil: DateTime| civil.to_zoned(now.time_zone().clone()).ok();
        let at = match &self.0 {
            Form::Exact(exact) => *exact,
            Form::Civil(civil) => here(*civil)?.timestamp(),
            Form::TimeOfDay(time) => here(now.date().to_datetime(*time))?.timestamp(),
            Form::Distance(text) => distant(now, text.parse().ok()?).ok()?.timestamp(),
        };
        Some(Timestamp::from_unix_millis(at.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use jiff::tz::{Offset, TimeZone};
    use proptest::prelude::*;

    use super::*;

    /// Half past eleven at night, two hours east of Greenwich.
    fn now() -> Zoned {
        let zone = TimeZone::fixed(Offset::constant(2));
        date(2026, 11, 22).at(23, 30, 0, 0).to_zoned(zone).unwrap()
    }

    fn past(text: &str) -> String {
        text.parse::<Moment>().unwrap().past(&now()).unwrap().to_string()
    }

    #[test]
    fn a_time_is_meant_here_and_today_unless_it_says_otherwise() {
        for (text, at) in [
            ("90s", "2026-11-22T21:28:30.000Z"),
            ("10m", "2026-11-22T21:20:00.000Z"),
            ("2h30m", "2026-11-22T19:00:00.000Z"),
            ("7d", "2026-11-15T21:30:00.000Z"),
            ("14:00", "2026-11-22T12:00:00.000Z"),
            ("2026-11-22", "2026-11-21T22:00:00.000Z"),
            ("2026-11-22T14:00", "2026-11-22T12:00:00.000Z"),
            ("2026-11-22 14:00", "2026-11-22T12:00:00.000Z"),
            ("2026-11-22T14:00Z", "2026-11-22T14:00:00.000Z"),
            ("2026-11-22T14:00:30.5+01:00", "2026-11-22T13:00:30.500Z"),
        ] {
            assert_eq!(past(text), at, "{text}");
        }
        let later = "10m".parse::<Moment>().unwrap().future(&now()).unwrap();
        assert_eq!(later.to_string(), "2026-11-22T21:40:00.000Z");
    }

    #[test]
    fn what_begins_with_a_digit_is_a_time_or_wrong() {
        for text in ["", "10", "10x", "2026-13-01", "25:00", "2026-11-22T", "0s", "1h-3m"] {
            assert_eq!(text.parse::<Since>(), Err(NotAMoment), "{text}");
        }
        for text in ["yesterday", "-10m", "c1-0-7"] {
            assert_eq!(text.parse::<Moment>(), Err(NotAMoment), "{text}");
        }
        assert_eq!("c1-0-7".parse(), Ok(Since::Cursor(Cursor::new("c1-0-7"))));
        assert!("175307615h".parse::<Moment>().is_ok_and(|it| it.past(&now()).is_none()));
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[0-9a-zT:.+-]{0,24}") {
            if let Ok(moment) = text.parse::<Moment>() {
                let _ = (moment.past(&now()), moment.future(&now()));
            }
        }
    }
}
