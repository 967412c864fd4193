//! The hub's counters in the text format that Prometheus reads.

use std::fmt::{Display, Write};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use taskwatch_protocol::ErrorCode;
use taskwatch_server::{Hub, HubStats, Principal, Problem};

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Tells how the server is doing
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "server",
    responses((status = 200, description = "Counters, in the text format of Prometheus",
               body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")),
)]
pub(crate) async fn metrics(
    State(hub): State<Hub>,
    principal: Principal,
) -> Result<impl IntoResponse, Problem> {
    if !principal.may_read_metrics() {
        let detail = "this token does not give leave to read metrics";
        return Err(Problem::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden, detail));
    }
    Ok(([(CONTENT_TYPE, FORMAT)], text(&hub.stats())))
}

fn text(stats: &HubStats) -> String {
    let mut page = Page(String::new());
    page.family("connections", "gauge", "Connections open now.").value(stats.connections);
    page.family("streams", "gauge", "Of those, connections over plain HTTP.").value(stats.streams);
    for (name, help, value) in [
        ("events_published", "Events published.", stats.published),
        ("events_ignored", "Events published twice or out of order.", stats.ignored),
        ("events_sent", "Events sent to subscribers.", stats.sent),
        ("events_replayed", "Of those, events sent to catch up.", stats.replayed),
        (
            "switches_to_catching_up",
            "Times a full queue sent a connection to the log.",
            stats.overflows,
        ),
        (
            "switches_back_to_live",
            "Times a connection that a full queue had sent to the log was level again.",
            stats.rejoins,
        ),
        ("resumes", "Positions that were honoured.", stats.resumes),
        ("snapshots", "Snapshots sent.", stats.snapshots),
        ("log_reads", "Pages read from the store.", stats.log_reads),
    ] {
        page.family(&format!("{name}_total"), "counter", help).value(value);
    }
    let mut resets = page.family("resets_total", "counter", "Positions that were not honoured.");
    for (reason, count) in &stats.resets {
        resets.labelled("reason", reason, count);
    }
    let mut closes = page.family("closes_total", "counter", "Connections that this server closed.");
    for (code, count) in &stats.closes {
        closes.labelled("code", code.code(), count);
    }
    page.0
}

/// The text, family by family.
struct Page(String);

struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> Family<'_> {
        let name = format!("taskwatch_{name}");
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text: &mut self.0, name }
    }
}

impl Family<'_> {
    fn value(self, value: impl Display) {
        let _ = writeln!(self.text, "{} {value}", self.name);
    }

    fn labelled(&mut self, label: &str, of: impl Display, value: impl Display) {
        let _ = writeln!(self.text, "{}{{{label}=\"{of}\"}} {value}", self.name);
    }
}
