//! Writes down everything that the SDK's stream yields, one JSON line for each update.
//!
//! A line holds the update and the stream's `cursor()` behind it, so the effect and the position
//! are saved in one write. Started again with the same file, it drops a line that was torn by its
//! end and goes on from the cursor of the last whole one: over all its lives the file has each
//! event once.
#![expect(clippy::print_stderr, reason = "says why it ended")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use futures_util::StreamExt;
use serde_json::{Value, json};
use taskwatch_client::{Client, Cursor, OnGap, Update};

/// Records a stream of the SDK.
#[derive(Debug, Parser)]
struct Args {
    /// Address of the server
    #[arg(long)]
    url: String,
    /// File of the recording; an existing one is gone on with
    #[arg(long)]
    out: PathBuf,
    /// Repository or pattern (repeatable)
    #[arg(long = "repo", required = true)]
    repositories: Vec<String>,
    /// Where to begin, if the file does not say so
    #[arg(long)]
    since: Option<String>,
    /// Begin with the present state
    #[arg(long)]
    snapshot: bool,
    /// Do not go on from the cursor of the file
    #[arg(long)]
    anew: bool,
    /// Go on with new events after a gap
    #[arg(long)]
    live_on_gap: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recorder: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let (mut file, saved) = go_on(&args.out)?;
    let since = saved.filter(|_| !args.anew).or(args.since);
    let on_gap = if args.live_on_gap { OnGap::Live } else { OnGap::Error };
    // Kills come every second or two: longer waits would miss most of the run.
    let client = Client::builder(args.url).backoff_cap(Duration::from_secs(1)).build()?;
    let mut stream = client.subscribe(args.repositories)?.on_gap(on_gap);
    if args.snapshot {
        stream = stream.snapshot();
    }
    let mut updates = stream.since(since.clone().map(Cursor::new)).updates();
    append(&mut file, "start", json!({ "since": since }), None)?;
    while let Some(update) = updates.next().await {
        let (kind, fields) = match update {
            Ok(update) => told(update),
            Err(error) => ("end", json!({ "error": error.to_string() })),
        };
        append(&mut file, kind, fields, updates.cursor())?;
    }
    Ok(())
}

/// The name of an update, and what it says.
fn told(update: Update) -> (&'static str, Value) {
    match update {
        Update::Event(event) => {
            let (at, replayed) = (event.cursor.as_str(), event.replayed);
            ("event", json!({ "at": at, "replayed": replayed, "envelope": event.envelope() }))
        }
        Update::Connecting { attempt } => ("connecting", json!({ "attempt": attempt })),
        Update::Connected { resumed, server, transport, .. } => {
            let transport = transport.to_string();
            ("connected", json!({ "resumed": resumed, "server": server, "transport": transport }))
        }
        Update::CaughtUp { replayed, away } => {
            let away = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
            ("caught_up", json!({ "replayed": replayed, "away_ms": away }))
        }
        Update::Interrupted { reason, .. } => ("interrupted", json!({ "reason": reason })),
        Update::Parked => ("parked", json!({})),
        Update::Denied(denied) => ("denied", json!({ "patterns": denied.len() })),
        Update::Gap(gap) => {
            let at = gap.cursor.as_ref().map(Cursor::as_str);
            ("gap", json!({ "reason": gap.reason.as_str(), "at": at }))
        }
        Update::Snapshot(snapshot) => {
            ("snapshot", json!({ "at": snapshot.cursor.as_str(), "tasks": snapshot.tasks }))
        }
        Update::Bookmark(cursor) => ("bookmark", json!({ "at": cursor.as_str() })),
        _ => ("other", json!({})),
    }
}

fn append(file: &mut File, kind: &str, said: Value, cursor: Option<Cursor>) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = json!({
        "unix": u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        "kind": kind,
        "cursor": cursor.as_ref().map(Cursor::as_str),
    });
    if let (Value::Object(line), Value::Object(said)) = (&mut line, said) {
        line.extend(said);
    }
    // One write: a kill leaves the line or a torn one, and nothing of it elsewhere.
    file.write_all(format!("{line}\n").as_bytes())
}

/// Opens a recording behind its last whole line, with the cursor that was saved there.
fn go_on(path: &Path) -> io::Result<(File, Option<String>)> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    text.truncate(whole);
    file.set_len(whole as u64)?;
    file.seek(SeekFrom::End(0))?;
    let saved = text.split(|&byte| byte == b'\n').rev().find_map(|line| {
        let line: Value = serde_json::from_slice(line).ok()?;
        Some(line["cursor"].as_str()?.to_owned())
    });
    Ok((file, saved))
}
