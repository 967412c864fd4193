//! The events over plain HTTP, where no WebSocket gets through: a stream, or answers to who asks
//! again and again.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use taskwatch_protocol::{Cursor, ErrorCode, PROTOCOL_VERSION, Subscribe};
use tracing::Instrument;

use super::body::body;
use super::connection::Connection;
use super::encoding::{END, Encoding, MIN_RETRY_MS};
use super::query::Query;
use super::response::ResponseWire;
use super::upgrade::{not_served, version_header};
use super::visitor::{Peer, Visitor};
use crate::access::token_of_header;
use crate::changes::{self, Changes};
use crate::clock::now;
use crate::hub::Over;
use crate::session::Terms;
use crate::{Hub, Problem};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// What a proxy such as nginx takes as: pass on what comes as it comes.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How long a poll waits if it does not say.
const WAIT: Duration = Duration::from_secs(25);
/// And how long at most.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// `GET /api/v1/events`: a stream of events.
pub(crate) async fn events(State(hub): State<Hub>, request: Parts) -> Response {
    let answer = open_stream(&hub, &request).await;
    finished(answer, &request.headers)
}

/// `GET /api/v1/changes`: the events after a position, as soon as there are any.
pub(crate) async fn changes(State(hub): State<Hub>, request: Parts) -> Response {
    let answer = answer_poll(&hub, &request).await;
    finished(answer, &request.headers)
}

async fn open_stream(hub: &Hub, request: &Parts) -> Result<Response, Problem> {
    let last_event_id = request.headers.get(LAST_EVENT_ID);
    if last_event_id.is_some_and(|id| id == END) {
        // Nothing is to be had, and nothing else makes an `EventSource` stop.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let query = asked(hub, request)?;
    let terms = Terms { lifetime: lifetime(hub), wait: None };
    stream(hub, request, Encoding::EventStream, query.subscriptions, terms).await
}

async fn answer_poll(hub: &Hub, request: &Parts) -> Result<Response, Problem> {
    let query = asked(hub, request)?;
    let wait = query.wait(WAIT, MAX_WAIT)?;
    if accepts(&request.headers, Encoding::Lines.content_type()) {
        let terms = Terms { lifetime: lifetime(hub), wait: Some(wait) };
        return stream(hub, request, Encoding::Lines, query.subscriptions, terms).await;
    }
    let [subscription] = <[Subscribe; 1]>::try_from(query.subscriptions).map_err(|_| no_state())?;
    if subscription.snapshot || subscription.on_gap.is_some() {
        return Err(no_state());
    }
    let peer = Peer::of(hub, request);
    let token = token_of_header(&request.headers);
    let visitor = Visitor::admit(hub, &peer, token, Over::Poll).await?;
    let span = peer.span(visitor.id(), &visitor.principal);
    let changes = changes::collect(hub, visitor, subscription, wait).instrument(span).await?;
    Ok(([(CONTENT_TYPE, "application/json")], json(&changes)).into_response())
}

/// What the request asks for, in a version that is served.
fn asked(hub: &Hub, request: &Parts) -> Result<Query, Problem> {
    if let Some(named) =
        version_header(&request.headers)?.filter(|&named| named != PROTOCOL_VERSION)
    {
        return Err(not_served(named));
    }
    let last_event_id = request.headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    let last_event_id = last_event_id.map(|id| Cursor::new(String::from_utf8_lossy(id.as_bytes())));
    let query = request.uri.query().unwrap_or_default();
    Query::parse(query, last_event_id, hub.config())?.not_empty()
}

/// A fifth more or less, so that those who came together do not come back together.
fn lifetime(hub: &Hub) -> Duration {
    hub.config().stream_lifetime.mul_f64(rand::random_range(0.8..=1.2))
}

/// Begins a response, and a connection that writes into it.
async fn stream(
    hub: &Hub,
    request: &Parts,
    encoding: Encoding,
    subscriptions: Vec<Subscribe>,
    terms: Terms,
) -> Result<Response, Problem> {
    let peer = Peer::of(hub, request);
    let token = token_of_header(&request.headers);
    let over = if terms.wait.is_some() { Over::Poll } else { Over::Stream };
    let visitor = Visitor::admit(hub, &peer, token, over).await?;
    let span = peer.span(visitor.id(), &visitor.principal);
    let begun = visitor.begin(hub, Some(terms), subscriptions, now());
    let (sender, body) = body();
    let wire = ResponseWire::new(encoding, sender, rand::random_range(MIN_RETRY_MS..=5_000));
    let task = Connection::new(begun, wire).run().map(drop);
    // Of its own: hyper asks for more only when it can write, and this has other things to wait for.
    tokio::spawn(task.instrument(span));
    Ok(([(CONTENT_TYPE, encoding.content_type())], Body::new(body)).into_response())
}

/// `{"events": [envelope, …], "cursor": …}`, of envelopes as they are.
fn json(Changes { events, cursor }: &Changes) -> Vec<u8> {
    let mut body = br#"{"events":["#.to_vec();
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event.envelope());
    }
    body.extend_from_slice(br#"],"cursor":"#);
    body.extend_from_slice(serde_json::Value::from(cursor.as_str()).to_string().as_bytes());
    body.push(b'}');
    body
}

fn no_state() -> Problem {
    let detail = "snapshot, snapshot_of and on_gap are for /events, and here for \
                  Accept: application/jsonl";
    Problem::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, detail)
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let mut ranges = values.flat_map(|value| value.split(','));
    ranges.any(|range| {
        let named = range.split(';').next().unwrap_or_default();
        named.trim().eq_ignore_ascii_case(media_type)
    })
}

/// What every answer says to what stands between, and to the page that asked.
fn finished(answer: Result<Response, Problem>, request: &HeaderMap) -> Response {
    let mut response = answer.unwrap_or_else(|refused| {
        tracing::debug!(code = %refused.code(), "refused a stream");
        refused.into_response()
    });
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    // It has passed the guard.
    if let Some(origin) = request.get(ORIGIN) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_for_who_asks_for_them() {
        let accepts_lines = |value: &'static str| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]);
            accepts(&headers, Encoding::Lines.content_type())
        };
        for named in ["application/jsonl", "text/html, Application/JSONL;q=0.5"] {
            assert!(accepts_lines(named), "{named}");
        }
        for other in ["", "*/*", "application/json", "application/jsonlines", "application/*"] {
            assert!(!accepts_lines(other), "{other}");
        }
    }
}
