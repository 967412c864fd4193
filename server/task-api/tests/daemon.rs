//! The binary: what it says, how it ends, and what it has kept by then.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Its TLS, which is not used here, wants a provider all the same.
fn http() -> reqwest::Client {
    // Whoever came first has installed the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}

struct Daemon {
    child: Child,
    stderr: BufReader<ChildStderr>,
    url: String,
}

fn taskwatchd(data: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatchd"));
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data).args(flags);
    command
}

impl Daemon {
    fn start(data: &Path) -> Self {
        Self::spawn(taskwatchd(data, &[]))
    }

    fn spawn(command: Command) -> Self {
        let url = |line: &str| line.trim_end().strip_prefix("listening on ").map(str::to_owned);
        Self::that_says(command, url)
    }

    /// One whose log is for programs.
    fn spawn_json(command: Command) -> Self {
        Self::that_says(command, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            assert_eq!((&line["level"], &line["target"]), (&json!("INFO"), &json!("taskwatchd")));
            Some(line["fields"]["url"].as_str()?.to_owned())
        })
    }

    /// `url` takes it out of the first line.
    fn that_says(mut command: Command, url: impl FnOnce(&str) -> Option<String>) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let url = url(&line).expect(&line);
        Self { child, stderr, url }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end: the exit code, if there is one, and what was said since the start.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }

    async fn post(
        &self,
        client: &reqwest::Client,
        body: Value,
    ) -> reqwest::Result<reqwest::Response> {
        client.post(format!("{}/api/v1/tasks", self.url)).json(&body).send().await
    }
}

