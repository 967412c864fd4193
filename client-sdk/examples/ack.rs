//! Works on several events at a time and loses none: what was not done when it ended comes again.
//! `cargo run --example ack -- http://127.0.0.1:8787 '*' position`

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use taskwatch_client::{Client, CursorFile, Event};
use tokio::sync::Semaphore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let repositories = args.next().unwrap_or_else(|| "*".to_owned());
    let mut file = CursorFile::open(args.next().unwrap_or_else(|| "position".to_owned()))?;

    let client = Client::builder(url).build()?;
    let mut events = client.subscribe([repositories])?.since(file.cursor()).manual_ack();
    let acker = events.acker();
    let places = Arc::new(Semaphore::new(8));
    let mut save = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return Ok(()) };
                let (event, acker) = (event?, acker.clone());
                // No more than eight at a time. Meanwhile events wait, first here, then at the server.
                let place = Arc::clone(&places).acquire_owned().await?;
                tokio::spawn(async move {
                    work(&event).await;
                    acker.ack(&event.cursor);
                    drop(place);
                });
            }
            _ = save.tick() => if let Some(cursor) = acker.cursor() { file.save(&cursor)? },
        }
    }
}

#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn work(event: &Event) {
    tokio::time::sleep(Duration::from_millis(200)).await;
    println!("{} {:?}", event.kind(), event.task().title);
}
