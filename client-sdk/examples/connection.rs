//! Events on stdout, and beside them how the connection stands, on stderr:
//! `cargo run --example connection -- http://127.0.0.1:8787 '*'`

use std::time::Instant;

use futures_util::StreamExt;
use taskwatch_client::{Client, ConnectionState};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let repositories = args.next().unwrap_or_else(|| "*".to_owned());

    let client = Client::builder(url).build()?;
    let mut events = client.subscribe([repositories])?;
    let mut connection = events.connection();
    tokio::spawn(async move {
        while let Some(state) = connection.changed().await {
            match state {
                ConnectionState::Live { server, transport, .. } => {
                    eprintln!("live on {server:?} over {transport}");
                }
                ConnectionState::Waiting { reason, until, .. } => {
                    #[expect(clippy::disallowed_methods, reason = "the rule is for the SDK itself")]
                    let wait = until.saturating_duration_since(Instant::now());
                    eprintln!("no connection ({reason:?}); the next attempt is in {wait:.1?}");
                }
                ConnectionState::Ended(error) => eprintln!("the end: {error:?}"),
                state => eprintln!("{state:?}"),
            }
        }
    });
    while let Some(event) = events.next().await {
        println!("{}", event?.task().title);
    }
    Ok(())
}
