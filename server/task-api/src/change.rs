//! What may happen to a task: plain data in, an event or a refusal out. No clock, no store.

mod fields;
mod operation;
mod schema;

use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use taskwatch_protocol::{
    Priority, RepositoryName, Status, Task, TaskEvent, Timestamp, Traceparent,
};
use taskwatch_server::Principal;
use uuid::Uuid;

pub(crate) use fields::InvalidTask;
pub(crate) use operation::{Batch, InvalidBatch, Operation};

/// W3C Trace Context.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The way a change came in: named in its event when it was made by nobody in particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Api,
    Mcp,
}

/// Who asks for a change, and by which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) via: Via,
    /// The trace that the request is part of.
    pub(crate) trace: Option<Traceparent>,
}

impl Caller {
    /// Who asks in a request with these headers.
    pub(crate) fn of(principal: Principal, via: Via, headers: &HeaderMap) -> Self {
        Self { principal, via, trace: traceparent(headers) }
    }

    /// Who is named in the events of their changes.
    pub(crate) fn name(&self) -> &str {
        let way = match self.via {
            Via::Api => "api",
            Via::Mcp => "mcp",
        };
        self.principal.subject().unwrap_or(way)
    }
}

/// The trace of a request, unless it is said in a way that is not valid, or twice.
fn traceparent(headers: &HeaderMap) -> Option<Traceparent> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let (first, None) = (all.next()?, all.next()) else { return None };
    first.to_str().ok()?.parse().ok()
}

/// A task that somebody wants; every field is within its limits.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) struct NewTask {
    pub(crate) repository: RepositoryName,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) status: Status,
    pub(crate) priority: Priority,
    pub(crate) assignee: Option<String>,
    pub(crate) tags: Vec<String>,
}

/// New values for some fields; every value is within its limits.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) struct TaskPatch {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) status: Option<Status>,
    pub(crate) priority: Option<Priority>,
    /// The inner `None` is nobody.
    pub(crate) assignee: Option<Option<String>>,
    pub(crate) tags: Option<Vec<String>>,
}

/// The versions a change may start from; `None` is any.
pub(crate) type IfMatch = Option<Vec<u64>>;

/// One change of one task.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Create { id: Uuid, task: NewTask },
    Update { id: Uuid, patch: TaskPatch, if_match: IfMatch },
    Delete { id: Uuid, if_match: IfMatch },
}

/// What becomes of a change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// This happens.
    Event(TaskEvent),
    /// The task is already as it was asked to be.
    Unchanged(Task),
}

/// Why a change cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotFound,
    /// The repository may be read, but not changed.
    Forbidden,
    VersionConflict {
        current: u64,
    },
    /// The `Idempotency-Key` belongs to another request.
    KeyOfAnother,
}

impl Change {
    /// The task it is about.
    pub(crate) fn id(&self) -> Uuid {
        match self {
            Self::Create { id, .. } | Self::Update { id, .. } | Self::Delete { id, .. } => *id,
        }
    }

    /// What becomes of it, given who wants it, the task as it is, and the time of the event.
    pub(crate) fn decide(
        &self,
        caller: &Caller,
        before: Option<Task>,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let (by, principal) = (caller.name(), &caller.principal);
        match self {
            Self::Create { id, task } => {
                may_write(principal, &task.repository)?;
                let task = task.clone().into_task(*id, now);
                Ok(Decision::Event(TaskEvent::created(task, by)))
            }
            Self::Update { patch, if_match, .. } => {
                let before = current(principal, before, if_match)?;
                let Some(after) = patch.applied_to(&before, now) else {
                    return Ok(Decision::Unchanged(before));
                };
                Ok(Decision::Event(TaskEvent::updated(&before, after, by)))
            }
            Self::Delete { if_match, .. } => {
                let before = current(principal, before, if_match)?;
                Ok(Decision::Event(TaskEvent::deleted(before, by)))
            }
        }
    }
}

/// Whether tasks of this repository may be changed. Whoever may not even read it is not told that it
/// is there.
pub(crate) fn may_write(principal: &Principal, repository: &RepositoryName) -> Result<(), Refusal> {
    if principal.may_write(repository) {
        Ok(())
    } else if principal.may_read(repository) {
        Err(Refusal::Forbidden)
    } else {
        Err(Refusal::NotFound)
    }
}

fn current(
    principal: &Principal,
    before: Option<Task>,
    if_match: &IfMatch,
) -> Result<Task, Refusal> {
    let before = before.ok_or(Refusal::NotFound)?;
    // Before its version is looked at, which is nobody else's business.
    may_write(principal, &before.repository)?;
    match if_match {
        Some(versions) if !versions.contains(&before.version) => {
            Err(Refusal::VersionConflict { current: before.version })
        }
        _ => Ok(before),
    }
}

impl NewTask {
    fn into_task(self, id: Uuid, now: Timestamp) -> Task {
        Task {
            id,
            repository: self.repository,
            title: self.title,
            description: self.description,
            status: self.status,
            priority: self.priority,
            assignee: self.assignee,
            tags: self.tags,
            created_at: now,
            updated_at: now,
            version: 1,
        }
    }
}

