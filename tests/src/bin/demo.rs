//! `cargo demo`: a server with a few busy people and agents, and what they do, live by the SDK.
//!
//! All in this one program, so that nothing else has to be built before the first line comes.
#![expect(clippy::print_stderr, reason = "the demo says how to take part")]

use std::convert::Infallible;
use std::io::{self, IsTerminal, Write};
use std::net::TcpListener;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Parser;
use futures_util::StreamExt;
use jiff::Zoned;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use taskwatch_client::protocol::FieldChange;
use taskwatch_client::{Client, Event, EventStream, Task, TaskChange};
use taskwatch_task_api::{App, Settings};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The address of the documentation's examples.
const ADDR: &str = "127.0.0.1:8787";

/// A task server in which something happens, printed as it happens.
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

    let names = ACTORS.map(|actor| actor.repository);
    let mut events = Client::builder(&url).build()?.subscribe(names)?;
    events.ready().await?;

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
        ended = print(&mut events) => ended,
        Some(ended) = actors.join_next() => match ended? {
            Err(error) => Err(error.into()),
            Ok(never) => match never {},
        },
    };
    actors.shutdown().await;
    drop(events);
    app.shutdown().await;
    end
}

/// Prints events, until nobody reads them any more.
async fn print(events: &mut EventStream) -> Result<(), Error> {
    let mut out = io::stdout();
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    while let Some(event) = events.next().await {
        match writeln!(out, "{}", line(&event?, colour)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            result => result?,
        }
    }
    Ok(())
}

/// An event as the watcher would print it.
fn line(event: &Event, colour: bool) -> String {
    let (shade, verb, details) = match &event.change {
        TaskChange::Created { task } => {
            let details = format!("status {}, priority {}", task.status, task.priority);
            (AnsiColor::Green, "+ created", details)
        }
        TaskChange::Updated { changes, .. } => {
            let side = |value: &Option<Value>| value.as_ref().map_or("…".to_owned(), word);
            let change = |(field, change): (&String, &FieldChange)| {
                format!("{field} {} → {}", side(&change.from), side(&change.to))
            };
            let mut details: Vec<_> = changes.iter().map(change).collect();
            // The status is what most people wait for.
            details.sort_by_key(|change| !change.starts_with("status "));
            (AnsiColor::Yellow, "~ updated", details.join(", "))
        }
        TaskChange::Deleted { previous } => {
            (AnsiColor::Red, "− deleted", format!("was {}", previous.status))
        }
    };
    let paint = |style: Style, text: &str| {
        if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    };
    let time = paint(Style::new().dimmed(), &Zoned::now().strftime("%H:%M:%S").to_string());
    let verb = paint(shade.on_default(), verb);
    let (repository, title) = (event.repository.as_str(), &event.task().title);
    let by = paint(Style::new().dimmed(), "by");
    format!("{time}  {verb}  {repository:12}  {title}  {details}  {by} {}", event.changed_by)
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(word).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// One who never tires.
async fn work(actor: Actor, url: String, late: Duration) -> reqwest::Result<Infallible> {
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
