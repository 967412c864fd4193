//! The loop over made-up streams.

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
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
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
