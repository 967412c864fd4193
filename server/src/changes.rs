//! The events after a position, for callers who ask again and again.

use std::future::ready;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use taskwatch_protocol::{
    CloseCode, Cursor, ErrorCode, EventKind, Mode, Pattern, ResetReason, Seq, ServerFrame,
    ServerMessage, Subscribe,
};

use crate::clock::now;
use crate::hub::{NotAdmitted, Stop};
use crate::session::{Outbox, Terms};
use crate::transport::{Connection, Ended, Incoming, Left, Visitor, Wire};
use crate::{Hub, LogEvent, Principal, Problem};

/// For reading the log, beside the time it waits for something new.
const CATCHING_UP: Duration = Duration::from_secs(60);

/// What somebody asks [`Hub::changes`] for.
#[derive(Clone, Debug, Default)]
pub struct ChangesRequest {
    /// Events of which repositories; at least one.
    pub repositories: Vec<Pattern>,
    /// Those after this position. Without it the answer is the newest position, at once.
    pub since: Option<Cursor>,
    /// Only these kinds of events.
    pub types: Option<Vec<EventKind>>,
    /// How long to wait if there is none yet.
    pub wait: Duration,
}

/// Some events, none left out between them.
#[derive(Clone, Debug)]
pub struct Changes {
    /// In order; at most 1,000, and 1 MiB if it is more than one. None if the wait was over first.
    pub events: Vec<LogEvent>,
    /// Where to go on from: everything that was asked for, up to here, is in this answer or in one
    /// before it.
    pub cursor: Cursor,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangesError {
    /// The position cannot be gone on from.
    #[error("this position cannot be gone on from ({0}): read the state anew")]
    Reset(ResetReason),
    /// There is no such repository, or it may not be read.
    #[error("no such repository")]
    Denied,
    /// What was asked for is not possible.
    #[error("{1}")]
    Refused(ErrorCode, String),
    /// Too many connections, of this principal or this address.
    #[error("{0}")]
    Busy(String),
    /// The server cannot do it now.
    #[error("{0}")]
    Unavailable(String),
    /// The server stops. Come back after so many milliseconds.
    #[error("the server restarts")]
    Restart {
        /// So that not everybody comes back at once.
        retry_after_ms: Option<u64>,
    },
    /// The token was withdrawn or has run out.
    #[error("the token is no longer valid")]
    Unauthorized,
    /// What the principal may see may have changed. Find out, and ask again.
    #[error("what may be read has changed: ask again")]
    AccessChanged,
}

impl Hub {
    /// The events after a position that a principal may read, as soon as there are any, or none
    /// after a while. It counts as a connection while it waits; dropped, it is gone.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use taskwatch_server::{ChangesError, ChangesRequest, Hub, Principal};
    /// # async fn example(hub: Hub) -> Result<(), ChangesError> {
    /// let mut request = ChangesRequest {
    ///     repositories: vec!["foo".parse().expect("a name")],
    ///     wait: Duration::from_secs(25),
    ///     ..ChangesRequest::default()
    /// };
    /// loop {
    ///     let changes = hub.changes(Principal::anonymous(), request.clone()).await?;
    ///     for event in &changes.events {
    ///         println!("{}", String::from_utf8_lossy(event.envelope()));
    ///     }
    ///     request.since = Some(changes.cursor);
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the position does not hold any more, nothing of this may be read, or the server cannot
    /// answer now.
    pub async fn changes(
        &self,
        principal: Principal,
        request: ChangesRequest,
    ) -> Result<Changes, ChangesError> {
        let ChangesRequest { repositories, since, types, wait } = request;
        if repositories.is_empty() {
            let text = "name at least one repository".to_owned();
            return Err(ChangesError::Refused(ErrorCode::BadMessage, text));
        }
        let visitor = Visitor::known_elsewhere(self, principal)?;
        let subscription = Subscribe { since, types, ..Subscribe::live(repositories) };
        collect(self, visitor, subscription, wait).await
    }
}

/// Runs a session that ends as soon as there is something.
pub(crate) async fn collect(
    hub: &Hub,
    visitor: Visitor,
    subscription: Subscribe,
    wait: Duration,
) -> Result<Changes, ChangesError> {
    let wait = if subscription.has_start() { wait } else { Duration::ZERO };
    let terms = Terms { lifetime: wait.saturating_add(CATCHING_UP), wait: Some(wait) };
    collect_within(hub, visitor, subscription, terms).await
}

async fn collect_within(
    hub: &Hub,
    visitor: Visitor,
    subscription: Subscribe,
    terms: Terms,
) -> Result<Changes, ChangesError> {
    let begun = visitor.begin(hub, Some(terms), vec![subscription], now());
    let connection = Connection::new(begun, Collector::default());
    let Ended { stop, bookmark, wire: mut answer } = connection.run().await;
    match stop {
        None => answer.into_changes(hub),
        // Reading took too long. What was looked at need not be looked at again.
        Some(stop) if stop.code == CloseCode::Rebalance => {
            answer.bookmark = answer.bookmark.or(bookmark);
            answer.into_changes(hub)
        }
        Some(stop) => Err(ended(stop)),
    }
}

/// Why it was ended.
fn ended(Stop { code, retry_after_ms }: Stop) -> ChangesError {
    match code {
        CloseCode::Restart => ChangesError::Restart { retry_after_ms },
        CloseCode::AccessChanged => ChangesError::AccessChanged,
        CloseCode::Unauthorized | CloseCode::TokenExpired => ChangesError::Unauthorized,
        // Retention was faster than this.
        CloseCode::InsufficientState => ChangesError::Reset(ResetReason::Expired),
        _ => ChangesError::Unavailable("the log cannot be read now".to_owned()),
    }
}

/// Keeps what it is given.
#[derive(Debug, Default)]
struct Collector {
    events: Vec<LogEvent>,
    /// An event of another shape came.
    is_unreadable: bool,
    bookmark: Option<Cursor>,
    refused: Option<ChangesError>,
}

impl Collector {
    fn into_changes(self, hub: &Hub) -> Result<Changes, ChangesError> {
        let Self { events, is_unreadable, bookmark, refused } = self;
        if let Some(refused) = refused {
            return Err(refused);
        }
        let last = || events.last().map(|event| hub.log().cursor(event.seq()));
        match bookmark.or_else(last).filter(|_| !is_unreadable) {
            Some(cursor) => Ok(Changes { events, cursor }),
            None => Err(ChangesError::Unavailable("the log cannot be read now".to_owned())),
        }
    }
}

impl Outbox for Collector {
    fn unwritten(&self) -> usize {
        0
    }

