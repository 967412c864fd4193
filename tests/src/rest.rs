//! A caller of the task API.

use serde_json::{Value, json};
use taskwatch_protocol::Task;

/// A client for plain HTTP. Its TLS, which is not used here, wants a provider all the same.
#[must_use]
pub fn http() -> reqwest::Client {
    // Whoever came first has installed the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}

/// Calls the REST routes of one server.
#[derive(Clone, Debug)]
pub struct Rest {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Rest {
    /// For the server at `http://ADDR`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { http: http(), url: url.to_owned(), token: None }
    }

    /// Brings this token from now on.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Any request to a path of the server.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Makes a task, or says why not.
    ///
    /// # Errors
    /// If the request fails or is refused.
    pub async fn try_create(&self, repository: &str, title: &str) -> reqwest::Result<Task> {
        let body = json!({ "repository": repository, "title": title });
        let request = self.request("POST", "/api/v1/tasks").json(&body);
        request.send().await?.error_for_status()?.json().await
    }

    /// Makes a task.
    pub async fn create(&self, repository: &str, title: &str) -> Task {
        self.try_create(repository, title).await.unwrap()
    }

    /// Changes a task.
    pub async fn patch(&self, task: &Task, patch: Value) -> Task {
        let request = self.request("PATCH", &format!("/api/v1/tasks/{}", task.id)).json(&patch);
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// Deletes a task.
    pub async fn delete(&self, task: &Task) {
        let request = self.request("DELETE", &format!("/api/v1/tasks/{}", task.id));
        request.send().await.unwrap().error_for_status().unwrap();
    }
}
