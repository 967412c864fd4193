//! `schema.json` is what the types say, and frames are what it says.
#![expect(clippy::unwrap_used, reason = "a schema of another shape fails the test")]

use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};
use taskwatch_protocol::{SCHEMA, schema};

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_file_is_what_the_types_say() {
    let made = schema::document();
    if std::env::var_os("WRITE_SCHEMA").is_some() {
        std::fs::write(folder().join("schema.json"), format!("{made:#}\n")).unwrap();
        return;
    }
    assert!(
        serde_json::from_str::<Value>(SCHEMA).unwrap() == made,
        "protocol/schema.json is out of date. Write it again:\n\
         WRITE_SCHEMA=1 cargo test -p taskwatch-protocol --features schema --test schema"
    );
}

/// Judges frames by one of the definitions.
fn validator(definition: &str) -> Validator {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    schema["anyOf"] = json!([{"$ref": format!("#/$defs/{definition}")}]);
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap()
}

#[test]
fn it_is_a_schema() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    assert!(
        !SCHEMA.contains("additionalProperties\": false"),
        "readers skip what they do not know"
    );
}

/// The frames in `vectors/` of one direction.
fn vectors(direction: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder().join("vectors")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with(direction) {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((name, serde_json::from_str(&text).unwrap()));
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn every_vector_is_a_frame() {
    for (direction, definition) in [("server", "ServerFrame"), ("client", "ClientFrame")] {
        let schema = validator(definition);
        for (name, frame) in vectors(direction) {
            // A client of a newer version is told that its type is not known here.
            let refused = name == "client.unknown.json";
            assert_eq!(schema.is_valid(&frame), !refused, "{name}: {:?}", schema.validate(&frame));
        }
    }
}
