//! What a token gives leave to, and no more.

use taskwatch_server::{Token, TokenGrant, TokensFile};

use super::*;

/// A server that knows one who reads everything and writes, and one who may only write.
async fn server() -> (Server, Token, Token) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("tokens");
    let token = |id: &str, read: &[&str]| {
        let patterns =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let (read, write) = (patterns(read), patterns(&["*"]));
        let id = id.to_owned();
        TokensFile::add(&file, TokenGrant { id, read, write, ..TokenGrant::default() }).unwrap()
    };
    let (clerk, writer) = (token("clerk", &["*"]), token("writer", &[]));
    let mut settings = settings(&dir);
    settings.auth.tokens = Some(file);
    let app = App::start(settings).await.unwrap();
    (Server::of(app, dir), clerk, writer)
}

#[tokio::test]
async fn who_may_only_write_reads_nothing_by_writing() {
    let (server, clerk, writer) = server().await;
    let body = json!({"repository": "a", "title": "hidden"});
    let post = server.request("POST", "/api/v1/tasks").bearer_auth(clerk.expose()).json(&body);
    let path = server.send(post).await.header("location").to_owned();
    for patch in [json!({}), json!({"status": "completed"})] {
        for key in ["once", "once", "again"] {
            let request = server.request("PATCH", &path).bearer_auth(writer.expose());
            let key = format!("{key}{patch}").replace(' ', "");
            let reply = server.send(request.header("idempotency-key", key).json(&patch)).await;
            assert_eq!((reply.status, &reply.body), (StatusCode::NO_CONTENT, &Value::Null));
            assert!(!reply.header("etag").is_empty() && !reply.header("task-cursor").is_empty());
        }
    }
    let read =
        |token: &Token| server.send(server.request("GET", &path).bearer_auth(token.expose()));
    assert_eq!(read(&clerk).await.body["status"], "completed");
    read(&writer).await.problem(404, "not_found");
    for list in ["/api/v1/tasks", "/api/v1/tasks?repository=a"] {
        let list = server.request("GET", list).bearer_auth(writer.expose());
        assert_eq!(server.send(list).await.body, json!({"tasks": [], "next": null}));
    }
}

#[tokio::test]
async fn the_page_asks_nobody_and_is_guarded_all_the_same() {
    let (server, clerk, writer) = server().await;
    let page = server.request("GET", "/").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let tag = page.headers()["etag"].clone();
    assert!(page.text().await.unwrap().starts_with("<!doctype html>"));
    let again = server.request("GET", "/").header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);

    server.get("/page/nothing.js").await.problem(404, "not_found");
    server.send(server.request("POST", "/")).await.problem(405, "method_not_allowed");
    let foreign = server.request("GET", "/").header("host", "evil.example");
    server.send(foreign).await.problem(403, "host");
    let foreign = server.request("GET", "/taskwatch.js").header("origin", "https://evil.example");
    server.send(foreign).await.problem(403, "origin");

    server.get("/api/v1/me").await.problem(401, "unauthorized");
    for (token, read, name) in [(clerk, json!(["*"]), "clerk"), (writer, json!([]), "writer")] {
        let me = server.request("GET", "/api/v1/me").bearer_auth(token.expose());
        let known = json!({"subject": name, "read": read, "write": ["*"], "expires": null});
        assert_eq!(server.send(me).await.body, known);
    }
}
