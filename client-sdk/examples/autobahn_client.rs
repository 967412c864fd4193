//! Runs every case of an Autobahn fuzzing server against the connections of the SDK:
//! `cargo run --example autobahn_client --features simulation -- ws://127.0.0.1:9001`

use taskwatch_client::conformance::{ask, echo};

const AGENT: &str = "taskwatch-sdk";
/// The largest message of the suite.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).ok_or("usage: autobahn_client ws://127.0.0.1:PORT")?;
    let server = server.trim_end_matches('/');
    let count: u32 = ask(&format!("{server}/getCaseCount")).await?.parse()?;
    println!("{count} cases");
    for case in 1..=count {
        echo(&format!("{server}/runCase?case={case}&agent={AGENT}"), MAX_MESSAGE).await?;
    }
    echo(&format!("{server}/updateReports?agent={AGENT}"), MAX_MESSAGE).await?;
    println!("done");
    Ok(())
}
