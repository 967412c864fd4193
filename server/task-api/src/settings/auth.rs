//! How the server knows who makes a request.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use taskwatch_server::{
    Anonymous, Authenticator, FileError, Jwt, JwtAlgorithm, JwtConfig, JwtKeys, TokensFile,
};

use super::InvalidSettings;
use crate::authenticator::TokensOrJwt;

/// The claim that says what may be done, if nothing else is said.
const DEFAULT_CLAIM: &str = "taskwatch";

/// Who may do what.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Authentication")]
pub struct AuthSettings {
    /// File with the hashes of tokens; `taskwatchd token new` adds to it. Read again when it changes
    #[arg(long, env = "TASKWATCH_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,

    /// File with the key of who signs JSON Web Tokens: a public key in PEM, or a secret for HS256.
    /// Read again when it changes
    #[arg(long, env = "TASKWATCH_JWT_KEY", value_name = "FILE")]
    pub jwt_key: Option<PathBuf>,

    /// The one algorithm of that key: HS256, RS256, ES256 or EdDSA
    #[arg(long, env = "TASKWATCH_JWT_ALGORITHM", value_name = "ALG")]
    pub jwt_algorithm: Option<JwtAlgorithm>,

    /// File with a set of such keys (JWKS), instead of one; each is for its own algorithm
    #[arg(long, env = "TASKWATCH_JWT_JWKS", value_name = "FILE")]
    pub jwt_jwks: Option<PathBuf>,

    /// What `iss` of a JSON Web Token must be
    #[arg(long, env = "TASKWATCH_JWT_ISSUER", value_name = "TEXT")]
    pub jwt_issuer: Option<String>,

    /// What must be in `aud`
    #[arg(long, env = "TASKWATCH_JWT_AUDIENCE", value_name = "TEXT")]
    pub jwt_audience: Option<String>,

    /// The claim that says what may be done
    #[arg(long, env = "TASKWATCH_JWT_CLAIM", value_name = "NAME", default_value = DEFAULT_CLAIM)]
    pub jwt_claim: String,

    /// Serve everybody although others than this machine can reach the server
    #[arg(long, env = "TASKWATCH_ANONYMOUS")]
    pub anonymous: bool,
}

impl AuthSettings {
    /// Whether whoever makes a request is asked who they are.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.tokens.is_some() || self.jwt_key.is_some() || self.jwt_jwks.is_some()
    }

    pub(super) fn check(&self, is_private: bool) -> Result<(), InvalidSettings> {
        match (self.asks(), self.anonymous) {
            (true, true) => Err(InvalidSettings::AnonymousAndMore),
            (false, false) if !is_private => Err(InvalidSettings::NotPrivate),
            _ => self.check_jwt().map_err(InvalidSettings::Jwt),
        }
    }

    /// Not left to clap, which does not count what the file says as given.
    fn check_jwt(&self) -> Result<(), &'static str> {
        let is_checked = self.jwt_issuer.is_some() && self.jwt_audience.is_some();
        match (self.jwt_key.is_some(), self.jwt_jwks.is_some(), self.jwt_algorithm.is_some()) {
            (true, true, _) => Err("give --jwt-key or --jwt-jwks, not both"),
            (true, _, false) => Err("--jwt-key needs --jwt-algorithm"),
            (_, true, true) => {
                Err("leave out --jwt-algorithm: each key of --jwt-jwks is for its own")
            }
            (true, ..) | (_, true, _) if !is_checked => {
                Err("--jwt-key and --jwt-jwks need --jwt-issuer and --jwt-audience")
            }
            (false, false, has_algorithm) => {
                let has_more = self.jwt_issuer.is_some() || self.jwt_audience.is_some();
                if has_algorithm || has_more || self.jwt_claim != DEFAULT_CLAIM {
                    return Err("give --jwt-key or --jwt-jwks, or leave out the other --jwt-…");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads the files.
    pub(crate) fn authenticator(&self) -> Result<Arc<dyn Authenticator>, FileError> {
        let tokens = self.tokens.as_ref().map(TokensFile::open).transpose()?;
        let jwt = self.jwt().map(Jwt::open).transpose()?;
        Ok(match (tokens, jwt) {
            (Some(tokens), Some(jwt)) => Arc::new(TokensOrJwt::new(tokens, jwt)),
            (Some(tokens), None) => Arc::new(tokens),
            (None, Some(jwt)) => Arc::new(jwt),
            (None, None) => Arc::new(Anonymous),
        })
    }

    /// What was checked: with keys there is everything else.
    fn jwt(&self) -> Option<JwtConfig> {
        let keys = match (self.jwt_key.clone(), self.jwt_jwks.clone()) {
            (Some(path), _) => JwtKeys::Pinned { path, algorithm: self.jwt_algorithm? },
            (None, path) => JwtKeys::Set { path: path? },
        };
        Some(JwtConfig {
            keys,
            issuer: self.jwt_issuer.clone()?,
            audience: self.jwt_audience.clone()?,
            claim: self.jwt_claim.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::Settings;

    #[test]
    fn what_is_asked_of_a_jwt_is_given_as_a_whole() {
        let parse = |flags: &str| {
            Settings::try_parse_from(["taskwatchd"].into_iter().chain(flags.split_whitespace()))
        };
        for good in [
            "--jwt-key k --jwt-algorithm RS256 --jwt-issuer i --jwt-audience a",
            "--jwt-jwks k --jwt-issuer i --jwt-audience a --jwt-claim c",
        ] {
            let settings = parse(good).unwrap();
            assert!(settings.auth.asks() && settings.auth.jwt().is_some(), "{good}");
            assert!(settings.access().is_ok(), "{good}");
        }
        for bad in [
            "--jwt-key k --jwt-issuer i --jwt-audience a",
            "--jwt-key k --jwt-algorithm RS256 --jwt-audience a",
            "--jwt-key k --jwt-algorithm RS256 --jwt-issuer i",
            "--jwt-jwks k --jwt-issuer i",
            "--jwt-jwks k --jwt-algorithm RS256 --jwt-issuer i --jwt-audience a",
            "--jwt-jwks k --jwt-key k --jwt-algorithm RS256 --jwt-issuer i --jwt-audience a",
            "--jwt-issuer i",
            "--jwt-audience a",
            "--jwt-algorithm RS256",
            "--jwt-claim c",
        ] {
            assert!(parse(bad).is_ok_and(|settings| settings.access().is_err()), "{bad}");
        }
        assert!(parse("--jwt-algorithm none").is_err());
    }
}
