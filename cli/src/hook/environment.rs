//! What a hook finds in its environment. Pure.

use taskwatch_client::Event;

/// Systems refuse variables that are far longer.
const MAX_BYTES: usize = 8 * 1024;

/// The variables about an event: a name, and its value, if it has one. Nothing is put together of them,
/// so no text can become a command.
pub(super) fn variables(event: &Event, attempt: u32) -> [(&'static str, Option<String>); 14] {
    let task = event.task();
    let text = |text: &str| Some(fitting(text));
    [
        ("TASKWATCH_EVENT", text(event.kind().as_str())),
        ("TASKWATCH_TASK_ID", text(&event.task_id.to_string())),
        ("TASKWATCH_REPOSITORY", text(event.repository.as_str())),
        ("TASKWATCH_TITLE", text(&task.title)),
        ("TASKWATCH_STATUS", text(task.status.as_str())),
        ("TASKWATCH_PRIORITY", text(task.priority.as_str())),
        ("TASKWATCH_ASSIGNEE", task.assignee.as_deref().and_then(text)),
        ("TASKWATCH_VERSION", text(&event.version.to_string())),
        ("TASKWATCH_CHANGED_BY", text(&event.changed_by)),
        ("TASKWATCH_CURSOR", text(event.cursor.as_str())),
        ("TASKWATCH_TIMESTAMP", event.timestamp.and_then(|at| text(&at.to_string()))),
        ("TASKWATCH_TRACEPARENT", event.traceparent().and_then(text)),
        ("TASKWATCH_ATTEMPT", text(&attempt.to_string())),
        ("TASKWATCH_REPLAYED", text(if event.replayed { "true" } else { "false" })),
    ]
}

/// Without what an environment cannot hold: NUL stands as U+FFFD, and a long text is cut.
fn fitting(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_BYTES);
    text[..end].replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_made_to() {
        assert_eq!(fitting("$(rm -rf /)\n\0é"), "$(rm -rf /)\n\u{fffd}é");
        assert_eq!(fitting(&format!("a{}", "é".repeat(5_000))).len(), MAX_BYTES - 1);
    }
}
