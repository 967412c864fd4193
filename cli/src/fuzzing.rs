//! Doors for tests that look at the lines of the watcher without a watcher.
#![expect(clippy::expect_used, reason = "a harness fails by panicking")]

use std::io::Write;
use std::time::Duration;

use jiff::tz::TimeZone;
use taskwatch_client::protocol::{CloseCode, Denied, ErrorCode, Pattern, TaskEvent, Timestamp};
use taskwatch_client::{Transport, Update, WatchError};

use crate::escape::{LogLines, Visible};
use crate::exit::Failure;
use crate::output::{self, LocalTimes, TextFormat};
use crate::paint::Paint;
use crate::status::Status;

pub fn visible(text: &str) -> String {
    Visible(text).to_string()
}

pub fn json_line(envelope: &str) -> String {
    let mut lines = String::new();
    output::json_line(envelope, &mut lines);
    lines.strip_suffix('\n').expect("a line ends").to_owned()
}

pub fn event_line(event: &TaskEvent, at: Option<Timestamp>) -> String {
    let now = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let mut times = LocalTimes::new(now);
    let format = TextFormat::new(Paint(false), &[Pattern::All]);
    format.line(event, times.show(at), false).to_string()
}

/// What the log makes of one line.
pub fn log_line(line: &[u8]) -> Vec<u8> {
    let mut log = LogLines(Vec::new());
    log.write_all(line).expect("memory takes all");
    log.0
}

/// What is said of a connection to a server that answers everything with the same text.
pub fn status_lines(said: &str) -> Vec<String> {
    let mut status = Status::new(Paint(false), false, said);
    let (code, reason) = (ErrorCode::from(said), said.to_owned());
    let denied = Denied { repository: Pattern::All, code: code.clone() };
    let updates = [
        Update::Connecting { attempt: 1 },
        Update::Connected {
            resumed: false,
            server: reason.clone(),
            transport: Transport::Sse,
            fallback: Some(reason.clone()),
        },
        Update::Interrupted { reason: reason.clone(), retry_in: Duration::ZERO },
        Update::Denied(vec![denied.clone()]),
    ];
    let failures: [WatchError; 5] = [
        WatchError::Rejected { status: 400, code: Some(code.clone()), reason: reason.clone() },
        WatchError::Closed { code: CloseCode::from(4000), reason: reason.clone() },
        WatchError::Refused { code, reason: reason.clone() },
        WatchError::Gap { reason: said.into() },
        WatchError::Unreachable { attempts: 1, reason },
    ];
    let mut lines: Vec<_> = updates.iter().filter_map(|update| status.line(update)).collect();
    for failure in failures {
        // A hint is a line of its own, and the watcher's own words.
        let failure = status.failure(&Failure::from(failure));
        lines.push(failure.split("\nhint:").next().unwrap_or_default().to_owned());
    }
    lines
}
