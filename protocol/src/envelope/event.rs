//! Task events, read in one step: they are nearly all that a client reads, and to go over `data` once
//! before its type is known took a tenth of the time.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Envelope, ServerFrame, is_object};
use crate::task::TaskEventData;
use crate::{Cursor, EventKind, ServerMessage, Task, Timestamp, Traceparent};

/// The envelope of an event. `data` may stand before `type`, and is then taken for that of an event.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type", deserialize_with = "kind")]
    kind: EventKind,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(default)]
    cursor: Option<Cursor>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default, deserialize_with = "crate::traceparent::lenient")]
    traceparent: Option<Traceparent>,
    #[serde(deserialize_with = "object")]
    data: TaskEventData<'a, Box<Task>>,
    /// Not of interest, but a text.
    #[serde(borrow, default, rename = "error")]
    _error: Option<Cow<'a, str>>,
}

/// Reads an event. `None` if it is none, or if something is wrong with it: what, is found out in two
/// steps.
pub(super) fn read(text: &str) -> Option<ServerFrame> {
    let wire: Wire<'_> = serde_json::from_str(text).ok()?;
    let message = ServerMessage::Task(wire.data.into_event(&wire.kind).ok()?);
    let Wire { timestamp, cursor, id, traceparent, .. } = wire;
    is_object(text).then_some(Envelope { message, timestamp, cursor, id, traceparent })
}

/// The type of an event. Anything else ends the reading here.
fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventKind, D::Error> {
    crate::text::read(deserializer, |word| {
        Some(EventKind::from(word)).filter(EventKind::is_known).ok_or("no event")
    })
}

/// A struct that is written as an object: derived code also takes a list for its fields.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(Object(PhantomData))
}

struct Object<T>(PhantomData<fn() -> T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const VECTORS: [&str; 6] = [
        include_str!("../../vectors/server.task.created.json"),
        include_str!("../../vectors/server.task.created.traced.json"),
        include_str!("../../vectors/server.task.updated.json"),
        include_str!("../../vectors/server.task.deleted.json"),
        include_str!("../../vectors/server.ping.json"),
        include_str!("../../vectors/server.snapshot.json"),
    ];

    /// What an event is made of, in any order: good, bad, twice or not at all.
    const PARTS: [&str; 17] = [
        r#""type":"task.deleted""#,
        r#""type":"task\u002edeleted""#,
        r#""type":"task.archived""#,
        r#""type":7"#,
        r#""timestamp":"2026-11-22T10:00:00Z""#,
        r#""timestamp":null"#,
        r#""cursor":"c""#,
        r#""id":"1""#,
        r#""error":"\n""#,
        r#""error":5"#,
        r#""traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01""#,
        r#""traceparent":"\u0030""#,
        r#""traceparent":7"#,
        r#""later":[{}]"#,
        r#""data":null"#,
        r#""data":["019abb4e-5c00-7a31-8f02-6d1c0b9e4a77","foo",3,"ana",null,null,null]"#,
        concat!(
            r#""data":{"task_id":"019abb4e-5c00-7a31-8f02-6d1c0b9e4a77","repository":"foo","version":3,"#,
            r#""changed_by":"ana","previous":{"id":"019abb4e-5c00-7a31-8f02-6d1c0b9e4a77","version":2,"#,
            r#""repository":"foo","title":"a\"b","status":"new","priority":"low","later":{"a":1},"#,
            r#""created_at":"2026-11-22T10:00:00Z","updated_at":"2026-11-22T10:00:00Z"}}"#,
        ),
    ];

    /// Whatever is read in one step is what two steps make of it, and no good event needs two.
    fn agrees(text: &str) {
        match (read(text), ServerFrame::decode_any(text)) {
            (Some(one), two) => assert_eq!(Ok(one), two, "{text}"),
            (None, Ok(two)) => assert!(!matches!(two.message, ServerMessage::Task(_)), "{text}"),
            (None, Err(_)) => {}
        }
    }

    #[test]
    fn vectors_are_read_alike() {
        VECTORS.into_iter().for_each(agrees);
        assert!(VECTORS[..4].iter().all(|event| read(event).is_some()));
        let fields = [0, 4, 6, 10, 16].map(|part| PARTS[part]).join(",");
        assert!(read(&format!("{{{fields}}}")).is_some());
        agrees(&format!("[{}]", VECTORS[0]));
    }

    proptest! {
        #[test]
        fn one_step_reads_what_two_do(parts in prop::collection::vec(prop::sample::select(&PARTS), 0..7)) {
            agrees(&format!("{{{}}}", parts.join(",")));
        }

        #[test]
        fn also_where_something_is_wrong(
            vector in prop::sample::select(&VECTORS), at: Index, byte in prop::char::range(' ', '~'),
        ) {
            let mut text: Vec<char> = vector.chars().collect();
            *at.get_mut(&mut text) = byte;
            let text = String::from_iter(text);
            agrees(&text);
        }
    }
}
