//! `taskwatch create`, `update` and `rm`.

use std::io::{self, Write};

use serde_json::{Map, Value, json};
use taskwatch_client::Bytes;
use taskwatch_client::http::Method;
use uuid::Uuid;

use super::api::{self, Api, ApiError};
use super::{Answer, print};
use crate::args::{CreateArgs, FieldArgs, ReportArgs, RmArgs, TaskFormat, UpdateArgs};
use crate::escape::Visible;
use crate::exit::Failure;
use crate::output;
use crate::status::Status;

pub(super) async fn create(api: &Api, args: &CreateArgs) -> Result<(), Failure> {
    let failed =
        |error: ApiError| error.while_trying_to(format!("make a task in {}", args.repository));
    let mut task = fields(&args.fields);
    task.insert("repository".to_owned(), json!(args.repository.as_str()));
    task.insert("title".to_owned(), json!(args.title));
    let body = Some(Value::Object(task).to_string());
    let body = api.change(Method::POST, "/api/v1/tasks", body, None).await.map_err(failed)?;
    let answer = answer(&body).map_err(failed)?;
    report(&args.report, "created", answer.task.id, Some(&answer))
}

pub(super) async fn update(api: &Api, args: &UpdateArgs) -> Result<(), Failure> {
    let failed = |error: ApiError| error.while_trying_to(format!("change task {}", args.id));
    let (path, body) = (api::task(args.id), Some(patch(args).to_string()));
    let body = api.change(Method::PATCH, &path, body, args.if_version).await.map_err(failed)?;
    // Who may only write is not shown what the task says.
    let answer = if body.is_empty() { None } else { Some(answer(&body).map_err(failed)?) };
    report(&args.report, "updated", args.id, answer.as_ref())
}

pub(super) async fn rm(api: &Api, args: &RmArgs, status: &Status) -> Result<(), Failure> {
    let mut missing = None;
    for &id in &args.ids {
        match api.change(Method::DELETE, &api::task(id), None, None).await {
            Ok(_) if args.quiet => print(&format!("{id}\n"))?,
            Ok(_) => print(&format!("deleted {id}\n"))?,
            Err(error) => {
                let is_missing = error.is_not_found();
                let failure = error.while_trying_to(format!("delete task {id}"));
                // The others are there perhaps. The last failure is told at the end.
                if let Some(failure) = missing.replace(failure) {
                    let _ = writeln!(io::stderr(), "{}", status.failure(&failure));
                }
                if !is_missing {
                    break;
                }
            }
        }
    }
    missing.map_or(Ok(()), Err)
}

fn answer(body: &Bytes) -> Result<Answer, ApiError> {
    Ok(Answer::of(serde_json::from_slice(body)?)?)
}

/// The fields that are named.
fn fields(args: &FieldArgs) -> Map<String, Value> {
    let FieldArgs { description, status, priority, assignee, tag } = args;
    let texts = [
        ("description", description),
        ("status", status),
        ("priority", priority),
        ("assignee", assignee),
    ];
    let named = texts.into_iter().filter_map(|(name, text)| Some((name, json!(text.as_ref()?))));
    let tags = (!tag.is_empty()).then(|| ("tags", json!(tag)));
    named.chain(tags).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A merge patch: what is not named stays, `null` takes away.
fn patch(args: &UpdateArgs) -> Value {
    let mut patch = fields(&args.fields);
    if let Some(title) = &args.title {
        patch.insert("title".to_owned(), json!(title));
    }
    for (is_removed, name) in [(args.no_assignee, "assignee"), (args.no_tags, "tags")] {
        if is_removed {
            patch.insert(name.to_owned(), Value::Null);
        }
    }
    Value::Object(patch)
}

/// What was done, on one line.
fn report(args: &ReportArgs, done: &str, id: Uuid, answer: Option<&Answer>) -> Result<(), Failure> {
    let mut line = String::new();
    match (args.output, answer) {
        _ if args.quiet => line = format!("{id}\n"),
        (TaskFormat::Json, Some(answer)) => output::json_line(&answer.json, &mut line),
        (TaskFormat::Json, None) => {}
        (TaskFormat::Text, Some(Answer { task, .. })) => {
            line = format!("{done} {id}  {}\n", Visible(&task.title));
        }
        (TaskFormat::Text, None) => line = format!("{done} {id}\n"),
    }
    print(&line)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command, TaskCommand};

    fn patch_of(words: &[&str]) -> Value {
        let id = "019abb4e-5c00-7a31-8f02-6d1c0b9e4a77";
        let words = ["taskwatch", "update", id].into_iter().chain(words.iter().copied());
        match Args::try_parse_from(words).unwrap().command {
            Some(Command::Tasks(TaskCommand::Update(args))) => patch(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_patch_holds_what_is_named_and_nothing_else() {
        assert_eq!(patch_of(&["--status", "completed"]), json!({"status": "completed"}));
        assert_eq!(
            patch_of(&["--no-assignee", "--no-tags", "--description", ""]),
            json!({"assignee": null, "tags": null, "description": ""})
        );
        assert_eq!(
            patch_of(&[
                "--title",
                "t",
                "--assignee",
                "ana",
                "--tag",
                "a",
                "--tag",
                "b",
                "--priority",
                "low"
            ]),
            json!({"title": "t", "assignee": "ana", "tags": ["a", "b"], "priority": "low"})
        );
    }
}
