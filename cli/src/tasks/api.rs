//! Requests to the task API.

use taskwatch_client::http::header::{CONTENT_TYPE, HeaderName, IF_MATCH};
use taskwatch_client::http::{Method, Request};
use taskwatch_client::{Bytes, Client, RequestError};
use uuid::Uuid;

use crate::exit::Failure;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The task API of one server.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
}

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It was not made, not answered, or refused.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It is not one of the task API.
    #[error("the answer is not one of a task server: {0}")]
    Answer(#[from] serde_json::Error),
    /// Its address is too long, for instance.
    #[error("the request cannot be made: {0}")]
    Unfit(#[from] taskwatch_client::http::Error),
}

impl ApiError {
    /// The failure of what was being done, such as `list the tasks`.
    pub(super) fn while_trying_to(self, doing: impl Into<String>) -> Failure {
        Failure::Api { doing: doing.into(), error: self }
    }

    /// Whether there is nothing of that name.
    pub(crate) fn is_not_found(&self) -> bool {
        use taskwatch_client::ErrorCode;
        matches!(self, Self::Request(RequestError::Refused { code: Some(ErrorCode::NotFound), .. }))
    }
}

/// The path of a task.
pub(super) fn task(id: Uuid) -> String {
    format!("/api/v1/tasks/{id}")
}

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// What is there.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, ApiError> {
        let request = Request::get(path).body(Bytes::new())?;
        Ok(self.client.request(request).await?.into_body())
    }

    /// Changes something, once: if the connection is cut before the answer has come, the change is sent
    /// again with the same key, and the server answers what it has already done.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        if_version: Option<u64>,
    ) -> Result<Bytes, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(IDEMPOTENCY_KEY, Uuid::new_v4().to_string());
        if let Some(version) = if_version {
            request = request.header(IF_MATCH, format!("\"v{version}\""));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Bytes::from(body.unwrap_or_default()))?;
        let answer = match self.client.request(request.clone()).await {
            Err(RequestError::Cut { .. }) => self.client.request(request).await,
            answer => answer,
        };
        Ok(answer?.into_body())
    }
}
