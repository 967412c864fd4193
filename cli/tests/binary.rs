//! What only the real process can show: arguments, exit codes, signals and closed pipes.
#![expect(clippy::unwrap_used, reason = "what cannot be had fails the test")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

/// The binary with these arguments, and nothing of the environment that could change it.
fn taskwatch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatch"));
    command.args(arguments).stdin(Stdio::null());
    for name in
        ["TASKWATCH_URL", "TASKWATCH_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    {
        command.env_remove(name);
    }
    command.env("TASKWATCH_CONFIG", "");
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

#[test]
fn a_board_without_a_terminal_exits_with_2_and_says_so() {
    let (code, stdout, stderr) = run(&["--repo", "foo", "--board"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert_eq!(stderr, "error: --board needs a terminal: stdout is none\n");
}

#[test]
fn a_token_or_a_certificate_that_cannot_be_read_exits_with_2() {
    for (arguments, why) in [
        (["--token-file", "/no/token"], "cannot read the token file /no/token"),
        (["--cacert", "/no/ca.pem"], "cannot take certificates from /no/ca.pem"),
        (["--cacert", "/dev/null"], "no certificate"),
    ] {
        let (code, stdout, stderr) = run(&[&["--repo", "foo"][..], &arguments].concat());
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(why), "{arguments:?}: {stderr}");
    }
}

/// A server that takes no token, and what the watcher shows it.
async fn refuses_twice(server: &tokio::net::TcpListener) -> [String; 2] {
    let mut shown = [String::new(), String::new()];
    for request in &mut shown {
        let (mut tcp, _) = server.accept().await.unwrap();
        while !request.ends_with("\r\n\r\n") {
            request.push(char::from(tcp.read_u8().await.unwrap()));
        }
        let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        tcp.write_all(answer.as_bytes()).await.unwrap();
    }
    shown
}

#[cfg(unix)]
#[tokio::test]
async fn a_refused_token_exits_with_3_and_is_shown_nowhere() {
    use std::os::unix::fs::PermissionsExt;

    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "from-the-file\n").unwrap();
    let path = file.to_str().unwrap();
    for (mode, arguments, token) in [
        (0o644, &["--token-file", path][..], "from-the-file"),
        (0o600, &["--token-file", path], "from-the-file"),
        (0o644, &[], "from-the-variable"),
    ] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command =
            taskwatch(&[&["--repo", "foo", "-vvv", "--url", &url], arguments].concat());
        command.env("TASKWATCH_TOKEN", "from-the-variable").stdout(Stdio::piped());
        let watcher = command.stderr(Stdio::piped()).spawn().unwrap();
        for request in refuses_twice(&server).await {
            assert!(
                request.contains(&format!("\r\nauthorization: Bearer {token}\r\n")),
                "{request}"
            );
        }
        let Output { status, stdout, stderr } = watcher.wait_with_output().unwrap();
        let told = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert_eq!(status.code(), Some(3), "{told}");
        assert!(
            told.contains("error: ") && told.contains("hint: ") && !told.contains(token),
            "{told}"
        );
        let is_warned = mode == 0o644 && !arguments.is_empty();
        assert_eq!(told.contains("warning: others may read the token in "), is_warned, "{told}");
    }
    let help = taskwatch(&["--help"]).env("TASKWATCH_TOKEN", "from-the-variable").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("TASKWATCH_TOKEN") && !help.contains("from-the-variable"), "{help}");
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

/// Whoever waits for something must not take this for it.
#[cfg(unix)]
#[test]
fn what_is_waited_for_is_not_met_because_nobody_reads_its_output() {
    let (_server, url) = silent_server();
    let (reader, writer) = std::io::pipe().unwrap();
    let arguments = ["--repo", "foo", "--url", &url, "--for", "none()"];
    let mut watcher = taskwatch(&arguments).stdout(writer).spawn().unwrap();
    drop(reader);
    assert_eq!(watcher.wait().unwrap().code(), Some(1));
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
