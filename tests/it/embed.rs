//! An axum API of its own with the hub in it.

use taskwatch_protocol::SCHEMA;
use taskwatch_server::HubConfig;
use taskwatch_tests::{Daemon, Rest, Watcher, example};
use tokio::process::Command;

use crate::support::Embedded;

#[tokio::test]
async fn what_an_embedder_publishes_is_printed_by_the_watcher() {
    let server = Daemon::spawn(Command::new(example("embed"))).await;
    let mut watcher = Watcher::start(server.url(), &["--repo", "foo", "--count", "1"]).await;
    let rest = Rest::new(server.url());
    for path in ["/shout/bar/psst", "/shout/foo/hello"] {
        let cursor = rest.request("POST", path).send().await.unwrap().text().await.unwrap();
        assert!(cursor.starts_with("c1-"), "{cursor}");
    }
    let line = watcher.stdout.next().await.unwrap();
    assert!(line.contains("+ created") && line.contains("hello"), "{line}");
    assert!(line.ends_with("by embed"), "{line}");
    assert_eq!(watcher.wait().await.code(), Some(0));
}

#[tokio::test]
async fn every_hub_has_the_schema_of_its_frames() {
    let server = Embedded::start(HubConfig::default()).await;
    let rest = Rest::new(&server.url);
    let ask = |method: &str| rest.request(method, "/api/v1/schema.json");

    let answer = ask("GET").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/schema+json");
    assert!(answer.headers()["cache-control"].to_str().unwrap().contains("max-age="));
    let tag = answer.headers()["etag"].clone();
    assert_eq!(answer.text().await.unwrap(), SCHEMA);

    let tags = |text: &str| text.replace("TAG", tag.to_str().unwrap());
    for (known, status) in [("TAG", 304), ("\"other\", W/TAG", 304), ("*", 304), ("\"other\"", 200)]
    {
        let answer = ask("GET").header("If-None-Match", tags(known)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{known}");
        assert_eq!(answer.headers()["etag"], tag);
    }
    assert_eq!(ask("POST").send().await.unwrap().status(), 405);
    let foreign = ask("GET").header("Origin", "https://evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
}
