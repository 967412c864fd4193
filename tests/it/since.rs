//! Beginning at a time, or with the last events, on every way that events come.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use taskwatch_client::{Client, Cursor, Event, TransportChoice, Update, Updates, WatchError};
use taskwatch_protocol::{ErrorCode, EventKind, ResetReason, Timestamp};
use taskwatch_server::HubConfig;
use taskwatch_tests::{
    Daemon, EventStream, Grant, LoggedEvent, RawClient, Rest, TokensFile, read_log, within,
};
use tempfile::TempDir;

use crate::support::{Embedded, TestLog, client_over, cursor, events};

const EVENTS: &str = "/api/v1/events";
const CHANGES: &str = "/api/v1/changes";
const FUTURE: &str = "2999-01-01T00:00:00Z";
const WAYS: [TransportChoice; 3] =
    [TransportChoice::WebSocket, TransportChoice::Sse, TransportChoice::LongPoll];

fn time(envelope: &str) -> String {
    let envelope: Value = serde_json::from_str(envelope).unwrap();
    envelope["timestamp"].as_str().unwrap().to_owned()
}

fn kind(envelope: &str) -> String {
    let envelope: Value = serde_json::from_str(envelope).unwrap();
    envelope["type"].as_str().unwrap().to_owned()
}

/// Makes, changes and deletes tasks of two repositories, one of them rarely named.
async fn fill(rest: &Rest, rounds: usize) {
    for round in 0..rounds {
        let task = rest.create("often", &format!("{round}")).await;
        rest.patch(&task, json!({"status": "completed"})).await;
        if round % 4 == 1 {
            let task = rest.create("seldom/x", &format!("{round}")).await;
            rest.delete(&task).await;
        }
    }
}

/// What a tail of so many events is.
fn tail<'a>(log: &'a [LoggedEvent], names: &[&str], kinds: &str, count: usize) -> Vec<&'a str> {
    let wanted = log.iter().filter(|event| {
        names.contains(&event.repository.as_str())
            && (kinds.is_empty() || kinds.contains(&kind(&event.envelope)))
    });
    let wanted: Vec<_> = wanted.map(|event| event.envelope.as_str()).collect();
    wanted[wanted.len().saturating_sub(count)..].to_vec()
}

/// What has happened from a time on.
fn from<'a>(log: &'a [LoggedEvent], name: &str, time_from: &str) -> Vec<&'a str> {
    let wanted = log.iter().filter(|event| {
        (name == "*" || event.repository == name) && *time(&event.envelope) >= *time_from
    });
    wanted.map(|event| event.envelope.as_str()).collect()
}

/// A query of all ways begins exactly with these events, and then is live.
async fn begins_with(url: &str, name: &str, query: &str, expected: &[&str]) {
    let path = format!("/ws?repo={name}&{query}");
    let mut socket = RawClient::connect(url, &path).await;
    assert_eq!(socket.next().await["type"], "welcome");
    let answer = socket.next().await;
    assert_eq!(answer["data"]["mode"], "resumed", "{answer}");
    assert_eq!(events(&mut socket, expected.len()).await, expected, "{path}");

    let query = format!("repository={name}&{query}");
    let mut stream = EventStream::open(get(url, EVENTS, &query)).await;
    let first = stream.next().await;
    assert_eq!(
        (first.json()["data"]["mode"].as_str(), first.kind.as_str()),
        (Some("resumed"), "subscribed")
    );
    for expected in expected {
        assert_eq!(stream.next().await.data, *expected, "{query}");
    }
    // A bookmark, with nothing in between.
    let level = stream.next().await.json();
    assert_eq!(
        (&level["type"], &level["data"]["delivered"]),
        (&json!("ping"), &json!(expected.len()))
    );

    let polled = within("an answer", get(url, CHANGES, &format!("{query}&wait=0")).send()).await;
    let polled: Value = polled.unwrap().json().await.unwrap();
    let wanted: Vec<Value> =
        expected.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(polled["events"], json!(wanted), "{query}");
    assert_eq!(polled["cursor"], level["cursor"]);
}

