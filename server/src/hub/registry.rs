//! Who is listening, and for what. Plain data: no tasks, no sockets, no clock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use taskwatch_protocol::{Pattern, RepositoryName, Seq};

use super::{Selection, SendQueue};
use crate::LogEvent;

type Id = u64;

/// Which of the events that are given together: a bit for each.
pub(super) type EventSet = u128;

/// Those who want the same, by their number: nothing depends on how they are hashed. Most of them
/// are few, and a map would take three times the memory.
#[derive(Debug, Default)]
struct Members(Vec<Arc<Member>>);

/// A connection as the fan-out sees it.
#[derive(Debug)]
pub(crate) struct Member {
    id: Id,
    shard: usize,
    queue: Arc<SendQueue>,
    selection: Arc<Selection>,
    /// Its place in the list that is being made, counted from 1.
    listed: AtomicUsize,
}

/// Who is to get what.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) member: Arc<Member>,
    pub(super) events: EventSet,
}

impl Members {
    fn insert(&mut self, member: &Arc<Member>) {
        match self.place(member.id) {
            Ok(at) => self.0[at] = member.clone(),
            Err(at) => self.0.insert(at, member.clone()),
        }
    }

    fn remove(&mut self, id: Id) {
        if let Ok(at) = self.place(id) {
            self.0.remove(at);
        }
    }

    fn place(&self, id: Id) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |member| member.id)
    }
}

impl Member {
    /// The number of the worker that serves it.
    pub(super) fn shard(&self) -> usize {
        self.shard
    }

    pub(crate) fn queue(&self) -> &SendQueue {
        &self.queue
    }

    pub(crate) fn selection(&self) -> &Arc<Selection> {
        &self.selection
    }

