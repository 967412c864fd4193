//! Server-sent events as the standard for `EventSource` reads them, and nothing else.

use serde_json::Value;

use crate::{expect_server_frame, within};

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its own `id`, if it has one.
    pub id: Option<String>,
    /// Its `event`.
    pub kind: String,
    /// Its `data`.
    pub data: String,
}

impl StreamEvent {
    /// The data as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }

    /// Whether it is the change of a task.
    #[must_use]
    pub fn is_task(&self) -> bool {
        self.kind.starts_with("task.")
    }
}

/// A response that is read event by event.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    unread: Vec<u8>,
    /// The last `retry`.
    pub retry: Option<u64>,
    /// Comments so far.
    pub comments: usize,
}

impl EventStream {
    /// Sends a request that is answered with a stream.
    ///
    /// # Panics
    /// If it is not.
    pub async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = within("a response", request.send()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, unread: vec![], retry: None, comments: 0 }
    }

    /// The headers of the response.
    #[must_use]
    pub fn headers(&self) -> &reqwest::header::HeaderMap {
        self.response.headers()
    }

    /// The next event; `None` at the end of the response.
    ///
    /// # Errors
    /// If the response was cut.
    pub async fn try_next(&mut self) -> reqwest::Result<Option<StreamEvent>> {
        let mut event = StreamEvent::default();
        let mut has_data = false;
        while let Some(line) = self.line().await? {
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "" if !line.is_empty() => self.comments += 1,
                "" if has_data => {
                    expect_server_frame(&event.json());
                    return Ok(Some(event));
                }
                "" => event = StreamEvent::default(),
                "id" => event.id = Some(value.to_owned()),
                "event" => value.clone_into(&mut event.kind),
                "retry" => self.retry = Some(value.parse().unwrap()),
                "data" => {
                    assert!(!has_data, "an envelope is one line");
                    value.clone_into(&mut event.data);
                    has_data = true;
                }
                other => panic!("no field of an event stream: {other:?}"),
            }
        }
        assert!(!has_data, "it ends in the middle of {event:?}");
        Ok(None)
    }

    /// The next event.
    ///
    /// # Panics
    /// If there is none.
    pub async fn next(&mut self) -> StreamEvent {
        within("an event", self.try_next()).await.unwrap().expect("the stream goes on")
    }

    /// The next event of a task.
    ///
    /// # Panics
    /// If there is none.
    pub async fn next_task(&mut self) -> StreamEvent {
        within("an event of a task", self.first(StreamEvent::is_task)).await
    }

    /// Reads up to an event of this kind.
    ///
    /// # Panics
    /// If there is none.
    pub async fn until(&mut self, kind: &str) -> StreamEvent {
        within(kind, self.first(|event| event.kind == kind)).await
    }

    async fn first(&mut self, wanted: impl Fn(&StreamEvent) -> bool) -> StreamEvent {
        loop {
            let event = self.next().await;
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Checks that the response is complete.
    ///
    /// # Panics
    /// If something follows, or it was cut.
    pub async fn expect_end(&mut self) {
        let end = within("the end of a stream", self.try_next()).await;
        assert_eq!(end.unwrap(), None);
    }

    async fn line(&mut self) -> reqwest::Result<Option<String>> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.unread.drain(..=end).collect();
                line.pop();
                assert!(!line.contains(&b'\r'), "a line ends with one character");
                return Ok(Some(String::from_utf8(line).unwrap()));
            }
            match self.response.chunk().await? {
                Some(chunk) => self.unread.extend_from_slice(&chunk),
                None => {
                    assert!(self.unread.is_empty(), "the last line is not complete");
                    return Ok(None);
                }
            }
        }
    }
}
