//! From an HTTP request to a WebSocket, or to a refusal that says why.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    CONNECTION, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use taskwatch_protocol::{
    CloseCode, Cursor, ErrorCode, PROTOCOL_VERSION, SUBPROTOCOL, Subscribe, VERSION_HEADER,
    major_version,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::connection::Connection;
use super::stream::Stream;
use super::wire::Wire;
use crate::access::{client_address, identify, token_of_upgrade};
use crate::clock::now;
use crate::hub::{NotAdmitted, Place, Stop};
use crate::session::{Delivery, Outbox, Session};
use crate::{Hub, Principal, Problem, Token};

/// Answers an upgrade with 101 and serves the connection, or refuses it.
pub(crate) async fn upgrade(State(hub): State<Hub>, mut request: Parts) -> Response {
    let answer = match check(&hub, &mut request) {
        Ok(handshake) => admit(&hub, &request, handshake).await,
        Err(refused) => Err(refused),
    };
    answer.unwrap_or_else(|refused| {
        tracing::debug!(code = %refused.code(), "refused an upgrade");
        refused.into_response()
    })
}

/// A request that may become a WebSocket.
struct Handshake {
    upgrade: OnUpgrade,
    accept_key: HeaderValue,
    subprotocol: bool,
    subscribe: Option<Subscribe>,
}

/// Where a connection comes from, as far as that is known.
struct Peer {
    /// The other end of the socket; a proxy, perhaps.
    socket: Option<SocketAddr>,
    /// Whom it counts for.
    address: Option<IpAddr>,
}

impl Peer {
    fn of(hub: &Hub, request: &Parts) -> Self {
        let socket = request.extensions.get().map(|ConnectInfo(socket)| *socket);
        Self { socket, address: client_address(&hub.config().access, request) }
    }

    fn span(&self, connection_id: Uuid, principal: &Principal) -> Span {
        // A client behind a proxy is another than the peer.
        let client = self.address.filter(|address| {
            self.socket.is_some_and(|socket| socket.ip().to_canonical() != *address)
        });
        tracing::info_span!(
            "connection",
            id = %connection_id,
            peer = self.socket.map(tracing::field::display),
            client = client.map(tracing::field::display),
            principal = principal.subject(),
        )
    }
}

/// Who is at the other end, and how that is known.
struct Visitor {
    principal: Principal,
    token: Option<Token>,
    /// How often access had changed before the principal was found out.
    access_changes: u64,
    place: Place,
}

fn check(hub: &Hub, request: &mut Parts) -> Result<Handshake, Problem> {
    let headers = &request.headers;
    let subprotocol = check_version(headers)?;
    let accept_key = check_handshake(headers)?;
    let subscribe = subscription(request.uri.query().unwrap_or_default())?;
    if let Some(subscribe) = &subscribe {
        let limit = hub.config().max_patterns_per_message;
        if subscribe.repositories.len() > limit {
            let detail = format!("repo may be given {limit} times");
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::LimitSubscriptions,
                detail,
            ));
        }
    }
    let upgrade = request.extensions.remove::<OnUpgrade>().ok_or_else(upgrade_required)?;
    Ok(Handshake { upgrade, accept_key, subprotocol, subscribe })
}

/// Finds out who it is, and whether there is room for one more connection of theirs.
async fn admit(hub: &Hub, request: &Parts, handshake: Handshake) -> Result<Response, Problem> {
    let (peer, headers) = (Peer::of(hub, request), &request.headers);
    let access_changes = hub.access_changes();
    let found = match token_of_upgrade(headers) {
        Ok(token) => identify(&*hub.config().authenticator, token.as_ref())
            .await
            .map(|principal| (principal, token))
            .map_err(Problem::from),
        Err(refused) => Err(refused),
    };
    let (principal, token) = match found {
        Ok(found) => found,
        // A page is not shown a status, only the code of a close.
        Err(refused)
            if refused.status() == StatusCode::UNAUTHORIZED && headers.contains_key(ORIGIN) =>
        {
            let place = hub.admit(&Principal::anonymous(), peer.address).map_err(not_admitted)?;
            return Ok(turn_away(hub, place, handshake));
        }
        Err(refused) => return Err(refused),
    };
    let place = hub.admit(&principal, peer.address).map_err(not_admitted)?;
    let connection_id = Uuid::new_v4();
    let span = peer.span(connection_id, &principal);
    let visitor = Visitor { principal, token, access_changes, place };
    Ok(accept(hub.clone(), visitor, connection_id, handshake, span))
}

fn not_admitted(reason: NotAdmitted) -> Problem {
    let (status, code, detail) = match reason {
        NotAdmitted::Full => {
            let detail = "this server takes no more connections now".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, detail)
        }
        NotAdmitted::TooFast => {
            let detail = "too many connections are being made; come back in a moment".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, detail)
        }
        NotAdmitted::Principal(limit) => {
            let detail = format!("a principal may have {limit} connections; close one first");
            (StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, detail)
        }
        NotAdmitted::Address(limit) => {
            let detail = format!("an address may have {limit} connections; close one first");
            (StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited, detail)
        }
    };
    Problem::new(status, code, detail).header(RETRY_AFTER, HeaderValue::from_static("5"))
}

