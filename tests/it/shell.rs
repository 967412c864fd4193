//! The same tasks from the shell: `taskwatch list`, `get`, `create`, `update` and `rm`.

use serde_json::{Value, json};
use taskwatch_tests::{
    Daemon, End, Ended, Faults, Grant, Plan, Proxy, Rest, TokensFile, read_log, run_taskwatch,
};
use tempfile::TempDir;

/// A server, and commands that are given to it.
struct Shell {
    daemon: Daemon,
    data: TempDir,
}

impl Shell {
    async fn open() -> Self {
        let data = tempfile::tempdir().unwrap();
        Self { daemon: Daemon::start(data.path()).await, data }
    }

    async fn run(&self, args: &[&str]) -> Ended {
        run_taskwatch(args, &[("TASKWATCH_URL", self.daemon.url())]).await
    }

    /// What a command prints that does what it should.
    async fn done(&self, args: &[&str]) -> String {
        let ended = self.run(args).await;
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{args:?}");
        ended.stdout
    }

    /// Why a command is refused, with this exit code.
    async fn refused(&self, code: i32, args: &[&str]) -> String {
        let ended = self.run(args).await;
        assert_eq!((ended.code, &*ended.stdout), (Some(code), ""), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
        ended.stderr
    }
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[tokio::test]
async fn a_task_from_its_first_line_to_its_last() {
    let shell = Shell::open().await;
    let title = "Water the plants";
    let words = ["create", "--repo", "foo", title, "--tag", "home", "--assignee", "ana", "-q"];
    let id = shell.done(&words).await;
    let id = id.trim();

    let listed = shell.done(&["list", "--repo", "foo"]).await;
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[1].starts_with(id) && lines[1].ends_with(title), "{listed}");

    let update = ["update", id, "--status", "completed", "--no-assignee", "--if-version", "1"];
    assert_eq!(shell.done(&update).await, format!("updated {id}  {title}\n"));
    let conflict = shell.refused(1, &update).await;
    assert!(conflict.contains("hint: somebody was faster"), "{conflict}");

    let task = &json_lines(&shell.done(&["get", id, "-o", "json"]).await)[0];
    assert_eq!(task["status"], "completed");
    assert_eq!((&task["assignee"], &task["tags"]), (&Value::Null, &json!(["home"])));
    let shown = shell.done(&["get", id, "--history"]).await;
    for part in [title, id, "completed", "+ created", "status pending → completed"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    assert_eq!(shell.done(&["rm", id]).await, format!("deleted {id}\n"));
    let gone = shell.refused(6, &["get", id]).await;
    assert!(gone.contains(&format!("cannot show task {id}")), "{gone}");
    let history = json_lines(&shell.done(&["get", id, "--history", "-o", "json"]).await);
    let types: Vec<_> = history.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["task.created", "task.updated", "task.deleted"]);
    assert_eq!(shell.done(&["list"]).await, "");
}

#[tokio::test]
async fn a_list_has_what_was_asked_for_across_pages_and_patterns() {
    let shell = Shell::open().await;
    let rest = Rest::new(shell.daemon.url());
    for number in 0..120 {
        rest.create(if number % 2 == 0 { "a/even" } else { "b/odd" }, &number.to_string()).await;
    }
    let titles = |ended: &Ended| -> Vec<usize> {
        let tasks = json_lines(&ended.stdout);
        tasks.iter().map(|task| task["title"].as_str().unwrap().parse().unwrap()).collect()
    };
    let list = async |words: &[&str]| {
        let ended = shell.run(&[&["list", "-o", "json"], words].concat()).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        (titles(&ended), ended.stderr)
    };
    // More than one page, and all of it.
    let (all, told) = list(&["--limit", "500"]).await;
    assert_eq!((all, &*told), ((0..120).collect(), ""));
    // Cut, and that is said.
    let (first, told) = list(&["--limit", "101", "--sort", "-created_at"]).await;
    assert_eq!(first, (19..120).rev().collect::<Vec<_>>());
    assert!(told.contains("the first 101"), "{told}");
    // Patterns that overlap, in one order.
    let words = ["--repo", "a/*", "--repo", "b/odd", "--repo", "a/even", "--limit", "7"];
    assert_eq!(list(&words).await.0, (0..7).collect::<Vec<_>>());
    // One line for each is just what the server wrote.
    let answer = rest.request("GET", "/api/v1/tasks?text=77").send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let line = shell.done(&["list", "--text", "77", "-o", "json"]).await;
    assert_eq!(json_lines(&line), answer["tasks"].as_array().unwrap()[..]);
}

#[tokio::test]
async fn what_cannot_be_done_says_what_why_and_what_to_do() {
    let shell = Shell::open().await;
    let text = shell.refused(6, &["update", NOBODY, "--status", "completed"]).await;
    assert!(text.contains("cannot change task") && text.contains("hint: "), "{text}");
    let text = shell.refused(2, &["create", "--repo", "foo", "two\nlines"]).await;
    assert!(text.contains("cannot make a task in foo") && text.contains("title"), "{text}");

    // The others are deleted all the same.
    let id = shell.done(&["create", "--repo", "foo", "one", "-q"]).await;
    let ended = shell.run(&["rm", NOBODY, id.trim()]).await;
    assert_eq!((ended.code, ended.stdout), (Some(6), format!("deleted {id}")));
    assert!(ended.stderr.contains(NOBODY), "{}", ended.stderr);

    let away = run_taskwatch(&["list", "--url", "http://127.0.0.1:1"], &[]).await;
    assert_eq!(away.code, Some(1));
    assert!(away.stderr.contains("cannot list the tasks of *: cannot connect to 127.0.0.1:1"));
    assert!(away.stderr.contains("taskwatch doctor"), "{}", away.stderr);
}

#[tokio::test]
async fn a_token_decides_what_may_be_done() {
    let folder = tempfile::tempdir().unwrap();
    let grant = Grant::new("ana", "token-of-ana").reading(&["a", "b"]).writing(&["b"]);
    let tokens = TokensFile::new(folder.path(), &[grant]);
    let args = ["--tokens", tokens.path()];
    let data = folder.path().join("data");
    let daemon = Daemon::start_with(&data, "127.0.0.1:0", &args).await;
    let run = async |token: &str, args: &[&str]| {
        run_taskwatch(args, &[("TASKWATCH_URL", daemon.url()), ("TASKWATCH_TOKEN", token)]).await
    };
    let made = run("token-of-ana", &["create", "--repo", "b", "mine"]).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    for (token, args, code, part) in [
        ("", &["list"][..], 3, "--token-file"),
        ("token-of-ben", &["list"], 3, "--token-file"),
        ("token-of-ana", &["create", "--repo", "a", "not mine"], 3, "403"),
        ("token-of-ana", &["create", "--repo", "c", "whose?"], 6, "404"),
    ] {
        let ended = run(token, args).await;
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

/// The server has made the change when the connection is cut, and is told again with the same key.
#[tokio::test]
async fn a_change_whose_answer_was_cut_is_made_once() {
    let shell = Shell::open().await;
    let network = Proxy::start(shell.daemon.addr()).await;
    let cut = || Plan {
        to_client: Faults { end: Some((20, End::Cut)), ..Faults::default() },
        ..Plan::default()
    };
    network.plan([cut()]);
    let env = [("TASKWATCH_URL", network.url())];
    let made = run_taskwatch(&["create", "--repo", "foo", "once", "-q"], &env).await;
    assert_eq!((made.code, &*made.stderr), (Some(0), ""));
    assert_eq!(network.carried().len(), 2, "two connections");
    assert_eq!(json_lines(&shell.done(&["list", "-o", "json"]).await).len(), 1);

    // Cut twice, it says that it does not know.
    network.plan([cut(), cut()]);
    let lost = run_taskwatch(&["rm", made.stdout.trim()], &env).await;
    assert_eq!((lost.code, &*lost.stdout), (Some(1), ""));
    assert!(lost.stderr.contains("there is no answer"), "{}", lost.stderr);
    assert!(lost.stderr.contains("hint: a change may have been made"), "{}", lost.stderr);
    assert_eq!(read_log(shell.data.path()).len(), 2, "and it was, once");
}
