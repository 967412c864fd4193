//! What goes to stdout: an event or a task as one line. Pure: no clock, no terminal.

use std::fmt::{self, Display, Formatter, Write, from_fn};

use jiff::Zoned;
use serde_json::Value;
use taskwatch_client::protocol::{
    Changes, Pattern, RepositoryName, ResetReason, Task, TaskChange, TaskEvent, Timestamp,
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

    /// The line, without its end. `time` says when it happened.
    pub(crate) fn line(&self, event: &TaskEvent, time: &str, replayed: bool) -> impl Display {
        let (style, verb) = match event.change {
            TaskChange::Created { .. } => (GOOD, "+ created"),
            TaskChange::Updated { .. } => (NOTE, "~ updated"),
            TaskChange::Deleted { .. } => (BAD, "− deleted"),
        };
        from_fn(move |f| {
            write!(f, "{}  {}", self.faint(time), self.paint.text(style, verb))?;
            write!(f, "{}  {}", self.column(&event.repository), title(&event.task().title))?;
            match &event.change {
                TaskChange::Updated { changes, .. } if changes.is_empty() => {}
                change => write!(f, "  {}", self.what(change))?,
            }
            write!(f, "  {} {}", self.faint("by"), who(&event.changed_by))?;
            if replayed { write!(f, "  {}", self.faint("(replayed)")) } else { Ok(()) }
        })
    }

    /// What is worth saying of a change: `status pending → in_progress, assignee – → ana`.
    pub(crate) fn what(&self, change: &TaskChange) -> impl Display {
        from_fn(move |f| match change {
            TaskChange::Created { task } => fields(task).fmt(f),
            TaskChange::Updated { changes, .. } => self.changes(changes).fmt(f),
            TaskChange::Deleted { previous } => {
                write!(f, "{} {}", self.faint("was"), word(previous.status.as_str()))
            }
        })
    }

    /// Tasks as they are, a line for each, by repository. The time is that of the last change.
    pub(crate) fn present<'a>(
        &self,
        tasks: impl Iterator<Item = &'a Task>,
        times: &mut LocalTimes,
        lines: &mut String,
    ) {
        let mut tasks: Vec<&Task> = tasks.collect();
        tasks.sort_by(|a, b| (&a.repository, a.id).cmp(&(&b.repository, b.id)));
        for task in tasks {
            let time = self.faint(times.show(Some(task.updated_at)));
            let (present, repository) = (self.faint("= present"), self.column(&task.repository));
            let (title, fields) = (title(&task.title), fields(task));
            // Writing to a string does not fail.
            let _ = writeln!(lines, "{time}  {present}{repository}  {title}  {fields}");
        }
    }

    /// What changed: `status pending → in_progress, assignee – → ana`.
    fn changes(&self, changes: &Changes) -> impl Display {
        from_fn(move |f| {
            // The status is what most people wait for.
            let status = changes.iter().filter(|(field, _)| *field == "status");
            let others = changes.iter().filter(|(field, _)| *field != "status");
            let shown = status.chain(others).map(|(field, change)| {
                let side = |side: &'_ Option<Value>| match side {
                    Some(side) => value(side),
                    None => self.faint(LEFT_OUT).to_string(),
                };
                match (&change.from, &change.to) {
                    (None, None) => labelled(field, self.faint(LEFT_OUT)).to_string(),
                    (from, to) => {
                        labelled(field, format_args!("{} → {}", side(from), side(to))).to_string()
                    }
                }
            });
            listed(f, shown)
        })
    }

    /// The name of the repository, where several are watched. Its alphabet holds nothing that needs
    /// escaping.
    fn column(&self, repository: &RepositoryName) -> impl Display {
        from_fn(move |f| match self.repository {
            Some(width) => write!(f, "  {repository:<width$}"),
            None => Ok(()),
        })
    }

    fn faint(&self, text: impl Display) -> impl Display {
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

/// The times of what is printed together. Most of it happened within the same second, and to find out
/// the time of day took as long as all the rest of a line.
#[derive(Debug)]
pub(crate) struct LocalTimes {
    now: Zoned,
    /// The second that was shown last, and how.
    last: Option<(i64, String)>,
}

impl LocalTimes {
    /// `now` says which day is today, and where.
    pub(crate) fn new(now: Zoned) -> Self {
        Self { now, last: None }
    }

    /// The time of day, with the date if it was another day. An event that does not say when it
    /// happened, happened when it came.
    pub(crate) fn show(&mut self, at: Option<Timestamp>) -> &str {
        let at = at.and_then(|at| jiff::Timestamp::from_millisecond(at.unix_millis()).ok());
        let at = at.unwrap_or_else(|| self.now.timestamp());
        let second = at.as_millisecond().div_euclid(1_000);
        let last = self.last.take().filter(|(last, _)| *last == second);
        let (_, text) = self.last.insert(last.unwrap_or_else(|| (second, of_day(at, &self.now))));
        text
    }
}

fn of_day(at: jiff::Timestamp, now: &Zoned) -> String {
    let at = at.to_zoned(now.time_zone().clone());
    let format = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(format).to_string()
}

/// The title of a task, in one line of bounded length.
pub(crate) fn title(text: &str) -> impl Display {
    from_fn(move |f| match text {
        "" => f.write_str("(no title)"),
        text => shortened(text, TITLE_CHARS).fmt(f),
    })
}

/// Who changed a task.
pub(crate) fn who(text: &str) -> impl Display {
    shortened(text, VALUE_CHARS)
}

/// What is worth saying of a whole task: `status pending, assignee ana`.
fn fields(task: &Task) -> impl Display {
    from_fn(move |f| {
        let (status, priority) = (word(task.status.as_str()), word(task.priority.as_str()));
        write!(f, "{}, {}", labelled("status", status), labelled("priority", priority))?;
        if let Some(who) = &task.assignee {
            write!(f, ", {}", labelled("assignee", word(who)))?;
        }
        if task.tags.is_empty() {
            return Ok(());
        }
        write!(f, ", {}", labelled("tags", list(&task.tags, |tag| word(tag))))
    })
}

/// A field's name, which comes from the server too, and what is said of it.
fn labelled(field: &str, text: impl Display) -> impl Display {
    from_fn(move |f| write!(f, "{} {text}", shortened(field, VALUE_CHARS)))
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => word(text).to_string(),
        Value::Array(items) => list(items, self::value).to_string(),
        other => shortened(&other.to_string(), VALUE_CHARS).to_string(),
    }
}

