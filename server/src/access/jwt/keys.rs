//! The keys of those who sign tokens: one in a file of its own, or a set of them.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

use crate::access::reloading::{FileError, warn_if_others_may};

/// A shorter secret can be found by trying.
const MIN_SECRET_BYTES: usize = 32;
/// 2,048 bits.
const MIN_RSA_BYTES: usize = 256;

/// Where the keys are that sign tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtKeys {
    /// One public key in PEM; for HS256 the secret itself, byte by byte.
    Pinned {
        /// Its file.
        path: PathBuf,
        /// The one algorithm it is for.
        algorithm: JwtAlgorithm,
    },
    /// A JSON Web Key Set. A key is chosen by the token's `kid`, and is for its own `alg`.
    Set {
        /// Its file.
        path: PathBuf,
    },
}

/// How tokens may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256: who can check tokens can make them too.
    Hs256,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// The text is none of the algorithms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of HS256, RS256, ES256 and EdDSA")]
pub struct InvalidAlgorithm(String);

impl FromStr for JwtAlgorithm {
    type Err = InvalidAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "HS256" => Self::Hs256,
            "RS256" => Self::Rs256,
            "ES256" => Self::Es256,
            "EdDSA" => Self::EdDsa,
            _ => return Err(InvalidAlgorithm(text.to_owned())),
        })
    }
}

impl From<JwtAlgorithm> for Algorithm {
    fn from(algorithm: JwtAlgorithm) -> Self {
        match algorithm {
            JwtAlgorithm::Hs256 => Self::HS256,
            JwtAlgorithm::Rs256 => Self::RS256,
            JwtAlgorithm::Es256 => Self::ES256,
            JwtAlgorithm::EdDsa => Self::EdDSA,
        }
    }
}

/// Keys as they were read.
#[derive(PartialEq)]
pub(super) enum Keys {
    One(Key),
    Set(Vec<(String, Key)>),
}

/// A key, for one algorithm.
pub(super) struct Key {
    pub(super) algorithm: JwtAlgorithm,
    pub(super) key: DecodingKey,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        use DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
        let same = match (self.key.kind(), other.key.kind()) {
            (SecretOrDer(ours), SecretOrDer(theirs)) => ours == theirs,
            (RsaModulusExponent { n, e }, RsaModulusExponent { n: n2, e: e2 }) => {
                (n, e) == (n2, e2)
            }
            _ => false,
        };
        same && self.algorithm == other.algorithm
    }
}

impl Keys {
    /// The key for a token. One key of its own is for all of them.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match self {
            Self::One(key) => Some(key),
            Self::Set(keys) => {
                let found = keys.iter().find(|(name, _)| Some(name.as_str()) == kid)?;
                Some(&found.1)
            }
        }
    }
}

impl JwtKeys {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Pinned { path, .. } | Self::Set { path } => path,
        }
    }

    /// Who can change the keys can make tokens; of a secret, who can read it.
    pub(super) fn warn_of_others(&self) {
        let is_secret = matches!(self, Self::Pinned { algorithm: JwtAlgorithm::Hs256, .. });
        warn_if_others_may(if is_secret { 0o066 } else { 0o022 }, self.path());
    }

    pub(super) fn parse(&self, file: &[u8]) -> Result<Keys, FileError> {
        let keys = match self {
            Self::Pinned { algorithm, .. } => pinned(*algorithm, file).map(Keys::One),
            Self::Set { .. } => set(file).map(Keys::Set),
        };
        keys.map_err(|reason| FileError::new(self.path(), reason))
    }
}

fn pinned(algorithm: JwtAlgorithm, file: &[u8]) -> Result<Key, String> {
    if algorithm == JwtAlgorithm::Hs256 {
        if file.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err("a key in PEM is no secret; HS256 takes random bytes".to_owned());
        }
        if file.len() < MIN_SECRET_BYTES {
            return Err(format!("a secret has at least {MIN_SECRET_BYTES} bytes"));
        }
        return Ok(Key { algorithm, key: DecodingKey::from_secret(file) });
    }
    let der = SubjectPublicKeyInfoDer::from_pem_slice(file)
        .map_err(|_| "has no PUBLIC KEY in PEM".to_owned())?;
    let key = match algorithm {
        JwtAlgorithm::Rs256 => DecodingKey::from_rsa_der(&der),
        JwtAlgorithm::Es256 => DecodingKey::from_ec_der(&der),
        JwtAlgorithm::EdDsa | JwtAlgorithm::Hs256 => DecodingKey::from_ed_der(&der),
    };
    checked(Key { algorithm, key })
}

/// A key that is not for its algorithm would refuse every token, without saying why.
fn checked(key: Key) -> Result<Key, String> {
    let verifies: &'static dyn VerificationAlgorithm = match key.algorithm {
        JwtAlgorithm::Hs256 => return Ok(key),
        JwtAlgorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        JwtAlgorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        JwtAlgorithm::EdDsa => &ED25519,
    };
    let fits = match key.key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => ParsedPublicKey::new(verifies, bytes).is_ok(),
        DecodingKeyKind::RsaModulusExponent { n, .. } => {
            n.iter().skip_while(|&&byte| byte == 0).count() >= MIN_RSA_BYTES
        }
    };
    if fits { Ok(key) } else { Err(format!("has no key for {:?}", Algorithm::from(key.algorithm))) }
}

fn set(file: &[u8]) -> Result<Vec<(String, Key)>, String> {
    let set: JwkSet =
        serde_json::from_slice(file).map_err(|error| format!("is no JSON Web Key Set: {error}"))?;
    let mut keys: Vec<(String, Key)> = Vec::new();
    for (number, jwk) in set.keys.iter().enumerate() {
        if jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
            continue;
        }
        let number = number + 1;
        let kid = jwk.common.key_id.clone().ok_or_else(|| format!("key {number} has no kid"))?;
        if keys.iter().any(|(other, _)| *other == kid) {
            return Err(format!("key {number}: another has the kid {kid:?} too"));
        }
        let wrong = |problem: String| format!("key {number} ({kid:?}): {problem}");
        let key = member(jwk).map_err(wrong)?;
        keys.push((kid, key));
    }
    if keys.is_empty() { Err("has no key that signs".to_owned()) } else { Ok(keys) }
}

fn member(jwk: &Jwk) -> Result<Key, String> {
    let only = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => None,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Some(JwtAlgorithm::Es256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Some(JwtAlgorithm::EdDsa)
        }
        AlgorithmParameters::OctetKey(_) => {
            return Err("a set is for public keys; a secret has a file of its own".to_owned());
        }
        _ => return Err("is of a kind that is not known here".to_owned()),
    };
    let algorithm = match (jwk.common.key_algorithm, only) {
        (None, Some(only)) => only,
        (None, None) => return Err("has no alg, and an RSA key could have several".to_owned()),
        (Some(KeyAlgorithm::RS256), None) => JwtAlgorithm::Rs256,
        (Some(KeyAlgorithm::ES256), Some(only @ JwtAlgorithm::Es256)) => only,
        (Some(KeyAlgorithm::EdDSA), Some(only @ JwtAlgorithm::EdDsa)) => only,
        (Some(other), _) => {
            return Err(format!("its alg {other} is not for a key of its kind here"));
        }
    };
    let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
    checked(Key { algorithm, key })
}
