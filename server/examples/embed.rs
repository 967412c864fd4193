//! An axum API of your own, with the hub in it.
//!
//! `curl -X POST http://ADDR/shout/foo/hello`, while `taskwatch --url http://ADDR --repo foo` runs, or
//! `curl -N 'http://ADDR/api/v1/events?repository=foo'`.
#![expect(clippy::print_stderr, reason = "an example says where it listens")]

use axum::extract::Path;
use axum::{Router, routing::post};
use taskwatch_server::protocol::{Priority, RepositoryName, Status, Task, Timestamp};
use taskwatch_server::{Hub, HubConfig, routes};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (hub, publisher) = Hub::in_memory(HubConfig::default());
    let shout = post(move |Path((repository, title)): Path<(RepositoryName, String)>| async move {
        publisher.created(task(repository, title), "embed").to_string()
    });
    let app = Router::new().route("/shout/{repository}/{title}", shout).merge(routes(hub));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

fn task(repository: RepositoryName, title: String) -> Task {
    let now = Timestamp::default();
    Task {
        id: uuid::Uuid::new_v4(),
        repository,
        title,
        description: String::new(),
        status: Status::Pending,
        priority: Priority::Medium,
        assignee: None,
        tags: vec![],
        created_at: now,
        updated_at: now,
        version: 1,
    }
}
