//! Positions in the log.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The number of an event in the log. The first event is 1; 0 is the position before it.
pub type Seq = u64;

/// A position in the log, as clients hold it: opaque text, compared only for equality.
// Shared by its copies: the SDK keeps several for each event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct Cursor(Arc<str>);

impl Cursor {
    /// Takes any text: whether it names a position, the server says.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text, as it is stored and sent back.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cursor = |text: &str| Ok::<_, std::convert::Infallible>(Self::new(text));
        crate::text::read(deserializer, cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of the log: from a start of its process to the next. Drawn at random, so that a log
/// restored from a copy is told from the one that went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u64);

/// What a cursor of this server means: a number in one incarnation of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the log in which the number was given out.
    pub incarnation: Incarnation,
    /// The last event that is behind the reader.
    pub seq: Seq,
}

/// The text is not a cursor that this version wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this server")]
pub struct MalformedCursor;

impl Position {
    /// The position as opaque text.
    #[must_use]
    pub fn to_cursor(self) -> Cursor {
        Cursor::new(self.to_string())
    }
}

/// `c1-<incarnation, 16 hex digits>-<seq>`: readable for whoever is on call, safe in a URL, in a
/// header and as an SSE id.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c1-{:016x}-{}", self.incarnation.0, self.seq)
    }
}

impl FromStr for Position {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (incarnation, seq) = text
            .strip_prefix("c1-")
            .and_then(|rest| rest.split_once('-'))
            .ok_or(MalformedCursor)?;
        let position = Self {
            incarnation: Incarnation(
                u64::from_str_radix(incarnation, 16).map_err(|_| MalformedCursor)?,
            ),
            seq: seq.parse().map_err(|_| MalformedCursor)?,
        };
        // One position has one text: equality of cursors is all a client may rely on.
        if position.to_string() == text { Ok(position) } else { Err(MalformedCursor) }
    }
}

impl TryFrom<&Cursor> for Position {
    type Error = MalformedCursor;

    fn try_from(cursor: &Cursor) -> Result<Self, Self::Error> {
        cursor.as_str().parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_position_survives_its_text(incarnation: u64, seq: u64) {
            let position = Position { incarnation: Incarnation(incarnation), seq };
            prop_assert_eq!(Position::try_from(&position.to_cursor()), Ok(position));
        }

        #[test]
        fn no_two_texts_mean_one_position(text in "c1-[0-9a-fA-F+]{1,17}-[0-9+]{1,21}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }

    #[test]
    fn garbage_is_malformed() {
        for bad in [
            "",
            "7",
            "c1",
            "c1--",
            "c2-0000000000000001-1",
            "c1-1-1",
            "c1-0000000000000001-01",
            "c1-0000000000000001-1 ",
            "c1-0000000000000001-18446744073709551616",
        ] {
            assert_eq!(bad.parse::<Position>(), Err(MalformedCursor), "{bad:?}");
        }
    }
}
