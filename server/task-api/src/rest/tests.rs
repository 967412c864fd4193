//! REST from outside: a real server on a real port.

mod access;
mod batch;
mod conditions;
mod monitor;
mod once;
mod openapi;

use std::collections::HashSet;

use clap::Parser;
use reqwest::{Client, Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{App, Settings, StartError};

struct Server {
    app: App,
    dir: TempDir,
    client: Client,
}

/// What came back: status, headers, and the body as JSON.
struct Reply {
    status: StatusCode,
    headers: header::HeaderMap,
    body: Value,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that this is a problem with this status and code, and returns what it says.
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> &str {
        assert_eq!(
            (self.status.as_u16(), &self.body["code"]),
            (status, &json!(code)),
            "{}",
            self.body
        );
        assert_eq!(self.header("content-type"), "application/problem+json");
        self.body["detail"].as_str().unwrap()
    }
}

fn settings(dir: &TempDir) -> Settings {
    let data = dir.path().to_str().unwrap();
    Settings::parse_from(["taskwatchd", "--listen", "127.0.0.1:0", "--data", data])
}

impl Server {
    async fn start() -> Self {
        Self::at(TempDir::new().unwrap()).await
    }

    async fn at(dir: TempDir) -> Self {
        let app = App::start(settings(&dir)).await.unwrap();
        Self::of(app, dir)
    }

    fn of(app: App, dir: TempDir) -> Self {
        // Its TLS, which is not used here, wants a provider all the same; the first one stays.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self { app, dir, client: Client::new() }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.app.addr()))
    }

    async fn send(&self, request: RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        Reply { status, headers, body }
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(self.request("GET", path)).await
    }

    async fn post(&self, body: Value) -> Reply {
        self.send(self.request("POST", "/api/v1/tasks").json(&body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Reply {
        self.send(self.request("PATCH", path).json(&body)).await
    }

    /// Makes a task and returns its path.
    async fn task(&self, repository: &str) -> String {
        let made = self.post(json!({"repository": repository, "title": "One"})).await;
        made.header("location").to_owned()
    }
}

#[tokio::test]
async fn a_task_lives() {
    let server = Server::start().await;
    let made = server.post(json!({"repository": "acme/api", "title": "One", "tags": ["a"]})).await;
    assert_eq!((made.status, made.header("etag")), (StatusCode::CREATED, "\"v1\""));
    assert!(made.header("task-cursor").ends_with("-1"));
    let path = made.header("location").to_owned();
    assert_eq!(path, format!("/api/v1/tasks/{}", made.body["id"].as_str().unwrap()));

    let read = server.get(&path).await;
    assert_eq!(
        (read.status, read.header("etag"), &read.body),
        (StatusCode::OK, "\"v1\"", &made.body)
    );

    let merge =
        server.request("PATCH", &path).header("content-type", "application/merge-patch+json");
    let patched = server.send(merge.body(r#"{"status":"completed","tags":null}"#)).await;
    assert_eq!((patched.status, patched.header("etag")), (StatusCode::OK, "\"v2\""));
    assert_eq!(patched.body["tags"], json!([]));
    assert!(patched.header("task-cursor").ends_with("-2"));

    let again = server.patch(&path, json!({"status": "completed"})).await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &patched.body));
    assert_eq!(again.header("task-cursor"), patched.header("task-cursor"));

    let deleted = server.send(server.request("DELETE", &path)).await;
    assert_eq!((deleted.status, deleted.body.is_null()), (StatusCode::NO_CONTENT, true));
    assert!(deleted.header("task-cursor").ends_with("-3"));
    server.get(&path).await.problem(404, "not_found");
    server.patch(&path, json!({})).await.problem(404, "not_found");
    server.send(server.request("DELETE", &path)).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_version_can_be_insisted_on() {
    let server = Server::start().await;
    let path = server.task("acme/api").await;
    for (tag, met) in [
        ("\"v2\"", false),
        ("W/\"v1\"", false),
        ("v1", false),
        ("\"other\"", false),
        ("\"v9\", \"v1\"", true),
        ("*", true),
    ] {
        let request = server.request("PATCH", &path).header("if-match", tag).json(&json!({}));
        let reply = server.send(request).await;
        if met {
            assert_eq!(reply.status, StatusCode::OK, "{tag}");
        } else {
            reply.problem(412, "version_conflict");
        }
    }
    let delete = server.request("DELETE", &path);
    server.send(delete.header("if-match", "\"v2\"")).await.problem(412, "version_conflict");
    let delete = server.request("DELETE", &path).header("if-match", "\"v1\"");
    assert_eq!(server.send(delete).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let server = Server::start().await;
    let path = server.task("acme/api").await;
    let post = |kind: &'static str, body: &'static str| {
        server.send(server.request("POST", "/api/v1/tasks").header("content-type", kind).body(body))
    };

    post("application/json", "{").await.problem(400, "bad_message");
    post("text/plain", "{}").await.problem(415, "unsupported_media_type");
    post("application/merge-patch+json", "{}").await.problem(415, "unsupported_media_type");
    post("application/json; charset=utf-8", "[]").await.problem(422, "invalid_task");
    let detail = server.post(json!({"repository": "a b", "title": "One"})).await;
    assert!(detail.problem(422, "invalid_task").starts_with("repository: "));
    let detail = server.patch(&path, json!({"version": 3})).await;
    assert_eq!(detail.problem(422, "invalid_task"), "version: is written by the server alone");
    server.patch(&path, json!({"title": null})).await.problem(422, "invalid_task");

    server.get("/nowhere").await.problem(404, "not_found");
    server.get("/api/v1/tasks/17").await.problem(404, "not_found");
    server.get("/api/v1/tasks/%ff").await.problem(404, "not_found");
    let refused = server.send(server.request("PUT", &path)).await;
    refused.problem(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), "GET,HEAD,PATCH,DELETE");

    for query in
        ["limit=0", "limit=1001", "limit=x", "limit=", "page=x", "status=done", "repo=a&repo=b"]
    {
        server.get(&format!("/api/v1/tasks?{query}")).await.problem(400, "bad_message");
    }
    server.get("/api/v1/tasks?repository=a%20b").await.problem(400, "invalid_name");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_so_that_the_sender_can_read_it() {
    let server = Server::start().await;
    let body = vec![b' '; 4 * 1024 * 1024];
    let request =
        server.request("POST", "/api/v1/tasks").header("content-type", "application/json");
    server.send(request.body(body)).await.problem(413, "too_large");

    // The title is too long, so this body was read to its end.
    let title = "x".repeat(256 * 1024 - 64);
    server.post(json!({"repository": "a", "title": title})).await.problem(422, "invalid_task");

    // 64 KiB of text may be six times as much JSON: the event would be too large, the body is not.
    let escaped = "\\u0001".repeat(43_620);
    let body = format!(r#"{{"repository":"a","title":"One","description":"{escaped}"}}"#);
    assert!(body.len() < 256 * 1024);
    let request =
        server.request("POST", "/api/v1/tasks").header("content-type", "application/json");
    server.send(request.body(body)).await.problem(413, "too_large");
}

#[tokio::test]
async fn pages_show_each_task_once_also_while_tasks_are_made() {
    let server = Server::start().await;
    let mut made = HashSet::new();
    for _ in 0..5 {
        made.insert(server.task("acme/a+b").await);
        server.task("acme/web").await;
    }
    let (mut seen, mut path) = (Vec::new(), "/api/v1/tasks?repo=acme/a%2Bb&limit=2".to_owned());
    loop {
        let page = server.get(&path).await;
        assert_eq!(page.status, StatusCode::OK);
        for task in page.body["tasks"].as_array().unwrap() {
            assert_eq!(task["repository"], "acme/a+b");
            seen.push(format!("/api/v1/tasks/{}", task["id"].as_str().unwrap()));
        }
        server.task("acme/web").await;
        let Some(next) = page.body["next"].as_str() else {
            assert_eq!(page.header("link"), "");
            break;
        };
        let link = page.header("link");
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        assert!(path.contains(next), "{link}");
    }
    assert!(seen.is_sorted());
    assert_eq!(seen.len(), 5);
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), made);
    let exact = server.get("/api/v1/tasks?limit=5&repository=acme/a%2Bb").await;
    assert!(exact.body["next"].is_null(), "nothing follows a last page that is just full");
}

#[tokio::test]
async fn a_list_can_be_of_one_status() {
    let server = Server::start().await;
    server.task("acme/api").await;
    let path = server.task("acme/api").await;
    let done = server.patch(&path, json!({"status": "completed"})).await;
    let list = server.get("/api/v1/tasks?status=completed").await;
    assert_eq!(list.body, json!({"tasks": [done.body], "next": null}));
    assert_eq!(server.get("/api/v1/tasks").await.body["tasks"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_restart_keeps_what_was_acknowledged() {
    let server = Server::start().await;
    let path = server.task("acme/api").await;
    let before = server.get(&path).await;
    let Server { app, dir, client } = server;
    drop(client);
    app.shutdown().await;
    let server = Server::at(dir).await;
    assert_eq!(server.get(&path).await.body, before.body);
    let patched = server.patch(&path, json!({"title": "Two"})).await;
    assert!(patched.header("task-cursor").ends_with("-2"));
}

#[tokio::test]
async fn health_is_told() {
    let server = Server::start().await;
    let response = server.request("GET", "/healthz").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.text().await.unwrap(), "ok\n");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let request = server.request("GET", "/healthz").header("x-long", "x".repeat(20_000));
    assert_eq!(request.send().await.unwrap().status().as_u16(), 431);
}

#[tokio::test]
async fn an_upgrade_hands_over_the_socket_itself() {
    use axum::extract::Request;
    use hyper_util::rt::TokioIo;
    use hyper_util::server::conn::auto::upgrade::downcast;

    let upgrade = async |mut request: Request| {
        let upgraded = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>().unwrap();
        tokio::spawn(async move {
            let parts = downcast::<TokioIo<TcpStream>>(upgraded.await.unwrap()).unwrap();
            let mut socket = parts.io.into_inner();
            assert!(socket.nodelay().unwrap());
            socket.write_all(b"raw").await.unwrap();
        });
        let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket")];
        (StatusCode::SWITCHING_PROTOCOLS, headers)
    };
    let router = axum::Router::new().route("/", axum::routing::get(upgrade));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let limits = settings(&TempDir::new().unwrap()).limits.http(vec![]);
    let handle = axum_server::Handle::new();
    let incoming = crate::listener::Door::new(&limits).incoming(listener);
    tokio::spawn(crate::listener::serve(incoming, None, router, handle, limits));

    let mut socket = TcpStream::connect(addr).await.unwrap();
    let request =
        b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 101 ") && reply.ends_with("\r\n\r\nraw"), "{reply}");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let server = Server::start().await;
    let locked = App::start(settings(&server.dir)).await.unwrap_err();
    assert!(matches!(locked, StartError::Store(crate::OpenError::Locked { .. })), "{locked}");

    let dir = TempDir::new().unwrap();
    let taken = Settings { listen: server.app.addr(), ..settings(&dir) };
    let taken = App::start(taken).await.unwrap_err();
    assert!(matches!(taken, StartError::Listen { .. }), "{taken}");

    let open = Settings { listen: "0.0.0.0:0".parse().unwrap(), ..settings(&dir) };
    let open = App::start(open).await.unwrap_err();
    assert!(matches!(open, StartError::Settings(_)), "{open}");
}
