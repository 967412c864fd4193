//! The registry alone, for benchmarks: who listens, and who is to get what.

use std::collections::VecDeque;
use std::sync::Arc;

use taskwatch_protocol::{Pattern, Seq};

use super::registry::Wanted;
use super::{Member, Registry, Selection, SendQueue};
use crate::{LogEvent, Principal};

/// Level connections, as the fan-out sees them.
#[derive(Debug)]
pub struct Listeners {
    registry: Registry,
    head: Seq,
    recipients: VecDeque<Wanted>,
}

/// One of them.
#[derive(Debug)]
pub struct Listener(Arc<Member>);

impl Default for Listeners {
    fn default() -> Self {
        Self { registry: Registry::new(0), head: 0, recipients: VecDeque::new() }
    }
}

impl Listeners {
    /// A connection enters, and is level.
    pub fn join(&mut self, patterns: &[Pattern]) -> Listener {
        let mut selection = Selection::of(Principal::anonymous());
        selection.add(patterns);
        let queue = Arc::new(SendQueue::default());
        let member = Arc::new(self.registry.enter(0, queue, Arc::new(selection)));
        self.registry.join(&member, self.head);
        Listener(member)
    }

    /// It ends.
    pub fn leave(&mut self, listener: &Listener) {
        self.registry.exit(&listener.0);
    }

    /// Lists who is to get which of the events, at most 128, and says how many deliveries that are.
    pub fn recipients(&mut self, events: &[LogEvent]) -> usize {
        self.head = events.last().map_or(self.head, LogEvent::seq);
        self.registry.recipients(events, &mut self.recipients);
        self.recipients.iter().map(|wanted| wanted.events.count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::event;

    #[test]
    fn who_has_left_is_no_longer_listed() {
        let mut listeners = Listeners::default();
        let patterns = |text: &str| [text.parse().unwrap()];
        let (one, _other) = (listeners.join(&patterns("foo")), listeners.join(&patterns("*")));
        assert_eq!(listeners.recipients(&[event(1, "foo"), event(2, "bar")]), 3);
        listeners.leave(&one);
        assert_eq!(listeners.recipients(&[event(3, "foo")]), 1);
        listeners.join(&patterns("foo"));
        assert_eq!(listeners.recipients(&[event(4, "foo")]), 2, "it is level after an event too");
    }
}