/// Whether the version was named by the subprotocol, which then has to be echoed.
fn check_version(headers: &HeaderMap) -> Result<bool, Problem> {
    let protocols: Vec<&str> = tokens(headers, SEC_WEBSOCKET_PROTOCOL).collect();
    let subprotocol = protocols.contains(&SUBPROTOCOL);
    let named = match headers.get(VERSION_HEADER) {
        Some(value) => value.to_str().ok().and_then(major_version).ok_or_else(|| {
            let detail = format!("{VERSION_HEADER} is a version such as {PROTOCOL_VERSION}");
            Problem::new(StatusCode::BAD_REQUEST, ErrorCode::Version, detail)
        })?,
        None if subprotocol => PROTOCOL_VERSION,
        None => {
            let later = |name: &&str| name.strip_prefix("taskwatch.v").and_then(|v| v.parse().ok());
            protocols.iter().find_map(later).ok_or_else(|| {
                let detail = format!(
                    "Missing {VERSION_HEADER} header: send {VERSION_HEADER}: {PROTOCOL_VERSION}, \
                     or the subprotocol {SUBPROTOCOL}"
                );
                Problem::new(StatusCode::BAD_REQUEST, ErrorCode::VersionMissing, detail)
            })?
        }
    };
    if named == PROTOCOL_VERSION {
        return Ok(subprotocol);
    }
    let detail =
        format!("this server speaks version {PROTOCOL_VERSION} ({SUBPROTOCOL}), not {named}");
    Err(Problem::new(StatusCode::UPGRADE_REQUIRED, ErrorCode::Version, detail)
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(HeaderName::from_static("x-version"), PROTOCOL_VERSION.into()))
}

/// The answer to the client's key, if this is a WebSocket handshake (RFC 6455 §4.2.1).
pub(super) fn check_handshake(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let names =
        |header, name| tokens(headers, header).any(|token| token.eq_ignore_ascii_case(name));
    if !names(UPGRADE, "websocket") || !names(CONNECTION, "upgrade") {
        return Err(upgrade_required());
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let detail = "this server speaks version 13 of the WebSocket protocol";
        return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, ErrorCode::UpgradeRequired, detail)
            .header(UPGRADE, HeaderValue::from_static("websocket"))
            .header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    let bad_key = || {
        let detail = "Sec-WebSocket-Key is the base64 of 16 bytes";
        Problem::new(StatusCode::BAD_REQUEST, ErrorCode::BadMessage, detail)
    };
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(bad_key)?.as_bytes();
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    // 16 bytes are 22 characters and two of padding.
    if key.len() != 24 || !key[..22].iter().all(base64) || key[22..] != *b"==" {
        return Err(bad_key());
    }
    HeaderValue::from_str(&derive_accept_key(key)).map_err(|_| bad_key())
}

pub(super) fn upgrade_required() -> Problem {
    let detail = "this is a WebSocket endpoint; the request came without Upgrade: websocket, \
                  which something between may have removed";
    Problem::new(StatusCode::UPGRADE_REQUIRED, ErrorCode::UpgradeRequired, detail)
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(CONNECTION, HeaderValue::from_static("upgrade"))
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// `?repo=a&repo=b&since=…`: what a plain WebSocket tool subscribes to without a first message.
fn subscription(query: &str) -> Result<Option<Subscribe>, Problem> {
    let mut subscribe = Subscribe::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "repo" | "repository" => {
                let pattern = value.parse().map_err(|error| {
                    let detail = format!("repo: {error}");
                    Problem::new(StatusCode::BAD_REQUEST, ErrorCode::InvalidName, detail)
                })?;
                subscribe.repositories.push(pattern);
            }
            "since" => subscribe.since = Some(Cursor::new(value)),
            "snapshot" => {
                subscribe.snapshot = value.parse().map_err(|_| {
                    let detail = "snapshot is true or false";
                    Problem::new(StatusCode::BAD_REQUEST, ErrorCode::BadMessage, detail)
                })?;
            }
            "on_gap" => subscribe.on_gap = Some((&*value).into()),
            _ => {}
        }
    }
    if subscribe.on_gap.as_ref().is_some_and(|word| !word.is_known()) {
        let detail = "on_gap is snapshot, live or error";
        return Err(Problem::new(StatusCode::BAD_REQUEST, ErrorCode::BadMessage, detail));
    }
    let meant = !subscribe.repositories.is_empty();
    if !meant && (subscribe.since.is_some() || subscribe.snapshot) {
        let detail = "since and snapshot need a repo";
        return Err(Problem::new(StatusCode::BAD_REQUEST, ErrorCode::BadMessage, detail));
    }
    Ok(meant.then_some(subscribe))
}

fn accept(
    hub: Hub,
    visitor: Visitor,
    connection_id: Uuid,
    handshake: Handshake,
    span: Span,
) -> Response {
    let Handshake { upgrade, accept_key, subprotocol, subscribe } = handshake;
    tokio::spawn(async move {
        if let Some((stream, early)) = Stream::of(upgrade).await {
            let task = serve(hub, stream, early, connection_id, visitor, subscribe);
            // A task of its own: this one still holds what hyper needed for the request.
            tokio::spawn(task.instrument(span));
        }
    });
    switching_protocols(accept_key, subprotocol)
}

