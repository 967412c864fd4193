//! A client of MCP that is nothing but HTTP requests.

use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use taskwatch_tests::{Rest, within};

/// The last revision without a handshake, which says with each request what is spoken.
pub(crate) const STATELESS: &str = "2026-07-28";

/// Somebody who calls tools.
#[derive(Debug)]
pub(crate) struct Agent {
    rest: Rest,
    version: Option<&'static str>,
    ids: AtomicU64,
}

impl Agent {
    /// Speaks the newest revision.
    pub(crate) fn new(rest: Rest) -> Self {
        Self::speaking(rest, Some(STATELESS))
    }

    /// Speaks a revision; `None` says nothing about it.
    pub(crate) fn speaking(rest: Rest, version: Option<&'static str>) -> Self {
        Self { rest, version, ids: AtomicU64::new(1) }
    }

    fn message(&self, method: &str, mut params: Value) -> Value {
        if self.version == Some(STATELESS) {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": STATELESS,
                "io.modelcontextprotocol/clientInfo": {"name": "agent", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }

    /// A request, to be sent.
    pub(crate) fn request(&self, method: &str, params: Value) -> reqwest::RequestBuilder {
        let message = self.message(method, params);
        let mut request = self
            .rest
            .request("POST", "/mcp")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-method", method)
            .json(&message);
        let params = &message["params"];
        if let Some(name) = params["name"].as_str().or_else(|| params["uri"].as_str()) {
            request = request.header("mcp-name", name);
        }
        match self.version {
            Some(version) if method != "initialize" => {
                request.header("mcp-protocol-version", version)
            }
            _ => request,
        }
    }

    /// What comes back for a request: `result` or `error`.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        let request = self.request(method, params).send();
        let response = within("an answer", request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(!response.headers().contains_key("mcp-session-id"), "a session");
        let answer: Value = within("an answer", response.json()).await.unwrap();
        assert_eq!(answer["jsonrpc"], "2.0");
        answer
    }

    /// What a tool says, and whether it is an error.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> (Value, bool) {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments})).await;
        let result = &answer["result"];
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let said: Value = serde_json::from_str(text).unwrap();
        assert_eq!(said, result["structuredContent"]);
        (said, result["isError"] == true)
    }

    /// What a tool answers.
    pub(crate) async fn done(&self, tool: &str, arguments: Value) -> Value {
        let (said, is_error) = self.call(tool, arguments).await;
        assert!(!is_error, "{tool}: {said}");
        said
    }

    /// Why a tool refuses.
    pub(crate) async fn refused(&self, tool: &str, arguments: Value) -> Value {
        let (said, is_error) = self.call(tool, arguments).await;
        assert!(is_error, "{tool}: {said}");
        said["error"].clone()
    }

    /// Listens to what happens to resources.
    pub(crate) async fn listen(&self, uris: &[&str]) -> Listening {
        let params = json!({"notifications": {"resourceSubscriptions": uris}});
        let request = self.request("subscriptions/listen", params).send();
        let response = within("a stream", request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut listening = Listening { response, text: String::new() };
        let first = listening.next().await.unwrap();
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        listening
    }
}

/// The stream of a subscription.
#[derive(Debug)]
pub(crate) struct Listening {
    response: Response,
    text: String,
}

impl Listening {
    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some((line, rest)) = self.text.split_once('\n') {
                let data = line.trim_end().strip_prefix("data:").map(str::trim_start);
                let message = data.map(|data| serde_json::from_str(data).unwrap());
                self.text = rest.to_owned();
                if message.is_some() {
                    return message;
                }
            }
            let piece = within("a message", self.response.chunk()).await.ok()??;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The resource that the next message is about.
    pub(crate) async fn updated(&mut self) -> String {
        let message = self.next().await.unwrap();
        assert_eq!(message["method"], "notifications/resources/updated");
        message["params"]["uri"].as_str().unwrap().to_owned()
    }
}