/// Runs to the end, which is expected soon.
fn refusal(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_polite_stop_ends_with_0_and_says_nothing_more() {
    for signal in ["-TERM", "-INT"] {
        let dir = TempDir::new().unwrap();
        let daemon = Daemon::start(dir.path());
        // The connection stays open: an idle client keeps nobody from stopping.
        let client = http();
        let made = daemon.post(&client, json!({"repository": "a", "title": "One"})).await.unwrap();
        assert_eq!(made.status(), StatusCode::CREATED);
        daemon.signal(signal);
        assert_eq!(daemon.end(), (Some(0), String::new()));
    }
}

#[tokio::test]
async fn a_killed_server_has_what_it_acknowledged() {
    let dir = TempDir::new().unwrap();
    let daemon = Daemon::start(dir.path());
    let client = http();
    for n in 1..=20 {
        let made = daemon.post(&client, json!({"repository": "a", "title": n.to_string()}));
        assert_eq!(made.await.unwrap().status(), StatusCode::CREATED);
    }
    daemon.signal("-KILL");
    assert_eq!(daemon.end().0, None);

    let daemon = Daemon::start(dir.path());
    let list = client.get(format!("{}/api/v1/tasks", daemon.url)).send().await.unwrap();
    let list: Value = list.json().await.unwrap();
    let titles = list["tasks"].as_array().unwrap().iter().map(|task| task["title"].clone());
    assert!(titles.eq((1..=20).map(|n| json!(n.to_string()))), "{list}");
    daemon.signal("-TERM");
    assert_eq!(daemon.end().0, Some(0));
}

/// Ten ask with one key, the server is killed when some of them have been answered, and all ask
/// again: one task, one event, one answer.
#[tokio::test]
async fn a_key_outlives_a_kill() {
    for answered in [0, 0, 1, 3, 9] {
        let dir = TempDir::new().unwrap();
        let daemon = Daemon::start(dir.path());
        let client = http();
        let ask = |url: &str| {
            let request = client.post(format!("{url}/api/v1/tasks"));
            let request = request.header("idempotency-key", "k");
            let request = request.json(&json!({"repository": "a", "title": "One"}));
            async move {
                let response = request.send().await?;
                let header =
                    |name| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
                let headers = ["task-cursor", "location", "etag"].map(header);
                let status = response.status();
                Ok::<_, reqwest::Error>((status, headers, response.text().await?))
            }
        };
        let mut asking = JoinSet::new();
        (0..10).for_each(|_| drop(asking.spawn(ask(&daemon.url))));
        let mut answers = Vec::new();
        for _ in 0..answered {
            answers.push(asking.join_next().await.unwrap().unwrap().unwrap());
        }
        // Those that are asked for meanwhile are on their way, or not even connected.
        tokio::task::yield_now().await;
        daemon.signal("-KILL");
        answers.extend(asking.join_all().await.into_iter().flatten());
        assert_eq!(daemon.end().0, None);

        let daemon = Daemon::start(dir.path());
        for _ in 0..10 {
            answers.push(ask(&daemon.url).await.unwrap());
        }
        assert_eq!(answers[0].0, StatusCode::CREATED);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        let next = daemon.post(&client, json!({"repository": "a", "title": "Two"})).await.unwrap();
        let cursor = next.headers()["task-cursor"].to_str().unwrap();
        assert!(cursor.ends_with("-2"), "{cursor}");
        let list = client.get(format!("{}/api/v1/tasks", daemon.url)).send().await.unwrap();
        let list: Value = list.json().await.unwrap();
        assert_eq!(list["tasks"].as_array().unwrap().len(), 2);
        daemon.signal("-KILL");
        daemon.end();
    }
}

#[tokio::test]
async fn a_disk_that_fails_ends_the_server_before_it_acknowledges() {
    let dir = TempDir::new().unwrap();
    // No file may grow beyond this; the signal is ignored, so that the write fails with EFBIG.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 256; exec \"$@\"", "sh"]);
    let plain = taskwatchd(dir.path(), &[]);
    limited.arg(plain.get_program()).args(plain.get_args());
    let daemon = Daemon::spawn(limited);

    let client = http();
    let mut acknowledged = 0;
    let task = json!({"repository": "a", "title": "One", "description": "x".repeat(20_000)});
    while let Ok(made) = daemon.post(&client, task.clone()).await {
        assert_eq!(made.status(), StatusCode::CREATED);
        acknowledged += 1;
        assert!(acknowledged < 1000, "the limit does not work");
    }
    let (code, said) = daemon.end();
    assert_ne!(code, Some(0));
    assert!(said.contains("the store failed: disk I/O error"), "{said}");

    let daemon = Daemon::start(dir.path());
    let list = client.get(format!("{}/api/v1/tasks?limit=1000", daemon.url)).send().await.unwrap();
    let list: Value = list.json().await.unwrap();
    assert!(list["tasks"].as_array().unwrap().len() >= acknowledged);
    daemon.signal("-TERM");
    daemon.end();
}

#[test]
fn who_could_serve_strangers_must_be_told_to() {
    let dir = TempDir::new().unwrap();
    for flags in [
        ["--allow-host", "tasks.example.com"],
        ["--allow-origin", "https://example.com"],
        ["--trusted-proxy", "127.0.0.1"],
    ] {
        let (code, said) = refusal(taskwatchd(dir.path(), &flags));
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("give --tokens FILE, --jwt-key or --jwt-jwks, or --anonymous"),
            "{said}"
        );
    }
    let (code, said) = refusal(taskwatchd(dir.path(), &["--anonymous", "--tokens", "x"]));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("leave out --tokens"), "{said}");
    assert_eq!(refusal(taskwatchd(dir.path(), &["--retention-age", "7"])).0, Some(2));
}

/// What drives a terminal, what ends a line, and what would begin a line of a log in JSON.
const HOSTILE: &str = "a\u{1b}[2J\u{9b}31m\u{85}\u{2028}\u{202e}\r\n{\"level\":\"ERROR\"}\n\"},\\";

/// What a name may hold of that.
const NAME: &str = "\"},\\ ana";

