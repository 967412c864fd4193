//! Why the watcher ended, and what it tells the shell.
//!
//! | code | |
//! |---|---|
//! | 0 | done: `--count` was reached, what `--for` says is so, or nobody reads stdout any more |
//! | 1 | failure |
//! | 2 | the command line is wrong; clap's own errors have the same code |
//! | 3 | refused: the token, the version, the permission, the server's certificate, or the proxy's password |
//! | 4 | with `--strict`: events were missed that cannot be had any more |
//! | 5 | events were missed that the server no longer keeps, and `--on-gap` did not say to go on |
//! | 6 | there is nothing of that name, no repository or no task, or nothing that may be read |
//! | 124 | `--timeout` ran out |
//! | 129 | the terminal of the board is gone |
//! | 130 | interrupted |
//! | 143 | terminated |

use std::io;

use taskwatch_client::{
    BuildError, CloseCode, CursorFileError, ErrorCode, InvalidName, InvalidToken, RequestError,
    WatchError,
};

use crate::tasks::ApiError;
use crate::token::TOKEN_VARIABLE;

pub(crate) const FAILURE: u8 = 1;
/// The command line, or the settings.
pub(crate) const USAGE: u8 = 2;
pub(crate) const REFUSED: u8 = 3;
const NOT_FOUND: u8 = 6;
/// Whatever else the end was.
pub(crate) const BROKEN: u8 = 4;
const HISTORY_GONE: u8 = 5;

/// An end that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything that was to be seen has been seen.
    Enough,
    /// What was waited for is so.
    Met,
    /// The time given is over.
    TimedOut,
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
    /// `--since` or `--until` lies beyond what a calendar holds.
    #[error("this time lies beyond what a calendar holds")]
    Moment,
    /// `--repo` is not a name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// `--cursor-file` cannot be read or written.
    #[error(transparent)]
    Position(#[from] CursorFileError),
    /// The SDK gave up.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// What was to be done with tasks could not be done.
    #[error("cannot {doing}: {error}")]
    Api {
        /// What was to be done.
        doing: String,
        /// Why not.
        error: ApiError,
    },
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
            Self::Enough | Self::Left | Self::Met | Self::OutputClosed => 0,
            // As timeout(1) has it.
            Self::TimedOut => 124,
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
            | Self::Moment
            | Self::Name(_)
            | Self::Board(_) => USAGE,
            Self::Watch(error) => watch_code(error),
            Self::Api { error: ApiError::Request(error), .. } => request_code(error),
            Self::Api { .. } => FAILURE,
            Self::Position(_)
            | Self::Ended
            | Self::Output(_)
            | Self::Terminal(_)
            | Self::Start(_) => FAILURE,
        }
    }

    /// What to do about it, if that is plain.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        let error = match self {
            Self::Watch(error) => error,
            Self::Api { error: ApiError::Request(error), .. } => return request_hint(error),
            _ => return None,
        };
        match error {
            WatchError::Gap { .. } => Some(
                "without --since it begins with what comes now; --on-gap live and --on-gap snapshot \
                 go on by themselves",
            ),
            WatchError::Rejected { status: 401, .. }
            | WatchError::Closed { code: CloseCode::Unauthorized, .. } => Some(TOKEN_HINT),
            WatchError::Certificate { .. } => Some(CERTIFICATE_HINT),
            WatchError::Proxy { .. } => Some(PROXY_HINT),
            WatchError::Denied { .. } => {
                Some("`taskwatch doctor --repo NAME` says what this token may read")
            }
            WatchError::Rejected {
                code: None | Some(ErrorCode::Version | ErrorCode::Host),
                ..
            } => Some("`taskwatch doctor` says who answers there, and how"),
            _ => None,
        }
    }
}

const TOKEN_HINT: &str =
    "a token is given with --token-file FILE, or in the variable TASKWATCH_TOKEN";
const CERTIFICATE_HINT: &str = "--cacert FILE trusts the certificates in FILE as well";
const PROXY_HINT: &str = "user and password stand in the address of the proxy, as in \
    HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT";

fn request_code(error: &RequestError) -> u8 {
    match error {
        // A field or a filter was wrong.
        RequestError::Refused { code: Some(ErrorCode::BadMessage), .. } => USAGE,
        RequestError::Refused { code: Some(code), .. } => word_code(code),
        RequestError::Refused { status: 401 | 403, .. }
        | RequestError::Token { .. }
        | RequestError::Certificate { .. }
        | RequestError::Proxy { .. } => REFUSED,
        _ => FAILURE,
    }
}

fn request_hint(error: &RequestError) -> Option<&'static str> {
    match error {
        RequestError::Refused { code: Some(ErrorCode::NotFound), .. } => {
            Some("what the token may not read looks the same; `taskwatch list` shows what is there")
        }
        RequestError::Refused { code: Some(ErrorCode::VersionConflict), .. } => Some(
            "somebody was faster: look at it with `taskwatch get`, and name the version it has now",
        ),
        RequestError::Refused { status: 401, .. } => Some(TOKEN_HINT),
        RequestError::Refused { code: None, .. } => {
            Some("is a task server at this address? `taskwatch doctor` finds out who answers")
        }
        RequestError::Unreachable { .. } => Some(
            "--url, or the variable TASKWATCH_URL, says where the server is; `taskwatch doctor` finds \
             out what is in the way",
        ),
        RequestError::Cut { .. } => {
            Some("a change may have been made all the same: look before you repeat it")
        }
        RequestError::Certificate { .. } => Some(CERTIFICATE_HINT),
        RequestError::Proxy { .. } => Some(PROXY_HINT),
        _ => None,
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
        ErrorCode::InvalidName | ErrorCode::InvalidTask => USAGE,
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
        assert_eq!(End::Enough.code(), 0);
        assert_eq!(End::OutputClosed.code(), 0);
        assert_eq!(End::Met.code(), 0);
        assert_eq!(End::TimedOut.code(), 124);
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
    fn a_request_ends_as_its_answer_says() {
        let code = |error: RequestError| {
            Failure::Api { doing: "list the tasks".to_owned(), error: error.into() }.code()
        };
        for (status, word, expected) in [
            (404, Some("not_found"), 6),
            (404, None, 1),
            (401, None, 3),
            (403, Some("forbidden"), 3),
            (422, Some("invalid_task"), 2),
            (400, Some("bad_message"), 2),
            (412, Some("version_conflict"), 1),
            (503, Some("unavailable"), 1),
            (302, None, 1),
        ] {
            let code_of = word.map(ErrorCode::from);
            let refused = RequestError::Refused {
                status,
                code: code_of,
                detail: String::new(),
                retry_after: None,
            };
            assert_eq!(code(refused), expected, "{status} {word:?}");
        }
        let reason = String::new;
        assert_eq!(code(RequestError::Unreachable { reason: reason() }), 1);
        assert_eq!(code(RequestError::Cut { reason: reason() }), 1);
        assert_eq!(code(RequestError::Token { reason: reason() }), 3);
        assert_eq!(code(RequestError::Certificate { reason: reason() }), 3);
        assert_eq!(code(RequestError::Proxy { proxy: reason() }), 3);
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
