//! What is counted, in the text format that Prometheus reads.

use std::fmt;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use taskwatch_protocol::{ErrorCode, Timestamp};
use taskwatch_server::{Distribution, Principal, Problem};

use super::process::ProcessStats;
use super::{Monitor, Seen};

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// In this unit durations are counted, and told in seconds.
const MICROS_PER_SECOND: f64 = 1e6;

/// Tells how the server is doing
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "server",
    responses((status = 200, description = "Counters, in the text format of Prometheus",
               body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")),
)]
pub(super) async fn metrics(
    State(monitor): State<Monitor>,
    principal: Principal,
) -> Result<impl IntoResponse, Problem> {
    if !principal.may_read_metrics() {
        let detail = "this token does not give leave to read metrics";
        return Err(Problem::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden, detail));
    }
    Ok(([(CONTENT_TYPE, FORMAT)], text(monitor.look().await)))
}

fn text(seen: Seen) -> String {
    // Made for one answer out of plain numbers: nothing is kept that would have to be kept in step.
    let mut registry = Registry::default();
    if let Some(process) = seen.process {
        registry.register_collector(Box::new(process));
    }
    registry.sub_registry_with_prefix("taskwatch").register_collector(Box::new(seen));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode_registry(&mut text, &registry);
    text
}

/// Families of metrics by their whole names, as the older of the two text formats has them. The crate
/// speaks the newer one, OpenMetrics, in which it puts `_total` behind a counter's name by itself, and
/// only before its value; a value that is written as a gauge's is left as it is.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Counter)?.encode_gauge(&value)
    }

    fn labelled<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Values that were counted in parts of the unit in which they are told.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        seen: &Distribution,
        parts: f64,
    ) -> fmt::Result {
        let bounds = seen.bounds.iter().map(|&bound| bound as f64 / parts).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(seen.counts.iter().copied()).collect();
        let (sum, count) = (seen.sum as f64 / parts, seen.count());
        self.0
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
    }
}

impl Collector for Seen {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let version = [[("version", env!("CARGO_PKG_VERSION"))]].map(|labels| (labels, 1));
        families.labelled("build_info", "Always 1.", MetricType::Gauge, version)?;
        let is_ready = u32::from(self.reasons().is_empty());
        families.gauge("ready", "1 if /readyz says so, else 0.", is_ready)?;
        self.hub(&mut families)?;
        self.store(&mut families)?;
        let requests = self.requests.iter().map(|answered| {
            (([("method", answered.method)], [("code", answered.code)]), answered.count)
        });
        let help = "Requests that were answered; a WebSocket is one, of code 101.";
        families.labelled("http_requests_total", help, MetricType::Counter, requests)
    }
}

impl Seen {
    fn hub(&self, families: &mut Families<'_>) -> fmt::Result {
        let hub = &self.hub;
        for (name, help, value) in [
            ("connections", "Connections open now.", hub.connections as u64),
            ("streams", "Of those, connections over plain HTTP.", hub.streams as u64),
            ("subscriptions", "Patterns that connections are subscribed to.", hub.subscriptions),
            ("queued_events", "Events in the queues of connections.", hub.queued_events as u64),
            ("cache_events", "Events kept in memory.", hub.cache_events as u64),
            ("cache_bytes", "Bytes of the events kept in memory.", hub.cache_bytes as u64),
            ("snapshot_spools", "Snapshots being read or sent.", hub.spools),
            ("snapshot_spool_bytes", "Bytes of these snapshots.", hub.spool_bytes),
        ] {
            families.gauge(name, help, value)?;
        }
        for (name, help, value) in [
            ("events_published_total", "Events published.", hub.published),
            ("events_ignored_total", "Events published twice or out of order.", hub.ignored),
            ("events_sent_total", "Events sent to subscribers.", hub.sent),
            ("events_replayed_total", "Of those, events sent to catch up.", hub.replayed),
            (
                "switches_to_catching_up_total",
                "Times a full queue sent a connection to the log.",
                hub.overflows,
            ),
            (
                "switches_back_to_live_total",
                "Times a connection that a full queue had sent to the log was level again.",
                hub.rejoins,
            ),
            ("resumes_total", "Positions that were honoured.", hub.resumes),
            ("snapshots_total", "Snapshots sent.", hub.snapshots),
            ("log_reads_total", "Pages read from the store.", hub.log_reads),
        ] {
            families.counter(name, help, value)?;
        }
        let resets = hub.resets.iter().map(|(why, count)| ([("reason", why.to_string())], *count));
        let help = "Positions that were not honoured.";
        families.labelled("resets_total", help, MetricType::Counter, resets)?;
        let closes = hub.closes.iter().map(|(why, count)| ([("code", why.code())], *count));
        let help = "Connections that this server closed.";
        families.labelled("closes_total", help, MetricType::Counter, closes)?;
        let refusals = hub.refusals.iter().map(|(why, count)| ([("reason", *why)], *count));
        let help = "Connections that were not admitted.";
        families.labelled("refusals_total", help, MetricType::Counter, refusals)?;
        let help = "From publishing a live event to writing it, for each connection.";
        families.histogram("fanout_lag_seconds", help, &hub.lags, MICROS_PER_SECOND)
    }

