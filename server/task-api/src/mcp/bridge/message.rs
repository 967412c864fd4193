//! What a line of the client is, and which headers go with it. Plain data.

use axum::http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

pub(super) const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CANCELLED: &str = "notifications/cancelled";
const INITIALIZE: &str = "initialize";
const LISTEN: &str = "subscriptions/listen";

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const INTERNAL_ERROR: i32 = -32603;

/// A line of the client.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// To be passed on.
    Message(Message),
    /// The client does not want the answer to this request any more.
    Cancel(Value),
    /// An answer to what nobody asked.
    Answer,
    /// This is told instead.
    Refused(Value),
}

/// A request or a notification.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) text: String,
    /// `None`: a notification, which has no answer.
    pub(super) id: Option<Value>,
    method: String,
    name: Option<String>,
    version: Option<String>,
}

impl Line {
    pub(super) fn read(line: &[u8]) -> Self {
        let refused = |code, text: &str| Self::Refused(error(Value::Null, code, text, None));
        let message: Value = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(problem) => return refused(PARSE_ERROR, &format!("not JSON: {problem}")),
        };
        let Some(object) = message.as_object() else {
            return refused(INVALID_REQUEST, "a line is one JSON-RPC message, an object");
        };
        let params = object.get("params").unwrap_or(&Value::Null);
        let Some(method) = object.get("method").and_then(Value::as_str) else {
            let answers = object.contains_key("result") || object.contains_key("error");
            return if answers { Self::Answer } else { refused(INVALID_REQUEST, "no method") };
        };
        if method == CANCELLED {
            return Self::Cancel(params["requestId"].clone());
        }
        let name = match method {
            "tools/call" | "prompts/get" => params["name"].as_str(),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                params["uri"].as_str()
            }
            _ => None,
        };
        Self::Message(Message {
            id: object.get("id").cloned(),
            method: method.to_owned(),
            name: name.map(str::to_owned),
            version: params["_meta"][VERSION_KEY].as_str().map(str::to_owned),
            text: message.to_string(),
        })
    }
}

impl Message {
    /// Whether its answer tells what the client and the server speak from now on.
    pub(super) fn negotiates(&self) -> bool {
        self.method == INITIALIZE
    }

    /// Whether its answer only comes at the end of something.
    pub(super) fn listens(&self) -> bool {
        self.method == LISTEN
    }

    /// What over HTTP stands in headers too. What no header can hold is the name of nothing here.
    pub(super) fn headers(&self, negotiated: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
        let negotiated = negotiated.filter(|_| !self.negotiates());
        [
            (VERSION_HEADER, self.version.as_deref().or(negotiated)),
            (METHOD_HEADER, Some(&*self.method)),
            (NAME_HEADER, self.name.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, HeaderValue::from_str(value?).ok()?)))
        .collect()
    }
}

/// The answer to a request that did not come to be answered by the server.
pub(super) fn failure(id: Value, text: &str, data: Option<Value>) -> Value {
    error(id, INTERNAL_ERROR, text, data)
}

fn error(id: Value, code: i32, text: &str, data: Option<Value>) -> Value {
    let mut error = json!({"code": code, "message": text});
    if let Some(data) = data {
        error["data"] = data;
    }
    json!({"jsonrpc": "2.0", "id": id, "error": error})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        match Line::read(text.as_bytes()) {
            Line::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    fn headers(message: &Message, negotiated: Option<&str>) -> Vec<(String, String)> {
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers = message.headers(negotiated);
        headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    #[test]
    fn garbage_is_told_and_nothing_more() {
        for (line, code) in [
            ("", PARSE_ERROR),
            ("hello", PARSE_ERROR),
            ("{\"jsonrpc\":\"2.0\",", PARSE_ERROR),
            ("[]", INVALID_REQUEST),
            ("7", INVALID_REQUEST),
            ("{\"id\":1}", INVALID_REQUEST),
            ("{\"id\":1,\"method\":7}", INVALID_REQUEST),
        ] {
            let Line::Refused(error) = Line::read(line.as_bytes()) else { panic!("{line}") };
            assert_eq!((&error["id"], &error["error"]["code"]), (&Value::Null, &json!(code)));
        }
        assert!(matches!(Line::read(b"\xff\xfe"), Line::Refused(_)));
        assert_eq!(Line::read(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Line::Answer);
    }

    #[test]
    fn a_cancelled_request_is_named() {
        let line = r#"{"method":"notifications/cancelled","params":{"requestId":"a"}}"#;
        assert_eq!(Line::read(line.as_bytes()), Line::Cancel(json!("a")));
        assert_eq!(
            Line::read(br#"{"method":"notifications/cancelled"}"#),
            Line::Cancel(Value::Null)
        );
    }

    #[test]
    fn headers_say_what_the_message_says() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let call = message(
            r#"{"id":1,"method":"tools/call","params":{"name":"get_task","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        );
        let expected = [
            pair("mcp-protocol-version", "2026-07-28"),
            pair("mcp-method", "tools/call"),
            pair("mcp-name", "get_task"),
        ];
        assert_eq!(headers(&call, Some("2025-11-25")), expected);

        let read = message(r#"{"id":1,"method":"resources/read","params":{"uri":"a:b"}}"#);
        assert_eq!(headers(&read, Some("2025-11-25"))[0].1, "2025-11-25");
        assert_eq!(headers(&read, None).len(), 2);

        // The versions are still to be agreed on.
        let first = message(r#"{"id":1,"method":"initialize","params":{}}"#);
        assert_eq!(headers(&first, Some("2025-11-25")), [pair("mcp-method", "initialize")]);

        let odd = message(r#"{"id":1,"method":"tools/call","params":{"name":"a\nb"}}"#);
        assert_eq!(headers(&odd, None), [pair("mcp-method", "tools/call")]);
    }
}
