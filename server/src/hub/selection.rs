//! What one connection wants.

use taskwatch_protocol::{EventKind, Pattern, RepositoryName};

use super::registry::EventSet;
use crate::{LogEvent, Principal};

/// Patterns and types of events, and who wants them. The one judge of whether an event is sent, live
/// and in replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    principal: Principal,
    patterns: Vec<Pattern>,
    /// What of these the principal may read.
    visible: Vec<Pattern>,
    kinds: Option<Vec<EventKind>>,
}

impl Selection {
    pub(crate) fn of(principal: Principal) -> Self {
        Self { principal, patterns: vec![], visible: vec![], kinds: None }
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// As they were asked for.
    pub(crate) fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// What is judged by.
    pub(crate) fn visible(&self) -> &[Pattern] {
        &self.visible
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
        self.patterns.shrink_to_fit();
        self.visible = visible(&self.patterns, &self.principal);
    }

    /// Removes exactly these patterns; one that is not held changes nothing.
    pub(crate) fn remove(&mut self, patterns: &[Pattern]) {
        self.patterns.retain(|held| !patterns.contains(held));
        self.visible = visible(&self.patterns, &self.principal);
    }

    pub(crate) fn wants(&self, event: &LogEvent) -> bool {
        self.wants_of(event.repository(), event.kind())
    }

    /// Whether an event of this repository and kind is wanted.
    pub(crate) fn wants_of(&self, repository: &RepositoryName, kind: &EventKind) -> bool {
        self.wants_kind(kind) && self.visible.iter().any(|pattern| pattern.matches(repository))
    }

    /// Those of these events whose kind is wanted.
    pub(super) fn kinds_of(&self, events: &[LogEvent]) -> EventSet {
        if self.kinds.is_none() {
            return EventSet::MAX;
        }
        let wanted = events.iter().enumerate().filter(|(_, event)| self.wants_kind(event.kind()));
        wanted.fold(0, |set, (at, _)| set | 1 << at)
    }

    fn wants_kind(&self, kind: &EventKind) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
    }
}

/// What these patterns match, as far as the principal may read it.
pub(crate) fn visible(patterns: &[Pattern], principal: &Principal) -> Vec<Pattern> {
    let mut visible: Vec<Pattern> = Vec::new();
    for pattern in patterns {
        let readable = principal.readable().iter();
        for common in readable.filter_map(|granted| pattern.intersection(granted)) {
            if !visible.iter().any(|wider| wider.contains(common)) {
                visible.retain(|narrower| !common.contains(narrower));
                visible.push(common.clone());
            }
        }
    }
    visible.shrink_to_fit();
    visible
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::tests::event;

    proptest! {
        #[test]
        fn an_event_is_wanted_if_it_was_asked_for_and_may_be_read(
            patterns in proptest::collection::vec("(\\*|[ab](/[ab]){0,2}(/\\*)?)", 0..4),
            granted in proptest::collection::vec("(\\*|[ab](/[ab]){0,2}(/\\*)?)", 0..4),
            repo in "[ab](/[ab]){0,3}",
        ) {
            let parse = |texts: &[String]| -> Vec<Pattern> {
                texts.iter().map(|text| text.parse().unwrap()).collect()
            };
            let (patterns, granted) = (parse(&patterns), parse(&granted));
            let principal = Principal::new("ana").reading(granted);
            let event = event(1, &repo);
            let asked_for = patterns.iter().any(|pattern| pattern.matches(event.repository()));
            let mut selection = Selection::of(principal.clone());
            selection.add(&patterns);
            let expected = asked_for && principal.may_read(event.repository());
            prop_assert_eq!(selection.wants(&event), expected);
            selection.remove(&patterns);
            prop_assert!(!selection.wants(&event));
        }
    }
}
