//! From an HTTP request to a WebSocket, or to a refusal that says why.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{
    CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use taskwatch_protocol::{
    CloseCode, ErrorCode, PROTOCOL_VERSION, SUBPROTOCOL, Subscribe, VERSION_HEADER, major_version,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::{Instrument, Span};

use super::connection::Connection;
use super::query::Query;
use super::stream::Stream;
use super::visitor::{Peer, Visitor};
use super::websocket::WebSocket;
use super::wire::Wire;
use crate::access::token_of_upgrade;
use crate::clock::now;
use crate::hub::{Over, Place, Stop};
use crate::session::Outbox;
use crate::{Hub, Principal, Problem};

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
    subscriptions: Vec<Subscribe>,
}

fn check(hub: &Hub, request: &mut Parts) -> Result<Handshake, Problem> {
    let headers = &request.headers;
    let subprotocol = check_version(headers)?;
    let accept_key = check_handshake(headers)?;
    let query = request.uri.query().unwrap_or_default();
    let Query { subscriptions, .. } = Query::parse(query, None, hub.config())?;
    let upgrade = request.extensions.remove::<OnUpgrade>().ok_or_else(upgrade_required)?;
    Ok(Handshake { upgrade, accept_key, subprotocol, subscriptions })
}

/// Finds out who it is, and whether there is room for one more connection of theirs.
async fn admit(hub: &Hub, request: &Parts, handshake: Handshake) -> Result<Response, Problem> {
    let (peer, headers) = (Peer::of(hub, request), &request.headers);
    let visitor = match Visitor::admit(hub, &peer, token_of_upgrade(headers), Over::WebSocket).await
    {
        Ok(visitor) => visitor,
        // A page is not shown a status, only the code of a close.
        Err(refused)
            if refused.status() == StatusCode::UNAUTHORIZED && headers.contains_key(ORIGIN) =>
        {
            let place = peer.enter(hub, &Principal::anonymous(), Over::WebSocket)?;
            return Ok(turn_away(hub, place, handshake));
        }
        Err(refused) => return Err(refused),
    };
    let span = peer.span(visitor.id(), &visitor.principal);
    Ok(accept(hub.clone(), visitor, handshake, span))
}

/// Whether the version was named by the subprotocol, which then has to be echoed.
fn check_version(headers: &HeaderMap) -> Result<bool, Problem> {
    let protocols: Vec<&str> = tokens(headers, SEC_WEBSOCKET_PROTOCOL).collect();
    let subprotocol = protocols.contains(&SUBPROTOCOL);
    let named = match version_header(headers)? {
        Some(named) => named,
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
    if named == PROTOCOL_VERSION { Ok(subprotocol) } else { Err(not_served(named)) }
}

/// The version that the header names, if there is one.
pub(super) fn version_header(headers: &HeaderMap) -> Result<Option<u16>, Problem> {
    let Some(value) = headers.get(VERSION_HEADER) else { return Ok(None) };
    value.to_str().ok().and_then(major_version).map(Some).ok_or_else(|| {
        let detail = format!("{VERSION_HEADER} is a version such as {PROTOCOL_VERSION}");
        Problem::new(StatusCode::BAD_REQUEST, ErrorCode::Version, detail)
    })
}

pub(super) fn not_served(named: u16) -> Problem {
    let detail =
        format!("this server speaks version {PROTOCOL_VERSION} ({SUBPROTOCOL}), not {named}");
    Problem::new(StatusCode::UPGRADE_REQUIRED, ErrorCode::Version, detail)
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(HeaderName::from_static("x-version"), PROTOCOL_VERSION.into())
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

fn accept(hub: Hub, visitor: Visitor, handshake: Handshake, span: Span) -> Response {
    let Handshake { upgrade, accept_key, subprotocol, subscriptions } = handshake;
    tokio::spawn(async move {
        if let Some((stream, early)) = Stream::of(upgrade).await {
            let task = serve(hub, stream, early, visitor, subscriptions);
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
            WebSocket::new(stream, early, max_message_bytes).close(stop).await;
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
    visitor: Visitor,
    subscriptions: Vec<Subscribe>,
) -> impl Future<Output = ()> {
    let now = now();
    let begun = visitor.begin(&hub, None, subscriptions, now);
    let config = hub.config();
    let mut wire = WebSocket::new(stream, early, config.max_message_bytes);
    wire.put(&begun.session.welcome(&config.server_name, begun.about.id, now));
    // Small: an idle connection keeps all of it.
    Connection::new(begun, wire).run().map(drop)
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
}
