//! `cargo demo`: a server with a few busy people and agents, and the watcher that prints it live.
#![expect(clippy::print_stderr, reason = "the demo says how to take part")]

use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use taskwatch_protocol::Task;
use taskwatch_task_api::{App, Settings};
use tokio::sync::oneshot;
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

    let mut watcher = watch(&url);
    let mut actors = JoinSet::new();
    // The first change finds the watcher connected.
    let mut late = Duration::from_millis(300);
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
        // It ends on Ctrl-C, and when its output is closed.
        _ = &mut watcher => Ok(()),
        Some(ended) = actors.join_next() => match ended? {
            Err(error) => Err(error.into()),
            Ok(never) => match never {},
        },
    };
    actors.shutdown().await;
    app.shutdown().await;
    end
}

/// The watcher, as a person would start it, in a thread of this process.
fn watch(url: &str) -> oneshot::Receiver<ExitCode> {
    let mut args = vec!["taskwatch".to_owned(), "--quiet".into(), "--url".into(), url.into()];
    for actor in ACTORS {
        args.extend(["--repo".into(), actor.repository.into()]);
    }
    let (ended, watcher) = oneshot::channel();
    // Not waited for: it ends with the process at the latest.
    std::thread::spawn(move || ended.send(taskwatch_cli::run(args)));
    watcher
}

/// One who never tires.
async fn work(
    actor: Actor,
    url: String,
    late: Duration,
) -> reqwest::Result<std::convert::Infallible> {
    let Actor { name, repository, titles } = actor;
    let http = taskwatch_tests::http();
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
        1 => vec![begin, json!({ "tags": ["needs review"] }), done],
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
