//! `taskwatchd mcp`: MCP on stdin and stdout, for programs that start their servers themselves, passed
//! on to a server that runs.
//!
//! Each message is a request of its own over HTTP, and nothing is kept between two of them but the
//! version that was agreed on: a server may restart between any two.

mod events;
mod message;
mod server;

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use taskwatch_protocol::escape::JsonLine;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::remote::{Remote, RemoteError};
use message::{Line, Message};
use server::Server;

/// For calls in flight when stdin ends, and for stdout to take what was answered.
const FINISH: Duration = Duration::from_secs(3);
/// Lines on their way in or out; more wait.
const LINES: usize = 64;

/// `taskwatchd mcp`.
#[derive(Clone, Debug, Args)]
pub struct McpBridge {
    /// The task server.
    #[command(flatten)]
    pub remote: Remote,
}

impl McpBridge {
    /// Passes on what comes on stdin, and answers on stdout, until stdin ends or nobody reads stdout.
    ///
    /// # Errors
    /// If the settings cannot be used. A server that is away is told to the client, call by call.
    pub async fn run(self) -> Result<(), RemoteError> {
        let server = Arc::new(Server::new(&self.remote)?);
        let mut lines = stdin();
        let (output, written) = stdout();
        let mut calls = Calls::default();
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                Some(ended) = calls.tasks.join_next_with_id(), if !calls.tasks.is_empty() => {
                    calls.forget(ended);
                    continue;
                }
                () = output.closed() => return Ok(()),
            };
            let Some(line) = line else { break };
            match Line::read(&line) {
                Line::Message(message) => calls.start(message, &server, &output),
                Line::Cancel(id) => calls.cancel(&id),
                Line::Answer => tracing::debug!("the client answers what nobody asked"),
                Line::Refused(answer) => send(&output, &answer).await,
            }
        }
        calls.finish().await;
        drop(output);
        let _ = timeout(FINISH, written).await;
        Ok(())
    }
}

/// The messages on their way.
#[derive(Debug, Default)]
struct Calls {
    tasks: JoinSet<()>,
    running: HashMap<task::Id, Call>,
}

#[derive(Debug)]
struct Call {
    id: Option<Value>,
    listens: bool,
    handle: AbortHandle,
}

impl Calls {
    fn start(&mut self, message: Message, server: &Arc<Server>, output: &mpsc::Sender<String>) {
        let (id, listens) = (message.id.clone(), message.listens());
        let (server, output) = (Arc::clone(server), output.clone());
        let handle = self.tasks.spawn(async move {
            if let Err(failure) = server.pass_on(&message, &output).await {
                tracing::warn!("{failure}");
                if let Some(id) = message.id {
                    let answer = message::failure(id, &failure.text, failure.data);
                    send(&output, &answer).await;
                }
            }
        });
        self.running.insert(handle.id(), Call { id, listens, handle });
    }

    /// Hangs up, which is how a request is cancelled over HTTP.
    fn cancel(&self, id: &Value) {
        let named = |call: &&Call| call.id.as_ref() == Some(id);
        self.running.values().filter(named).for_each(|call| call.handle.abort());
    }

    fn forget(&mut self, ended: Result<(task::Id, ()), task::JoinError>) {
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        self.running.remove(&id);
    }

    /// Gives the calls in flight a moment. Who listens would do so for ever.
    async fn finish(mut self) {
        self.running.values().filter(|call| call.listens).for_each(|call| call.handle.abort());
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(FINISH, all).await;
    }
}

/// Lines that are not empty. A thread of its own: the process need not wait for it to end.
fn stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, lines) = mpsc::channel(LINES);
    thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
            if !line.trim_ascii().is_empty() && sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Takes lines until nobody reads them any more; tells when the last one is written.
fn stdout() -> (mpsc::Sender<String>, oneshot::Receiver<()>) {
    let (output, mut lines) = mpsc::channel::<String>(LINES);
    let (done, written) = oneshot::channel();
    thread::spawn(move || {
        let mut stdout = io::stdout();
        while let Some(line) = lines.blocking_recv() {
            if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
                break;
            }
        }
        let _ = done.send(());
    });
    (output, written)
}

/// One message to the client, on one line.
async fn send(output: &mpsc::Sender<String>, message: &Value) {
    // It fails if nobody reads any more: the bridge is about to end.
    let _ = output.send(JsonLine(&message.to_string()).to_string()).await;
}
