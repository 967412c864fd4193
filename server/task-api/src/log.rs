//! What the server tells about itself, on stderr: for people, or for programs as one JSON object a line.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::{env, panic};

use clap::ValueEnum;
use serde_json::{Value, json};
use taskwatch_protocol::escape::{JsonLines, LogLines};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Without `RUST_LOG`: warnings, but not those of the MCP library about what a client asked for, or that it
/// has left. They repeat what it was answered.
const DEFAULT: &str = "warn,rmcp=error,rmcp::service=off";

/// Whose lines are not left to `RUST_LOG`.
const TARGET: &str = "taskwatchd";

/// For whom the lines on stderr are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For programs: one JSON object a line
    Json,
}

/// stderr is one for the process, and so is its format.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Starts to log what `RUST_LOG` asks for. The first call decides.
pub fn start(format: LogFormat) {
    if FORMAT.set(format).is_err() {
        return;
    }
    let asked = env::var(EnvFilter::DEFAULT_ENV).ok().filter(|asked| !asked.is_empty());
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    let filter = filter.parse_lossy(asked.as_deref().unwrap_or(DEFAULT));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    // A log quotes the other end; the subscriber hands over whole events.
    match format {
        LogFormat::Text => log.with_writer(|| LogLines(io::stderr())).init(),
        LogFormat::Json => {
            let log = log.json().with_current_span(false);
            log.with_writer(|| JsonLines(io::stderr())).init();
            panic::set_hook(Box::new(|panic| fail(&panic.to_string())));
        }
    }
}

/// Says where the server listens, whatever is logged beside.
pub fn listening(url: &str) {
    say(&format!("listening on {url}"), "INFO", json!({"message": "listening", "url": url}));
}

/// Says what is wrong, whatever is logged beside.
pub fn fail(problem: &str) {
    say(&format!("taskwatchd: {problem}"), "ERROR", json!({"message": problem}));
}

/// One line. If nobody reads it, that is their choice.
fn say(text: &str, level: &str, fields: Value) {
    let _ = match FORMAT.get() {
        Some(LogFormat::Json) => {
            let line = line(level, fields);
            writeln!(JsonLines(io::stderr()), "{line}")
        }
        _ => writeln!(io::stderr(), "{text}"),
    };
}

/// As the subscriber writes its own.
fn line(level: &str, fields: Value) -> Value {
    let timestamp = jiff::Timestamp::now().to_string();
    json!({"timestamp": timestamp, "level": level, "fields": fields, "target": TARGET})
}
