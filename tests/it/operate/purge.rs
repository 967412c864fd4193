//! After a purge the text is nowhere, and nobody has missed anything.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::support::{Agent, cursor};
use taskwatch_tests::{EventStream, within};

const SECRET: &str = "hunter2-of-nobody";
const LONG: &str = "a long text, so that there is more than one page of it; ";

/// The files of a folder that have the secret somewhere.
fn files_with_secret(data: &Path) -> Vec<String> {
    let files = std::fs::read_dir(data).unwrap().map(|file| file.unwrap().path());
    // One that is gone by now has nothing.
    let has = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(SECRET)
    };
    files.filter(has).map(|path| path.display().to_string()).collect()
}

/// The place of an event in the log.
fn seq(envelope: &str) -> u64 {
    cursor(envelope).rsplit('-').next().unwrap().parse().unwrap()
}

/// What one subscriber of everything was sent, which is to be the log from somewhere on.
#[derive(Default)]
struct Seen(Vec<String>);

impl Seen {
    fn event(&mut self, text: &str) {
        if let Some(last) = self.0.last() {
            assert_eq!(seq(text), seq(last) + 1, "nothing is missed, nothing comes twice");
        }
        // All of it is of before, or all of it is of after.
        let is_scrubbed = text.contains("[purged]");
        assert!(!(is_scrubbed && text.contains(SECRET)), "half of it: {text}");
        self.0.push(text.to_owned());
    }

    fn has_secret(&self) -> bool {
        self.0.iter().any(|text| text.contains(SECRET))
    }
}

/// Follows from a position up to the event `last`, over a WebSocket.
async fn replayed(url: &str, since: &str, last: u64) -> Seen {
    let mut seen = Seen::default();
    let mut client = RawClient::connect(url, &format!("/ws?repo=*&since={since}")).await;
    assert_eq!(client.until("subscribed").await["data"]["mode"], "resumed");
    while seen.0.last().is_none_or(|text| seq(text) < last) {
        seen.event(&client.next_event().await.to_string());
    }
    seen
}