impl TaskPatch {
    /// The task with the new values, or `None` if they are the ones it has.
    fn applied_to(&self, before: &Task, now: Timestamp) -> Option<Task> {
        let mut after = before.clone();
        set(&mut after.title, self.title.as_ref());
        set(&mut after.description, self.description.as_ref());
        set(&mut after.status, self.status.as_ref());
        set(&mut after.priority, self.priority.as_ref());
        set(&mut after.assignee, self.assignee.as_ref());
        set(&mut after.tags, self.tags.as_ref());
        if after == *before {
            return None;
        }
        after.updated_at = now;
        after.version += 1;
        Some(after)
    }
}

fn set<T: Clone>(field: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}

#[cfg(test)]
mod tests {
    use taskwatch_protocol::TaskChange;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn at(offset: i64) -> Timestamp {
        Timestamp::from_unix_millis(NOW + offset)
    }

    fn anybody() -> Caller {
        Caller { principal: Principal::anonymous(), via: Via::Api, trace: None }
    }

    fn task() -> Task {
        let task = NewTask {
            repository: "acme/api".parse().unwrap(),
            title: "One".into(),
            description: String::new(),
            status: Status::Pending,
            priority: Priority::Medium,
            assignee: Some("ann".into()),
            tags: vec![],
        };
        task.into_task(Uuid::from_u128(7), at(0))
    }

    fn update(patch: TaskPatch, if_match: IfMatch) -> Change {
        Change::Update { id: Uuid::from_u128(7), patch, if_match }
    }

    #[test]
    fn a_patch_makes_one_version_more_and_leaves_the_rest() {
        let patch = TaskPatch { assignee: Some(None), ..TaskPatch::default() };
        let Ok(Decision::Event(event)) =
            update(patch, None).decide(&anybody(), Some(task()), at(5))
        else {
            panic!("an event");
        };
        let expected = Task { assignee: None, version: 2, updated_at: at(5), ..task() };
        assert_eq!(*event.task(), expected);
        let TaskChange::Updated { changes, .. } = &event.change else { panic!("an update") };
        assert_eq!(changes.keys().collect::<Vec<_>>(), ["assignee"]);
    }

    #[test]
    fn a_patch_that_changes_nothing_is_no_event() {
        let patch = TaskPatch { title: Some("One".into()), ..TaskPatch::default() };
        assert_eq!(
            update(patch, None).decide(&anybody(), Some(task()), at(5)),
            Ok(Decision::Unchanged(task()))
        );
        let empty = update(TaskPatch::default(), Some(vec![1]));
        assert_eq!(empty.decide(&anybody(), Some(task()), at(5)), Ok(Decision::Unchanged(task())));
    }

    #[test]
    fn a_condition_holds_also_for_a_patch_that_changes_nothing() {
        for (versions, met) in
            [(vec![1], true), (vec![3, 1], true), (vec![2], false), (vec![], false)]
        {
            let update = update(TaskPatch::default(), Some(versions.clone()));
            let delete = Change::Delete { id: Uuid::from_u128(7), if_match: Some(versions) };
            for change in [update, delete] {
                let answer = change.decide(&anybody(), Some(task()), at(0));
                assert_eq!(answer.is_ok(), met, "{change:?}");
                if !met {
                    assert_eq!(answer, Err(Refusal::VersionConflict { current: 1 }));
                }
            }
        }
    }

    #[test]
    fn what_is_not_there_cannot_change() {
        let delete = Change::Delete { id: Uuid::from_u128(7), if_match: None };
        assert_eq!(delete.decide(&anybody(), None, at(0)), Err(Refusal::NotFound));
        assert_eq!(
            update(TaskPatch::default(), Some(vec![1])).decide(&anybody(), None, at(0)),
            Err(Refusal::NotFound)
        );
    }

    #[test]
    fn a_trace_is_one_valid_header_and_anything_else_is_none() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        assert_eq!(traceparent(&headers), None);
        for (text, is_one) in [(good, true), (&good[1..], false), ("\u{9b}", false), ("", false)] {
            headers.insert(TRACEPARENT, text.as_bytes().try_into().unwrap());
            assert_eq!(traceparent(&headers).is_some(), is_one, "{text}");
        }
        headers.insert(TRACEPARENT, good.try_into().unwrap());
        headers.append(TRACEPARENT, good.try_into().unwrap());
        assert_eq!(traceparent(&headers), None);
    }

    #[test]
    fn the_way_is_named_for_nobody_and_a_name_for_somebody() {
        let principal = Principal::new("ann").writing(["*".parse().unwrap()]);
        let ann = |via| Caller { principal: principal.clone(), via, trace: None };
        let mcp = Caller { via: Via::Mcp, ..anybody() };
        for (caller, name) in
            [(anybody(), "api"), (mcp, "mcp"), (ann(Via::Api), "ann"), (ann(Via::Mcp), "ann")]
        {
            let delete = Change::Delete { id: Uuid::from_u128(7), if_match: None };
            let Ok(Decision::Event(event)) = delete.decide(&caller, Some(task()), at(9)) else {
                panic!("an event")
            };
            assert_eq!(event.changed_by, name);
        }
    }

    #[test]
    fn a_deletion_carries_the_next_version_and_the_task_unchanged() {
        let delete = Change::Delete { id: Uuid::from_u128(7), if_match: None };
        let Ok(Decision::Event(event)) = delete.decide(&anybody(), Some(task()), at(9)) else {
            panic!("an event")
        };
        assert_eq!((event.version, event.task()), (2, &task()));
    }
}
