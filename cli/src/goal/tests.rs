//! Goals over updates as the SDK makes them of a scripted server's frames.

use futures_util::StreamExt;
use serde_json::{Value, json};
use taskwatch_client::{Client, Cursor, OnGap};

use super::*;
use crate::watch::tests::script::{Connection, announced, server};

fn id(number: u32) -> String {
    format!("0192f0c1-2b3c-7def-8a9b-{number:012}")
}

fn task(number: u32, repository: &str, status: &str, version: u64) -> Value {
    json!({
        "id": id(number), "repository": repository, "title": format!("task {number}"),
        "status": status, "priority": "low", "version": version,
        "created_at": "2026-11-22T14:03:22Z", "updated_at": "2026-11-22T14:03:22Z",
    })
}

fn frame(kind: &str, seq: u64, fields: Value) -> String {
    let mut frame = json!({"type": kind, "cursor": format!("c-{seq}"), "data": fields});
    let data = frame["data"].as_object_mut().unwrap();
    if let Some(task) = data.get("task").or(data.get("previous")).cloned() {
        let version = task["version"].as_u64().unwrap() + u64::from(data.contains_key("previous"));
        data.insert("task_id".into(), task["id"].clone());
        data.insert("repository".into(), task["repository"].clone());
        data.insert("version".into(), version.into());
        data.insert("changed_by".into(), "ana".into());
    }
    frame.to_string()
}

fn created(seq: u64, task: Value) -> String {
    frame("task.created", seq, json!({"task": task}))
}

fn updated(seq: u64, task: Value) -> String {
    frame("task.updated", seq, json!({"task": task, "changes": {}}))
}

fn deleted(seq: u64, task: Value) -> String {
    frame("task.deleted", seq, json!({"previous": task}))
}

fn snapshot(seq: u64, repositories: &[&str], tasks: &[Value]) -> String {
    let data = json!({"repositories": repositories, "tasks": tasks, "first": true, "last": true});
    frame("snapshot", seq, data)
}

fn goal(condition: &str, repositories: &[&str]) -> Goal {
    let repositories = repositories.iter().map(|name| name.parse().unwrap()).collect();
    Goal::new(condition.parse().unwrap(), false, repositories)
}

/// Whether the goal is met behind each of the first updates that are about tasks.
async fn verdicts(
    goal: &mut Goal,
    since: Option<Cursor>,
    answer: Value,
    frames: Vec<String>,
    count: usize,
) -> Vec<bool> {
    let script = Connection { answer, follows: vec![frames] };
    let client = Client::builder(server(vec![script]).await).build().unwrap();
    let names: Vec<String> = goal.wanted.iter().map(ToString::to_string).collect();
    let events = client.subscribe(names).unwrap().snapshot().on_gap(OnGap::Snapshot);
    let mut updates = events.since(since).updates();
    let mut verdicts = vec![];
    while verdicts.len() < count {
        let update = updates.next().await.unwrap().unwrap();
        let is_about_tasks = matches!(
            update,
            Update::Event(_) | Update::Snapshot(_) | Update::Denied(_) | Update::Gap(_)
        );
        let is_met = goal.take(update);
        assert_eq!(is_met, goal.is_met());
        if is_about_tasks {
            verdicts.push(is_met);
        } else {
            assert!(!is_met);
        }
    }
    verdicts
}

#[tokio::test]
async fn it_is_judged_behind_the_snapshot_and_each_event() {
    let mut goal = goal("all(status in [completed, cancelled])", &["foo"]);
    let frames = vec![
        snapshot(1, &["foo"], &[task(1, "foo", "completed", 1), task(2, "foo", "pending", 1)]),
        updated(2, task(2, "foo", "cancelled", 2)),
        updated(3, task(1, "foo", "pending", 2)),
        created(4, task(3, "foo", "completed", 1)),
        deleted(5, task(1, "foo", "pending", 2)),
        deleted(6, task(2, "foo", "cancelled", 2)),
        deleted(7, task(3, "foo", "completed", 1)),
    ];
    let seen = verdicts(&mut goal, None, announced("snapshot"), frames, 7).await;
    assert_eq!(seen, [false, true, false, false, true, true, false]);
}

#[tokio::test]
async fn a_part_of_what_is_watched_is_not_enough() {
    let names = ["foo", "bar"];
    // Who may not see all of it cannot say anything of all of it.
    let mut denied = announced("snapshot");
    denied["denied"] = json!([{"repository": "bar", "code": "not_found"}]);
    let frames = vec![snapshot(1, &["foo"], &[task(1, "foo", "completed", 1)])];
    let mut both = goal("none(status == pending)", &names);
    assert_eq!(verdicts(&mut both, None, denied, frames, 2).await, [false, false]);
    assert_eq!(
        both.missing(Duration::from_secs(90)),
        "not met after 1 min 30 s: the tasks of bar are not known"
    );
}

#[tokio::test]
async fn after_a_gap_only_a_new_snapshot_counts() {
    let mut goal = goal("all(status == completed)", &["foo"]);
    let frames = vec![snapshot(
        1,
        &["foo"],
        &[task(1, "foo", "completed", 1), task(2, "foo", "pending", 1)],
    )];
    assert_eq!(verdicts(&mut goal, None, announced("snapshot"), frames, 1).await, [false]);
    assert_eq!(
        goal.missing(Duration::from_secs(41)),
        "not met after 41 s: all(status == completed): 1 of 2 tasks not so: task 2 (status pending)"
    );

    // The same goal, and a server that no longer knows what has happened since.
    let mut reset = announced("reset");
    reset["reason"] = json!("expired");
    let frames = vec![
        snapshot(8, &["foo"], &[task(1, "foo", "completed", 1), task(3, "foo", "pending", 1)]),
        updated(9, task(3, "foo", "completed", 2)),
    ];
    assert_eq!(
        verdicts(&mut goal, Some(Cursor::new("c-1")), reset, frames, 3).await,
        [false, false, true]
    );
    assert_eq!(goal.met(Duration::from_secs(41)), "met after 41 s · 2 tasks");
}

#[tokio::test]
async fn nothing_is_all_only_if_it_may_be() {
    for (allow_empty, condition, met) in [
        (false, "all(status == completed)", false),
        (true, "all(status == completed)", true),
        (false, "none()", true),
        (false, "any()", false),
    ] {
        let wanted = vec!["foo".parse().unwrap()];
        let mut goal = Goal::new(condition.parse().unwrap(), allow_empty, wanted);
        let frames = vec![snapshot(1, &["foo"], &[])];
        let seen = verdicts(&mut goal, None, announced("snapshot"), frames, 1).await;
        assert_eq!(seen, [met], "{condition}");
    }
}
