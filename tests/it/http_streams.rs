//! The same events over plain HTTP: as a stream, and for who asks again and again.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use taskwatch_server::HubConfig;
use taskwatch_tests::{
    Daemon, EventStream, Grant, RawClient, Rest, StreamEvent, TokensFile, read_log, within,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Embedded, TestLog, envelopes, narrow};

const EVENTS: &str = "/api/v1/events";
const CHANGES: &str = "/api/v1/changes";

fn get(url: &str, path: &str, query: &str) -> RequestBuilder {
    Rest::new(url).request("GET", &format!("{path}?{query}"))
}

async fn stream(url: &str, query: &str) -> EventStream {
    EventStream::open(get(url, EVENTS, query)).await
}

async fn send(request: RequestBuilder) -> Response {
    within("an answer", request.send()).await.unwrap()
}

/// What a poll is answered with.
async fn poll(url: &str, query: &str) -> Value {
    let answer = send(get(url, CHANGES, query)).await;
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// The lines of a poll that asked for lines.
async fn poll_lines(url: &str, query: &str) -> Vec<Value> {
    let request = get(url, CHANGES, query).header("accept", "application/jsonl");
    let answer = send(request).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/jsonl".parse().unwrap())
    );
    let text = within("the end of an answer", answer.text()).await.unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn problem(request: RequestBuilder) -> (u16, String) {
    let answer = send(request).await;
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["status"], status);
    (status, body["code"].as_str().unwrap().to_owned())
}

/// The position of now.
async fn head(url: &str) -> String {
    poll(url, "repository=*").await["cursor"].as_str().unwrap().to_owned()
}

/// Makes so many tasks, and a change of each.
async fn write(url: &str, repository: &'static str, count: usize) {
    let rest = Rest::new(url);
    for at in 0..count {
        let task = rest.create(repository, &format!("{at}\u{2028}\u{85}")).await;
        rest.patch(&task, json!({"status": "completed"})).await;
    }
}

