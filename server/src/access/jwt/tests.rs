//! What is asked of a token, and of a file of keys. Forged tokens over real connections are in
//! `tests/it`.

use std::path::PathBuf;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;

const SECRET: &[u8] = b"a secret of at least 32 bytes, as is asked for";

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn claims() -> Value {
    let seconds = now().wall.unix_millis() / 1_000;
    json!({
        "iss": "issuer", "aud": "us", "sub": "ana", "exp": seconds + 60,
        "taskwatch": {"read": ["a", "b/*"], "write": ["a"], "metrics": true, "operate": true},
    })
}

fn sign(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> Token {
    let message = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
    let signature = base64url(sign(message.as_bytes()));
    Token::new(format!("{message}.{signature}"))
}

fn with_secret(header: &Value, claims: &Value) -> Token {
    use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign as hmac};
    let key = Key::new(HMAC_SHA256, SECRET);
    sign(header, claims, |message| hmac(&key, message).as_ref().to_vec())
}

fn jwt(keys: JwtKeys, file: &[u8]) -> Result<Jwt, String> {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("keys");
    std::fs::write(&path, file).unwrap();
    let keys = Reloading::read([path], move |files| keys.parse(&files[0]));
    let keys = Arc::new(keys.map_err(|error| error.to_string())?);
    let (issuer, audience, claim) = ("issuer".into(), "us".into(), "taskwatch".into());
    Ok(Jwt { keys, issuer, audience, claim })
}

fn pinned(algorithm: JwtAlgorithm) -> JwtKeys {
    JwtKeys::Pinned { path: PathBuf::from("key"), algorithm }
}

fn secret() -> Jwt {
    jwt(pinned(JwtAlgorithm::Hs256), SECRET).unwrap()
}

fn set(keys: &[Value]) -> Result<Jwt, String> {
    let file = json!({ "keys": keys }).to_string();
    jwt(JwtKeys::Set { path: PathBuf::from("keys") }, file.as_bytes())
}

fn pem(der: &[u8]) -> String {
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(der)
    )
}

type Sign = dyn Fn(&[u8]) -> Vec<u8>;

/// Something that signs, its public key in PEM, and as a member of a set.
struct Signer {
    algorithm: JwtAlgorithm,
    sign: Box<Sign>,
    pem: String,
    jwk: Value,
}

fn signers() -> [Signer; 3] {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let (n, e) = (rsa.public_key().modulus(), rsa.public_key().exponent());
    let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
    let rsa_jwk = json!({"kty": "RSA", "alg": "RS256", "n": base64url(n), "e": base64url(e)});
    let rsa_der: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let rsa_pem = pem(rsa_der.as_ref());
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let (x, y) = ec.public_key().as_ref()[1..].split_at(32);
    let ec_jwk = json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)});
    let ec_der: PublicKeyX509Der<'_> = ec.public_key().as_der().unwrap();
    let ec_pem = pem(ec_der.as_ref());
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(ed.public_key())});
    let ed_der: PublicKeyX509Der<'_> = ed.public_key().as_der().unwrap();
    let ed_pem = pem(ed_der.as_ref());
    let random = SystemRandom::new;
    [
        Signer {
            algorithm: JwtAlgorithm::Rs256,
            sign: Box::new(move |message| {
                let mut signature = vec![0; rsa.public_modulus_len()];
                rsa.sign(&RSA_PKCS1_SHA256, &random(), message, &mut signature).unwrap();
                signature
            }),
            pem: rsa_pem,
            jwk: rsa_jwk,
        },
        Signer {
            algorithm: JwtAlgorithm::Es256,
            sign: Box::new(move |message| ec.sign(&random(), message).unwrap().as_ref().to_vec()),
            pem: ec_pem,
            jwk: ec_jwk,
        },
        Signer {
            algorithm: JwtAlgorithm::EdDsa,
            sign: Box::new(move |message| ed.sign(message).as_ref().to_vec()),
            pem: ed_pem,
            jwk: ed_jwk,
        },
    ]
}

impl Signer {
    fn header(&self, kid: &str) -> Value {
        json!({"alg": format!("{:?}", jsonwebtoken::Algorithm::from(self.algorithm)), "kid": kid})
    }

    fn token(&self, kid: &str) -> Token {
        sign(&self.header(kid), &claims(), &self.sign)
    }

    fn member(&self, kid: &str) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = kid.into();
        jwk
    }
}

#[test]
fn a_good_token_says_who_it_is_and_what_they_may_do() {
    let claims = claims();
    let principal = secret().identify(Some(&with_secret(&json!({"alg": "HS256"}), &claims)));
    let principal = principal.unwrap();
    assert_eq!(principal.subject(), Some("ana"));
    let may = |name: &str| {
        (principal.may_read(&name.parse().unwrap()), principal.may_write(&name.parse().unwrap()))
    };
    assert_eq!((may("a"), may("b/c"), may("c")), ((true, true), (true, false), (false, false)));
    assert!(principal.may_read_metrics() && principal.may_operate());
    let expires = principal.expires().unwrap().unix_millis();
    assert_eq!(expires, claims["exp"].as_i64().unwrap() * 1_000);
}

