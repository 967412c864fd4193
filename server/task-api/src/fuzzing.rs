//! Doors for tests that read requests without a server: what a request of somebody who may do
//! anything asks for, and what it would make of a task.
#![expect(clippy::expect_used, reason = "a harness fails by panicking")]

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::Method;
use taskwatch_protocol::{Task, TaskEvent, Timestamp};
use taskwatch_server::{Principal, Problem};
use tokio::runtime::Builder;
use uuid::Uuid;

use crate::change::{Batch, Caller, Change, Decision, NewTask, Operation, Refusal, TaskPatch, Via};
use crate::list::{HistoryPage, Place};
use crate::rest::conditions::if_match;
use crate::rest::lists::{List, of_page};
use crate::rest::request::{self, BodyLimits};

const MAX_BODY_BYTES: usize = 256 << 10;

/// What a request comes to.
#[derive(Debug, PartialEq)]
pub enum Asked {
    Event(Box<TaskEvent>),
    Unchanged,
    /// `If-Match` names other versions.
    Conflict,
    List(Box<Listed>),
    /// What becomes of each operation, if all are about the task as it is.
    Batch(Vec<Self>),
    /// Events on a page, and the number of the one it begins behind.
    History {
        limit: usize,
        after: u64,
    },
}

/// A list that is asked for.
#[derive(Debug)]
pub struct Listed(List);

impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        self.0.query == other.0.query
    }
}

/// What a request asks for, and its `Idempotency-Key`. `POST`, `PATCH` and `DELETE` change `task`,
/// or make it; anything else lists. The path says whether it is a batch or a history.
pub fn ask(
    mut request: Request<Vec<u8>>,
    task: Task,
    now: Timestamp,
) -> Result<(Asked, Option<String>), Problem> {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (id, principal) = (task.id, Principal::anonymous());
        request.extensions_mut().insert(principal.clone());
        let limits = BodyLimits { bytes: MAX_BODY_BYTES, timeout: Duration::from_secs(30) };
        request.extensions_mut().insert(limits);
        let if_match = if_match(request.headers());
        let of = |end: &str| request.uri().path().ends_with(end);
        let (is_batch, is_history) = (of(":batch"), of("/events"));
        let caller = Caller::of(principal.clone(), Via::Api, request.headers());
        let (change, once) = match *request.method() {
            Method::POST if is_batch => {
                let (request, accepted) = (request.map(Body::from), &[request::JSON]);
                let (body, once) = request::change(request, &principal, accepted).await?;
                let Batch(operations) = Batch::try_from(body)?;
                let become_of = |operation: Operation| {
                    decided(&operation.into_change(), &caller, task.clone(), now)
                };
                let asked = Asked::Batch(operations.into_iter().map(become_of).collect());
                return Ok((asked, once.map(|once| once.key.as_str().to_owned())));
            }
            Method::POST => {
                let (request, accepted) = (request.map(Body::from), &[request::JSON]);
                let (body, once) = request::change(request, &principal, accepted).await?;
                (Change::Create { id, task: NewTask::try_from(body)? }, once)
            }
            Method::PATCH => {
                let accepted = &[request::MERGE_PATCH, request::JSON];
                let request = request.map(Body::from);
                let (body, once) = request::change(request, &principal, accepted).await?;
                (Change::Update { id, patch: TaskPatch::try_from(body)?, if_match }, once)
            }
            Method::DELETE => {
                let once = request::once(&request.into_parts().0, &principal, b"")?;
                (Change::Delete { id, if_match }, once)
            }
            _ if is_history => {
                let query = request.uri().query().unwrap_or_default();
                let HistoryPage { after, limit } = HistoryPage::from_query(query)?;
                return Ok((Asked::History { limit, after }, None));
            }
            _ => {
                let list = List::from_request_parts(&mut request.into_parts().0, &()).await?;
                return Ok((Asked::List(Box::new(Listed(list))), None));
            }
        };
        let asked = decided(&change, &caller, task, now);
        Ok((asked, once.map(|once| once.key.as_str().to_owned())))
    })
}

fn decided(change: &Change, caller: &Caller, task: Task, now: Timestamp) -> Asked {
    match change.decide(caller, Some(task), now) {
        Ok(Decision::Event(event)) => Asked::Event(Box::new(event)),
        Ok(Decision::Unchanged(_)) => Asked::Unchanged,
        Err(Refusal::VersionConflict { .. }) => Asked::Conflict,
        Err(other) => unreachable!("the task is there: {other:?}"),
    }
}

/// The link to the page of a history behind an event.
pub fn history_link(path: &str, after: u64) -> String {
    format!("{path}?page={}", HistoryPage::token(after))
}

impl Listed {
    /// Tasks on a page, at most.
    pub fn limit(&self) -> usize {
        self.0.query.limit
    }

    /// The link to the page behind a task.
    pub fn link(&self, key: i64, last: Uuid) -> String {
        of_page(&self.0.uri, &self.place(key, last).to_string())
    }

    /// The same list from there on.
    pub fn behind(mut self, key: i64, last: Uuid) -> Self {
        self.0.query.page = Some(self.place(key, last));
        self
    }

    fn place(&self, key: i64, id: Uuid) -> Place {
        Place { sort: self.0.query.sort, head: 7, key, id }
    }
}
