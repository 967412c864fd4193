//! Requests of the REST API, from their head and body to what becomes of a task.

use http::{HeaderMap, HeaderValue, Request};
use serde_json::Value;
use taskwatch_protocol::{
    Priority, ServerFrame, ServerMessage, Status, Task, TaskChange, TaskEvent, Timestamp,
};
use taskwatch_task_api::fuzzing::{Asked, Listed, ask, history_link};
use uuid::Uuid;

const BEFORE: i64 = 1_700_000_000_000;
const NOW: i64 = BEFORE + 1;
const VERSION: u64 = 7;

/// A request as text: method and address, headers, an empty line, a body.
pub(crate) fn rest(input: &[u8]) {
    let Some(request) = request(input) else { return };
    let (before, body) = (task(), request.body().clone());
    let (headers, method) = (request.headers().clone(), request.method().clone());
    let now = Timestamp::from_unix_millis(NOW);
    let (asked, key) = match ask(request, before.clone(), now) {
        Ok(asked) => asked,
        Err(problem) => {
            assert!(problem.status().is_client_error(), "{problem:?}");
            let complaint = format!("{problem:?}");
            assert!(complaint.len() < super::MAX_COMPLAINT, "{complaint}");
            assert!(!complaint.contains(super::is_hazard), "{complaint:?}");
            return;
        }
    };
    if !matches!(asked, Asked::List(_) | Asked::History { .. }) {
        idempotent(&headers, key.as_deref());
    }
    match asked {
        Asked::Event(event) => {
            assert!(may_match(&headers) || method == "POST", "{headers:?}");
            decided(&before, &event, &body);
        }
        Asked::Unchanged => assert_eq!(method, "PATCH"),
        Asked::Conflict => assert!(!may_match(&headers), "{headers:?}"),
        Asked::List(listed) => list(*listed),
        Asked::Batch(all) => batch(&before, &all, &body),
        Asked::History { limit, after } => {
            assert!((1..=1000).contains(&limit));
            let uri = history_link("/api/v1/tasks/7/events", after);
            let request = Request::builder().uri(uri).body(vec![]).expect("an address");
            let again = ask(request, before, now).expect("its own link").0;
            assert_eq!(again, Asked::History { limit: 100, after });
        }
    }
}

fn request(input: &[u8]) -> Option<Request<Vec<u8>>> {
    let end = input.windows(2).position(|two| two == b"\n\n");
    let (head, body) = input.split_at(end.unwrap_or(input.len()));
    let mut lines = str::from_utf8(head).ok()?.split('\n');
    let (method, uri) = lines.next()?.split_once(' ')?;
    // Anything else finds no route.
    let mut request = Request::builder().method(method).uri(uri.starts_with('/').then_some(uri)?);
    for line in lines.take(32) {
        let (name, value) = line.split_once(": ")?;
        request = request.header(name, value);
    }
    request.body(body.get(2..).unwrap_or_default().to_vec()).ok()
}

fn task() -> Task {
    let at = Timestamp::from_unix_millis(BEFORE);
    Task {
        id: Uuid::from_u128(7),
        repository: "acme/api".parse().expect("a name"),
        title: "One".to_owned(),
        description: "Two\nlines".to_owned(),
        status: Status::Pending,
        priority: Priority::Medium,
        assignee: Some("ana".to_owned()),
        tags: vec!["home".to_owned()],
        created_at: at,
        updated_at: at,
        version: VERSION,
    }
}

/// One key of visible ASCII, or none.
fn idempotent(headers: &HeaderMap, key: Option<&str>) {
    let mut given = headers.get_all("idempotency-key").iter().map(HeaderValue::as_bytes);
    assert!(key.is_none() || given.next() == key.map(str::as_bytes));
    assert_eq!(given.next(), None);
    let is_good = |key: &str| {
        (1..=255).contains(&key.len()) && key.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
    };
    assert!(key.is_none_or(is_good), "{key:?}");
}

/// Whether `If-Match` allows a change of this version.
fn may_match(headers: &HeaderMap) -> bool {
    let mut tags = headers.get_all("if-match").iter().flat_map(|value| {
        value.to_str().unwrap_or_default().split(',').map(|tag| tag.trim().to_owned())
    });
    !headers.contains_key("if-match")
        || tags.any(|tag| tag == "*" || tag == format!("\"v{VERSION}\""))
}

