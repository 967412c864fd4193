//! The token in a request: a header, or for browsers, which cannot set one, a subprotocol.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, StatusCode};
use taskwatch_protocol::ErrorCode;

use super::{AuthError, Token};
use crate::Problem;

/// A browser's way to name a token at the upgrade: `bearer.` and the base64url of it.
const SUBPROTOCOL_PREFIX: &str = "bearer.";
/// A longer token is not looked at.
const MAX_BYTES: usize = 8 << 10;

/// The token of `Authorization: Bearer`, if there is one. What is said in another scheme is said to
/// somebody else, such as a proxy.
pub(crate) fn from_header(headers: &HeaderMap) -> Result<Option<Token>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(twice());
    }
    let value = value.to_str().unwrap_or_default();
    let (scheme, text) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    token(Some(text.trim())).map(Some)
}

/// The token of an upgrade, which may also be among the subprotocols.
pub(crate) fn from_upgrade(headers: &HeaderMap) -> Result<Option<Token>, Problem> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let offered = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let mut named = offered.filter_map(|name| name.trim().strip_prefix(SUBPROTOCOL_PREFIX));
    let header = from_header(headers)?;
    match (header, named.next()) {
        (header, None) => Ok(header),
        (Some(_), Some(_)) => Err(twice()),
        (None, Some(_)) if named.next().is_some() => Err(twice()),
        (None, Some(encoded)) => {
            let decoded = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            token(text.as_deref()).map(Some)
        }
    }
}

fn token(text: Option<&str>) -> Result<Token, Problem> {
    let sound = |text: &&str| !text.is_empty() && text.len() <= MAX_BYTES;
    let invalid = || AuthError::Invalid("it cannot be read".to_owned());
    Ok(text.filter(sound).map(Token::new).ok_or_else(invalid)?)
}

fn twice() -> Problem {
    let detail = "a request brings one token, by Authorization or by a subprotocol";
    Problem::new(StatusCode::BAD_REQUEST, ErrorCode::BadMessage, detail)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn upgrade(pairs: &[(HeaderName, &str)]) -> Result<Option<String>, u16> {
        let token = from_upgrade(&headers(pairs)).map_err(|problem| problem.status().as_u16());
        token.map(|token| token.map(|token| token.expose().to_owned()))
    }

    #[test]
    fn a_token_comes_by_header_or_by_subprotocol() {
        let found = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(upgrade(&[]), Ok(None));
        assert_eq!(upgrade(&[(AUTHORIZATION, "Bearer abc")]), found("abc"));
        assert_eq!(upgrade(&[(AUTHORIZATION, "bearer  abc ")]), found("abc"));
        let browser = (SEC_WEBSOCKET_PROTOCOL, "taskwatch.v1, bearer.YS5iLWM");
        assert_eq!(upgrade(std::slice::from_ref(&browser)), found("a.b-c"));
        assert_eq!(upgrade(&[(SEC_WEBSOCKET_PROTOCOL, "taskwatch.v1")]), Ok(None));
        assert_eq!(upgrade(&[browser.clone(), (AUTHORIZATION, "Bearer abc")]), Err(400));
        assert_eq!(upgrade(&[browser.clone(), browser]), Err(400));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for bad in ["Bearer", "Bearer ", "bearer  "] {
            assert_eq!(upgrade(&[(AUTHORIZATION, bad)]), Err(401), "{bad:?}");
        }
        for other in ["", "Basic abc", "abc", "Bearerabc"] {
            assert_eq!(upgrade(&[(AUTHORIZATION, other)]), Ok(None), "{other:?}");
        }
        let long = format!("Bearer {}", "a".repeat(MAX_BYTES + 1));
        assert_eq!(upgrade(&[(AUTHORIZATION, &long)]), Err(401));
        assert_eq!(upgrade(&[(AUTHORIZATION, "Bearer a"), (AUTHORIZATION, "Bearer a")]), Err(400));
        for bad in ["bearer.", "bearer.?", "bearer.YQ==", "bearer._w"] {
            assert_eq!(upgrade(&[(SEC_WEBSOCKET_PROTOCOL, bad)]), Err(401), "{bad:?}");
        }
    }
}
