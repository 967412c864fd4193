//! The loop between the SDK's stream and the two outputs.

#[cfg(test)]
pub(crate) mod tests;

use std::fmt::Write;
use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use futures_util::future::poll_immediate;
use futures_util::{Stream, StreamExt};
use jiff::Zoned;
use taskwatch_client::{Client, Cursor, OnGap, TransportChoice, Update, Updates, WatchError};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::args::{self, WatchArgs};
use crate::connection;
use crate::exit::{End, Failure};
use crate::goal::Goal;
use crate::output::{self, LocalTimes, TextFormat};
use crate::position::Position;
use crate::status::Status;

/// For a polite end; after it the connection is just dropped.
const CLOSE_LIMIT: Duration = Duration::from_millis(1_500);
/// For the last piece, if a signal comes while it is written to a pipe that is full.
const FINISH_LIMIT: Duration = Duration::from_millis(500);
const CLOSE_POLL: Duration = Duration::from_millis(5);
/// What is printed at once, but for a line that is longer, and a snapshot: what a pipe holds.
const PIECE: usize = 64 * 1024;

/// How events are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Printer {
    /// For a person.
    Text(TextFormat),
    /// For a program.
    Json,
}

/// What is enough, and ends the watcher.
#[derive(Debug, Default)]
pub(crate) struct Enough<'a> {
    /// So many events.
    pub(crate) count: Option<NonZeroU64>,
    /// Something that is so.
    pub(crate) goal: Option<&'a mut Goal>,
}

/// The stream that the arguments ask for, from this position on, if there is one. Nothing is dialled yet.
///
/// # Errors
/// If they make no sense.
pub(crate) fn open(args: &WatchArgs, position: Option<Cursor>) -> Result<Updates, Failure> {
    let on_gap = match args.on_gap {
        _ if args.goal.needs_state() => OnGap::Snapshot,
        args::OnGap::Error => OnGap::Error,
        args::OnGap::Live => OnGap::Live,
        args::OnGap::Snapshot => OnGap::Snapshot,
    };
    let names = args.repositories.iter().map(ToString::to_string);
    let mut events = client(args)?.subscribe(names)?;
    if args.snapshot || args.goal.needs_state() {
        events = events.snapshot();
    }
    if args.hook.hook().is_some() {
        events = events.manual_ack();
    }
    Ok(events.since(position.or_else(|| args.since())).on_gap(on_gap).updates())
}

/// The client that the arguments ask for.
///
/// # Errors
/// If they make no sense.
pub(crate) fn client(args: &WatchArgs) -> Result<Client, Failure> {
    let transport = match args.transport {
        args::Transport::Auto => TransportChoice::Auto,
        args::Transport::Ws => TransportChoice::WebSocket,
        args::Transport::Sse => TransportChoice::Sse,
        args::Transport::Poll => TransportChoice::LongPoll,
    };
    Ok(connection::client(&args.connection)?.transport(transport).build()?)
}

/// Prints snapshots and events to `out` and tells of the connection on `err`, until there was
/// enough, `out` is closed, or the stream ends. `position` follows what was printed.
///
/// What is there already is printed in one piece, up to a limit: a write for each line took over
/// ten times as long as all the rest. While a piece is written the next one is put together, and no more, so that
/// a slow reader slows the stream and not the memory. No line is kept back for any other reason.
///
/// # Errors
/// Whenever it ends otherwise than it was asked to.
pub(crate) async fn watch(
    updates: impl Stream<Item = Result<Update, WatchError>> + Unpin,
    printer: Printer,
    status: &mut Status,
    enough: Enough<'_>,
    position: &mut Position,
    out: impl AsyncWrite + Unpin,
    err: impl AsyncWrite + Unpin,
) -> Result<End, Failure> {
    match watch_until_closed(updates, printer, status, enough, position, out, err).await {
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(End::OutputClosed)
        }
        end => end,
    }
}

