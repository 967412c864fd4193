//! Several changes at once: `POST /api/v1/tasks:batch`.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use taskwatch_protocol::Task;
use taskwatch_server::{Principal, Problem};

use super::{TASK_CURSOR, api, header, request};
use crate::change::{Batch, Operation};
use crate::service::TaskService;
use crate::store::EncodedTask;

/// What became of the operations of a batch.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BatchAnswer {
    /// For each operation the task after it; null for one that was deleted, or that the caller may
    /// not read.
    #[schemars(with = "Vec<Option<Task>>")]
    tasks: Vec<Option<EncodedTask>>,
}

/// Makes several changes, or none
///
/// Their events stand in the log one behind the other. A refusal says which operation it is about.
#[utoipa::path(
    post, path = "/api/v1/tasks:batch", operation_id = "batch_tasks", tag = "tasks",
    params(("Idempotency-Key", Header), ("traceparent", Header)),
    request_body(content = ref("#/components/schemas/Batch"), content_type = "application/json"),
    responses(
        (status = 200, description = "All of them were made",
         body = ref("#/components/schemas/BatchAnswer"), headers(("Task-Cursor"))),
        (status = 404), (status = 408), (status = 412), (status = 413), (status = 415),
        (status = 422), (status = 503),
    ),
)]
pub(super) async fn batch(
    State(service): State<TaskService>,
    principal: Principal,
    request: Request,
) -> Result<Response, Problem> {
    let caller = api(principal.clone(), request.headers());
    let (body, once) = request::change(request, &principal, &[request::JSON]).await?;
    let Batch(operations) = Batch::try_from(body)?;
    let told: Vec<_> = operations.iter().map(Told::after).collect();
    let changes = service.batch(caller, operations, once).await?;
    // A batch has an operation, the last of which stands behind all others.
    let last = changes.last().map(|changed| [(TASK_CURSOR, header(changed.cursor.as_str()))]);
    let tasks = told.into_iter().zip(changes);
    let tasks = tasks.map(|(told, changed)| told.of(changed.task, &principal)).collect();
    let answer = BatchAnswer { tasks };
    Ok((last, Json(answer)).into_response())
}

/// To whom the task is shown after an operation.
pub(crate) enum Told {
    /// It is what the caller has said.
    Always,
    ToReaders,
    Never,
}

impl Told {
    pub(crate) fn after(operation: &Operation) -> Self {
        match operation {
            Operation::Create { .. } => Self::Always,
            Operation::Update { .. } => Self::ToReaders,
            Operation::Delete { .. } => Self::Never,
        }
    }

    /// What somebody is shown.
    pub(crate) fn of(self, task: EncodedTask, principal: &Principal) -> Option<EncodedTask> {
        let shown = match self {
            Self::Always => true,
            Self::ToReaders => principal.may_read(&task.repository),
            Self::Never => false,
        };
        shown.then_some(task)
    }
}
