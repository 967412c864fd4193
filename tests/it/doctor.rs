//! `taskwatch doctor` says in words which step of the way fails, and what to do about it.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use taskwatch_protocol::Timestamp;
use taskwatch_tests::{
    Daemon, Ended, Gateway, Grant, Habits, TokensFile, TunnelProxy, Upgrades, run_taskwatch,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::support::{Authority, TlsFront};

const CHECKS: [&str; 13] = [
    "address",
    "name",
    "tcp",
    "proxy",
    "tls",
    "server",
    "upgrade",
    "version",
    "token",
    "permission",
    "round_trip",
    "sse",
    "clock",
];

async fn doctor(url: &str, args: &[&str], env: &[(&str, &str)]) -> Ended {
    let ended = run_taskwatch(&[&["doctor", "--url", url], args].concat(), env).await;
    assert_eq!(ended.stderr, "");
    ended
}

/// A line of the report: how the check went, and all that is said of it with the advice.
fn found(ended: &Ended, check: &str) -> (String, String) {
    let mut lines = ended.stdout.lines();
    let is_it = |line: &&str| line.split_whitespace().nth(1) == Some(check);
    let line = lines.find(is_it).unwrap_or_else(|| panic!("no {check}: {}", ended.stdout));
    let advice = lines.next().filter(|line| line.contains('→')).unwrap_or_default();
    (line.split_whitespace().next().unwrap().to_owned(), format!("{line} {advice}"))
}

/// One check fails, and says these words; all before it are well, and all after it were left out, but
/// for the clock, which may be known.
fn fails_at(ended: &Ended, check: &str, words: &[&str]) {
    let at = CHECKS.iter().position(|it| *it == check).unwrap();
    for name in &CHECKS[..at] {
        assert!(matches!(&*found(ended, name).0, "ok" | "–"), "{}", ended.stdout);
    }
    let (mark, text) = found(ended, check);
    assert_eq!(mark, "FAIL", "{}", ended.stdout);
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(text.contains('→'), "no advice: {text}");
    for name in CHECKS[at + 1..].iter().filter(|name| **name != "clock") {
        assert_eq!(found(ended, name).0, "–", "{name}: {}", ended.stdout);
    }
}

/// A server that does with each request what the test says.
struct Fake {
    url: String,
    task: JoinHandle<()>,
}

impl Fake {
    async fn start<F>(serve: impl Fn(String, TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    let Ok(byte) = tcp.read_u8().await else { break };
                    head.push(char::from(byte));
                }
                // One that only looks whether somebody is there asks nothing.
                if head.ends_with("\r\n\r\n") {
                    tokio::spawn(serve(head, tcp));
                }
            }
        });
        Self { url, task }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_upgrade(head: &str) -> bool {
    head.to_ascii_lowercase().contains("upgrade: websocket")
}

/// A server that asks for tokens: that of ana, who may read `a`.
struct Office {
    daemon: Daemon,
    _folder: TempDir,
}

const ANA: (&str, &str) = ("TASKWATCH_TOKEN", "token-of-ana");

impl Office {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let grant = Grant::new("ana", ANA.1).reading(&["a"]).expiring("2199-01-01T00:00:00Z");
        let tokens = TokensFile::new(folder.path(), &[grant]);
        let args = ["--tokens", tokens.path()];
        let data = folder.path().join("data");
        Self { daemon: Daemon::start_with(&data, "127.0.0.1:0", &args).await, _folder: folder }
    }
}

