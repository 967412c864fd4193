//! `taskwatch list`: pages up to a limit, of one pattern after the other.

use std::collections::HashSet;
use std::io::{self, Write};

use form_urlencoded::Serializer;
use serde::Deserialize;
use serde_json::value::RawValue;
use taskwatch_client::{Pattern, Priority, Task};

use super::api::{Api, ApiError};
use super::{Answer, print, table};
use crate::args::{ListArgs, Order, TaskFormat};
use crate::exit::Failure;
use crate::output;

/// Tasks of one answer: even the largest fit into it.
const PAGE: usize = 100;

/// A page of a list, as the server has it.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    tasks: Vec<&'a RawValue>,
    next: Option<String>,
}

pub(super) async fn run(api: &Api, args: &ListArgs) -> Result<(), Failure> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (mut found, mut has_more) = (Vec::new(), false);
    let patterns = match &*args.repositories {
        [] => &[Pattern::All],
        patterns => patterns,
    };
    for pattern in patterns {
        let (tasks, is_cut) = fetch(api, args, pattern, limit)
            .await
            .map_err(|error| error.while_trying_to(format!("list the tasks of {pattern}")))?;
        found.extend(tasks);
        has_more |= is_cut;
    }
    if patterns.len() > 1 {
        has_more |= merge(&mut found, args.sort, limit);
    }
    print(&match args.output.output {
        TaskFormat::Json => lines(&found),
        TaskFormat::Text => {
            let tasks: Vec<_> = found.iter().map(|answer| &answer.task).collect();
            let has_one_repository = matches!(patterns, [Pattern::Exact(_)]);
            table::table(&tasks, !has_one_repository, table::terminal_width())
        }
    })?;
    if has_more {
        // Not on stdout: that has nothing but tasks.
        let _ = writeln!(io::stderr(), "these are the first {limit}; --limit shows more");
    }
    Ok(())
}

/// The tasks of one pattern, up to the limit, and whether there are more.
async fn fetch(
    api: &Api,
    args: &ListArgs,
    pattern: &Pattern,
    limit: usize,
) -> Result<(Vec<Answer>, bool), ApiError> {
    let (mut found, mut page) = (Vec::new(), None);
    loop {
        let wanted = PAGE.min(limit - found.len());
        let query = query(args, pattern, wanted, page.as_deref());
        let body = api.get(&format!("/api/v1/tasks?{query}")).await?;
        let Page { tasks, next } = serde_json::from_slice(&body)?;
        for task in tasks {
            found.push(Answer::of(task)?);
        }
        // A page may be empty though another follows.
        match next {
            Some(next) if found.len() < limit => page = Some(next),
            next => {
                let has_more = next.is_some() || found.len() > limit;
                found.truncate(limit);
                return Ok((found, has_more));
            }
        }
    }
}

fn query(args: &ListArgs, pattern: &Pattern, limit: usize, page: Option<&str>) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("repository", &pattern.to_string());
    for (name, values) in [
        ("status", &args.status),
        ("priority", &args.priority),
        ("assignee", &args.assignee),
        ("tag", &args.tag),
    ] {
        query.extend_pairs(values.iter().map(|value| (name, value)));
    }
    query.extend_pairs(args.text.iter().map(|text| ("text", text)));
    query.append_pair("sort", args.sort.word()).append_pair("limit", &limit.to_string());
    query.extend_pairs(page.iter().map(|page| ("page", page)));
    query.finish()
}

/// Puts the lists of several patterns together in the order that each of them has; true if that is more
/// than the limit.
fn merge(found: &mut Vec<Answer>, order: Order, limit: usize) -> bool {
    // Two patterns may match the same task.
    let mut seen = HashSet::new();
    found.retain(|answer| seen.insert(answer.task.id));
    let rank = |task: &Task| match task.priority {
        Priority::Low => 0,
        Priority::Medium => 1,
        _ => 2,
    };
    found.sort_by(|a, b| {
        let (a, b) = (&a.task, &b.task);
        let ids = a.id.cmp(&b.id);
        match order {
            Order::CreatedAt => a.created_at.cmp(&b.created_at).then(ids),
            Order::CreatedAtDown => a.created_at.cmp(&b.created_at).then(ids).reverse(),
            Order::UpdatedAt => a.updated_at.cmp(&b.updated_at).then(ids),
            Order::UpdatedAtDown => a.updated_at.cmp(&b.updated_at).then(ids).reverse(),
            Order::Priority => rank(a).cmp(&rank(b)).then(ids),
            Order::PriorityDown => rank(a).cmp(&rank(b)).then(ids).reverse(),
        }
    });
    let is_more = found.len() > limit;
    found.truncate(limit);
    is_more
}

fn lines(found: &[Answer]) -> String {
    let mut lines = String::new();
    for answer in found {
        output::json_line(&answer.json, &mut lines);
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::args::{Args, Command, TaskCommand};

    fn args(words: &[&str]) -> ListArgs {
        let words = ["taskwatch", "list"].iter().chain(words);
        match Args::try_parse_from(words).unwrap().command {
            Some(Command::Tasks(TaskCommand::List(args))) => args,
            other => panic!("{other:?}"),
        }
    }

    fn answer(id: u8, priority: &str, created_at: &str) -> Answer {
        let task = json!({
            "id": format!("019abb4e-5c00-7a31-8f02-6d1c0b9e4a{id:02}"), "repository": "foo", "title": "t",
            "status": "pending", "priority": priority, "created_at": created_at,
            "updated_at": created_at, "version": 1,
        });
        Answer { json: task.to_string(), task: serde_json::from_value(task).unwrap() }
    }

    #[test]
    fn each_filter_stands_in_the_query_and_is_escaped() {
        let args = args(&[
            "--status",
            "pending",
            "--status",
            "completed",
            "--tag",
            "a&b",
            "--text",
            "50 %",
            "--sort",
            "-priority",
        ]);
        let pattern = "github.com/acme/*".parse().unwrap();
        assert_eq!(
            query(&args, &pattern, 7, Some("p=1")),
            "repository=github.com%2Facme%2F*&status=pending&status=completed&tag=a%26b&text=50+%25\
             &sort=-priority&limit=7&page=p%3D1"
        );
    }

    #[test]
    fn lists_of_several_patterns_become_one_in_their_order() {
        let times = ["2026-11-22T10:00:00Z", "2026-11-22T09:00:00Z"];
        let all = || {
            vec![
                answer(1, "low", times[0]),
                answer(2, "high", times[1]),
                answer(3, "medium", times[1]),
                answer(2, "high", times[1]),
            ]
        };
        for (order, expected) in [
            (Order::CreatedAt, [2, 3, 1]),
            (Order::CreatedAtDown, [1, 3, 2]),
            (Order::Priority, [1, 3, 2]),
            (Order::PriorityDown, [2, 3, 1]),
        ] {
            let mut found = all();
            assert!(!merge(&mut found, order, 3));
            let ids: Vec<_> = found.iter().map(|it| it.task.id.as_bytes()[15] & 0xf).collect();
            assert_eq!(ids, expected, "{order:?}");
        }
        let mut found = all();
        assert!(merge(&mut found, Order::CreatedAt, 2));
        assert_eq!(found.len(), 2);
    }
}
