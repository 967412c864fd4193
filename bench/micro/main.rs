//! What the parts take on the way of an event, one at a time: `cargo bench -p taskwatch-bench`.
#![expect(clippy::unwrap_used, reason = "a harness fails by panicking")]

mod encode;
mod machine;
mod registry;
mod session;

use std::time::Duration;

use criterion::Criterion;
use taskwatch_server::protocol::{
    Cursor, Priority, Seq, ServerFrame, ServerMessage, Status, Task, TaskEvent, Timestamp,
};
use uuid::Uuid;

fn main() {
    let brief = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .without_plots();
    let mut criterion = brief.configure_from_args();
    encode::run(&mut criterion);
    registry::run(&mut criterion);
    session::run(&mut criterion);
    machine::run(&mut criterion);
    criterion.final_summary();
}

/// A task was made: some 0.9 KB, as in `bench/run`.
fn event(seq: Seq, repository: &str) -> ServerFrame {
    let at = Timestamp::from_unix_millis(1_795_341_600_000);
    let task = Task {
        id: Uuid::from_u128(0x019a_bb4e_5c00_7a31_8f02_0000_0000_0000 + u128::from(seq)),
        repository: repository.parse().unwrap(),
        title: "Water the plants".into(),
        description: "Every second day, and not the cactus. ".repeat(11),
        status: Status::Pending,
        priority: Priority::Medium,
        assignee: Some("ana".into()),
        tags: vec!["home".into(), "garden".into()],
        created_at: at,
        updated_at: at,
        version: 1,
    };
    let message = ServerMessage::Task(TaskEvent::created(task, "ana"));
    ServerFrame::new(message).at(at).cursor(cursor(seq))
}

fn cursor(seq: Seq) -> Cursor {
    Cursor::new(format!("c1-9f3a0c5d7e214b68-{seq}"))
}
