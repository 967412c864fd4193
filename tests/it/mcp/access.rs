//! Who may see and do what.

use serde_json::{Value, json};
use taskwatch_tests::{Daemon, Grant, Rest, TokensFile, within};
use tempfile::TempDir;

use crate::support::Agent;

struct Office {
    server: Daemon,
    tokens: TokensFile,
    _dir: TempDir,
}

fn grants() -> Vec<Grant> {
    vec![
        Grant::new("ana", "token-of-ana").reading(&["a"]).writing(&["a"]),
        Grant::new("reader", "token-of-reader").reading(&["a"]),
        Grant::new("writer", "token-of-writer").writing(&["b"]),
        Grant::new("ben", "token-of-ben").reading(&["b", "c/*"]).writing(&["b", "c/*"]),
    ]
}

impl Office {
    async fn open() -> Self {
        let dir = TempDir::new().unwrap();
        let tokens = TokensFile::new(dir.path(), &grants());
        let args = ["--tokens", tokens.path()];
        let server = Daemon::start_with(&dir.path().join("data"), "127.0.0.1:0", &args).await;
        Self { server, tokens, _dir: dir }
    }

    fn agent(&self, who: &str) -> Agent {
        Agent::new(Rest::new(self.server.url()).token(&format!("token-of-{who}")))
    }
}

#[tokio::test]
async fn nothing_of_a_repository_that_may_not_be_read_is_told() {
    let office = Office::open().await;
    let (ana, ben) = (office.agent("ana"), office.agent("ben"));
    let head = ana.done("wait_for_changes", json!({"repositories": ["*"]})).await;
    let secret =
        ben.done("create_task", json!({"repository": "b", "title": "secret-of-ben"})).await;
    let own = ana.done("create_task", json!({"repository": "a", "title": "One"})).await;
    ben.done("create_task", json!({"repository": "c/d", "title": "secret-of-ben"})).await;
    assert_eq!(own["task"]["title"], "One");

    // What is there and what is not look the same.
    let id = secret["id"].as_str().unwrap();
    let nobody = "00000000-0000-7000-8000-000000000000";
    let both = async |tool: &str, arguments: &dyn Fn(&str, &str) -> Value| {
        let there = ana.call(tool, arguments(id, "b")).await;
        let not_there = ana.call(tool, arguments(nobody, "nowhere")).await;
        assert_eq!(there, not_there, "{tool}");
        there
    };
    for (tool, arguments) in [
        (
            "create_task",
            &(|_: &str, name: &str| json!({"repository": name, "title": "x"}))
                as &dyn Fn(&str, &str) -> Value,
        ),
        ("get_task", &|id: &str, _: &str| json!({"id": id})),
        ("update_task", &|id: &str, _: &str| json!({"id": id, "title": "x"})),
        ("update_task", &|id: &str, _: &str| json!({"id": id, "title": "x", "if_match": 7})),
        ("delete_task", &|id: &str, _: &str| json!({"id": id})),
        ("batch_tasks", &|id: &str, _: &str| json!({"operations": [{"op": "delete", "id": id}]})),
        ("wait_for_changes", &|_: &str, name: &str| json!({"repositories": [name]})),
        ("wait_for_changes", &|_: &str, name: &str| json!({"repositories": [name], "cursor": "x"})),
    ] {
        let (said, is_error) = both(tool, arguments).await;
        assert!(is_error && said["error"]["code"] == "not_found", "{tool}: {said}");
    }
    let (listed, _) = both("list_tasks", &|_, name| json!({"repository": name})).await;
    assert_eq!(listed["tasks"], json!([]));

    let everything = ana.done("list_tasks", json!({})).await;
    assert_eq!(everything["tasks"], json!([own["task"]]));
    let wait = json!({"repositories": ["*", "b"], "cursor": head["cursor"]});
    let happened = ana.done("wait_for_changes", wait).await;
    assert_eq!(happened["events"].as_array().unwrap().len(), 1, "{happened}");
    assert!(!happened.to_string().contains("secret-of-ben"));

    let resources = ana.ask("resources/list", json!({})).await;
    let uris: Vec<_> = resources["result"]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| &found["uri"])
        .collect();
    assert_eq!(uris, ["taskwatch://repository/a"]);
    let resources = ben.ask("resources/list", json!({})).await;
    assert_eq!(resources["result"]["resources"].as_array().unwrap().len(), 2);
    for (there, not_there) in [
        (format!("taskwatch://task/{id}"), format!("taskwatch://task/{nobody}")),
        ("taskwatch://repository/b".into(), "taskwatch://repository/nowhere".into()),
    ] {
        let read = async |uri: &str| {
            let mut error = ana.ask("resources/read", json!({"uri": uri})).await["error"].clone();
            assert_eq!(error["data"]["uri"].take(), uri);
            error.to_string()
        };
        assert_eq!(read(&there).await, read(&not_there).await);
    }

    // Nor is it told that something happens there.
    let (there, not_there) =
        (format!("taskwatch://task/{id}"), format!("taskwatch://task/{nobody}"));
    let own = "taskwatch://repository/a";
    let mut listening = ana.listen(&[&there, &not_there, "taskwatch://repository/b", own]).await;
    assert_eq!([listening.updated().await, listening.updated().await], [there, not_there]);
    ben.done("update_task", json!({"id": id, "title": "secret-of-ben too"})).await;
    ana.done("create_task", json!({"repository": "a", "title": "Two"})).await;
    assert_eq!(listening.updated().await, own);
}

