//! A client of the previous minor version at today's server, and today's client at a server of the
//! previous minor version. That is the protocol before `since_time`, `tail`, and `head` in a `pong`.
//!
//! What the other side sends and understands is spelt out here, and does not change with the code: move it
//! on with a new minor version, never to make a change pass.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use taskwatch_client::{Client, Transport, TransportChoice, Update, WatchError};
use taskwatch_protocol::{ErrorCode, Timestamp};
use taskwatch_tests::{Daemon, Rest, within};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_async, connect_async};

use crate::support::client_over;

/// What the client of then knew of a field.
#[derive(Clone, Copy, Debug)]
enum Known {
    Text,
    /// A text or null.
    Assignee,
    Number,
    Flag,
    Texts,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An object with these fields at least.
    Object(&'static [(&'static str, Self)]),
    /// Objects with these fields at least.
    List(&'static [(&'static str, Self)]),
    /// From a value to another, by the name of the field.
    Changes,
}

use Known::{Assignee, Changes, Flag, List, Number, Object, Text, Texts, Word};

const TASK: &[(&str, Known)] = &[
    ("id", Text),
    ("repository", Text),
    ("title", Text),
    ("description", Text),
    ("status", Word(&["pending", "in_progress", "completed", "cancelled"])),
    ("priority", Word(&["low", "medium", "high"])),
    ("assignee", Assignee),
    ("tags", Texts),
    ("created_at", Text),
    ("updated_at", Text),
    ("version", Number),
];

/// Why it may be told of a reset.
const REASONS: Known = Word(&["expired", "incarnation", "future", "malformed"]);

/// The frames that it acts on, with every field of them it needs.
const FRAMES: &[(&str, &[(&str, Known)])] = &[
    (
        "welcome",
        &[
            ("protocol", Number),
            ("server", Text),
            ("connection_id", Text),
            ("heartbeat_ms", Number),
            (
                "limits",
                Object(&[
                    ("max_message_bytes", Number),
                    ("max_patterns_per_message", Number),
                    ("max_patterns", Number),
                ]),
            ),
        ],
    ),
    (
        "task.created",
        &[
            ("task_id", Text),
            ("repository", Text),
            ("version", Number),
            ("changed_by", Text),
            ("task", Object(TASK)),
        ],
    ),
    (
        "task.updated",
        &[
            ("task_id", Text),
            ("repository", Text),
            ("version", Number),
            ("changed_by", Text),
            ("task", Object(TASK)),
            ("changes", Changes),
        ],
    ),
    (
        "task.deleted",
        &[
            ("task_id", Text),
            ("repository", Text),
            ("version", Number),
            ("changed_by", Text),
            ("previous", Object(TASK)),
        ],
    ),
    (
        "subscribed",
        &[
            ("accepted", Texts),
            ("denied", List(&[("repository", Text), ("code", Text)])),
            ("mode", Word(&["live", "resumed", "reset", "snapshot"])),
            ("head", Text),
        ],
    ),
    ("unsubscribed", &[("accepted", Texts), ("head", Text)]),
    ("ping", &[("delivered", Number)]),
    ("pong", &[("delivered", Number)]),
    ("error", &[("code", Text), ("retryable", Flag)]),
    (
        "snapshot",
        &[("repositories", Texts), ("tasks", List(TASK)), ("first", Flag), ("last", Flag)],
    ),
];

/// Whether a value is what it knew; what is beside it is passed over.
fn understood(value: &Value, known: Known) -> bool {
    let texts = |all: &Value| all.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    match known {
        Text => value.is_string(),
        Assignee => value.is_string() || value.is_null(),
        Number => value.is_u64(),
        Flag => value.is_boolean(),
        Texts => texts(value),
        Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        Object(fields) => {
            value.is_object() && fields.iter().all(|(name, known)| understood(&value[name], *known))
        }
        List(fields) => value
            .as_array()
            .is_some_and(|all| all.iter().all(|one| understood(one, Object(fields)))),
        Changes => value.as_object().is_some_and(|all| {
            all.values().all(|change| {
                (change.get("from").is_some() && change.get("to").is_some())
                    || change["truncated"] == true
            })
        }),
    }
}

