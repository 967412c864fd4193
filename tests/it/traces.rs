//! The trace of a request is found again in its events, wherever they come from.

use futures_util::StreamExt;
use serde_json::{Value, json};
use taskwatch_client::{Event, TransportChoice};
use taskwatch_tests::{Daemon, EventStream, RawClient, Rest, Watcher, read_log, within};

use crate::support::{Agent, client_over, cursor, envelopes, events};

/// A header that names a trace, and its text.
fn trace(number: u8) -> String {
    format!("00-{:032x}-00f067aa0ba902b7-01", 0xabc_u128 << 64 | u128::from(number))
}

/// One event for each way to make one: of REST one each, of a batch two, of an agent one, and two without.
async fn write(rest: &Rest) -> Vec<Option<String>> {
    let send = async |method: &str, path: &str, traces: &[&str], body: Value| -> Value {
        let mut request = rest.request(method, path).json(&body);
        for trace in traces {
            request = request.header("traceparent", *trace);
        }
        let answer = within("an answer", request.send()).await.unwrap().error_for_status().unwrap();
        answer.json().await.unwrap_or_default()
    };
    let task = json!({"repository": "foo", "title": "One"});
    let (tasks, batch) = ("/api/v1/tasks", json!({"op": "create", "task": task}));
    let made = send("POST", tasks, &[&trace(1)], task.clone()).await;
    let path = format!("{tasks}/{}", made["id"].as_str().unwrap());
    send("PATCH", &path, &[&trace(2)], json!({"title": "Two"})).await;
    send("DELETE", &path, &[&trace(3)], Value::Null).await;
    let both = json!({"operations": [batch, batch]});
    send("POST", "/api/v1/tasks:batch", &[&trace(4)], both).await;
    let agent = Agent::new(rest.clone());
    let call = json!({"name": "create_task", "arguments": task});
    let call = agent.request("tools/call", call).header("traceparent", trace(5)).send();
    within("an answer", call).await.unwrap().error_for_status().unwrap();
    send("POST", tasks, &[], task.clone()).await;
    send("POST", tasks, &["00-0-0-01"], task.clone()).await;
    send("POST", tasks, &[&trace(6), &trace(7)], task).await;
    [Some(1), Some(2), Some(3), Some(4), Some(4), Some(5), None, None, None]
        .map(|number| number.map(trace))
        .into()
}

fn of_frame(text: &str) -> Option<String> {
    let frame: Value = serde_json::from_str(text).unwrap();
    assert!(frame["data"].get("traceparent").is_none());
    frame.get("traceparent").map(|trace| trace.as_str().unwrap().to_owned())
}

#[tokio::test]
async fn every_way_of_changing_and_of_watching_carries_it() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let (url, rest) = (daemon.url(), Rest::new(daemon.url()));
    rest.create("foo", "before").await;
    let since = cursor(&read_log(data.path())[0].envelope);
    let mut live = RawClient::subscribed(url, &["foo"]).await;

    let expected = write(&rest).await;
    let count = expected.len();

    let log = envelopes(&read_log(data.path()), &["foo"]).split_off(1);
    assert_eq!(log.iter().map(|text| of_frame(text)).collect::<Vec<_>>(), expected);
    assert_eq!(events(&mut live, count).await, log);
    let query = format!("repository=foo&since={since}");
    let mut resumed = RawClient::connect(url, &format!("/ws?{query}")).await;
    assert_eq!(events(&mut resumed, count).await, log);
    let mut stream =
        EventStream::open(rest.request("GET", &format!("/api/v1/events?{query}"))).await;
    for envelope in &log {
        assert_eq!(&stream.next_task().await.data, envelope);
    }
    let args = ["--repo", "foo", "--since", &since, "--no-follow", "-o", "json"];
    let mut watcher = Watcher::spawn(url, &args);
    for envelope in &log {
        assert_eq!(watcher.stdout.next().await.as_ref(), Some(envelope));
    }
    for choice in [TransportChoice::WebSocket, TransportChoice::Sse, TransportChoice::LongPoll] {
        let stream = client_over(url, choice).subscribe(["foo"]).unwrap();
        let stream = stream.since(taskwatch_client::protocol::Cursor::new(since.as_str()));
        let all = stream.take(count).map(Result::unwrap).collect::<Vec<Event>>();
        let all = within("all events", all).await;
        let traces = all.iter().map(|event| event.traceparent().map(str::to_owned));
        assert_eq!(traces.collect::<Vec<_>>(), expected, "{choice:?}");
    }
}

#[tokio::test]
async fn a_hook_has_it_and_a_change_that_is_sent_again_keeps_the_first() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let script = r#"echo "${TASKWATCH_TRACEPARENT-none}""#;
    let args = ["--repo", "foo", "--count", "2", "--exec", "sh", "--", "-c", script];
    let mut watcher = Watcher::start(daemon.url(), &args).await;
    for number in [1, 2] {
        let request = rest.request("POST", "/api/v1/tasks").header("idempotency-key", "k");
        let request = request.json(&json!({"repository": "foo", "title": "One"}));
        let answer = request.header("traceparent", trace(number)).send();
        assert_eq!(within("an answer", answer).await.unwrap().status(), 201);
    }
    rest.create("foo", "Two").await;
    assert_eq!(watcher.stdout.next().await, Some(trace(1)));
    assert_eq!(watcher.stdout.next().await.as_deref(), Some("none"));
    assert_eq!(watcher.wait().await.code(), Some(0));
}
