//! Two who change one task with `If-Match`, over real sockets: no change is lost.

use serde_json::{Value, json};
use taskwatch_protocol::{ServerFrame, ServerMessage};
use taskwatch_tests::{Daemon, Rest, read_log};

const ROUNDS: usize = 500;

/// Adds one to the number in the title, as often as asked for, and returns how often somebody else
/// was faster.
async fn count(rest: Rest, path: String, who: &str) -> usize {
    let (mut beaten, mut known) = (0, None);
    for _ in 0..ROUNDS {
        loop {
            let (tag, number) = match known.take() {
                Some(known) => known,
                None => shown(rest.request("GET", &path).send().await.unwrap()).await,
            };
            let patch = json!({"title": (number + 1).to_string(), "assignee": who});
            let request = rest.request("PATCH", &path).header("if-match", tag).json(&patch);
            let answer = request.send().await.unwrap();
            if answer.status() == 200 {
                known = Some(shown(answer).await);
                break;
            }
            assert_eq!(answer.status(), 412);
            beaten += 1;
        }
    }
    beaten
}

/// The tag of a task, and the number in its title.
async fn shown(answer: reqwest::Response) -> (reqwest::header::HeaderValue, usize) {
    let tag = answer.headers()["etag"].clone();
    let task: Value = answer.json().await.unwrap();
    (tag, task["title"].as_str().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_lose_no_update_and_leave_no_hole() {
    let data = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let task = rest.create("foo", "0").await;
    let path = format!("/api/v1/tasks/{}", task.id);
    let (one, other) = tokio::join!(
        tokio::spawn(count(Rest::new(daemon.url()), path.clone(), "ann")),
        tokio::spawn(count(Rest::new(daemon.url()), path.clone(), "bob")),
    );
    let beaten = one.unwrap() + other.unwrap();
    assert!(beaten > 0, "they never met");

    let last: Value = rest.request("GET", &path).send().await.unwrap().json().await.unwrap();
    assert_eq!(last["title"], (2 * ROUNDS).to_string());
    assert_eq!(last["version"], 2 * ROUNDS + 1);
    daemon.signal("TERM");
    daemon.wait().await;
    let mut versions = vec![];
    for event in read_log(data.path()) {
        let frame = ServerFrame::decode(&event.envelope).unwrap();
        let ServerMessage::Task(event) = frame.message else { panic!("a task event") };
        assert_eq!(event.task().title, versions.len().to_string());
        versions.push(event.version);
    }
    assert_eq!(versions, (1..=2 * ROUNDS as u64 + 1).collect::<Vec<_>>());
}