    fn put_frame(&mut self, _: &[u8]) {}

    fn put_event(&mut self, seq: Seq, frame: &[u8]) {
        match LogEvent::of_frame(seq, frame) {
            Some(event) => self.events.push(event),
            None => {
                tracing::error!(seq, "an event is not as the protocol says");
                self.is_unreadable = true;
            }
        }
    }

    fn put(&mut self, frame: &ServerFrame) {
        match &frame.message {
            ServerMessage::Subscribed(answer) if answer.accepted.is_empty() => {
                let reason = answer.reason.clone().filter(|_| answer.mode == Mode::Reset);
                self.refused = Some(reason.map_or(ChangesError::Denied, ChangesError::Reset));
            }
            ServerMessage::Ping(_) => self.bookmark.clone_from(&frame.cursor),
            ServerMessage::Error(error) => {
                let (code, text) = (error.code.clone(), error.message.clone());
                self.refused = Some(ChangesError::Refused(code, text));
            }
            _ => {}
        }
    }
}

impl Wire for Collector {
    fn is_idle(&self) -> bool {
        true
    }

    fn poll_write(&mut self, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    /// Who has left does not poll.
    fn poll_message(&mut self, _: &mut Context<'_>) -> Poll<Result<Incoming, Left>> {
        Poll::Pending
    }

    fn close(&mut self, _: Stop) -> impl Future<Output = ()> + Send {
        ready(())
    }

    fn finish(&mut self) -> impl Future<Output = bool> + Send {
        ready(true)
    }
}

impl From<NotAdmitted> for ChangesError {
    fn from(reason: NotAdmitted) -> Self {
        match reason {
            NotAdmitted::Full | NotAdmitted::Stopping | NotAdmitted::TooFast => {
                Self::Unavailable(reason.to_string())
            }
            NotAdmitted::Principal(_) | NotAdmitted::Address(_) => Self::Busy(reason.to_string()),
        }
    }
}

impl From<ChangesError> for Problem {
    fn from(error: ChangesError) -> Self {
        let detail = error.to_string();
        let (status, code, retry_after) = match error {
            ChangesError::Reset(reason) => (StatusCode::GONE, reason.as_str().into(), None),
            ChangesError::Denied => (StatusCode::NOT_FOUND, ErrorCode::NotFound, None),
            ChangesError::Refused(code, _) => (StatusCode::BAD_REQUEST, code, None),
            ChangesError::Unauthorized => return crate::AuthError::Expired.into(),
            ChangesError::Busy(_) => {
                (StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, Some(5))
            }
            ChangesError::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, Some(5))
            }
            ChangesError::Restart { retry_after_ms } => {
                let seconds = retry_after_ms.unwrap_or_default().div_ceil(1_000);
                (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, Some(seconds))
            }
            ChangesError::AccessChanged => {
                (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, Some(0))
            }
        };
        let problem = Self::new(status, code, detail);
        match retry_after {
            Some(seconds) => problem.header(RETRY_AFTER, HeaderValue::from(seconds)),
            None => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::event;
    use crate::log::{PageLimit, ReadFuture};
    use crate::{EventLog, HubConfig, MemoryLog, Page};

    fn request(repository: &str, since: Option<&Cursor>) -> ChangesRequest {
        ChangesRequest {
            repositories: vec![repository.parse().unwrap()],
            since: since.cloned(),
            wait: Duration::from_secs(60),
            ..ChangesRequest::default()
        }
    }

    /// A hub that is not told more than one is told here.
    fn hub() -> Hub {
        Hub::with_log(std::sync::Arc::new(MemoryLog::new(9, 1 << 20)), HubConfig::default())
    }

    fn told(seq: Seq, repository: &str) -> LogEvent {
        let envelope =
            format!(r#"{{"type":"task.created","data":{{"repository":"{repository}"}}}}"#);
        let kind = EventKind::Created;
        LogEvent::new(seq, repository.parse().unwrap(), kind, &envelope)
    }

    #[tokio::test]
    async fn without_a_position_it_is_told_where_it_is() {
        let hub = hub();
        let changes = hub.changes(Principal::anonymous(), request("foo", None)).await.unwrap();
        assert!(changes.events.is_empty());
        assert_eq!(changes.cursor, hub.log().cursor(0));
    }

    #[tokio::test]
    async fn what_comes_while_it_waits_is_what_it_is_told() {
        let hub = hub();
        let start = hub.log().cursor(0);
        let asked = tokio::spawn({
            let (hub, request) = (hub.clone(), request("foo", Some(&start)));
            async move { hub.changes(Principal::anonymous(), request).await }
        });
        while hub.stats().connections == 0 {
            tokio::task::yield_now().await;
        }
        hub.publish(told(1, "other"));
        hub.publish(told(2, "foo"));
        let Changes { events, cursor } = asked.await.unwrap().unwrap();
        let [event] = &events[..] else { panic!("{events:?}") };
        assert_eq!((event.seq(), event.repository().as_str()), (2, "foo"));
        assert_eq!(event.envelope(), told(2, "foo").envelope());
        assert_eq!(cursor, hub.log().cursor(2));
        assert_eq!(hub.stats().connections, 0);
    }

    #[tokio::test]
    async fn who_may_not_who_comes_too_late_and_who_asks_for_nothing() {
        let hub = hub();
        let start = hub.log().cursor(0);
        let nobody = Principal::new("ana");
        let denied = hub.changes(nobody, request("foo", Some(&start))).await.unwrap_err();
        assert_eq!(denied, ChangesError::Denied);
        let ahead = hub.log().cursor(7);
        let reset = hub.changes(Principal::anonymous(), request("foo", Some(&ahead))).await;
        assert_eq!(reset.unwrap_err(), ChangesError::Reset(ResetReason::Future));
        let nothing = ChangesRequest::default();
        let refused = hub.changes(Principal::anonymous(), nothing).await.unwrap_err();
        assert!(matches!(refused, ChangesError::Refused(ErrorCode::BadMessage, _)));
    }

    #[tokio::test]
    async fn when_access_changes_or_the_server_stops_it_is_sent_away() {
        let hub = hub();
        let start = hub.log().cursor(0);
        let principal = Principal::new("ana").reading([Pattern::All]);
        for round in 0..2 {
            let asked = tokio::spawn({
                let (hub, principal) = (hub.clone(), principal.clone());
                let request = request("foo", Some(&start));
                async move { hub.changes(principal, request).await }
            });
            while hub.stats().connections == 0 {
                tokio::task::yield_now().await;
            }
            if round == 0 {
                hub.access_changed()
            } else {
                hub.shutdown().await
            }
            let error = asked.await.unwrap().unwrap_err();
            let is_right = match round {
                0 => error == ChangesError::AccessChanged,
                _ => matches!(error, ChangesError::Restart { retry_after_ms: Some(_) }),
            };
            assert!(is_right, "{error:?}");
        }
        let late = hub.changes(principal, request("foo", Some(&start))).await.unwrap_err();
        assert!(matches!(late, ChangesError::Unavailable(_)));
    }

    /// A long log of other repositories, which is read slowly.
    struct Slow;

    const EVENTS: Seq = 200;

    impl EventLog for Slow {
        fn head(&self) -> Seq {
            EVENTS
        }

        fn cursor(&self, seq: Seq) -> Cursor {
            Cursor::new(seq.to_string())
        }

        fn validate(&self, cursor: &Cursor) -> Result<Seq, ResetReason> {
            cursor.as_str().parse().map_err(|_| ResetReason::Malformed)
        }

        fn read(&self, after: Seq, _: Seq, _: PageLimit) -> ReadFuture<'_> {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let event = told(after + 1, "other");
                Ok(Page { events: vec![event], scanned_to: after + 1 })
            })
        }
    }