async fn watch_until_closed(
    mut updates: impl Stream<Item = Result<Update, WatchError>> + Unpin,
    printer: Printer,
    status: &mut Status,
    Enough { count, mut goal }: Enough<'_>,
    position: &mut Position,
    mut out: impl AsyncWrite + Unpin,
    mut err: impl AsyncWrite + Unpin,
) -> Result<End, Failure> {
    let mut printed = 0;
    let (mut lines, mut times) = (String::new(), LocalTimes::new(Zoned::now()));
    // Whether a piece may still be on its way.
    let mut is_printing = false;
    loop {
        let update = match poll_immediate(updates.next()).await {
            Some(update) => update,
            None if is_printing || !lines.is_empty() => tokio::select! {
                biased;
                free = out.flush() => {
                    free.map_err(Failure::Output)?;
                    position.flushed()?;
                    is_printing = !lines.is_empty();
                    write(&mut out, &mut lines).await.map_err(Failure::Output)?;
                    position.written();
                    continue;
                }
                update = updates.next() => update,
            },
            None => updates.next().await,
        };
        let Some(update) = update else { break };
        if lines.is_empty() {
            times = LocalTimes::new(Zoned::now());
        }
        printer.lines(&update, &mut times, &mut lines);
        let told = update.as_ref().ok().and_then(|update| status.line(update));
        printed += u64::from(matches!(update, Ok(Update::Event(_))));
        let is_over = update.is_err() || count.is_some_and(|count| printed >= count.get());
        // Who sees both outputs sees them in the order in which things happened.
        if is_over || told.is_some() {
            print(&mut out, &mut lines).await.map_err(Failure::Output)?;
            is_printing = false;
        } else if lines.len() >= PIECE {
            // Waits for the piece before this one.
            write(&mut out, &mut lines).await.map_err(Failure::Output)?;
            position.written();
            is_printing = true;
        }
        if lines.is_empty() && !is_printing {
            position.save()?;
        }
        let update = update?;
        if let Some(mut line) = told {
            line.push('\n');
            // That nobody reads about the connection is no reason to stop.
            let _ = print(&mut err, &mut line).await;
        }
        if is_over {
            return Ok(End::CountReached);
        }
        if goal.as_mut().is_some_and(|goal| goal.take(update)) {
            print(&mut out, &mut lines).await.map_err(Failure::Output)?;
            return Ok(End::Met);
        }
    }
    print(&mut out, &mut lines).await.map_err(Failure::Output)?;
    Err(Failure::Ended)
}

/// Waits for what was handed to `out`, as far as somebody reads it; whether all of it was.
pub(crate) async fn finish(mut out: impl AsyncWrite + Unpin) -> bool {
    matches!(timeout(FINISH_LIMIT, out.flush()).await, Ok(Ok(())))
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

/// Writes lines at once, whether to a terminal, a file or a pipe, and waits until they are there.
async fn print(to: &mut (impl AsyncWrite + Unpin), lines: &mut String) -> io::Result<()> {
    write(to, lines).await?;
    to.flush().await
}

/// Hands lines over. Stdout is written to beside everything else, one piece after the other.
async fn write(to: &mut (impl AsyncWrite + Unpin), lines: &mut String) -> io::Result<()> {
    to.write_all(lines.as_bytes()).await?;
    lines.clear();
    lines.shrink_to(PIECE);
    Ok(())
}

impl Printer {
    /// Adds what an update puts on stdout, if anything. `times` are those of what is printed with it.
    fn lines(
        self,
        update: &Result<Update, WatchError>,
        times: &mut LocalTimes,
        lines: &mut String,
    ) {
        match (self, update) {
            (Self::Text(format), Ok(Update::Event(event))) => {
                let line = format.line(event, times.show(event.timestamp), event.replayed);
                // Writing to a string does not fail.
                let _ = writeln!(lines, "{line}");
            }
            (Self::Json, Ok(Update::Event(event))) => output::json_line(event.envelope(), lines),
            (Self::Text(format), Ok(Update::Snapshot(snapshot))) => {
                format.present(&snapshot.tasks, times, lines);
            }
            (Self::Json, Ok(Update::Snapshot(snapshot))) => {
                snapshot.envelopes().for_each(|envelope| output::json_line(envelope, lines));
            }
            // Whoever reads the events must not take them for complete.
            (Self::Json, Ok(Update::Gap(gap))) => output::json_gap(&gap.reason, lines),
            (Self::Json, Err(WatchError::Gap { reason })) => output::json_gap(reason, lines),
            _ => {}
        }
    }
}
