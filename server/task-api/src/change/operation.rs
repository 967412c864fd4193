//! Changes that are made together.

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::fields::{InvalidTask, object, text};
use super::{Change, IfMatch, NewTask, TaskPatch};

/// Operations of one batch, at most.
pub(crate) const MAX_OPERATIONS: usize = 100;

/// Above it a number of JSON is not read alike by everybody.
pub(super) const MAX_VERSION: u64 = 1 << 53;

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) enum Operation {
    Create { task: NewTask },
    Update { id: Uuid, patch: TaskPatch, if_match: IfMatch },
    Delete { id: Uuid, if_match: IfMatch },
}

/// Operations that are carried out together: `{"operations": [...]}`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) struct Batch(pub(crate) Vec<Operation>);

/// What cannot be read as a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub(crate) struct InvalidBatch {
    /// The first operation that cannot be read, unless it is about all of them.
    pub(crate) index: Option<usize>,
    pub(crate) error: InvalidTask,
}

impl Operation {
    /// The change; a task that is made gets its id here.
    pub(crate) fn into_change(self) -> Change {
        match self {
            Self::Create { task } => Change::Create { id: Uuid::now_v7(), task },
            Self::Update { id, patch, if_match } => Change::Update { id, patch, if_match },
            Self::Delete { id, if_match } => Change::Delete { id, if_match },
        }
    }
}

impl TryFrom<Value> for Operation {
    type Error = InvalidTask;

    fn try_from(value: Value) -> Result<Self, InvalidTask> {
        let mut object = object("operation", value)?;
        let op = text("op", required(&mut object, "op")?)?;
        let operation = match op.as_str() {
            "create" => Self::Create { task: required(&mut object, "task")?.try_into()? },
            "update" => Self::Update {
                id: id(&mut object)?,
                patch: required(&mut object, "patch")?.try_into()?,
                if_match: if_match(&mut object)?,
            },
            "delete" => Self::Delete { id: id(&mut object)?, if_match: if_match(&mut object)? },
            _ => return Err(InvalidTask::new("op", "is one of create, update, delete")),
        };
        match object.keys().next() {
            Some(other) => Err(InvalidTask::new(other, format!("does not belong to {op}"))),
            None => Ok(operation),
        }
    }
}

impl TryFrom<Value> for Batch {
    type Error = InvalidBatch;

    fn try_from(body: Value) -> Result<Self, InvalidBatch> {
        let about_all = |error| InvalidBatch { index: None, error };
        let mut object = object("body", body).map_err(about_all)?;
        let operations = match required(&mut object, "operations").map_err(about_all)? {
            Value::Array(operations) => operations,
            _ => return Err(about_all(InvalidTask::new("operations", "is a list"))),
        };
        if let Some(other) = object.keys().next() {
            return Err(about_all(InvalidTask::new(other, "does not belong here")));
        }
        if !(1..=MAX_OPERATIONS).contains(&operations.len()) {
            let problem = format!("has 1 to {MAX_OPERATIONS} entries");
            return Err(about_all(InvalidTask::new("operations", problem)));
        }
        let operations = operations.into_iter().enumerate().map(|(index, value)| {
            Operation::try_from(value).map_err(|error| InvalidBatch { index: Some(index), error })
        });
        operations.collect::<Result<_, _>>().map(Self)
    }
}

fn required(object: &mut Map<String, Value>, field: &str) -> Result<Value, InvalidTask> {
    object.remove(field).ok_or_else(|| InvalidTask::new(field, "is required"))
}

fn id(object: &mut Map<String, Value>) -> Result<Uuid, InvalidTask> {
    let id = text("id", required(object, "id")?)?;
    Uuid::try_parse(&id).map_err(|_| InvalidTask::new("id", "is a UUID"))
}

/// The version that the task has now.
fn if_match(object: &mut Map<String, Value>) -> Result<IfMatch, InvalidTask> {
    let Some(version) = object.remove("if_match") else { return Ok(None) };
    // For JSON Schema 7.0 is an integer too.
    let whole = |number: f64| (number.fract() == 0.0).then_some(number as u64);
    match version.as_u64().or_else(|| version.as_f64().and_then(whole)) {
        Some(version @ 1..=MAX_VERSION) => Ok(Some(vec![version])),
        _ => Err(InvalidTask::new("if_match", "is a version, a number from 1")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_operation_says_what_it_needs_and_no_more() {
        let id = Uuid::from_u128(7);
        for (value, expected) in [
            (json!({"op": "update", "id": id, "patch": {"title": "Two"}, "if_match": 3}), Ok(())),
            (json!({"op": "delete", "id": id}), Ok(())),
            (json!({"op": "delete", "id": id, "if_match": 7.0}), Ok(())),
            (json!({"op": "delete", "id": id, "if_match": 7.5}), Err("if_match: is a version")),
            (json!({"op": "delete", "id": id, "if_match": -7.0}), Err("if_match: is a version")),
            (json!({"op": "delete", "id": id, "if_match": 1e300}), Err("if_match: is a version")),
            (json!({"op": "create", "task": {"repository": "a", "title": "One"}}), Ok(())),
            (json!({"op": "create"}), Err("task: is required")),
            (json!({"op": "create", "task": {"title": "One"}}), Err("repository: is required")),
            (json!({"op": "create", "task": []}), Err("task: is a JSON object")),
            (json!({"op": "update", "id": id}), Err("patch: is required")),
            (json!({"op": "update", "id": id, "patch": {"id": 1}}), Err("id: is written by")),
            (json!({"op": "delete", "id": "7"}), Err("id: is a UUID")),
            (json!({"op": "delete", "id": id, "if_match": 0}), Err("if_match: is a version")),
            (json!({"op": "delete", "id": id, "if_match": null}), Err("if_match: is a version")),
            (json!({"op": "delete", "id": id, "patch": {}}), Err("patch: does not belong to")),
            (json!({"op": "drop", "id": id}), Err("op: is one of")),
            (json!({"id": id}), Err("op: is required")),
            (json!("delete"), Err("operation: is a JSON object")),
        ] {
            let read = Operation::try_from(value.clone()).map_err(|error| error.to_string());
            match (read, expected) {
                (Ok(_), Ok(())) => {}
                (Err(problem), Err(start)) => assert!(problem.starts_with(start), "{problem}"),
                (read, _) => panic!("{value}: {read:?}"),
            }
        }
    }

    #[test]
    fn a_batch_has_some_operations_and_not_too_many() {
        let of = |n: usize| {
            let operation = json!({"op": "delete", "id": Uuid::from_u128(7)});
            Batch::try_from(json!({"operations": vec![operation; n]}))
        };
        assert_eq!((of(1).unwrap().0.len(), of(100).unwrap().0.len()), (1, 100));
        for n in [0, 101] {
            assert_eq!(of(n).unwrap_err().index, None);
        }
        for (body, index) in [
            (json!({"operations": [{"op": "delete", "id": Uuid::nil()}, {}]}), Some(1)),
            (json!({"operations": {}}), None),
            (json!({"operations": [], "more": 1}), None),
            (json!([]), None),
        ] {
            assert_eq!(Batch::try_from(body.clone()).unwrap_err().index, index, "{body}");
        }
    }
}