    #[tokio::test]
    async fn what_takes_longer_than_there_is_time_goes_on_where_it_was() {
        let hub = Hub::with_log(std::sync::Arc::new(Slow), HubConfig::default());
        let terms = Terms { lifetime: Duration::from_millis(20), wait: Some(Duration::ZERO) };
        let (mut since, mut rounds) = (hub.log().cursor(0), 0);
        while since != hub.log().cursor(EVENTS) {
            let visitor = Visitor::known_elsewhere(&hub, Principal::anonymous()).unwrap();
            let asked = Subscribe {
                since: Some(since.clone()),
                ..Subscribe::live(request("foo", None).repositories)
            };
            let changes = collect_within(&hub, visitor, asked, terms).await.unwrap();
            assert!(changes.events.is_empty());
            since = changes.cursor;
            rounds += 1;
        }
        assert!(rounds > 1, "there was time for everything");
    }

    #[tokio::test]
    async fn an_event_that_does_not_say_whose_it_is_is_not_passed_over() {
        let hub = hub();
        let start = hub.log().cursor(0);
        hub.publish(event(1, "foo"));
        let error = hub.changes(Principal::anonymous(), request("foo", Some(&start))).await;
        assert!(matches!(error.unwrap_err(), ChangesError::Unavailable(_)));
    }
}
