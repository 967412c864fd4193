//! Exactly once, also across its own crash: the position is a part of what it writes. Here that is a
//! file of counts; a database does the same with a row in the transaction of the work.
//! `cargo run --example transaction -- http://127.0.0.1:8787 '*' counts`

use std::collections::BTreeMap;
use std::io::Write;
use std::{fs, io};

use futures_util::StreamExt;
use taskwatch_client::{Client, Cursor};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let repositories = args.next().unwrap_or_else(|| "*".to_owned());
    let file = args.next().unwrap_or_else(|| "counts".to_owned());

    // The first line is the position, each other one a kind of events and how many there were.
    let text = fs::read_to_string(&file).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(String::new()),
        _ => Err(error),
    })?;
    let position = text.lines().next().map(Cursor::new);
    let count = |line: &str| {
        Some((line.split_once(' ')?.0.to_owned(), line.split_once(' ')?.1.parse().ok()?))
    };
    let mut counts: BTreeMap<String, u64> = text.lines().skip(1).filter_map(count).collect();

    let client = Client::builder(url).build()?;
    let mut events = client.subscribe([repositories])?.since(position);
    while let Some(event) = events.next().await {
        let event = event?;
        *counts.entry(event.kind().to_string()).or_default() += 1;
        let lines: String =
            counts.iter().map(|(kind, count)| format!("{kind} {count}\n")).collect();
        // Both or neither: the new file is whole before it takes the place of the old one.
        let mut new = fs::File::create(format!("{file}.new"))?;
        write!(new, "{}\n{lines}", event.cursor)?;
        new.sync_all()?;
        fs::rename(format!("{file}.new"), &file)?;
        print!("{lines}");
    }
    Ok(())
}