/// Takes the upgrade and closes at once: the way to tell a page that its token was refused.
fn turn_away(hub: &Hub, place: Place, handshake: Handshake) -> Response {
    let Handshake { upgrade, accept_key, subprotocol, .. } = handshake;
    let max_message_bytes = hub.config().max_message_bytes;
    let stop = Stop::new(CloseCode::Unauthorized);
    hub.counters().closed(stop.code);
    tokio::spawn(async move {
        if let Some((stream, early)) = Stream::of(upgrade).await {
            Wire::new(stream, early, max_message_bytes).close(stop).await;
        }
        drop(place);
    });
    switching_protocols(accept_key, subprotocol)
}

/// The answer behind which the connection is a WebSocket.
pub(super) fn switching_protocols(accept_key: HeaderValue, subprotocol: bool) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept_key);
    if subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

fn serve(
    hub: Hub,
    stream: Stream,
    early: Bytes,
    connection_id: Uuid,
    visitor: Visitor,
    subscribe: Option<Subscribe>,
) -> impl Future<Output = ()> {
    let Visitor { principal, token, access_changes, place } = visitor;
    let (member, position) = hub.enter(principal, access_changes);
    let config = hub.config();
    let now = now();
    let selection = member.selection().clone();
    let mut session = Session::new(config, selection, token, position, rand::random(), now);
    let mut wire = Wire::new(stream, early, config.max_message_bytes);
    wire.put(&session.welcome(&config.server_name, connection_id, now));
    if let Some(subscribe) = subscribe {
        session.request(subscribe);
    }
    let delivery = Delivery::new(hub.clone(), member, place.reads());
    let connection = Box::new(Connection::new(hub, wire, session, delivery)).run();
    async move {
        connection.await;
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn version(pairs: &[(&str, &str)]) -> Result<bool, (u16, ErrorCode)> {
        let problem = |problem: Problem| (problem.status().as_u16(), problem.code().clone());
        check_version(&headers(pairs)).map_err(problem)
    }

    #[test]
    fn the_version_comes_by_header_or_by_subprotocol() {
        assert_eq!(version(&[("x-version", "1")]), Ok(false));
        assert_eq!(version(&[("x-version", "v1.2.3")]), Ok(false));
        let browser = ("sec-websocket-protocol", "taskwatch.v1, bearer.abc");
        assert_eq!(version(&[browser]), Ok(true));
        assert_eq!(version(&[("x-version", "1"), browser]), Ok(true));
        assert_eq!(version(&[]), Err((400, ErrorCode::VersionMissing)));
        assert_eq!(
            version(&[("sec-websocket-protocol", "chat")]),
            Err((400, ErrorCode::VersionMissing))
        );
        assert_eq!(version(&[("x-version", "9")]), Err((426, ErrorCode::Version)));
        assert_eq!(
            version(&[("sec-websocket-protocol", "taskwatch.v2")]),
            Err((426, ErrorCode::Version))
        );
        assert_eq!(version(&[("x-version", "latest")]), Err((400, ErrorCode::Version)));
    }

    fn handshake(changed: &[(&str, &str)]) -> Result<HeaderValue, u16> {
        let mut all = headers(&[
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        for (name, value) in changed {
            let name: HeaderName = name.parse().unwrap();
            all.insert(name, HeaderValue::from_str(value).unwrap());
        }
        check_handshake(&all).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn the_handshake_is_checked_as_the_rfc_says() {
        // The example of RFC 6455 §1.3.
        assert_eq!(handshake(&[]).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake(&[("upgrade", "h2c")]), Err(426));
        assert_eq!(handshake(&[("connection", "close")]), Err(426));
        assert_eq!(handshake(&[("sec-websocket-version", "12")]), Err(426));
        for key in [
            "",
            "short",
            "dGhlIHNhbXBsZSBub25jZQ=a",
            "dGhlIHNhbXBsZSBub25jZQ====",
            "dGhl IHNhbXBsZSBub25jZ===",
        ] {
            assert_eq!(handshake(&[("sec-websocket-key", key)]), Err(400), "{key}");
        }
    }

    #[test]
    fn a_query_subscribes() {
        let subscribe = subscription("repo=a&repo=b/*&since=c1-x").unwrap().unwrap();
        assert_eq!(subscribe.repositories, ["a".parse().unwrap(), "b/*".parse().unwrap()]);
        assert_eq!(subscribe.since, Some(Cursor::new("c1-x")));
        assert_eq!(subscription("").unwrap(), None);
        assert_eq!(subscription("other=1").unwrap(), None);
        for bad in [
            "repo=a%20b",
            "repo=",
            "since=x",
            "snapshot=true",
            "repo=a&on_gap=x",
            "repo=a&snapshot=1",
        ] {
            assert!(subscription(bad).is_err(), "{bad}");
        }
    }
}
