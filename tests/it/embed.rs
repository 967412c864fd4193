//! An axum API of its own with the hub in it.

use taskwatch_tests::{Daemon, Rest, Watcher, example};
use tokio::process::Command;

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
