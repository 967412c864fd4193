//! Requests that bring an `Idempotency-Key`.

use futures_util::future::join_all;

use super::*;

/// An answer in the bytes it came in, without the time of its sending.
#[derive(Debug, PartialEq)]
struct Raw {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: String,
}

impl Server {
    async fn raw(&self, request: RequestBuilder) -> Raw {
        let response = request.send().await.unwrap();
        let headers = response
            .headers()
            .iter()
            .filter(|(name, _)| *name != header::DATE)
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let status = response.status();
        Raw { status, headers, body: response.text().await.unwrap() }
    }

    fn keyed(&self, method: &str, path: &str, key: &str) -> RequestBuilder {
        self.request(method, path).header("idempotency-key", key)
    }

    fn keyed_post(&self, key: &str, title: &str) -> RequestBuilder {
        let body = json!({"repository": "acme/api", "title": title});
        self.keyed("POST", "/api/v1/tasks", key).json(&body)
    }

    /// How many events there are, by making one more.
    async fn events(&self) -> u64 {
        let made = self.post(json!({"repository": "acme/count", "title": "One"})).await;
        made.header("task-cursor").rsplit('-').next().unwrap().parse::<u64>().unwrap() - 1
    }
}

#[tokio::test]
async fn each_change_is_answered_alike_however_often_it_is_asked_for() {
    let server = Server::start().await;
    let made = server.send(server.keyed_post("create", "One")).await;
    let path = made.header("location").to_owned();
    let update = || {
        let request = server.keyed("PATCH", &path, "update").header("if-match", "\"v1\"");
        request.json(&json!({"title": "Two"}))
    };
    let same = || server.keyed("PATCH", &path, "same").json(&json!({"title": "Two"}));
    let delete = || server.keyed("DELETE", &path, "delete").header("if-match", "\"v2\"");
    let create = || server.keyed_post("create", "One");

    let requests: [&dyn Fn() -> RequestBuilder; 4] = [&create, &update, &same, &delete];
    let mut first = Vec::new();
    for request in requests {
        first.push(server.raw(request()).await);
    }
    let statuses: Vec<_> = first.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses, [201, 200, 200, 204]);
    let named = |answer: &Raw, name| answer.headers.iter().any(|(header, _)| header == name);
    assert!(first.iter().all(|answer| named(answer, "task-cursor")));
    assert!(named(&first[0], "location") && first[..3].iter().all(|answer| named(answer, "etag")));

    // The task is gone, and no If-Match holds any more.
    for (request, first) in requests.iter().zip(&first) {
        assert_eq!(server.raw(request()).await, *first);
    }
    assert_eq!(server.events().await, 3);

    let Server { app, dir, client } = server;
    drop(client);
    app.shutdown().await;
    let server = Server::at(dir).await;
    assert_eq!(server.raw(server.keyed_post("create", "One")).await, first[0]);
    let delete = server.keyed("DELETE", &path, "delete");
    assert_eq!(server.raw(delete).await, first[3], "If-Match is no part of what is asked");
    assert_eq!(server.events().await, 4);
}

#[tokio::test]
async fn another_request_with_the_key_is_refused() {
    let server = Server::start().await;
    let made = server.send(server.keyed_post("k", "One")).await;
    let (path, other) = (made.header("location"), server.task("acme/api").await);
    let patch = |path| server.keyed("PATCH", path, "p").json(&json!({"title": "Two"}));
    assert_eq!(server.send(patch(path)).await.status, StatusCode::OK);
    for request in [
        server.keyed_post("k", "Two"),
        server.keyed("DELETE", path, "k"),
        // The same words in another order are another request.
        server
            .keyed("POST", "/api/v1/tasks", "k")
            .header("content-type", "application/json")
            .body(r#"{"title":"One","repository":"acme/api"}"#),
        patch(&other),
        server.keyed("DELETE", path, "p"),
    ] {
        server.send(request).await.problem(422, "idempotency_mismatch");
    }
    assert_eq!(server.events().await, 3);
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let server = Server::start().await;
    let path = server.task("acme/api").await;
    let update = |tag| {
        let request = server.keyed("PATCH", &path, "k").header("if-match", tag);
        request.json(&json!({"title": "Two"}))
    };
    server.send(update("\"v2\"")).await.problem(412, "version_conflict");
    server.send(server.keyed_post("k", "")).await.problem(422, "invalid_task");
    let nobody = "/api/v1/tasks/00000000-0000-7000-8000-000000000000";
    server.send(server.keyed("DELETE", nobody, "k")).await.problem(404, "not_found");
    assert_eq!(server.send(update("\"v1\"")).await.status, StatusCode::OK);
    assert_eq!(server.send(update("\"v9\"")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_is_one_word_of_visible_ascii() {
    let server = Server::start().await;
    let path = server.task("acme/api").await;
    let patch = |request: RequestBuilder| request.json(&json!({"title": "Two"}));
    for bad in [&b""[..], b"a b", b"k\xc3\xbc", b"\xff", &[b'k'; 256]] {
        let with = |method, path| server.request(method, path).header("idempotency-key", bad);
        let post = with("POST", "/api/v1/tasks").json(&json!({"repository": "a", "title": "One"}));
        server.send(post).await.problem(400, "bad_message");
        server.send(patch(with("PATCH", &path))).await.problem(400, "bad_message");
        server.send(with("DELETE", &path)).await.problem(400, "bad_message");
        // Reading is repeated without a key.
        assert_eq!(server.send(with("GET", &path)).await.status, StatusCode::OK);
    }
    let twice = server.keyed("DELETE", &path, "k").header("idempotency-key", "k");
    server.send(twice).await.problem(400, "bad_message");
    let longest = "~".repeat(255);
    assert_eq!(server.send(patch(server.keyed("PATCH", &path, &longest))).await.status, 200);
    assert_eq!(server.events().await, 2);
}

#[tokio::test]
async fn ten_at_once_make_one_task_and_get_one_answer() {
    let server = Server::start().await;
    let answers = join_all((0..10).map(|_| server.raw(server.keyed_post("k", "One")))).await;
    assert_eq!(answers[0].status, StatusCode::CREATED);
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    let list = server.get("/api/v1/tasks").await;
    assert_eq!(list.body["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(server.events().await, 1);
}
