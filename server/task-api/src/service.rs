//! The only place where a task changes. Whoever speaks a protocol parses, calls it, and maps its
//! errors.

use taskwatch_protocol::{Cursor, RepositoryName, Seq, Task, Traceparent};
use taskwatch_server::{EventLog, Hub, Principal};
use tracing::Instrument;
use uuid::Uuid;

use crate::change::{Caller, Change, IfMatch, NewTask, Operation, TaskPatch};
use crate::idempotency::Once;
use crate::list::ListQuery;
use crate::store::{
    BatchError, ChangeError, Changed, History, PurgeError, Purged, Store, StoreStats, TaskPage,
    Unavailable,
};

/// What can be done with tasks. A clone is the same service.
///
/// A change that is asked for with [`Once`] is made once, and answered alike each time.
#[derive(Clone, Debug)]
pub(crate) struct TaskService {
    store: Store,
}

impl TaskService {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Makes a task.
    pub(crate) async fn create(
        &self,
        caller: Caller,
        task: NewTask,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        self.change(caller, Change::Create { id: Uuid::now_v7(), task }, once).await
    }

    /// Changes some fields of a task; none, if they have these values already.
    pub(crate) async fn update(
        &self,
        caller: Caller,
        id: Uuid,
        patch: TaskPatch,
        if_match: IfMatch,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        self.change(caller, Change::Update { id, patch, if_match }, once).await
    }

    /// Deletes a task.
    pub(crate) async fn delete(
        &self,
        caller: Caller,
        id: Uuid,
        if_match: IfMatch,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        self.change(caller, Change::Delete { id, if_match }, once).await
    }

    /// Carries out all operations, their events one behind the other, or none.
    pub(crate) async fn batch(
        &self,
        caller: Caller,
        operations: Vec<Operation>,
        once: Option<Once>,
    ) -> Result<Vec<Changed>, BatchError> {
        let changes = operations.into_iter().map(Operation::into_change).collect();
        self.make(caller, changes, once).await
    }

    async fn change(
        &self,
        caller: Caller,
        change: Change,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        let changed = self.make(caller, vec![change], once).await.map_err(|batch| batch.error)?;
        // One change has one answer.
        changed.into_iter().next().ok_or(ChangeError::Internal)
    }

    async fn make(
        &self,
        caller: Caller,
        changes: Vec<Change>,
        once: Option<Once>,
    ) -> Result<Vec<Changed>, BatchError> {
        let span = tracing::info_span!(
            "change",
            principal = caller.principal.subject(),
            trace_id = caller.trace.as_ref().map(Traceparent::trace_id),
        );
        let change = async {
            let changes = self.store.change(caller, changes, once).await?;
            for Changed { task, cursor } in &changes {
                let Task { id, repository, title, .. } = &**task;
                tracing::debug!(%cursor, %id, %repository, "answers a change");
                tracing::trace!(%cursor, ?title, "its title");
            }
            Ok(changes)
        };
        change.instrument(span).await
    }

    /// Takes the text of a task out of everything that is kept, and deletes the task if it is there. It
    /// is done to its end, also if nobody waits for it.
    pub(crate) async fn purge(
        &self,
        hub: Hub,
        by: &Principal,
        id: Uuid,
    ) -> Result<Purged, PurgeError> {
        let (store, by) = (self.store.clone(), by.clone());
        let purge = tokio::spawn(async move {
            let by = by.subject().unwrap_or("nobody in particular");
            let purged = store.purge(id).await;
            // Also if something is left somewhere: what the hub has read is of before.
            hub.log_rewritten().await;
            match &purged {
                Ok(Purged { deleted, events, answers, .. }) => {
                    tracing::warn!(%id, by, deleted, events, answers, "purged a task");
                }
                Err(error) => tracing::error!(%id, by, %error, "a purge came to no end"),
            }
            purged
        });
        purge.await.unwrap_or(Err(PurgeError::Unavailable))
    }

    /// A task, if there is one that may be read.
    pub(crate) async fn get(
        &self,
        principal: &Principal,
        id: Uuid,
    ) -> Result<Option<Task>, Unavailable> {
        let task = self.store.get(id).await?;
        Ok(task.filter(|task| principal.may_read(&task.repository)))
    }

    /// Some tasks that may be read.
    pub(crate) async fn list(&self, query: ListQuery) -> Result<TaskPage, Unavailable> {
        self.store.list(query).await
    }

    /// The names of repositories that have tasks which may be read, from behind one on.
    pub(crate) async fn repositories(
        &self,
        principal: &Principal,
        after: Option<RepositoryName>,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, Unavailable> {
        self.store.repositories(principal.readable().to_vec(), after, limit).await
    }

    /// How the store is doing.
    pub(crate) async fn store_stats(&self) -> StoreStats {
        self.store.stats().await
    }

    /// The present position: what is acknowledged from now on is behind it.
    pub(crate) fn position(&self) -> Cursor {
        self.store.cursor(self.store.head())
    }

    /// What happened to a task behind the event of some number, as far as the log goes back; also if
    /// the task is gone. `None` is no task that may be read.
    pub(crate) async fn history(
        &self,
        principal: &Principal,
        id: Uuid,
        after: Seq,
        limit: usize,
    ) -> Result<Option<History>, Unavailable> {
        self.store.history(principal.clone(), id, after, limit).await
    }
}
