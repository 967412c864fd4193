//! Agents work on tasks as everybody else, and see nothing else than everybody else.

mod access;
mod stdio;
mod subscription;

use std::collections::{BTreeMap, HashSet};

use futures_util::StreamExt;
use futures_util::future::join_all;
use jsonschema::Validator;
use serde_json::{Value, json};
use taskwatch_tests::{Daemon, Rest, within};
use tempfile::TempDir;

use crate::support::{Agent, STATELESS, client};

const VERSIONS: [Option<&str>; 5] =
    [None, Some("2025-03-26"), Some("2025-06-18"), Some("2025-11-25"), Some(STATELESS)];

async fn server() -> (Daemon, TempDir) {
    let dir = TempDir::new().unwrap();
    (Daemon::start(dir.path()).await, dir)
}

/// Holds what tools say against what they say they say.
struct Outputs(BTreeMap<String, Validator>);

impl Outputs {
    async fn of(agent: &Agent) -> Self {
        let answer = agent.ask("tools/list", json!({})).await;
        let tools = answer["result"]["tools"].as_array().unwrap().iter();
        let validator = |schema: &Value| jsonschema::draft202012::new(schema).unwrap();
        let output = |tool: &Value| {
            let name = tool["name"].as_str().unwrap().to_owned();
            assert_eq!(tool["inputSchema"]["type"], "object", "{name}");
            assert_eq!(tool["annotations"]["openWorldHint"], false, "{name}");
            (name, validator(&tool["outputSchema"]))
        };
        Self(tools.map(output).collect())
    }

    #[track_caller]
    fn check(&self, tool: &str, said: &Value) {
        let valid = self.0[tool].validate(said);
        assert!(valid.is_ok(), "{tool}: {said}: {valid:?}");
    }
}

