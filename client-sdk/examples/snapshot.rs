//! The tasks as they are, then exactly what happens to them:
//! `cargo run --example snapshot -- http://127.0.0.1:8787 foo`

use std::collections::BTreeMap;

use futures_util::StreamExt;
use taskwatch_client::{Client, Status, TaskChange, Update};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let repositories = args.next().unwrap_or_else(|| "*".to_owned());

    let client = Client::builder(url).build()?;
    let mut updates = client.subscribe([repositories])?.snapshot().updates();
    let mut open = BTreeMap::new();
    while let Some(update) = updates.next().await {
        match update? {
            // All that is watched, so it replaces all that was known.
            Update::Snapshot(state) => {
                open = state.tasks.into_iter().map(|task| (task.id, task)).collect();
            }
            Update::Event(event) => match event.event.change {
                TaskChange::Deleted { .. } => drop(open.remove(&event.event.task_id)),
                TaskChange::Created { task } | TaskChange::Updated { task, .. } => {
                    open.insert(task.id, *task);
                }
            },
            _ => continue,
        }
        open.retain(|_, task| matches!(task.status, Status::Pending | Status::InProgress));
        println!("{} tasks are open", open.len());
    }
    Ok(())
}
