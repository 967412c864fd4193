//! Tokens that somebody else has signed.

mod keys;

use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use taskwatch_protocol::{Pattern, Timestamp};
use tokio::sync::watch;

use super::principal::check_subject;
use super::reloading::{FileError, Reloading};
use super::{AuthError, AuthFuture, Authenticator, Principal, Token};
use crate::clock::now;

pub use keys::{InvalidAlgorithm, JwtAlgorithm, JwtKeys};
use keys::{Key, Keys};

/// By how much the clocks of issuer and server may differ: for `nbf`. A token's end is its end.
const LEEWAY_SECONDS: u64 = 10;

/// What [`Jwt`] asks of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// Who signs.
    pub keys: JwtKeys,
    /// What `iss` must be.
    pub issuer: String,
    /// What must be in `aud`.
    pub audience: String,
    /// The claim that says what may be done: `taskwatch`, unless another is agreed on.
    pub claim: String,
}

/// Knows JSON Web Tokens by the key of who issues them.
///
/// A token must have `iss`, `aud`, `exp` and `sub`, the subject, and a claim such as
///
/// ```json
/// "taskwatch": {"read": ["github.com/acme/*"], "write": [], "metrics": false, "operate": false}
/// ```
///
/// Each key is for one algorithm; what the token says of its algorithm or its key changes nothing.
/// The file of keys is read again within a second of a change. While it cannot be used, the keys
/// from before stay in force, and an error is logged.
#[derive(Debug)]
pub struct Jwt {
    keys: Arc<Reloading<Keys>>,
    issuer: String,
    audience: String,
    claim: String,
}

/// The claim that says what may be done.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    #[serde(default)]
    read: Vec<Pattern>,
    #[serde(default)]
    write: Vec<Pattern>,
    #[serde(default)]
    metrics: bool,
    #[serde(default)]
    operate: bool,
}

impl Jwt {
    /// Reads the keys, and looks at their file every half second from now on. The caller waits for
    /// the disk.
    ///
    /// # Errors
    /// If the file cannot be read, or has no key that can be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(config: JwtConfig) -> Result<Self, FileError> {
        let JwtConfig { keys, issuer, audience, claim } = config;
        keys.warn_of_others();
        let parse = keys.clone();
        let keys = Reloading::open([keys.path().to_owned()], move |files| parse.parse(&files[0]))?;
        Ok(Self { keys, issuer, audience, claim })
    }

    fn identify(&self, token: Option<&Token>) -> Result<Principal, AuthError> {
        let token = token.ok_or(AuthError::Missing)?.expose();
        let invalid = |error: jsonwebtoken::errors::Error| match error.kind() {
            ErrorKind::ExpiredSignature => AuthError::Expired,
            _ => AuthError::Invalid(error.to_string()),
        };
        let header = decode_header(token).map_err(invalid)?;
        if header.crit.is_some() {
            return refuse("it has critical headers, of which none is known here");
        }
        let keys = self.keys.current();
        let Some(key) = keys.find(header.kid.as_deref()) else {
            return refuse("no key has its kid");
        };
        let claims: Map<String, Value> =
            decode(token, &key.key, &self.validation(key)).map_err(invalid)?.claims;
        let principal = self.principal(claims).map_err(AuthError::Invalid)?;
        let has_run_out = principal.expires().is_some_and(|expires| expires <= now().wall);
        if has_run_out { Err(AuthError::Expired) } else { Ok(principal) }
    }

    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm.into());
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation
    }

    fn principal(&self, mut claims: Map<String, Value>) -> Result<Principal, String> {
        // As a list it would pass if one of them were ours.
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err("iss is not one issuer".to_owned());
        }
        let subject = claims.get("sub").and_then(Value::as_str).ok_or("sub is no text")?;
        check_subject(subject).map_err(|problem| format!("sub: {problem}"))?;
        let expires = claims.get("exp").and_then(Value::as_f64).ok_or("exp is no number")?;
        // Too large a number becomes the largest.
        let expires = Timestamp::from_unix_millis((expires * 1_000.0) as i64);
        let principal = Principal::new(subject).expiring(Some(expires));

        let claim = &self.claim;
        let grant = claims.remove(claim).ok_or_else(|| format!("it has no claim {claim}"))?;
        let Grant { read, write, metrics, operate } =
            serde_json::from_value(grant).map_err(|problem| format!("{claim}: {problem}"))?;
        let principal = principal.reading(read).writing(write);
        Ok(principal.with_metrics(metrics).with_operate(operate))
    }
}

fn refuse<T>(reason: &str) -> Result<T, AuthError> {
    Err(AuthError::Invalid(reason.to_owned()))
}

impl Authenticator for Jwt {
    fn authenticate<'a>(&'a self, token: Option<&'a Token>) -> AuthFuture<'a> {
        Box::pin(std::future::ready(self.identify(token)))
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        Some(self.keys.changes())
    }
}

#[cfg(test)]
mod tests;
