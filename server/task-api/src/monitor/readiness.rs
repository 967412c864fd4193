//! Whether requests should be sent here, and why not.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};

use super::{Monitor, Seen};

/// Who asks within this time of a look is told what it showed: nobody has to say who they are, so
/// asking must cost next to nothing.
const STALE: Duration = Duration::from_secs(1);

/// What was found out at a look.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    at: Instant,
    reasons: Vec<String>,
}

/// Says whether requests should be sent here
///
/// It is not ready while it cannot commit or read, while it stops, and when connections or open files
/// are nearly used up.
#[utoipa::path(
    get, path = "/readyz", operation_id = "ready", tag = "server", security(()),
    responses(
        (status = 200, description = "They should", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 503, description = "They should not", body = String, content_type = "text/plain; charset=utf-8"),
    ),
)]
pub(super) async fn ready(State(monitor): State<Monitor>) -> Response {
    let reasons = monitor.reasons().await;
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let text: String = reasons.iter().map(|reason| format!("{reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response()
}

impl Monitor {
    /// Why it is not ready, as of a moment ago.
    async fn reasons(&self) -> Vec<String> {
        // Held while it looks: those who ask meanwhile get the same answer.
        let mut judged = self.judged.lock().await;
        if let Some(Judged { at, reasons }) = &*judged
            && at.elapsed() < STALE
        {
            return reasons.clone();
        }
        let reasons = self.look().await.reasons();
        *judged = Some(Judged { at: Instant::now(), reasons: reasons.clone() });
        reasons
    }
}

impl Seen {
    /// Why no requests should be sent here; empty if it is ready.
    pub(super) fn reasons(&self) -> Vec<String> {
        let Self { hub, store, process, is_out_of_files, .. } = self;
        let mut reasons = Vec::new();
        if hub.is_stopping {
            reasons.push("the server is stopping".to_owned());
        }
        if let Some(failure) = &store.commit_failure {
            reasons.push(format!("changes cannot be stored: {failure}"));
        }
        if store.log.is_none() {
            reasons.push("the log cannot be read".to_owned());
        }
        let (taken, most) = (hub.connections as u64, hub.max_connections as u64);
        if is_nearly_all(taken, most) {
            reasons.push(format!("{taken} of {most} connections are taken"));
        }
        if *is_out_of_files {
            reasons.push("no more files can be opened".to_owned());
        }
        if let Some(process) = process
            && let Some(most) = process.max_files
            && is_nearly_all(process.open_files, most)
        {
            reasons.push(format!("{} of {most} files are open", process.open_files));
        }
        reasons
    }
}

/// 95 percent, and nothing of nothing.
fn is_nearly_all(taken: u64, most: u64) -> bool {
    u128::from(taken) * 100 >= u128::from(most) * 95
}

#[cfg(test)]
mod tests {
    use super::super::ProcessStats;
    use super::super::tests::seen;
    use super::*;

    fn reasons(change: impl FnOnce(&mut Seen)) -> Vec<String> {
        let mut seen = seen();
        change(&mut seen);
        seen.reasons()
    }

    #[test]
    fn it_is_ready_if_nothing_is_wrong() {
        assert_eq!(reasons(|_| ()), [""; 0]);
        assert_eq!(reasons(|seen| seen.process = None), [""; 0]);
        assert_eq!(reasons(|seen| seen.hub.connections = 94), [""; 0]);
        let unlimited = |seen: &mut Seen| {
            seen.process = seen.process.map(|process| ProcessStats { max_files: None, ..process });
        };
        assert_eq!(reasons(unlimited), [""; 0]);
    }

    #[test]
    fn whatever_is_wrong_is_told_in_words() {
        assert_eq!(reasons(|seen| seen.hub.is_stopping = true), ["the server is stopping"]);
        assert_eq!(
            reasons(|seen| seen.store.commit_failure = Some("database or disk is full".into())),
            ["changes cannot be stored: database or disk is full"]
        );
        assert_eq!(reasons(|seen| seen.store.log = None), ["the log cannot be read"]);
        assert_eq!(reasons(|seen| seen.hub.connections = 95), ["95 of 100 connections are taken"]);
        let many_files = |seen: &mut Seen| {
            let files =
                |process| ProcessStats { open_files: 973, max_files: Some(1_024), ..process };
            seen.process = seen.process.map(files);
        };
        assert_eq!(reasons(many_files), ["973 of 1024 files are open"]);
        let no_file_at_all = |seen: &mut Seen| (seen.process, seen.is_out_of_files) = (None, true);
        assert_eq!(reasons(no_file_at_all), ["no more files can be opened"]);
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let everything = |seen: &mut Seen| {
            (seen.hub.is_stopping, seen.hub.connections, seen.store.log) = (true, 100, None);
        };
        assert_eq!(reasons(everything).len(), 3);
    }
}
