//! Which event may be handled now. Pure: the time is an argument.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Items in the order in which they came. Those with the same key are handled one after the other, each
/// until it succeeds; up to `parallel` of different keys at a time.
#[derive(Debug)]
pub(crate) struct Queue<K, T> {
    parallel: usize,
    keys: HashMap<K, VecDeque<Job<T>>>,
    /// Whose first item was not tried yet, in the order in which they came so far.
    fresh: VecDeque<K>,
    /// Whose first item is tried again, and when.
    retries: BTreeSet<(Instant, K)>,
    running: usize,
    len: usize,
}

#[derive(Debug)]
struct Job<T> {
    item: T,
    /// How often it was tried.
    attempts: u32,
}

/// What to handle now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Start<'a, K, T> {
    pub(crate) key: K,
    pub(crate) item: &'a T,
    /// 1 for the first time.
    pub(crate) attempt: u32,
}

impl<K: Copy + Ord + Hash, T> Queue<K, T> {
    pub(crate) fn new(parallel: NonZeroUsize) -> Self {
        Self {
            parallel: parallel.get(),
            keys: HashMap::new(),
            fresh: VecDeque::new(),
            retries: BTreeSet::new(),
            running: 0,
            len: 0,
        }
    }

    /// How many are not handled.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, key: K, item: T) {
        let jobs = self.keys.entry(key).or_default();
        if jobs.is_empty() {
            self.fresh.push_back(key);
        }
        jobs.push_back(Job { item, attempts: 0 });
        self.len += 1;
    }

    /// What may be handled now, if anything; it must be said what came of it.
    pub(crate) fn start(&mut self, now: Instant) -> Option<Start<'_, K, T>> {
        if self.running == self.parallel {
            return None;
        }
        let key = match self.retries.first() {
            Some(&(at, key)) if at <= now => {
                self.retries.pop_first();
                key
            }
            _ => self.fresh.pop_front()?,
        };
        let job = self.keys.get_mut(&key)?.front_mut()?;
        self.running += 1;
        job.attempts = job.attempts.saturating_add(1);
        Some(Start { key, item: &job.item, attempt: job.attempts })
    }

    /// What was started for this key is handled: it, and next comes what waited behind it.
    pub(crate) fn succeeded(&mut self, key: K) -> Option<T> {
        let jobs = self.keys.get_mut(&key)?;
        let handled = jobs.pop_front()?;
        if jobs.is_empty() {
            self.keys.remove(&key);
        } else {
            self.fresh.push_back(key);
        }
        self.running -= 1;
        self.len -= 1;
        Some(handled.item)
    }

    /// What was started for this key failed: it, how often it was tried, and the wait until it is
    /// tried again.
    pub(crate) fn failed(&mut self, key: K, now: Instant) -> Option<(&T, u32, Duration)> {
        let job = self.keys.get(&key)?.front()?;
        let wait = wait(job.attempts);
        self.retries.insert((now + wait, key));
        self.running -= 1;
        Some((&job.item, job.attempts, wait))
    }

    /// When something is tried again, if there is room for it.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        let (at, _) = self.retries.first()?;
        (self.running < self.parallel).then_some(*at)
    }
}

/// Before the next attempt after so many.
fn wait(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(10);
    (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let millis: Vec<_> = (1..=10).map(|attempts| wait(attempts).as_millis()).collect();
        assert_eq!(millis, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(wait(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn what_failed_comes_back_and_holds_up_its_own_key_alone() {
        let (now, mut queue) = (Instant::now(), Queue::new(NonZeroUsize::new(2).unwrap()));
        for (key, item) in [('a', 1), ('a', 2), ('b', 3)] {
            queue.push(key, item);
        }
        let start = |key, item, attempt| Some(Start { key, item, attempt });
        assert_eq!(queue.start(now), start('a', &1, 1));
        assert_eq!(queue.failed('a', now), Some((&1, 1, FIRST_WAIT)));
        assert_eq!(queue.start(now), start('b', &3, 1));
        assert_eq!(queue.start(now), None);
        assert_eq!(queue.next_retry(), Some(now + FIRST_WAIT));
        assert_eq!(queue.start(now + FIRST_WAIT), start('a', &1, 2));
        assert_eq!((queue.next_retry(), queue.len()), (None, 3));
        assert_eq!(queue.succeeded('a'), Some(1));
        assert_eq!(queue.start(now), start('a', &2, 1));
        assert_eq!((queue.succeeded('b'), queue.succeeded('a')), (Some(3), Some(2)));
        assert_eq!((queue.len(), queue.start(now)), (0, None));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Start,
        /// One of those that run ends, well or not.
        End(usize, bool),
        Wait(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..4_u8).prop_map(Step::Push),
            4 => Just(Step::Start),
            4 => (0..12_usize, prop::bool::weighted(0.6))
                .prop_map(|(which, well)| Step::End(which, well)),
            1 => (0..2_000_u16).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn in_order_at_most_so_many_and_each_until_it_succeeds(
            parallel in 1..4_usize, steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut queue = Queue::new(NonZeroUsize::new(parallel).unwrap());
            let mut now = Instant::now();
            // What is not handled of each key, and the attempts of its first.
            let mut open: BTreeMap<u8, (VecDeque<usize>, u32)> = BTreeMap::new();
            let mut running: Vec<u8> = vec![];
            let mut handled = 0;
            let mut number = 0;
            let drain = (0..3_000).map(|nth| match nth % 3 {
                0 => Step::Wait(60_000),
                1 => Step::Start,
                _ => Step::End(nth, true),
            });
            for step in steps.into_iter().chain(drain) {
                match step {
                    Step::Push(key) => {
                        number += 1;
                        queue.push(key, number);
                        open.entry(key).or_default().0.push_back(number);
                    }
                    Step::Start => {
                        let Some(Start { key, item, attempt }) = queue.start(now) else { continue };
                        let (items, attempts) = open.get_mut(&key).unwrap();
                        *attempts += 1;
                        prop_assert_eq!((item, attempt), (&items[0], *attempts));
                        prop_assert!(!running.contains(&key));
                        running.push(key);
                        prop_assert!(running.len() <= parallel);
                    }
                    Step::End(which, well) => {
                        if running.is_empty() {
                            continue;
                        }
                        let key = running.swap_remove(which % running.len());
                        let (items, attempts) = open.get_mut(&key).unwrap();
                        if well {
                            prop_assert_eq!(queue.succeeded(key), items.pop_front());
                            *attempts = 0;
                            handled += 1;
                        } else {
                            let (item, tried, _) = queue.failed(key, now).unwrap();
                            prop_assert_eq!((item, tried), (&items[0], *attempts));
                        }
                    }
                    Step::Wait(millis) => now += Duration::from_millis(millis.into()),
                }
                let left: usize = open.values().map(|(items, _)| items.len()).sum();
                prop_assert_eq!(queue.len(), left);
            }
            prop_assert_eq!((queue.len(), handled), (0, number));
        }
    }
}