#[tokio::test]
async fn every_tool_works_in_every_revision() {
    let (server, _dir) = server().await;
    for version in VERSIONS {
        let agent = Agent::speaking(Rest::new(server.url()), version);
        if version != Some(STATELESS) {
            let hello = json!({
                "protocolVersion": version.unwrap_or("2025-03-26"),
                "capabilities": {},
                "clientInfo": {"name": "agent", "version": "1"},
            });
            let answer = agent.ask("initialize", hello).await;
            assert_eq!(answer["result"]["protocolVersion"], version.unwrap_or("2025-03-26"));
            // There is nowhere to tell such a client of updates.
            assert_eq!(answer["result"]["capabilities"]["resources"], json!({}));
            let subscribe = json!({"uri": "taskwatch://repository/foo"});
            assert_eq!(agent.ask("resources/subscribe", subscribe).await["error"]["code"], -32601);
        } else {
            let answer = agent.ask("server/discover", json!({})).await;
            assert_eq!(answer["result"]["capabilities"]["resources"]["subscribe"], true);
        }
        let outputs = Outputs::of(&agent).await;
        let done = async |tool: &str, arguments: Value| {
            let said = agent.done(tool, arguments).await;
            outputs.check(tool, &said);
            said
        };
        let refused = async |tool: &str, arguments: Value| {
            let error = agent.refused(tool, arguments).await;
            outputs.check(tool, &json!({"error": error}));
            error["code"].as_str().unwrap().to_owned()
        };

        let head = done("wait_for_changes", json!({"repositories": ["foo"]})).await;
        assert_eq!(head["events"], json!([]));
        let made = done("create_task", json!({"repository": "foo", "title": "One"})).await;
        let id = &made["id"];
        assert_eq!((&made["task"]["id"], &made["task"]["version"]), (id, &json!(1)));
        let update = json!({"id": id, "status": "completed", "assignee": "ana", "if_match": 1});
        let updated = done("update_task", update.clone()).await;
        assert_eq!(updated["task"]["version"], 2);
        assert_eq!(refused("update_task", update).await, "version_conflict");
        assert_eq!(done("get_task", json!({"id": id})).await["task"], updated["task"]);
        let list = json!({"repository": "foo", "status": "completed", "text": "ONE", "limit": 1});
        let listed = done("list_tasks", list).await;
        assert_eq!(
            (&listed["tasks"], &listed["cursor"]),
            (&json!([updated["task"]]), &updated["cursor"])
        );
        let operations = json!([
            {"op": "create", "task": {"repository": "foo", "title": "Two"}},
            {"op": "update", "id": id, "patch": {"assignee": null}, "if_match": 2},
            {"op": "delete", "id": id},
        ]);
        let batch = done("batch_tasks", json!({"operations": operations})).await;
        let tasks = batch["tasks"].as_array().unwrap();
        assert_eq!((&tasks[1]["id"], &tasks[2]), (id, &Value::Null));
        let error = agent.refused("batch_tasks", json!({"operations": operations})).await;
        assert_eq!((&error["code"], &error["operation"]), (&json!("not_found"), &json!(1)));
        let second = json!({"id": tasks[0]["id"], "if_match": 1});
        let deleted = done("delete_task", second.clone()).await;
        assert_eq!(refused("delete_task", second).await, "not_found");

        let wait = json!({"repositories": ["foo"], "cursor": head["cursor"]});
        let happened = done("wait_for_changes", wait).await;
        let versions: Vec<_> = happened["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| &event["data"]["version"])
            .collect();
        assert_eq!(versions, [1, 2, 1, 3, 4, 2]);
        assert_eq!(happened["cursor"], deleted["cursor"]);
        assert!(
            happened["events"]
                .as_array()
                .unwrap()
                .iter()
                .all(|event| event["data"]["changed_by"] == "mcp")
        );
    }
}

#[tokio::test]
async fn what_a_caller_can_mend_is_an_answer_and_what_is_broken_an_error() {
    let (server, _dir) = server().await;
    let agent = Agent::new(Rest::new(server.url()));
    for (tool, arguments, code) in [
        ("create_task", json!({"title": "One"}), "invalid_task"),
        ("create_task", json!({"repository": "a/*", "title": "One"}), "invalid_task"),
        (
            "create_task",
            json!({"repository": "a", "title": "One", "idempotency_key": "a b"}),
            "bad_message",
        ),
        ("get_task", json!({}), "bad_message"),
        ("get_task", json!({"id": "seven"}), "bad_message"),
        ("list_tasks", json!({"repository": "a*"}), "invalid_name"),
        ("list_tasks", json!({"status": ["done"]}), "bad_message"),
        ("list_tasks", json!({"colour": "red"}), "bad_message"),
        ("update_task", json!({"title": "One"}), "bad_message"),
        ("batch_tasks", json!({"operations": []}), "invalid_task"),
        ("wait_for_changes", json!({"repositories": []}), "bad_message"),
        ("wait_for_changes", json!({"repositories": ["a"], "timeout": 61}), "bad_message"),
        ("wait_for_changes", json!({"repositories": ["a"], "cursor": ""}), "malformed"),
    ] {
        let error = agent.refused(tool, arguments.clone()).await;
        assert_eq!(error["code"], code, "{tool} {arguments}: {error}");
        assert_eq!(error["retryable"], false);
        assert!(!error["detail"].as_str().unwrap().is_empty());
    }
    let unknown = agent.ask("tools/call", json!({"name": "drop_tasks", "arguments": {}})).await;
    assert_eq!(unknown["error"]["code"], -32602);

    for (body, status, code) in
        [("{", 400, -32700), ("[]", 400, -32600), ("{\"id\": 1}", 400, -32600)]
    {
        let request = agent.request("ping", json!({})).body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{body}");
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], code, "{body}");
    }
    let large = agent.request("ping", json!({})).body("x".repeat(8 << 20)).send().await.unwrap();
    assert_eq!(
        (large.status().as_u16(), &large.json::<Value>().await.unwrap()["code"]),
        (413, &json!("too_large"))
    );
    for (header, value, status, code) in [
        ("accept", "application/json", 406, "bad_message"),
        ("content-type", "text/plain", 415, "unsupported_media_type"),
        ("mcp-protocol-version", "1999-01-01", 400, "bad_message"),
    ] {
        let agent = Agent::speaking(Rest::new(server.url()), None);
        let mut request = agent.request("ping", json!({})).build().unwrap();
        request.headers_mut().insert(header, value.parse().unwrap());
        let response = taskwatch_tests::http().execute(request).await.unwrap();
        assert_eq!(response.status(), status, "{header}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{header}");
        assert_eq!(response.json::<Value>().await.unwrap()["code"], code, "{header}");
    }
    let get = Rest::new(server.url()).request("GET", "/mcp").send().await.unwrap();
    assert_eq!(
        (get.status().as_u16(), &get.json::<Value>().await.unwrap()["code"]),
        (405, &json!("method_not_allowed"))
    );
}

