//! Why a connection ended, and whether to come back.

use std::fmt;
use std::time::Duration;

/// What the receiver of a close code should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Coming back cannot help.
    Stop,
    /// Come back after backing off, and not before `at_least` has passed.
    BackOff {
        /// The shortest wait.
        at_least: Duration,
    },
    /// Come back at once and resume.
    AtOnce,
}

const BACK_OFF: Advice = Advice::BackOff { at_least: Duration::ZERO };

const fn back_off(seconds: u64) -> Advice {
    Advice::BackOff { at_least: Duration::from_secs(seconds) }
}

/// Declares the registry: one list makes the enum, its numbers, words, meanings and advice.
macro_rules! close_codes {
    ($( $variant:ident = $code:literal, $word:literal, $meaning:literal, $advice:expr; )+) => {
        /// Why a connection ended. The range says what to do, so that an old client obeys a code
        /// it does not know: 4000–4099 stop, 4100–4199 back off, 4200–4299 come back at once.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseCode {
            $( #[doc = $meaning] $variant, )+
            /// A code this version does not know.
            Other(u16),
        }

        impl CloseCode {
            /// Every code this version knows.
            pub const KNOWN: &'static [Self] = &[$( Self::$variant, )+];

            /// The number on the wire.
            #[must_use]
            pub fn code(self) -> u16 {
                match self {
                    $( Self::$variant => $code, )+
                    Self::Other(code) => code,
                }
            }

            /// The short word sent as the reason; empty for an unknown code.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                    Self::Other(_) => "",
                }
            }

            /// One line for a person; empty for an unknown code.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $( Self::$variant => $meaning, )+
                    Self::Other(_) => "",
                }
            }

            /// Whether to come back, and when.
            #[must_use]
            pub fn advice(self) -> Advice {
                match self {
                    $( Self::$variant => $advice, )+
                    Self::Other(4000..=4099) => Advice::Stop,
                    Self::Other(4200..=4299) => Advice::AtOnce,
                    Self::Other(_) => BACK_OFF,
                }
            }
        }

        impl From<u16> for CloseCode {
            fn from(code: u16) -> Self {
                match code {
                    $( $code => Self::$variant, )+
                    other => Self::Other(other),
                }
            }
        }
    };
}

close_codes! {
    Bye = 1000, "bye", "The client asked to close.", Advice::Stop;
    GoingAway = 1001, "going_away", "The page or process leaves.", BACK_OFF;
    Protocol = 1002, "protocol", "The peer broke the WebSocket protocol.", Advice::Stop;
    Binary = 1003, "binary", "A binary message came; frames are text.", Advice::Stop;
    Utf8 = 1007, "utf8", "A text message was not UTF-8.", Advice::Stop;
    Policy = 1008, "policy", "Never sent by this server; too vague to act on.", Advice::Stop;
    TooBig = 1009, "too_big", "A message was larger than allowed.", Advice::Stop;
    Internal = 1011, "internal", "A fault of the server.", BACK_OFF;
    Restart = 1012, "restart", "The server restarts or drains; resume there or at another.", BACK_OFF;
    Overload = 1013, "overload", "The server sheds load.", back_off(5);
    BadMessage = 4000, "bad_message", "Too many messages that could not be read.", Advice::Stop;
    Unauthorized = 4001, "unauthorized", "The token is missing or not valid.", Advice::Stop;
    Forbidden = 4003, "forbidden", "The principal is disabled.", Advice::Stop;
    Version = 4004, "version", "The protocol version is not served.", Advice::Stop;
    ConnectionLimit = 4009, "connection_limit", "The principal has too many connections.", Advice::Stop;
    Slow = 4100, "slow", "The peer took too little for the write timeout.", BACK_OFF;
    NoPong = 4101, "no_pong", "Nothing came from the peer for too long.", BACK_OFF;
    Unavailable = 4102, "unavailable", "The server cannot read its log.", BACK_OFF;
    RateLimited = 4103, "rate_limited", "The peer sent too much, too fast.", back_off(10);
    TokenExpired = 4200, "token_expired", "The token ran out; come back with a new one.", Advice::AtOnce;
    Rebalance = 4201, "rebalance", "Move to another node.", Advice::AtOnce;
    InsufficientState = 4202, "insufficient_state", "Retention overtook the connection; its resume will be told.", Advice::AtOnce;
    AccessChanged = 4203, "access_changed", "What the principal may see has changed.", Advice::AtOnce;
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(code) => write!(f, "{code}"),
            known => write!(f, "{} {}", known.code(), known.word()),
        }
    }
}

/// The reason text of a close frame: a word, and with `retry_after_ms=` how long to stay away.
///
/// The server spreads that time over its clients, so that they do not all come back at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseReason {
    /// A machine word, usually that of the code.
    pub word: String,
    /// Milliseconds before which the client should not come back.
    pub retry_after_ms: Option<u64>,
}

impl CloseReason {
    /// Reads a reason; whatever it does not know is skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split_ascii_whitespace();
        let word = parts.next().unwrap_or_default().to_owned();
        let retry_after_ms = parts
            .filter_map(|part| part.strip_prefix("retry_after_ms="))
            .find_map(|millis| millis.parse().ok());
        Self { word, retry_after_ms }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word)?;
        match self.retry_after_ms {
            Some(millis) => write!(f, " retry_after_ms={millis}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_decides_for_codes_of_the_future() {
        assert_eq!(CloseCode::from(4050).advice(), Advice::Stop);
        assert_eq!(CloseCode::from(4150).advice(), BACK_OFF);
        assert_eq!(CloseCode::from(4250).advice(), Advice::AtOnce);
        assert_eq!(CloseCode::from(3000).advice(), BACK_OFF);
        assert_eq!(CloseCode::from(1006).advice(), BACK_OFF);
    }

    #[test]
    fn known_codes_obey_their_own_range() {
        for &code in CloseCode::KNOWN {
            assert_eq!(CloseCode::from(code.code()), code);
            match (code.code(), code.advice()) {
                (4000..=4099, Advice::Stop)
                | (4100..=4199, Advice::BackOff { .. })
                | (4200..=4299, Advice::AtOnce)
                | (1000..=1015, _) => {}
                (number, advice) => panic!("{number} advises {advice:?}"),
            }
        }
    }

    #[test]
    fn a_reason_carries_when_to_come_back_and_fits_a_close_frame() {
        let reason = CloseReason { word: "restart".into(), retry_after_ms: Some(u64::MAX) };
        assert_eq!(CloseReason::parse(&reason.to_string()), reason);
        for code in CloseCode::KNOWN {
            let longest = CloseReason { word: code.word().into(), retry_after_ms: Some(u64::MAX) };
            assert!(longest.to_string().len() <= 123);
        }
        assert_eq!(CloseReason::parse(""), CloseReason::default());
        assert_eq!(CloseReason::parse("x retry_after_ms=soon y").retry_after_ms, None);
    }
}
