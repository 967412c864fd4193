//! What changed of a task, field by field.

use std::borrow::Cow;
use std::fmt;
use std::ops::Index;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A value over this many bytes of JSON is left out of `changes`.
pub const MAX_CHANGE_VALUE_BYTES: usize = 256;

/// The fields of this version: their names are not copied when they are read.
const FIELDS: [&str; 6] = ["title", "description", "status", "priority", "assignee", "tags"];

/// One field's value before and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FieldChange {
    /// Before; absent if it was left out for its size.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// After; absent if it was left out for its size.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
    /// Whether one of the two was left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// A JSON `null` is a value here, not an absence.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl FieldChange {
    /// The change, without values over [`MAX_CHANGE_VALUE_BYTES`].
    #[must_use]
    pub fn new(from: Value, to: Value) -> Self {
        let fits =
            |value: Value| (value.to_string().len() <= MAX_CHANGE_VALUE_BYTES).then_some(value);
        let (from, to) = (fits(from), fits(to));
        let truncated = from.is_none() || to.is_none();
        Self { from, to, truncated }
    }
}

/// The fields that changed, by name, each once.
///
/// A list and no map: mostly one field changes, and the least that a `BTreeMap` takes is 1,080 bytes,
/// more than the rest of an event, of a size that allocators are slow with.
#[derive(Clone, Default, PartialEq)]
pub struct Changes(Vec<(Cow<'static, str>, FieldChange)>);

impl Changes {
    /// The change of this field, if it changed.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&FieldChange> {
        self.place(field).ok().map(|place| &self.0[place].1)
    }

    /// Whether no field changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &FieldChange)> {
        self.0.iter().map(|(field, change)| (&**field, change))
    }

    /// The names of the fields, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.iter().map(|(field, _)| field)
    }

    /// Notes a change; of one field the last counts.
    pub fn insert(&mut self, field: impl AsRef<str>, change: FieldChange) {
        let field = field.as_ref();
        match self.place(field) {
            Ok(place) => self.0[place].1 = change,
            Err(place) => {
                let known = FIELDS.into_iter().find(|known| *known == field);
                let field = known.map_or_else(|| field.to_owned().into(), Cow::Borrowed);
                self.0.reserve_exact(1);
                self.0.insert(place, (field, change));
            }
        }
    }

    fn place(&self, field: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(field))
    }
}

impl Index<&str> for Changes {
    type Output = FieldChange;

    #[expect(clippy::expect_used, reason = "as an index of any map")]
    fn index(&self, field: &str) -> &FieldChange {
        self.get(field).expect("the field changed")
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Changes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of changes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Changes, A::Error> {
        let mut changes = Changes::default();
        while let Some((field, change)) = map.next_entry::<Name<'de>, _>()? {
            changes.insert(field.0, change);
        }
        Ok(changes)
    }
}

/// A key, borrowed where it stands as it is.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn null_is_a_value_and_absence_is_not() {
        let change: FieldChange = serde_json::from_value(json!({"from": null})).unwrap();
        assert_eq!((change.from, change.to), (Some(Value::Null), None));
    }

    proptest! {
        #[test]
        fn they_are_a_map_by_name(fields in prop::collection::vec(
            (prop_oneof!["[a-c\"]{0,2}", prop::sample::select(&FIELDS).prop_map(str::to_owned)], 0..9_u8),
            0..8,
        )) {
            let mut json: Vec<String> = vec![];
            let mut map = BTreeMap::new();
            for (field, to) in fields {
                json.push(format!("{}:{{\"to\":{to}}}", Value::from(field.as_str())));
                map.insert(field, FieldChange { to: Some(to.into()), ..FieldChange::default() });
            }
            let json = format!("{{{}}}", json.join(","));
            let changes: Changes = serde_json::from_str(&json).unwrap();
            prop_assert!(changes.keys().eq(map.keys()));
            prop_assert!(map.iter().all(|(field, change)| &changes[field.as_str()] == change));
            let text = serde_json::to_string(&changes).unwrap();
            prop_assert_eq!(text, serde_json::to_string(&map).unwrap());
        }
    }
}
