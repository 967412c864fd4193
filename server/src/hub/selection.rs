//! What one connection wants.

use taskwatch_protocol::{EventKind, Pattern};

use crate::LogEvent;

/// Patterns and types of events. The one judge of whether an event is sent, live and in replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    patterns: Vec<Pattern>,
    kinds: Option<Vec<EventKind>>,
}

impl Selection {
    pub(crate) fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    pub(crate) fn kinds(&self) -> Option<&[EventKind]> {
        self.kinds.as_deref()
    }

    pub(crate) fn set_kinds(&mut self, kinds: Option<Vec<EventKind>>) {
        self.kinds = kinds;
    }

    /// Adds patterns; one that is held already changes nothing.
    pub(crate) fn add(&mut self, patterns: &[Pattern]) {
        for pattern in patterns {
            if !self.patterns.contains(pattern) {
                self.patterns.push(pattern.clone());
            }
        }
    }

    /// Removes exactly these patterns; one that is not held changes nothing.
    pub(crate) fn remove(&mut self, patterns: &[Pattern]) {
        self.patterns.retain(|held| !patterns.contains(held));
    }

    pub(crate) fn wants(&self, event: &LogEvent) -> bool {
        let kind_wanted = self.kinds.as_ref().is_none_or(|kinds| kinds.contains(event.kind()));
        kind_wanted && self.patterns.iter().any(|pattern| pattern.matches(event.repository()))
    }
}
