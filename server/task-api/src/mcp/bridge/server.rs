//! The server at the other end of the bridge.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use url::Url;

use super::events::EventData;
use super::message::Message;
use super::send;
use crate::remote::{Remote, RemoteError, TokenSource, chain};

const PATH: &str = "mcp";
/// A server that restarts is away for less.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);
const CONNECT: Duration = Duration::from_secs(10);
/// Nothing is silent for longer: a wait takes a minute at most, and streams have signs of life.
const SILENCE: Duration = Duration::from_secs(90);

/// Where messages go.
#[derive(Debug)]
pub(super) struct Server {
    endpoint: Url,
    client: Client,
    token: TokenSource,
    /// What the answer to `initialize` said.
    version: Mutex<Option<String>>,
}

/// Why a message has no answer of the server.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) data: Option<Value>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), data: Some(json!({"code": "unavailable", "retryable": true})) }
    }
}

impl Server {
    pub(super) fn new(remote: &Remote) -> Result<Self, RemoteError> {
        Ok(Self {
            endpoint: endpoint(remote)?,
            client: remote.client(CONNECT, SILENCE)?,
            token: remote.token()?,
            version: Mutex::new(None),
        })
    }

    /// Sends a message, and to the client what comes back.
    pub(super) async fn pass_on(
        &self,
        message: &Message,
        output: &mpsc::Sender<String>,
    ) -> Result<(), Failure> {
        let mut response = self.post(message).await?;
        let Some(id) = &message.id else {
            let status = response.status();
            let refused = || Failure::new(format!("the server refused a notification: {status}"));
            return status.is_success().then_some(()).ok_or_else(refused);
        };
        let media_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_stream = media_type.is_some_and(|value| value.starts_with(b"text/event-stream"));
        if !is_stream {
            let status = response.status();
            let body = response.bytes().await.map_err(|_| broken_off())?;
            let answer = self.answer(&body, id).ok_or_else(|| refusal(status, &body))?;
            self.negotiated(message, &answer);
            send(output, &answer).await;
            return Ok(());
        }
        let mut events = EventData::default();
        while let Some(piece) = response.chunk().await.map_err(|_| broken_off())? {
            for data in events.push(&piece) {
                let Ok(part) = serde_json::from_slice::<Value>(&data) else { continue };
                let is_answer = part.get("method").is_none();
                self.negotiated(message, &part);
                send(output, &part).await;
                if is_answer {
                    return Ok(());
                }
            }
        }
        Err(broken_off())
    }

    async fn post(&self, message: &Message) -> Result<Response, Failure> {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut request = self
                .client
                .post(self.endpoint.clone())
                .header(ACCEPT, "application/json, text/event-stream")
                .header(CONTENT_TYPE, "application/json")
                .body(message.text.clone());
            for (name, value) in message.headers(version.as_deref()) {
                request = request.header(name, value);
            }
            if let Some(token) = self.token.header().map_err(no_token)? {
                request = request.header(AUTHORIZATION, token);
            }
            match request.send().await {
                Ok(response) => return Ok(response),
                // Nothing was sent yet, so nothing is done twice.
                Err(error) if error.is_connect() && Instant::now() < deadline => sleep(PAUSE).await,
                Err(error) if error.is_connect() => {
                    let server = self.endpoint.origin().ascii_serialization();
                    return Err(Failure::new(format!(
                        "there is no connection to the task server at {server}: {}; start it, or \
                         name another one with --url",
                        chain(&error.without_url())
                    )));
                }
                Err(_) => return Err(broken_off()),
            }
        }
    }

    /// A body that is the answer to this request. One that could not tell whose it is gets its id.
    fn answer(&self, body: &[u8], id: &Value) -> Option<Value> {
        let mut answer: Value = serde_json::from_slice(body).ok()?;
        let is_answer = answer.get("jsonrpc").is_some()
            && (answer.get("result").is_some() || answer.get("error").is_some());
        if !is_answer {
            return None;
        }
        answer["id"] = id.clone();
        Some(answer)
    }

    fn negotiated(&self, message: &Message, answer: &Value) {
        if message.negotiates()
            && let Some(version) = answer["result"]["protocolVersion"].as_str()
        {
            let mut known = self.version.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(version.to_owned());
        }
    }
}

/// Where the server at this URL speaks MCP.
fn endpoint(remote: &Remote) -> Result<Url, RemoteError> {
    let base = remote.base()?;
    let is_there = base.path().rsplit('/').next() == Some(PATH);
    if is_there { Ok(base) } else { remote.at(PATH) }
}

/// An answer that is not of MCP: mostly a problem of this server, or something between.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let problem: Option<Value> = serde_json::from_slice(body).ok();
    let problem = problem.filter(|problem| problem["detail"].is_string());
    let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    let text = match (status, detail) {
        (_, Some(detail)) => format!("the task server refused: {status}: {detail}"),
        (_, None) => format!("there is no task server that speaks MCP at this URL: {status}"),
    };
    Failure { text, data: problem }
}

fn no_token(reason: String) -> Failure {
    Failure {
        text: format!("the token file cannot be used: {reason}"),
        data: Some(json!({"code": "unauthorized", "retryable": false})),
    }
}

fn broken_off() -> Failure {
    Failure::new(
        "the connection to the task server broke off before the answer; whether a change was made is \
         not known: read before repeating it, or repeat it with the same idempotency_key",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_that_of_the_server_or_of_its_mcp() {
        for (url, expected) in [
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787/mcp"),
            ("http://127.0.0.1:8787/", "http://127.0.0.1:8787/mcp"),
            ("https://tasks.example.com/mcp", "https://tasks.example.com/mcp"),
            ("https://example.com/tasks/?a#b", "https://example.com/tasks/mcp"),
        ] {
            let remote = Remote { url: url.to_owned(), token_file: None, cacert: None };
            assert_eq!(endpoint(&remote).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_refusal_says_what_the_server_said() {
        let problem = br#"{"status":401,"code":"unauthorized","detail":"no token"}"#;
        let failure = refusal(StatusCode::UNAUTHORIZED, problem);
        assert!(failure.text.ends_with("401 Unauthorized: no token"), "{failure}");
        assert_eq!(failure.data.unwrap()["code"], "unauthorized");
        assert!(refusal(StatusCode::BAD_GATEWAY, b"<html>").data.is_none());
    }
}