    /// The same connection, wanting something else.
    pub(crate) fn wanting(&self, selection: Arc<Selection>) -> Self {
        let (id, shard, queue) = (self.id, self.shard, self.queue.clone());
        Self { id, shard, queue, selection, listed: AtomicUsize::new(0) }
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
            all: Members::default(),
        }
    }

    pub(crate) fn queues(&self) -> Vec<Arc<SendQueue>> {
        self.queues.values().cloned().collect()
    }

    pub(crate) fn enter(
        &mut self,
        shard: usize,
        queue: Arc<SendQueue>,
        selection: Arc<Selection>,
    ) -> Member {
        self.next_id += 1;
        self.queues.insert(self.next_id, queue.clone());
        Member { id: self.next_id, shard, queue, selection, listed: AtomicUsize::new(0) }
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
            members.insert(member);
        }
        Joined::Level
    }

    /// The same selection as another who has joined holds it, if one is at hand: many want the same.
    pub(crate) fn alike(&self, selection: &Arc<Selection>) -> Arc<Selection> {
        let members = match selection.visible().first() {
            Some(Pattern::All) => Some(&self.all),
            Some(Pattern::Prefix(prefix)) => self.prefix.get(prefix),
            Some(Pattern::Exact(name)) => self.exact.get(name),
            None => None,
        };
        let other = members.and_then(|members| members.0.last()).map(|member| &member.selection);
        other.filter(|other| *other == selection).unwrap_or(selection).clone()
    }

    pub(crate) fn leave(&mut self, member: &Member) {
        for pattern in member.selection.visible() {
            match pattern {
                Pattern::All => self.all.remove(member.id),
                Pattern::Prefix(prefix) => remove(&mut self.prefix, prefix, member.id),
                Pattern::Exact(name) => remove(&mut self.exact, name, member.id),
            }
        }
    }

    pub(crate) fn exit(&mut self, member: &Member) {
        self.leave(member);
        self.queues.remove(&member.id);
    }

    /// Moves the head to the last of these events, of which there may be as many as a set has bits,
    /// and lists who is to get which.
    pub(super) fn recipients(&mut self, events: &[LogEvent], list: &mut VecDeque<Wanted>) {
        let Some(last) = events.last() else { return };
        self.head = last.seq();
        list.clear();
        let mut repositories: Vec<(&RepositoryName, EventSet)> = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let name = event.repository();
            match repositories.iter_mut().find(|(known, _)| *known == name) {
                Some((_, set)) => *set |= 1 << at,
                None => repositories.push((name, 1 << at)),
            }
        }
        // Who is found by two patterns is listed once, with what both find.
        let mut add = |members: &Members, set: EventSet| {
            for member in &members.0 {
                // Nobody else looks at it: this registry is locked.
                let place = member.listed.load(Ordering::Relaxed).checked_sub(1);
                match place.and_then(|place| list.get_mut(place)) {
                    Some(wanted) => wanted.events |= set,
                    None => {
                        list.push_back(Wanted { member: member.clone(), events: set });
                        member.listed.store(list.len(), Ordering::Relaxed);
                    }
                }
            }
        };
        for (name, set) in repositories {
            let slashes = name.as_str().match_indices('/').map(|(at, _)| &name.as_str()[..=at]);
            let by_prefix = slashes.filter_map(|prefix| self.prefix.get(prefix));
            by_prefix.chain(self.exact.get(name)).for_each(|members| add(members, set));
        }
        add(&self.all, EventSet::MAX >> (EventSet::BITS as usize - events.len()));
        for Wanted { member, events: wanted } in list {
            member.listed.store(0, Ordering::Relaxed);
            *wanted &= member.selection.kinds_of(events);
        }
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
        members.remove(id);
        if members.0.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::hub::{Frames, Taken};
    use crate::log::tests::event;
    use crate::{PageLimit, Principal};
    use proptest::prelude::*;
    use taskwatch_protocol::EventKind;

    fn wanting(patterns: &[&str]) -> Arc<Selection> {
        let mut selection = Selection::of(Principal::anonymous());
        let patterns: Vec<Pattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        selection.add(&patterns);
        Arc::new(selection)
    }

    fn enter(registry: &mut Registry, patterns: &[&str]) -> Arc<Member> {
        let queue = Arc::new(SendQueue::default());
        Arc::new(registry.enter(0, queue, wanting(patterns)))
    }

    fn fan_out(registry: &mut Registry, events: &[LogEvent]) {
        fan_out_within(registry, events, PageLimit { events: 128, bytes: usize::MAX });
    }

    fn fan_out_within(registry: &mut Registry, events: &[LogEvent], limit: PageLimit) {
        let mut list = VecDeque::new();
        registry.recipients(events, &mut list);
        for Wanted { member, events: set } in list {
            let wanted = events.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0);
            let wanted = wanted.map(|(_, event)| event);
            if let Some(frames) = Frames::of(wanted, Instant::now()) {
                member.queue.push(&frames, limit);
            }
        }
    }

    fn got(member: &Member) -> Vec<Seq> {
        let mut seqs = vec![];
        while let Taken::Frames { frames, .. } = member.queue.take() {
            seqs.extend(frames.each().map(|(seq, _)| seq));
        }
        seqs
    }

    #[test]
    fn joining_is_one_comparison() {
        let mut registry = Registry::new(5);
        let member = enter(&mut registry, &["foo"]);
        assert_eq!(registry.join(&member, 4), Joined::Behind);
        fan_out(&mut registry, &[event(6, "foo")]);
        assert_eq!(registry.join(&member, 5), Joined::Behind);
        assert_eq!(registry.join(&member, 6), Joined::Level);
        fan_out(&mut registry, &[event(7, "foo")]);
        assert_eq!(got(&member), [7]);
    }

    #[test]
    fn who_wants_the_same_shares_what_it_wants() {
        let mut registry = Registry::new(0);
        let member = enter(&mut registry, &["foo", "a/*"]);
        registry.join(&member, 0);
        let is_shared =
            |wanted: Arc<Selection>| Arc::ptr_eq(&registry.alike(&wanted), &member.selection);
        assert!(is_shared(wanting(&["foo", "a/*"])));
        assert!(!is_shared(wanting(&["foo"])));
        assert!(!is_shared(wanting(&["bar"])));
        let mut somebody = Selection::of(Principal::new("ana").reading([Pattern::All]));
        somebody.add(member.selection.patterns());
        assert!(!is_shared(Arc::new(somebody)));
    }

    #[test]
    fn who_left_gets_nothing_and_leaves_nothing_behind() {
        let mut registry = Registry::new(0);
        let member = enter(&mut registry, &["foo", "a/*", "*"]);
        assert_eq!(registry.join(&member, 0), Joined::Level);
        registry.leave(&member);
        fan_out(&mut registry, &[event(1, "foo")]);
        assert!(got(&member).is_empty());
        registry.exit(&member);
        assert!(registry.exact.is_empty() && registry.prefix.is_empty());
        assert!(registry.all.0.is_empty() && registry.queues.is_empty());
    }

    #[test]
    fn two_matching_patterns_are_one_delivery() {
        let mut registry = Registry::new(0);
        let member = enter(&mut registry, &["a/b", "a/*", "*"]);
        registry.join(&member, 0);
        fan_out(&mut registry, &[event(1, "a/b")]);
        assert_eq!(got(&member), [1]);
    }

    #[test]
    fn a_full_queue_costs_its_owner_and_nobody_else() {
        let mut registry = Registry::new(0);
        let patient = enter(&mut registry, &["foo"]);
        let stalled = enter(&mut registry, &["foo"]);
        registry.join(&patient, 0);
        registry.join(&stalled, 0);
        for seq in 1..=3 {
            let limit = PageLimit { events: 1, bytes: usize::MAX };
            fan_out_within(&mut registry, &[event(seq, "foo")], limit);
            assert_eq!(got(&patient), [seq]);
        }
        assert!(matches!(stalled.queue.take(), Taken::Overflowed));
        assert_eq!(stalled.queue.shut(), Some(0));
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_the_judge(
            patterns in proptest::collection::vec("(\\*|[ab](/[ab]){0,2}(/\\*)?)", 0..4),
            kinds in proptest::option::of(proptest::sample::subsequence(
                vec![EventKind::Created, EventKind::Updated, EventKind::Deleted], 0..3
            )),
            repos in proptest::collection::vec(("[ab](/[ab]){0,3}", 0..3_usize), 1..=128),
        ) {
            let mut registry = Registry::new(0);
            let mut selection = Selection::of(Principal::anonymous());
            let patterns: Vec<Pattern> = patterns.iter().map(|it| it.parse().unwrap()).collect();
            selection.add(&patterns);
            selection.set_kinds(kinds);
            let queue = Arc::new(SendQueue::default());
            let member = Arc::new(registry.enter(0, queue, Arc::new(selection)));
            registry.join(&member, 0);
            let events: Vec<LogEvent> = repos.iter().zip(1..).map(|((repo, kind), seq)| {
                let kind = [EventKind::Created, EventKind::Updated, EventKind::Deleted][*kind].clone();
                LogEvent::new(seq, repo.parse().unwrap(), kind, "{}")
            }).collect();
            fan_out(&mut registry, &events);
            let wanted = events.iter().filter(|event| member.selection.wants(event));
            prop_assert_eq!(got(&member), wanted.map(LogEvent::seq).collect::<Vec<_>>());
        }
    }
}
