//! An answer that is not 101.

use std::fmt;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER, SERVER, VIA};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use taskwatch_protocol::ErrorCode;
use tokio::time::timeout;

/// A problem document that is larger, or takes longer, is not ours.
const BODY_LIMIT: usize = 64 * 1024;
const BODY_TIME: Duration = Duration::from_secs(1);

/// The answer of a server, or of something in between, that did not upgrade.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The word of its problem document.
    pub(crate) code: Option<ErrorCode>,
    /// For people.
    pub(crate) detail: String,
    pub(crate) retry_after: Option<Duration>,
    /// What who answered calls itself.
    pub(crate) by: Option<String>,
}

impl Refusal {
    /// Whether the same request would be refused again. Only our own server can say so: a proxy
    /// answers 404 while what is behind it restarts, and one that removes `Upgrade` makes our own
    /// server say `upgrade_required`.
    pub(crate) fn is_final(&self) -> bool {
        let is_meant = |code: &ErrorCode| !code.is_retryable();
        self.word().is_some_and(is_meant) || self.status == StatusCode::UNAUTHORIZED
    }

    /// Whether something between us and the server is in the way of an upgrade. A 401 is the answer
    /// of who asks for another token, and a 429 of who asks for fewer requests.
    pub(crate) fn is_block(&self) -> bool {
        self.word().is_none() && !matches!(self.status, 401 | 429)
    }

    /// Whether something in between refuses what it could let through. A gateway that has no server
    /// behind it would refuse anything.
    pub(crate) fn is_by_another(&self) -> bool {
        self.is_block() && !matches!(self.status, 502..=504)
    }

    /// Whether it is about the address of the request, not about who asks or what for. An older server
    /// has fewer ways, and not all that a message can ask for has room in an address.
    pub(crate) fn is_about_the_way(&self) -> bool {
        matches!(self.status, 404 | 405 | 414)
    }

    /// What our own server means by it.
    pub(crate) fn word(&self) -> Option<&ErrorCode> {
        let is_ours = |code: &&ErrorCode| code.is_known() && **code != ErrorCode::UpgradeRequired;
        self.code.as_ref().filter(is_ours)
    }

    /// Whether another token could make a difference.
    pub(crate) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED || self.code == Some(ErrorCode::Unauthorized)
    }

    /// What an answer over plain HTTP says.
    pub(crate) async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = timeout(BODY_TIME, Limited::new(body, BODY_LIMIT).collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes().to_vec());
        Self::read(&Response::from_parts(head, body))
    }

    pub(super) fn read(response: &Response<Option<Vec<u8>>>) -> Self {
        /// A problem document, as far as it matters here.
        #[derive(Default, Deserialize)]
        struct Problem {
            code: Option<ErrorCode>,
            title: Option<String>,
            detail: Option<String>,
        }
        let status = response.status();
        let headers = response.headers();
        let body = response.body().as_deref().unwrap_or_default();
        let problem: Problem = if is_problem(headers) {
            serde_json::from_slice(body).unwrap_or_default()
        } else {
            Problem::default()
        };
        let said = problem.detail.or(problem.title);
        let detail = said.or_else(|| status.canonical_reason().map(str::to_owned));
        Self {
            status: status.as_u16(),
            code: problem.code,
            detail: detail.unwrap_or_else(|| "no reason given".to_owned()),
            retry_after: retry_after(headers),
            by: by(headers),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}: {}", self.status, self.detail)
    }
}

fn is_problem(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next());
    media_type.is_some_and(|text| text.trim().eq_ignore_ascii_case("application/problem+json"))
}

/// The software that made the answer, or the last that passed it on.
fn by(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(SERVER).or_else(|| headers.get(VIA))?;
    Some(value.to_str().ok()?.to_owned())
}

/// Seconds; the other form of the header, a date, would need a clock that agrees with the server's.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, media_type: &str, body: &str) -> Refusal {
        let response = Response::builder()
            .status(status)
            .header(CONTENT_TYPE, media_type)
            .header(RETRY_AFTER, "7")
            .body(Some(body.as_bytes().to_vec()));
        Refusal::read(&response.unwrap())
    }

    #[test]
    fn only_our_own_words_are_final() {
        let problem = "application/problem+json; charset=utf-8";
        let ours = refusal(
            400,
            problem,
            r#"{"code":"version_missing","detail":"Missing X-Version header"}"#,
        );
        assert!(ours.is_final());
        assert_eq!(ours.detail, "Missing X-Version header");
        assert!(refusal(401, "text/html", "<h1>no</h1>").is_final());
        for survivable in [
            refusal(404, "text/html", "<h1>default backend</h1>"),
            refusal(404, "application/json", r#"{"code":"not_found"}"#),
            refusal(404, problem, r#"{"code":"from_the_future"}"#),
            refusal(404, problem, r#"{"code":"not_fo"#),
            refusal(426, problem, r#"{"code":"upgrade_required"}"#),
            refusal(503, problem, r#"{"code":"unavailable"}"#),
            refusal(429, problem, r#"{"code":"rate_limited"}"#),
            refusal(502, problem, ""),
        ] {
            assert!(!survivable.is_final(), "{survivable}");
            assert_eq!(survivable.retry_after, Some(Duration::from_secs(7)));
        }
    }

    #[test]
    fn what_stands_in_between_is_told_from_the_server() {
        let problem = "application/problem+json";
        for (refusal, is_block, is_by_another) in [
            (refusal(426, problem, r#"{"code":"upgrade_required"}"#), true, true),
            (refusal(403, "text/html", "<h1>blocked</h1>"), true, true),
            (refusal(200, "text/html", "<h1>log in</h1>"), true, true),
            (refusal(502, "text/html", "<h1>nobody there</h1>"), true, false),
            (refusal(503, problem, r#"{"code":"unavailable"}"#), false, false),
            (refusal(403, problem, r#"{"code":"host"}"#), false, false),
            (refusal(401, "text/html", ""), false, false),
            (refusal(429, "text/html", "<h1>slow down</h1>"), false, false),
        ] {
            assert_eq!(refusal.is_block(), is_block, "{refusal}");
            assert_eq!(refusal.is_by_another(), is_by_another, "{refusal}");
        }
    }

    #[test]
    fn an_answer_without_words_is_still_told() {
        assert_eq!(
            refusal(502, "text/plain", "").to_string(),
            "the server answered 502: Bad Gateway"
        );
        assert_eq!(refusal(599, "text/plain", "").detail, "no reason given");
    }
}
