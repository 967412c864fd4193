//! Saves its position, so that the next run goes on where this one ended:
//! `cargo run --example resume -- http://127.0.0.1:8787 '*' cursor.txt`

use std::path::{Path, PathBuf};
use std::{fs, io};

use futures_util::StreamExt;
use taskwatch_client::{Client, Cursor, Update};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let repositories = args.next().unwrap_or_else(|| "*".to_owned());
    let file = PathBuf::from(args.next().unwrap_or_else(|| "cursor.txt".to_owned()));

    let client = Client::builder(url).build()?;
    let mut updates = client.subscribe([repositories])?.since(load(&file)?).updates();
    while let Some(update) = updates.next().await {
        match update? {
            // First the work, then the position: after a crash an event may come twice, never not.
            Update::Event(event) => println!("{} {:?}", event.kind(), event.task().title),
            Update::CaughtUp { replayed, .. } => println!("caught up, {replayed} replayed"),
            _ => {}
        }
        if let Some(cursor) = updates.cursor() {
            save(&file, &cursor)?;
        }
    }
    Ok(())
}

fn load(file: &Path) -> io::Result<Option<Cursor>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(Cursor::new(text.trim()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Renames a whole file into place: a crash leaves the old position or the new one.
fn save(file: &Path, cursor: &Cursor) -> io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, cursor.as_str())?;
    fs::rename(new, file)
}
