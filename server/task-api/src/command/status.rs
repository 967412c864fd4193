//! `taskwatchd status`: who is connected, as a table.

use std::fmt::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use reqwest::Method;
use taskwatch_protocol::escape::{JsonLine, Visible};

use super::asking::{Failure, ask};
use crate::connections::{By, Connection, Connections, PrincipalSum};
use crate::remote::Remote;

/// A server that does not say it by then is in trouble itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// `taskwatchd status`.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// The task server.
    #[command(flatten)]
    pub remote: Remote,

    /// Sum up by principal, or show each connection
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub by: By,

    /// As a table, or as the JSON that the server sends
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// What is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

impl Status {
    /// Asks the server, and returns what is to be printed.
    ///
    /// # Errors
    /// If it cannot be asked, or refuses.
    pub async fn run(self) -> Result<String, Failure> {
        let query = format!("by={}", self.by.word());
        let path = "api/v1/connections";
        let answer = ask(&self.remote, Method::GET, path, Some(&query), PATIENCE).await?;
        if self.output == Output::Json {
            return Ok(format!("{}\n", JsonLine(&answer.to_string())));
        }
        let connections: Connections = serde_json::from_value(answer).map_err(|problem| {
            let text = format!("the answer is not one of a taskwatchd of this version: {problem}");
            Failure::Server(format!("{text}\n-o json shows it as it is"))
        })?;
        Ok(text(&connections))
    }
}

fn text(all: &Connections) -> String {
    let up = Duration::try_from_secs_f64(all.uptime_seconds).unwrap_or_default();
    let mut text = format!(
        "taskwatchd {} · up {} · head {} · {} connection{}\n",
        Visible(&all.version),
        span(up),
        Visible(all.head.as_str()),
        all.total,
        if all.total == 1 { "" } else { "s" },
    );
    let rows = match &all.connections {
        Some(connections) => each(connections),
        None => sums(&all.principals),
    };
    if rows.len() > 1 {
        text.push('\n');
        table(&mut text, &rows);
    }
    text
}

fn sums(principals: &[PrincipalSum]) -> Vec<Vec<String>> {
    let head = ["PRINCIPAL", "CONNECTIONS", "CATCHING UP", "PATTERNS", "BEHIND", "FOR", "QUEUED"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(principals.iter().map(|sum| {
        vec![
            name(sum.principal.as_deref()),
            sum.connections.to_string(),
            sum.catching_up.to_string(),
            sum.subscriptions.to_string(),
            sum.behind.to_string(),
            behind(sum.behind, sum.behind_seconds),
            sum.queued.to_string(),
        ]
    }));
    rows
}

fn each(connections: &[Connection]) -> Vec<Vec<String>> {
    let head = [
        "PRINCIPAL",
        "STATE",
        "BEHIND",
        "FOR",
        "QUEUED",
        "SENT",
        "OVER",
        "AGE",
        "FROM",
        "PATTERNS",
        "PROGRAM",
        "ID",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(connections.iter().map(|one| {
        let from = one
            .client
            .as_ref()
            .filter(|client| one.peer.as_ref().is_none_or(|peer| !peer.contains(client.as_str())));
        let more = one.subscriptions.saturating_sub(one.patterns.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        vec![
            name(one.principal.as_deref()),
            shown(&one.state),
            one.behind.to_string(),
            behind(one.behind, one.behind_seconds),
            one.queued.to_string(),
            one.delivered.to_string(),
            shown(&one.transport),
            span(Duration::try_from_secs_f64(one.age_seconds).unwrap_or_default()),
            from.or(one.peer.as_ref()).map_or_else(|| "–".to_owned(), |from| shown(from)),
            format!("{}{more}", shown(&one.patterns.join(","))),
            one.user_agent.as_deref().map_or_else(|| "–".to_owned(), shown),
            one.id.to_string(),
        ]
    }));
    rows
}

fn name(principal: Option<&str>) -> String {
    principal.map_or_else(|| "–".to_owned(), shown)
}

fn shown(text: &str) -> String {
    Visible(text).to_string()
}

fn behind(events: u64, seconds: Option<f64>) -> String {
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(time) => span(time),
        None if events == 0 => "–".to_owned(),
        // It is no longer in memory.
        None => "long".to_owned(),
    }
}

/// Two units of a span at most.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Columns as wide as what stands in them.
fn table(text: &mut String, rows: &[Vec<String>]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..rows[0].len()).filter_map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use taskwatch_protocol::Cursor;

    use super::*;
    use crate::connections::tests::connection;

    fn all(connections: Option<Vec<Connection>>) -> Connections {
        let sum = |principal: Option<&str>, behind| PrincipalSum {
            principal: principal.map(str::to_owned),
            connections: 2,
            behind,
            behind_seconds: (behind == 7).then_some(61.2),
            ..PrincipalSum::default()
        };
        Connections {
            version: "0.1.0".to_owned(),
            uptime_seconds: 7_384.2,
            head: Cursor::new("c1-a-9"),
            total: 4,
            principals: vec![sum(Some("b\u{202e}en"), 700), sum(None, 7), sum(Some("ana"), 0)],
            connections,
        }
    }

    #[test]
    fn by_principal_it_is_a_row_for_each() {
        let text = text(&all(None));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "taskwatchd 0.1.0 · up 2 h 3 min · head c1-a-9 · 4 connections");
        assert_eq!(lines.len(), 6);
        assert!(lines[3].starts_with("b\\u{202e}en  2"), "{text}");
        assert!(lines[3].ends_with("long       0") || lines[3].contains("long"), "{text}");
        assert!(lines[4].contains("1 min 1 s") && lines[5].contains("–"), "{text}");
    }

    #[test]
    fn each_connection_is_a_row_and_hostile_text_is_shown() {
        let mut one = connection(Some("ana"), 3, "catching_up");
        one.user_agent = Some("\u{1b}[2J".to_owned());
        (one.subscriptions, one.client) = (20, Some("192.0.2.7".to_owned()));
        let text = text(&all(Some(vec![one])));
        assert_eq!(text.lines().count(), 4);
        for expected in
            ["ana", "catching_up", "1.5 s", "192.0.2.7", "a,b/* and 18 more", "\\u{1b}[2J"]
        {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("4711"));
    }

    #[test]
    fn a_span_has_two_units_at_most() {
        let shown = [0.25, 12.0, 60.0, 3_599.0, 3_600.0, 90_000.0]
            .map(|seconds| span(Duration::from_secs_f64(seconds)));
        assert_eq!(shown, ["0.2 s", "12 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "1 d 1 h"]);
    }
}