async fn empty(server: &Embedded) {
    let gone = async {
        while server.hub.stats().connections > 0 {
            tokio::task::yield_now().await;
        }
    };
    within("no connection is left", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_again_and_again_is_the_log() {
    let data = TempDir::new().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let since = head(daemon.url()).await;
    let url = daemon.url().to_owned();
    let writer = tokio::spawn(async move {
        tokio::join!(write(&url, "a", 150), write(&url, "b/c", 150), write(&url, "not", 50));
    });
    let (mut got, mut last_id) = (vec![], None::<String>);
    for cut in 1.. {
        let request = get(daemon.url(), EVENTS, &format!("repo=a&repo=b/*&since={since}"));
        let request = match &last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let mut stream = EventStream::open(request).await;
        let first = stream.next().await;
        assert_eq!(first.json()["data"]["mode"], "resumed");
        assert_eq!(first.id, Some(last_id.unwrap_or_else(|| since.clone())));
        last_id = first.id;
        for _ in 0..7 * cut {
            let event = stream.next().await;
            assert_eq!(event.json()["cursor"].as_str(), event.id.as_deref());
            assert_eq!(event.json()["type"], event.kind);
            last_id = event.id;
            if event.kind.starts_with("task.") {
                got.push(event.data);
            }
            if got.len() == 600 {
                break;
            }
        }
        if got.len() == 600 {
            break;
        }
    }
    writer.await.unwrap();
    assert_eq!(got, envelopes(&read_log(data.path()), &["a", "b/c"]));
}

#[tokio::test]
async fn what_comes_first_says_how_to_come_back_and_nothing_may_keep_it() {
    let server = Embedded::start(HubConfig::default()).await;
    let request = get(&server.url, EVENTS, "repository=foo").header("origin", "http://localhost:1");
    let mut stream = EventStream::open(request).await;
    let headers = stream.headers();
    assert_eq!(headers["cache-control"], "no-store, no-transform");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert_eq!(headers["access-control-allow-origin"], "http://localhost:1");
    assert_eq!(headers["vary"], "origin");
    let first = stream.next().await;
    assert!((1_000..=5_000).contains(&stream.retry.unwrap()));
    assert_eq!(first.kind, "subscribed");
    let answer = first.json();
    assert_eq!(
        (&answer["data"]["mode"], &answer["data"]["accepted"]),
        (&json!("live"), &json!(["foo"]))
    );
    let mut socket = RawClient::subscribed(&server.url, &["foo"]).await;
    let cursor = server.created("foo", "a\nid: forged\n\ndata: x").to_string();
    let event = stream.next().await;
    assert_eq!((event.kind.as_str(), event.id.as_ref()), ("task.created", Some(&cursor)));
    assert_eq!(event.data, socket.try_next().await.unwrap(), "the same bytes");
    drop(stream);
    drop(socket);
    empty(&server).await;
}

#[tokio::test]
async fn where_nothing_can_follow_an_event_source_stops() {
    let server = Embedded::start(HubConfig::default()).await;
    let mut stream = stream(&server.url, "repository=foo&since=none").await;
    let answer = stream.next().await;
    assert_eq!((answer.kind.as_str(), answer.id.as_deref()), ("subscribed", Some("end")));
    assert_eq!(answer.json()["data"]["reason"], "malformed");
    stream.expect_end().await;
    let again =
        get(&server.url, EVENTS, "repository=foo&since=none").header("last-event-id", "end");
    assert_eq!(send(again).await.status(), 204);
    // Unless it wants what follows in any case.
    let mut stream = self::stream(&server.url, "repository=foo&since=none&on_gap=live").await;
    assert_eq!(stream.next().await.json()["data"]["mode"], "reset");
    let cursor = server.created("foo", "after it").to_string();
    assert_eq!(stream.next().await.id, Some(cursor));
}

#[tokio::test]
async fn a_state_has_one_id_and_what_follows_it_comes() {
    let log = TestLog::new();
    for at in 0..100 {
        log.append("foo", &format!("{at} {}", "x".repeat(1_000)));
    }
    let server = Embedded::with_log(log.clone(), HubConfig::default()).await;
    let mut stream = stream(&server.url, "repository=foo&snapshot=true").await;
    let answer = stream.next().await;
    assert_eq!((answer.json()["data"]["mode"].as_str(), answer.id), (Some("snapshot"), None));
    let (mut tasks, mut parts) = (0, 0);
    let last = loop {
        let part = stream.next().await;
        tasks += part.json()["data"]["tasks"].as_array().unwrap().len();
        parts += 1;
        assert_eq!(part.json()["data"]["last"], part.id.is_some());
        if part.id.is_some() {
            break part;
        }
    };
    assert!(tasks == 100 && parts > 2, "{tasks} tasks in {parts} parts");
    let ping = stream.next().await;
    assert_eq!((ping.kind.as_str(), &ping.id), ("ping", &last.id));
    let event = log.append("foo", "one more");
    server.hub.publish(event.clone());
    assert_eq!(stream.next().await.data.as_bytes(), event.envelope());
}

#[tokio::test]
async fn what_is_wanted_with_its_state_follows_what_is_resumed() {
    let log = TestLog::new();
    let cursor = |event: &taskwatch_server::LogEvent| {
        let envelope: Value = serde_json::from_slice(event.envelope()).unwrap();
        envelope["cursor"].as_str().unwrap().to_owned()
    };
    let since = cursor(&log.append("a", "before"));
    log.append("b", "in the state");
    let missed = log.append("a", "missed");
    let server = Embedded::with_log(log.clone(), HubConfig::default()).await;
    let query = format!("repository=a&since={since}&snapshot_of=b");
    let mut frames = poll_lines(&server.url, &query).await;
    let mut stream = stream(&server.url, &query).await;
    for frame in &mut frames {
        let event = stream.next().await;
        let mut same = event.json();
        for json in [&mut same, &mut *frame] {
            json["timestamp"] = Value::Null;
        }
        assert_eq!(&same, frame, "as lines and as a stream");
    }
    let [resumed, event, second, state, ping] = &frames[..] else { panic!("{frames:#?}") };
    assert_eq!(resumed["data"]["accepted"], json!(["a"]));
    assert_eq!(event["cursor"], cursor(&missed));
    assert_eq!(
        (&second["data"]["accepted"], &second["data"]["mode"]),
        (&json!(["b"]), &json!("snapshot"))
    );
    assert_eq!(state["data"]["repositories"], json!(["b"]));
    assert_eq!((&ping["cursor"], &ping["data"]["delivered"]), (&state["cursor"], &json!(1)));
}

/// How many polls it took, and what they brought.
async fn follow(url: &str, count: usize, lines: bool) -> (usize, Vec<Value>) {
    let (mut since, mut polls, mut got) = (head(url).await, 0, vec![]);
    let rest = url.to_owned();
    let writer = tokio::spawn(async move {
        let half = count / 4;
        tokio::join!(write(&rest, "a", half), write(&rest, "b", half));
    });
    while got.len() < count {
        let query = format!("repository=a&repository=b&wait=60&since={since}");
        let mut events = if lines {
            let mut frames = poll_lines(url, &query).await;
            assert_eq!(frames.remove(0)["type"], "subscribed");
            let is_task = |frame: &Value| frame["type"].as_str().unwrap().starts_with("task.");
            let (tasks, rest): (Vec<_>, Vec<_>) = frames.into_iter().partition(is_task);
            for ping in &rest {
                assert_eq!(
                    (&ping["type"], &ping["data"]["delivered"]),
                    (&json!("ping"), &json!(tasks.len()))
                );
            }
            let last = rest.last().or(tasks.last()).unwrap();
            since = last["cursor"].as_str().unwrap().to_owned();
            tasks
        } else {
            let mut answer = poll(url, &query).await;
            since = answer["cursor"].as_str().unwrap().to_owned();
            std::mem::take(answer["events"].as_array_mut().unwrap())
        };
        // An answer without events is one that has waited for the end of its time.
        assert!((1..=1_000).contains(&events.len()), "{} events", events.len());
        got.append(&mut events);
        polls += 1;
    }
    writer.await.unwrap();
    (polls, got)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_and_again_gets_each_event_once_and_waits_for_none() {
    for (lines, count) in [(false, 1_000), (true, 300)] {
        let data = TempDir::new().unwrap();
        let daemon = Daemon::start(data.path()).await;
        let (polls, got) = follow(daemon.url(), count, lines).await;
        assert!(polls > 1 && polls <= count);
        let log = read_log(data.path());
        let expected: Vec<Value> =
            log.iter().map(|event| serde_json::from_str(&event.envelope).unwrap()).collect();
        assert_eq!(got, expected);
    }
}

#[tokio::test]
async fn a_poll_is_answered_at_once_with_what_there_is_and_no_more_than_fits() {
    let server = Embedded::start(HubConfig::default()).await;
    let since = head(&server.url).await;
    for at in 0..2_500 {
        server.created("foo", &at.to_string());
        server.created("other", "not wanted");
    }
    let mut titles = vec![];
    let mut position = since.clone();
    for expected in [1_000, 1_000, 500] {
        let answer = poll(&server.url, &format!("repository=foo&since={position}")).await;
        let events = answer["events"].as_array().unwrap();
        assert_eq!(events.len(), expected);
        titles.extend(events.iter().map(|event| event["data"]["task"]["title"].clone()));
        position = answer["cursor"].as_str().unwrap().to_owned();
    }
    assert!(
        titles
            .iter()
            .map(|title| title.as_str().unwrap())
            .eq((0..2_500).map(|at| at.to_string()).collect::<Vec<_>>())
    );
    assert_eq!(position, head(&server.url).await);

    let large = "x".repeat(300 << 10);
    for _ in 0..4 {
        server.created("large", &large);
    }
    let query = format!("repository=large&since={position}");
    let lines = poll_lines(&server.url, &query).await;
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["subscribed", "task.created", "task.created", "task.created", "pong"]);
    let [.., event, count] = &lines[..] else { panic!() };
    assert_eq!((&count["cursor"], &count["data"]["delivered"]), (&event["cursor"], &json!(3)));
    assert_eq!(poll(&server.url, &query).await["events"].as_array().unwrap().len(), 3);

    // Nothing has happened: what was waited for is the time, and the answer a bookmark.
    let head = head(&server.url).await;
    server.created("other", "not wanted");
    let none = poll(&server.url, &format!("repository=foo&since={head}&wait=0")).await;
    assert_eq!(none["events"], json!([]));
    assert_ne!(none["cursor"], head);
    let kinds = "types=task.updated,task.deleted";
    let none = poll(&server.url, &format!("repository=foo&since={since}&wait=0&{kinds}")).await;
    assert_eq!(none["events"], json!([]));
    empty(&server).await;
}

#[tokio::test]
async fn who_leaves_while_it_waits_leaves_nothing_behind() {
    let server = Embedded::start(HubConfig::default()).await;
    let since = head(&server.url).await;
    for lines in [false, true] {
        let query = format!("repository=foo&wait=60&since={since}");
        let mut request = get(&server.url, CHANGES, &query);
        if lines {
            request = request.header("accept", "application/jsonl");
        }
        // The head of an answer in lines comes at once.
        let poll = tokio::spawn(async { send(request).await.text().await });
        let waits = async {
            while server.hub.stats().streams == 0 {
                tokio::task::yield_now().await;
            }
        };
        within("a poll that waits", waits).await;
        poll.abort();
        empty(&server).await;
    }
    for _ in 0..20 {
        drop(stream(&server.url, "repository=foo").await);
        server.created("foo", "traffic");
    }
    empty(&server).await;
    assert_eq!(server.hub.stats().streams, 0);
}

#[tokio::test]
async fn refusals_say_why() {
    let server = Embedded::start(HubConfig { max_streams: 1, ..HubConfig::default() }).await;
    let get = |path: &str, query: &str| get(&server.url, path, query);
    for path in [EVENTS, CHANGES] {
        for (query, code) in [
            ("", "bad_message"),
            ("since=x", "bad_message"),
            ("repository=a%20b", "invalid_name"),
            ("repository=a&types=x", "bad_message"),
            ("repository=a&on_gap=x", "bad_message"),
            ("repository=a&token=x", "token_in_url"),
            (&"repo=a&".repeat(129), "limit_subscriptions"),
        ] {
            assert_eq!(problem(get(path, query)).await, (400, code.into()), "{path}?{query}");
        }
        let version =
            |version: &str| get(path, "repository=a").header("x-version", version.to_owned());
        assert_eq!(problem(version("9")).await, (426, "version".into()));
        assert_eq!(problem(version("x")).await, (400, "version".into()));
        let from = |name: &str, value: &str| {
            get(path, "repository=a").header(name.to_owned(), value.to_owned())
        };
        assert_eq!(problem(from("origin", "http://evil.example")).await, (403, "origin".into()));
        assert_eq!(problem(from("host", "evil.example")).await, (403, "host".into()));
        let post = Rest::new(&server.url).request("POST", path);
        assert_eq!(problem(post).await, (405, "method_not_allowed".into()));
    }
    for query in ["snapshot=true", "on_gap=live", "snapshot_of=b"] {
        let refused = problem(get(CHANGES, &format!("repository=a&{query}"))).await;
        assert_eq!(refused, (400, "unsupported".into()));
    }
    assert_eq!(problem(get(CHANGES, "repository=a&wait=61")).await, (400, "bad_message".into()));
    for (since, reason) in [("none", "malformed"), ("", "malformed")] {
        let gone = problem(get(CHANGES, &format!("repository=a&since={since}"))).await;
        assert_eq!(gone, (410, reason.into()));
    }
    let _held = stream(&server.url, "repository=a").await;
    for path in [EVENTS, CHANGES] {
        assert_eq!(problem(get(path, "repository=a")).await, (503, "unavailable".into()));
    }
    RawClient::subscribed(&server.url, &["a"]).await;
}

fn ana(patterns: &[&str]) -> Grant {
    Grant::new("ana", "token-of-ana").reading(patterns)
}

fn clerk() -> Grant {
    Grant::new("clerk", "token-of-clerk").reading(&["*"]).writing(&["*"])
}

struct Office {
    server: Daemon,
    tokens: TokensFile,
    _dir: TempDir,
}

impl Office {
    async fn open(grants: &[Grant], args: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let tokens = TokensFile::new(dir.path(), grants);
        let args = [&["--tokens", tokens.path()], args].concat();
        let server = Daemon::start_with(&dir.path().join("data"), "127.0.0.1:0", &args).await;
        Self { server, tokens, _dir: dir }
    }

    fn get(&self, path: &str, query: &str) -> RequestBuilder {
        get(self.server.url(), path, query).bearer_auth("token-of-ana")
    }

    fn clerk(&self) -> Rest {
        Rest::new(self.server.url()).token("token-of-clerk")
    }
}

#[tokio::test]
async fn who_may_not_read_learns_nothing_and_who_is_nobody_is_not_let_in() {
    let office =
        Office::open(&[ana(&["a"]), clerk()], &["--max-connections-per-principal", "1"]).await;
    for path in [EVENTS, CHANGES] {
        let nobody = get(office.server.url(), path, "repository=a");
        assert_eq!(problem(nobody).await, (401, "unauthorized".into()));
        // A page is told so too: it can see the status of a request that is no upgrade.
        let page =
            get(office.server.url(), path, "repository=a").header("origin", office.server.url());
        assert_eq!(problem(page).await, (401, "unauthorized".into()));
    }
    for hidden in ["b", "no-such", "b/*"] {
        let denied = problem(office.get(CHANGES, &format!("repository={hidden}"))).await;
        assert_eq!(denied, (404, "not_found".into()));
        let mut stream = EventStream::open(office.get(EVENTS, &format!("repo={hidden}"))).await;
        let answer = stream.next().await;
        assert_eq!(answer.id.as_deref(), Some("end"));
        assert_eq!(answer.json()["data"]["denied"][0]["code"], "not_found");
        stream.expect_end().await;
    }
    let mut stream = EventStream::open(office.get(EVENTS, "repository=*&repository=b")).await;
    stream.until("subscribed").await;
    for path in [EVENTS, CHANGES] {
        assert_eq!(problem(office.get(path, "repository=a")).await, (429, "rate_limited".into()));
    }
    office.clerk().create("b", "hidden").await;
    office.clerk().create("a", "seen").await;
    assert_eq!(stream.next().await.json()["data"]["task"]["title"], "seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_withdrawn_during_load_ends_what_it_gave() {
    let office = Office::open(&[ana(&["a", "shared/*"]), clerk()], &[]).await;
    let clerk_calls = office.clerk();
    let writer = tokio::spawn(async move {
        // The server ends it.
        for i in 0.. {
            if clerk_calls.try_create("a", &format!("secret-{i}")).await.is_err() {
                break;
            }
        }
    });
    let mut stream = EventStream::open(office.get(EVENTS, "repository=*")).await;
    let mut last = StreamEvent::default();
    for _ in 0..20 {
        last = stream.next_task().await;
    }
    let since = last.id.as_ref().unwrap();
    let request = office.get(CHANGES, &format!("repository=shared/*&wait=60&since={since}"));
    let poll = tokio::spawn(send(request));
    office.tokens.replace(&[ana(&["shared/*"]), clerk()]);
    let close = stream.until("close").await;
    assert_eq!(close.json()["data"]["code"], 4203);
    assert_eq!(close.id, None);
    stream.expect_end().await;
    // Either it was asked before, and has to be asked again, or after.
    let answer = tokio::spawn(async move {
        let answer = poll.await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    });

    let request = office.get(EVENTS, "repository=*&repository=a");
    let request = request.header("last-event-id", last.id.unwrap());
    let mut stream = EventStream::open(request).await;
    let again = stream.next().await.json();
    assert_eq!(again["data"]["accepted"], json!(["*"]));
    assert_eq!(again["data"]["denied"][0]["repository"], "a");
    office.clerk().create("shared/x", "for all").await;
    assert_eq!(stream.next_task().await.json()["data"]["repository"], "shared/x");
    let (status, text) = answer.await.unwrap();
    assert!(status == 200 || status == 503, "{status} {text}");
    assert!(!text.contains("secret"), "{text}");

    office.tokens.replace(&[clerk()]);
    assert_eq!(stream.until("close").await.json()["data"]["code"], 4001);
    assert_eq!(problem(office.get(EVENTS, "repository=*")).await, (401, "unauthorized".into()));
    drop(office);
    writer.await.unwrap();
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up_and_delays_nobody() {
    let config = HubConfig {
        queue_events: 16,
        write_timeout: Duration::from_millis(300),
        silence: Duration::from_secs(600),
        ..HubConfig::default()
    };
    let server = Embedded::start(config).await;
    let mut dead = narrow(server.addr());
    let request = format!("GET {EVENTS}?repository=foo HTTP/1.1\r\nHost: localhost\r\n\r\n");
    dead.write_all(request.as_bytes()).await.unwrap();
    let mut head = vec![0; 32];
    dead.read_exact(&mut head).await.unwrap();
    let mut other = RawClient::subscribed(&server.url, &["foo"]).await;
    let mut told = 0;
    let given_up = async {
        while server.hub.stats().connections > 1 {
            let title = format!("{told} {}", "x".repeat(1_000));
            server.created("foo", &title);
            assert_eq!(other.next_event().await["data"]["task"]["title"], title);
            told += 1;
        }
    };
    within("the dead reader is given up", given_up).await;
    assert!(told > 0);
    let slow = taskwatch_client::CloseCode::Slow;
    assert!(server.hub.stats().closes.contains(&(slow, 1)));
    // It was cut: what is there to be read is not all, and does not look like the end.
    let mut rest = vec![];
    let _ = within("the end", dead.read_to_end(&mut rest)).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn a_server_that_stops_says_so_to_everybody_who_reads() {
    let data = TempDir::new().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    let since = head(daemon.url()).await;
    let mut stream = stream(daemon.url(), "repository=foo").await;
    stream.until("subscribed").await;
    let query = format!("repository=foo&wait=60&since={since}");
    let polls = [
        tokio::spawn(send(get(daemon.url(), CHANGES, &query))),
        tokio::spawn(send(
            get(daemon.url(), CHANGES, &query).header("accept", "application/jsonl"),
        )),
    ];
    let waiting = async {
        let metrics = Rest::new(daemon.url());
        loop {
            let page =
                metrics.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
            if page.contains("\ntaskwatch_connections 3\n") {
                break;
            }
        }
    };
    within("three connections", waiting).await;
    daemon.signal("TERM");
    let close = stream.until("close").await.json();
    assert_eq!((&close["data"]["code"], &close["data"]["word"]), (&json!(1012), &json!("restart")));
    // With three connections there is nothing to spread, and a browser still waits.
    assert!(close["data"]["retry_after_ms"].as_u64() < Some(1000), "{close}");
    assert_eq!(stream.retry, Some(1000));
    stream.expect_end().await;
    let [json, lines] = polls;
    let json = json.await.unwrap();
    assert_eq!(json.status(), 503);
    assert!(json.headers().contains_key("retry-after"));
    let lines = lines.await.unwrap().text().await.unwrap();
    assert!(
        lines.ends_with("}}\n") && lines.contains(r#"{"type":"close","data":{"code":1012,"#),
        "{lines}"
    );
    assert!(daemon.wait().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_after_its_time_and_nothing_is_lost_on_the_way() {
    let stream_lifetime = Duration::from_millis(20);
    let server = Embedded::start(HubConfig { stream_lifetime, ..HubConfig::default() }).await;
    let (mut since, mut got) = (head(&server.url).await, vec![]);
    let title = |event: &Value| event["data"]["task"]["title"].as_str().unwrap().to_owned();
    for number in 0..20 {
        let query = format!("repository=foo&since={since}");
        let mut stream = stream(&server.url, &query).await;
        server.created("foo", &number.to_string());
        let mut last = StreamEvent::default();
        while let Some(event) = within("an event", stream.try_next()).await.unwrap() {
            if event.is_task() {
                got.push(title(&event.json()));
            }
            since = event.id.clone().unwrap_or(since);
            last = event;
        }
        assert_eq!(last.kind, "close");
        assert_eq!(last.json()["data"], json!({"code": 4201, "word": "rebalance"}));
    }
    // The last may have been told when its stream was over.
    let answer = poll(&server.url, &format!("repository=foo&wait=0&since={since}")).await;
    got.extend(answer["events"].as_array().unwrap().iter().map(title));
    assert_eq!(got, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    empty(&server).await;
}

#[tokio::test]
async fn it_is_never_silent_for_long() {
    let heartbeat = Duration::from_millis(50);
    let server = Embedded::start(HubConfig { heartbeat, ..HubConfig::default() }).await;
    let mut stream = stream(&server.url, "repository=foo").await;
    let mut bookmark = stream.next().await.id;
    for _ in 0..3 {
        let cursor = server.created("other", "not wanted").to_string();
        // The next heartbeat may have been on its way.
        while bookmark.as_ref() != Some(&cursor) {
            let ping = stream.next().await;
            assert_eq!(
                (ping.kind.as_str(), &ping.json()["data"]["delivered"]),
                ("ping", &json!(0))
            );
            bookmark = ping.id;
        }
    }
}
