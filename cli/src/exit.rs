//! Why the watcher ended, and what it tells the shell.
//!
//! | code | |
//! |---|---|
//! | 0 | done: `--count` was reached, or nobody reads stdout any more |
//! | 1 | failure |
//! | 2 | the command line is wrong; clap's own errors have the same code |
//! | 3 | refused: the token, the version, the permission, the server's certificate, or the proxy's password |
//! | 5 | events were missed that the server no longer keeps, and `--on-gap` did not say to go on |
//! | 6 | none of the repositories exists, or none may be read |
//! | 129 | the terminal of the board is gone |
//! | 130 | interrupted |
//! | 143 | terminated |

use std::io;

use taskwatch_client::{BuildError, CloseCode, ErrorCode, InvalidName, InvalidToken, WatchError};

use crate::token::TOKEN_VARIABLE;

const FAILURE: u8 = 1;
const USAGE: u8 = 2;
const REFUSED: u8 = 3;
const NOT_FOUND: u8 = 6;
const HISTORY_GONE: u8 = 5;

/// An end that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As many events came as were wanted.
    CountReached,
    /// Nobody reads stdout any more.
    OutputClosed,
    /// A key said so.
    Left,
    /// SIGHUP: the terminal is gone.
    HungUp,
    /// SIGINT, usually Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

/// An end that nobody asked for: it has a reason and a code that is not 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// `--url`, `--cacert` or the proxy of the environment makes no sense.
    #[error(transparent)]
    Settings(#[from] BuildError),
    /// `--token-file` cannot be read.
    #[error("cannot read the token file {path}: {error}")]
    TokenFile {
        /// Its name.
        path: String,
        /// What is wrong with it.
        error: io::Error,
    },
    /// The variable does not hold a token.
    #[error("{TOKEN_VARIABLE}: {0}")]
    TokenVariable(InvalidToken),
    /// `--repo` is not a name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The SDK gave up.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The SDK ended without saying why.
    #[error("the stream of events ended without a reason")]
    Ended,
    /// Events could not be printed.
    #[error("cannot write to stdout: {0}")]
    Output(#[source] io::Error),
    /// There is no screen for a board.
    #[error("--board needs a terminal: {0}")]
    Board(&'static str),
    /// Keys could not be read.
    #[error("cannot read from the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// The system did not give what it takes to begin.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
}

impl End {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::CountReached | Self::OutputClosed | Self::Left => 0,
            // As a shell reports a process that a signal ended: 128 and the signal's number.
            Self::HungUp => 129,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Settings(_)
            | Self::TokenFile { .. }
            | Self::TokenVariable(_)
            | Self::Name(_)
            | Self::Board(_) => USAGE,
            Self::Watch(error) => watch_code(error),
            Self::Ended | Self::Output(_) | Self::Terminal(_) | Self::Start(_) => FAILURE,
        }
    }

    /// What to do about it, if that is plain.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        let Self::Watch(error) = self else { return None };
        match error {
            WatchError::Gap { .. } => Some(
                "without --since it begins with what comes now; --on-gap live and --on-gap snapshot \
                 go on by themselves",
            ),
            WatchError::Rejected { status: 401, .. }
            | WatchError::Closed { code: CloseCode::Unauthorized, .. } => {
                Some("a token is given with --token-file FILE, or in the variable TASKWATCH_TOKEN")
            }
            WatchError::Certificate { .. } => {
                Some("--cacert FILE trusts the certificates in FILE as well")
            }
            WatchError::Proxy { .. } => Some(
                "user and password stand in the address of the proxy, as in \
                 HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
            ),
            _ => None,
        }
    }
}

fn watch_code(error: &WatchError) -> u8 {
    match error {
        WatchError::Rejected { code: Some(code), .. } | WatchError::Refused { code, .. } => {
            word_code(code)
        }
        WatchError::Rejected { status: 401 | 403, code: None, .. } => REFUSED,
        WatchError::Closed {
            code: CloseCode::Unauthorized | CloseCode::Forbidden | CloseCode::Version,
            ..
        } => REFUSED,
        WatchError::Token { .. } | WatchError::Certificate { .. } | WatchError::Proxy { .. } => {
            REFUSED
        }
        WatchError::Denied { .. } => NOT_FOUND,
        WatchError::Gap { .. } => HISTORY_GONE,
        _ => FAILURE,
    }
}

fn word_code(code: &ErrorCode) -> u8 {
    match code {
        ErrorCode::Unauthorized
        | ErrorCode::Forbidden
        | ErrorCode::Version
        | ErrorCode::VersionMissing
        | ErrorCode::Origin
        | ErrorCode::Host
        | ErrorCode::TokenInUrl => REFUSED,
        ErrorCode::NotFound => NOT_FOUND,
        ErrorCode::InvalidName => USAGE,
        _ => FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use taskwatch_client::ResetReason;

    use super::*;

    fn code(error: WatchError) -> u8 {
        Failure::from(error).code()
    }

    #[test]
    fn an_end_that_was_asked_for() {
        assert_eq!(End::CountReached.code(), 0);
        assert_eq!(End::OutputClosed.code(), 0);
        assert_eq!(End::Interrupted.code(), 130);
        assert_eq!(End::Terminated.code(), 143);
    }

    #[test]
    fn what_the_server_says_decides() {
        let reason = String::new;
        for (word, expected) in [
            ("unauthorized", 3),
            ("forbidden", 3),
            ("version", 3),
            ("version_missing", 3),
            ("host", 3),
            ("not_found", 6),
            ("invalid_name", 2),
            ("limit_subscriptions", 1),
            ("a_newer_word", 1),
        ] {
            let refused = WatchError::Refused { code: word.into(), reason: reason() };
            assert_eq!(code(refused), expected, "{word}");
            let rejected =
                WatchError::Rejected { status: 400, code: Some(word.into()), reason: reason() };
            assert_eq!(code(rejected), expected, "{word}");
        }
        for (status, expected) in [(401, 3), (403, 3), (404, 1), (500, 1)] {
            let rejected = WatchError::Rejected { status, code: None, reason: reason() };
            assert_eq!(code(rejected), expected, "{status}");
        }
        for (number, expected) in [(4001, 3), (4003, 3), (4004, 3), (4009, 1), (4050, 1)] {
            let closed = WatchError::Closed { code: CloseCode::from(number), reason: reason() };
            assert_eq!(code(closed), expected, "{number}");
        }
    }

    #[test]
    fn the_other_ends_of_a_stream() {
        assert_eq!(code(WatchError::Denied { denied: Vec::new() }), 6);
        for refused in [
            WatchError::Token { reason: String::new() },
            WatchError::Certificate { reason: String::new() },
            WatchError::Proxy { proxy: String::new() },
        ] {
            assert_eq!(code(refused), 3);
        }
        assert_eq!(Failure::TokenVariable(InvalidToken::Empty).code(), 2);
        assert_eq!(code(WatchError::Gap { reason: ResetReason::Expired }), 5);
        assert_eq!(code(WatchError::Unreachable { attempts: 3, reason: String::new() }), 1);
        assert_eq!(Failure::Ended.code(), 1);
        assert_eq!(Failure::Name(InvalidName::Empty).code(), 2);
        assert_eq!(Failure::Output(io::ErrorKind::StorageFull.into()).code(), 1);
    }
}