fn get(url: &str, path: &str, query: &str) -> RequestBuilder {
    Rest::new(url).request("GET", &format!("{path}?{query}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_what_happened_from_then_on_also_after_a_restart() {
    let data = TempDir::new().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    fill(&Rest::new(daemon.url()), 6).await;
    daemon.kill().await;
    let daemon = Daemon::start(data.path()).await;
    let log = read_log(data.path());
    let times = [0, 3, 7, log.len() - 1].map(|at| time(&log[at].envelope));
    for time in times.iter().map(String::as_str).chain(["1999-01-01T00:00:00Z", FUTURE]) {
        for name in ["*", "seldom/x"] {
            let expected = from(&log, name, time);
            begins_with(daemon.url(), name, &format!("since_time={time}"), &expected).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_is_the_last_events_that_match_also_after_a_restart() {
    let data = TempDir::new().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    fill(&Rest::new(daemon.url()), 6).await;
    daemon.kill().await;
    let daemon = Daemon::start(data.path()).await;
    let log = read_log(data.path());
    let both = ["often", "seldom/x"];
    for (name, names, kinds, count) in [
        ("*", &both[..], "", 1),
        ("*", &both, "", 5),
        ("*", &both, "", 10_000),
        ("seldom/*", &both[1..], "", 3),
        ("often", &both[..1], "task.updated", 2),
        ("*", &both, "task.created,task.deleted", 6),
        ("nobody", &[], "", 3),
    ] {
        let expected = tail(&log, names, kinds, count);
        let types = if kinds.is_empty() { String::new() } else { format!("&types={kinds}") };
        begins_with(daemon.url(), name, &format!("tail={count}{types}"), &expected).await;
    }
    // Behind them it is live.
    let mut client = RawClient::connect(daemon.url(), "/ws?repo=often&tail=1").await;
    client.next_event().await;
    let task = Rest::new(daemon.url()).create("often", "live").await;
    assert_eq!(client.next_event().await["data"]["task_id"], task.id.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_not_counted() {
    let dir = TempDir::new().unwrap();
    let ana = Grant::new("ana", "token-of-ana").reading(&["often"]);
    let clerk = Grant::new("clerk", "token-of-clerk").reading(&["*"]).writing(&["*"]);
    let tokens = TokensFile::new(dir.path(), &[ana, clerk]);
    let data = dir.path().join("data");
    let args = ["--tokens", tokens.path()];
    let daemon = Daemon::start_with(&data, "127.0.0.1:0", &args).await;
    fill(&Rest::new(daemon.url()).token("token-of-clerk"), 6).await;
    let log = read_log(&data);
    let expected = tail(&log, &["often"], "", 4);

    let headers = [("X-Version", "1"), ("Authorization", "Bearer token-of-ana")];
    let mut client =
        RawClient::try_connect(daemon.url(), "/ws?repo=*&tail=4", &headers).await.unwrap();
    assert_eq!(events(&mut client, 4).await, expected);
    let since = format!("/ws?repo=*&since_time={}", time(&log[0].envelope));
    let mut client = RawClient::try_connect(daemon.url(), &since, &headers).await.unwrap();
    let all = tail(&log, &["often"], "", 100);
    assert_eq!(events(&mut client, all.len()).await, all);
    // Of what may not be read at all there is no tail either.
    let denied = Rest::new(daemon.url())
        .token("token-of-ana")
        .request("GET", &format!("{CHANGES}?repository=seldom/x&tail=4"));
    assert_eq!(within("an answer", denied.send()).await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_gone_a_time_is_a_reset_and_a_tail_is_what_is_left() {
    let data = TempDir::new().unwrap();
    let few = ["--retention-events", "3"];
    let daemon = Daemon::start_with(data.path(), "127.0.0.1:0", &few).await;
    let rest = Rest::new(daemon.url());
    fill(&rest, 3).await;
    // Of another time than what is thrown away.
    let between = Timestamp::from_unix_millis(now_millis() + 2).to_string();
    let is_later = async {
        while Timestamp::from_unix_millis(now_millis()).to_string() < between {
            tokio::task::yield_now().await;
        }
    };
    within("time passes", is_later).await;
    fill(&rest, 1).await;
    rest.create("often", "one more").await;
    // The server trims when it is idle.
    let trimmed = async {
        while read_log(data.path()).len() > 3 {
            tokio::task::yield_now().await;
        }
    };
    within("the server trims its log", trimmed).await;
    let log = read_log(data.path());

    // Everything since then is kept.
    let expected: Vec<_> = log.iter().map(|event| event.envelope.as_str()).collect();
    begins_with(daemon.url(), "*", &format!("since_time={between}"), &expected).await;
    begins_with(daemon.url(), "*", "tail=10", &expected).await;

    for (on_gap, accepted) in [("", json!([])), ("&on_gap=live", json!(["*"]))] {
        let path = format!("/ws?repo=*&since_time=1999-01-01T00:00:00Z{on_gap}");
        let mut client = RawClient::connect(daemon.url(), &path).await;
        client.next().await;
        let answer = client.next().await;
        assert_eq!(answer["data"]["mode"], "reset", "{answer}");
        assert_eq!(answer["data"]["reason"], "expired");
        assert_eq!(answer["data"]["accepted"], accepted);
    }
    let path = "/ws?repo=*&since_time=1999-01-01T00:00:00Z&on_gap=snapshot";
    let mut client = RawClient::connect(daemon.url(), path).await;
    assert_eq!(client.until("snapshot").await["data"]["last"], true);
    let gone = get(daemon.url(), CHANGES, "repository=*&since_time=1999-01-01T00:00:00Z");
    let gone = within("an answer", gone.send()).await.unwrap();
    assert_eq!(gone.status(), 410);
    assert_eq!(gone.json::<Value>().await.unwrap()["code"], "expired");
}

fn now_millis() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_goes_on_from_its_last_event() {
    let data = TempDir::new().unwrap();
    let daemon = Daemon::start(data.path()).await;
    fill(&Rest::new(daemon.url()), 4).await;
    let log = read_log(data.path());
    let last = cursor(&log[3].envelope);
    for start in ["tail=1", "since_time=2999-01-01T00:00:00Z"] {
        let request = get(daemon.url(), EVENTS, &format!("repository=*&{start}"));
        let mut stream = EventStream::open(request.header("last-event-id", &last)).await;
        assert_eq!(stream.next().await.id.as_deref(), Some(last.as_str()));
        for event in &log[4..] {
            assert_eq!(stream.next().await.data, event.envelope);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let server = Embedded::start(HubConfig::default()).await;
    for (query, code) in [
        ("tail=0", "bad_message"),
        ("tail=10001", "bad_message"),
        ("tail=-1", "bad_message"),
        ("since_time=yesterday", "bad_message"),
        ("tail=1&since=c1-0-0", "bad_message"),
        ("tail=1&since_time=2026-01-01T00:00:00Z", "bad_message"),
        ("since_time=2026-01-01T00:00:00Z&snapshot=true", "bad_message"),
    ] {
        for path in [EVENTS, CHANGES] {
            let refused = get(&server.url, path, &format!("repository=foo&{query}")).send().await;
            let refused = refused.unwrap();
            assert_eq!(refused.status(), 400, "{query}");
            assert_eq!(refused.json::<Value>().await.unwrap()["code"], code, "{query}");
        }
    }
    let mut client = RawClient::subscribed(&server.url, &["foo"]).await;
    for extra in [json!({"tail": 1}), json!({"since_time": FUTURE})] {
        let mut data = json!({"repositories": ["bar"]});
        data.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        client.send(json!({"type": "subscribe", "data": data})).await;
        assert_eq!(client.until("error").await["data"]["code"], "since_not_first");
    }
}

#[tokio::test]
async fn a_log_in_memory_knows_its_times_and_its_last_events() {
    let server = Embedded::start(HubConfig { cache_events: 4, ..HubConfig::default() }).await;
    let all: Vec<_> = (0..6).map(|at| server.created(["foo", "bar"][at % 2], "one")).collect();
    let begin = async |query: &str| {
        let mut client = RawClient::connect(&server.url, &format!("/ws?{query}")).await;
        client.next().await;
        client.next().await
    };
    assert_eq!(begin("repo=foo&tail=1").await["cursor"], all[3].as_str());
    assert_eq!(begin("repo=foo&tail=9").await["cursor"], all[1].as_str());
    let future = begin("repo=foo&since_time=2999-01-01T00:00:00Z").await;
    assert_eq!(
        (&future["data"]["mode"], &future["cursor"]),
        (&json!("resumed"), &json!(all[5].as_str()))
    );
    let past = begin("repo=foo&since_time=1999-01-01T00:00:00Z").await;
    assert_eq!(past["data"]["reason"], "expired");
}

async fn next(updates: &mut Updates) -> Update {
    within("an update", updates.next()).await.unwrap().unwrap()
}

/// What comes until the stream has caught up: whether it was resumed, and the events.
async fn beginning(updates: &mut Updates) -> (bool, Vec<Event>) {
    let (mut is_resumed, mut events) = (false, vec![]);
    loop {
        match next(updates).await {
            Update::Event(event) => events.push(event),
            Update::Connected { resumed, .. } => is_resumed = resumed,
            Update::CaughtUp { replayed, .. } => {
                assert_eq!(replayed, events.len() as u64);
                return (is_resumed, events);
            }
            Update::Connecting { .. } | Update::Bookmark(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_the_sdk_begins_there_on_every_way() {
    let data = TempDir::new().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    fill(&rest, 5).await;
    for way in WAYS {
        let client = client_over(daemon.url(), way);
        let log = read_log(data.path());
        let time = time(&log[4].envelope);
        let stream = || client.subscribe(["*"]).unwrap();
        for (stream, expected) in [
            (stream().tail(3), tail(&log, &["often", "seldom/x"], "", 3)),
            (
                stream().tail(3).types([EventKind::Deleted]),
                tail(&log, &["often", "seldom/x"], "task.deleted", 3),
            ),
            (stream().since_time(time.parse().unwrap()), from(&log, "*", &time)),
            // The last call counts.
            (
                stream().since(Cursor::new(cursor(&log[0].envelope))).tail(1),
                tail(&log, &["often", "seldom/x"], "", 1),
            ),
            (stream().tail(1).since_time(FUTURE.parse().unwrap()), vec![]),
        ] {
            let mut updates = stream.updates();
            let (is_resumed, events) = beginning(&mut updates).await;
            assert!(is_resumed);
            assert!(events.iter().all(|event| event.replayed));
            let envelopes: Vec<_> = events.iter().map(Event::envelope).collect();
            assert_eq!(envelopes, expected, "{way:?}");
        }
        let mut updates = stream().tail(2).updates();
        beginning(&mut updates).await;
        let task = rest.create("often", "live").await;
        let event = loop {
            if let Update::Event(event) = next(&mut updates).await {
                break event;
            }
        };
        assert_eq!((event.task_id, event.replayed), (task.id, false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_since_a_time_that_is_gone_ends_with_a_gap() {
    let server = Embedded::start(HubConfig { cache_events: 1, ..HubConfig::default() }).await;
    server.created("foo", "one");
    server.created("foo", "two");
    for way in WAYS {
        let stream = client_over(&server.url, way).subscribe(["foo"]).unwrap();
        let mut stream = stream.since_time("1999-01-01T00:00:00Z".parse().unwrap());
        let ended = within("the end", stream.next()).await.unwrap();
        assert_eq!(ended, Err(WatchError::Gap { reason: ResetReason::Expired }), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_looks_for_nothing_is_refused_to_the_stream() {
    let server = Embedded::with_log(TestLog::new(), HubConfig::default()).await;
    for way in WAYS {
        for begin in ["tail", "time"] {
            let stream = client_over(&server.url, way).subscribe(["foo"]).unwrap();
            let mut stream = match begin {
                "tail" => stream.tail(5),
                _ => stream.since_time(FUTURE.parse().unwrap()),
            };
            let ended = within("the end", stream.next()).await.unwrap();
            let Err(WatchError::Refused { code, .. }) = ended else { panic!("{ended:?}") };
            assert_eq!(code, ErrorCode::Unsupported);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_how_fresh_it_is() {
    let server = Embedded::start(HubConfig::default()).await;
    let client = Client::builder(&server.url).build().unwrap();
    let stream = client.subscribe(["foo"]).unwrap().freshness(Duration::from_secs(1));
    let mut updates = stream.updates();
    updates.ready().await.unwrap();
    let mut last = None;
    for round in 0..2 {
        // What was published before a question is yielded before its answer.
        let published = server.created("foo", &format!("{round}"));
        let mut is_here = false;
        loop {
            match next(&mut updates).await {
                Update::Event(event) => is_here |= event.cursor == published,
                Update::Fresh(fresh) if is_here => break last = Some(fresh.behind),
                _ => {}
            }
        }
    }
    assert!(last.is_some());
    assert_eq!(updates.cursor(), Some(head(&server).await));
}

async fn head(server: &Embedded) -> Cursor {
    let answer = get(&server.url, CHANGES, "repository=foo").send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    Cursor::new(answer["cursor"].as_str().unwrap())
}