#[test]
fn each_algorithm_and_each_kind_of_file_is_known_and_no_key_is_taken_for_another() {
    let signers = signers();
    let names = ["one", "two", "three"];
    let members: Vec<_> =
        signers.iter().zip(names).map(|(signer, name)| signer.member(name)).collect();
    let all = set(&members).unwrap();
    for (signer, name) in signers.iter().zip(names) {
        let one = jwt(pinned(signer.algorithm), signer.pem.as_bytes()).unwrap();
        assert!(one.identify(Some(&signer.token("whatever"))).is_ok(), "{name}");
        assert!(all.identify(Some(&signer.token(name))).is_ok(), "{name}");
        assert!(all.identify(Some(&signer.token("unknown"))).is_err(), "{name}");
        let no_kid = sign(&json!({"alg": signer.header("")["alg"]}), &claims(), &signer.sign);
        assert!(all.identify(Some(&no_kid)).is_err(), "{name}");
        for other in signers.iter().filter(|other| other.algorithm != signer.algorithm) {
            assert!(one.identify(Some(&other.token(name))).is_err(), "{name}");
            assert!(all.identify(Some(&other.token(name))).is_err(), "{name}");
            // The header of one, signed by the other.
            let mixed = sign(&signer.header(name), &claims(), &other.sign);
            assert!(one.identify(Some(&mixed)).is_err(), "{name}");
            assert!(jwt(pinned(other.algorithm), signer.pem.as_bytes()).is_err(), "{name}");
        }
    }
}

#[test]
fn what_is_not_asked_for_or_missing_is_refused() {
    let jwt = secret();
    let plain = json!({"alg": "HS256"});
    let now = now().wall.unix_millis() / 1_000;
    for (name, value) in [
        ("iss", Value::Null),
        ("iss", json!("other")),
        ("iss", json!(["issuer", "other"])),
        ("aud", Value::Null),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!("x".repeat(129))),
        ("sub", json!("a\u{1b}[0m")),
        ("exp", Value::Null),
        ("exp", json!("tomorrow")),
        ("exp", json!(now - 1)),
        ("exp", json!(-1)),
        ("nbf", json!(now + 60)),
        ("nbf", json!("tomorrow")),
        ("taskwatch", Value::Null),
        ("taskwatch", json!("*")),
        ("taskwatch", json!({"read": "*"})),
        ("taskwatch", json!({"read": ["a*"]})),
        ("taskwatch", json!({"write": ["a", "b c"]})),
        ("taskwatch", json!({"reads": ["*"]})),
    ] {
        let mut claims = claims();
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
        let identified = jwt.identify(Some(&with_secret(&plain, &claims)));
        assert!(identified.is_err(), "{name} {value}: {identified:?}");
    }
    let mut long = claims();
    long["aud"] = json!(["other", "us"]);
    long["nbf"] = json!(now + 5);
    assert!(jwt.identify(Some(&with_secret(&plain, &long))).is_ok());
    long["exp"] = json!(now - 60);
    assert_eq!(jwt.identify(Some(&with_secret(&plain, &long))), Err(AuthError::Expired));
    assert_eq!(jwt.identify(None), Err(AuthError::Missing));
    let critical = json!({"alg": "HS256", "crit": ["exp"]});
    assert!(jwt.identify(Some(&with_secret(&critical, &claims()))).is_err());
    for other in ["none", "None", "HS384", "RS256"] {
        let header = json!({ "alg": other });
        assert!(jwt.identify(Some(&with_secret(&header, &claims()))).is_err(), "{other}");
    }
    for broken in ["", ".", "..", "a.b.c", "a.b.c.d"] {
        assert!(jwt.identify(Some(&Token::new(broken))).is_err(), "{broken}");
    }
}

#[test]
fn a_key_that_cannot_be_used_is_refused_with_the_reason() {
    let signers = signers();
    let refused = |algorithm, file: &[u8]| jwt(pinned(algorithm), file).unwrap_err();
    assert!(refused(JwtAlgorithm::Hs256, b"short").contains("at least 32 bytes"));
    assert!(refused(JwtAlgorithm::Hs256, signers[0].pem.as_bytes()).contains("no secret"));
    assert!(refused(JwtAlgorithm::Rs256, SECRET).contains("no PUBLIC KEY"));
    assert!(refused(JwtAlgorithm::Rs256, pem(b"x").as_bytes()).contains("no key for RS256"));

    let (rsa, ec) = (signers[0].member("a"), signers[1].member("b"));
    let with = |jwk: &Value, name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    let small = base64url([0xff; 128]);
    for (keys, reason) in [
        (vec![], "no key that signs"),
        (vec![with(&ec, "use", json!("enc"))], "no key that signs"),
        (vec![signers[1].jwk.clone()], "has no kid"),
        (vec![rsa.clone(), rsa.clone()], "too"),
        (vec![with(&rsa, "alg", Value::Null)], "has no alg"),
        (vec![with(&rsa, "alg", json!("PS256"))], "PS256"),
        (vec![with(&rsa, "alg", json!("ES256"))], "ES256"),
        (vec![with(&ec, "alg", json!("HS256"))], "HS256"),
        (vec![with(&ec, "crv", json!("P-384"))], "not known"),
        (vec![with(&ec, "x", json!("AAAA"))], "no key for ES256"),
        (vec![with(&rsa, "n", json!(small))], "no key for RS256"),
        (vec![json!({"kty": "oct", "kid": "c", "k": small})], "public keys"),
        (vec![json!({"kty": "oct", "kid": "c", "alg": "HS256", "k": small})], "public keys"),
    ] {
        let error = set(&keys).unwrap_err();
        assert!(error.contains(reason), "{keys:?}: {error}");
    }
    assert!(jwt(JwtKeys::Set { path: PathBuf::new() }, b"{}").is_err());
    assert!("RS384".parse::<JwtAlgorithm>().is_err());
}
