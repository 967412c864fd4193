//! Tasks as they are now, for programs that want the state and not its changes.

use std::sync::Arc;

use futures_util::StreamExt;
use taskwatch_protocol::{Cursor, InvalidName, Task};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::config::patterns;
use crate::machine::Wish;
use crate::{ConnectionWatch, Tasks, Updates, WatchError};

/// So many updates at most are made visible at once.
const BATCH: usize = 256;

/// The tasks of some repositories, always current; see [`Client::view`](crate::Client::view).
///
/// A clone looks at the same tasks, and notices changes by itself. When the last one is dropped, the
/// connection is closed in the background.
#[derive(Clone, Debug)]
pub struct TaskView {
    shown: watch::Receiver<Shown>,
    wishes: mpsc::UnboundedSender<Wish>,
    connection: ConnectionWatch,
}

/// What all views of one stream look at.
#[derive(Debug, Default)]
struct Shown {
    tasks: Arc<Tasks>,
    is_ready: bool,
    end: Option<WatchError>,
}

impl TaskView {
    /// `updates` begin with a snapshot, and have another one after a gap.
    pub(crate) fn new(updates: Updates) -> Self {
        let (show, shown) = watch::channel(Shown::default());
        let (wishes, wished) = mpsc::unbounded_channel();
        let connection = updates.connection();
        tokio::spawn(keep_current(updates, wished, show));
        Self { shown, wishes, connection }
    }

    /// Waits until the tasks have come.
    ///
    /// # Errors
    /// If the view has ended.
    pub async fn ready(&mut self) -> Result<(), WatchError> {
        let is_over = |shown: &Shown| shown.is_ready || shown.end.is_some();
        match self.shown.wait_for(is_over).await {
            Ok(shown) => shown.end.clone().map_or(Ok(()), Err),
            Err(_) => Err(WatchError::Aborted),
        }
    }

    /// The tasks as they are now, all at one position. They stay as they are: look again to see
    /// more.
    ///
    /// This costs next to nothing. The first change after it copies the list, though not the tasks,
    /// if what was returned is still held.
    #[must_use]
    pub fn tasks(&self) -> Arc<Tasks> {
        Arc::clone(&self.shown.borrow().tasks)
    }

    /// One task as it is now.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<Arc<Task>> {
        self.shown.borrow().tasks.get(id).cloned()
    }

    /// The position that the tasks are at.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.shown.borrow().tasks.cursor().cloned()
    }

    /// Waits until something has changed since this was last called: a task, the list of them, or the
    /// position they are at. Changes in between count as one, and none is overlooked.
    ///
    /// # Errors
    /// If the view has ended; then the tasks stay as they last were.
    pub async fn changed(&mut self) -> Result<(), WatchError> {
        let is_open = self.shown.changed().await.is_ok();
        match self.error() {
            Some(error) => Err(error),
            None if is_open => Ok(()),
            None => Err(WatchError::Aborted),
        }
    }

    /// Why the view has ended, if it has.
    #[must_use]
    pub fn error(&self) -> Option<WatchError> {
        self.shown.borrow().end.clone()
    }

    /// To look at how the connection stands, from wherever that is shown.
    #[must_use]
    pub fn connection(&self) -> ConnectionWatch {
        self.connection.clone()
    }

    /// Shows the tasks of these as well, as soon as they have come.
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is neither a name nor a pattern; then none is added.
    pub fn add<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.wish(Wish::Add(patterns(repositories)?));
        Ok(())
    }

    /// Drops exactly these patterns: soon, tasks that no other one covers are gone.
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is neither a name nor a pattern; then none is removed.
    pub fn remove<I>(&self, repositories: I) -> Result<(), InvalidName>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.wish(Wish::Remove(patterns(repositories)?));
        Ok(())
    }

    fn wish(&self, wish: Wish) {
        // A view that has ended has nothing to wish for; it says so otherwise.
        let _ = self.wishes.send(wish);
    }
}

/// Runs until the stream ends or nobody looks any more.
async fn keep_current(
    updates: Updates,
    mut wished: mpsc::UnboundedReceiver<Wish>,
    show: watch::Sender<Shown>,
) {
    let mut updates = updates.ready_chunks(BATCH);
    loop {
        tokio::select! {
            // In this order, so that no task of a repository that was removed is shown again.
            biased;
            wish = wished.recv() => {
                let Some(wish) = wish else { return };
                if let Wish::Remove(gone) = &wish {
                    show.send_if_modified(|shown| shown.change(|tasks| tasks.remove(gone)));
                }
                updates.get_ref().wish(wish);
            }
            batch = updates.next() => {
                let Some(batch) = batch else { return };
                show.send_if_modified(|shown| {
                    batch.into_iter().fold(false, |before, update| shown.take(update) | before)
                });
            }
        }
    }
}

impl Shown {
    fn take(&mut self, update: Result<crate::Update, WatchError>) -> bool {
        match update {
            Ok(update) => {
                self.is_ready |= matches!(update, crate::Update::Snapshot(_));
                self.change(|tasks| tasks.apply(update))
            }
            Err(error) => {
                self.end = Some(error);
                true
            }
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Tasks) -> bool) -> bool {
        change(Arc::make_mut(&mut self.tasks))
    }
}
