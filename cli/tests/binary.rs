//! What only the real process can show: arguments, exit codes, signals and closed pipes.
#![expect(clippy::unwrap_used, reason = "what cannot be had fails the test")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// The binary with these arguments, and nothing of the environment that could change it.
fn taskwatch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatch"));
    command.args(arguments).env_remove("TASKWATCH_URL").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = taskwatch(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A server that is there but never answers, so that it cannot be what ends a watcher.
fn silent_server() -> (TcpListener, String) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    (server, url)
}

#[test]
fn help_shows_how_it_is_used_and_how_it_ends() {
    let (code, stdout, stderr) = run(&["--help"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("Examples:") && stdout.contains("Exit codes:"), "{stdout}");

    let (code, stdout, _) = run(&["--version"]);
    assert_eq!(code, Some(0));
    assert_eq!(stdout, format!("taskwatch {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_why_on_stderr() {
    for (arguments, why) in [
        (&[][..], "--repo <NAME>"),
        (&["--repo", "a b"], "letters, digits and . _ - / @ : + ~ may"),
        (&["--repo", "foo", "--url", "not a url"], "not a url"),
    ] {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(why), "{arguments:?}: {stderr}");
    }
}

/// Nothing has to come through the pipe for its end to be noticed.
#[cfg(unix)]
#[test]
fn it_ends_with_0_when_nobody_reads_its_output() {
    let (_server, url) = silent_server();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut watcher = taskwatch(&["--repo", "foo", "--url", &url]).stdout(writer).spawn().unwrap();
    drop(reader);
    assert_eq!(watcher.wait().unwrap().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn signals_end_it_as_a_shell_expects() {
    let (_server, url) = silent_server();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut watcher = taskwatch(&["--repo", "foo", "--url", &url])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Signals are caught before anything is told.
        let mut told = BufReader::new(watcher.stderr.take().unwrap()).lines();
        assert_eq!(told.next().unwrap().unwrap(), format!("connecting to {url}"));
        let sent = Command::new("kill").args(["-s", signal, &watcher.id().to_string()]).status();
        assert!(sent.unwrap().success());
        assert_eq!(watcher.wait().unwrap().code(), Some(code), "{signal}");
    }
}

/// A signal is no reason to leave the server guessing.
#[cfg(unix)]
#[tokio::test]
async fn it_says_goodbye_when_it_is_interrupted() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let mut watcher = taskwatch(&["--repo", "foo", "-q", "--url", &url]).spawn().unwrap();
    let (stream, _) = server.accept().await.unwrap();
    let mut link = tokio_tungstenite::accept_async(stream).await.unwrap();
    let subscribe = link.next().await.unwrap().unwrap();
    assert!(subscribe.to_text().unwrap().contains("foo"));
    let sent = Command::new("kill").args(["-s", "INT", &watcher.id().to_string()]).status();
    assert!(sent.unwrap().success());
    let goodbye = link.next().await.unwrap().unwrap();
    assert!(matches!(goodbye, Message::Close(Some(frame)) if u16::from(frame.code) == 1000));
    assert!(link.next().await.is_none());
    drop(link);
    assert_eq!(watcher.wait().unwrap().code(), Some(130));
}

/// As in `taskwatch | less`, when nobody scrolls.
#[cfg(unix)]
#[tokio::test]
async fn a_full_pipe_does_not_keep_it_from_ending() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let mut watcher = taskwatch(&["--repo", "foo", "-q", "-o", "json", "--url", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (stream, _) = server.accept().await.unwrap();
    let mut link = tokio_tungstenite::accept_async(stream).await.unwrap();
    let subscribe = link.next().await.unwrap().unwrap();
    let subscribe: Value = serde_json::from_str(subscribe.to_text().unwrap()).unwrap();
    let data = json!({"accepted": ["foo"], "mode": "live"});
    let frame = json!({"type": "subscribed", "id": subscribe["id"], "cursor": "c0", "data": data});
    link.send(frame.to_string().into()).await.unwrap();
    // Four times what a pipe holds.
    for number in 1..=256 {
        link.send(event(number, &"x".repeat(1024)).into()).await.unwrap();
    }
    let mut printed = BufReader::new(watcher.stdout.take().unwrap()).lines();
    assert!(printed.next().unwrap().unwrap().starts_with('{'));
    let sent = Command::new("kill").args(["-s", "INT", &watcher.id().to_string()]).status();
    assert!(sent.unwrap().success());
    while let Some(Ok(_)) = link.next().await {}
    drop(link);
    assert_eq!(watcher.wait().unwrap().code(), Some(130));
}

fn event(number: u32, title: &str) -> String {
    let id = "0192f0c1-2b3c-7def-8a9b-0c1d2e3f4a5b";
    let time = "2026-11-22T14:03:22Z";
    let task = json!({
        "id": id, "repository": "foo", "title": title, "status": "pending", "priority": "low",
        "created_at": time, "updated_at": time, "version": 1,
    });
    let data = json!({
        "task_id": id, "repository": "foo", "version": 1, "changed_by": "ana", "task": task,
    });
    json!({"type": "task.created", "cursor": format!("c{number}"), "data": data}).to_string()
}
