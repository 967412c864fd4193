//! The bridge from stdin and stdout to a server.

use std::process::Stdio;

use serde_json::{Value, json};
use taskwatch_tests::{Daemon, Grant, LineReader, TokensFile, binary, within};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use crate::support::{Authority, STATELESS, TlsFront};

struct Bridge {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: LineReader,
    ids: u64,
}

impl Bridge {
    fn start(url: &str, args: &[&str]) -> Self {
        let mut command = Command::new(binary("taskwatchd"));
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_ascii_lowercase());
        }
        let mut child = command
            .args(["mcp", "--url", url])
            .args(args)
            .env_remove("TASKWATCH_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = LineReader::new(child.stdout.take().unwrap());
        Self { stdin: child.stdin.take(), child, stdout, ids: 0 }
    }

    async fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn request(&mut self, method: &str, mut params: Value) -> u64 {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": STATELESS,
            "io.modelcontextprotocol/clientInfo": {"name": "agent", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        self.ids += 1;
        let message = json!({"jsonrpc": "2.0", "id": self.ids, "method": method, "params": params});
        self.send(&message.to_string()).await;
        self.ids
    }

    async fn call(&mut self, tool: &str, arguments: Value) -> u64 {
        self.request("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// The next line: a message and nothing else.
    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.stdout.next().await.unwrap()).unwrap()
    }

    /// What a tool says.
    async fn said(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.call(tool, arguments).await;
        let answer = self.next().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer["result"]["structuredContent"].clone()
    }
}

#[tokio::test]
async fn messages_pass_both_ways_and_garbage_does_not() {
    let (server, _dir) = super::server().await;
    let mut bridge = Bridge::start(server.url(), &[]);
    for (line, code) in [("garbage", -32700), ("[]", -32600), ("{\"id\":1}", -32600)] {
        bridge.send(line).await;
        let answer = bridge.next().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(code)));
    }
    bridge.send("").await;
    bridge.send(r#"{"jsonrpc":"2.0","id":"x","result":{}}"#).await;
    bridge.send(r#"{"jsonrpc":"1.0","id":"mine","method":"tools/list"}"#).await;
    let answer = bridge.next().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("mine"), &json!(-32600)));

    let title = "line\u{2028}\u{202e}\u{1b}[2J";
    let made = bridge.said("create_task", json!({"repository": "foo", "title": title})).await;
    assert_eq!(made["task"]["title"], title);
    let uri = "taskwatch://repository/foo";
    let params = json!({"notifications": {"resourceSubscriptions": [uri]}});
    bridge.request("subscriptions/listen", params).await;
    assert_eq!(bridge.next().await["method"], "notifications/subscriptions/acknowledged");
    let id = bridge.call("delete_task", json!({"id": made["id"]})).await;
    let both = [bridge.next().await, bridge.next().await];
    assert!(both.iter().any(|message| message["params"]["uri"] == uri), "{both:?}");
    assert!(both.iter().any(|message| message["id"] == id), "{both:?}");

    // It ends although somebody listens.
    bridge.stdin.take();
    assert_eq!(bridge.stdout.next().await, None);
    assert!(within("the end", bridge.child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_and_found_again() {
    let dir = TempDir::new().unwrap();
    let mut server = Daemon::start(dir.path()).await;
    let addr = server.addr().to_owned();
    let mut bridge = Bridge::start(server.url(), &[]);
    let head = bridge.said("wait_for_changes", json!({"repositories": ["foo"]})).await;
    let wait = json!({"repositories": ["foo"], "cursor": head["cursor"], "timeout": 60});
    let waiting = bridge.call("wait_for_changes", wait.clone()).await;
    // That it waits, and does not only come: what is sent later is answered.
    bridge.said("list_tasks", json!({})).await;
    server.kill().await;
    let answer = bridge.next().await;
    assert_eq!(
        (&answer["id"], &answer["error"]["data"]["code"]),
        (&json!(waiting), &json!("unavailable"))
    );
    let id = bridge.call("list_tasks", json!({})).await;
    let answer = bridge.next().await;
    assert_eq!(
        (&answer["id"], &answer["error"]["data"]["code"]),
        (&json!(id), &json!("unavailable"))
    );

    let server = Daemon::start_with(dir.path(), &addr, &[]).await;
    bridge.said("create_task", json!({"repository": "foo", "title": "One"})).await;
    let happened = bridge.said("wait_for_changes", wait).await;
    assert_eq!(happened["events"].as_array().unwrap().len(), 1);
    drop(server);
}

#[tokio::test]
async fn a_cancelled_call_has_no_answer() {
    let (server, _dir) = super::server().await;
    let mut bridge = Bridge::start(server.url(), &[]);
    let head = bridge.said("wait_for_changes", json!({"repositories": ["foo"]})).await;
    let wait = json!({"repositories": ["foo"], "cursor": head["cursor"], "timeout": 60});
    let id = bridge.call("wait_for_changes", wait).await;
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    bridge.send(&cancel.to_string()).await;
    // It would be told of this.
    bridge.said("create_task", json!({"repository": "foo", "title": "One"})).await;
    bridge.stdin.take();
    assert_eq!(bridge.stdout.next().await, None);
}

#[tokio::test]
async fn the_token_is_the_one_in_the_file() {
    let dir = TempDir::new().unwrap();
    let grant = Grant::new("ana", "token-of-ana").reading(&["*"]).writing(&["*"]);
    let tokens = TokensFile::new(dir.path(), &[grant]);
    let args = ["--tokens", tokens.path()];
    let server = Daemon::start_with(&dir.path().join("data"), "127.0.0.1:0", &args).await;
    let file = dir.path().join("token");
    std::fs::write(&file, "wrong\n").unwrap();
    let mut bridge = Bridge::start(server.url(), &["--token-file", file.to_str().unwrap()]);
    let id = bridge.call("list_tasks", json!({})).await;
    let answer = bridge.next().await;
    assert_eq!(
        (&answer["id"], &answer["error"]["data"]["code"]),
        (&json!(id), &json!("unauthorized"))
    );
    std::fs::write(&file, "token-of-ana\n").unwrap();
    bridge.said("create_task", json!({"repository": "foo", "title": "One"})).await;
    let head = bridge.said("list_tasks", json!({})).await;
    assert_eq!(head["tasks"].as_array().unwrap().len(), 1);

    for args in [&["--url", "ws://127.0.0.1"][..], &["--token-file", "/no/such/file"]] {
        let output =
            Command::new(binary("taskwatchd")).arg("mcp").args(args).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && output.stderr.starts_with(b"taskwatchd: "), "{args:?}");
    }
}

#[tokio::test]
async fn a_certificate_is_trusted_by_who_names_its_authority() {
    let (server, _dir) = super::server().await;
    let authority = Authority::new("ours");
    let config = authority.issue(&["127.0.0.1"]);
    let front = TlsFront::start(server.addr(), config).await;
    let url = front.url("127.0.0.1");
    let ca = authority.file();
    let mut bridge = Bridge::start(&url, &["--cacert", ca.to_str().unwrap()]);
    let made = bridge.said("create_task", json!({"repository": "foo", "title": "One"})).await;
    assert_eq!(made["task"]["title"], "One");
    let mut bridge = Bridge::start(&url, &[]);
    bridge.call("list_tasks", json!({})).await;
    let answer = bridge.next().await;
    let told = answer["error"]["message"].as_str().unwrap();
    assert!(told.contains("certificate"), "{told}");
}