/// The state, up to the end of its frames or of the connection, if that is closed to begin anew.
async fn snapshot(url: &str) -> Option<Vec<String>> {
    let mut client = RawClient::connect(url, "/ws?repo=*&snapshot=true").await;
    let mut frames = vec![];
    loop {
        match client.try_next().await {
            Ok(text) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                frames.push(text);
                if frame["data"]["last"] == true {
                    return Some(frames);
                }
            }
            Err(close) => {
                assert_eq!(close.map(|close| close.code.into()), Some(4203_u16));
                return None;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_the_text_is_gone_everywhere_and_every_stream_is_whole() {
    let dir = TempDir::new().unwrap();
    let mut server = Daemon::start(dir.path()).await;
    let url = server.url().to_owned();
    let rest = Rest::new(&url);
    let first = rest.create("foo", "the first").await;
    let mut live = RawClient::connect(&url, "/ws?repo=*").await;
    let start = live.until("subscribed").await["cursor"].as_str().unwrap().to_owned();

    // A history, in a kept answer, and in pages that are not in use any more.
    let body = json!({"repository": "foo", "title": SECRET, "description": LONG.repeat(100) + SECRET,
                      "assignee": SECRET, "tags": [SECRET]});
    let make = async || {
        let request = rest.request("POST", "/api/v1/tasks").header("Idempotency-Key", "key");
        request.json(&body).send().await.unwrap().json::<Value>().await.unwrap()
    };
    let secret = make().await;
    let id = secret["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/tasks/{id}");
    for text in [format!("{SECRET} {}", LONG.repeat(200)), "short".to_owned()] {
        let patch = rest.request("PATCH", &path).json(&json!({"description": text}));
        assert_eq!(patch.send().await.unwrap().status(), 200);
    }
    assert_ne!(files_with_secret(dir.path()), [""; 0]);
    assert!(snapshot(&url).await.unwrap().concat().contains(SECRET));

    // Others work, and come and go, all the while.
    let stop = Arc::new(AtomicBool::new(false));
    let is_on = |stop: &Arc<AtomicBool>| {
        let stop = stop.clone();
        move || !stop.load(Ordering::SeqCst)
    };
    let mut others = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let (rest, on) = (rest.clone(), is_on(&stop));
        others.spawn(async move {
            let mut made = 0;
            while on() {
                rest.create("bar", &format!("{worker} {made} {LONG}")).await;
                made += 1;
            }
        });
    }
    for _ in 0..2 {
        let (at, start, on) = (url.clone(), start.clone(), is_on(&stop));
        others.spawn(async move {
            while on() {
                replayed(&at, &start, 5).await;
            }
        });
        let (at, on) = (url.clone(), is_on(&stop));
        others.spawn(async move {
            while on() {
                snapshot(&at).await;
            }
        });
    }

    let args = ["purge", "--url", &url, "--task", &id, "--yes"];
    let (code, said, error) = taskwatchd(&args, None).await;
    assert_eq!((code, &*error), (Some(0), ""), "{said}");
    assert!(said.contains("deleted") && said.contains("now: 3"), "{said}");
    assert_eq!(files_with_secret(dir.path()), [""; 0]);
    server.stderr.until(&format!("purged a task id={id}")).await;

    let head = seq(&format!(r#"{{"cursor":"{}"}}"#, head(&rest).await));
    let nowhere = |what: &str, text: &str| assert!(!text.contains(SECRET), "{what}: {text}");
    assert!(!replayed(&url, &start, head).await.has_secret());
    nowhere("snapshot", &snapshot(&url).await.unwrap().concat());
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = others.join_next().await {
        ended.unwrap();
    }
    ask_everywhere(&rest, &start, &id, nowhere).await;
    nowhere("the answer of before", &make().await.to_string());

    // Who was there all the time had it, and was told of the end.
    let last = rest.create("foo", "the last").await;
    let mut seen = Seen::default();
    loop {
        let event = live.next_event().await;
        seen.event(&event.to_string());
        if event["data"]["task_id"] == last.id.to_string() {
            break;
        }
    }
    assert!(seen.has_secret());
    let end = seen.0.iter().find(|text| text.contains("task.deleted")).unwrap();
    assert!(end.contains(&id) && end.contains("[purged]") && !end.contains(SECRET));
    assert_eq!(serde_json::from_str::<Value>(end).unwrap()["data"]["version"], 4);
    let last = seq(seen.0.last().unwrap());
    let again = replayed(&url, &start, last).await;
    let differs = |(one, other): &(&String, &String)| one != other;
    let changed: Vec<_> = seen.0.iter().zip(&again.0).filter(differs).collect();
    assert_eq!((again.0.len(), changed.len()), (seen.0.len(), 3));
    assert!(changed.iter().all(|(was, is)| was.contains(&id) && is.contains(&id)));

    server.kill().await;
    assert_eq!(files_with_secret(dir.path()), [""; 0]);
    let server = Daemon::start(dir.path()).await;
    assert_eq!(files_with_secret(dir.path()), [""; 0]);
    assert_eq!(replayed(server.url(), &start, last).await.0, again.0);
    let rest = Rest::new(server.url());
    ask_everywhere(&rest, &start, &id, nowhere).await;
    assert_eq!(
        rest.request("GET", &format!("/api/v1/tasks/{}", first.id)).send().await.unwrap().status(),
        200
    );
}

async fn head(rest: &Rest) -> String {
    let all = rest.request("GET", "/api/v1/connections").send().await.unwrap();
    all.json::<Value>().await.unwrap()["head"].as_str().unwrap().to_owned()
}

/// Whatever can be asked of the server but a WebSocket.
async fn ask_everywhere(rest: &Rest, start: &str, id: &str, nowhere: impl Fn(&str, &str)) {
    let since = format!("repository=*&since={start}");
    for path in [
        "/api/v1/tasks?limit=1000".to_owned(),
        "/api/v1/tasks?text=hunter2".to_owned(),
        format!("/api/v1/tasks/{id}"),
        format!("/api/v1/tasks/{id}/events"),
        format!("/api/v1/changes?{since}"),
        "/api/v1/connections?by=connection".to_owned(),
        "/metrics".to_owned(),
    ] {
        let text = rest.request("GET", &path).send().await.unwrap().text().await.unwrap();
        nowhere(&path, &text);
    }
    let history = rest.request("GET", &format!("/api/v1/tasks/{id}/events"));
    let history: Value = history.send().await.unwrap().json().await.unwrap();
    let kinds: Vec<_> = history["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["task.created", "task.updated", "task.updated", "task.deleted"]);

    let mut stream =
        EventStream::open(rest.request("GET", &format!("/api/v1/events?{since}"))).await;
    let seen = async {
        loop {
            let event = stream.next_task().await;
            let text = event.json().to_string();
            nowhere("server-sent events", &text);
            if text.contains("task.deleted") {
                return;
            }
        }
    };
    within("the end of the task", seen).await;

    let agent = Agent::new(rest.clone());
    for (tool, arguments) in [
        ("list_tasks", json!({})),
        ("wait_for_changes", json!({"repositories": ["*"], "since": start, "timeout_seconds": 1})),
        ("get_task", json!({"id": id})),
    ] {
        let (said, _) = agent.call(tool, arguments).await;
        nowhere(tool, &said.to_string());
    }
}