#[tokio::test]
async fn reading_is_not_writing_and_writing_is_not_reading() {
    let office = Office::open().await;
    let (ana, ben) = (office.agent("ana"), office.agent("ben"));
    let task = ana.done("create_task", json!({"repository": "a", "title": "One"})).await;
    let reader = office.agent("reader");
    reader.done("get_task", json!({"id": task["id"]})).await;
    let update = json!({"id": task["id"], "title": "Two"});
    assert_eq!(reader.refused("update_task", update).await["code"], "forbidden");

    let task = ben.done("create_task", json!({"repository": "b", "title": "secret-of-ben"})).await;
    let writer = office.agent("writer");
    // Who makes a task knows what is in it.
    let made = writer.done("create_task", json!({"repository": "b", "title": "Mine"})).await;
    assert_eq!(made["task"]["title"], "Mine");
    let updated =
        writer.done("update_task", json!({"id": task["id"], "status": "completed"})).await;
    let operations = json!([{"op": "update", "id": task["id"], "patch": {"priority": "high"}}]);
    let batch = writer.done("batch_tasks", json!({"operations": operations})).await;
    for said in [updated, batch] {
        assert!(!said.to_string().contains("secret-of-ben"), "{said}");
    }
    assert_eq!(writer.refused("get_task", json!({"id": task["id"]})).await["code"], "not_found");
}

#[tokio::test]
async fn who_is_let_in_elsewhere_is_let_in_here_and_nobody_else() {
    let office = Office::open().await;
    let nobody = Rest::new(office.server.url());
    let refused = Agent::new(nobody).request("tools/list", json!({})).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");

    let dir = TempDir::new().unwrap();
    let args = [
        "--anonymous",
        "--allow-host",
        "tasks.example.com",
        "--allow-origin",
        "https://ui.example.com",
    ];
    let public = Daemon::start_with(dir.path(), "127.0.0.1:0", &args).await;
    let agent = Agent::new(Rest::new(public.url()));
    for (name, value, status, code) in [
        ("host", "tasks.example.com", 200, Value::Null),
        ("host", "127.0.0.1", 200, Value::Null),
        ("host", "evil.example.com", 403, json!("host")),
        ("origin", "https://ui.example.com", 200, Value::Null),
        ("origin", "https://evil.example.com", 403, json!("origin")),
        ("origin", "http://localhost:3000", 403, json!("origin")),
    ] {
        let request = agent.request("tools/list", json!({})).header(name, value);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{name}: {value}");
        assert_eq!(response.json::<Value>().await.unwrap()["code"], code, "{name}: {value}");
    }
}

