//! The loop between the SDK's stream and the two outputs.

use std::io;
use std::num::NonZeroU64;

use futures_util::{Stream, StreamExt};
use jiff::Zoned;
use taskwatch_client::{Client, OnGap, Update, Updates, WatchError};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::args::{self, Args};
use crate::exit::{End, Failure};
use crate::output::{self, TextFormat};
use crate::status::Status;

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
/// If the address is not one of a server.
pub(crate) fn open(args: &Args) -> Result<Updates, Failure> {
    let on_gap = match args.on_gap {
        args::OnGap::Error => OnGap::Error,
        args::OnGap::Live => OnGap::Live,
    };
    let names = args.repositories.iter().map(ToString::to_string);
    let events = Client::builder(&args.url).build()?.subscribe(names)?;
    Ok(events.since(args.since()).on_gap(on_gap).updates())
}

/// Prints events to `out` and tells of the connection on `err`, until `count` events were printed,
/// `out` is closed, or the stream ends.
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
        if let Some(line) = printer.line(&update) {
            match print(&mut out, line).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(End::OutputClosed);
                }
                Err(error) => return Err(Failure::Output(error)),
            }
        }
        let update = update?;
        if let Some(line) = status.line(&update) {
            tell(&mut err, line).await;
        }
        printed += u64::from(matches!(update, Update::Event(_)));
        if count.is_some_and(|count| printed >= count.get()) {
            return Ok(End::CountReached);
        }
    }
    Err(Failure::Ended)
}

/// Writes a line about the connection. That nobody reads it is no reason to stop.
pub(crate) async fn tell(err: &mut (impl AsyncWrite + Unpin), line: String) {
    let _ = print(err, line).await;
}

/// Writes a line at once, whether to a terminal, a file or a pipe.
async fn print(to: &mut (impl AsyncWrite + Unpin), mut line: String) -> io::Result<()> {
    line.push('\n');
    to.write_all(line.as_bytes()).await?;
    to.flush().await
}

impl Printer {
    /// What an update puts on stdout, if anything.
    fn line(self, update: &Result<Update, WatchError>) -> Option<String> {
        match (self, update) {
            (Self::Text(format), Ok(Update::Event(event))) => {
                Some(format.line(event, event.timestamp, event.replayed, &Zoned::now()))
            }
            (Self::Json, Ok(Update::Event(event))) => Some(output::json_line(event.envelope())),
            // Whoever reads the events must not take them for complete.
            (Self::Json, Ok(Update::Gap(gap))) => Some(output::json_gap(&gap.reason)),
            (Self::Json, Err(WatchError::Gap { reason })) => Some(output::json_gap(reason)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures_util::stream;
    use taskwatch_client::{CloseCode, ResetReason};

    use super::*;
    use crate::paint::Paint;

    /// Watches a stream of these items, and returns how it ended, stdout and stderr.
    async fn watched(
        items: impl IntoIterator<Item = Result<Update, WatchError>>,
        printer: Printer,
    ) -> (Result<End, Failure>, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut status = Status::new(Paint(false), false, "http://127.0.0.1:8787");
        let items = stream::iter(items);
        let end = watch(items, printer, &mut status, None, &mut out, &mut err).await;
        (end, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn text() -> Printer {
        Printer::Text(TextFormat::new(Paint(false), &["foo".parse().unwrap()]))
    }

    fn gap() -> WatchError {
        WatchError::Gap { reason: ResetReason::Expired }
    }

    #[tokio::test]
    async fn the_connection_is_told_on_stderr() {
        let closed = WatchError::Closed { code: CloseCode::Forbidden, reason: "no".to_owned() };
        let items = [Ok(Update::Connecting { attempt: 1 }), Err(closed.clone())];
        let (end, out, err) = watched(items, text()).await;
        assert_eq!(end.unwrap_err().to_string(), closed.to_string());
        assert_eq!((out.as_str(), err.as_str()), ("", "connecting to http://127.0.0.1:8787\n"));
    }

    #[tokio::test]
    async fn a_stream_that_just_ends_is_a_failure() {
        let (end, out, _) = watched([], Printer::Json).await;
        assert_eq!((end.unwrap_err().code(), out.as_str()), (1, ""));
    }

    #[tokio::test]
    async fn a_gap_is_a_line_for_programs_only() {
        let (end, out, _) = watched([Err(gap())], Printer::Json).await;
        assert_eq!(end.unwrap_err().code(), 5);
        assert_eq!(out, "{\"type\":\"gap\",\"data\":{\"reason\":\"expired\"}}\n");

        let (end, out, _) = watched([Err(gap())], text()).await;
        assert_eq!((end.unwrap_err().code(), out.as_str()), (5, ""));
    }

    /// An output that fails in one way.
    struct Broken(io::ErrorKind);

    impl AsyncWrite for Broken {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(self.0.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn watched_into(out: io::ErrorKind, err: io::ErrorKind) -> Result<End, Failure> {
        let items = stream::iter([Ok(Update::Connecting { attempt: 1 }), Err(gap())]);
        let mut status = Status::new(Paint(false), false, "http://127.0.0.1:8787");
        watch(items, Printer::Json, &mut status, None, Broken(out), Broken(err)).await
    }

    #[tokio::test]
    async fn a_closed_stdout_is_a_quiet_end_and_a_closed_stderr_is_none() {
        use io::ErrorKind::{BrokenPipe, StorageFull};

        let closed = watched_into(BrokenPipe, BrokenPipe).await;
        assert_eq!(closed.unwrap(), End::OutputClosed);

        let full = watched_into(StorageFull, StorageFull).await.unwrap_err();
        assert!(matches!(full, Failure::Output(_)), "{full}");
    }
}
