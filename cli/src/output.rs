//! What goes to stdout: an event or a task as one line. Pure: no clock, no terminal.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use jiff::Zoned;
use serde_json::Value;
use taskwatch_client::protocol::{
    FieldChange, Pattern, RepositoryName, ResetReason, Task, TaskChange, TaskEvent, Timestamp,
};

use crate::escape::{JsonLine, Visible};
use crate::paint::{BAD, FAINT, GOOD, NOTE, Paint};

const TITLE_CHARS: usize = 80;
const VALUE_CHARS: usize = 40;
const LIST_ITEMS: usize = 5;

/// Stands for a value that is not there.
const NOTHING: &str = "–";
/// Stands for a value that the server left out for its size.
const LEFT_OUT: &str = "(truncated)";

/// Writes events for a person.
///
/// A line is the local time, what happened, the repository where several are watched, the title,
/// what changed, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextFormat {
    paint: Paint,
    /// The width of the repository's column, if there is one.
    repository: Option<usize>,
}

impl TextFormat {
    /// For events of these repositories.
    #[must_use]
    pub(crate) fn new(paint: Paint, watched: &[Pattern]) -> Self {
        let exact = |pattern: &Pattern| match pattern {
            Pattern::Exact(name) => Some(name.as_str().len()),
            _ => None,
        };
        let repository = match watched {
            [Pattern::Exact(_)] => None,
            // Only a list of names says beforehand how wide they are.
            many => Some(
                many.iter()
                    .map(exact)
                    .collect::<Option<Vec<_>>>()
                    .and_then(|widths| widths.into_iter().max())
                    .unwrap_or(0),
            ),
        };
        Self { paint, repository }
    }

    /// The line, without its end. `now` says which day is today, and where.
    #[must_use]
    pub(crate) fn line(
        &self,
        event: &TaskEvent,
        at: Option<Timestamp>,
        replayed: bool,
        now: &Zoned,
    ) -> String {
        let task = event.task();
        let (style, verb) = match event.change {
            TaskChange::Created { .. } => (GOOD, "+ created"),
            TaskChange::Updated { .. } => (NOTE, "~ updated"),
            TaskChange::Deleted { .. } => (BAD, "− deleted"),
        };
        let mut parts = vec![self.faint(local_time(at, now)), self.paint.text(style, verb)];
        parts.extend(self.repository.map(|width| column(&event.repository, width)));
        parts.push(title(&task.title));
        let details = match &event.change {
            TaskChange::Created { task } => fields(task),
            TaskChange::Updated { changes, .. } => self.changes(changes),
            TaskChange::Deleted { previous } => {
                format!("{} {}", self.faint("was"), word(previous.status.as_str()))
            }
        };
        parts.extend(Some(details).filter(|details| !details.is_empty()));
        parts.push(format!("{} {}", self.faint("by"), shortened(&event.changed_by, VALUE_CHARS)));
        parts.extend(replayed.then(|| self.faint("(replayed)")));
        parts.join("  ")
    }

