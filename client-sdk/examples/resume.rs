//! Saves its position, so that the next run goes on where this one ended:
//! `cargo run --example resume -- http://127.0.0.1:8787 '*' position`

use futures_util::StreamExt;
use taskwatch_client::{Client, CursorFile, Update};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let repositories = args.next().unwrap_or_else(|| "*".to_owned());
    let mut file = CursorFile::open(args.next().unwrap_or_else(|| "position".to_owned()))?;

    let client = Client::builder(url).build()?;
    let mut updates = client.subscribe([repositories])?.since(file.cursor()).updates();
    while let Some(update) = updates.next().await {
        match update? {
            // First the work, then the position: after a crash an event may come twice, never not.
            Update::Event(event) => println!("{} {:?}", event.kind(), event.task().title),
            Update::CaughtUp { replayed, .. } => println!("caught up, {replayed} replayed"),
            _ => {}
        }
        if let Some(cursor) = updates.cursor() {
            file.save(&cursor)?;
        }
    }
    Ok(())
}
