//! Values that travel as their text, read without a copy of it.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// Reads a text and makes a value of it.
///
/// Not by `Cow<str>`, which serde always makes an owned text of: an event has ten such values, and
/// their copies were a tenth of the time it took to read one.
pub(crate) fn read<'de, D, T, E>(
    deserializer: D,
    make: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: fmt::Display,
{
    deserializer.deserialize_str(Text { make, made: PhantomData })
}

struct Text<F, T> {
    make: F,
    made: PhantomData<fn() -> T>,
}

impl<F: FnOnce(&str) -> Result<T, E>, T, E: fmt::Display> Visitor<'_> for Text<F, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<P: Error>(self, text: &str) -> Result<T, P> {
        (self.make)(text).map_err(P::custom)
    }
}
