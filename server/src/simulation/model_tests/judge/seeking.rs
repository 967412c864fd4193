//! What is different where the log looks for the beginning.

use serde_json::Value;

use super::super::super::Truth;
use super::{Judge, Moment};

/// Whether it begins at a position that the log has to look for.
pub(super) fn is_sought(data: &Value) -> bool {
    data["since_time"].is_string() || data["tail"].is_u64()
}

/// What the position that is asked for leads to.
pub(super) fn resume(data: &Value, truth: &Truth) -> Option<Result<u64, &'static str>> {
    let since = data["since"].as_str().map(|since| truth.resume(since));
    since.or_else(|| data["since_time"].as_str().map(|time| truth.at_time(time)))
}

impl Judge {
    /// It begins at a position that was looked for, some time after it was asked.
    pub(super) fn sought(&mut self, at: Moment<'_>, asked: &Value, frame: &Value) {
        let position = frame["cursor"].as_str().and_then(|cursor| at.truth.seq(cursor));
        must!(position.is_some(), "I6 bookmark", "no position: {frame}");
        let (position, head) = (position.unwrap(), self.position);
        must!(position <= head, "I6 bookmark", "{position} is ahead of {head}: {frame}");
        let then = asked["head"].as_u64().unwrap();
        let wanted = |after, upto| at.truth.wanted(&self.filter, after, upto).count() as u64;
        if let Some(time) = asked["data"]["since_time"].as_str() {
            let is_before = |seq: u64| at.truth.entry(seq).is_none_or(|entry| *entry.time < *time);
            must!(is_before(position), "I3 no gap", "since {time}, not {position}");
            // Behind it stands the first that is not, unless there was none yet.
            let is_it = position >= then.min(head) || !is_before(position + 1);
            must!(is_it, "level", "since {time}, not {position}: {frame}");
        }
        if let Some(events) = asked["data"]["tail"].as_u64() {
            let kept = wanted(at.truth.floor(), then.min(head));
            must!(wanted(position, head) >= events.min(kept), "I3 no gap", "{events}: {frame}");
            must!(wanted(position, then.min(head)) <= events, "tail", "{events}: {frame}");
        }
        self.position = position;
    }
}
