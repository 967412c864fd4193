//! What is different for a peer that cannot talk back.

use serde_json::Value;

use super::{Judge, Moment};

/// With so many bytes the next event may be one too many.
const FULL: usize = (1 << 20) - 50_000;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Listening {
    is_poll: bool,
    /// Nothing may follow.
    is_over: bool,
    /// Of events.
    bytes: usize,
}

impl Judge {
    /// The same of a peer that cannot talk back.
    pub(in super::super) fn listening(position: u64, granted: Vec<String>, is_poll: bool) -> Self {
        let listening = Some(Listening { is_poll, ..Listening::default() });
        Self { listening, is_welcome: true, ..Self::new(position, granted) }
    }

    pub(in super::super) fn can_talk(&self) -> bool {
        self.listening.is_none()
    }

    pub(in super::super) fn is_poll(&self) -> bool {
        self.listening.as_ref().is_some_and(|listening| listening.is_poll)
    }

    /// Whether it was told everything.
    pub(in super::super) fn is_over(&self) -> bool {
        self.listening.as_ref().is_some_and(|listening| listening.is_over)
    }

    /// Whether it may have as much as a poll is answered with.
    pub(in super::super) fn is_full(&self) -> bool {
        self.listening.as_ref().is_some_and(|listening| listening.bytes > FULL)
    }

    /// An event was sent to it.
    pub(super) fn count(&mut self, text: &str) {
        if let Some(listening) = self.listening.as_mut().filter(|listening| listening.is_poll) {
            let is_fit = listening.bytes == 0 || listening.bytes + text.len() <= 1 << 20;
            assert!(is_fit, "more than a poll is answered with: {text}");
            listening.bytes += text.len();
        }
    }

    /// A reset, with nothing to follow, whatever else was asked for.
    pub(super) fn is_refused(&mut self) {
        if let Some(listening) = &mut self.listening {
            listening.is_over = true;
            self.asked.clear();
        }
    }

    /// A request was answered, after which there may be nothing to come.
    pub(super) fn may_be_over(&mut self, is_final: bool) {
        let is_last = is_final && !self.is_subscribed && self.asked.is_empty();
        if let Some(listening) = &mut self.listening {
            listening.is_over |= is_last;
        }
    }

    /// It is told how many there were, and is not level: a poll that is full, and a stream now and then.
    pub(super) fn counted(&mut self, at: Moment<'_>, frame: &Value) {
        must!(self.snapshot.is_none(), "I7 snapshot", "a count inside of it: {frame}");
        must!(self.is_subscribed, "I6 bookmark", "before the first is accepted: {frame}");
        self.bookmark(at, &frame["cursor"], "count");
        if let Some(listening) = &mut self.listening {
            listening.is_over = listening.is_poll;
        }
    }

    /// It is told that it is level, and a poll is told nothing else.
    pub(super) fn level(&mut self, at: Moment<'_>, frame: &Value) {
        must!(self.snapshot.is_none(), "I7 snapshot", "not level inside of it: {frame}");
        must!(self.asked.is_empty(), "level", "{:?} wait: {frame}", self.asked);
        must!(self.is_subscribed, "I6 bookmark", "before the first is accepted: {frame}");
        self.bookmark(at, &frame["cursor"], "level");
        if let Some(listening) = &mut self.listening {
            listening.is_over = listening.is_poll;
        }
    }
}