fn list<'a, T, D: Display>(items: &'a [T], show: impl Fn(&'a T) -> D) -> impl Display {
    from_fn(move |f| {
        f.write_char('[')?;
        listed(f, items.iter().take(LIST_ITEMS).map(&show))?;
        f.write_str(if items.len() > LIST_ITEMS { ", …]" } else { "]" })
    })
}

fn listed(f: &mut Formatter<'_>, items: impl Iterator<Item = impl Display>) -> fmt::Result {
    items.enumerate().try_for_each(|(place, item)| match place {
        0 => write!(f, "{item}"),
        _ => write!(f, ", {item}"),
    })
}

/// A text among others: in quotes unless it is one word, so that it cannot pass for more.
pub(crate) fn word(text: &str) -> impl Display {
    let plain = |c: char| c.is_alphanumeric() || "_-./@:+~#".contains(c);
    from_fn(move |f| {
        if !text.is_empty() && text.chars().all(plain) {
            return shortened(text, VALUE_CHARS).fmt(f);
        }
        let text = shortened(text, VALUE_CHARS).to_string();
        write!(f, "\"{}\"", text.replace('"', "\\\""))
    })
}

/// The first characters of a text from the server, made harmless.
///
/// Cut before it is escaped, so that no escape is cut in two.
fn shortened(text: &str, chars: usize) -> impl Display {
    from_fn(move |f| match text.char_indices().nth(chars).filter(|_| text.len() > chars) {
        None => Visible(text).fmt(f),
        Some((end, _)) => write!(f, "{}…", Visible(&text[..end])),
    })
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

    fn time(at: Option<Timestamp>) -> String {
        LocalTimes::new(now()).show(at).to_owned()
    }

    fn present(tasks: &[Task]) -> String {
        let mut lines = String::new();
        format(&["*"]).present(tasks.iter(), &mut LocalTimes::new(now()), &mut lines);
        lines
    }

    fn format(watched: &[&str]) -> TextFormat {
        let watched: Vec<_> = watched.iter().map(|name| name.parse().unwrap()).collect();
        TextFormat::new(Paint(false), &watched)
    }

    fn line(event: &TaskEvent) -> String {
        format(&["acme/api"]).line(event, &time(at()), false).to_string()
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
            present(&tasks).lines().collect::<Vec<_>>(),
            [
                format!("14:03:22  = present  acme/api  Fix acme/api  status pending, {rest}"),
                format!("14:03:22  = present  acme/web  Fix acme/web  status pending, {rest}"),
                format!("14:03:22  = present  acme/web  Fix acme/web  status completed, {rest}"),
            ]
        );
        assert_eq!(present(&[]), "");
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
            let line = format(&watched).line(&event, &time(at()), false).to_string();
            assert!(line.contains(shown), "{watched:?}: {line}");
        }
    }

    #[test]
    fn another_day_is_named() {
        let event = event("deleted", json!({"previous": task("")}));
        let yesterday = Some("2026-11-21T09:00:00Z".parse().unwrap());
        assert_eq!(
            format(&["acme/api"]).line(&event, &time(yesterday), true).to_string(),
            "2026-11-21 09:00:00  − deleted  (no title)  was pending  by ana  (replayed)",
        );
    }

    #[test]
    fn times_are_local() {
        let madrid = TimeZone::fixed(jiff::tz::offset(1));
        let now = now().with_time_zone(madrid);
        let mut times = LocalTimes::new(now);
        assert_eq!(times.show(at()), "2026-11-22 15:03:22");
        assert_eq!(times.show(None), "00:30:00");
    }

    #[test]
    fn colours_are_around_our_own_words() {
        let coloured = TextFormat::new(Paint(true), &["acme/api".parse().unwrap()]);
        let event = updated(json!({"status": {"from": "pending", "to": "completed"}}));
        assert_eq!(
            coloured.line(&event, &time(at()), false).to_string(),
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
        fn a_time_is_shown_as_if_it_were_the_only_one(
            millis in prop::collection::vec(-90_000_000..90_000_000_i64, 1..9),
            steps in prop::collection::vec(-1_500..1_500_i64, 1..9),
        ) {
            let now_millis = now().timestamp().as_millisecond();
            let mut times = LocalTimes::new(now());
            for (far, near) in millis.into_iter().zip(steps) {
                for at in [far, far + near, far] {
                    let at = Some(Timestamp::from_unix_millis(now_millis + at));
                    prop_assert_eq!(times.show(at), time(at));
                }
            }
        }

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
            let lines = present(&[task]);
            let line = lines.strip_suffix('\n').unwrap();
            prop_assert!(!line.contains(is_hazardous), "{line:?}");
        }
    }
}
