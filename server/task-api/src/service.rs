//! The only place where a task changes. Whoever speaks a protocol parses, calls it, and maps its
//! errors.

use taskwatch_protocol::Task;
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
        task: NewTask,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        self.store.change(Change::Create { id: Uuid::now_v7(), task }, once).await
    }

    /// Changes some fields of a task; none, if they have these values already.
    pub(crate) async fn update(
        &self,
        id: Uuid,
        patch: TaskPatch,
        if_match: IfMatch,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        self.store.change(Change::Update { id, patch, if_match }, once).await
    }

    /// Deletes a task.
    pub(crate) async fn delete(
        &self,
        id: Uuid,
        if_match: IfMatch,
        once: Option<Once>,
    ) -> Result<Changed, ChangeError> {
        self.store.change(Change::Delete { id, if_match }, once).await
    }

    /// A task, if there is one.
    pub(crate) async fn get(&self, id: Uuid) -> Result<Option<Task>, Unavailable> {
        self.store.get(id).await
    }

    /// Some tasks, in the order of their ids.
    pub(crate) async fn list(&self, query: ListQuery) -> Result<TaskPage, Unavailable> {
        self.store.list(query).await
    }
}
