//! Several changes at once, and what happened to a task.

use super::*;

impl Server {
    async fn batch(&self, operations: Value) -> Reply {
        let body = json!({"operations": operations});
        self.send(self.request("POST", "/api/v1/tasks:batch").json(&body)).await
    }
}

#[tokio::test]
async fn a_batch_is_made_together_and_answers_for_each() {
    let server = Server::start().await;
    let one = server.task("acme/api").await;
    let other = server.task("acme/api").await;
    let id = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let made = server
        .batch(json!([
            {"op": "create", "task": {"repository": "acme/web", "title": "New"}},
            {"op": "update", "id": id(&one), "patch": {"status": "completed"}, "if_match": 1},
            {"op": "update", "id": id(&one), "patch": {"title": "Two"}},
            {"op": "delete", "id": id(&other), "if_match": 1},
        ]))
        .await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    assert!(made.header("task-cursor").ends_with("-6"));
    let tasks = made.body["tasks"].as_array().unwrap();
    assert_eq!(tasks[0]["title"], "New");
    assert_eq!((&tasks[1]["status"], &tasks[1]["version"]), (&json!("completed"), &json!(2)));
    assert_eq!(server.get(&one).await.body, tasks[2]);
    assert_eq!(tasks[3], Value::Null);
    server.get(&other).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_refused_batch_names_the_operation_and_changes_nothing() {
    let server = Server::start().await;
    let path = server.task("acme/api").await;
    let id = path.rsplit('/').next().unwrap();
    let create = json!({"op": "create", "task": {"repository": "a", "title": "One"}});
    for (last, status, code) in [
        (json!({"op": "update", "id": id, "patch": {}, "if_match": 2}), 412, "version_conflict"),
        (json!({"op": "delete", "id": uuid::Uuid::nil()}), 404, "not_found"),
        (json!({"op": "update", "id": id, "patch": {"repository": "b"}}), 422, "invalid_task"),
        (json!({"op": "drop"}), 422, "invalid_task"),
    ] {
        let refused = server.batch(json!([create, last])).await;
        refused.problem(status, code);
        assert_eq!(refused.body["operation"], 1, "{}", refused.body);
    }
    for all in [json!([]), json!({}), json!(vec![&create; 101])] {
        let refused = server.batch(all).await;
        refused.problem(422, "invalid_task");
        assert_eq!(refused.body["operation"], Value::Null);
    }
    let list = server.get("/api/v1/tasks").await;
    assert_eq!(list.body["tasks"].as_array().unwrap().len(), 1);
    assert!(list.header("task-cursor").ends_with("-1"));
}

#[tokio::test]
async fn a_batch_with_a_key_is_made_once() {
    let server = Server::start().await;
    let body = json!({"operations": [
        {"op": "create", "task": {"repository": "a", "title": "One"}},
        {"op": "create", "task": {"repository": "b", "title": "Two"}},
    ]});
    let ask = || {
        let request = server.request("POST", "/api/v1/tasks:batch");
        server.send(request.header("idempotency-key", "k").json(&body))
    };
    let (first, again) = (ask().await, ask().await);
    assert_eq!((first.status, &first.body), (StatusCode::OK, &again.body));
    assert_eq!(first.header("task-cursor"), again.header("task-cursor"));
    let list = server.get("/api/v1/tasks").await;
    assert_eq!(list.body["tasks"], first.body["tasks"]);
}

#[tokio::test]
async fn a_history_comes_in_pages_and_outlives_the_task() {
    let server = Server::start().await;
    let path = server.task("acme/api").await;
    server.task("acme/api").await;
    server.patch(&path, json!({"title": "Two"})).await;
    server.send(server.request("DELETE", &path)).await;
    let mut kinds = Vec::new();
    let mut next = Some(format!("{path}/events?limit=2"));
    while let Some(address) = next {
        let page = server.get(&address).await;
        assert_eq!(page.status, StatusCode::OK);
        for event in page.body["events"].as_array().unwrap() {
            kinds.push(event["type"].as_str().unwrap().to_owned());
            assert!(path.ends_with(event["data"]["task_id"].as_str().unwrap()));
        }
        let link = page.header("link").strip_prefix('<');
        next = link.map(|link| link.strip_suffix(">; rel=\"next\"").unwrap().to_owned());
        assert_eq!(next.is_some(), page.body["next"].is_string());
    }
    assert_eq!(kinds, ["task.created", "task.updated", "task.deleted"]);
    let nobody = format!("/api/v1/tasks/{}/events", uuid::Uuid::nil());
    server.get(&nobody).await.problem(404, "not_found");
    server.get(&format!("{path}/events?page=7")).await.problem(400, "bad_message");
    server.get(&format!("{path}/events?since=7")).await.problem(400, "bad_message");
}
