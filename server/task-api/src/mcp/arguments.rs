//! What tools are called with.

use std::collections::BTreeSet;

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use taskwatch_protocol::{Cursor, ErrorCode, EventKind, Pattern};
use taskwatch_server::Principal;
use uuid::Uuid;

use super::answer::Refused;
use super::tools::ToolName;
use crate::change::IfMatch;
use crate::idempotency::{Fingerprint, IdempotencyKey, Once};

/// Seconds that a wait takes, unless it says otherwise, and at most.
const DEFAULT_TIMEOUT: u64 = 25;
pub(super) const MAX_TIMEOUT: u64 = 60;

/// One task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Get {
    /// The task's id.
    pub(super) id: Uuid,
}

/// One task to change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Delete {
    /// The task's id.
    pub(super) id: Uuid,
    /// The version the task must still have; another one is refused with `version_conflict`.
    #[serde(default)]
    #[schemars(with = "u64", range(min = 1))]
    if_match: Option<u64>,
}

impl Delete {
    pub(super) fn if_match(&self) -> IfMatch {
        self.if_match.map(|version| vec![version])
    }
}

/// The name of a change.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Idempotency {
    /// A name for this call, of your choice. A call that comes again with the same name and the same
    /// arguments within a day is not carried out again, but answered again.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255), regex(pattern = r"^[!-~]+$"))]
    #[expect(dead_code, reason = "taken out before the rest is read")]
    idempotency_key: Option<String>,
}

/// What to wait for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Names such as `github.com/acme/api`, prefixes such as `github.com/acme/*`, or `*` for all that
    /// may be read.
    #[schemars(length(min = 1))]
    pub(super) repositories: Vec<Pattern>,
    /// The position to go on from, as an answer gave it. Without it the answer comes at once, and has
    /// the present position.
    #[serde(default)]
    #[schemars(with = "Cursor")]
    pub(super) cursor: Option<Cursor>,
    /// Seconds to wait at most, 25 if not given. The answer comes as soon as something has happened.
    #[serde(default)]
    #[schemars(with = "u64", range(max = MAX_TIMEOUT))]
    timeout: Option<u64>,
    /// Only changes of these kinds.
    #[serde(default)]
    #[schemars(with = "Vec<EventKind>")]
    pub(super) types: Option<Vec<EventKind>>,
}

impl Wait {
    pub(super) fn timeout(&self) -> Result<u64, Refused> {
        let seconds = self.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let problem = || format!("timeout is a number of seconds, at most {MAX_TIMEOUT}");
        (seconds <= MAX_TIMEOUT)
            .then_some(seconds)
            .ok_or_else(|| Refused::new(&ErrorCode::BadMessage, problem()))
    }
}

/// Arguments of a tool that takes these and no others.
pub(super) fn read<T: DeserializeOwned>(arguments: JsonObject) -> Result<T, Refused> {
    serde_json::from_value(Value::Object(arguments)).map_err(|problem| {
        Refused::new(&ErrorCode::BadMessage, format!("the arguments cannot be read: {problem}"))
    })
}

/// Takes some arguments out, to be read by themselves.
pub(super) fn take(arguments: &mut JsonObject, names: &[&str]) -> JsonObject {
    names.iter().filter_map(|name| arguments.remove_entry(*name)).collect()
}

/// Takes out the name of a change, together with what it is the name of.
pub(super) fn once(
    arguments: &mut JsonObject,
    tool: ToolName,
    principal: &Principal,
) -> Result<Option<Once>, Refused> {
    let key = match arguments.remove("idempotency_key") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(key)) => IdempotencyKey::try_from(key.as_bytes()).ok(),
        Some(_) => None,
    };
    let key = key.ok_or_else(|| {
        let problem = "idempotency_key has 1 to 255 visible ASCII characters";
        Refused::new(&ErrorCode::BadMessage, problem)
    })?;
    // The order of fields makes no difference.
    let content = sorted(&Value::Object(arguments.clone()));
    let fingerprint = Fingerprint::of("tools/call", tool.as_str(), content.as_bytes());
    Ok(Some(Once::new(principal, key, fingerprint)))
}

/// JSON with the fields of each object in order.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: BTreeSet<_> = fields
                .iter()
                .map(|(name, value)| format!("{}:{}", Value::from(&**name), sorted(value)))
                .collect();
            format!("{{{}}}", Vec::from_iter(fields).join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(","))
        }
        plain => plain.to_string(),
    }
}

/// A list that may be given as its one entry: what is a list here is often a word elsewhere.
pub(super) fn listed(arguments: &mut JsonObject, names: &[&str]) {
    for name in names {
        match arguments.remove(*name) {
            Some(word @ Value::String(_)) => {
                arguments.insert((*name).to_owned(), Value::Array(vec![word]));
            }
            Some(Value::Null) | None => {}
            Some(other) => {
                arguments.insert((*name).to_owned(), other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> JsonObject {
        let Value::Object(object) = value else { panic!() };
        object
    }

    #[test]
    fn a_key_stands_for_the_tool_and_the_other_arguments() {
        let of = |tool, arguments| {
            once(&mut object(arguments), tool, &Principal::new("ana")).unwrap().unwrap().fingerprint
        };
        let one =
            of(ToolName::Create, json!({"idempotency_key": "k", "title": "t", "tags": ["a"]}));
        let same =
            of(ToolName::Create, json!({"tags": ["a"], "title": "t", "idempotency_key": "k"}));
        assert_eq!(one, same);
        for (tool, arguments) in [
            (ToolName::Update, json!({"idempotency_key": "k", "title": "t", "tags": ["a"]})),
            (ToolName::Create, json!({"idempotency_key": "k", "title": "t", "tags": ["b"]})),
            (ToolName::Create, json!({"idempotency_key": "k", "title": "t"})),
        ] {
            assert_ne!(one, of(tool, arguments));
        }
        for key in [json!(""), json!("a b"), json!(7)] {
            let refused = once(
                &mut object(json!({"idempotency_key": key})),
                ToolName::Create,
                &Principal::anonymous(),
            );
            assert!(refused.is_err(), "{key}");
        }
        let mut none = object(json!({"idempotency_key": null}));
        assert!(once(&mut none, ToolName::Create, &Principal::anonymous()).unwrap().is_none());
    }

    #[test]
    fn a_wait_takes_a_minute_at_most() {
        let wait = |value: Value| read::<Wait>(object(value));
        assert_eq!(wait(json!({"repositories": ["*"]})).unwrap().timeout(), Ok(25));
        assert_eq!(wait(json!({"repositories": ["*"], "timeout": 60})).unwrap().timeout(), Ok(60));
        assert!(wait(json!({"repositories": ["*"], "timeout": 61})).unwrap().timeout().is_err());
        for bad in [
            json!({}),
            json!({"repositories": "*"}),
            json!({"repositories": ["a*"]}),
            json!({"repositories": ["*"], "timeout": -1}),
            json!({"repositories": ["*"], "since": "c"}),
        ] {
            assert!(wait(bad.clone()).is_err(), "{bad}");
        }
    }
}
