//! What stands on a terminal, in a pipe and in a file, as a whole.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "what cannot be had fails the test")]

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use futures_util::{SinkExt, StreamExt};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A server that answers the first subscription, sends what it is told to, and stays.
struct Server {
    port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn sending(frames: Vec<String>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let mut link = tokio_tungstenite::accept_async(tcp).await.unwrap();
                link.send(welcome().into()).await.unwrap();
                while let Some(Ok(message)) = link.next().await {
                    let Ok(frame) = serde_json::from_slice::<Value>(&message.into_data()) else {
                        break;
                    };
                    if frame["type"] != "subscribe" {
                        continue;
                    }
                    let data = json!({"accepted": ["foo"], "mode": "live"});
                    let answer = json!({
                        "type": "subscribed", "id": frame["id"], "cursor": "c-0", "data": data,
                    });
                    link.send(answer.to_string().into()).await.unwrap();
                    for frame in &frames {
                        let _ = link.send(frame.clone().into()).await;
                    }
                }
            }
        });
        Self { port, _runtime: runtime }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A text without what differs from run to run.
    fn constant(&self, text: &str) -> String {
        let text = text.replace(&self.port.to_string(), "PORT");
        let lines = text.lines().map(|line| match line.split_once("watched for ") {
            Some((before, after)) => {
                let rest = after.split_once(" · ").map_or("", |(_, rest)| rest);
                format!("{before}watched for TIME · {rest}")
            }
            None => line.trim_end().to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn welcome() -> String {
    let limits = json!({
        "max_message_bytes": 524_288, "max_patterns_per_message": 100, "max_patterns": 100,
    });
    json!({"type": "welcome", "data": {
        "protocol": 1, "server": "scripted 1.0", "connection_id": ID, "heartbeat_ms": 20_000,
        "limits": limits,
    }})
    .to_string()
}

const ID: &str = "0192f0c1-2b3c-7def-8a9b-0c1d2e3f4a5b";

fn event(number: u32, title: &str, status: &str) -> String {
    let time = "2020-02-02T14:03:22Z";
    let task = json!({
        "id": ID, "repository": "foo", "title": title, "status": status, "priority": "low",
        "created_at": time, "updated_at": time, "version": number, "tags": ["お知らせ"],
    });
    let changes = json!({"status": {"from": "pending", "to": status}});
    let data = json!({
        "task_id": ID, "repository": "foo", "version": number, "changed_by": "ana", "task": task,
        "changes": changes,
    });
    let kind = if number == 1 { "task.created" } else { "task.updated" };
    json!({"type": kind, "cursor": format!("c{number}"), "timestamp": time, "data": data})
        .to_string()
}

/// One with letters of one column, of two, of none, and what should not reach a terminal.
fn story() -> Vec<String> {
    vec![
        event(1, "Water the plants", "pending"),
        event(2, "植物に水をやる 🌱 e\u{301}", "in_progress"),
        event(3, "\u{1b}[2Jgone\u{202e}", "completed"),
    ]
}

/// The watcher of a server, with nothing of the environment that could change it.
fn taskwatch(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatch"));
    command.args(["--repo", "foo", "--utc", "--url", &server.url()]).args(arguments);
    command.env_clear().env("TASKWATCH_CONFIG", "").env("TERM", "xterm-256color");
    command.stdin(Stdio::null());
    command
}

/// A terminal in which the watcher runs, and what stands on it.
struct Terminal {
    child: Child,
    shared: Arc<(Mutex<vt100::Parser>, Condvar)>,
    _controller: OwnedFd,
}

impl Terminal {
    fn running(mut command: Command, columns: u16) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&controller, size).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let user = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let child = command.stdout(user.try_clone().unwrap()).stderr(user).spawn().unwrap();
        // The command keeps its ends; the last one that is closed ends what is read.
        drop(command);
        let shared = Arc::new((Mutex::new(vt100::Parser::new(24, columns, 0)), Condvar::new()));
        let mut printed = File::from(controller.try_clone().unwrap());
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = printed.read(&mut bytes) {
                    shared.0.lock().unwrap().process(&bytes[..read]);
                    shared.1.notify_all();
                }
            }
        });
        Self { child, shared, _controller: controller }
    }

    /// The screen as soon as it is like this.
    fn when(&self, is_so: impl Fn(&vt100::Screen) -> bool) -> vt100::Screen {
        let screen = self.shared.0.lock().unwrap();
        let screen = self.shared.1.wait_while(screen, |it| !is_so(it.screen())).unwrap();
        screen.screen().clone()
    }

    fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// What stands on the screen, row by row.
fn rows(screen: &vt100::Screen) -> String {
    let (_, columns) = screen.size();
    let rows: Vec<_> = screen.rows(0, columns).collect();
    rows.join("\n").trim_end().to_owned()
}

/// Whether the watcher has nothing more to show just now.
fn is_idle(screen: &vt100::Screen) -> bool {
    rows(screen).lines().last().is_some_and(|line| line.starts_with("live"))
}

