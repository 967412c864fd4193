//! `cargo demo`: a server with a few busy people and agents, and the watcher that prints it live.
#![expect(clippy::print_stderr, reason = "the demo says how to take part")]

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use clap::Parser;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use taskwatch_protocol::Task;
use taskwatch_task_api::{App, Settings};
use taskwatch_tests::binary;
use tokio::io::{AsyncBufReadExt, BufReader, copy, stderr};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The address of the documentation's examples.
const ADDR: &str = "127.0.0.1:8787";

/// A task server in which something happens, and the watcher printing it.
#[derive(Debug, Parser)]
struct Args {
    /// End after this time; without it, Ctrl-C does
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// Somebody who works through these tasks, again and again.
#[derive(Clone, Copy, Debug)]
struct Actor {
    name: &'static str,
    repository: &'static str,
    titles: &'static [&'static str],
}

const ACTORS: [Actor; 4] = [
    Actor {
        name: "ana",
        repository: "acme/website",
        titles: &["Login button hidden on phones", "Write the pricing page", "Dark mode flickers"],
    },
    Actor {
        name: "ben",
        repository: "acme/api",
        titles: &["Page through /orders", "Retry failed webhooks", "Drop the legacy token format"],
    },
    Actor {
        name: "planner-agent",
        repository: "acme/api",
        titles: &["Split the billing module", "Load test before the launch", "Plan the migration"],
    },
    Actor {
        name: "deps-agent",
        repository: "acme/infra",
        titles: &["Update the base image", "Rotate the deploy keys", "Remove an unused bucket"],
    },
];

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args = Args::parse();
    // The watcher is another package's program: cargo does not build it for the demo by itself.
    if !std::env::current_exe()?.with_file_name("taskwatch").exists() {
        eprintln!("building the watcher, once …");
    }
    let taskwatch = binary("taskwatch");

    let data = tempfile::tempdir()?;
    let folder = data.path().to_string_lossy();
    let listen = if TcpListener::bind(ADDR).is_ok() { ADDR } else { "127.0.0.1:0" };
    let settings = ["taskwatchd", "--listen", listen, "--data", &folder];
    let app = App::start(Settings::try_parse_from(settings)?).await?;
    let url = format!("http://{}", app.addr());
    eprintln!("A task server is at {url}; people and agents are at work. Take part:");
    eprintln!("  cargo run -q -p taskwatch-cli -- --url {url} --repo '*'");
    eprintln!(
        "  curl {url}/api/v1/tasks --json '{{\"repository\": \"acme/api\", \"title\": \"Hello\"}}'"
    );
    eprintln!("Ctrl-C ends it.\n");

    let mut watcher = Command::new(taskwatch);
    watcher.args(["--url", &url]);
    for actor in ACTORS {
        watcher.args(["--repo", actor.repository]);
    }
    let mut watcher = watcher.stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    connected(&mut watcher).await?;

    let mut actors = JoinSet::new();
    let mut late = Duration::ZERO;
    for actor in ACTORS {
        actors.spawn(work(actor, url.clone(), late));
        late += Duration::from_millis(700);
    }

    let over = async {
        match args.seconds {
            Some(seconds) => sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        () = over => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Error::from),
        // It ends with this program's output, if that is closed.
        ended = watcher.wait() => ended.map(drop).map_err(Error::from),
        Some(ended) = actors.join_next() => match ended? {
            Err(error) => Err(error.into()),
            Ok(never) => match never {},
        },
    };
    actors.shutdown().await;
    // Before the server, of whose end it would tell; Ctrl-C may have ended it already.
    let _ = watcher.kill().await;
    app.shutdown().await;
    end
}

/// Waits until the watcher is connected, and from then on passes on what it says.
async fn connected(watcher: &mut Child) -> Result<(), Error> {
    let mut said = BufReader::new(watcher.stderr.take().ok_or("the watcher has no stderr")?);
    let mut line = String::new();
    while !line.starts_with("connected") {
        if !line.starts_with("connecting") {
            eprint!("{line}");
        }
        line.clear();
        if said.read_line(&mut line).await? == 0 {
            return Err("the watcher ended".into());
        }
    }
    tokio::spawn(async move { copy(&mut said, &mut stderr()).await });
    Ok(())
}

/// One who never tires.
async fn work(
    actor: Actor,
    url: String,
    late: Duration,
) -> reqwest::Result<std::convert::Infallible> {
    let Actor { name, repository, titles } = actor;
    let http = reqwest::Client::new();
    let tasks = format!("{url}/api/v1/tasks");
    sleep(late).await;
    for title in titles.iter().cycle() {
        let new = json!({ "repository": repository, "title": title });
        let Some(task) = change(http.post(&tasks).json(&new)).await? else { continue };
        let task = format!("{tasks}/{}", task.id);
        for step in story(name) {
            pause().await;
            change(http.patch(&task).json(&step)).await?;
        }
        pause().await;
        change(http.request(Method::DELETE, &task)).await?;
        pause().await;
    }
    unreachable!("a cycle has no end")
}

/// What becomes of a task, told by changes.
fn story(name: &str) -> Vec<Value> {
    let begin = json!({ "status": "in_progress", "assignee": name });
    let done = json!({ "status": "completed" });
    match rand::random_range(0..4) {
        0 => vec![begin, json!({ "priority": "high", "tags": ["customer"] }), done],
        1 => vec![begin, json!({ "status": "blocked", "tags": ["needs review"] }), done],
        2 => vec![json!({ "status": "cancelled" })],
        _ => vec![begin, done],
    }
}

/// Makes a change; `None` if the task is gone, since anybody may take part.
async fn change(request: RequestBuilder) -> reqwest::Result<Option<Task>> {
    let answer = request.send().await?;
    if answer.status().is_success() { Ok(answer.json().await.ok()) } else { Ok(None) }
}

/// The pace of a lively team.
async fn pause() {
    sleep(Duration::from_millis(rand::random_range(700..2500))).await;
}
