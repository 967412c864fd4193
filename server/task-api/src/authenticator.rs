//! Two authenticators as one.

use taskwatch_server::{AuthFuture, Authenticator, Jwt, Token, TokensFile};
use tokio::sync::watch;

/// Asks the one that a token is for: a token in three parts is a JSON Web Token, since those of
/// the tokens file have no dot.
#[derive(Debug)]
pub(crate) struct TokensOrJwt {
    tokens: TokensFile,
    jwt: Jwt,
    changed: watch::Receiver<()>,
}

impl TokensOrJwt {
    pub(crate) fn new(tokens: TokensFile, jwt: Jwt) -> Self {
        let (either, changed) = watch::channel(());
        let either = std::sync::Arc::new(either);
        for mut changes in [tokens.changes(), jwt.changes()].into_iter().flatten() {
            let either = either.clone();
            tokio::spawn(async move {
                while changes.changed().await.is_ok() {
                    either.send_replace(());
                }
            });
        }
        Self { tokens, jwt, changed }
    }
}

impl Authenticator for TokensOrJwt {
    fn authenticate<'a>(&'a self, token: Option<&'a Token>) -> AuthFuture<'a> {
        match token.map(|token| token.expose().matches('.').count()) {
            Some(2) => self.jwt.authenticate(token),
            _ => self.tokens.authenticate(token),
        }
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        Some(self.changed.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use taskwatch_server::{AuthError, JwtAlgorithm, JwtConfig, JwtKeys, TokenGrant};

    use super::*;

    #[tokio::test]
    async fn each_token_goes_to_whom_it_is_for_and_changes_come_from_both() {
        let dir = tempfile::TempDir::new().unwrap();
        let (tokens_path, key_path) = (dir.path().join("tokens"), dir.path().join("key"));
        let grant = || TokenGrant { id: "ana".to_owned(), ..TokenGrant::default() };
        let token = TokensFile::add(&tokens_path, grant()).unwrap();
        fs::write(&key_path, [1; 32]).unwrap();
        let keys = JwtKeys::Pinned { path: key_path.clone(), algorithm: JwtAlgorithm::Hs256 };
        let config = JwtConfig {
            keys,
            issuer: "i".to_owned(),
            audience: "a".to_owned(),
            claim: "c".to_owned(),
        };
        let both =
            TokensOrJwt::new(TokensFile::open(&tokens_path).unwrap(), Jwt::open(config).unwrap());
        let reason = async |token: &str| match both.authenticate(Some(&Token::new(token))).await {
            Err(AuthError::Invalid(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert!(both.authenticate(Some(&token)).await.is_ok());
        assert!(reason("tw_other").await.contains("tokens file"));
        assert!(!reason("a.b.c").await.contains("tokens file"));
        assert_eq!(both.authenticate(None).await, Err(AuthError::Missing));

        let mut changes = both.changes().unwrap();
        TokensFile::add(&tokens_path, grant()).unwrap();
        changes.changed().await.unwrap();
        fs::write(&key_path, [2; 32]).unwrap();
        changes.changed().await.unwrap();
    }
}
