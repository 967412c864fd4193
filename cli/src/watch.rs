//! The loop between the SDK's stream and the two outputs.

#[cfg(test)]
mod tests;

use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use jiff::Zoned;
use taskwatch_client::{Client, OnGap, TransportChoice, Update, Updates, WatchError};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::args::{self, Args};
use crate::exit::{End, Failure};
use crate::output::{self, TextFormat};
use crate::status::Status;
use crate::token::{TOKEN_VARIABLE, with_token};

/// For a polite end; after it the connection is just dropped.
const CLOSE_LIMIT: Duration = Duration::from_millis(1_500);
const CLOSE_POLL: Duration = Duration::from_millis(5);

/// How events are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Printer {
    /// For a person.
    Text(TextFormat),
    /// For a program.
    Json,
}

/// The stream that the arguments ask for. Nothing is dialled yet.
///
/// # Errors
/// If they make no sense.
pub(crate) fn open(args: &Args) -> Result<Updates, Failure> {
    let on_gap = match args.on_gap {
        args::OnGap::Error => OnGap::Error,
        args::OnGap::Live => OnGap::Live,
        args::OnGap::Snapshot => OnGap::Snapshot,
    };
    let transport = match args.transport {
        args::Transport::Auto => TransportChoice::Auto,
        args::Transport::Ws => TransportChoice::WebSocket,
        args::Transport::Sse => TransportChoice::Sse,
        args::Transport::Poll => TransportChoice::LongPoll,
    };
    let names = args.repositories.iter().map(ToString::to_string);
    let variable = std::env::var_os(TOKEN_VARIABLE);
    let mut client = with_token(Client::builder(&args.url), args.token_file.as_deref(), variable)?;
    if let Some(path) = &args.cacert {
        client = client.cacert(path);
    }
    let mut events = client.transport(transport).build()?.subscribe(names)?;
    if args.snapshot {
        events = events.snapshot();
    }
    Ok(events.since(args.since()).on_gap(on_gap).updates())
}

/// Prints snapshots and events to `out` and tells of the connection on `err`, until `count` events
/// were printed, `out` is closed, or the stream ends.
///
/// A line is flushed before the next update is asked for, so that a slow reader slows the stream
/// and not the memory.
///
/// # Errors
/// Whenever it ends otherwise than it was asked to.
pub(crate) async fn watch(
    mut updates: impl Stream<Item = Result<Update, WatchError>> + Unpin,
    printer: Printer,
    status: &mut Status,
    count: Option<NonZeroU64>,
    mut out: impl AsyncWrite + Unpin,
    mut err: impl AsyncWrite + Unpin,
) -> Result<End, Failure> {
    let mut printed = 0;
    while let Some(update) = updates.next().await {
        if let Some(lines) = printer.lines(&update) {
            match print(&mut out, lines).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(End::OutputClosed);
                }
                Err(error) => return Err(Failure::Output(error)),
            }
        }
        let update = update?;
        if let Some(line) = status.line(&update) {
            // That nobody reads about the connection is no reason to stop.
            let _ = print(&mut err, line).await;
        }
        printed += u64::from(matches!(update, Update::Event(_)));
        if count.is_some_and(|count| printed >= count.get()) {
            return Ok(End::CountReached);
        }
    }
    Err(Failure::Ended)
}

/// Says goodbye to the server, as far as it takes part.
pub(crate) async fn close(updates: Updates) {
    // The SDK closes in the background when the stream is dropped, and a runtime that ends would
    // cut that short. Its task is the only one here, so it is over when none is left.
    drop(updates);
    let tasks = Handle::current().metrics();
    let closed = async {
        while tasks.num_alive_tasks() > 0 {
            tokio::time::sleep(CLOSE_POLL).await;
        }
    };
    let _ = timeout(CLOSE_LIMIT, closed).await;
}

/// Writes lines at once, whether to a terminal, a file or a pipe.
async fn print(to: &mut (impl AsyncWrite + Unpin), mut lines: String) -> io::Result<()> {
    lines.push('\n');
    to.write_all(lines.as_bytes()).await?;
    to.flush().await
}

impl Printer {
    /// What an update puts on stdout, if anything; without the end of the last line.
    fn lines(self, update: &Result<Update, WatchError>) -> Option<String> {
        match (self, update) {
            (Self::Text(format), Ok(Update::Event(event))) => {
                Some(format.line(event, event.timestamp, event.replayed, &Zoned::now()))
            }
            (Self::Json, Ok(Update::Event(event))) => Some(output::json_line(event.envelope())),
            (Self::Text(format), Ok(Update::Snapshot(snapshot))) => {
                format.present(&snapshot.tasks, &Zoned::now())
            }
            (Self::Json, Ok(Update::Snapshot(snapshot))) => {
                let lines: Vec<_> = snapshot.envelopes().map(output::json_line).collect();
                Some(lines.join("\n"))
            }
            // Whoever reads the events must not take them for complete.
            (Self::Json, Ok(Update::Gap(gap))) => Some(output::json_gap(&gap.reason)),
            (Self::Json, Err(WatchError::Gap { reason })) => Some(output::json_gap(reason)),
            _ => None,
        }
    }
}
