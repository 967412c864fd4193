//! Who may do what, from where: looked at before anything else is done with a request.

mod address;
mod authenticator;
mod bearer;
#[cfg(feature = "jwt")]
mod jwt;
mod origin;
mod principal;
mod reloading;
mod tokens;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{StatusCode, Version};
use taskwatch_protocol::{ErrorCode, Timestamp};
use tokio::time::timeout;

pub use address::{InvalidNetwork, Network};
pub use authenticator::{Anonymous, AuthError, AuthFuture, Authenticator, Token};
pub(crate) use bearer::{from_header as token_of_header, from_upgrade as token_of_upgrade};
#[cfg(feature = "jwt")]
pub use jwt::{InvalidAlgorithm, Jwt, JwtAlgorithm, JwtConfig, JwtKeys};
pub use origin::{AccessPolicy, InvalidOrigin};
pub use principal::Principal;
pub use reloading::{FileError, Reloading};
pub use tokens::{TokenGrant, TokensFile};

use crate::Problem;
use crate::clock::now;

/// Names of query parameters that would put a secret into logs and histories.
const SECRET_PARAMETERS: [&str; 4] = ["token", "access_token", "bearer", "authorization"];

/// For finding out who brings a token.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Middleware for every route of a server. Refuses with 403 a `Host` that is not its own, a page of
/// a foreign `Origin`, and on a private server whatever came through a proxy; with 400 a secret in
/// the query.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use taskwatch_server::{AccessPolicy, guard};
/// let policy = Arc::new(AccessPolicy::private());
/// let app: axum::Router = axum::Router::new()
///     .layer(axum::middleware::from_fn_with_state(policy, guard));
/// ```
pub async fn guard(
    State(policy): State<Arc<AccessPolicy>>,
    request: Request,
    next: Next,
) -> Response {
    match check_source(&policy, &request) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

fn check_source(policy: &AccessPolicy, request: &Request) -> Result<(), Problem> {
    policy.check(request.headers(), request.uri().authority())?;
    // What speaks so to its own machine is a proxy with the settings it came with, which say
    // nothing of where a request comes from.
    if policy.is_private() && request.version() < Version::HTTP_11 {
        let detail = "this server is for its own machine, and clients there speak HTTP/1.1; \
                      a server behind a proxy must be told so, and ask for tokens";
        return Err(Problem::new(StatusCode::FORBIDDEN, ErrorCode::Host, detail));
    }
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let secret = |name: &str| SECRET_PARAMETERS.iter().any(|word| name.eq_ignore_ascii_case(word));
    if url::form_urlencoded::parse(query).any(|(name, _)| secret(&name)) {
        let detail = "a secret in a URL ends up in logs; send it as Authorization: Bearer";
        return Err(Problem::new(StatusCode::BAD_REQUEST, ErrorCode::TokenInUrl, detail));
    }
    Ok(())
}

/// Middleware for the routes of an API beside the hub: finds out who makes a request, and puts a
/// [`Principal`] into its extensions, or answers 401.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use taskwatch_server::{Anonymous, Authenticator, Principal, authenticate};
/// async fn me(principal: Principal) -> String {
///     principal.subject().unwrap_or("nobody").to_owned()
/// }
///
/// let authenticator: Arc<dyn Authenticator> = Arc::new(Anonymous);
/// let app: axum::Router = axum::Router::new()
///     .route("/me", axum::routing::get(me))
///     .layer(axum::middleware::from_fn_with_state(authenticator, authenticate));
/// ```
pub async fn authenticate(
    State(authenticator): State<Arc<dyn Authenticator>>,
    mut request: Request,
    next: Next,
) -> Response {
    let token = bearer::from_header(request.headers());
    let principal = match token {
        Ok(token) => identify(&*authenticator, token.as_ref()).await.map_err(Problem::from),
        Err(refused) => Err(refused),
    };
    match principal {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

/// Who brings this token, found out in time.
pub(crate) async fn identify(
    authenticator: &dyn Authenticator,
    token: Option<&Token>,
) -> Result<Principal, AuthError> {
    let asked = timeout(AUTHENTICATION_TIMEOUT, authenticator.authenticate(token)).await;
    let mut answer = asked.unwrap_or_else(|_| Err(AuthError::Unavailable("no answer".to_owned())));
    let ran_out = |at: Timestamp| at.unix_millis() <= now().wall.unix_millis();
    if answer.as_ref().is_ok_and(|principal| principal.expires().is_some_and(ran_out)) {
        answer = Err(AuthError::Expired);
    }
    match &answer {
        Err(AuthError::Unavailable(reason)) => {
            tracing::error!(reason = ?reason, "a token cannot be checked");
        }
        Err(AuthError::Invalid(reason)) => tracing::info!(reason = ?reason, "refused a token"),
        _ => {}
    }
    answer
}

/// Where a request comes from, if the server was told: through proxies that are trusted to say so.
pub(crate) fn client_address(policy: &AccessPolicy, request: &Parts) -> Option<IpAddr> {
    let ConnectInfo(peer) = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(address::of_client(policy.trusted_proxies(), peer.ip(), &request.headers))
}
