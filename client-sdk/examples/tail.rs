//! Prints what happens: `cargo run --example tail -- http://127.0.0.1:8787 'github.com/acme/*'`

use futures_util::StreamExt;
use taskwatch_client::Client;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let repositories = args.next().unwrap_or_else(|| "*".to_owned());

    let client = Client::builder(url).build()?;
    let mut events = client.subscribe([repositories])?;
    while let Some(event) = events.next().await {
        let event = event?;
        println!("{} {} {:?}", event.kind(), event.repository, event.task().title);
    }
    Ok(())
}
