//! The schemas of tools, out of the types that read arguments and write answers.

use rmcp::model::JsonObject;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use taskwatch_protocol::{Priority, Status};

use super::answer::Refused;
use super::arguments::Idempotency;
use crate::list::{DEFAULT_LIMIT, MAX_LIMIT, MAX_VALUE_CHARS, MAX_VALUES, Sort};

/// Arguments: whole in itself, since few clients follow references.
pub(super) fn input<T: JsonSchema>() -> JsonObject {
    let mut settings = SchemaSettings::draft2020_12().for_deserialize();
    settings.inline_subschemas = true;
    root::<T>(settings.into_generator())
}

/// Arguments of a change, which may have a name.
pub(super) fn named<T: JsonSchema>() -> JsonObject {
    joined(input::<T>(), input::<Idempotency>())
}

/// The arguments of both.
pub(super) fn joined(mut schema: JsonObject, more: JsonObject) -> JsonObject {
    for (keyword, value) in more {
        match (schema.get_mut(&keyword), value) {
            (Some(Value::Object(all)), Value::Object(more)) => all.extend(more),
            (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
            (None, value) => {
                schema.insert(keyword, value);
            }
            _ => {}
        }
    }
    schema
}

/// The arguments of a list.
pub(super) fn list() -> JsonObject {
    let several = |about: &str, items: Value| json!({"type": "array", "items": items, "maxItems": MAX_VALUES, "description": about});
    let value = || json!({"type": "string", "minLength": 1, "maxLength": MAX_VALUE_CHARS});
    let mut text = value();
    text["description"] = json!("What the title or the description holds, in any case of letters.");
    let properties = json!({
        "repository": {
            "type": "string",
            "description": "A name such as github.com/acme/api, a prefix such as github.com/acme/*, or \
                            * for all that may be read, which is also meant if it is left out.",
        },
        "status": several("Where the task stands.", json!({"enum": words(Status::KNOWN)})),
        "priority": several("How much it matters.", json!({"enum": words(Priority::KNOWN)})),
        "assignee": several("Whose it is.", value()),
        "tag": several("A label that it has.", value()),
        "text": text,
        "changed_since": {
            "type": "string", "format": "date-time",
            "description": "Changed at this time or later, such as 2026-11-22T10:00:00Z.",
        },
        "sort": {
            "enum": Sort::ALL.map(|(word, _)| word), "default": "created_at",
            "description": "The order; with - the other way round.",
        },
        "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "page": {"type": "string", "description": "`next` of the page before, with all else as it was."},
    });
    let schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    let Value::Object(schema) = schema else { return JsonObject::new() };
    schema
}

fn words<W: ToString>(words: &[W]) -> Vec<String> {
    words.iter().map(W::to_string).collect()
}

/// An answer of the type, or one that says why there is none. Clients hold also that against the schema.
pub(super) fn output<T: JsonSchema>() -> JsonObject {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let refused = generator.subschema_for::<Refused>();
    let mut schema = root::<T>(generator);
    let required = schema.remove("required");
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("error".to_owned(), refused.to_value());
    }
    schema.insert("anyOf".to_owned(), json!([{"required": required}, {"required": ["error"]}]));
    schema
}

fn root<T: JsonSchema>(generator: SchemaGenerator) -> JsonObject {
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    taskwatch_protocol::schema::tidy(&mut schema);
    one_type_each(&mut schema);
    let Value::Object(mut schema) = schema else { return JsonObject::new() };
    for keyword in ["$schema", "title", "description"] {
        schema.remove(keyword);
    }
    schema
}

/// A list of types as alternatives, since some clients know no such lists.
fn one_type_each(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(one_type_each),
        Value::Object(fields) => {
            fields.values_mut().for_each(one_type_each);
            let Some(Value::Array(types)) = fields.get("type").cloned() else { return };
            let about = ["description", "default"].map(|name| fields.remove_entry(name));
            let mut rest = std::mem::take(fields);
            let alternatives = types.into_iter().map(|name| {
                if name == "null" {
                    return json!({"type": name});
                }
                rest.insert("type".to_owned(), name);
                Value::Object(rest.clone())
            });
            fields.insert("anyOf".to_owned(), alternatives.collect());
            fields.extend(about.into_iter().flatten());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use taskwatch_server::Principal;

    use super::*;
    use crate::list::ListParams;

    #[test]
    fn a_list_is_asked_for_as_it_is_described() {
        let schema = jsonschema::options()
            .should_validate_formats(true)
            .build(&Value::Object(list()))
            .unwrap();
        for (arguments, fits) in [
            (json!({}), true),
            (json!({"repository": "acme/*", "status": ["pending"], "priority": ["high"]}), true),
            (
                json!({"assignee": ["ana"], "tag": ["a", "b"], "text": "x", "sort": "-priority"}),
                true,
            ),
            (json!({"changed_since": "2026-11-22T10:00:00Z", "limit": MAX_LIMIT}), true),
            (json!({"status": ["done"]}), false),
            (json!({"priority": ["urgent"]}), false),
            (json!({"tag": [""]}), false),
            (json!({"assignee": vec!["a"; MAX_VALUES + 1]}), false),
            (json!({"text": "x".repeat(MAX_VALUE_CHARS + 1)}), false),
            (json!({"changed_since": "yesterday"}), false),
            (json!({"sort": "title"}), false),
            (json!({"limit": 0}), false),
            (json!({"limit": MAX_LIMIT + 1}), false),
            (json!({"colour": "red"}), false),
        ] {
            let params = serde_json::from_value::<ListParams>(arguments.clone());
            let query = params.map(|params| params.into_query(Principal::anonymous()));
            assert_eq!(query.is_ok_and(|query| query.is_ok()), fits, "{arguments}");
            assert_eq!(schema.is_valid(&arguments), fits, "{arguments}");
        }
    }

    #[test]
    fn every_schema_is_one() {
        for tool in super::super::tools::all() {
            let output = tool.output_schema.as_deref().unwrap();
            for schema in [&*tool.input_schema, output] {
                let schema = Value::Object(schema.clone());
                assert!(jsonschema::meta::is_valid(&schema), "{}", tool.name);
                assert_eq!(schema["type"], "object", "{}", tool.name);
            }
            let refused = json!({"error": {"code": "c", "detail": "d", "retryable": true}});
            let output = jsonschema::validator_for(&Value::Object(output.clone())).unwrap();
            assert!(output.is_valid(&refused) && !output.is_valid(&json!({})), "{}", tool.name);
            assert!(!tool.input_schema.contains_key("$defs"), "{}", tool.name);
        }
    }

    #[test]
    fn a_list_of_types_becomes_alternatives() {
        let mut schema = json!({"properties": {
            "a": {"type": ["string", "null"], "maxLength": 5, "description": "A.", "default": null},
            "type": {"type": "string"},
        }});
        one_type_each(&mut schema);
        assert_eq!(
            schema,
            json!({"properties": {
                "a": {
                    "anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}],
                    "description": "A.",
                    "default": null,
                },
                "type": {"type": "string"},
            }})
        );
    }
}
