//! The server at the other end of the bridge.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use reqwest::{Certificate, Client, Response, redirect};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use url::Url;

use super::events::EventData;
use super::message::Message;
use super::{BridgeError, McpBridge, send};

const PATH: &str = "mcp";
const TOKEN_VARIABLE: &str = "TASKWATCH_TOKEN";
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

#[derive(Debug)]
enum TokenSource {
    None,
    Variable(HeaderValue),
    File(PathBuf),
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
    pub(super) fn new(bridge: &McpBridge) -> Result<Self, BridgeError> {
        // This process does nothing else with TLS. Another one may be the default already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut client = Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(redirect::Policy::none())
            // A connection for each message: one that was kept may be gone when it is used, and then
            // nobody knows whether the message arrived.
            .pool_max_idle_per_host(0);
        if let Some(path) = &bridge.cacert {
            let fault = |reason: String| BridgeError::File { path: path.clone(), reason };
            let pem = std::fs::read(path).map_err(|problem| fault(problem.to_string()))?;
            let roots =
                Certificate::from_pem_bundle(&pem).map_err(|problem| fault(problem.to_string()))?;
            if roots.is_empty() {
                return Err(fault("it holds no certificate in PEM".to_owned()));
            }
            client = client.tls_certs_merge(roots);
        }
        Ok(Self {
            endpoint: endpoint(&bridge.url)?,
            client: client.build().map_err(|problem| BridgeError::Tls(chain(&problem)))?,
            token: TokenSource::new(bridge.token_file.clone())?,
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
            if let Some(token) = self.token.header()? {
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

impl TokenSource {
    fn new(file: Option<PathBuf>) -> Result<Self, BridgeError> {
        if let Some(path) = file {
            let source = Self::File(path.clone());
            // One that is not there is a mistake in the settings.
            source.header().map_err(|failure| BridgeError::File { path, reason: failure.text })?;
            return Ok(source);
        }
        match std::env::var_os(TOKEN_VARIABLE).filter(|token| !token.is_empty()) {
            None => Ok(Self::None),
            Some(token) => {
                let token = token.to_str().and_then(bearer).ok_or(BridgeError::Token)?;
                Ok(Self::Variable(token))
            }
        }
    }

    fn header(&self) -> Result<Option<HeaderValue>, Failure> {
        let fault = |reason: String| Failure {
            text: format!("the token file cannot be used: {reason}"),
            data: Some(json!({"code": "unauthorized", "retryable": false})),
        };
        match self {
            Self::None => Ok(None),
            Self::Variable(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let token = std::fs::read_to_string(path);
                let token = token.map_err(|problem| fault(problem.to_string()))?;
                let header = bearer(&token).ok_or_else(|| fault("it holds no token".to_owned()))?;
                Ok(Some(header))
            }
        }
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let token = token.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return None;
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Where the server at this URL speaks MCP.
fn endpoint(url: &str) -> Result<Url, BridgeError> {
    let mut endpoint = Url::parse(url).map_err(|problem| BridgeError::Url(problem.to_string()))?;
    if !matches!(endpoint.scheme(), "http" | "https") {
        return Err(BridgeError::Url("it begins with http:// or https://".to_owned()));
    }
    if !endpoint.username().is_empty() || endpoint.password().is_some() {
        return Err(BridgeError::Url("a token is given with --token-file".to_owned()));
    }
    endpoint.set_query(None);
    endpoint.set_fragment(None);
    let path = endpoint.path().trim_end_matches('/');
    if path.rsplit('/').next() != Some(PATH) {
        let path = format!("{path}/{PATH}");
        endpoint.set_path(&path);
    }
    Ok(endpoint)
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

fn broken_off() -> Failure {
    Failure::new(
        "the connection to the task server broke off before the answer; whether a change was made is \
         not known: read before repeating it, or repeat it with the same idempotency_key",
    )
}

/// What an error says, and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
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
            assert_eq!(endpoint(url).unwrap().as_str(), expected);
        }
        for url in ["127.0.0.1:8787", "ws://a", "http://me:secret@a", ""] {
            assert!(endpoint(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_hidden() {
        assert_eq!(format!("{:?}", bearer("abc\n").unwrap()), "Sensitive");
        assert!(bearer("").is_none() && bearer("two words").is_none());
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
