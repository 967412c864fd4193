//! A hub of the test's own making, on a free port of this process.

use std::sync::Arc;

use taskwatch_protocol::{Cursor, Priority, Status, Task, Timestamp};
use taskwatch_server::{EventLog, Hub, HubConfig, TaskEventPublisher, routes};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A task with this title.
pub(crate) fn task(repository: &str, title: &str) -> Task {
    Task {
        id: uuid::Uuid::new_v4(),
        repository: repository.parse().unwrap(),
        title: title.to_owned(),
        description: String::new(),
        status: Status::Pending,
        priority: Priority::Medium,
        assignee: None,
        tags: vec![],
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        version: 1,
    }
}

/// A hub behind a listener; both end with the value.
pub(crate) struct Embedded {
    pub(crate) hub: Hub,
    pub(crate) url: String,
    publisher: Option<TaskEventPublisher>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Embedded {
    /// A hub that keeps its own log in memory.
    pub(crate) async fn start(config: HubConfig) -> Self {
        let (hub, publisher) = Hub::in_memory(config);
        Self::serve(hub, Some(publisher)).await
    }

    /// A hub over a given log.
    pub(crate) async fn with_log(log: Arc<dyn EventLog>, config: HubConfig) -> Self {
        Self::serve(Hub::with_log(log, config), None).await
    }

    async fn serve(hub: Hub, publisher: Option<TaskEventPublisher>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app: axum::Router = routes(hub.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        Self { hub, url, publisher, server }
    }

    pub(crate) fn publisher(&self) -> &TaskEventPublisher {
        self.publisher.as_ref().unwrap()
    }

    /// Tells of a new task.
    pub(crate) fn created(&self, repository: &str, title: &str) -> Cursor {
        self.publisher().created(task(repository, title), "test")
    }

    /// `ADDR`
    pub(crate) fn addr(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.server.abort();
    }
}
