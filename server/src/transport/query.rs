//! What a request asks for in its query, where a client has no message to ask with.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use taskwatch_protocol::{Cursor, ErrorCode, EventKind, OnGap, Pattern, Subscribe};

use crate::session::check_start;
use crate::{HubConfig, Problem};

const NO_TIME: &str = "since_time is an RFC 3339 time such as 2026-11-22T10:00:00Z";

/// `?repo=a&repo=b&since=…`
#[derive(Debug, Default, PartialEq)]
pub(super) struct Query {
    /// In the order in which they are to be answered.
    pub(super) subscriptions: Vec<Subscribe>,
    wait: Option<String>,
}

impl Query {
    /// Reads a query. `last_event_id` is what an `EventSource` says when it comes back, with the
    /// query that it began with.
    pub(super) fn parse(
        query: &str,
        last_event_id: Option<Cursor>,
        config: &HubConfig,
    ) -> Result<Self, Problem> {
        let (mut first, mut snapshot_of) = (Subscribe::default(), vec![]);
        let mut wait = None;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "repo" | "repository" => first.repositories.push(pattern(&name, &value)?),
                "snapshot_of" => snapshot_of.push(pattern(&name, &value)?),
                "since" => first.since = Some(Cursor::new(value)),
                "since_time" => {
                    let parsed = value.parse();
                    first.since_time = Some(parsed.map_err(|_| bad(NO_TIME))?);
                }
                "tail" => {
                    let parsed = value.parse().map_err(|_| bad("tail is a number of events"))?;
                    first.tail = Some(parsed);
                }
                "snapshot" => {
                    let parsed = value.parse();
                    first.snapshot = parsed.map_err(|_| bad("snapshot is true or false"))?;
                }
                "on_gap" => first.on_gap = Some((&*value).into()),
                "types" => first.types = Some(types(&value)?),
                "wait" => wait = Some(value.into_owned()),
                _ => {}
            }
        }
        if first.on_gap.as_ref().is_some_and(|word| !word.is_known()) {
            return Err(bad("on_gap is snapshot, live or error"));
        }
        check_start(&first).map_err(bad)?;
        if first.repositories.is_empty() {
            let says_how = first.has_start() || first.snapshot;
            let says_when = first.since_time.is_some() || first.tail.is_some();
            if says_when || (says_how && snapshot_of.is_empty()) {
                return Err(bad("since, since_time, tail and snapshot need a repo"));
            }
            first.snapshot = !snapshot_of.is_empty();
            first.repositories = std::mem::take(&mut snapshot_of);
        }
        let patterns = first.repositories.len() + snapshot_of.len();
        let limit = config.max_patterns_per_message.min(config.max_patterns);
        if patterns > limit {
            let detail = format!("repo may be given {limit} times");
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::LimitSubscriptions,
                detail,
            ));
        }
        let snapshot =
            first.snapshot || first.on_gap == Some(OnGap::Snapshot) || !snapshot_of.is_empty();
        if snapshot && first.types.is_some() {
            return Err(bad("a snapshot is no event: types and a snapshot do not go together"));
        }
        if last_event_id.is_some() {
            // It has been answered once, and goes on from there.
            (first.since, first.since_time, first.tail) = (last_event_id, None, None);
        }
        let second = Subscribe { snapshot: true, ..Subscribe::live(snapshot_of) };
        let mut subscriptions = vec![first, second];
        subscriptions.retain(|subscription| !subscription.repositories.is_empty());
        Ok(Self { subscriptions, wait })
    }

    /// The same of who cannot ask for anything later.
    pub(super) fn not_empty(self) -> Result<Self, Problem> {
        if self.subscriptions.is_empty() {
            return Err(bad("name at least one repository, such as ?repository=foo"));
        }
        Ok(self)
    }

    /// How long a poll waits.
    pub(super) fn wait(&self, default: Duration, most: Duration) -> Result<Duration, Problem> {
        let Some(wait) = &self.wait else { return Ok(default) };
        let wait = wait.parse().map(Duration::from_secs).ok();
        let out_of_range = || bad(format!("wait is a number of seconds up to {}", most.as_secs()));
        wait.filter(|wait| *wait <= most).ok_or_else(out_of_range)
    }
}