    fn store(&self, families: &mut Families<'_>) -> fmt::Result {
        let store = &self.store;
        let help = "Changes in a commit.";
        families.histogram("commit_changes", help, &store.commit_changes, 1.0)?;
        let help = "How long a commit took.";
        families.histogram("commit_seconds", help, &store.commit_micros, MICROS_PER_SECOND)?;
        // What cannot be read is not 0.
        let Some(log) = &store.log else { return Ok(()) };
        let age =
            |oldest: Timestamp| (self.at.unix_millis() - oldest.unix_millis()).max(0) as f64 / 1e3;
        families.gauge("log_events", "Events kept in the log.", log.events)?;
        let oldest = log.oldest.map_or(0.0, age);
        families.gauge("log_oldest_seconds", "Age of the oldest event in the log.", oldest)?;
        families.gauge("store_bytes", "Size of the database, without its journal.", log.bytes)
    }
}

/// By the names that all programs have for it.
impl Collector for ProcessStats {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let help = "Processor time taken.";
        families.counter("process_cpu_seconds_total", help, self.cpu_seconds)?;
        let help = "Memory held.";
        families.gauge("process_resident_memory_bytes", help, self.resident_bytes)?;
        families.gauge("process_open_fds", "Files open.", self.open_files)?;
        let most = self.max_files.map_or(f64::INFINITY, |most| most as f64);
        families.gauge("process_max_fds", "Files that may be open.", most)?;
        let help = "When the process began, since 1970.";
        families.gauge("process_start_time_seconds", help, self.start_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::seen;
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let text = text(seen());
        let is_there =
            |lines: &str| assert!(text.contains(lines), "{lines} is missing from {text}");
        is_there(
            "# HELP process_cpu_seconds_total Processor time taken.\n\
             # TYPE process_cpu_seconds_total counter\n\
             process_cpu_seconds_total 1.25\n",
        );
        is_there("\nprocess_start_time_seconds 1700000000.5\n");
        is_there("# TYPE taskwatch_connections gauge\ntaskwatch_connections 7\n");
        is_there(
            "# TYPE taskwatch_events_published_total counter\ntaskwatch_events_published_total 12\n",
        );
        is_there("\ntaskwatch_resets_total{reason=\"expired\"} 3\n");
        is_there("\ntaskwatch_closes_total{code=\"4100\"} 4\n");
        is_there("\ntaskwatch_refusals_total{reason=\"rate\"} 5\n");
        is_there("\ntaskwatch_http_requests_total{method=\"GET\",code=\"200\"} 6\n");
        is_there(
            "# TYPE taskwatch_fanout_lag_seconds histogram\n\
             taskwatch_fanout_lag_seconds_sum 1.5002\n\
             taskwatch_fanout_lag_seconds_count 3\n\
             taskwatch_fanout_lag_seconds_bucket{le=\"0.0005\"} 2\n\
             taskwatch_fanout_lag_seconds_bucket{le=\"1.0\"} 2\n\
             taskwatch_fanout_lag_seconds_bucket{le=\"+Inf\"} 3\n",
        );
        is_there("\ntaskwatch_commit_changes_sum 2.0\n");
        is_there("\ntaskwatch_log_oldest_seconds 2.5\n");
        is_there("\ntaskwatch_ready 1\n");
        is_there(concat!(
            "# TYPE taskwatch_build_info gauge\ntaskwatch_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1\n"
        ));
        assert!(!text.contains("# EOF") && !text.contains("_total_total"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut seen = seen();
        (seen.store.log, seen.process) = (None, None);
        let text = text(seen);
        for absent in ["log_events", "log_oldest_seconds", "store_bytes", "process_"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
        assert!(text.contains("\ntaskwatch_ready 0\n"));
    }

    #[test]
    fn the_age_of_what_is_to_come_is_nothing() {
        let mut seen = seen();
        seen.at = Timestamp::from_unix_millis(0);
        assert!(text(seen).contains("\ntaskwatch_log_oldest_seconds 0.0\n"));
    }
}
