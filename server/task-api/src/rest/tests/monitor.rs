//! What is told to those who watch over the server.

use super::*;

async fn text(server: &Server, path: &str) -> (StatusCode, String) {
    let response = server.request("GET", path).send().await.unwrap();
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    (response.status(), response.text().await.unwrap())
}

#[tokio::test]
async fn what_is_counted_is_told() {
    let server = Server::start().await;
    server.task("acme/api").await;
    server.get("/nothing").await.problem(404, "not_found");
    let (status, text) = text(&server, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        "# TYPE taskwatch_events_published_total counter",
        "taskwatch_connections 0",
        "taskwatch_events_published_total 1",
        "taskwatch_resets_total{reason=\"expired\"} 0",
        "taskwatch_closes_total{code=\"4100\"} 0",
        "taskwatch_refusals_total{reason=\"full\"} 0",
        "taskwatch_commit_changes_bucket{le=\"1.0\"} 1",
        "taskwatch_commit_seconds_count 1",
        "taskwatch_log_events 1",
        "taskwatch_http_requests_total{method=\"POST\",code=\"201\"} 1",
        "taskwatch_http_requests_total{method=\"GET\",code=\"404\"} 1",
        "taskwatch_ready 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing from {text}");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_at_the_door_is_counted_too() {
    let server = Server::start().await;
    let foreign = server.request("GET", "/healthz").header("origin", "https://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let (_, text) = text(&server, "/metrics").await;
    let line = "taskwatch_http_requests_total{method=\"GET\",code=\"403\"} 1";
    assert!(text.lines().any(|found| found == line), "{text}");
}

#[tokio::test]
async fn a_server_that_is_well_is_ready() {
    let server = Server::start().await;
    assert_eq!(text(&server, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));
}

#[tokio::test]
async fn a_server_without_room_is_not_ready_and_says_why() {
    let dir = TempDir::new().unwrap();
    let mut settings = settings(&dir);
    settings.limits.max_connections = 1.try_into().unwrap();
    let server = Server::of(App::start(settings).await.unwrap(), dir);
    let stream = server.request("GET", "/api/v1/events?repository=foo").send().await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    let response = server.request("GET", "/readyz").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.text().await.unwrap(), "1 of 1 connections are taken\n");
    // Who only wants to know whether the process is there is not told so.
    assert_eq!(text(&server, "/healthz").await.0, StatusCode::OK);
}
