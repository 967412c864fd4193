//! How fresh the stream is: asked from time to time with a `ping`, whose answer stands behind
//! everything that had happened when it was asked.

use std::time::{Duration, Instant};

/// What is asked on one connection.
#[derive(Debug)]
pub(super) struct Gauge {
    every: Duration,
    due: Instant,
    /// The question that is not answered, and when it was asked.
    asked: Option<(String, Instant)>,
}

impl Gauge {
    /// The first question is due at once.
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        Self { every, due: now, asked: None }
    }

    /// When the next question is due. One at a time: a link that is slow is not asked more.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked.is_none().then_some(self.due)
    }

    pub(super) fn ask(&mut self, id: String, now: Instant) {
        self.due = now + self.every;
        self.asked = Some((id, now));
    }

    /// How long ago the question was asked, if `id` is its answer.
    pub(super) fn answered(&mut self, id: Option<&str>, now: Instant) -> Option<Duration> {
        let (_, asked) = self.asked.take_if(|(asked, _)| Some(&**asked) == id)?;
        Some(now - asked)
    }
}
