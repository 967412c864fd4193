//! What the parsers of tasks and operations take, for machines: the same limits, in the words of
//! JSON Schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use taskwatch_protocol::{Priority, Status};

use super::fields::{
    MAX_ASSIGNEE_CHARS, MAX_DESCRIPTION_BYTES, MAX_TAG_CHARS, MAX_TAGS, MAX_TITLE_CHARS,
};
use super::operation::{MAX_OPERATIONS, MAX_VERSION};
use super::{Batch, NewTask, Operation, TaskPatch};

/// One line that is not blank. The class is the white space of Unicode.
const LINE: &str = "^[^\\r\\n]*[^\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000][^\\r\\n]*$";
/// A repository's name.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._/@:+~-]*$";

fn line(max: usize, description: &str) -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": max, "pattern": LINE,
        "description": description,
    })
}

fn words<W: ToString>(words: &[W], description: &str) -> Value {
    let words: Vec<_> = words.iter().map(W::to_string).collect();
    json!({"type": "string", "enum": words, "description": description})
}

fn or_null(mut schema: Value, default: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("type".to_owned(), json!([schema.get("type"), "null"]));
        schema.insert("default".to_owned(), default);
    }
    schema
}

/// The fields a caller may write.
fn editable() -> Map<String, Value> {
    let description = json!({
        "type": "string", "maxLength": MAX_DESCRIPTION_BYTES,
        "description": "Free text, at most 64 KiB in UTF-8. null is no text.",
    });
    let tags = json!({
        "type": "array", "maxItems": MAX_TAGS, "items": line(MAX_TAG_CHARS, "A label."),
        "description": "Labels. null is none.",
    });
    let assignee = line(MAX_ASSIGNEE_CHARS, "Whose it is. null is nobody's.");
    Map::from_iter([
        ("title".to_owned(), line(MAX_TITLE_CHARS, "One line.")),
        ("description".to_owned(), or_null(description, json!(""))),
        ("status".to_owned(), words(Status::KNOWN, "Where the task stands.")),
        ("priority".to_owned(), words(Priority::KNOWN, "How much it matters.")),
        ("assignee".to_owned(), or_null(assignee, Value::Null)),
        ("tags".to_owned(), or_null(tags, json!([]))),
    ])
}

impl JsonSchema for NewTask {
    fn schema_name() -> Cow<'static, str> {
        "NewTask".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut fields = editable();
        for (field, default) in
            [("status", Status::Pending.as_str()), ("priority", Priority::Medium.as_str())]
        {
            if let Some(Value::Object(field)) = fields.get_mut(field) {
                field.insert("default".to_owned(), json!(default));
            }
        }
        let repository = json!({
            "type": "string", "minLength": 1, "maxLength": 255, "pattern": NAME,
            "description": "Where it belongs, such as github.com/acme/api; never changes.",
        });
        fields.insert("repository".to_owned(), repository);
        json_schema!({
            "type": "object", "description": "A task to be made.",
            "required": ["repository", "title"],
            "properties": fields, "additionalProperties": false,
        })
    }
}

impl JsonSchema for TaskPatch {
    fn schema_name() -> Cow<'static, str> {
        "TaskPatch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut fields = editable();
        for field in fields.values_mut().filter_map(Value::as_object_mut) {
            // What is left out stays as it is.
            field.remove("default");
        }
        json_schema!({
            "type": "object",
            "description": "New values for some fields. null resets a field that has a default.",
            "properties": fields, "additionalProperties": false,
        })
    }
}

impl JsonSchema for Operation {
    fn schema_name() -> Cow<'static, str> {
        "Operation".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (task, patch) =
            (generator.subschema_for::<NewTask>(), generator.subschema_for::<TaskPatch>());
        let id = json!({"type": "string", "format": "uuid", "description": "The task."});
        let if_match = json!({
            "type": "integer", "minimum": 1, "maximum": MAX_VERSION,
            "description": "The version that the task must have now.",
        });
        let operation = |op: &str, required: &[&str], properties: Value| {
            let mut schema = json!({
                "type": "object", "required": required, "properties": properties,
                "additionalProperties": false,
            });
            schema["properties"]["op"] = json!({"type": "string", "const": op});
            schema
        };
        json_schema!({
            "description": "One change of a batch.",
            "oneOf": [
                operation("create", &["op", "task"], json!({"task": task})),
                operation("update", &["op", "id", "patch"],
                          json!({"id": id, "patch": patch, "if_match": if_match})),
                operation("delete", &["op", "id"], json!({"id": id, "if_match": if_match})),
            ],
        })
    }
}

