//! Who gets a connection, and what the others are told.

use reqwest::Response;
use serde_json::Value;
use taskwatch_tests::{Daemon, RawClient, Rest};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

async fn server() -> (TempDir, Daemon) {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    (data, daemon)
}

/// Asks for an upgrade with these headers beside those of the handshake.
async fn upgrade(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Rest::new(daemon.url())
        .request("GET", path)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    for &(name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await.unwrap()
}

/// The problem in a refusal.
async fn problem(response: Response, status: u16, code: &str) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body = response.text().await.unwrap();
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((problem["status"].as_u64(), &problem["code"]), (Some(status.into()), &code.into()));
    body
}

#[tokio::test]
async fn without_a_version_the_refusal_says_what_is_missing() {
    let (_data, daemon) = server().await;
    let body = problem(upgrade(&daemon, "/ws", &[]).await, 400, "version_missing").await;
    assert!(body.contains("Missing X-Version header"), "{body}");
}

#[tokio::test]
async fn another_version_is_told_what_is_served() {
    let (_data, daemon) = server().await;
    let refused = upgrade(&daemon, "/ws", &[("X-Version", "9")]).await;
    assert_eq!(refused.headers()["x-version"], "1");
    let body = problem(refused, 426, "version").await;
    assert!(body.contains("version 1") && body.contains("taskwatch.v1"), "{body}");
    for served in ["1", "v1", "1.4", "1.4.2"] {
        let accepted = upgrade(&daemon, "/ws", &[("X-Version", served)]).await;
        assert_eq!(accepted.status(), 101, "{served}");
    }
}

#[tokio::test]
async fn pages_of_foreign_origins_are_refused() {
    let (_data, daemon) = server().await;
    for origin in ["http://localhost.evil.com", "https://evil.com", "null", "http://localhost/"] {
        let headers = [("X-Version", "1"), ("Origin", origin)];
        problem(upgrade(&daemon, "/ws", &headers).await, 403, "origin").await;
    }
    for origin in ["http://localhost:3000", "http://127.0.0.1:5173", daemon.url()] {
        let headers = [("X-Version", "1"), ("Origin", origin)];
        assert_eq!(upgrade(&daemon, "/ws", &headers).await.status(), 101, "{origin}");
    }
}

#[tokio::test]
async fn a_name_that_is_not_the_servers_is_refused_on_every_route() {
    let (_data, daemon) = server().await;
    for path in ["/ws", "/healthz", "/api/v1/tasks", "/nothing"] {
        let headers = [("X-Version", "1"), ("Host", "evil.com")];
        problem(upgrade(&daemon, path, &headers).await, 403, "host").await;
    }
}

#[tokio::test]
async fn a_plain_request_is_told_to_upgrade() {
    let (_data, daemon) = server().await;
    let plain = Rest::new(daemon.url()).request("GET", "/ws").header("X-Version", "1");
    problem(plain.send().await.unwrap(), 426, "upgrade_required").await;
    let post = Rest::new(daemon.url()).request("POST", "/ws").header("X-Version", "1");
    problem(post.send().await.unwrap(), 405, "method_not_allowed").await;
}

#[tokio::test]
async fn a_secret_in_the_query_is_refused_on_every_route() {
    let (_data, daemon) = server().await;
    for path in ["/ws?token=x", "/ws?repo=foo&access_token=x", "/api/v1/tasks?bearer=x"] {
        let refused = upgrade(&daemon, path, &[("X-Version", "1")]).await;
        problem(refused, 400, "token_in_url").await;
    }
}

#[tokio::test]
async fn a_browser_names_the_version_by_its_subprotocol() {
    let (_data, daemon) = server().await;
    let url = format!("ws://{}/ws?repo=foo", daemon.addr());
    let mut request = url.into_client_request().unwrap();
    let offered = "bearer.c2VjcmV0, taskwatch.v1";
    request.headers_mut().insert("Sec-WebSocket-Protocol", offered.parse().unwrap());
    let (_socket, response) = connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "taskwatch.v1");
    let echoed = format!("{:?}", response.headers());
    assert!(!echoed.contains("bearer"), "a secret comes back: {echoed}");

    let later = [("Sec-WebSocket-Protocol", "taskwatch.v2")];
    problem(upgrade(&daemon, "/ws", &later).await, 426, "version").await;
    let foreign = [("Sec-WebSocket-Protocol", "bearer.x")];
    let body = problem(upgrade(&daemon, "/ws", &foreign).await, 400, "version_missing").await;
    assert!(!body.contains("bearer.x"), "{body}");
}

#[tokio::test]
async fn a_query_subscribes_at_once() {
    let (_data, daemon) = server().await;
    let rest = Rest::new(daemon.url());
    let mut client = RawClient::connect(daemon.url(), "/ws?repo=foo&repo=team/*").await;
    assert_eq!(client.next().await["type"], "welcome");
    let subscribed = client.next().await;
    assert_eq!(subscribed["type"], "subscribed");
    assert_eq!(subscribed["data"]["accepted"], serde_json::json!(["foo", "team/*"]));

    for repository in ["bar", "foo", "team/x/y"] {
        rest.create(repository, "a task").await;
    }
    assert_eq!(client.next_event().await["data"]["repository"], "foo");
    assert_eq!(client.next_event().await["data"]["repository"], "team/x/y");
}

#[tokio::test]
async fn a_query_that_cannot_be_meant_is_refused() {
    let (_data, daemon) = server().await;
    let version = [("X-Version", "1")];
    for path in ["/ws?repo=a%20b", "/ws?repo=", "/ws?repo=a*b"] {
        problem(upgrade(&daemon, path, &version).await, 400, "invalid_name").await;
    }
    for path in ["/ws?since=x", "/ws?repo=a&on_gap=shrug"] {
        problem(upgrade(&daemon, path, &version).await, 400, "bad_message").await;
    }
}

/// The status line of an answer.
async fn spoken(addr: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_private_server_takes_http_1_0_for_a_proxy() {
    let old = "GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n";
    let new = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let (_data, private) = server().await;
    assert!(spoken(private.addr(), old).await.ends_with("403 Forbidden"));
    assert!(spoken(private.addr(), new).await.ends_with("200 OK"));
    let data = tempfile::tempdir().unwrap();
    let flags = ["--anonymous", "--trusted-proxy", "127.0.0.1"];
    let told = Daemon::start_with(data.path(), "127.0.0.1:0", &flags).await;
    assert!(spoken(told.addr(), old).await.ends_with("200 OK"));
}
