//! Limits that an operator sets, and answers that a peer can see.

use reqwest::StatusCode;
use serde_json::json;
use taskwatch_tests::{Daemon, Grant, RawClient, Rest, TokensFile};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::Response;

async fn server(dir: &TempDir, args: &[&str]) -> Daemon {
    Daemon::start_with(&dir.path().join("data"), "127.0.0.1:0", args).await
}

async fn connect(server: &Daemon, token: &str) -> Result<RawClient, Response<Option<Vec<u8>>>> {
    let bearer = format!("Bearer {token}");
    let headers = [("X-Version", "1"), ("Authorization", &*bearer)];
    RawClient::try_connect(server.url(), "/ws", &headers).await.map_err(|error| match *error {
        Error::Http(refused) => *refused,
        other => panic!("{other}"),
    })
}

#[tokio::test]
async fn who_is_one_too_many_is_told_and_has_a_place_when_another_goes() {
    let dir = TempDir::new().unwrap();
    let grants = ["ana", "ben", "eva"].map(|name| Grant::new(name, name).reading(&["*"]));
    let tokens = TokensFile::new(dir.path(), &grants);
    let limits = ["--max-connections", "2", "--max-connections-per-principal", "1"];
    let args = [&limits[..], &["--tokens", tokens.path()]].concat();
    let server = server(&dir, &args).await;

    let ana = connect(&server, "ana").await.unwrap();
    let again = connect(&server, "ana").await.unwrap_err();
    assert_eq!(again.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(again.headers().contains_key("retry-after"));
    let _ben = connect(&server, "ben").await.unwrap();
    let third = connect(&server, "eva").await.unwrap_err();
    assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(third.headers().contains_key("retry-after"));
    drop(ana);
    while connect(&server, "eva").await.is_err() {}
}

#[tokio::test]
async fn messages_bodies_and_subscriptions_have_the_size_that_was_set() {
    let dir = TempDir::new().unwrap();
    let limits =
        ["--max-message-bytes", "1024", "--max-subscriptions", "2", "--max-body-bytes", "1024"];
    let server = server(&dir, &limits).await;
    let long = "x".repeat(2_000);
    let body = json!({"repository": "a", "title": "One", "description": long});
    let request = Rest::new(server.url()).request("POST", "/api/v1/tasks").json(&body);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);

    let mut client = RawClient::connect(server.url(), "/ws").await;
    client.until("welcome").await;
    client.send(json!({"type": "subscribe", "data": {"repositories": ["a", "b", "c"]}})).await;
    assert_eq!(client.until("error").await["data"]["code"], "limit_subscriptions");
    client.send_text(&long).await;
    let close = loop {
        if let Err(close) = client.try_next().await {
            break close.unwrap();
        }
    };
    assert_eq!(u16::from(close.code), 1009);
}
