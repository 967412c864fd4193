//! What becomes of a request that may have come before: plain data in, the kept answer or a
//! refusal out. No clock, no store.

use std::time::Duration;

use sha2::{Digest, Sha256};
use taskwatch_protocol::Timestamp;
use taskwatch_server::Principal;

use crate::change::Refusal;

/// How long an answer is kept, by the time of the log.
const KEEP: Duration = Duration::from_hours(24);
const MAX_KEY_BYTES: usize = 255;

/// The name a client gives to a request, so that it can send it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Idempotency-Key has 1 to {MAX_KEY_BYTES} visible ASCII characters")]
pub(crate) struct InvalidKey;

impl TryFrom<&[u8]> for IdempotencyKey {
    type Error = InvalidKey;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let fits = (1..=MAX_KEY_BYTES).contains(&bytes.len());
        if !fits || !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidKey);
        }
        Ok(Self(bytes.iter().copied().map(char::from).collect()))
    }
}

impl IdempotencyKey {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tells a request from others with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) [u8; 32]);

impl Fingerprint {
    /// Neither a method nor a path holds a line break, so no two requests hash the same bytes.
    pub(crate) fn of(method: &str, path: &str, content: &[u8]) -> Self {
        let head = Sha256::new().chain_update(method).chain_update("\n").chain_update(path);
        Self(head.chain_update("\n").chain_update(content).finalize().into())
    }
}

/// A request that is carried out once, however often it comes.
#[derive(Clone, Debug)]
pub(crate) struct Once {
    /// Whose key it is: the keys of others are others.
    pub(crate) principal: String,
    pub(crate) key: IdempotencyKey,
    pub(crate) fingerprint: Fingerprint,
}

/// The answer to a request that was carried out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept<A> {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) at: Timestamp,
    pub(crate) answer: A,
}

/// Whose keys they are that nobody in particular brings, whichever way they come.
const ANYBODY: &str = "api";

impl Once {
    /// A request of a principal.
    pub(crate) fn new(
        principal: &Principal,
        key: IdempotencyKey,
        fingerprint: Fingerprint,
    ) -> Self {
        let principal = principal.subject().unwrap_or(ANYBODY).to_owned();
        Self { principal, key, fingerprint }
    }

    /// What was answered, if the request came before. `kept` is what its key was used for last.
    pub(crate) fn recall<A>(
        &self,
        kept: Option<Kept<A>>,
        now: Timestamp,
    ) -> Result<Option<A>, Refusal> {
        match kept {
            Some(kept) if kept.at < kept_since(now) => Ok(None),
            Some(kept) if kept.fingerprint != self.fingerprint => Err(Refusal::KeyOfAnother),
            kept => Ok(kept.map(|kept| kept.answer)),
        }
    }
}

/// Answers from before this time have had their day.
pub(crate) fn kept_since(now: Timestamp) -> Timestamp {
    let keep = i64::try_from(KEEP.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_unix_millis(now.unix_millis().saturating_sub(keep))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_700_000_000_000;
    const DAY: i64 = 86_400_000;

    #[test]
    fn a_key_is_visible_ascii_of_some_length() {
        let longest = "k".repeat(255);
        for key in ["k", "!~", "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", &longest] {
            assert_eq!(IdempotencyKey::try_from(key.as_bytes()).unwrap().as_str(), key);
        }
        let too_long = "k".repeat(256);
        for key in ["", " ", "a b", "a\tb", "\u{7f}", "kü", &too_long] {
            assert_eq!(IdempotencyKey::try_from(key.as_bytes()), Err(InvalidKey), "{key:?}");
        }
        assert_eq!(IdempotencyKey::try_from(&b"\xff"[..]), Err(InvalidKey));
    }

    #[test]
    fn each_part_of_a_request_tells_it_from_others() {
        let one = Fingerprint::of("POST", "/a", b"x");
        assert_eq!(one, Fingerprint::of("POST", "/a", b"x"));
        for (method, path, content) in
            [("PATCH", "/a", "x"), ("POST", "/b", "x"), ("POST", "/a", "y"), ("POST", "/a\nx", "")]
        {
            assert_ne!(one, Fingerprint::of(method, path, content.as_bytes()));
        }
        let hex: String = one.0.iter().map(|byte| format!("{byte:02x}")).collect();
        // printf 'POST\n/a\nx' | sha256sum
        assert_eq!(hex, "6fa5b44a88354cadf909fc8c21f5b320c909f1e274b1fd40b0e3bb3078615753");
    }

    #[test]
    fn an_answer_is_given_again_for_a_day_and_to_the_same_request_alone() {
        let once = Once {
            principal: "api".into(),
            key: IdempotencyKey::try_from(&b"k"[..]).unwrap(),
            fingerprint: Fingerprint([1; 32]),
        };
        let recall = |fingerprint: u8, age: i64| {
            let (fingerprint, at) =
                (Fingerprint([fingerprint; 32]), Timestamp::from_unix_millis(AT));
            let kept = Kept { fingerprint, at, answer: "it" };
            once.recall(Some(kept), Timestamp::from_unix_millis(AT + age))
        };
        assert_eq!(once.recall(None::<Kept<&str>>, Timestamp::from_unix_millis(AT)), Ok(None));
        assert_eq!(recall(1, 0), Ok(Some("it")));
        assert_eq!(recall(2, 0), Err(Refusal::KeyOfAnother));
        assert_eq!(recall(1, DAY), Ok(Some("it")));
        assert_eq!(recall(2, DAY), Err(Refusal::KeyOfAnother));
        assert_eq!(recall(1, DAY + 1), Ok(None));
        assert_eq!(recall(2, DAY + 1), Ok(None));
        // A clock that was set back.
        assert_eq!(recall(1, -DAY), Ok(Some("it")));
    }
}