#[tokio::test]
async fn who_is_let_go_stops_listening_and_waiting() {
    let office = Office::open().await;
    let ana = office.agent("ana");
    let task = ana.done("create_task", json!({"repository": "a", "title": "One"})).await;
    let mut listening = ana.listen(&["taskwatch://repository/a"]).await;
    let arguments = json!({"repositories": ["a"], "cursor": task["cursor"], "timeout": 60});
    let call = json!({"name": "wait_for_changes", "arguments": arguments});
    let waiting = tokio::spawn(ana.request("tools/call", call).send());
    office.tokens.replace(&grants()[1..]);
    // The stream ends with its answer, as when a server stops.
    assert!(listening.next().await.unwrap().get("result").is_some());
    assert_eq!(listening.next().await, None);
    let refused = office.agent("ana").request("tools/list", json!({})).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    // It was told so, or it came too late to be let in.
    let response = within("the end of a wait", waiting).await.unwrap().unwrap();
    let (status, answer) = (response.status(), response.json::<Value>().await.unwrap());
    assert!(status == 401 || answer["result"]["isError"] == true, "{answer}");
}

#[tokio::test]
async fn the_tokens_of_others_end_nothing() {
    let office = Office::open().await;
    let ana = office.agent("ana");
    let task = ana.done("create_task", json!({"repository": "a", "title": "One"})).await;
    let mut listening = ana.listen(&["taskwatch://repository/a"]).await;
    let arguments = json!({"repositories": ["a"], "cursor": task["cursor"], "timeout": 60});
    let waiting = tokio::spawn(async move { ana.done("wait_for_changes", arguments).await });
    let eve = Grant::new("eve", "token-of-eve").reading(&["a"]).writing(&["a"]);
    office.tokens.replace(&[grants(), vec![eve]].concat());
    let eve = office.agent("eve");
    let known = async {
        let ask = async || eve.request("tools/list", json!({})).send().await.unwrap().status();
        while ask().await != 200 {}
    };
    within("the new token", known).await;
    eve.done("update_task", json!({"id": task["id"], "title": "Two"})).await;
    assert_eq!(listening.updated().await, "taskwatch://repository/a");
    let happened = within("the end of a wait", waiting).await.unwrap();
    assert_eq!(happened["events"][0]["data"]["changed_by"], "eve");
}

#[tokio::test]
async fn who_listens_takes_a_place_also_if_there_is_nothing_to_tell() {
    let dir = TempDir::new().unwrap();
    let tokens = TokensFile::new(dir.path(), &grants());
    let args = ["--tokens", tokens.path(), "--max-connections-per-principal", "1"];
    let server = Daemon::start_with(&dir.path().join("data"), "127.0.0.1:0", &args).await;
    let agent = |who: &str| Agent::new(Rest::new(server.url()).token(&format!("token-of-{who}")));
    let ana = agent("ana");
    let full = async {
        loop {
            // A call that comes before the stream has its place takes it: the stream then ends.
            let _listening =
                ana.listen(&["taskwatch://task/00000000-0000-7000-8000-000000000000"]).await;
            let (said, is_error) =
                ana.call("wait_for_changes", json!({"repositories": ["a"]})).await;
            if is_error {
                return said["error"]["code"].clone();
            }
        }
    };
    assert_eq!(within("no place left", full).await, "rate_limited");
    // Who may read nothing is told so by the end.
    let mut nothing = agent("writer").listen(&["taskwatch://repository/b"]).await;
    assert!(nothing.next().await.unwrap().get("result").is_some());
}
