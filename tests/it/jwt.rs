//! Tokens that somebody else has signed, and those that somebody would like to have signed.

use std::fmt::Write as _;
use std::fs;
use std::time::SystemTime;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use taskwatch_tests::{Daemon, RawClient, Rest};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Error;

/// Whoever has it issues tokens.
struct Issuer(RsaKeyPair);

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()))
}

impl Issuer {
    fn new() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }

    fn pem(&self) -> String {
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        for line in BASE64_STANDARD.encode(self.der()).as_bytes().chunks(64) {
            writeln!(pem, "{}", str::from_utf8(line).unwrap()).unwrap();
        }
        pem + "-----END PUBLIC KEY-----\n"
    }

    fn jwk(&self, kid: &str) -> Value {
        let (n, e) = (self.0.public_key().modulus(), self.0.public_key().exponent());
        let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": base64url(n), "e": base64url(e)})
    }

    fn sign_as(
        &self,
        encoding: &'static dyn RsaEncoding,
        header: &Value,
        claims: &Value,
    ) -> String {
        let message = message(header, claims);
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", base64url(signature))
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_as(&RSA_PKCS1_SHA256, header, claims)
    }
}

fn with_secret(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = message(header, claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{message}.{}", base64url(hmac::sign(&key, message.as_bytes())))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn good() -> Value {
    json!({
        "iss": "https://issuer.example", "aud": "taskwatch", "sub": "ana", "exp": now() + 600,
        "taskwatch": {"read": ["a"], "write": ["a"]},
    })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name).unwrap();
    object
}

const ISSUED: [&str; 4] = ["--jwt-issuer", "https://issuer.example", "--jwt-audience", "taskwatch"];

/// The statuses of a request and of an upgrade with this token.
async fn statuses(server: &Daemon, token: &str) -> (u16, u16) {
    let bearer = format!("Bearer {token}");
    let request = Rest::new(server.url()).request("GET", "/api/v1/tasks?repository=a");
    let answer = request.header("Authorization", &bearer).send().await.unwrap();
    let status = answer.status().as_u16();
    if status == 401 {
        assert_eq!(answer.headers()["www-authenticate"], "Bearer error=\"invalid_token\"");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "unauthorized");
    }
    let headers = [("X-Version", "1"), ("Authorization", &*bearer)];
    let upgrade = match RawClient::try_connect(server.url(), "/ws?repo=a", &headers).await {
        Ok(_) => 101,
        Err(error) => match *error {
            Error::Http(refused) => refused.status().as_u16(),
            other => panic!("{other}"),
        },
    };
    (status, upgrade)
}

/// Starts a server, and holds it against tokens that are good and tokens that are not.
async fn judge(args: &[&str], good: &[String], forged: &[(&str, String)]) {
    let dir = TempDir::new().unwrap();
    let args = [args, &ISSUED].concat();
    let server = Daemon::start_with(dir.path(), "127.0.0.1:0", &args).await;
    for token in good {
        assert_eq!(statuses(&server, token).await, (200, 101));
    }
    for (what, token) in forged {
        assert_eq!(statuses(&server, token).await, (401, 401), "{what}");
    }
}

