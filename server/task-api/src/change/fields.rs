//! Reads a task's fields from JSON and holds them to their limits.

use serde_json::{Map, Value};
use taskwatch_protocol::{Priority, Status};

use super::{NewTask, TaskPatch};

pub(super) const MAX_TITLE_CHARS: usize = 512;
pub(super) const MAX_DESCRIPTION_BYTES: usize = 64 * 1024;
pub(super) const MAX_ASSIGNEE_CHARS: usize = 255;
pub(super) const MAX_TAGS: usize = 32;
pub(super) const MAX_TAG_CHARS: usize = 64;

/// Fields that the server alone writes.
const SERVER_OWNED: [&str; 4] = ["id", "version", "created_at", "updated_at"];

/// A field that is missing, unknown, or outside its limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub(crate) struct InvalidTask {
    field: String,
    problem: String,
}

impl InvalidTask {
    pub(super) fn new(field: &str, problem: impl Into<String>) -> Self {
        // A name that the server does not know may be long, and hold anything.
        let field = field.chars().take(64).flat_map(char::escape_debug).collect();
        Self { field, problem: problem.into() }
    }
}

impl TryFrom<Value> for NewTask {
    type Error = InvalidTask;

    fn try_from(body: Value) -> Result<Self, InvalidTask> {
        let mut object = object("task", body)?;
        let repository = object
            .remove("repository")
            .ok_or_else(|| InvalidTask::new("repository", "is required"))?;
        let repository = text("repository", repository)?
            .parse()
            .map_err(|problem| InvalidTask::new("repository", format!("{problem}")))?;
        let given = editable(object)?;
        Ok(Self {
            repository,
            title: given.title.ok_or_else(|| InvalidTask::new("title", "is required"))?,
            description: given.description.unwrap_or_default(),
            status: given.status.unwrap_or(Status::Pending),
            priority: given.priority.unwrap_or(Priority::Medium),
            assignee: given.assignee.flatten(),
            tags: given.tags.unwrap_or_default(),
        })
    }
}

impl TryFrom<Value> for TaskPatch {
    type Error = InvalidTask;

    fn try_from(body: Value) -> Result<Self, InvalidTask> {
        let object = object("patch", body)?;
        if object.contains_key("repository") {
            return Err(InvalidTask::new("repository", "of a task never changes"));
        }
        editable(object)
    }
}

pub(super) fn object(name: &str, value: Value) -> Result<Map<String, Value>, InvalidTask> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(InvalidTask::new(name, "is a JSON object")),
    }
}

/// The fields a caller may write. `null` is the default of a field that has one.
fn editable(object: Map<String, Value>) -> Result<TaskPatch, InvalidTask> {
    let mut patch = TaskPatch::default();
    for (field, value) in object {
        match (field.as_str(), value) {
            ("title", value) => patch.title = Some(title(value)?),
            ("status", value) => patch.status = Some(status(value)?),
            ("priority", value) => patch.priority = Some(priority(value)?),
            ("description", Value::Null) => patch.description = Some(String::new()),
            ("description", value) => patch.description = Some(description(value)?),
            ("assignee", Value::Null) => patch.assignee = Some(None),
            ("assignee", value) => {
                let assignee = line("assignee", text("assignee", value)?, MAX_ASSIGNEE_CHARS)?;
                patch.assignee = Some(Some(assignee));
            }
            ("tags", Value::Null) => patch.tags = Some(Vec::new()),
            ("tags", value) => patch.tags = Some(tags(value)?),
            (owned, _) if SERVER_OWNED.contains(&owned) => {
                return Err(InvalidTask::new(owned, "is written by the server alone"));
            }
            (unknown, _) => return Err(InvalidTask::new(unknown, "is no field of a task")),
        }
    }
    Ok(patch)
}

pub(super) fn text(field: &str, value: Value) -> Result<String, InvalidTask> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Err(InvalidTask::new(field, "may not be null")),
        _ => Err(InvalidTask::new(field, "is a string")),
    }
}

/// One line of 1 to `max` characters.
fn line(field: &str, text: String, max: usize) -> Result<String, InvalidTask> {
    if text.trim().is_empty() {
        Err(InvalidTask::new(field, "may not be empty"))
    } else if text.chars().count() > max {
        Err(InvalidTask::new(field, format!("has at most {max} characters")))
    } else if text.contains(['\n', '\r']) {
        // Whatever else it holds is kept as it came. Making it harmless is for those who show it.
        Err(InvalidTask::new(field, "is one line"))
    } else {
        Ok(text)
    }
}

fn title(value: Value) -> Result<String, InvalidTask> {
    line("title", text("title", value)?, MAX_TITLE_CHARS)
}

fn description(value: Value) -> Result<String, InvalidTask> {
    let text = text("description", value)?;
    if text.len() > MAX_DESCRIPTION_BYTES {
        let problem = format!("has at most {MAX_DESCRIPTION_BYTES} bytes");
        return Err(InvalidTask::new("description", problem));
    }
    Ok(text)
}

fn status(value: Value) -> Result<Status, InvalidTask> {
    let status = Status::from(text("status", value)?.as_str());
    known("status", status.is_known(), Status::KNOWN).map(|()| status)
}

