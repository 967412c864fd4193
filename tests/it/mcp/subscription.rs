//! Resources that tell of themselves.

use serde_json::{Value, json};
use taskwatch_tests::{Daemon, Rest};
use tempfile::TempDir;

use super::server;
use crate::support::Agent;

#[tokio::test]
async fn who_listens_is_told_of_what_they_asked_for() {
    let (server, _dir) = server().await;
    let agent = Agent::new(Rest::new(server.url()));
    let create = async |name: &str| {
        let made = agent.done("create_task", json!({"repository": name, "title": "One"})).await;
        made["id"].as_str().unwrap().to_owned()
    };
    let (first, second) = (create("foo").await, create("foo").await);
    let of = |id: &str| format!("taskwatch://task/{id}");
    let mut tasks = agent.listen(&[&of(&first)]).await;
    let mut repositories =
        agent.listen(&["taskwatch://repository/foo", "taskwatch://repository/not-yet"]).await;

    create("bar").await;
    agent.done("update_task", json!({"id": second, "title": "Two"})).await;
    assert_eq!(repositories.updated().await, "taskwatch://repository/foo");
    agent.done("update_task", json!({"id": first, "title": "Two"})).await;
    assert_eq!(tasks.updated().await, of(&first));
    assert_eq!(repositories.updated().await, "taskwatch://repository/foo");
    create("not-yet").await;
    assert_eq!(repositories.updated().await, "taskwatch://repository/not-yet");
    agent.done("delete_task", json!({"id": first})).await;
    assert_eq!(tasks.updated().await, of(&first));
}

#[tokio::test]
async fn a_name_of_nothing_is_not_accepted() {
    let (server, _dir) = server().await;
    let agent = Agent::new(Rest::new(server.url()));
    let uris = ["taskwatch://repository/foo", "file:///etc/passwd", "taskwatch://repository/*"];
    let params =
        json!({"notifications": {"resourceSubscriptions": uris, "toolsListChanged": true}});
    let mut response = agent.request("subscriptions/listen", params).send().await.unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    let text = std::str::from_utf8(&first).unwrap();
    let data = text.lines().find_map(|line| line.strip_prefix("data:")).unwrap();
    let accepted: Value = serde_json::from_str(data).unwrap();
    assert_eq!(
        accepted["params"]["notifications"],
        json!({"resourceSubscriptions": ["taskwatch://repository/foo"]})
    );
}

/// It may have gone while they came.
#[tokio::test]
async fn who_listens_to_a_task_that_is_not_there_is_told_at_once() {
    let (server, _dir) = server().await;
    let agent = Agent::new(Rest::new(server.url()));
    let made = agent.done("create_task", json!({"repository": "foo", "title": "One"})).await;
    agent.done("delete_task", json!({"id": made["id"]})).await;
    let uri = format!("taskwatch://task/{}", made["id"].as_str().unwrap());
    let mut listening = agent.listen(&[&uri, "taskwatch://repository/foo"]).await;
    assert_eq!(listening.updated().await, uri);
    agent.done("create_task", json!({"repository": "foo", "title": "Two"})).await;
    assert_eq!(listening.updated().await, "taskwatch://repository/foo");
}

#[tokio::test]
async fn a_server_that_stops_ends_what_it_tells() {
    let dir = TempDir::new().unwrap();
    let mut server = Daemon::start(dir.path()).await;
    let agent = Agent::new(Rest::new(server.url()));
    let mut some = agent.listen(&["taskwatch://repository/foo"]).await;
    let mut nothing = agent.listen(&["taskwatch://nothing"]).await;
    server.signal("TERM");
    for listening in [&mut some, &mut nothing] {
        assert!(listening.next().await.unwrap().get("result").is_some());
        assert_eq!(listening.next().await, None);
    }
    assert!(server.wait().await.success());
}