/// A client of then.
struct Previous {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Task events that it has counted on this connection.
    counted: u64,
    /// What it would come back with.
    cursor: Option<String>,
}

impl Previous {
    async fn connect(url: &str, path: &str, header: (&'static str, &str)) -> Self {
        let url = format!("{}{path}", url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert(header.0, header.1.parse().unwrap());
        let (socket, _) = within("a WebSocket", connect_async(request)).await.unwrap();
        let mut client = Self { socket, counted: 0, cursor: None };
        assert_eq!(client.next().await["data"]["protocol"], 1);
        client
    }

    /// Sends these bytes.
    async fn send(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).await.unwrap();
    }

    /// The next frame that it knew, which must be as it knew it.
    async fn next(&mut self) -> Value {
        loop {
            let message = within("a frame", self.socket.next()).await.unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            let kind = frame["type"].as_str().unwrap();
            let Some((_, fields)) = FRAMES.iter().find(|(name, _)| *name == kind) else { continue };
            assert!(understood(&frame["data"], Object(fields)), "{frame}");
            assert!(frame["timestamp"].is_string(), "{frame}");
            self.counted += u64::from(kind.starts_with("task."));
            if let Some(cursor) = frame.get("cursor") {
                self.cursor = Some(cursor.as_str().unwrap().to_owned());
            }
            match kind {
                "task.created" | "task.updated" | "task.deleted" => {
                    assert!(frame["cursor"].is_string(), "{frame}");
                }
                "ping" | "pong" => assert_eq!(frame["data"]["delivered"], self.counted, "{frame}"),
                "error" => assert!(frame["error"].is_string(), "{frame}"),
                "subscribed" if frame["data"]["mode"] == "reset" => {
                    assert!(understood(&frame["data"]["reason"], REASONS), "{frame}");
                }
                _ => {}
            }
            if kind != "ping" {
                return frame;
            }
            self.send(r#"{"type":"pong"}"#).await;
        }
    }

    async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }
}

async fn server() -> (tempfile::TempDir, Daemon, Rest) {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    (data, daemon, rest)
}

const VERSION: (&str, &str) = ("X-Version", "1");

#[tokio::test]
async fn a_previous_client_watches_is_cut_and_resumes() {
    let (_data, daemon, rest) = server().await;
    let mut client = Previous::connect(daemon.url(), "/ws", VERSION).await;
    client
        .send(
            r#"{"type":"subscribe","id":"s1","data":{"repositories":["github.com/acme/*","foo"]}}"#,
        )
        .await;
    let subscribed = client.expect("subscribed").await;
    assert_eq!(subscribed["id"], "s1");
    assert_eq!(subscribed["data"]["mode"], "live");
    assert_eq!(subscribed["data"]["accepted"], json!(["github.com/acme/*", "foo"]));

    let task = rest.create("foo", "Water the plants").await;
    client.expect("task.created").await;
    let task = rest.patch(&task, json!({"status": "in_progress", "assignee": "ana"})).await;
    let updated = client.expect("task.updated").await;
    assert_eq!(
        updated["data"]["changes"]["status"],
        json!({"from": "pending", "to": "in_progress"})
    );
    client.send(r#"{"type":"ping","id":"p1"}"#).await;
    let pong = client.expect("pong").await;
    assert_eq!((&pong["id"], &pong["cursor"]), (&json!("p1"), &updated["cursor"]));
    client
        .send(r#"{"type":"unsubscribe","id":"u1","data":{"repositories":["github.com/acme/*"]}}"#)
        .await;
    assert_eq!(
        client.expect("unsubscribed").await["data"]["accepted"],
        json!(["github.com/acme/*"])
    );
    client.send(r#"{"type":"subscribe","id":"s2","data":{"repositories":["a b"]}}"#).await;
    let error = client.expect("error").await;
    assert_eq!((&error["id"], &error["data"]["code"]), (&json!("s2"), &json!("invalid_name")));
    client.send(r#"{"type":"subscribe","data":{"repositories":["bar"],"since":"x"}}"#).await;
    assert_eq!(client.expect("error").await["data"]["code"], "since_not_first");
    client.send(r#"{"type":"of another time","data":{}}"#).await;
    assert_eq!(client.expect("error").await["data"]["code"], "bad_message");

    // It is cut, and comes back with what it has seen, in each way it knew to say so.
    let since = client.cursor.take().unwrap();
    drop(client);
    rest.delete(&task).await;
    for path in ["/ws".to_owned(), format!("/ws?repo=foo&since={since}&on_gap=live")] {
        let mut client = Previous::connect(daemon.url(), &path, VERSION).await;
        if path == "/ws" {
            let frame = r#"{"type":"subscribe","id":"s1","data":{"repositories":["foo"],"since":"SINCE","on_gap":"error"}}"#;
            client.send(&frame.replace("SINCE", &since)).await;
        }
        assert_eq!(client.expect("subscribed").await["data"]["mode"], "resumed");
        assert_eq!(client.cursor.as_deref(), Some(&*since));
        let deleted = client.expect("task.deleted").await;
        assert_eq!(deleted["data"]["previous"]["title"], "Water the plants");
        client.send(r#"{"type":"ping"}"#).await;
        client.expect("pong").await;
    }
}

#[tokio::test]
async fn a_previous_client_is_told_of_a_gap_and_gets_the_present_state() {
    let (_data, daemon, rest) = server().await;
    rest.create("foo", "One").await;
    for (on_gap, follows) in [("live", false), ("snapshot", true)] {
        // Then as now a browser names the version by the subprotocol.
        let header = ("Sec-WebSocket-Protocol", "taskwatch.v1");
        let mut client = Previous::connect(daemon.url(), "/ws", header).await;
        let frame = r#"{"type":"subscribe","id":"s1","data":{"repositories":["foo"],"since":"gone","on_gap":"ON_GAP"}}"#;
        client.send(&frame.replace("ON_GAP", on_gap)).await;
        let subscribed = client.expect("subscribed").await;
        assert_eq!(subscribed["data"]["mode"], "reset");
        assert_eq!(subscribed["data"]["reason"], "malformed");
        if follows {
            let snapshot = client.expect("snapshot").await;
            assert_eq!(snapshot["data"]["tasks"][0]["title"], "One");
            assert_eq!(
                (&snapshot["data"]["first"], &snapshot["data"]["last"]),
                (&json!(true), &json!(true))
            );
        }
        assert!(client.cursor.is_some());
        let task = rest.create("foo", "Two").await;
        client.expect("task.created").await;
        rest.delete(&task).await;
    }
    let mut client = Previous::connect(daemon.url(), "/ws", ("X-Version", "1.0.0")).await;
    client
        .send(r#"{"type":"subscribe","id":"s1","data":{"repositories":["foo"],"snapshot":true}}"#)
        .await;
    assert_eq!(client.expect("subscribed").await["data"]["mode"], "snapshot");
    assert_eq!(client.expect("snapshot").await["id"], "s1");
    let mut client = Previous::connect(daemon.url(), "/ws", VERSION).await;
    client
        .send(r#"{"type":"subscribe","data":{"repositories":["foo"],"types":["task.deleted"]}}"#)
        .await;
    client.expect("subscribed").await;
    let task = rest.create("foo", "Three").await;
    rest.delete(&task).await;
    client.expect("task.deleted").await;
}

#[tokio::test]
async fn a_previous_client_polls() {
    let (_data, _daemon, rest) = server().await;
    let poll = async |query: &str| -> Value {
        let request = rest.request("GET", &format!("/api/v1/changes?repository=foo{query}"));
        let answer = within("an answer", request.send()).await.unwrap().error_for_status().unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json");
        answer.json().await.unwrap()
    };
    let first = poll("").await;
    assert_eq!(first["events"], json!([]));
    rest.create("foo", "One").await;
    let next = poll(&format!("&since={}&wait=5", first["cursor"].as_str().unwrap())).await;
    let event = &next["events"][0];
    let (_, fields) = FRAMES.iter().find(|(name, _)| event["type"] == *name).unwrap();
    assert!(understood(&event["data"], Object(fields)), "{event}");
    assert_eq!(next["cursor"], event["cursor"]);
}

/// A server of then, with the client of today at it.
struct PreviousServer {
    socket: WebSocketStream<TcpStream>,
}

impl PreviousServer {
    async fn accept(listener: &TcpListener) -> Self {
        let (socket, _) = within("a connection", listener.accept()).await.unwrap();
        let mut server = Self { socket: accept_async(socket).await.unwrap() };
        server.send(r#"{"type":"welcome","timestamp":"2026-11-22T10:00:00.000Z","data":{"protocol":1,"server":"taskwatch/0.0.9","connection_id":"019abb50-2f80-7c44-9d11-3e5a7b6c8d90","heartbeat_ms":20000,"limits":{"max_message_bytes":524288,"max_patterns_per_message":128,"max_patterns":128}}}"#).await;
        server
    }

    async fn send(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).await.unwrap();
    }

    /// The next frame but `pong`, which stands in no order.
    async fn next(&mut self) -> Value {
        loop {
            let message = within("a frame", self.socket.next()).await.unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] != "pong" {
                return frame;
            }
        }
    }

    /// Waits for a `pong`; how fresh the stream is may be asked before it.
    async fn is_answered(&mut self) {
        loop {
            let message = within("a pong", self.socket.next()).await.unwrap().unwrap();
            if message.to_text().is_ok_and(|text| text.contains(r#""type":"pong""#)) {
                return;
            }
        }
    }

    /// A `subscribe` in which there is nothing that it would not know.
    async fn subscription(&mut self) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["type"], "subscribe");
        let known = |value: &Value, known: &[&str]| {
            value.as_object().unwrap().keys().all(|name| known.contains(&name.as_str()))
        };
        assert!(known(&frame, &["type", "timestamp", "id", "data"]), "{frame}");
        let fields = ["repositories", "since", "on_gap", "snapshot", "types"];
        assert!(known(&frame["data"], &fields), "{frame}");
        frame
    }

    async fn over(mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

fn at(listener: &TcpListener) -> Client {
    let url = format!("http://{}", listener.local_addr().unwrap());
    client_over(&url, TransportChoice::WebSocket)
}

#[tokio::test]
async fn todays_client_watches_at_a_previous_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = at(&listener);
    let server = tokio::spawn(async move {
        let mut first = PreviousServer::accept(&listener).await;
        let asked = first.subscription().await;
        let answer = r#"{"type":"subscribed","timestamp":"2026-11-22T10:00:00.000Z","cursor":"c1-9f3a0c5d7e214b68-40","id":ID,"data":{"accepted":["foo"],"denied":[],"mode":"live","head":"c1-9f3a0c5d7e214b68-40"}}"#;
        first.send(&answer.replace("ID", &asked["id"].to_string())).await;
        // How fresh the stream is, is asked for; the answer of then does not tell.
        let asked = first.next().await;
        assert_eq!(asked["type"], "ping");
        first.send(r#"{"type":"task.created","timestamp":"2026-11-22T09:58:00.000Z","cursor":"c1-9f3a0c5d7e214b68-41","data":{"task_id":"019abb4e-5c00-7a31-8f02-6d1c0b9e4a77","repository":"foo","version":1,"changed_by":"ana","task":{"id":"019abb4e-5c00-7a31-8f02-6d1c0b9e4a77","repository":"foo","title":"Water the plants","description":"","status":"pending","priority":"medium","assignee":null,"tags":["home"],"created_at":"2026-11-22T09:58:00.000Z","updated_at":"2026-11-22T09:58:00.000Z","version":1}}}"#).await;
        let answer = r#"{"type":"pong","timestamp":"2026-11-22T10:00:07.000Z","cursor":"c1-9f3a0c5d7e214b68-41","id":ID,"data":{"delivered":1}}"#;
        first.send(&answer.replace("ID", &asked["id"].to_string())).await;
        first.send(r#"{"type":"ping","timestamp":"2026-11-22T10:00:20.000Z","cursor":"c1-9f3a0c5d7e214b68-41","data":{"delivered":1}}"#).await;
        first.is_answered().await;
        drop(first);

        let mut second = PreviousServer::accept(&listener).await;
        let asked = second.subscription().await;
        assert_eq!(asked["data"]["since"], "c1-9f3a0c5d7e214b68-41");
        let answer = r#"{"type":"subscribed","timestamp":"2026-11-22T10:01:00.000Z","cursor":"c1-9f3a0c5d7e214b68-41","id":ID,"data":{"accepted":["foo"],"denied":[],"mode":"resumed","head":"c1-9f3a0c5d7e214b68-42"}}"#;
        second.send(&answer.replace("ID", &asked["id"].to_string())).await;
        second.send(r#"{"type":"task.deleted","timestamp":"2026-11-22T10:00:30.000Z","cursor":"c1-9f3a0c5d7e214b68-42","data":{"task_id":"019abb4e-5c00-7a31-8f02-6d1c0b9e4a77","repository":"foo","version":2,"changed_by":"ana","previous":{"id":"019abb4e-5c00-7a31-8f02-6d1c0b9e4a77","repository":"foo","title":"Water the plants","description":"","status":"pending","priority":"medium","assignee":null,"tags":["home"],"created_at":"2026-11-22T09:58:00.000Z","updated_at":"2026-11-22T09:58:00.000Z","version":1}}}"#).await;
        second.send(r#"{"type":"ping","timestamp":"2026-11-22T10:01:00.000Z","cursor":"c1-9f3a0c5d7e214b68-42","data":{"delivered":1}}"#).await;
        // Once it is level it answers what else is asked for: by that the end of a replay is known.
        let asked = second.subscription().await;
        assert!(asked["data"].get("since").is_none(), "{asked}");
        let answer = r#"{"type":"subscribed","timestamp":"2026-11-22T10:01:00.000Z","cursor":"c1-9f3a0c5d7e214b68-42","id":ID,"data":{"accepted":["foo"],"denied":[],"mode":"live","head":"c1-9f3a0c5d7e214b68-42"}}"#;
        second.send(&answer.replace("ID", &asked["id"].to_string())).await;
        second.over().await;
    });

    let stream = client.subscribe(["foo"]).unwrap().freshness(Duration::from_secs(1));
    let mut updates = stream.updates();
    let mut story = vec![];
    // A client whose server is gone would tell of its attempts for ever.
    while story.last().is_none_or(|last: &String| last != "caught up with 1")
        && !server.is_finished()
    {
        let update = within("an update", updates.next()).await.unwrap().unwrap();
        story.push(match update {
            Update::Connected { resumed, server, transport, .. } => {
                assert_eq!((server.as_str(), transport), ("taskwatch/0.0.9", Transport::WebSocket));
                format!("connected, resumed {resumed}")
            }
            Update::Event(event) => event.kind().to_string(),
            Update::Interrupted { .. } => "interrupted".into(),
            Update::CaughtUp { replayed, .. } if replayed > 0 => {
                format!("caught up with {replayed}")
            }
            Update::Fresh { .. } => "fresh".into(),
            Update::Gap(_) => "gap".into(),
            _ => continue,
        });
    }
    assert_eq!(
        story,
        [
            "connected, resumed false",
            "task.created",
            "interrupted",
            "connected, resumed true",
            "task.deleted",
            "caught up with 1",
        ]
    );
    drop(updates);
    within("the end of the server", server).await.unwrap();
}

#[tokio::test]
async fn todays_client_is_told_that_a_previous_server_cannot_look_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = at(&listener);
    let server = tokio::spawn(async move {
        let mut server = PreviousServer::accept(&listener).await;
        let asked = server.next().await;
        assert!(asked["data"]["since_time"].is_string(), "{asked}");
        let answer = r#"{"type":"error","timestamp":"2026-11-22T10:00:00.000Z","id":ID,"data":{"code":"unsupported","retryable":false},"error":"this server does not offer since_time or tail"}"#;
        server.send(&answer.replace("ID", &asked["id"].to_string())).await;
        server.over().await;
    });
    let time: Timestamp = "2026-11-22T09:00:00Z".parse().unwrap();
    let mut stream = client.subscribe(["foo"]).unwrap().since_time(time);
    let refused = within("a refusal", stream.next()).await.unwrap().unwrap_err();
    let WatchError::Refused { code, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*code, ErrorCode::Unsupported);
    drop(stream);
    within("the end of the server", server).await.unwrap();
}
