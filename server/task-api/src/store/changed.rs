//! What a caller is told of a change.

use std::ops::Deref;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use taskwatch_protocol::{Cursor, Task};

/// A change that was made, or that was made already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// The task after the change, or as it last was.
    pub(crate) task: EncodedTask,
    /// The position behind the change: whoever has read up to it has seen the change.
    pub(crate) cursor: Cursor,
}

/// A task and its JSON, which is written once: for the event, the answer, and the answer that is kept.
#[derive(Clone, Debug)]
pub(crate) struct EncodedTask {
    task: Task,
    json: Box<RawValue>,
}

impl EncodedTask {
    /// A task with its own JSON.
    pub(super) fn new(task: Task, json: Box<RawValue>) -> Self {
        Self { task, json }
    }

    /// The JSON alone.
    pub(crate) fn into_json(self) -> String {
        Box::<str>::from(self.json).into()
    }
}

impl Deref for EncodedTask {
    type Target = Task;

    fn deref(&self) -> &Task {
        &self.task
    }
}

impl PartialEq for EncodedTask {
    fn eq(&self, other: &Self) -> bool {
        self.task == other.task
    }
}

impl Serialize for EncodedTask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EncodedTask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let task = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        Ok(Self { task, json })
    }
}
