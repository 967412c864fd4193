//! The only place where a task changes. Whoever speaks a protocol parses, calls it, and maps its
//! errors.

use taskwatch_protocol::Task;
use taskwatch_server::Principal;
use uuid::Uuid;

use crate::change::{Change, IfMatch, NewTask, TaskPatch};
use crate::idempotency::Once;
use crate::store::{ChangeError, Changed, ListQuery, Store, TaskPage, Unavailable};

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
        principal: Principal,
        task: NewTask,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        self.change(principal, Change::Create { id: Uuid::now_v7(), task }, once).await
    }

    /// Changes some fields of a task; none, if they have these values already.
    pub(crate) async fn update(
        &self,
        principal: Principal,
        id: Uuid,
        patch: TaskPatch,
        if_match: IfMatch,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        self.change(principal, Change::Update { id, patch, if_match }, once).await
    }

    /// Deletes a task.
    pub(crate) async fn delete(
        &self,
        principal: Principal,
        id: Uuid,
        if_match: IfMatch,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        self.change(principal, Change::Delete { id, if_match }, once).await
    }

    async fn change(
        &self,
        principal: Principal,
        change: Change,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        let changed = self.store.change(principal, change, once).await?;
        let Changed { task, cursor } = &changed;
        let Task { id, repository, title, .. } = task;
        tracing::trace!(%cursor, %id, %repository, ?title, "answers a change");
        Ok(changed)
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

    /// Some tasks that may be read, in the order of their ids.
    pub(crate) async fn list(&self, query: ListQuery) -> Result<TaskPage, Unavailable> {
        self.store.list(query).await
    }
}
