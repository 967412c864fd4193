//! Nobody sees what they may not read, and nobody stays who was let go.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde_json::{Value, json};
use taskwatch_protocol::Timestamp;
use taskwatch_tests::{Daemon, Grant, RawClient, Rest, TokensFile};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite;

const CHANGES: usize = 1_000;

struct Office {
    server: Daemon,
    tokens: TokensFile,
    _dir: TempDir,
}

fn ana() -> Grant {
    Grant::new("ana", "token-of-ana").reading(&["a", "shared/*"])
}

fn ben() -> Grant {
    Grant::new("ben", "token-of-ben").reading(&["b"]).writing(&["b"])
}

fn clerk() -> Grant {
    Grant::new("clerk", "token-of-the-clerk").reading(&["*"]).writing(&["*"]).with_metrics()
}

impl Office {
    async fn open(grants: &[Grant]) -> Self {
        let dir = TempDir::new().unwrap();
        let tokens = TokensFile::new(dir.path(), grants);
        let args = ["--tokens", tokens.path()];
        let server = Daemon::start_with(&dir.path().join("data"), "127.0.0.1:0", &args).await;
        Self { server, tokens, _dir: dir }
    }

    fn rest(&self, who: &str) -> Rest {
        Rest::new(self.server.url()).token(&format!("token-of-{who}"))
    }

    async fn connect(&self, who: &str, path: &str) -> RawClient {
        let token = format!("Bearer token-of-{who}");
        let headers = [("X-Version", "1"), ("Authorization", &*token)];
        RawClient::try_connect(self.server.url(), path, &headers).await.unwrap()
    }
}

/// Reads task events until so many have come: all text there was, and the cursor of the last.
async fn events(client: &mut RawClient, count: usize) -> (Vec<String>, Value) {
    let (mut seen, mut found, mut cursor) = (vec![], 0, Value::Null);
    while found < count {
        let frame = client.next().await;
        if frame["type"].as_str().unwrap().starts_with("task.") {
            found += 1;
            cursor = frame["cursor"].clone();
        }
        seen.push(frame.to_string());
    }
    (seen, cursor)
}

