//! `--exec` runs a command for each event, at least once, and `--cursor-file` goes on behind what was
//! handled.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use taskwatch_tests::{Daemon, Rest, Watcher, read_log, within};

use crate::support::cursor;

/// A watcher that runs a script of the shell for each event of `foo`; the script has the folder as `$1`.
fn watcher(url: &str, folder: &Path, more: &[&str], script: &str) -> Watcher {
    let (folder, position) = (folder.to_str().unwrap(), folder.join("position"));
    let position = position.to_str().unwrap();
    let mut args = vec!["--repo", "foo", "--cursor-file", position, "--exec", "sh"];
    args.extend(more);
    args.extend(["--", "-c", script, "hook", folder]);
    Watcher::spawn(url, &args)
}

/// Waits for a file that has this many lines.
async fn lines(file: &Path, count: usize) -> Vec<String> {
    let come = async {
        loop {
            let text = fs::read_to_string(file).unwrap_or_default();
            if text.lines().count() >= count {
                return text.lines().map(ToOwned::to_owned).collect();
            }
            tokio::task::yield_now().await;
        }
    };
    within("lines in a file", come).await
}

fn position(folder: &Path) -> String {
    fs::read_to_string(folder.join("position")).unwrap().trim().to_owned()
}

fn places(data: &Path) -> Vec<String> {
    read_log(data).iter().map(|event| cursor(&event.envelope)).collect()
}

#[tokio::test]
async fn a_hook_has_the_event_and_no_text_becomes_a_command() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(data.path()).await;
    let script = r#"cat; echo; echo "$TASKWATCH_EVENT|$TASKWATCH_TITLE|$TASKWATCH_STATUS|${TASKWATCH_ASSIGNEE-none}|$TASKWATCH_CHANGED_BY|$TASKWATCH_ATTEMPT|$TASKWATCH_REPLAYED|$TASKWATCH_CURSOR|$TASKWATCH_REPOSITORY|$TASKWATCH_TASK_ID|$TASKWATCH_VERSION""#;
    let mut watcher = watcher(daemon.url(), folder.path(), &["--count", "2"], script);
    watcher.stderr.until("connected to").await;
    let title = r#"'$(touch pwned)' "`touch pwned`"; | & é"#;
    let rest = Rest::new(daemon.url());
    let task = rest.create("foo", title).await;
    rest.patch(&task, json!({"status": "completed", "assignee": "ana"})).await;
    let log = read_log(data.path());
    for (nth, rest) in
        ["task.created|T|pending|none|", "task.updated|T|completed|ana|"].into_iter().enumerate()
    {
        let envelope: Value = serde_json::from_str(&watcher.stdout.next().await.unwrap()).unwrap();
        assert_eq!(envelope, serde_json::from_str::<Value>(&log[nth].envelope).unwrap());
        let place = cursor(&log[nth].envelope);
        assert_eq!(
            watcher.stdout.next().await.unwrap(),
            format!("{}api|1|false|{place}|foo|{}|{}", rest.replace('T', title), task.id, nth + 1),
        );
    }
    assert_eq!(watcher.wait().await.code(), Some(0));
    assert_eq!(position(folder.path()), *places(data.path()).last().unwrap());
}

#[tokio::test]
async fn a_hook_that_fails_is_run_again_and_holds_up_its_task_alone() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(data.path()).await;
    // Nobody reads stdin, and the first task's first event fails until another one is through.
    let script = r#"if [ "$TASKWATCH_TITLE" = bad ] && [ ! -s "$1/done" ]; then exit 7; fi
        echo "$TASKWATCH_TITLE $TASKWATCH_VERSION" >> "$1/done""#;
    let more = ["--count", "3", "--exec-parallel", "2"];
    let mut watcher = watcher(daemon.url(), folder.path(), &more, script);
    watcher.stderr.until("connected to").await;
    let rest = Rest::new(daemon.url());
    let bad = rest.create("foo", "bad").await;
    watcher
        .stderr
        .until("sh failed for task.created of bad: exit status: 7, attempt 1; again in 0.2 s")
        .await;
    rest.patch(&bad, json!({"priority": "high"})).await;
    let before = position(folder.path());
    watcher.stderr.until("attempt 2; again in 0.4 s").await;
    assert_eq!(position(folder.path()), before, "what failed is not handled");
    rest.create("foo", "good").await;
    assert_eq!(watcher.wait().await.code(), Some(0));
    assert_eq!(lines(&folder.path().join("done"), 3).await, ["good 1", "bad 1", "bad 2"]);
    assert_eq!(position(folder.path()), *places(data.path()).last().unwrap());
}

#[tokio::test]
async fn told_to_end_it_waits_for_the_hook_that_runs_and_begins_no_other() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(data.path()).await;
    let script = r#"echo "$TASKWATCH_TITLE" >> "$1/begun"
        until [ -e "$1/go" ]; do sleep 0.02; done
        echo "$TASKWATCH_TITLE" >> "$1/done""#;
    let mut first = watcher(daemon.url(), folder.path(), &[], script);
    first.stderr.until("connected to").await;
    let rest = Rest::new(daemon.url());
    rest.create("foo", "one").await;
    rest.create("foo", "two").await;
    lines(&folder.path().join("begun"), 1).await;

    // The file is for one at a time.
    let mut second = watcher(daemon.url(), folder.path(), &[], script);
    assert_eq!(second.wait().await.code(), Some(1));
    second.stderr.until("is in use by another program").await;

    first.signal("TERM");
    fs::write(folder.path().join("go"), "").unwrap();
    assert_eq!(first.wait().await.code(), Some(143));
    assert_eq!(lines(&folder.path().join("done"), 1).await, ["one"]);
    assert_eq!(position(folder.path()), places(data.path())[0]);

    // The file wins over --since; what was not begun is handled now.
    let more = ["--count", "1", "--since", &places(data.path())[1]];
    let mut next = watcher(daemon.url(), folder.path(), &more, script);
    assert_eq!(next.wait().await.code(), Some(0));
    assert_eq!(lines(&folder.path().join("done"), 2).await, ["one", "two"]);
}

#[tokio::test]
async fn without_a_hook_the_next_run_goes_on_behind_what_was_printed() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let file = folder.path().join("position");
    let run = |count: &'static str| {
        let args = [
            "--repo",
            "foo",
            "-o",
            "json",
            "--cursor-file",
            file.to_str().unwrap(),
            "--count",
            count,
        ];
        Watcher::spawn(daemon.url(), &args)
    };
    let mut seen = vec![];
    let mut watcher = run("2");
    watcher.stderr.until("connected to").await;
    for number in 0..9 {
        rest.create("foo", &format!("task {number}")).await;
    }
    for count in ["2", "3", "4"] {
        if count != "2" {
            watcher = run(count);
        }
        assert_eq!(watcher.wait().await.code(), Some(0));
        while let Some(line) = watcher.stdout.next().await {
            seen.push(cursor(&line));
        }
        assert_eq!(position(folder.path()), *seen.last().unwrap());
    }
    assert_eq!(seen, places(data.path()));
}