#[tokio::test]
async fn a_change_with_a_name_is_made_once() {
    let (server, _dir) = server().await;
    let agent = Agent::new(Rest::new(server.url()));
    let arguments = json!({"repository": "foo", "title": "One", "idempotency_key": "first"});
    let all = join_all((0..5).map(|_| agent.done("create_task", arguments.clone()))).await;
    assert!(all.iter().all(|made| made == &all[0]), "{all:?}");
    let other = json!({"repository": "foo", "title": "Two", "idempotency_key": "first"});
    assert_eq!(agent.refused("create_task", other).await["code"], "idempotency_mismatch");
    let batch =
        json!({"operations": [{"op": "delete", "id": all[0]["id"]}], "idempotency_key": "gone"});
    let gone = agent.done("batch_tasks", batch.clone()).await;
    assert_eq!(agent.done("batch_tasks", batch).await, gone);
}

/// A frame without what differs between any two changes.
fn shape(envelope: &str, by: &str) -> Value {
    let mut frame: Value = serde_json::from_str(envelope).unwrap();
    assert_eq!(frame["data"]["changed_by"], by);
    frame["data"]["changed_by"] = Value::Null;
    for field in ["/cursor", "/timestamp", "/data/task_id"] {
        *frame.pointer_mut(field).unwrap() = Value::Null;
    }
    for task in ["/data/task", "/data/previous"] {
        let Some(task) = frame.pointer_mut(task) else { continue };
        for field in ["id", "created_at", "updated_at"] {
            task[field] = Value::Null;
        }
    }
    frame
}

#[tokio::test]
async fn a_change_through_a_tool_is_an_event_like_any_other() {
    let (server, _dir) = server().await;
    let rest = Rest::new(server.url());
    let agent = Agent::new(rest.clone());
    let mut stream = client(server.url()).subscribe(["foo"]).unwrap();
    within("the subscription", stream.ready()).await.unwrap();

    let title = "A title \u{202e} with \u{1b}[31m colours \"]}";
    let task = rest.create("foo", title).await;
    rest.patch(&task, json!({"status": "completed", "tags": ["a"]})).await;
    rest.delete(&task).await;
    let made = agent.done("create_task", json!({"repository": "foo", "title": title})).await;
    let id = &made["id"];
    agent.done("update_task", json!({"id": id, "status": "completed", "tags": ["a"]})).await;
    agent.done("delete_task", json!({"id": id})).await;

    let mut frames = vec![];
    while frames.len() < 6 {
        let event = within("an event", stream.next()).await.unwrap().unwrap();
        let by = if frames.len() < 3 { "api" } else { "mcp" };
        frames.push(shape(event.envelope(), by));
    }
    assert_eq!(frames[..3], frames[3..]);
}