fn priority(value: Value) -> Result<Priority, InvalidTask> {
    let priority = Priority::from(text("priority", value)?.as_str());
    known("priority", priority.is_known(), Priority::KNOWN).map(|()| priority)
}

fn known<W: ToString>(field: &str, known: bool, words: &[W]) -> Result<(), InvalidTask> {
    if known {
        return Ok(());
    }
    let words: Vec<_> = words.iter().map(W::to_string).collect();
    Err(InvalidTask::new(field, format!("is one of {}", words.join(", "))))
}

fn tags(value: Value) -> Result<Vec<String>, InvalidTask> {
    let Value::Array(values) = value else {
        return Err(InvalidTask::new("tags", "is a list of strings"));
    };
    if values.len() > MAX_TAGS {
        return Err(InvalidTask::new("tags", format!("has at most {MAX_TAGS} entries")));
    }
    values.into_iter().map(|tag| line("tags", text("tags", tag)?, MAX_TAG_CHARS)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn create(fields: Value) -> Result<NewTask, InvalidTask> {
        let mut body = json!({"repository": "acme/api", "title": "One"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        NewTask::try_from(body)
    }

    #[test]
    fn a_new_task_has_defaults() {
        let task = create(json!({})).unwrap();
        let expected = NewTask {
            repository: "acme/api".parse().unwrap(),
            title: "One".into(),
            description: String::new(),
            status: Status::Pending,
            priority: Priority::Medium,
            assignee: None,
            tags: vec![],
        };
        assert_eq!(task, expected);
        let nulls = json!({"description": null, "assignee": null, "tags": null});
        assert_eq!(create(nulls).unwrap(), expected);
    }

    #[test]
    fn repository_and_title_are_required() {
        for (body, field) in [
            (json!({"title": "One"}), "repository: is required"),
            (json!({"repository": "a"}), "title: is required"),
            (json!({"repository": null, "title": "One"}), "repository: may not be null"),
            (json!({"repository": "a/*", "title": "One"}), "repository: * stands alone"),
            (json!([]), "task: is a JSON object"),
        ] {
            let problem = NewTask::try_from(body).unwrap_err().to_string();
            assert!(problem.starts_with(field), "{problem}");
        }
    }

    #[test]
    fn limits_are_exact() {
        let long = |n: usize| "é".repeat(n);
        for (fields, ok) in [
            (json!({"title": long(512)}), true),
            (json!({"title": long(513)}), false),
            (json!({"title": ""}), false),
            (json!({"title": " \u{a0}"}), false),
            (json!({"title": "two\nlines"}), false),
            (json!({"title": "two\rlines"}), false),
            (json!({"title": "bell\u{7} \u{1b}[2J \u{9b} \u{202e} \u{2028} \0"}), true),
            (json!({"description": "x".repeat(65_536)}), true),
            (json!({"description": "x".repeat(65_537)}), false),
            (json!({"description": "two\nlines"}), true),
            (json!({"assignee": long(255)}), true),
            (json!({"assignee": long(256)}), false),
            (json!({"assignee": ""}), false),
            (json!({"tags": vec!["t"; 32]}), true),
            (json!({"tags": vec!["t"; 33]}), false),
            (json!({"tags": [long(64)]}), true),
            (json!({"tags": [long(65)]}), false),
            (json!({"tags": [1]}), false),
            (json!({"tags": "t"}), false),
            (json!({"status": "done"}), false),
            (json!({"status": "completed"}), true),
            (json!({"priority": "urgent"}), false),
            (json!({"priority": "high"}), true),
        ] {
            let shown: String = fields.to_string().chars().take(40).collect();
            assert_eq!(create(fields.clone()).is_ok(), ok, "created with {shown}");
            assert_eq!(TaskPatch::try_from(fields).is_ok(), ok, "patched with {shown}");
        }
    }

    #[test]
    fn a_patch_with_null_resets_what_has_a_default() {
        let patch = json!({"description": null, "assignee": null, "tags": null});
        let expected = TaskPatch {
            description: Some(String::new()),
            assignee: Some(None),
            tags: Some(vec![]),
            ..TaskPatch::default()
        };
        assert_eq!(TaskPatch::try_from(patch), Ok(expected));
        for field in ["title", "status", "priority"] {
            let problem = TaskPatch::try_from(json!({ field: null })).unwrap_err();
            assert_eq!(problem.to_string(), format!("{field}: may not be null"));
        }
    }

    #[test]
    fn fields_that_are_not_the_callers_are_named() {
        for field in ["id", "repository", "version", "created_at", "updated_at", "colour"] {
            let problem = TaskPatch::try_from(json!({ field: "x" })).unwrap_err().to_string();
            assert!(problem.starts_with(&format!("{field}: ")), "{problem}");
        }
        let problem = create(json!({"id": "x"})).unwrap_err().to_string();
        assert_eq!(problem, "id: is written by the server alone");
        let problem = create(json!({"x\u{1b}[0m": 1})).unwrap_err().to_string();
        assert_eq!(problem, "x\\u{1b}[0m: is no field of a task");
    }
}