#[test]
fn on_a_terminal_the_last_line_says_how_it_is_going() {
    let server = Server::sending(story());
    let terminal = Terminal::running(taskwatch(&server, &[]), 100);
    let screen = terminal.when(|it| is_idle(it) && it.contents().contains("3 events"));
    insta::assert_snapshot!("terminal", server.constant(&rows(&screen)));
    let colours = String::from_utf8(screen.contents_formatted()).unwrap();
    assert!(colours.contains("\u{1b}[32m"), "{colours:?}");
}

#[test]
fn at_the_end_the_summary_stands_in_its_place() {
    let server = Server::sending(story());
    let terminal = Terminal::running(taskwatch(&server, &["--count", "3"]), 100);
    let screen = terminal.when(|it| it.contents().contains("0 lost"));
    insta::assert_snapshot!("end", server.constant(&rows(&screen)));
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn forty_columns_are_enough() {
    let server = Server::sending(story());
    let terminal = Terminal::running(taskwatch(&server, &[]), 40);
    let screen = terminal.when(|it| is_idle(it) && it.contents().contains("3 events"));
    insta::assert_snapshot!("forty_columns", server.constant(&rows(&screen)));
}

#[test]
fn no_colours_if_somebody_says_so() {
    let server = Server::sending(story());
    let mut command = taskwatch(&server, &[]);
    command.env("NO_COLOR", "1");
    let terminal = Terminal::running(command, 100);
    let screen = terminal.when(|it| is_idle(it) && it.contents().contains("3 events"));
    let formatted = String::from_utf8(screen.contents_formatted()).unwrap();
    assert!(!formatted.contains("\u{1b}[3"), "{formatted:?}");
}

#[test]
fn a_dumb_terminal_gets_lines_and_nothing_else() {
    let server = Server::sending(story());
    let mut command = taskwatch(&server, &["--count", "3"]);
    command.env("TERM", "dumb");
    let terminal = Terminal::running(command, 100);
    let screen = terminal.when(|it| it.contents().contains("0 lost"));
    insta::assert_snapshot!("dumb", server.constant(&rows(&screen)));
    let formatted = String::from_utf8(screen.contents_formatted()).unwrap();
    assert!(!formatted.contains("\u{1b}[3"), "{formatted:?}");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn without_a_terminal_there_are_lines_alone() {
    let server = Server::sending(story());
    let ended = taskwatch(&server, &["--count", "3"]).output().unwrap();
    let [out, err] = [ended.stdout, ended.stderr].map(|it| String::from_utf8(it).unwrap());
    insta::assert_snapshot!("pipe", server.constant(&format!("{out}--- stderr\n{err}")));
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn into_a_file_goes_what_goes_into_a_pipe() {
    let server = Server::sending(story());
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let mut command = taskwatch(&server, &["--count", "3", "-q", "-o", "json"]);
    let status = command.stdout(File::create(&path).unwrap()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let printed = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = printed.lines().collect();
    // Hazards are escaped; as JSON it is the same.
    let parsed = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let sent: Vec<_> = story().iter().map(|line| parsed(line)).collect();
    assert_eq!(lines.iter().map(|line| parsed(line)).collect::<Vec<_>>(), sent);
    assert!(!printed.contains('\u{1b}') && !printed.contains('\u{202e}'), "{printed}");
}

/// As with `| head -1`: it gets its line though more will come, and the watcher ends with 0.
#[test]
fn who_reads_one_line_gets_it_and_ends_it() {
    let server = Server::sending(story());
    let mut command = taskwatch(&server, &["-q"]);
    let mut watcher = command.stdout(Stdio::piped()).spawn().unwrap();
    let head = Command::new("head").arg("-1").stdin(watcher.stdout.take().unwrap()).output();
    insta::assert_snapshot!("head", String::from_utf8(head.unwrap().stdout).unwrap());
    assert_eq!(watcher.wait().unwrap().code(), Some(0));
}

/// A shell's `>&-`.
#[test]
fn without_any_stdout_it_runs_and_ends_as_it_was_told_to() {
    let server = Server::sending(story());
    let inner = taskwatch(&server, &["--count", "3"]);
    let words = inner.get_args().map(|word| word.to_str().unwrap().to_owned());
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" >&-"]).arg(inner.get_program()).args(words);
    let ended = shell.env_clear().env("TASKWATCH_CONFIG", "").output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), 0), "{told}");
    assert!(told.contains("3 events") && !told.contains("error"), "{told}");
}

/// What a full disk did not take is printed by the next run.
#[cfg(target_os = "linux")]
#[test]
fn the_position_does_not_pass_what_could_not_be_printed() {
    let server = Server::sending(story());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("position");
    let mut command = taskwatch(&server, &["-o", "json", "--cursor-file"]);
    command.arg(&file).stdout(File::options().write(true).open("/dev/full").unwrap());
    let ended = command.output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot write to stdout"), "{told}");
    let saved = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(saved.is_empty() || saved.trim() == "c-0", "{saved}");
}
