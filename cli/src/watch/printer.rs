//! What an update puts on stdout.

use std::fmt::Write;

use serde_json::Value;
use taskwatch_client::protocol::Task;
use taskwatch_client::{Snapshot, Update, WatchError};

use crate::filter::Filter;
use crate::output::{self, LocalTimes, TextFormat};

/// How events are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Printer {
    /// For a person.
    Text(TextFormat),
    /// For a program.
    Json,
}

impl Printer {
    /// Adds what an update puts on stdout, if anything. `times` are those of what is printed with it.
    pub(super) fn lines(
        self,
        update: &Update,
        filter: &Filter,
        times: &mut LocalTimes,
        lines: &mut String,
    ) {
        match (self, update) {
            (Self::Text(format), Update::Event(event)) => {
                let line = format.line(event, times.show(event.timestamp), event.replayed);
                // Writing to a string does not fail.
                let _ = writeln!(lines, "{line}");
            }
            (Self::Json, Update::Event(event)) => output::json_line(event.envelope(), lines),
            (Self::Text(format), Update::Snapshot(snapshot)) => {
                let shown = snapshot.tasks.iter().filter(|task| filter.shows_task(task));
                format.present(shown, times, lines);
            }
            (Self::Json, Update::Snapshot(snapshot)) => frames(snapshot, filter, lines),
            // Whoever reads the events must not take them for complete.
            (Self::Json, Update::Gap(gap)) => output::json_gap(&gap.reason, lines),
            _ => {}
        }
    }

    /// Adds what the end of the stream puts on stdout, if anything.
    pub(super) fn end(self, error: &WatchError, lines: &mut String) {
        if let (Self::Json, WatchError::Gap { reason }) = (self, error) {
            output::json_gap(reason, lines);
        }
    }
}

/// The frames as they came, without the tasks that are not shown.
fn frames(snapshot: &Snapshot, filter: &Filter, lines: &mut String) {
    for envelope in snapshot.envelopes() {
        match without_others(envelope, filter) {
            Some(envelope) => output::json_line(&envelope, lines),
            None => output::json_line(envelope, lines),
        }
    }
}

/// A frame without the tasks that are not shown; `None` if they all are.
fn without_others(envelope: &str, filter: &Filter) -> Option<String> {
    if filter.is_empty() {
        return None;
    }
    let mut frame: Value = serde_json::from_str(envelope).ok()?;
    let tasks = frame.pointer_mut("/data/tasks")?.as_array_mut()?;
    // One that this version cannot read is not hidden either.
    tasks.retain(|task| {
        serde_json::from_value::<Task>(task.clone()).map_or(true, |task| filter.shows_task(&task))
    });
    Some(frame.to_string())
}
