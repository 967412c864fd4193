//! What is left of a task, and of what happened to it, when its text must be forgotten. Plain data.

use serde_json::Value;
use taskwatch_protocol::{Changes, FieldChange, Task, TaskChange, TaskEvent};

/// Stands where text stood.
pub(crate) const MARK: &str = "[purged]";

/// The same task without what anybody wrote: its title, description and tags, and whose it is.
pub(crate) fn task(task: Task) -> Task {
    Task {
        title: MARK.to_owned(),
        description: text(task.description),
        assignee: task.assignee.map(text),
        tags: if task.tags.is_empty() { vec![] } else { vec![MARK.to_owned()] },
        ..task
    }
}

/// The same event about the task as it is left: of the same type and version, by nobody in particular.
pub(crate) fn event(event: TaskEvent) -> TaskEvent {
    let left = |before: Box<Task>| Box::new(task(*before));
    let change = match event.change {
        TaskChange::Created { task } => TaskChange::Created { task: left(task) },
        TaskChange::Updated { task, changes } => {
            TaskChange::Updated { task: left(task), changes: self::changes(&changes) }
        }
        TaskChange::Deleted { previous } => TaskChange::Deleted { previous: left(previous) },
    };
    TaskEvent { changed_by: MARK.to_owned(), change, ..event }
}

fn changes(changes: &Changes) -> Changes {
    let mut left = Changes::default();
    for (field, change) in changes.iter() {
        let change = match field {
            // Words of a list, which nobody has written.
            "status" | "priority" => change.clone(),
            _ => FieldChange {
                from: change.from.as_ref().map(value),
                to: change.to.as_ref().map(value),
                truncated: change.truncated,
            },
        };
        left.insert(field, change);
    }
    left
}

fn text(text: String) -> String {
    if text.is_empty() { text } else { MARK.to_owned() }
}

fn value(before: &Value) -> Value {
    match before {
        Value::Null => Value::Null,
        Value::String(text) if text.is_empty() => before.clone(),
        Value::Array(all) if all.is_empty() => before.clone(),
        Value::Array(_) => Value::from([MARK].as_slice()),
        _ => Value::from(MARK),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use taskwatch_protocol::{ServerFrame, ServerMessage};

    use super::*;

    fn read(event: Value) -> TaskEvent {
        match ServerFrame::decode(&event.to_string()).unwrap().message {
            ServerMessage::Task(event) => event,
            other => panic!("{other:?}"),
        }
    }

    fn shown(event: &TaskEvent) -> String {
        ServerFrame::new(ServerMessage::Task(event.clone())).encode()
    }

    fn written() -> Value {
        json!({
            "id": "019abb4e-5c00-7a31-8f02-6d1c0b9e4a77", "repository": "foo", "title": "secret",
            "description": "secret", "status": "pending", "priority": "high",
            "assignee": "secret", "tags": ["secret", "secret too"],
            "created_at": "2026-11-22T09:58:00.000Z", "updated_at": "2026-11-22T09:59:00.000Z",
            "version": 2,
        })
    }

    fn about(kind: &str, data: Value) -> TaskEvent {
        let mut data = data;
        for (name, value) in [("task_id", &written()["id"]), ("repository", &json!("foo"))] {
            data[name] = value.clone();
        }
        data["changed_by"] = json!("secret");
        read(json!({"type": kind, "data": data}))
    }

    #[test]
    fn no_text_is_left_and_all_else_is() {
        let change = |from, to| json!({"from": from, "to": to});
        for (kind, data) in [
            ("task.created", json!({"version": 1, "task": written()})),
            ("task.deleted", json!({"version": 3, "previous": written()})),
            (
                "task.updated",
                json!({"version": 2, "task": written(), "changes": {
                    "title": change(json!("secret"), json!("secret too")),
                    "description": {"to": "secret", "truncated": true},
                    "assignee": change(json!(null), json!("secret")),
                    "tags": change(json!([]), json!(["secret"])),
                    "status": change(json!("completed"), json!("pending")),
                    "later": change(json!({"a": "secret"}), json!(7)),
                }}),
            ),
        ] {
            let before = about(kind, data);
            let after = event(before.clone());
            let text = shown(&after);
            assert!(!text.contains("secret") && text.contains(MARK), "{text}");
            assert_eq!(
                (after.kind(), after.version, after.task_id, &after.repository),
                (before.kind(), before.version, before.task_id, &before.repository)
            );
            let (left, was) = (after.task(), before.task());
            assert_eq!((&left.status, left.version), (&was.status, was.version));
            assert_eq!((left.created_at, left.updated_at), (was.created_at, was.updated_at));
            assert_eq!(event(after.clone()), after, "once is enough");
        }
    }

    #[test]
    fn what_changed_is_still_told() {
        let changes = json!({"title": {"from": "secret", "to": "x"}, "assignee": {"from": null, "to": ""},
                             "status": {"from": "pending", "to": "completed"}});
        let data = json!({"version": 2, "task": written(), "changes": changes});
        let after = event(about("task.updated", data));
        let TaskChange::Updated { changes, .. } = after.change else { panic!() };
        assert_eq!(changes.keys().collect::<Vec<_>>(), ["assignee", "status", "title"]);
        assert_eq!(changes["status"].to, Some(json!("completed")));
        assert_eq!(changes["assignee"].from, Some(json!(null)));
        assert_eq!(changes["title"].to, Some(json!(MARK)));
    }
}
