//! Runs hooks and sees to what comes of them. What runs when is decided by the queue.

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::{OptionFuture, poll_immediate};
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use taskwatch_client::{Acker, Event, Update, WatchError};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::sleep_until;
use uuid::Uuid;

use super::environment::variables;
use super::queue::{Queue, Start};
use crate::enough::Enough;
use crate::exit::{End, Failure};
use crate::position::Position;
use crate::watch::{Watcher, present};

/// With so many open, nothing more is read.
const MAX_OPEN: usize = 256;
/// For the hooks that run when the watcher is told to end; after it they are killed.
const GRACE: Duration = Duration::from_secs(5);

/// What is run for each event.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// How many run at a time. If it is 1, all events are handled in the order of the log.
    pub(crate) parallel: NonZeroUsize,
}

/// What hooks are run over.
#[derive(Debug)]
pub(crate) struct Setting<'a, U> {
    /// With [`manual_ack`](taskwatch_client::EventStream::manual_ack).
    pub(crate) updates: U,
    pub(crate) acker: Acker,
    /// Where the position is saved, if anywhere.
    pub(crate) position: Position,
    /// Which events are handled, until when, and what is told.
    pub(crate) watcher: &'a mut Watcher,
}

/// Runs the hook for each event until `stop`, or the stream ends, or there is enough.
///
/// # Errors
/// Whenever it ends otherwise than it was asked to.
pub(crate) async fn run(
    hook: &Hook,
    setting: Setting<'_, impl Stream<Item = Result<Update, WatchError>> + Unpin>,
    stop: impl Future<Output = Result<End, Failure>>,
) -> Result<End, Failure> {
    let Setting { mut updates, acker, mut position, watcher } = setting;
    let mut queue: Queue<Uuid, Event> = Queue::new(hook.parallel);
    let mut running = FuturesUnordered::new();
    let mut stop = pin!(stop);
    // What is to be handled has all come.
    let mut is_enough = false;
    // Why no more hooks are started, and until when the running ones are waited for.
    let mut end: Option<(Result<End, Failure>, Instant)> = None;
    loop {
        // Before a hook begins, the file says that its event is not handled.
        let is_saved = position.save();
        if end.is_none() {
            end = is_saved.err().map(|failure| (Err(failure), Instant::now() + GRACE));
        }
        while end.is_none()
            && let Some(start) = queue.start(Instant::now())
        {
            running.push(attempt(
                start.key,
                command(hook, &start),
                start.item.envelope().to_owned(),
            ));
        }
        if running.is_empty() && (end.is_some() || (is_enough && queue.len() == 0)) {
            break;
        }
        let retry = queue.next_retry().filter(|_| end.is_none()).map(|at| sleep_until(at.into()));
        let deadline = end.as_ref().map(|(_, until)| sleep_until((*until).into()));
        tokio::select! {
            biased;
            stop = &mut stop, if end.is_none() => end = Some((stop, Instant::now() + GRACE)),
            // The hooks that still run are killed as they are dropped.
            Some(()) = OptionFuture::from(deadline) => break,
            Some((key, outcome)) = running.next() => match outcome {
                Ok(()) => {
                    if let Some(event) = queue.succeeded(key) {
                        acker.ack(&event.cursor);
                        position.handled();
                    }
                }
                Err(problem) => {
                    let told = queue.failed(key, Instant::now());
                    tell(told.map(|(event, attempt, wait)| {
                        watcher.status.hook_failed(&hook.program, event, &problem, attempt, wait)
                    }));
                }
            },
            Some(()) = OptionFuture::from(retry) => {}
            update = next(&mut updates, &mut watcher.enough), if end.is_none() && !is_enough && queue.len() < MAX_OPEN => {
                match update.unwrap_or(Err(WatchError::Aborted)) {
                    Ok(Update::Event(event)) if watcher.enough.excludes(&event) => is_enough = true,
                    Ok(update) => {
                        is_enough = watcher.enough.reached(&update);
                        tell(watcher.status.line(&update));
                        let is_wanted = watcher.shows(&update);
                        is_enough |= is_wanted && watcher.counts(&update);
                        match update {
                            Update::Event(event) if is_wanted => {
                                let is_alone = hook.parallel.get() == 1;
                                let key = if is_alone { Uuid::nil() } else { event.task_id };
                                queue.push(key, event);
                            }
                            Update::Event(event) => acker.ack(&event.cursor),
                            // Its tasks are no events.
                            Update::Snapshot(snapshot) => acker.ack(&snapshot.cursor),
                            _ => {}
                        }
                    }
                    Err(error) => end = Some((Err(error.into()), Instant::now() + GRACE)),
                }
            }
        }
    }
    drop(running);
    position.handled();
    position.save()?;
    end.map_or(Ok(End::Enough), |(end, _)| end)
}

/// What comes next. Nothing is lost if it is not waited for.
async fn next(
    updates: &mut (impl Stream<Item = Result<Update, WatchError>> + Unpin),
    enough: &mut Enough,
) -> Option<Result<Update, WatchError>> {
    match poll_immediate(updates.next()).await {
        Some(update) => update,
        None => {
            enough.nothing_waits(present());
            updates.next().await
        }
    }
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("it could not be run: {0}")]
    Start(#[from] io::Error),
    #[error("{0}")]
    Status(ExitStatus),
}

fn command(hook: &Hook, start: &Start<'_, Uuid, Event>) -> io::Result<Child> {
    let mut command = Command::new(&hook.program);
    command.args(&hook.arguments).stdin(Stdio::piped()).kill_on_drop(true);
    for (name, value) in variables(start.item, start.attempt) {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // A Ctrl-C in the terminal is for the watcher alone, which waits for the hooks that run.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn()
}

/// Gives a hook its event, and waits for its end.
async fn attempt(
    key: Uuid,
    child: io::Result<Child>,
    envelope: String,
) -> (Uuid, Result<(), Problem>) {
    let status = async {
        let mut child = child?;
        let stdin = child.stdin.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // A hook may not care for it. Then the pipe is closed, or nobody reads it.
                let _ = stdin.write_all(envelope.as_bytes()).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            status = child.wait() => status,
            never = write => never,
        }
    };
    let outcome = match status.await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Problem::Status(status)),
        Err(error) => Err(error.into()),
    };
    (key, outcome)
}

/// That nobody reads it is no reason to stop.
fn tell(line: Option<String>) {
    if let Some(line) = line {
        let _ = writeln!(io::stderr(), "{line}");
    }
}