#[tokio::test]
async fn a_log_for_programs_is_one_object_a_line_whatever_it_quotes() {
    let dir = TempDir::new().unwrap();
    let tokens = dir.path().join("tokens");
    let made = token_new(&tokens, &["--id", NAME, "--write", "*", "--read", "*"]);
    let token = String::from_utf8(made.stdout).unwrap();
    let flags = ["--log-format", "json", "--tokens", tokens.to_str().unwrap()];
    let mut command = taskwatchd(dir.path(), &flags);
    command.env("RUST_LOG", "info,taskwatch_task_api=trace");
    let daemon = Daemon::spawn_json(command);
    let client = http();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let title = HOSTILE.replace(['\r', '\n', '\u{85}', '\u{2028}'], "");
    let request = client.post(format!("{}/api/v1/tasks", daemon.url)).bearer_auth(token.trim());
    let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let made = request.json(&json!({"repository": "a", "title": title})).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let foreign = client.get(format!("{}/healthz", daemon.url));
    let foreign = foreign.header("origin", "http://\u{9b}\u{202e}\\\"").send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    let events = client.get(format!("{}/api/v1/events?repository=a", daemon.url));
    let mut events = events.bearer_auth(token.trim()).send().await.unwrap();
    assert!(events.chunk().await.unwrap().is_some());
    daemon.signal("-TERM");
    while let Ok(Some(_)) = events.chunk().await {}
    let (code, said) = daemon.end();
    assert_eq!(code, Some(0));

    assert!(!said.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{2028}' || c == '\u{202e}')));
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        let texts =
            [&line["timestamp"], &line["level"], &line["target"], &line["fields"]["message"]];
        assert!(texts.into_iter().all(Value::is_string), "{line}");
    }
    let one = |wanted: &str| {
        let mut found = lines.iter().filter(|line| line["fields"]["message"] == wanted);
        let line = found.next().unwrap_or_else(|| panic!("no {wanted:?} in {said}"));
        assert!(found.next().is_none(), "{wanted:?} twice in {said}");
        line
    };
    let change = one("answers a change");
    let span = json!([{"name": "change", "principal": NAME, "trace_id": trace}]);
    assert_eq!((&change["spans"], &change["fields"]["repository"]), (&span, &json!("a")));
    assert_eq!(one("its title")["fields"]["title"], format!("{title:?}"));
    let ended = one("connection ended");
    let span = &ended["spans"][0];
    assert_eq!((&ended["fields"]["code"], &span["principal"]), (&json!(1012), &json!(NAME)));
    assert!(span["id"].is_string() && span["peer"].is_string(), "{span}");
    assert!(!said.contains(token.trim()));
}

#[test]
fn a_failure_is_an_object_too() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file\u{9b}");
    std::fs::write(&file, "").unwrap();
    let (code, said) = refusal(taskwatchd(&file, &["--log-format", "json"]));
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    let line: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["fields"]["message"].as_str().unwrap().contains("file\u{9b}"), "{said}");
    assert!(!said.contains('\u{9b}'), "{said}");
}

/// `taskwatchd config check`, with these arguments: the exit code, the table, and what was said.
fn config_check(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatchd"));
    let output = command.args(["config", "check"]).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn settings_come_from_flags_variables_and_the_file_in_this_order() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("s.toml");
    let path = file.to_str().unwrap();
    let text =
        "listen = \"127.0.0.1:0\"\nretention-age = \"1d\"\nmax-headers = 32\nanonymous = true\n";
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatchd"));
    command.args(["config", "check", "--retention-age", "3d"]);
    command.env("TASKWATCH_SERVER_CONFIG", path).env("TASKWATCH_RETENTION_AGE", "2d");
    command.env("TASKWATCH_MAX_HEADERS", "16").env("TASKWATCH_ANONYMOUS", "false");
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    let row = |name: &str| -> Vec<String> {
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(name));
        row.unwrap().split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("listen"), ["listen", "127.0.0.1:0", &format!("{path}:1")]);
    assert_eq!(row("retention-age"), ["retention-age", "3d", "flag"]);
    assert_eq!(row("max-headers"), ["max-headers", "16", "variable", "TASKWATCH_MAX_HEADERS"]);
    assert_eq!(row("anonymous")[1..], ["false", "variable", "TASKWATCH_ANONYMOUS"]);
    assert_eq!(row("max-connections"), ["max-connections", "10000", "default"]);

    // The server itself goes by the same file.
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatchd"));
    command.args(["--config", path, "--data"]).arg(dir.path());
    let daemon = Daemon::spawn(command);
    daemon.signal("-TERM");
    assert_eq!(daemon.end().0, Some(0));
}

