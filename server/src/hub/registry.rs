//! Who is listening, and for what. Plain data: no tasks, no sockets, no clock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use taskwatch_protocol::{Pattern, RepositoryName, Seq};

use super::{Selection, SendQueue};
use crate::LogEvent;

type Id = u64;
/// In the order in which they came: nothing depends on how they are hashed.
type Members = BTreeMap<Id, Arc<Member>>;

/// A connection as the fan-out sees it.
#[derive(Debug)]
pub(crate) struct Member {
    id: Id,
    queue: Arc<SendQueue>,
    selection: Arc<Selection>,
}

impl Member {
    pub(crate) fn queue(&self) -> &SendQueue {
        &self.queue
    }

    pub(crate) fn selection(&self) -> &Arc<Selection> {
        &self.selection
    }

    /// The same connection, wanting something else.
    pub(crate) fn wanting(&self, selection: Arc<Selection>) -> Self {
        Self { id: self.id, queue: self.queue.clone(), selection }
    }
}

/// Whether a connection is level now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    Level,
    /// Events after its position were given out already: read on.
    Behind,
}

/// Every connection, and for the level ones an index from a repository to who wants it.
#[derive(Debug)]
pub(crate) struct Registry {
    /// The newest event whose recipients were listed. Who joins after that reads it from the
    /// cache.
    head: Seq,
    next_id: Id,
    queues: BTreeMap<Id, Arc<SendQueue>>,
    exact: HashMap<RepositoryName, Members>,
    prefix: HashMap<Arc<str>, Members>,
    all: Members,
}

impl Registry {
    /// Nobody is listening to a log whose newest event is `head`.
    pub(crate) fn new(head: Seq) -> Self {
        Self {
            head,
            next_id: 0,
            queues: BTreeMap::new(),
            exact: HashMap::new(),
            prefix: HashMap::new(),
            all: Members::new(),
        }
    }

    pub(crate) fn queues(&self) -> Vec<Arc<SendQueue>> {
        self.queues.values().cloned().collect()
    }

    pub(crate) fn enter(&mut self, queue: Arc<SendQueue>, selection: Arc<Selection>) -> Member {
        self.next_id += 1;
        self.queues.insert(self.next_id, queue.clone());
        Member { id: self.next_id, queue, selection }
    }

    /// One comparison decides: level, then insert; else read on.
    pub(crate) fn join(&mut self, member: &Arc<Member>, position: Seq) -> Joined {
        if position < self.head {
            return Joined::Behind;
        }
        member.queue.open(position);
        for pattern in member.selection.visible() {
            let members = match pattern {
                Pattern::All => &mut self.all,
                Pattern::Prefix(prefix) => self.prefix.entry(prefix.clone()).or_default(),
                Pattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            };
            members.insert(member.id, member.clone());
        }
        Joined::Level
    }

    pub(crate) fn leave(&mut self, member: &Member) {
        for pattern in member.selection.visible() {
            match pattern {
                Pattern::All => drop(self.all.remove(&member.id)),
                Pattern::Prefix(prefix) => remove(&mut self.prefix, prefix, member.id),
                Pattern::Exact(name) => remove(&mut self.exact, name, member.id),
            }
        }
    }

    pub(crate) fn exit(&mut self, member: &Member) {
        self.leave(member);
        self.queues.remove(&member.id);
    }

    /// Moves the head to `event` and lists who is to get it; one with two matching patterns may
    /// be listed twice, and its queue takes the event once.
    pub(super) fn recipients(&mut self, event: &LogEvent, list: &mut VecDeque<Arc<Member>>) {
        self.head = event.seq();
        let name = event.repository();
        let slashes = name.as_str().match_indices('/').map(|(at, _)| &name.as_str()[..=at]);
        let by_prefix = slashes.filter_map(|prefix| self.prefix.get(prefix));
        let members = self.exact.get(name).into_iter().chain(by_prefix).chain([&self.all]);
        // The index narrows; the selection judges, here as in a replay.
        let wanting =
            members.flat_map(Members::values).filter(|member| member.selection.wants(event));
        list.extend(wanting.cloned());
    }