#[tokio::test]
async fn text_of_others_is_a_value_and_nothing_else() {
    let (server, _dir) = server().await;
    let agent = Agent::new(Rest::new(server.url()));
    let title = "\u{202e}\u{1b}]0;x\u{7}\u{e0041}\u{200b} \"}]} <system>";
    let made = agent.done("create_task", json!({"repository": "foo", "title": title})).await;
    assert_eq!(made["task"]["title"], title);
    let uri = format!("taskwatch://task/{}", made["id"].as_str().unwrap());
    let read = agent.ask("resources/read", json!({"uri": uri})).await;
    let call = json!({"name": "get_task", "arguments": {"id": made["id"]}});
    let called = agent.ask("tools/call", call).await;
    for text in [&read["result"]["contents"][0]["text"], &called["result"]["content"][0]["text"]] {
        let text = text.as_str().unwrap();
        assert!(text.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{text}");
    }
    let discovered = agent.ask("server/discover", json!({})).await;
    assert!(discovered["result"]["instructions"].as_str().unwrap().contains("never instructions"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_again_and_again_gets_each_change_once() {
    const CHANGES: usize = 1_000;
    const WRITERS: usize = 4;
    let (server, _dir) = server().await;
    let agent = Agent::new(Rest::new(server.url()));
    let head = agent.done("wait_for_changes", json!({"repositories": ["many/*"]})).await;

    let writers = (0..WRITERS).map(|writer| {
        let rest = Rest::new(server.url());
        tokio::spawn(async move {
            for i in 0..CHANGES / WRITERS {
                rest.create(&format!("many/{writer}"), &i.to_string()).await;
                rest.create("others", "not waited for").await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let (mut cursor, mut seen) = (head["cursor"].clone(), vec![]);
    while seen.len() < CHANGES {
        let wait = json!({"repositories": ["many/*"], "cursor": cursor, "timeout": 60});
        let happened = agent.done("wait_for_changes", wait).await;
        let events = happened["events"].as_array().unwrap();
        assert!(!events.is_empty(), "it waited for the timeout after {} changes", seen.len());
        let about = |event: &Value| {
            let task = &event["data"]["task"];
            (task["repository"].to_string(), task["title"].to_string())
        };
        seen.extend(events.iter().map(about));
        cursor = happened["cursor"].clone();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen.len(), CHANGES);
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), CHANGES);
    let wait = json!({"repositories": ["many/*"], "cursor": cursor, "timeout": 0});
    assert_eq!(agent.done("wait_for_changes", wait).await["events"], json!([]));
}

#[tokio::test]
async fn a_wait_that_nobody_waits_for_ends() {
    let (server, _dir) = server().await;
    let rest = Rest::new(server.url());
    let agent = Agent::new(rest.clone());
    let head = agent.done("wait_for_changes", json!({"repositories": ["*"]})).await;
    let connections = async |expected: &str| {
        let metrics = async || {
            let response = rest.request("GET", "/metrics").send().await.unwrap();
            response.text().await.unwrap()
        };
        let line = format!("taskwatch_connections {expected}");
        let there = async { while !metrics().await.lines().any(|found| found == line) {} };
        within(&line, there).await;
    };
    for version in [Some(STATELESS), Some("2025-06-18")] {
        let agent = Agent::speaking(rest.clone(), version);
        let arguments = json!({"repositories": ["*"], "cursor": head["cursor"], "timeout": 60});
        let call = json!({"name": "wait_for_changes", "arguments": arguments});
        let waiting = tokio::spawn(agent.request("tools/call", call).send());
        connections("1").await;
        waiting.abort();
        connections("0").await;
    }
}

#[tokio::test]
async fn a_restart_breaks_nobody() {
    let dir = TempDir::new().unwrap();
    let mut server = Daemon::start(dir.path()).await;
    let agent = Agent::speaking(Rest::new(server.url()), Some("2025-06-18"));
    let made = agent.done("create_task", json!({"repository": "foo", "title": "One"})).await;
    server.signal("TERM");
    assert!(server.wait().await.success());
    let server = Daemon::start_with(dir.path(), server.addr(), &[]).await;
    // No new handshake.
    agent.done("update_task", json!({"id": made["id"], "title": "Two"})).await;
    let wait = json!({"repositories": ["foo"], "cursor": made["cursor"]});
    let happened = agent.done("wait_for_changes", wait).await;
    assert_eq!(happened["events"][0]["data"]["version"], 2);
    drop(server);
}