#[test]
fn settings_that_would_not_do_are_told_without_a_start() {
    let dir = TempDir::new().unwrap();
    let (file, missing) = (dir.path().join("s.toml"), dir.path().join("missing"));
    let (path, missing) = (file.to_str().unwrap(), missing.to_str().unwrap());
    for (text, why) in [
        ("tokens = \"MISSING\"", "missing: cannot be read: No such file"),
        ("tls-cert = \"MISSING\"", "--tls-cert and --tls-key go together"),
        ("tls-cert = \"MISSING\"\ntls-key = \"MISSING\"", "missing: cannot be read"),
        ("jwt-key = \"MISSING\"", "--jwt-key needs --jwt-algorithm"),
        ("listen = \"0.0.0.0:0\"", "it asks nobody who they are"),
        ("allow-origin = [\"x\"]\nanonymous = true", "--allow-origin x: "),
    ] {
        std::fs::write(&file, text.replace("MISSING", missing)).unwrap();
        let (code, table, said) = config_check(&[path]);
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.contains(why), "{text}: {said}");
        assert!(table.contains(&format!("{path}:1\n")), "{text}: {table}");
    }
    let misspelt = "\nlistn = \"127.0.0.1:0\"\n";
    std::fs::write(&file, misspelt).unwrap();
    let why = format!("taskwatchd: {path}: line 2: listn: there is no such setting\n");
    assert_eq!(config_check(&[path]), (Some(2), String::new(), why.clone()));
    assert_eq!(refusal(taskwatchd(dir.path(), &["--config", path])), (Some(2), why));
    let (code, _, said) = config_check(&[missing]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("missing: cannot be read: No such file"), "{said}");
    // Other commands do not go by it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatchd"));
    command.env("TASKWATCH_SERVER_CONFIG", path).args(["token", "new", "--tokens"]);
    command.arg(dir.path().join("tokens")).args(["--id", "ana", "--metrics"]);
    assert!(command.output().unwrap().status.success());
}

/// `taskwatchd token new`, with these flags.
fn token_new(file: &Path, flags: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatchd"));
    command.args(["token", "new", "--tokens"]).arg(file).args(flags).output().unwrap()
}

#[tokio::test]
async fn a_token_is_made_by_one_command_and_known_by_the_server() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("tokens");
    let made = token_new(&file, &["--id", "ana", "--write", "a", "--expires", "1d"]);
    assert!(made.status.success() && made.stderr.is_empty(), "{made:?}");
    let token = String::from_utf8(made.stdout).unwrap();
    let token = token.trim_end();
    assert!(token.starts_with("tw_") && token.lines().count() == 1, "{token}");

    let daemon =
        Daemon::spawn(taskwatchd(&dir.path().join("data"), &["--tokens", file.to_str().unwrap()]));
    let client = http();
    let task = json!({"repository": "a", "title": "One"});
    let refused = daemon.post(&client, task.clone()).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let request = client.post(format!("{}/api/v1/tasks", daemon.url)).bearer_auth(token);
    assert_eq!(request.json(&task).send().await.unwrap().status(), StatusCode::CREATED);
    daemon.signal("-TERM");
    let (code, said) = daemon.end();
    assert_eq!(code, Some(0));
    assert!(!said.contains(token), "{said}");
}

#[test]
fn a_tokens_file_that_is_wrong_is_named_with_the_line() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("tokens");
    let flags = ["--tokens", file.to_str().unwrap()];
    let (code, said) = refusal(taskwatchd(dir.path(), &flags));
    assert_eq!(code, Some(1));
    assert!(said.contains("tokens: cannot be read: No such file"), "{said}");

    std::fs::write(&file, "# none yet\nana\n").unwrap();
    let (code, said) = refusal(taskwatchd(dir.path(), &flags));
    assert_eq!(code, Some(1));
    assert!(said.contains("tokens: line 2: "), "{said}");
    let refused = token_new(&file, &["--id", "ana", "--read", "*"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty(), "{refused:?}");
    assert_eq!(token_new(&file, &["--id", "ana"]).status.code(), Some(2));
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, said) = refusal(taskwatchd(&file, &[]));
    assert_eq!(code, Some(1));
    assert!(said.contains(file.to_str().unwrap()), "{said}");

    std::fs::write(dir.path().join("taskwatch.db"), "this is no database, and long enough")
        .unwrap();
    let (code, said) = refusal(taskwatchd(dir.path(), &[]));
    assert_eq!(code, Some(1));
    assert!(said.contains("the store cannot be opened"), "{said}");
    std::fs::remove_file(dir.path().join("taskwatch.db")).unwrap();

    let daemon = Daemon::start(dir.path());
    let (code, said) = refusal(taskwatchd(dir.path(), &[]));
    assert_eq!(code, Some(1));
    assert!(said.contains("another process uses"), "{said}");
    daemon.signal("-TERM");
    daemon.end();
}
