//! Who may see what, by whom the hub asks.

use std::sync::{Arc, Mutex};

use crate::{AuthError, AuthFuture, Authenticator, Principal, Token};

/// What each peer may see; `None` is nobody whom the server knows. A peer's token is its number.
#[derive(Clone, Debug, Default)]
pub(super) struct Grants(Arc<Mutex<Vec<Option<Vec<&'static str>>>>>);

impl Grants {
    pub(super) fn everything_to(&self, peers: usize) {
        self.0.lock().unwrap().resize(peers, Some(vec!["*"]));
    }

    pub(super) fn set(&self, at: usize, grant: Option<Vec<&'static str>>) {
        self.0.lock().unwrap()[at] = grant;
    }

    pub(super) fn of(&self, at: usize) -> Option<Vec<&'static str>> {
        self.0.lock().unwrap()[at].clone()
    }

    pub(super) fn principal(&self, at: usize) -> Option<Principal> {
        let patterns = self.of(at)?.into_iter().map(|pattern| pattern.parse().unwrap());
        Some(Principal::new(at.to_string()).reading(patterns))
    }
}

impl Authenticator for Grants {
    fn authenticate<'a>(&'a self, token: Option<&'a Token>) -> AuthFuture<'a> {
        let at = token.unwrap().expose().parse().unwrap();
        let unknown = || AuthError::Invalid("nobody's".to_owned());
        Box::pin(std::future::ready(self.principal(at).ok_or_else(unknown)))
    }
}
