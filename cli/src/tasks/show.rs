//! `taskwatch get`: a task, and its history.

use std::fmt::{Display, Write};

use form_urlencoded::Serializer;
use jiff::Zoned;
use serde::Deserialize;
use serde_json::value::RawValue;
use taskwatch_client::protocol::{ServerFrame, ServerMessage};
use taskwatch_client::{Pattern, Task};
use uuid::Uuid;

use super::api::{self, Api, ApiError};
use super::{Answer, print};
use crate::args::{GetArgs, TaskFormat};
use crate::escape::Visible;
use crate::exit::Failure;
use crate::output::{self, LocalTimes, TextFormat};
use crate::paint::Paint;

/// A page of a history, as the server has it.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    next: Option<String>,
}

pub(super) async fn run(api: &Api, args: &GetArgs) -> Result<(), Failure> {
    let failed = |error: ApiError| error.while_trying_to(format!("show task {}", args.id));
    let task = match fetch(api, args.id).await {
        Ok(task) => Some(task),
        // A history outlives its task.
        Err(error) if args.history && error.is_not_found() => None,
        Err(error) => return Err(failed(error)),
    };
    let events = if args.history { history(api, args.id).await.map_err(failed)? } else { vec![] };
    print(&match args.output.output {
        TaskFormat::Json => {
            let mut lines = String::new();
            for json in task.iter().map(|answer| &answer.json).chain(&events) {
                output::json_line(json, &mut lines);
            }
            lines
        }
        TaskFormat::Text => {
            let mut times = LocalTimes::new(Zoned::now());
            let mut text = match &task {
                Some(answer) => details(&answer.task, &mut times),
                None => format!("{} is gone\n", args.id),
            };
            if args.history {
                text.push_str("\nhistory\n");
                for event in &events {
                    let _ = writeln!(text, "  {}", event_line(event, &mut times));
                }
            }
            text
        }
    })
}

async fn fetch(api: &Api, id: Uuid) -> Result<Answer, ApiError> {
    let body = api.get(&api::task(id)).await?;
    Ok(Answer::of(serde_json::from_slice(&body)?)?)
}

/// The envelopes of what happened, the oldest first.
async fn history(api: &Api, id: Uuid) -> Result<Vec<String>, ApiError> {
    let (mut events, mut query) = (Vec::new(), String::new());
    loop {
        let body = api.get(&format!("{}/events?{query}", api::task(id))).await?;
        let page: Page<'_> = serde_json::from_slice(&body)?;
        events.extend(page.events.iter().map(|event| event.get().to_owned()));
        let Some(next) = page.next else { return Ok(events) };
        query = Serializer::new(String::new()).append_pair("page", &next).finish();
    }
}

/// The title, the fields, and the description as it is.
fn details(task: &Task, times: &mut LocalTimes) -> String {
    let mut text = format!("{}\n", Visible(&task.title));
    let mut field = |name: &str, value: &dyn Display| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<10}  {value}");
    };
    field("id", &task.id);
    field("repository", &task.repository);
    field("status", &Visible(task.status.as_str()));
    field("priority", &Visible(task.priority.as_str()));
    field("assignee", &Visible(task.assignee.as_deref().unwrap_or("–")));
    let tags = task.tags.join(", ");
    field("tags", &Visible(if tags.is_empty() { "–" } else { &tags }));
    field("created", &times.show(Some(task.created_at)).to_owned());
    field("updated", &times.show(Some(task.updated_at)).to_owned());
    field("version", &task.version);
    if !task.description.is_empty() {
        text.push('\n');
        for line in task.description.lines() {
            let _ = writeln!(text, "  {}", Visible(line));
        }
    }
    text
}

/// The line that a watcher would have printed.
fn event_line(json: &str, times: &mut LocalTimes) -> String {
    match ServerFrame::decode(json) {
        Ok(ServerFrame { message: ServerMessage::Task(event), timestamp, .. }) => {
            let watched = [Pattern::Exact(event.repository.clone())];
            let format = TextFormat::new(Paint(false), &watched);
            format.line(&event, times.show(timestamp), false).to_string()
        }
        // A newer server may tell more.
        _ => Visible(json).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;

    fn times() -> LocalTimes {
        let now: jiff::Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        LocalTimes::new(now.to_zoned(TimeZone::UTC))
    }

    #[test]
    fn all_of_a_task_is_shown_and_none_of_it_drives_the_terminal() {
        let mut task = json!({
            "id": "019abb4e-5c00-7a31-8f02-6d1c0b9e4a77", "repository": "foo",
            "title": "Water the plants\u{1b}", "description": "All of them.\n\u{202e}Twice.\n",
            "status": "pending", "priority": "high", "assignee": "ana", "tags": ["home", "garden"],
            "created_at": "2026-11-21T09:58:00Z", "updated_at": "2026-11-22T10:00:00Z", "version": 3,
        });
        let shown = details(&serde_json::from_value(task.clone()).unwrap(), &mut times());
        assert_eq!(
            shown,
            "Water the plants\\u{1b}\n\
            \x20 id          019abb4e-5c00-7a31-8f02-6d1c0b9e4a77\n\
            \x20 repository  foo\n\
            \x20 status      pending\n\
            \x20 priority    high\n\
            \x20 assignee    ana\n\
            \x20 tags        home, garden\n\
            \x20 created     2026-11-21 09:58:00\n\
            \x20 updated     10:00:00\n\
            \x20 version     3\n\
            \n\
            \x20 All of them.\n\
            \x20 \\u{202e}Twice.\n"
        );
        task["description"] = "".into();
        task["assignee"] = json!(null);
        task["tags"] = json!([]);
        let shown = details(&serde_json::from_value(task).unwrap(), &mut times());
        assert!(shown.contains("assignee    –\n  tags        –\n"), "{shown}");
        assert!(shown.ends_with("version     3\n"), "{shown}");
    }

    #[test]
    fn what_happened_is_told_as_a_watcher_tells_it() {
        let event = json!({
            "type": "task.updated", "timestamp": "2026-11-22T10:00:00Z", "cursor": "c1-1-2",
            "data": {
                "task_id": "019abb4e-5c00-7a31-8f02-6d1c0b9e4a77", "repository": "foo", "version": 2,
                "changed_by": "ana",
                "task": {
                    "id": "019abb4e-5c00-7a31-8f02-6d1c0b9e4a77", "repository": "foo",
                    "title": "Water the plants", "status": "completed", "priority": "high",
                    "created_at": "2026-11-21T09:58:00Z", "updated_at": "2026-11-22T10:00:00Z",
                    "version": 2,
                },
                "changes": {"status": {"from": "pending", "to": "completed"}},
            },
        });
        let line = event_line(&event.to_string(), &mut times());
        assert_eq!(
            line,
            "10:00:00  ~ updated  Water the plants  status pending → completed  by ana"
        );
        assert_eq!(event_line("{\"type\":\"\u{9b}\"}", &mut times()), r#"{"type":"\u{9b}"}"#);
    }
}