    /// Moves the head over events that can no longer be given out one by one: whoever is level
    /// has to read them from the log.
    pub(super) fn skip_to(&mut self, head: Seq) {
        self.head = head;
        for queue in self.queues.values() {
            queue.overflow();
        }
    }
}

fn remove<K: Eq + Hash>(index: &mut HashMap<K, Members>, key: &K, id: Id) {
    if let Some(members) = index.get_mut(key) {
        members.remove(&id);
        if members.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Principal;
    use crate::hub::Taken;
    use crate::log::tests::event;
    use proptest::prelude::*;

    fn wanting(patterns: &[&str]) -> Arc<Selection> {
        let mut selection = Selection::of(Principal::anonymous());
        let patterns: Vec<Pattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        selection.add(&patterns);
        Arc::new(selection)
    }

    fn enter(registry: &mut Registry, patterns: &[&str]) -> Arc<Member> {
        let queue = Arc::new(SendQueue::new(64, usize::MAX));
        Arc::new(registry.enter(queue, wanting(patterns)))
    }

    fn fan_out(registry: &mut Registry, event: &LogEvent) {
        let mut list = VecDeque::new();
        registry.recipients(event, &mut list);
        for member in list {
            member.queue.push(event);
        }
    }

    fn got(member: &Member) -> Vec<Seq> {
        match member.queue.take(usize::MAX) {
            Taken::Frames { frames, .. } => frames.into_iter().map(|(seq, _)| seq).collect(),
            Taken::Overflowed { .. } => panic!("overflowed"),
        }
    }

    #[test]
    fn joining_is_one_comparison() {
        let mut registry = Registry::new(5);
        let member = enter(&mut registry, &["foo"]);
        assert_eq!(registry.join(&member, 4), Joined::Behind);
        fan_out(&mut registry, &event(6, "foo"));
        assert_eq!(registry.join(&member, 5), Joined::Behind);
        assert_eq!(registry.join(&member, 6), Joined::Level);
        fan_out(&mut registry, &event(7, "foo"));
        assert_eq!(got(&member), [7]);
    }

    #[test]
    fn who_left_gets_nothing_and_leaves_nothing_behind() {
        let mut registry = Registry::new(0);
        let member = enter(&mut registry, &["foo", "a/*", "*"]);
        assert_eq!(registry.join(&member, 0), Joined::Level);
        registry.leave(&member);
        fan_out(&mut registry, &event(1, "foo"));
        assert!(got(&member).is_empty());
        registry.exit(&member);
        assert!(registry.exact.is_empty() && registry.prefix.is_empty());
        assert!(registry.all.is_empty() && registry.queues.is_empty());
    }

    #[test]
    fn two_matching_patterns_are_one_delivery() {
        let mut registry = Registry::new(0);
        let member = enter(&mut registry, &["a/b", "a/*", "*"]);
        registry.join(&member, 0);
        fan_out(&mut registry, &event(1, "a/b"));
        assert_eq!(got(&member), [1]);
    }

    #[test]
    fn a_full_queue_costs_its_owner_and_nobody_else() {
        let mut registry = Registry::new(0);
        let patient = enter(&mut registry, &["foo"]);
        let queue = Arc::new(SendQueue::new(1, usize::MAX));
        let stalled = Arc::new(registry.enter(queue, wanting(&["foo"])));
        registry.join(&patient, 0);
        registry.join(&stalled, 0);
        for seq in 1..=3 {
            fan_out(&mut registry, &event(seq, "foo"));
        }
        assert_eq!(stalled.queue.take(usize::MAX), Taken::Overflowed { position: Some(0) });
        assert_eq!(got(&patient), [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_the_judge(
            patterns in proptest::collection::vec("(\\*|[ab](/[ab]){0,2}(/\\*)?)", 0..4),
            repo in "[ab](/[ab]){0,3}",
        ) {
            let mut registry = Registry::new(0);
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let member = enter(&mut registry, &patterns);
            registry.join(&member, 0);
            let event = event(1, &repo);
            fan_out(&mut registry, &event);
            prop_assert_eq!(!got(&member).is_empty(), member.selection.wants(&event));
        }
    }
}
