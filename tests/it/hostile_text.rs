//! Whatever a task or a server says: programs get it as it is, and no terminal and no log obeys it.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use taskwatch_tests::{Daemon, LineReader, Rest, Watcher, binary, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Escape sequences (7-bit and 8-bit, OSC 52 among them), bidi, zero-width, tags, line separators.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]52;c;ZWNobw==\u{7}\u{9b}31m\u{9d}\u{85}\u{7f}\0\u{8}\u{b}\
    \u{202a}\u{202b}\u{202d}\u{202e}\u{202c}\u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\u{61c}\
    \u{200b}\u{200c}\u{200d}\u{feff}\u{2060}\u{2028}\u{2029}\u{e0041}\u{e007f}b";
/// The same, and what would begin a line of its own.
const LINES: &str = "\r\nFORGED ";

fn is_hazard(c: char) -> bool {
    HOSTILE.chars().chain(LINES.chars()).any(|it| it == c && !it.is_ascii_graphic() && it != ' ')
        || c.is_control()
}

/// Every line up to the end; each is harmless.
async fn harmless(mut output: LineReader) -> Vec<String> {
    let mut lines = vec![];
    while let Some(line) = output.next().await {
        assert!(!line.contains(is_hazard), "{line:?}");
        assert!(!line.starts_with("FORGED"), "{line:?}");
        lines.push(line);
    }
    lines
}

#[tokio::test]
async fn a_hostile_title_is_kept_shown_and_logged_without_harm() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("taskwatchd"));
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    command.env("RUST_LOG", "trace");
    let mut daemon = Daemon::spawn(command).await;
    let rest = Rest::new(daemon.url());
    let args = ["--repo", "foo", "--count", "3"];
    let people = Watcher::start(daemon.url(), &[&args[..], &["-vvv"]].concat()).await;
    let programs = Watcher::start(daemon.url(), &[&args[..], &["-o", "json"]].concat()).await;

    let several = format!("{HOSTILE}{LINES}{HOSTILE}");
    let body = json!({
        "repository": "foo", "title": HOSTILE, "description": several,
        "assignee": HOSTILE, "tags": [HOSTILE],
    });
    let created = rest.request("POST", "/api/v1/tasks").json(&body).send().await.unwrap();
    assert_eq!(created.status(), 201);
    let task: Value = created.json().await.unwrap();
    assert_eq!(task["title"], HOSTILE);
    let task = serde_json::from_value(task).unwrap();
    rest.patch(&task, json!({"title": format!("{HOSTILE}!")})).await;
    rest.delete(&task).await;
    let two_lines = json!({"repository": "foo", "title": format!("a{LINES}")});
    let refused = rest.request("POST", "/api/v1/tasks").json(&two_lines).send().await.unwrap();
    assert_eq!(refused.status(), 422, "a title is one line");
    let foreign = rest.request("GET", "/healthz").header("Origin", "http://evil.com\u{9b}\u{202e}");
    assert_eq!(foreign.send().await.unwrap().status(), 403);

    let shown = harmless(people.stdout).await;
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(shown[0].contains("a\\u{1b}[2J\\u{1b}]52;c;ZWNobw==\\u{7}\\u{9b}31m"), "{shown:?}");
    harmless(people.stderr).await;
    let printed = harmless(programs.stdout).await;
    let events: Vec<Value> =
        printed.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 3);
    assert_eq!(events[0]["data"]["task"]["title"], HOSTILE);
    assert_eq!(events[0]["data"]["task"]["description"], *several);
    assert_eq!(events[1]["data"]["changes"]["title"]["from"], HOSTILE);
    assert_eq!(events[2]["data"]["previous"]["assignee"], HOSTILE);

    daemon.signal("TERM");
    daemon.wait().await;
    let log = harmless(daemon.stderr).await;
    let told = log.iter().filter(|line| line.contains("\\u{1b}]52;c;ZWNobw==")).count();
    assert_eq!(told, 3, "one line for each change: {log:#?}");
}

/// What a server does after its upgrade.
type Server = WebSocketStream<TcpStream>;

/// A server for one connection, which says what it likes; what a watcher made of it.
async fn watched<F: Future<Output = ()> + Send + 'static>(
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> (Vec<String>, Vec<String>, Option<i32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        // It ends by itself: a second connection would find nobody.
        drop(listener);
        serve(socket).await;
    });
    let mut watcher = Watcher::spawn(&url, &["--repo", "foo", "--count", "1", "-vvv"]);
    within("the end of the server", server).await.unwrap();
    let ended = watcher.wait().await;
    (harmless(watcher.stdout).await, harmless(watcher.stderr).await, ended.code())
}