impl JsonSchema for Batch {
    fn schema_name() -> Cow<'static, str> {
        "Batch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let operation = generator.subschema_for::<Operation>();
        json_schema!({
            "type": "object", "description": "Changes that are made together, or not at all.",
            "required": ["operations"], "additionalProperties": false,
            "properties": {
                "operations": {
                    "type": "array", "minItems": 1, "maxItems": MAX_OPERATIONS, "items": operation,
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemars::schema_for;
    use uuid::Uuid;

    use super::*;

    /// A value that is often right for its field.
    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            4 => "[a-zA-Z0-9 ._/-]{0,6}",
            1 => "[\\PC\\n\\r\\t\u{85}\u{a0}\u{2028}\u{feff}\u{1c} ]{0,4}",
            1 => prop::sample::select(vec!["pending", "completed", "done", "high", "urgent", "acme/api"])
                .prop_map(str::to_owned),
            1 => prop::sample::select(vec![64_usize, 65, 255, 256, 512, 513, 65_536, 65_537])
                .prop_map(|long| "x".repeat(long)),
        ];
        prop_oneof![
            6 => text.clone().prop_map(Value::from),
            2 => prop::collection::vec(text, 0..4).prop_map(Value::from),
            1 => Just(json!(vec!["t"; 32])),
            1 => Just(json!(vec!["t"; 33])),
            1 => Just(Value::Null),
            1 => any::<i8>().prop_map(Value::from),
            1 => Just(json!({})),
        ]
    }

    fn fields() -> impl Strategy<Value = Value> {
        let names = [
            "repository",
            "title",
            "description",
            "status",
            "priority",
            "assignee",
            "tags",
            "id",
            "due",
        ];
        let field = (prop::sample::select(names.to_vec()), value());
        prop::collection::vec(field, 0..4).prop_map(|fields| {
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        })
    }

    fn task() -> impl Strategy<Value = Value> {
        (fields(), any::<bool>()).prop_map(|(mut task, whole)| {
            if let (true, Some(task)) = (whole, task.as_object_mut()) {
                task.entry("repository").or_insert(json!("acme/api"));
                task.entry("title").or_insert(json!("One"));
            }
            task
        })
    }

    fn operation() -> impl Strategy<Value = Value> {
        let ops = prop::sample::select(vec!["create", "update", "delete", "drop"]);
        let id = prop_oneof![3 => Just(json!(Uuid::from_u128(7))), 1 => Just(json!("7"))];
        let version = prop_oneof![2 => Just(None), 2 => (0..3_u8).prop_map(|n| Some(json!(n))),
                                  1 => Just(Some(Value::Null))];
        (ops, id, version, task(), fields(), 0..8_u8).prop_map(
            |(op, id, version, task, patch, which)| {
                let mut operation = json!({"op": op});
                if op != "create" || which == 0 {
                    operation["id"] = id;
                }
                if op == "create" || which == 1 {
                    operation["task"] = task;
                }
                if op == "update" || which == 2 {
                    operation["patch"] = patch;
                }
                if let Some(version) = version
                    && op != "create"
                {
                    operation["if_match"] = version;
                }
                operation
            },
        )
    }

    fn valid(schema: &Schema, value: &Value) -> bool {
        let options = jsonschema::options().should_validate_formats(true);
        options.build(schema.as_value()).unwrap().is_valid(value)
    }

    proptest! {
        #[test]
        fn the_schemas_say_what_the_parsers_take(task in task(), patch in fields(), operation in operation()) {
            let parsed = NewTask::try_from(task.clone());
            prop_assert_eq!(valid(&schema_for!(NewTask), &task), parsed.is_ok(), "{:?}", parsed);
            let parsed = TaskPatch::try_from(patch.clone());
            prop_assert_eq!(valid(&schema_for!(TaskPatch), &patch), parsed.is_ok(), "{:?}", parsed);
            let parsed = Operation::try_from(operation.clone());
            prop_assert_eq!(valid(&schema_for!(Operation), &operation), parsed.is_ok(), "{:?}", parsed);
            let batch = json!({"operations": [operation]});
            prop_assert_eq!(valid(&schema_for!(Batch), &batch), parsed.is_ok());
        }
    }
}
