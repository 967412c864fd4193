//! Goes on when events were lost, and says what it knows of them:
//! `cargo run --example gap -- http://127.0.0.1:8787 '*' c1-0000000000000001-1`

use futures_util::StreamExt;
use taskwatch_client::{Client, Cursor, OnGap, Update};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let repositories = args.next().unwrap_or_else(|| "*".to_owned());
    // A position of another log, unless there is one: what followed it is not known any more.
    let position = args.next().unwrap_or_else(|| "c1-0000000000000001-1".to_owned());

    let client = Client::builder(url).build()?;
    let events = client.subscribe([repositories])?.since(Cursor::new(position));
    let mut updates = events.on_gap(OnGap::Snapshot).updates();
    while let Some(update) = updates.next().await {
        match update? {
            // Whatever was made of the events before is out of date,
            Update::Gap(gap) => println!("events were lost: {}", gap.reason),
            // and this takes its place.
            Update::Snapshot(state) => println!("{} tasks at {}", state.tasks.len(), state.cursor),
            Update::Event(event) => println!("{} {:?}", event.kind(), event.task().title),
            _ => {}
        }
    }
    Ok(())
}