async fn send(socket: &mut Server, frame: Value) {
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

/// The upgrade, a welcome by somebody with a name, and the `subscribe` of the watcher.
async fn welcomed(socket: TcpStream) -> Server {
    let mut socket = accept_async(socket).await.unwrap();
    let limits = json!({"max_message_bytes": 1, "max_patterns_per_message": 1, "max_patterns": 1});
    let welcome = json!({
        "protocol": 1, "server": format!("{HOSTILE}{LINES}"), "heartbeat_ms": 20_000,
        "connection_id": uuid::Uuid::nil(), "limits": limits,
    });
    send(&mut socket, json!({"type": "welcome", "data": welcome})).await;
    socket.next().await.unwrap().unwrap();
    socket
}

/// Reads up to the end, so that nothing that was sent is lost.
async fn over(mut socket: Server) {
    while let Some(Ok(_)) = socket.next().await {}
}

fn subscribed(mode: &str, reason: Option<&str>) -> Value {
    let data = json!({"accepted": ["foo"], "denied": [], "mode": mode, "reason": reason});
    json!({"type": "subscribed", "id": "1", "cursor": "1", "data": data})
}

fn says(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text) && line.contains("a\\u{1b}[2J"))
}

#[tokio::test]
async fn a_hostile_server_and_the_words_of_its_events_are_shown_without_harm() {
    let (out, err, code) = watched(async |socket| {
        let mut socket = welcomed(socket).await;
        send(&mut socket, subscribed("live", None)).await;
        send(&mut socket, json!({"type": format!("x{LINES}"), "data": {HOSTILE: HOSTILE}})).await;
        let at = "2026-11-22T10:00:00Z";
        let task = json!({
            "id": uuid::Uuid::nil(), "repository": "foo", "title": format!("{HOSTILE}{LINES}"),
            "status": HOSTILE, "priority": LINES, "created_at": at, "updated_at": at, "version": 2,
        });
        let changes = json!({LINES: {"from": HOSTILE, "to": {HOSTILE: [LINES]}}});
        let event = json!({
            "task_id": uuid::Uuid::nil(), "repository": "foo", "version": 2,
            "changed_by": format!("{HOSTILE}{LINES}"), "task": task, "changes": changes,
        });
        send(&mut socket, json!({"type": "task.updated", "cursor": "2", "data": event})).await;
        over(socket).await;
    })
    .await;
    assert_eq!(code, Some(0), "{err:#?}");
    assert!(says(&out, "updated"), "{out:#?}");
    assert!(says(&err, "connected to"), "{err:#?}");
}

#[tokio::test]
async fn the_words_of_a_refusal_are_shown_without_harm() {
    let (_, err, code) = watched(async |socket| {
        let mut socket = welcomed(socket).await;
        let data = json!({"code": HOSTILE, "retryable": false});
        let error = format!("{HOSTILE}{LINES}");
        send(&mut socket, json!({"type": "error", "id": "1", "data": data, "error": error})).await;
        over(socket).await;
    })
    .await;
    assert_ne!(code, Some(0));
    assert!(says(&err, "error: the server refused the subscription"), "{err:#?}");

    let (_, err, code) = watched(async |mut socket| {
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let problem =
            json!({"status": 403, "code": "forbidden", "detail": format!("{HOSTILE}{LINES}")});
        let problem = problem.to_string();
        let answer = format!(
            "HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{problem}",
            problem.len()
        );
        socket.write_all(answer.as_bytes()).await.unwrap();
        // Until the other side has read it all.
        let _ = socket.read_to_end(&mut vec![]).await;
    })
    .await;
    assert_ne!(code, Some(0));
    assert!(says(&err, "error: the server refused the connection"), "{err:#?}");
}

#[tokio::test]
async fn the_words_of_an_end_are_shown_without_harm() {
    let (_, err, code) = watched(async |socket| {
        let mut socket = welcomed(socket).await;
        let reason = "a\u{1b}[2J\u{9b}\u{202e}\u{2028}\u{200b}\nFORGED".into();
        let close = CloseFrame { code: 4050.into(), reason };
        socket.close(Some(close)).await.unwrap();
        over(socket).await;
    })
    .await;
    assert_ne!(code, Some(0));
    assert!(says(&err, "error: the server closed the connection"), "{err:#?}");

    let (_, err, code) = watched(async |socket| {
        let mut socket = welcomed(socket).await;
        let reason = format!("{HOSTILE}{LINES}");
        send(&mut socket, subscribed("reset", Some(&reason))).await;
        over(socket).await;
    })
    .await;
    assert_ne!(code, Some(0));
    assert!(says(&err, "error: "), "{err:#?}");
}
