//! `taskwatchd purge`: has a server forget the text of a task.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::Value;
use taskwatch_protocol::escape::Visible;
use uuid::Uuid;

use super::asking::{Failure, ask, confirmed};
use crate::remote::Remote;

/// The file is written anew, which takes long if it is large.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// `taskwatchd purge`.
#[derive(Clone, Debug, Args)]
pub struct Purge {
    /// The task server.
    #[command(flatten)]
    pub remote: Remote,

    /// The id of the task, which may be deleted already
    #[arg(long, value_name = "ID")]
    pub task: Uuid,

    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

impl Purge {
    /// Purges, and returns what is to be printed.
    ///
    /// # Errors
    /// If it is not confirmed, the server cannot be asked, or something is left.
    pub async fn run(self) -> Result<String, Failure> {
        let Self { remote, task, yes } = self;
        let url = remote.base()?;
        if !yes {
            let question = format!(
                "Delete task {task} of {url} and the text of all that ever happened to it, for good?"
            );
            match confirmed(question)? {
                Some(true) => {}
                Some(false) => return Err(Failure::Usage("nothing was changed".to_owned())),
                None => {
                    let text = "nobody can be asked: stdin is no terminal; --yes goes ahead";
                    return Err(Failure::Usage(text.to_owned()));
                }
            }
        }
        let path = format!("api/v1/tasks/{task}/purge");
        let answer = ask(&remote, Method::POST, &path, None, PATIENCE).await?;
        Ok(told(task, &answer))
    }
}

/// Nothing may be found by who purges again since something was left: that is no failure.
fn told(task: Uuid, answer: &Value) -> String {
    let number = |name: &str| answer[name].as_u64().unwrap_or_default();
    let (events, answers) = (number("events"), number("answers"));
    let is_deleted = answer["deleted"] == true;
    let mut text = if !is_deleted && events + answers == 0 {
        format!(
            "task {task}: nothing of it was found; it was purged before, or this is another server's id\n"
        )
    } else {
        let task_line = if is_deleted { "deleted" } else { "was deleted before" };
        format!(
            "task {task}: {task_line}\nevents without their text now: {events}\nkept answers without it: \
             {answers}\nbackups, and whoever has seen it, still have it\n"
        )
    };
    for file in answer["left"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        text.push_str(&format!("{} in the data folder may hold it: remove it\n", Visible(file)));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_done_is_told_and_that_nothing_was_too() {
        let nothing = json!({"deleted": false, "events": 0, "answers": 0, "left": []});
        assert!(told(Uuid::nil(), &nothing).contains("nothing of it was found"));
        let done = json!({"deleted": true, "events": 3, "answers": 1, "left": ["a\u{1b}"]});
        let text = told(Uuid::nil(), &done);
        assert!(
            text.contains("now: 3\n") && text.contains("a\\u{1b} in the data folder"),
            "{text}"
        );
    }
}
