//! What tools answer: JSON, and the same JSON as text for clients that read nothing else.
//!
//! Text of others stands in it as values alone, and in the text with each character that hides or
//! drives something as an escape: it cannot look like anything but a value.

use rmcp::model::{CallToolResult, ContentBlock};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use taskwatch_protocol::escape::JsonLine;
use taskwatch_protocol::schema::TaskEventFrame;
use taskwatch_protocol::{Cursor, ErrorCode, Task};
use taskwatch_server::{ChangesError, Problem};
use uuid::Uuid;

use crate::change::InvalidTask;
use crate::list::InvalidQuery;
use crate::store::{ChangeError, EncodedTask, Unavailable};

/// A task that was looked up.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Found {
    /// The task.
    pub(super) task: Task,
}

/// Some tasks.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Listed {
    /// The tasks, in the order that was asked for.
    pub(super) tasks: Vec<Task>,
    /// The `page` of the next call, unless this is the end of the list.
    pub(super) next: Option<String>,
    /// The position of which the list is. wait_for_changes goes on from here.
    pub(super) cursor: Cursor,
}

/// A change that was made.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Made {
    /// Which task.
    pub(super) id: Uuid,
    /// The task as it is now; absent if it is gone, or may be changed but not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Task")]
    pub(super) task: Option<EncodedTask>,
    /// The position behind the change.
    pub(super) cursor: Cursor,
}

/// Changes that were made together.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct MadeTogether {
    /// For each operation the task after it; null for one that was deleted, or may not be read.
    #[schemars(with = "Vec<Option<Task>>")]
    pub(super) tasks: Vec<Option<EncodedTask>>,
    /// The position behind the last change.
    pub(super) cursor: Cursor,
}

/// What happened.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Happened {
    /// The changes, in the order in which they were made; none if the time was over first.
    #[schemars(with = "Vec<TaskEventFrame>")]
    pub(super) events: Vec<Value>,
    /// The `cursor` of the next call.
    pub(super) cursor: Cursor,
}

/// Why a tool did not do what it was called for. Its caller can mend that, or wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Refused {
    /// A word for programs.
    code: String,
    /// What is wrong, and what to do about it.
    detail: String,
    /// Whether the same call may succeed later, unchanged.
    retryable: bool,
    /// The first operation of a batch that cannot be carried out, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "usize")]
    operation: Option<usize>,
}

impl Refused {
    pub(super) fn new(code: &ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code: code.to_string(),
            detail: detail.into(),
            retryable: code.is_retryable(),
            operation: None,
        }
    }

    pub(super) fn at(mut self, operation: Option<usize>) -> Self {
        self.operation = operation;
        self
    }
}

/// What is refused is refused in the same words whichever way it was asked for.
macro_rules! refused_as_problem {
    ($($error:ty),+) => {$(
        impl From<$error> for Refused {
            fn from(error: $error) -> Self {
                let problem = Problem::from(error);
                Self::new(problem.code(), problem.detail())
            }
        }
    )+};
}

refused_as_problem!(ChangeError, ChangesError, InvalidQuery, InvalidTask, Unavailable);

/// The answer of a tool on the wire.
pub(super) fn result(answer: Result<Value, Refused>) -> CallToolResult {
    let is_error = answer.is_err();
    let value = answer.unwrap_or_else(|refused| json!({"error": refused}));
    let text = vec![ContentBlock::text(text(&value))];
    let mut result =
        if is_error { CallToolResult::error(text) } else { CallToolResult::success(text) };
    result.structured_content = Some(value);
    result
}

/// JSON on one line, in which nothing hides.
pub(super) fn text(value: &Value) -> String {
    JsonLine(&value.to_string()).to_string()
}

/// The JSON of an answer.
pub(super) fn json<T: Serialize>(answer: T) -> Result<Value, Refused> {
    serde_json::to_value(answer).map_err(|error| {
        tracing::error!(%error, "an answer is no JSON");
        Refused::new(&ErrorCode::Internal, "the answer could not be put together")
    })
}