/// What belongs to the other one, wherever it stands.
fn assert_nothing_of(other: &str, seen: &[String]) {
    let marks = [format!("of-{other}-"), format!("\"repository\":\"{other}\"")];
    let slip = seen.iter().find(|text| marks.iter().any(|mark| text.contains(mark)));
    assert!(slip.is_none(), "{other} shows in {slip:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_principals_learn_nothing_of_each_other() {
    let office = Office::open(&[ana(), ben(), clerk()]).await;
    let clerk = office.rest("the-clerk");
    let mut live =
        [office.connect("ana", "/ws?repo=*").await, office.connect("ben", "/ws?repo=*").await];
    let mut since = vec![];
    for client in &mut live {
        since.push(client.until("subscribed").await["cursor"].clone());
    }
    join_all(["a", "b"].map(|name| {
        let clerk = clerk.clone();
        async move {
            for i in 0..CHANGES {
                clerk.create(name, &format!("secret-of-{name}-{i}")).await;
            }
        }
    }))
    .await;

    for (who, own, other) in [(0, "a", "b"), (1, "b", "a")] {
        let name = ["ana", "ben"][who];
        let (seen, last) = events(&mut live[who], CHANGES).await;
        assert_nothing_of(other, &seen);
        let titles: Vec<String> = seen
            .iter()
            .filter_map(|text| {
                serde_json::from_str::<Value>(text).unwrap()["data"]["task"]["title"]
                    .as_str()
                    .map(str::to_owned)
            })
            .collect();
        let expected: Vec<_> = (0..CHANGES).map(|i| format!("secret-of-{own}-{i}")).collect();
        assert_eq!(titles, expected);
        // Nothing more comes, though the other's last change may be behind it.
        live[who].send(json!({"type": "ping"})).await;
        assert_eq!(live[who].next().await["data"]["delivered"], CHANGES);

        let since = since[who].as_str().unwrap();
        let mut replay = office.connect(name, &format!("/ws?repo=*&since={since}")).await;
        assert_eq!(replay.until("subscribed").await["data"]["mode"], "resumed");
        let (seen, again) = events(&mut replay, CHANGES).await;
        assert_nothing_of(other, &seen);
        assert_eq!(again, last);

        let mut state = office.connect(name, "/ws?repo=*&snapshot=true").await;
        let (mut seen, mut tasks) = (vec![], 0);
        loop {
            let frame = state.next().await;
            tasks += frame["data"]["tasks"].as_array().map_or(0, Vec::len);
            seen.push(frame.to_string());
            if frame["data"]["last"] == true {
                break;
            }
        }
        assert_nothing_of(other, &seen);
        assert_eq!(tasks, CHANGES);
    }
    let metrics = clerk.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    assert_nothing_of("a", std::slice::from_ref(&metrics));
    assert_nothing_of("b", std::slice::from_ref(&metrics));
    assert!(!metrics.contains("ana") && !metrics.contains("ben"), "{metrics}");
}

/// Whether it is there is not told either: what may not be read and what does not exist are
/// refused in the same words.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_looks_as_if_it_were_not_there() {
    let office = Office::open(&[ana(), ben(), clerk()]).await;
    let hidden = office.rest("ben").create("b", "hidden").await;
    let ana = office.rest("ana");
    let ask = async |method: &str, path: String, body: Value| {
        let request = ana.request(method, &path);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        (status, text)
    };
    let nobody = "019abb4e-5c00-7a31-8f02-6d1c0b9e4a77";
    for (method, body) in
        [("GET", Value::Null), ("PATCH", json!({"title": "x"})), ("DELETE", Value::Null)]
    {
        let forbidden = ask(method, format!("/api/v1/tasks/{}", hidden.id), body.clone()).await;
        let unknown = ask(method, format!("/api/v1/tasks/{nobody}"), body).await;
        assert_eq!((forbidden.0, &forbidden), (404, &unknown), "{method}");
    }
    let create = |name: &str| json!({"repository": name, "title": "x"});
    let forbidden = ask("POST", "/api/v1/tasks".into(), create("b")).await;
    assert_eq!(forbidden, ask("POST", "/api/v1/tasks".into(), create("no-such")).await);
    assert_eq!(forbidden.0, 404);
    assert_eq!(ask("POST", "/api/v1/tasks".into(), create("a")).await.0, 403, "readable");
    let list = |name: &str| ask("GET", format!("/api/v1/tasks?repository={name}"), Value::Null);
    assert_eq!(list("b").await, list("no-such").await);

    let mut client = office.connect("ana", "/ws").await;
    client.until("welcome").await;
    let mut answers = vec![];
    for name in ["b", "no-such", "b/*", "no-such/*"] {
        let data = json!({"repositories": [name], "snapshot": true});
        client.send(json!({"type": "subscribe", "data": data})).await;
        let mut answer = client.next().await;
        answer["timestamp"] = Value::Null;
        answers.push(answer.to_string().replace(&format!("\"{name}\""), "NAME"));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert!(answers[0].contains("not_found"), "{answers:#?}");
    assert_eq!(ask("GET", "/metrics".into(), Value::Null).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_names_who_made_it() {
    let office = Office::open(&[ana(), ben(), clerk()]).await;
    let mut client = office.connect("the-clerk", "/ws?repo=*").await;
    client.until("subscribed").await;
    office.rest("ben").create("b", "new").await;
    assert_eq!(client.next_event().await["data"]["changed_by"], "ben");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_withdrawn_during_load_ends_what_it_gave() {
    let office = Office::open(&[ana(), clerk()]).await;
    let clerk_calls = office.rest("the-clerk");
    let writer = tokio::spawn(async move {
        // The server ends it.
        for i in 0.. {
            if clerk_calls.try_create("a", &format!("secret-of-a-{i}")).await.is_err() {
                break;
            }
        }
    });
    let mut client = office.connect("ana", "/ws?repo=*").await;
    let (_, cursor) = events(&mut client, 20).await;
    let reduced = Grant::new("ana", "token-of-ana").reading(&["shared/*"]);
    office.tokens.replace(&[reduced, clerk()]);
    assert_eq!(client.closed().await, Some(4203));

    let cursor = cursor.as_str().unwrap();
    let mut again = office.connect("ana", &format!("/ws?repo=*&repo=a&since={cursor}")).await;
    let answer = again.until("subscribed").await;
    assert_eq!(answer["data"]["accepted"], json!(["*"]));
    assert_eq!(answer["data"]["denied"][0]["repository"], "a");
    office.rest("the-clerk").create("shared/x", "for all").await;
    let event = again.next_event().await;
    assert_eq!(event["data"]["repository"], "shared/x", "not what happened in a");

    office.tokens.replace(&[clerk()]);
    assert_eq!(again.closed().await, Some(4001));
    let headers = [("X-Version", "1"), ("Authorization", "Bearer token-of-ana")];
    assert!(RawClient::try_connect(office.server.url(), "/ws", &headers).await.is_err());
    drop(office);
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_runs_out_is_renewed_or_ends() {
    let soon = SystemTime::now() + Duration::from_secs(3);
    let millis = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let soon = Timestamp::from_unix_millis(i64::try_from(millis).unwrap()).to_string();
    let short = Grant::new("ana", "token-of-ana").reading(&["a"]).expiring(&soon);
    let long = Grant::new("ana", "the-next-one").reading(&["a"]);
    let office = Office::open(&[short, long, ben()]).await;
    let mut renewed = office.connect("ana", "/ws?repo=a").await;
    let mut left = office.connect("ana", "/ws?repo=a").await;
    assert!(left.until("welcome").await["data"]["token_expires_in_ms"].is_u64());
    for (token, answer) in
        [("token-of-ben", "error"), ("no-token", "error"), ("the-next-one", "authenticated")]
    {
        renewed.send(json!({"type": "auth", "data": {"token": token}})).await;
        renewed.until(answer).await;
    }
    assert_eq!(left.closed().await, Some(4200));
    renewed.send(json!({"type": "ping", "id": "p"})).await;
    renewed.until("pong").await;
    let headers = [("X-Version", "1"), ("Authorization", "Bearer token-of-ana")];
    assert!(RawClient::try_connect(office.server.url(), "/ws", &headers).await.is_err());
}

/// The status of a refused upgrade, and its `Retry-After`.
async fn refused(office: &Office, headers: &[(&'static str, &str)]) -> (u16, Option<String>) {
    let Err(error) = RawClient::try_connect(office.server.url(), "/ws", headers).await else {
        panic!("let in with {headers:?}")
    };
    let tungstenite::Error::Http(answer) = *error else { panic!("{error}") };
    let wait = answer.headers().get("retry-after");
    (answer.status().as_u16(), wait.map(|wait| wait.to_str().unwrap().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_told_by_a_close_and_everybody_else_by_a_status() {
    let office = Office::open(&[ana()]).await;
    let bad = ("Sec-WebSocket-Protocol", "taskwatch.v1, bearer.Zm9yZ2Vk");
    let good = ("Sec-WebSocket-Protocol", "taskwatch.v1, bearer.dG9rZW4tb2YtYW5h");
    let page = ("Origin", office.server.url());
    let unreadable = ("Sec-WebSocket-Protocol", "taskwatch.v1, bearer.?");
    let none = ("Sec-WebSocket-Protocol", "taskwatch.v1");
    for headers in [[bad, page], [unreadable, page], [none, page]] {
        let mut client =
            RawClient::try_connect(office.server.url(), "/ws", &headers).await.unwrap();
        assert_eq!(client.try_next().await.unwrap_err().unwrap().code, 4001.into());
    }
    assert_eq!(refused(&office, &[bad]).await, (401, None));
    assert_eq!(refused(&office, &[("X-Version", "1")]).await, (401, None));
    assert_eq!(refused(&office, &[bad, ("Origin", "http://evil.example")]).await, (403, None));
    let mut client =
        RawClient::try_connect(office.server.url(), "/ws?repo=*", &[good, page]).await.unwrap();
    client.until("subscribed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_has_so_many_connections() {
    let office = Office::open(&[ana(), clerk()]).await;
    let mut held = vec![];
    for _ in 0..32 {
        held.push(office.connect("ana", "/ws").await);
    }
    let ana = [("X-Version", "1"), ("Authorization", "Bearer token-of-ana")];
    let (status, wait) = refused(&office, &ana).await;
    assert_eq!((status, wait.is_some()), (429, true));
    office.connect("the-clerk", "/ws").await.until("welcome").await;
    drop(held.pop());
    // The server notices that it is gone in its own time.
    while RawClient::try_connect(office.server.url(), "/ws", &ana).await.is_err() {}
}