fn decided(before: &Task, event: &TaskEvent, body: &[u8]) {
    // It survives the log and the wire.
    let frame = ServerFrame::new(ServerMessage::Task(event.clone()));
    let frame = frame.at(Timestamp::from_unix_millis(NOW));
    super::server_survives(&frame);
    let body = || serde_json::from_slice::<Value>(body).expect("JSON");
    match &event.change {
        TaskChange::Created { task } => {
            assert_eq!((task.version, event.version), (1, 1));
            assert_eq!(task.created_at, task.updated_at);
            holds_limits(task);
            follows(task, &body());
        }
        TaskChange::Updated { task, changes } => {
            assert_eq!((task.version, event.version), (VERSION + 1, VERSION + 1));
            assert_eq!((task.id, &task.repository), (before.id, &before.repository));
            assert_eq!(task.created_at, before.created_at);
            holds_limits(task);
            follows(task, &body());
            let (before, after) = (fields(before), fields(task));
            let differ: Vec<_> =
                before.iter().filter(|(field, value)| after[*field] != **value).collect();
            assert!(!differ.is_empty());
            assert!(
                differ.iter().map(|(field, _)| field.as_str()).eq(changes.keys()),
                "{changes:?}"
            );
            for (field, from) in differ {
                let change = &changes[field.as_str()];
                assert!(change.from.as_ref().is_none_or(|told| told == from));
                assert!(change.to.as_ref().is_none_or(|told| *told == after[field]));
                let is_whole = change.from.is_some() && change.to.is_some();
                assert_eq!(change.truncated, !is_whole);
            }
        }
        TaskChange::Deleted { previous } => {
            assert_eq!(**previous, *before);
            assert_eq!(event.version, VERSION + 1);
        }
    }
}

/// What the body says is what the task is.
fn follows(task: &Task, body: &Value) {
    let task = fields(task);
    for (field, value) in body.as_object().expect("an object") {
        let is_so = match (field.as_str(), value) {
            ("repository", _) => continue,
            ("description", Value::Null) => task[field] == "",
            ("tags", Value::Null) => task[field] == Value::Array(vec![]),
            _ => task[field] == *value,
        };
        assert!(is_so, "{field} is {}", task[field]);
    }
}

/// The fields that change, by name.
fn fields(task: &Task) -> serde_json::Map<String, Value> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(task) else {
        unreachable!("a task is an object")
    };
    fields.retain(|field, _| {
        !["id", "repository", "created_at", "updated_at", "version"].contains(&field.as_str())
    });
    fields
}

fn holds_limits(task: &Task) {
    let is_line =
        |text: &str, max| (1..=max).contains(&text.chars().count()) && !text.contains(['\n', '\r']);
    assert!(is_line(&task.title, 512), "{:?}", task.title);
    assert!(task.description.len() <= 65_536);
    assert!(task.assignee.as_ref().is_none_or(|who| is_line(who, 255)), "{:?}", task.assignee);
    assert!(task.tags.len() <= 32 && task.tags.iter().all(|tag| is_line(tag, 64)));
    assert!(["pending", "in_progress", "completed", "cancelled"].contains(&task.status.as_str()));
    assert!(["low", "medium", "high"].contains(&task.priority.as_str()));
}

/// Each operation is judged as if it came alone.
fn batch(before: &Task, all: &[Asked], body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let operations = body["operations"].as_array().expect("a list");
    assert!((1..=100).contains(&all.len()) && all.len() == operations.len());
    for (asked, operation) in all.iter().zip(operations) {
        let version = operation["if_match"].as_f64();
        match asked {
            Asked::Event(event) => {
                assert!(version.is_none_or(|version| version == VERSION as f64), "{operation}");
                let said = match operation["op"].as_str().expect("a word") {
                    "create" => &operation["task"],
                    _ => &operation["patch"],
                };
                decided(before, event, said.to_string().as_bytes());
            }
            Asked::Unchanged => assert_eq!(operation["op"], "update"),
            Asked::Conflict => assert!(version.is_some_and(|version| version != VERSION as f64)),
            other => panic!("{other:?}"),
        }
    }
}

/// The link to the next page asks for the same, from another place on.
fn list(listed: Listed) {
    assert!((1..=1000).contains(&listed.limit()));
    let (key, last) = (-3, Uuid::from_u128(42));
    let request = Request::builder().uri(listed.link(key, last)).body(vec![]).expect("an address");
    let (again, _) = ask(request, task(), Timestamp::default()).expect("its own link");
    assert_eq!(again, Asked::List(Box::new(listed.behind(key, last))));
}
