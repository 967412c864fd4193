//! What is under way, and what each subscriber has.

/// One topic's messages, numbered from 0, and how many subscribers have each.
#[derive(Debug)]
struct Topic {
    /// All messages before this one have come to everybody, or are waited for no longer.
    done: u64,
    next: u64,
    subscribers: u32,
    /// How many have message n, at n modulo the length, a power of two.
    arrived: Vec<u32>,
}

/// How many messages are not yet at every subscriber: what a flood is limited by.
#[derive(Debug)]
pub(crate) struct Window {
    topics: Vec<Topic>,
    under_way: u64,
    turn: usize,
}

impl Window {
    /// `most` is how many may be under way of one topic; some more than asked for at the same time,
    /// since a message that is ahead of another need not be the one that is waited for.
    pub(crate) fn new(topics: usize, most: u64) -> Self {
        let room = usize::try_from(most * 4).unwrap_or(usize::MAX).next_power_of_two().max(64);
        let topic = || Topic { done: 0, next: 0, subscribers: 0, arrived: vec![0; room] };
        Self { topics: (0..topics).map(|_| topic()).collect(), under_way: 0, turn: 0 }
    }

    pub(crate) fn under_way(&self) -> u64 {
        self.under_way
    }

    pub(crate) fn published(&self, topic: usize) -> u64 {
        self.topics[topic].next
    }

    pub(crate) fn join(&mut self, topic: usize) {
        self.topics[topic].subscribers += 1;
    }

    /// A subscriber has gone: its topic's messages need one arrival less.
    pub(crate) fn leave(&mut self, topic: usize) {
        self.topics[topic].subscribers -= 1;
        self.under_way -= self.topics[topic].advance();
    }

    /// The topic whose turn it is, and the number of its next message, which is under way from now
    /// on. `None` if no topic has both room and subscribers.
    pub(crate) fn publish(&mut self) -> Option<(usize, u64)> {
        for _ in 0..self.topics.len() {
            let at = self.turn;
            self.turn = (at + 1) % self.topics.len();
            let topic = &mut self.topics[at];
            if topic.subscribers > 0 && topic.next - topic.done < topic.arrived.len() as u64 {
                topic.next += 1;
                self.under_way += 1;
                return Some((at, topic.next - 1));
            }
        }
        None
    }

    /// One subscriber has message `number`.
    pub(crate) fn arrived(&mut self, topic: usize, number: u64) {
        let topic = &mut self.topics[topic];
        if (topic.done..topic.next).contains(&number) {
            *topic.slot(number) += 1;
            if number == topic.done {
                self.under_way -= topic.advance();
            }
        }
    }

    /// What is under way is waited for no longer.
    pub(crate) fn give_up(&mut self) {
        for topic in &mut self.topics {
            topic.done = topic.next;
            topic.arrived.fill(0);
        }
        self.under_way = 0;
    }
}

impl Topic {
    fn slot(&mut self, number: u64) -> &mut u32 {
        // Cut off above, which the mask takes away in any case.
        let at = number as usize & (self.arrived.len() - 1);
        &mut self.arrived[at]
    }

    /// How many messages have now come to everybody.
    fn advance(&mut self) -> u64 {
        let before = self.done;
        while self.done < self.next && *self.slot(self.done) >= self.subscribers {
            *self.slot(self.done) = 0;
            self.done += 1;
        }
        self.done - before
    }
}

/// The numbers of the messages that one subscriber has: how many, and their sum, since messages that
/// are published over several connections come in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    count: u64,
    sum: u64,
}

/// What is wrong with a [`Tally`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Difference {
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, number: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(number);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Compared with one each of the messages before `next`.
    pub(crate) fn compare(&self, next: u64) -> Difference {
        let sum = next * next.saturating_sub(1) / 2;
        let lost = next.saturating_sub(self.count);
        let repeated = self.count.saturating_sub(next);
        if lost == 0 && repeated == 0 && sum != self.sum {
            // As many, but others: at least one is missing, and one came twice.
            return Difference { lost: 1, repeated: 1 };
        }
        Difference { lost, repeated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(subscribers: &[u32]) -> Window {
        let mut window = Window::new(subscribers.len(), 4);
        for (topic, n) in subscribers.iter().enumerate() {
            (0..*n).for_each(|_| window.join(topic));
        }
        window
    }

    #[test]
    fn a_message_is_under_way_until_the_last_subscriber_has_it() {
        let mut window = window(&[2]);
        assert_eq!((window.publish(), window.publish()), (Some((0, 0)), Some((0, 1))));
        window.arrived(0, 1);
        window.arrived(0, 1);
        assert_eq!(window.under_way(), 2, "the first one is not there");
        window.arrived(0, 0);
        assert_eq!(window.under_way(), 2);
        window.arrived(0, 0);
        assert_eq!(window.under_way(), 0);
    }

    #[test]
    fn topics_take_turns_and_those_without_subscribers_are_passed_over() {
        let mut window = window(&[1, 0, 1]);
        let turns: Vec<usize> = (0..4).map(|_| window.publish().unwrap().0).collect();
        assert_eq!(turns, [0, 2, 0, 2]);
        assert_eq!((window.published(0), window.published(1)), (2, 0));
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let mut window = window(&[2]);
        window.publish();
        window.arrived(0, 0);
        window.leave(0);
        assert_eq!(window.under_way(), 0);
        window.leave(0);
        assert_eq!(window.publish(), None);
    }

    #[test]
    fn what_was_given_up_and_comes_late_changes_nothing() {
        let mut window = window(&[1]);
        (0..64).for_each(|_| assert!(window.publish().is_some()));
        assert_eq!(window.publish(), None, "no more room");
        window.give_up();
        assert_eq!(window.under_way(), 0);
        window.arrived(0, 3);
        assert_eq!(window.publish(), Some((0, 64)));
        assert_eq!(window.under_way(), 1);
        window.arrived(0, 64);
        assert_eq!(window.under_way(), 0);
    }

    #[test]
    fn a_tally_tells_what_is_lost_and_what_came_twice() {
        let tally = |numbers: &[u64]| {
            let mut tally = Tally::default();
            numbers.iter().for_each(|number| tally.add(*number));
            let Difference { lost, repeated } = tally.compare(3);
            (lost, repeated)
        };
        assert_eq!(tally(&[2, 0, 1]), (0, 0));
        assert_eq!(tally(&[0, 2]), (1, 0));
        assert_eq!(tally(&[0, 1, 2, 2]), (0, 1));
        assert_eq!(tally(&[0, 1, 1]), (1, 1));
    }
}
