//! Whoever reads, and on whichever way, gets the same, byte for byte.

use serde_json::{Value, json};
use taskwatch_tests::{Daemon, EventStream, RawClient, Rest, Watcher, read_log, within};

use crate::support::{cursor, envelopes, events};

const TASKS: usize = 30;
/// A task is made, changed twice and deleted.
const CHANGES: usize = 4 * TASKS;

async fn write(rest: &Rest, tasks: usize) {
    for number in 0..tasks {
        let task = rest.create("foo", &format!("{number} é → \u{202e}")).await;
        rest.patch(&task, json!({"status": "in_progress"})).await;
        rest.patch(&task, json!({"assignee": "ana", "tags": ["a", "b"]})).await;
        rest.delete(&task).await;
        rest.create("elsewhere", "nobody asks for this").await;
    }
}

#[tokio::test]
async fn all_ways_lead_to_the_log() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let (url, rest) = (daemon.url(), Rest::new(daemon.url()));
    rest.create("foo", "before").await;
    let since = cursor(&read_log(data.path())[0].envelope);

    let query = format!("repository=foo&since={since}");
    let mut socket = RawClient::connect(url, &format!("/ws?{query}")).await;
    let mut stream =
        EventStream::open(rest.request("GET", &format!("/api/v1/events?{query}"))).await;
    let count = CHANGES.to_string();
    let watcher = |transport| {
        let args = ["--repo", "foo", "--since", &since, "--count", &count, "-o", "json"];
        Watcher::spawn(url, &[&args[..], &["--transport", transport]].concat())
    };
    // Some are there from the first change on, others come in the middle and have to catch up.
    let mut early = watcher("sse");
    early.stderr.until("connected to").await;
    write(&rest, TASKS / 2).await;
    let watchers = [early, watcher("ws"), watcher("poll")];
    write(&rest, TASKS - TASKS / 2).await;

    let log = envelopes(&read_log(data.path()), &["foo"]).split_off(1);
    assert_eq!(log.len(), CHANGES);
    assert_eq!(events(&mut socket, CHANGES).await, log);

    for envelope in &log {
        let event = stream.next().await;
        // The acknowledgement, and a bookmark now and then.
        let event = if event.is_task() { event } else { stream.next_task().await };
        assert_eq!((event.id, &event.data), (Some(cursor(envelope)), envelope));
    }

    let page = rest.request("GET", &format!("/api/v1/changes?{query}")).send().await.unwrap();
    let last = cursor(&log[CHANGES - 1]);
    let whole = format!(r#"{{"events":[{}],"cursor":"{last}"}}"#, log.join(","));
    // Behind it there may be more, in a repository that nobody asked for.
    let page = page.text().await.unwrap();
    assert_eq!(page.rsplit_once("],").unwrap().0, whole.rsplit_once("],").unwrap().0);

    let log: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for mut watcher in watchers {
        let read = async {
            let mut lines = vec![];
            while let Some(line) = watcher.stdout.next().await {
                lines.push(serde_json::from_str::<Value>(&line).unwrap());
            }
            lines
        };
        assert_eq!(within("all events", read).await, log);
        assert!(watcher.wait().await.success());
    }
}
