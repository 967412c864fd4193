//! The loop over made-up streams, and over the SDK's against a scripted server.

pub(crate) mod script;

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use clap::Parser;
use futures_util::{FutureExt, stream};
use serde_json::{Value, json};
use taskwatch_client::{Client, CloseCode, ResetReason};
use tokio::sync::mpsc;

use self::script::{Connection, announced, answer, event, server};
use super::*;

/// Watches a stream of these items, and returns how it ended, stdout and stderr.
async fn watched(
    items: impl IntoIterator<Item = Result<Update, WatchError>>,
    words: &str,
) -> (Result<End, Failure>, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let end = watcher(words)
        .watch(stream::iter(items), &mut Position::nowhere(), &mut out, &mut err)
        .await;
    (end, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// A watcher of `foo`, as these words of a command line have it.
fn watcher(words: &str) -> Watcher {
    Watcher::new(&arguments(words), &Zoned::now()).unwrap()
}

fn arguments(words: &str) -> WatchArgs {
    let words = format!("taskwatch --repo foo --color never {words}");
    crate::args::Args::try_parse_from(words.split_whitespace()).unwrap().watch
}

fn gap() -> WatchError {
    WatchError::Gap { reason: ResetReason::Expired }
}

#[tokio::test]
async fn the_connection_is_told_on_stderr() {
    let closed = WatchError::Closed { code: CloseCode::Forbidden, reason: "no".to_owned() };
    let items = [Ok(Update::Connecting { attempt: 1 }), Err(closed.clone())];
    let (end, out, err) = watched(items, "").await;
    assert_eq!(end.unwrap_err().to_string(), closed.to_string());
    assert_eq!((out.as_str(), err.as_str()), ("", "connecting to http://127.0.0.1:8787\n"));
}

#[tokio::test]
async fn a_stream_that_just_ends_is_a_failure() {
    let (end, out, _) = watched([], "-o json").await;
    assert_eq!((end.unwrap_err().code(), out.as_str()), (1, ""));
}

#[tokio::test]
async fn a_gap_is_a_line_for_programs_only() {
    let (end, out, _) = watched([Err(gap())], "-o json").await;
    assert_eq!(end.unwrap_err().code(), 5);
    assert_eq!(out, "{\"type\":\"gap\",\"data\":{\"reason\":\"expired\"}}\n");

    let (end, out, _) = watched([Err(gap())], "").await;
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
    watcher("-o json").watch(items, &mut Position::nowhere(), Broken(out), Broken(err)).await
}

#[tokio::test]
async fn a_closed_stdout_is_a_quiet_end_and_a_closed_stderr_is_none() {
    use io::ErrorKind::{BrokenPipe, StorageFull};

    let closed = watched_into(BrokenPipe, BrokenPipe).await;
    assert_eq!(closed.unwrap(), End::OutputClosed);

    let full = watched_into(StorageFull, StorageFull).await.unwrap_err();
    assert!(matches!(full, Failure::Output(_)), "{full}");
}

/// An output that knows what was written at once.
#[derive(Default)]
struct Pieces(Vec<String>);

impl AsyncWrite for Pieces {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        piece: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.push(String::from_utf8(piece.to_vec()).unwrap());
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_is_there_is_printed_in_pieces_and_nothing_is_kept_back() {
    let title = "x".repeat(1_000);
    let events: Vec<_> = (1..=150).map(|seq| event(seq, &title)).collect();
    let updates = received(&events).await;

    // More will come, but nothing has yet.
    let updates = stream::iter(updates).chain(stream::pending());
    let (mut watcher, mut out) = (watcher("-o json"), Pieces::default());
    let mut position = Position::nowhere();
    let end = watcher.watch(updates, &mut position, &mut out, Vec::new());
    assert!(end.now_or_never().is_none());
    assert_eq!(out.0.concat().lines().collect::<Vec<_>>(), events);
    let sizes: Vec<_> = out.0.iter().map(String::len).collect();
    let [full @ .., rest] = &sizes[..] else { panic!("nothing was printed") };
    let longest = PIECE + events[149].len() + 1;
    assert!(full.iter().all(|size| (PIECE..=longest).contains(size)), "{sizes:?}");
    assert!(full.len() >= 2 && *rest < PIECE, "{sizes:?}");
}

/// These events, as the SDK has them from a server.
async fn received(events: &[String]) -> Vec<Result<Update, WatchError>> {
    let script = Connection { answer: answer("live"), follows: vec![events.to_vec()] };
    let client = Client::builder(server(vec![script]).await).build().unwrap();
    let is_event = |update: &Result<Update, WatchError>| {
        std::future::ready(matches!(update, Ok(Update::Event(_))))
    };
    let updates = client.subscribe(["foo"]).unwrap().updates().filter(is_event);
    updates.take(events.len()).collect().await
}

/// An output that takes one piece, and the next one when that has gone.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<(Vec<String>, bool)>>);

impl AsyncWrite for Slow {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        piece: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_free());
        let (pieces, is_busy) = &mut *self.0.lock().unwrap();
        pieces.push(String::from_utf8(piece.to_vec()).unwrap());
        *is_busy = true;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_free().map(Ok)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Slow {
    fn poll_free(&self) -> Poll<()> {
        if self.0.lock().unwrap().1 { Poll::Pending } else { Poll::Ready(()) }
    }
}

#[tokio::test]
async fn while_a_piece_is_on_its_way_the_next_one_is_put_together() {
    let events: Vec<_> = (1..=3).map(|seq| event(seq, "a title")).collect();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let updates = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let (mut watcher, out) = (watcher("-o json"), Slow::default());
    let mut position = Position::nowhere();
    let mut watching = pin!(watcher.watch(updates, &mut position, out.clone(), Vec::new()));
    for update in received(&events).await {
        sender.send(update).unwrap();
        assert!(poll_immediate(watching.as_mut()).await.is_none());
        assert_eq!(out.0.lock().unwrap().0, [format!("{}\n", events[0])]);
    }
    out.0.lock().unwrap().1 = false;
    assert!(poll_immediate(watching.as_mut()).await.is_none());
    assert_eq!(out.0.lock().unwrap().0[1..], [format!("{}\n{}\n", events[1], events[2])]);
}

/// Watches that server as the command line says, and returns how it ended, stdout and stderr.
async fn watched_live(
    connections: Vec<Connection>,
    words: &str,
) -> (Result<End, Failure>, String, String) {
    let url = server(connections).await;
    let args = arguments(&format!("--url {url} {words}"));
    let (mut out, mut err, now) = (Vec::new(), Vec::new(), Zoned::now());
    let updates = open(&args, None, &now).unwrap();
    let mut position = Position::nowhere();
    let end =
        Watcher::new(&args, &now).unwrap().watch(updates, &mut position, &mut out, &mut err).await;
    (end, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[tokio::test]
async fn json_is_the_envelope_as_it_came() {
    let events = vec![event(1, "one"), event(2, "\u{9b}2J\u{202e}"), event(3, "three")];
    let script = Connection { answer: answer("live"), follows: vec![events.clone()] };
    let (end, out, err) = watched_live(vec![script], "-o json --count 2 -q").await;
    assert_eq!(end.unwrap(), End::Enough);
    assert_eq!(err, "");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], events[0]);
    assert!(lines[1].contains(r"\u009b2J\u202e"), "{out}");
    assert_eq!(
        serde_json::from_str::<Value>(lines[1]).unwrap(),
        serde_json::from_str::<Value>(&events[1]).unwrap(),
    );
}

#[tokio::test]
async fn after_a_cut_it_goes_on_and_says_so() {
    let first = Connection { answer: answer("live"), follows: vec![vec![event(1, "before")]] };
    let second = Connection {
        answer: answer("resumed"),
        follows: vec![vec![event(2, "meanwhile")], vec![event(3, "after")]],
    };
    let (end, out, err) = watched_live(vec![first, second], "--count 3").await;
    assert_eq!(end.unwrap(), End::Enough);
    let after_the_time: Vec<_> =
        out.lines().map(|line| &line[line.find("− ").unwrap()..]).collect();
    assert_eq!(
        after_the_time,
        [
            "− deleted  before  was pending  by ana",
            "− deleted  meanwhile  was pending  by ana  (replayed)",
            "− deleted  after  was pending  by ana",
        ]
    );
    let told: Vec<_> = err.lines().collect();
    assert_eq!(told.len(), 4, "{err}");
    assert!(told[0].starts_with("connecting to http://127.0.0.1:"), "{err}");
    assert_eq!(told[1], "connected to scripted 1.0 over WebSocket");
    assert!(
        told[2].starts_with("connection lost (") && told[2].ends_with("retrying at once"),
        "{err}"
    );
    assert!(told[3].starts_with("reconnected after "), "{err}");
    assert!(told[3].ends_with(" · 1 replayed · 0 lost"), "{err}");
}

#[tokio::test]
async fn a_gap_that_is_allowed_is_told_on_both_sides() {
    let mut reset = answer("reset");
    reset["reason"] = json!("expired");
    let events = vec![event(7, "later")];
    let script = Connection { answer: reset, follows: vec![events.clone()] };
    let (end, out, err) =
        watched_live(vec![script], "-o json --since c-1 --on-gap live --count 1 -q").await;
    assert_eq!(end.unwrap(), End::Enough);
    assert_eq!(
        out,
        format!("{{\"type\":\"gap\",\"data\":{{\"reason\":\"expired\"}}}}\n{}\n", events[0])
    );
    assert!(err.starts_with("warning: events were missed") && err.contains("(expired)"), "{err}");
}

/// The frames of a snapshot, with a field of a newer server.
fn snapshot() -> Vec<String> {
    let task = |id: u32, repository: &str, title: &str| {
        json!({
            "id": format!("0192f0c1-2b3c-7def-8a9b-{id:012}"), "repository": repository,
            "title": title, "status": "pending", "priority": "low", "mood": "sunny",
            "created_at": "2026-11-22T14:03:22Z", "updated_at": "2026-11-22T14:03:22Z", "version": 1,
        })
    };
    let frame = |tasks: Vec<Value>, first: bool, last: bool| {
        let repositories = ["foo"];
        let data = json!({
            "repositories": repositories, "tasks": tasks, "first": first, "last": last,
        });
        let mut frame = json!({"type": "snapshot", "data": data});
        if last {
            frame["cursor"] = json!("c-5");
        }
        frame.to_string()
    };
    vec![
        frame(vec![task(1, "foo", "one\u{9b}2J")], true, false),
        frame(vec![task(2, "foo", "two")], false, true),
    ]
}

#[tokio::test]
async fn the_present_state_comes_first_and_does_not_count() {
    let follows = || vec![[snapshot(), vec![event(6, "three"), event(7, "four")]].concat()];
    let script = Connection { answer: announced("snapshot"), follows: follows() };
    let (end, out, err) = watched_live(vec![script], "--snapshot --count 2").await;
    assert_eq!(end.unwrap(), End::Enough);
    let mark = |line: &str| line.split("  ").skip(1).take(2).collect::<Vec<_>>().join(" ");
    assert_eq!(
        out.lines().map(mark).collect::<Vec<_>>(),
        ["= present one\\u{9b}2J", "= present two", "− deleted three", "− deleted four"]
    );
    assert!(err.ends_with("\n2 tasks at present\n"), "{err}");

    let script = Connection { answer: announced("snapshot"), follows: follows() };
    let (end, out, err) = watched_live(vec![script], "--snapshot --count 1 -o json -q").await;
    assert_eq!((end.unwrap(), err.as_str()), (End::Enough, ""));
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let frames = [snapshot(), vec![event(6, "three")]].concat();
    let frames: Vec<Value> = frames.iter().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(lines, frames);
    assert!(out.contains(r"one\u009b2J"), "{out}");
}

#[tokio::test]
async fn after_a_gap_the_present_state_is_told_on_both_sides() {
    let mut reset = announced("reset");
    reset["reason"] = json!("expired");
    let follows = [snapshot(), vec![event(6, "later")]].concat();
    let script = Connection { answer: reset, follows: vec![follows.clone()] };
    let (end, out, err) =
        watched_live(vec![script], "-o json --since c-1 --on-gap snapshot --count 1").await;
    assert_eq!(end.unwrap(), End::Enough);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], r#"{"type":"gap","data":{"reason":"expired"}}"#);
    assert_eq!((lines.len(), lines[3]), (4, &*follows[2]));
    assert!(err.contains("(expired); going on with the tasks as they are now\n"), "{err}");
}

#[tokio::test]
async fn a_server_without_snapshots_is_a_failure_that_says_so() {
    let script = Connection { answer: answer("live"), follows: vec![vec![event(1, "one")]] };
    let (end, out, _) = watched_live(vec![script], "--snapshot").await;
    let failure = end.unwrap_err();
    assert_eq!((failure.code(), out.as_str()), (1, ""));
    assert!(failure.to_string().contains("does not send snapshots"), "{failure}");
}

#[tokio::test]
async fn nothing_to_watch_is_not_found() {
    let nothing = json!({
        "accepted": [], "denied": [{"repository": "foo", "code": "not_found"}], "mode": "live",
    });
    let script = Connection { answer: nothing, follows: Vec::new() };
    let (end, out, _) = watched_live(vec![script], "").await;
    let failure = end.unwrap_err();
    assert_eq!((failure.code(), out.as_str()), (6, ""));
    assert!(failure.to_string().contains("foo"), "{failure}");
}