#[tokio::test]
async fn forged_and_stale_tokens_are_refused_by_every_door() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let dir = TempDir::new().unwrap();
    let key = dir.path().join("key.pem");
    fs::write(&key, issuer.pem()).unwrap();
    let rs256 = json!({"alg": "RS256", "typ": "JWT"});
    let named = |alg: &str| json!({"alg": alg, "typ": "JWT"});
    let issued = issuer.sign(&rs256, &good());
    let (unsigned, signature) = issued.rsplit_once('.').unwrap();
    let (header, _) = unsigned.split_once('.').unwrap();
    let more = base64url(with(good(), "taskwatch", json!({"read": ["*"]})).to_string());
    let stranger_jwk = with(rs256.clone(), "jwk", stranger.jwk("x"));
    let stranger_jku = with(rs256.clone(), "jku", json!("http://127.0.0.1:9/keys"));
    let critical = with(with(rs256.clone(), "crit", json!(["x"])), "x", json!(1));
    let signed = |claims: Value| issuer.sign(&rs256, &claims);
    let forged = [
        ("alg none, no signature", format!("{}.", message(&named("none"), &good()))),
        ("alg None, a signature", issuer.sign(&named("None"), &good())),
        ("alg nOnE", format!("{}.{signature}", message(&named("nOnE"), &good()))),
        ("another key", stranger.sign(&rs256, &good())),
        (
            "HS256 with the public key in PEM",
            with_secret(issuer.pem().as_bytes(), &named("HS256"), &good()),
        ),
        ("HS256 with the public key in DER", with_secret(&issuer.der(), &named("HS256"), &good())),
        ("an HMAC that says RS256", with_secret(issuer.pem().as_bytes(), &rs256, &good())),
        (
            "another algorithm of the key",
            issuer.sign_as(&RSA_PKCS1_SHA512, &named("RS512"), &good()),
        ),
        ("another algorithm in the header", issuer.sign(&named("ES256"), &good())),
        ("no alg", issuer.sign(&json!({"typ": "JWT"}), &good())),
        ("no aud", signed(without(good(), "aud"))),
        ("another aud", signed(with(good(), "aud", json!(["other"])))),
        ("no exp", signed(without(good(), "exp"))),
        ("expired", signed(with(good(), "exp", json!(now() - 30)))),
        ("no iss", signed(without(good(), "iss"))),
        ("another iss", signed(with(good(), "iss", json!("https://issuer.example.evil")))),
        ("no sub", signed(without(good(), "sub"))),
        ("not yet", signed(with(good(), "nbf", json!(now() + 600)))),
        ("no claim of ours", signed(without(good(), "taskwatch"))),
        ("a pattern that is none", signed(with(good(), "taskwatch", json!({"read": ["a*"]})))),
        ("another payload", format!("{header}.{more}.{signature}")),
        ("half a signature", format!("{unsigned}.{}", &signature[..signature.len() / 2])),
        ("no signature", format!("{unsigned}.")),
        ("two parts", unsigned.to_owned()),
        ("four parts", format!("{issued}.{signature}")),
        ("a critical header", issuer.sign(&critical, &good())),
        ("a key in the header", stranger.sign(&stranger_jwk, &good())),
        ("an address of keys in the header", stranger.sign(&stranger_jku, &good())),
    ];
    let args = ["--jwt-key", key.to_str().unwrap(), "--jwt-algorithm", "RS256"];
    judge(&args, std::slice::from_ref(&issued), &forged).await;
}

#[tokio::test]
async fn in_a_set_each_key_is_for_its_own_name() {
    let (one, two) = (Issuer::new(), Issuer::new());
    let dir = TempDir::new().unwrap();
    let keys = dir.path().join("keys.json");
    fs::write(&keys, json!({"keys": [one.jwk("one"), two.jwk("two")]}).to_string()).unwrap();
    let named = |kid: &str| json!({"alg": "RS256", "kid": kid});
    let issued = [one.sign(&named("one"), &good()), two.sign(&named("two"), &good())];
    let forged = [
        ("the name of another key", one.sign(&named("two"), &good())),
        ("a name of no key", one.sign(&named("three"), &good())),
        ("no name", one.sign(&json!({"alg": "RS256"}), &good())),
        (
            "the set as a secret",
            with_secret(&one.der(), &json!({"alg": "HS256", "kid": "one"}), &good()),
        ),
    ];
    judge(&["--jwt-jwks", keys.to_str().unwrap()], &issued, &forged).await;
}

#[tokio::test]
async fn a_key_that_is_replaced_ends_what_the_old_one_signed() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let dir = TempDir::new().unwrap();
    let (key, beside) = (dir.path().join("key.pem"), dir.path().join("new.pem"));
    fs::write(&key, old.pem()).unwrap();
    let args = ["--jwt-key", key.to_str().unwrap(), "--jwt-algorithm", "RS256"];
    let args = [&args[..], &ISSUED].concat();
    let server = Daemon::start_with(dir.path(), "127.0.0.1:0", &args).await;
    let rs256 = json!({"alg": "RS256"});
    let bearer = format!("Bearer {}", old.sign(&rs256, &good()));
    let headers = [("X-Version", "1"), ("Authorization", &*bearer)];
    let mut watcher = RawClient::try_connect(server.url(), "/ws?repo=a", &headers).await.unwrap();

    fs::write(&beside, new.pem()).unwrap();
    fs::rename(&beside, &key).unwrap();
    let close = loop {
        if let Err(close) = watcher.try_next().await {
            break close.unwrap();
        }
    };
    assert_eq!(u16::from(close.code), 4001);
    assert_eq!(statuses(&server, &new.sign(&rs256, &good())).await, (200, 101));
    assert_eq!(statuses(&server, &old.sign(&rs256, &good())).await, (401, 401));
}