#[tokio::test]
async fn a_healthy_way_is_well_at_each_step() {
    let office = Office::open().await;
    let ended = doctor(office.daemon.url(), &["--repo", "a"], &[ANA]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    let checks: Vec<_> = ended.stdout.lines().map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(checks, CHECKS.map(Some));
    assert!(ended.stdout.lines().all(|line| line.starts_with("ok ")), "{}", ended.stdout);
    assert!(
        found(&ended, "token").1.contains("taken as that of ana; it lasts "),
        "{}",
        ended.stdout
    );
    assert!(found(&ended, "permission").1.contains("a may be watched"), "{}", ended.stdout);

    // The same, encrypted, for a program.
    let authority = Authority::new("ours");
    let front = TlsFront::start(office.daemon.addr(), authority.issue(&["127.0.0.1"])).await;
    let cacert = authority.file();
    let args = ["-o", "json", "--cacert", cacert.to_str().unwrap()];
    let ended = doctor(&front.url("127.0.0.1"), &args, &[ANA]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    for (line, check) in ended.stdout.lines().zip(CHECKS) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["check"], &line["outcome"]), (&json!(check), &json!("good")));
        if check == "tls" {
            let message = line["message"].as_str().unwrap();
            assert!(message.starts_with("TLSv1_3") && message.contains(" more days"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_wrong_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let ended = doctor(&format!("http://{addr}"), &[], &[]).await;
    assert_eq!(ended.code, Some(1));
    let words = ["nobody takes a connection at 127.0.0.1:", "refused", "is the server running"];
    fails_at(&ended, "tcp", &words);

    let ended = doctor("http://no-such-host.invalid", &[], &[]).await;
    assert_eq!(ended.code, Some(1));
    fails_at(&ended, "name", &["no-such-host.invalid cannot be looked up", "spelt right"]);
}

#[tokio::test]
async fn tls_to_a_plain_port_and_the_other_way_round() {
    let office = Office::open().await;
    let ended = doctor(&format!("https://{}", office.daemon.addr()), &[], &[]).await;
    assert_eq!(ended.code, Some(1));
    let advice = format!("try --url {}", office.daemon.url());
    fails_at(&ended, "tls", &["that port does not speak TLS", &advice]);

    let config = Authority::new("ours").issue(&["127.0.0.1"]);
    let front = TlsFront::start(office.daemon.addr(), config).await;
    let ended = doctor(&format!("http://{}", front.addr()), &[], &[]).await;
    assert_eq!(ended.code, Some(1));
    let advice = format!("try --url https://{}", front.addr());
    fails_at(&ended, "tls", &["the address says http, but that port speaks TLS", &advice]);
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted() {
    let office = Office::open().await;
    let authority = Authority::new("ours");
    let cacert = authority.file();
    for (config, why) in [
        (authority.issue_expired(&["127.0.0.1"]), "it has expired"),
        (authority.issue(&["tasks.example"]), "it is not for 127.0.0.1, but for"),
        (Authority::new("other").issue(&["127.0.0.1"]), "nobody who is trusted has issued it"),
    ] {
        let front = TlsFront::start(office.daemon.addr(), config).await;
        let args = ["--cacert", cacert.to_str().unwrap()];
        let ended = doctor(&front.url("127.0.0.1"), &args, &[ANA]).await;
        assert_eq!(ended.code, Some(1));
        fails_at(&ended, "tls", &["the certificate is not accepted", why, "--cacert"]);
    }
}

#[tokio::test]
async fn a_token_that_is_missing_or_bad() {
    let office = Office::open().await;
    let ended = doctor(office.daemon.url(), &[], &[]).await;
    assert_eq!(ended.code, Some(3));
    fails_at(&ended, "token", &["the server wants a token, and there is none", "--token-file"]);
    let ended = doctor(office.daemon.url(), &[], &[("TASKWATCH_TOKEN", "token-of-ben")]).await;
    assert_eq!(ended.code, Some(3));
    fails_at(&ended, "token", &["the server does not take the token", "run out"]);
    assert!(!ended.stdout.contains("token-of-ben"), "{}", ended.stdout);
    // A clock that is wrong is a reason for it, so that is known all the same.
    assert_eq!(found(&ended, "clock").0, "ok", "{}", ended.stdout);
}

#[tokio::test]
async fn a_missing_permission() {
    let office = Office::open().await;
    let ended = doctor(office.daemon.url(), &["--repo", "secret", "--repo", "a"], &[ANA]).await;
    assert_eq!(ended.code, Some(3));
    let (mark, text) = found(&ended, "permission");
    assert!(mark == "FAIL" && text.contains("secret does not exist, or may not be read"), "{text}");
    assert!(text.contains("the token needs the right to read it"), "{text}");
    assert!(ended.stdout.contains("permission  a may be watched"), "{}", ended.stdout);
    // What comes after it does not depend on it.
    assert_eq!(found(&ended, "sse").0, "ok", "{}", ended.stdout);
}

#[tokio::test]
async fn an_old_protocol() {
    let server = Fake::start(|head, mut tcp| async move {
        let code = if is_upgrade(&head) { "version" } else { "version_missing" };
        let body = json!({"code": code, "detail": "this server speaks version 7 only"}).to_string();
        let answer = format!(
            "HTTP/1.1 426 Upgrade Required\r\nContent-Type: application/problem+json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let _ = tcp.write_all(answer.as_bytes()).await;
    })
    .await;
    let ended = doctor(&server.url, &[], &[]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    let words = ["this client speaks version 1", "this server speaks version 7 only", "update"];
    fails_at(&ended, "version", &words);
}

#[tokio::test]
async fn a_proxy_that_lets_no_websocket_or_nothing_through() {
    let office = Office::open().await;
    let habits = Habits { upgrades: Upgrades::Refuse, holds_streams: false };
    let gateway = Gateway::start(office.daemon.addr(), habits).await;
    let ended = doctor(&gateway.url(), &["--repo", "a", "--repo", "b"], &[ANA]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    let (mark, text) = found(&ended, "upgrade");
    assert_eq!(mark, "FAIL");
    for word in ["WebSocket is blocked", "answers 403", "plain HTTP by itself", "Upgrade"] {
        assert!(text.contains(word), "{text}");
    }
    // The rest is found out over plain HTTP.
    for (check, mark) in [("version", "–"), ("token", "ok"), ("permission", "ok"), ("sse", "ok")]
    {
        assert_eq!(found(&ended, check).0, mark, "{}", ended.stdout);
    }
    assert!(ended.stdout.contains("b does not exist"), "{}", ended.stdout);
    let ended = doctor(&gateway.url(), &["--repo", "b"], &[ANA]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    assert_eq!(found(&ended, "permission").0, "FAIL", "{}", ended.stdout);

    let known = "Basic YW5hOnMzY3JldA==";
    let proxy = TunnelProxy::start(office.daemon.addr(), known, Some("403 Forbidden")).await;
    for (password, words) in [
        ("s3cret", ["gives no way to tasks.example:8787: it answered 403", "allow CONNECT"]),
        ("0ther", ["wants a user and a password that it knows (407)", "USER:PASSWORD@HOST"]),
    ] {
        let address = format!("http://ana:{password}@{}", proxy.addr());
        let ended = doctor("http://tasks.example:8787", &[], &[("http_proxy", &address)]).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stdout);
        fails_at(&ended, "proxy", &[words[0], words[1], "http_proxy"]);
        assert!(!ended.stdout.contains(password), "{}", ended.stdout);
    }

    let ended = doctor(office.daemon.url(), &[], &[("http_proxy", "http://127.0.0.1:1")]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    fails_at(&ended, "tcp", &["at 127.0.0.1:1", "this is the proxy that http_proxy names"]);

    // One that lets it through is named.
    let proxy = TunnelProxy::start(office.daemon.addr(), known, None).await;
    let address = format!("http://ana:s3cret@{}", proxy.addr());
    let ended = doctor("http://localhost:8787", &[], &[ANA, ("ALL_PROXY", &address)]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    let named = format!("http://{}, named by ALL_PROXY,", proxy.addr());
    assert!(found(&ended, "proxy").1.contains(&named), "{}", ended.stdout);
}

#[tokio::test]
async fn events_that_are_held_back() {
    let office = Office::open().await;
    let habits = Habits { upgrades: Upgrades::Pass, holds_streams: true };
    let gateway = Gateway::start(office.daemon.addr(), habits).await;
    let ended = doctor(&gateway.url(), &[], &[ANA]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    let (mark, text) = found(&ended, "sse");
    assert!(
        mark == "warn" && text.contains("held back") && text.contains("proxy_buffering"),
        "{text}"
    );
    assert_eq!(found(&ended, "round_trip").0, "ok");
}

#[tokio::test]
async fn somebody_else_who_answers() {
    let server = Fake::start(|_, mut tcp| async move {
        let answer = "HTTP/1.1 200 OK\r\nServer: plants\r\nContent-Length: 0\r\n\r\n";
        let _ = tcp.write_all(answer.as_bytes()).await;
    })
    .await;
    let ended = doctor(&server.url, &[], &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    fails_at(&ended, "server", &["plants answers 200, which no task server would", "--url"]);

    // The server itself, below a path that it does not have.
    let office = Office::open().await;
    let ended = doctor(&format!("{}/team", office.daemon.url()), &[], &[ANA]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    fails_at(&ended, "upgrade", &["(404)", "the path in --url"]);
}

#[tokio::test]
async fn a_clock_that_is_wrong() {
    const HOUR_MS: i64 = 3_600_000;
    let server = Fake::start(|head, mut tcp| async move {
        if !is_upgrade(&head) {
            let body = r#"{"code":"upgrade_required","detail":"upgrade"}"#;
            let answer = format!(
                "HTTP/1.1 426 Upgrade Required\r\nContent-Type: application/problem+json\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = tcp.write_all(answer.as_bytes()).await;
            return;
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_millis()).unwrap();
        let shown = Timestamp::from_unix_millis(now + HOUR_MS).to_string();
        let key = head.lines().filter_map(|line| line.split_once(": "));
        let mut key = key.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
        let accept = derive_accept_key(key.next().unwrap().1.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        tcp.write_all(answer.as_bytes()).await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(tcp, Role::Server, None).await;
        let welcome = json!({"type": "welcome", "timestamp": shown, "data": {
            "protocol": 1, "server": "fake/1", "heartbeat_ms": 20_000,
            "connection_id": "019abb50-2f80-7c44-9d11-3e5a7b6c8d90",
            "limits": {"max_message_bytes": 1, "max_patterns_per_message": 1, "max_patterns": 1},
        }});
        let _ = socket.send(Message::text(welcome.to_string())).await;
        while let Some(Ok(Message::Text(text))) = socket.next().await {
            let asked: Value = serde_json::from_str(&text).unwrap();
            let answer = match asked["type"].as_str().unwrap() {
                "subscribe" => {
                    json!({"type": "subscribed", "id": asked["id"], "cursor": "c", "data": {
                        "accepted": ["*"], "denied": [], "mode": "live",
                    }})
                }
                _ => json!({"type": "pong", "id": asked["id"], "timestamp": shown, "data": {}}),
            };
            let _ = socket.send(Message::text(answer.to_string())).await;
        }
    })
    .await;
    let ended = doctor(&server.url, &[], &[]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    let (mark, text) = found(&ended, "clock");
    assert_eq!(mark, "warn", "{}", ended.stdout);
    assert!(text.contains("ahead of this machine's") && text.contains("--since 10m"), "{text}");
    assert!(text.contains("is 1h") || text.contains("is 59m"), "{text}");
}
