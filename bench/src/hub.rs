//! Our hub fed directly: what it does without an API and a store before it.

use std::net::Ipv4Addr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Json, Router, routing::post};
use serde::Deserialize;
use taskwatch_server::protocol::{Priority, RepositoryName, Status, Task, Timestamp};
use taskwatch_server::{Hub, HubConfig, TaskEventPublisher, routes};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    Runtime::new()?.block_on(async {
        let config = HubConfig { max_connections: 20_000, ..HubConfig::default() };
        let (hub, publisher) = Hub::in_memory(config);
        let publishing = Router::new().route("/publish", post(publish)).with_state(publisher);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await?;
        Ok(axum::serve(listener, publishing.merge(routes(hub))).await?)
    })
}

#[derive(Deserialize)]
struct NewTask {
    repository: RepositoryName,
    title: String,
    description: String,
}

async fn publish(
    State(publisher): State<TaskEventPublisher>,
    Json(new): Json<NewTask>,
) -> StatusCode {
    let now = Timestamp::default();
    publisher.created(
        Task {
            id: uuid::Uuid::new_v4(),
            repository: new.repository,
            title: new.title,
            description: new.description,
            status: Status::Pending,
            priority: Priority::Medium,
            assignee: None,
            tags: vec![],
            created_at: now,
            updated_at: now,
            version: 1,
        },
        "bench",
    );
    StatusCode::NO_CONTENT
}