    /// Tasks as they are, a line for each, by repository; `None` if there is none. The time is that of
    /// the last change.
    #[must_use]
    pub(crate) fn present(&self, tasks: &[Task], now: &Zoned) -> Option<String> {
        let mut tasks: Vec<&Task> = tasks.iter().collect();
        tasks.sort_by(|a, b| (&a.repository, a.id).cmp(&(&b.repository, b.id)));
        let lines = tasks.into_iter().map(|task| {
            let time = self.faint(local_time(Some(task.updated_at), now));
            let mut parts = vec![time, self.faint("= present")];
            parts.extend(self.repository.map(|width| column(&task.repository, width)));
            parts.extend([title(&task.title), fields(task)]);
            parts.join("  ")
        });
        let lines: Vec<_> = lines.collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// What changed: `status pending → in_progress, assignee – → ana`.
    fn changes(&self, changes: &BTreeMap<String, FieldChange>) -> String {
        let mut changes: Vec<_> = changes.iter().collect();
        // The status is what most people wait for.
        changes.sort_by_key(|(field, _)| *field != "status");
        let shown = changes.into_iter().map(|(field, change)| match (&change.from, &change.to) {
            (None, None) => labelled(field, self.faint(LEFT_OUT)),
            (from, to) => {
                let side = |side: &Option<Value>| {
                    side.as_ref().map_or_else(|| self.faint(LEFT_OUT), value)
                };
                labelled(field, format_args!("{} → {}", side(from), side(to)))
            }
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    fn faint(&self, text: impl Display) -> String {
        self.paint.text(FAINT, text)
    }
}

/// Adds an envelope as one line of JSON.
pub(crate) fn json_line(envelope: &str, lines: &mut String) {
    // Writing to a string does not fail.
    let _ = writeln!(lines, "{}", JsonLine(envelope));
}

/// Adds a gap as one line of JSON, so that a program cannot miss it.
pub(crate) fn json_gap(reason: &ResetReason, lines: &mut String) {
    let reason = Value::from(reason.as_str());
    json_line(&format!(r#"{{"type":"gap","data":{{"reason":{reason}}}}}"#), lines);
}

/// The time of day, with the date if it was another day. An event that does not say when it
/// happened, happened when it came.
fn local_time(at: Option<Timestamp>, now: &Zoned) -> String {
    let at = at
        .and_then(|at| jiff::Timestamp::from_millisecond(at.unix_millis()).ok())
        .map_or_else(|| now.clone(), |at| at.to_zoned(now.time_zone().clone()));
    let format = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(format).to_string()
}

/// A repository's name, whose alphabet holds nothing that needs escaping.
fn column(repository: &RepositoryName, width: usize) -> String {
    format!("{repository:<width$}")
}

fn title(text: &str) -> String {
    if text.is_empty() { "(no title)".to_owned() } else { shortened(text, TITLE_CHARS) }
}

/// What is worth saying of a whole task: `status pending, assignee ana`.
fn fields(task: &Task) -> String {
    let mut fields = vec![
        labelled("status", word(task.status.as_str())),
        labelled("priority", word(task.priority.as_str())),
    ];
    fields.extend(task.assignee.as_deref().map(|who| labelled("assignee", word(who))));
    if !task.tags.is_empty() {
        fields.push(labelled("tags", list(&task.tags, |tag| word(tag))));
    }
    fields.join(", ")
}

/// A field's name, which comes from the server too, and what is said of it.
fn labelled(field: &str, text: impl Display) -> String {
    format!("{} {text}", shortened(field, VALUE_CHARS))
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => word(text),
        Value::Array(items) => list(items, self::value),
        other => shortened(&other.to_string(), VALUE_CHARS),
    }
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let mut shown: Vec<_> = items.iter().take(LIST_ITEMS).map(show).collect();
    if items.len() > LIST_ITEMS {
        shown.push("…".to_owned());
    }
    format!("[{}]", shown.join(", "))
}

/// A text among others: in quotes unless it is one word, so that it cannot pass for more.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./@:+~#".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        shortened(text, VALUE_CHARS)
    } else {
        format!("\"{}\"", shortened(text, VALUE_CHARS).replace('"', "\\\""))
    }
}

/// The first characters of a text from the server, made harmless.
///
/// Cut before it is escaped, so that no escape is cut in two.
fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => Visible(text).to_string(),
        Some((end, _)) => format!("{}…", Visible(&text[..end])),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;
    use serde_json::json;
    use taskwatch_client::protocol::{ServerFrame, ServerMessage};

    use super::*;
    use crate::escape::is_hazardous;

    const ID: &str = "0192f0c1-2b3c-7def-8a9b-0c1d2e3f4a5b";

    fn now() -> Zoned {
        date(2026, 11, 22).at(23, 30, 0, 0).to_zoned(TimeZone::UTC).unwrap()
    }

    fn at() -> Option<Timestamp> {
        Some("2026-11-22T14:03:22.500Z".parse().unwrap())
    }

    fn task(title: &str) -> Value {
        json!({
            "id": ID, "repository": "acme/api", "title": title, "status": "pending",
            "priority": "high", "assignee": "ana", "tags": ["login", "needs review"],
            "created_at": "2026-11-22T14:03:22Z", "updated_at": "2026-11-22T14:03:22Z", "version": 1,
        })
    }

    /// An event as a server would send it.
    fn event(kind: &str, fields: Value) -> TaskEvent {
        let mut data = json!({
            "task_id": ID, "repository": "acme/api", "version": 2, "changed_by": "ana",
        });
        data.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let envelope = json!({"type": format!("task.{kind}"), "data": data}).to_string();
        match ServerFrame::decode(&envelope).unwrap().message {
            ServerMessage::Task(event) => event,
            other => panic!("{other:?}"),
        }
    }

    fn updated(changes: Value) -> TaskEvent {
        event("updated", json!({"task": task("Fix login"), "changes": changes}))
    }

    fn format(watched: &[&str]) -> TextFormat {
        let watched: Vec<_> = watched.iter().map(|name| name.parse().unwrap()).collect();
        TextFormat::new(Paint(false), &watched)
    }

    fn line(event: &TaskEvent) -> String {
        format(&["acme/api"]).line(event, at(), false, &now())
    }

    #[test]
    fn each_kind_has_its_line() {
        assert_eq!(
            line(&event("created", json!({"task": task("Fix login")}))),
            "14:03:22  + created  Fix login  \
             status pending, priority high, assignee ana, tags [login, \"needs review\"]  by ana",
        );
        assert_eq!(
            line(&updated(json!({
                "assignee": {"from": null, "to": "ana"},
                "status": {"from": "pending", "to": "in_progress"},
            }))),
            "14:03:22  ~ updated  Fix login  \
             status pending → in_progress, assignee – → ana  by ana",
        );
        assert_eq!(
            line(&event("deleted", json!({"previous": task("Fix login")}))),
            "14:03:22  − deleted  Fix login  was pending  by ana",
        );
    }

    #[test]
    fn tasks_as_they_are_stand_by_repository() {
        let mut tasks = ["acme/web", "acme/api", "acme/web"].map(|repository| {
            let mut task = task(&format!("Fix {repository}"));
            task["repository"] = json!(repository);
            serde_json::from_value::<Task>(task).unwrap()
        });
        tasks[0].status = "completed".into();
        tasks[0].id =
            serde_json::from_value(json!("0192f0c1-2b3c-7def-8a9b-0c1d2e3f4a5c")).unwrap();
        let rest = "priority high, assignee ana, tags [login, \"needs review\"]";
        assert_eq!(
            format(&["*"]).present(&tasks, &now()).unwrap().lines().collect::<Vec<_>>(),
            [
                format!("14:03:22  = present  acme/api  Fix acme/api  status pending, {rest}"),
                format!("14:03:22  = present  acme/web  Fix acme/web  status pending, {rest}"),
                format!("14:03:22  = present  acme/web  Fix acme/web  status completed, {rest}"),
            ]
        );
        assert_eq!(format(&["*"]).present(&[], &now()), None);
    }

    #[test]
    fn what_the_server_left_out_is_said() {
        assert_eq!(
            line(&updated(json!({
                "description": {"truncated": true},
                "title": {"from": "Fix", "truncated": true},
            }))),
            "14:03:22  ~ updated  Fix login  \
             description (truncated), title Fix → (truncated)  by ana",
        );
    }

    #[test]
    fn words_and_values_of_a_newer_server_are_shown() {
        assert_eq!(
            line(&updated(json!({
                "estimate": {"from": 3, "to": {"points": 5}},
                "done": {"from": false, "to": true},
                "status": {"from": "pending", "to": "on hold"},
            }))),
            "14:03:22  ~ updated  Fix login  \
             status pending → \"on hold\", done false → true, estimate 3 → {\"points\":5}  by ana",
        );
        let mut unknown = task("Fix login");
        unknown["status"] = json!("paused");
        assert!(line(&event("deleted", json!({"previous": unknown}))).contains("was paused"));
    }

    #[test]
    fn an_update_that_tells_no_changes_is_still_a_line() {
        assert_eq!(line(&updated(json!({}))), "14:03:22  ~ updated  Fix login  by ana");
    }

    #[test]
    fn long_values_are_shortened() {
        let long = "x".repeat(500);
        let tags: Vec<_> = (0..9).collect();
        let line = line(&updated(json!({
            "assignee": {"from": null, "to": long},
            "tags": {"from": [], "to": tags},
        })));
        assert!(line.contains(&format!("– → {}…,", "x".repeat(VALUE_CHARS))), "{line}");
        assert!(line.contains("tags [] → [0, 1, 2, 3, 4, …]"), "{line}");
    }

    #[test]
    fn a_value_cannot_pass_for_more() {
        let line = line(&updated(json!({
            "assignee": {"from": "", "to": "ana\", status pending → completed"},
        })));
        assert!(line.contains(r#"assignee "" → "ana\", status pending → completed""#), "{line}");
    }

    #[test]
    fn the_repository_is_shown_where_several_could_match() {
        let event = event("deleted", json!({"previous": task("Fix login")}));
        for (watched, shown) in [
            (vec!["acme/api"], "− deleted  Fix login"),
            (vec!["acme/api", "acme/website"], "− deleted  acme/api      Fix login"),
            (vec!["acme/*"], "− deleted  acme/api  Fix login"),
            (vec!["*"], "− deleted  acme/api  Fix login"),
            (vec!["acme/*", "github.com/acme/website"], "− deleted  acme/api  Fix login"),
        ] {
            let line = format(&watched).line(&event, at(), false, &now());
            assert!(line.contains(shown), "{watched:?}: {line}");
        }
    }

    #[test]
    fn another_day_is_named() {
        let event = event("deleted", json!({"previous": task("")}));
        let yesterday = Some("2026-11-21T09:00:00Z".parse().unwrap());
        assert_eq!(
            format(&["acme/api"]).line(&event, yesterday, true, &now()),
            "2026-11-21 09:00:00  − deleted  (no title)  was pending  by ana  (replayed)",
        );
    }

    #[test]
    fn times_are_local() {
        let madrid = TimeZone::fixed(jiff::tz::offset(1));
        let now = now().with_time_zone(madrid);
        assert_eq!(local_time(at(), &now), "2026-11-22 15:03:22");
        assert_eq!(local_time(None, &now), "00:30:00");
    }

    #[test]
    fn colours_are_around_our_own_words() {
        let coloured = TextFormat::new(Paint(true), &["acme/api".parse().unwrap()]);
        let event = updated(json!({"status": {"from": "pending", "to": "completed"}}));
        assert_eq!(
            coloured.line(&event, at(), false, &now()),
            "\u{1b}[2m14:03:22\u{1b}[0m  \u{1b}[33m~ updated\u{1b}[0m  Fix login  \
             status pending → completed  \u{1b}[2mby\u{1b}[0m ana",
        );
    }

    #[test]
    fn a_gap_is_json_too() {
        let mut lines = String::new();
        json_gap(&ResetReason::Expired, &mut lines);
        json_gap(&ResetReason::from("\"\n\u{9b}"), &mut lines);
        assert_eq!(
            lines.lines().collect::<Vec<_>>(),
            [
                r#"{"type":"gap","data":{"reason":"expired"}}"#,
                r#"{"type":"gap","data":{"reason":"\"\n\u009b"}}"#,
            ]
        );
    }

    proptest! {
        #[test]
        fn no_text_of_a_task_reaches_the_terminal_raw(text in ".{0,100}|[\u{0}-\u{9f}\u{200b}-\u{206f}]{0,100}") {
            let mut task = task(&text);
            task["status"] = json!(&text);
            task["assignee"] = json!(&text);
            task["tags"] = json!([&text]);
            let changes = json!({
                &text: {"from": &text, "to": [&text]},
                "other": {"from": {&text: &text}, "to": null},
            });
            for fields in [
                ("created", json!({"task": task, "changed_by": text})),
                ("updated", json!({"task": task, "changes": changes, "changed_by": text})),
                ("deleted", json!({"previous": task, "changed_by": text})),
            ] {
                let line = line(&event(fields.0, fields.1));
                prop_assert!(!line.contains(is_hazardous), "{line:?}");
            }
            let task = serde_json::from_value(task).unwrap();
            let line = format(&["*"]).present(&[task], &now()).unwrap();
            prop_assert!(!line.contains(is_hazardous), "{line:?}");
        }
    }
}