fn pattern(name: &str, value: &str) -> Result<Pattern, Problem> {
    value.parse().map_err(|error| {
        let detail = format!("{name}: {error}");
        Problem::new(StatusCode::BAD_REQUEST, ErrorCode::InvalidName, detail)
    })
}

/// In one order, so that the same filter looks the same.
fn types(value: &str) -> Result<Vec<EventKind>, Problem> {
    let named: Vec<EventKind> = value.split(',').map(EventKind::from).collect();
    if named.iter().any(|kind| !kind.is_known()) {
        return Err(bad("types are task.created, task.updated and task.deleted"));
    }
    Ok(EventKind::KNOWN.iter().filter(|kind| named.contains(kind)).cloned().collect())
}

fn bad(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, ErrorCode::BadMessage, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Vec<Subscribe>, Problem> {
        let parsed = Query::parse(query, None, &HubConfig::default())?;
        Ok(parsed.subscriptions)
    }

    fn patterns(names: &[&str]) -> Vec<Pattern> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_query_subscribes() {
        let expected = Subscribe {
            repositories: patterns(&["a", "b/*"]),
            since: Some(Cursor::new("c1-x")),
            types: Some(vec![EventKind::Created, EventKind::Deleted]),
            ..Subscribe::default()
        };
        let query = "repo=a&repository=b/*&since=c1-x&types=task.deleted,task.created";
        assert_eq!(parse(query).unwrap(), [expected]);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("other=1").unwrap(), []);
        assert_eq!(parse("types=task.created").unwrap(), []);
    }

    #[test]
    fn what_is_wanted_with_its_state_comes_second() {
        let state = Subscribe { snapshot: true, ..Subscribe::live(patterns(&["b", "c"])) };
        let first =
            Subscribe { since: Some(Cursor::new("x")), ..Subscribe::live(patterns(&["a"])) };
        let both = parse("snapshot_of=b&repo=a&since=x&snapshot_of=c").unwrap();
        assert_eq!(both, [first, state.clone()]);
        assert_eq!(parse("snapshot_of=b&snapshot_of=c").unwrap(), [state]);
    }

    #[test]
    fn who_comes_back_says_where_it_was() {
        let again = Some(Cursor::new("later"));
        for query in ["repo=a&since=x", "repo=a", "repo=a&snapshot=true", "snapshot_of=a"] {
            let parsed = Query::parse(query, again.clone(), &HubConfig::default()).unwrap();
            assert_eq!(parsed.subscriptions[0].since, again, "{query}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            "repo=a%20b",
            "repo=",
            "snapshot_of=*a",
            "since=x",
            "snapshot=true",
            "repo=a&on_gap=x",
            "repo=a&snapshot=1",
            "repo=a&types=",
            "repo=a&types=task.created,other",
            "repo=a&types=task.created&snapshot=true",
            "repo=a&types=task.created&on_gap=snapshot",
            "repo=a&types=task.created&snapshot_of=b",
        ] {
            assert_eq!(parse(bad).unwrap_err().status(), 400, "{bad}");
        }
        let many = "repo=a&".repeat(129);
        assert_eq!(*parse(&many).unwrap_err().code(), ErrorCode::LimitSubscriptions);
        assert!(Query::default().not_empty().is_err());
    }

    #[test]
    fn a_wait_is_some_seconds() {
        let (default, most) = (Duration::from_secs(25), Duration::from_secs(60));
        let wait = |text: Option<&str>| {
            let query = Query { wait: text.map(str::to_owned), ..Query::default() };
            query.wait(default, most).map(|wait| wait.as_secs()).map_err(|refused| refused.status())
        };
        assert_eq!(wait(None), Ok(25));
        assert_eq!(wait(Some("0")), Ok(0));
        assert_eq!(wait(Some("60")), Ok(60));
        for bad in ["", "61", "-1", "1.5", "1s", "99999999999999999999"] {
            assert_eq!(wait(Some(bad)), Err(StatusCode::BAD_REQUEST), "{bad}");
        }
    }
}
