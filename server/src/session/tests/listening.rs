//! Peers that cannot talk back.

use super::*;
use crate::session::listening::{MAX_BYTES, MAX_EVENTS, UNCOUNTED};

fn listening(wait: Option<Duration>) -> Bench {
    let mut bench = Bench::new();
    let lifetime = Duration::from_secs(600);
    bench.session.listen(Terms { lifetime, wait }, bench.now.instant);
    bench
}

impl Bench {
    fn request(&mut self, extra: Value) -> Value {
        let frame = subscribe(extra);
        let Ok(ClientFrame { message: ClientMessage::Subscribe(asked), .. }) =
            ClientFrame::decode(&frame.to_string())
        else {
            panic!("{frame}")
        };
        self.session.request(asked);
        match self.session.answer(self.now, &Positions) {
            Some(Answer::Frame(frame)) => without_time(&frame),
            other => panic!("{other:?}"),
        }
    }

    /// What is said when everything up to the head was sent.
    fn level(&mut self) -> Option<Value> {
        self.session.scanned(10);
        self.session.level(self.now, &Positions).map(|frame| without_time(&frame))
    }

    /// Time passes as it does for a connection; what was done about it.
    fn until(&mut self, passed: Duration) -> Vec<(Duration, Step)> {
        let beginning = self.now.instant;
        let mut done = vec![];
        while self.session.deadline() <= beginning + passed {
            self.now.instant = self.session.deadline();
            let step = self.tick();
            done.push((self.now.instant - beginning, step));
            if let Some((_, Step::Close(_))) = done.last() {
                break;
            }
        }
        self.now.instant = beginning + passed;
        done
    }
}

#[test]
fn silence_is_no_reason_to_end() {
    let mut bench = listening(None);
    bench.request(json!({}));
    let steps = bench.until(Duration::from_secs(300));
    assert!(steps.len() >= 20 && steps.len() < 60, "neither silent nor busy: {steps:?}");
    assert!(steps.iter().all(|(_, step)| matches!(step, Step::Nothing | Step::KeepAlive)));
    let alive: Vec<_> =
        steps.iter().filter(|(_, step)| *step == Step::KeepAlive).map(|(at, _)| *at).collect();
    let expected: Vec<_> = (1..=20).map(|times| times * Duration::from_secs(15)).collect();
    assert_eq!(alive, expected);
}

#[test]
fn it_ends_after_its_time_and_asks_to_come_back() {
    let mut bench = listening(None);
    bench.request(json!({}));
    let (at, step) = bench.until(Duration::from_secs(700)).pop().unwrap();
    assert_eq!((at, step), (Duration::from_secs(600), Step::Close(CloseCode::Rebalance)));
}

#[test]
fn it_does_not_end_within_a_snapshot() {
    let mut bench = listening(None);
    let request = bench.ask_snapshot(&subscribe(json!({"snapshot": true})));
    bench.begin_snapshot(request, 10);
    let steps = bench.until(Duration::from_secs(900));
    assert!(steps.len() < 120, "neither silent nor busy: {steps:?}");
    assert!(!steps.iter().any(|(_, step)| matches!(step, Step::Close(_))), "{steps:?}");
    bench.session.end_snapshot();
    assert_eq!(bench.until(SECOND), [(Duration::ZERO, Step::Close(CloseCode::Rebalance))]);
}

#[test]
fn a_bookmark_says_that_it_is_level_after_a_resume_and_at_every_heartbeat() {
    let mut bench = listening(None);
    assert_eq!(bench.request(json!({"since": "4"}))["data"]["mode"], "resumed");
    let bookmark =
        |delivered: u64| json!({"type": "ping", "cursor": "10", "data": {"delivered": delivered}});
    bench.session.sent(1, 7);
    assert_eq!(bench.level(), Some(bookmark(1)));
    assert_eq!(bench.level(), None);
    bench.until(Duration::from_secs(21));
    assert_eq!(bench.level(), Some(bookmark(1)));
    assert_eq!(bench.level(), None);
}

#[test]
fn who_begins_at_the_head_is_level_and_counts_now_and_then() {
    let mut bench = listening(None);
    bench.request(json!({}));
    assert_eq!(bench.level(), None);
    (0..UNCOUNTED - 1).for_each(|_| bench.session.sent(1, 10));
    assert_eq!(bench.level(), None);
    bench.session.sent(1, 10);
    assert_eq!(bench.level().unwrap()["data"]["delivered"], UNCOUNTED);
    assert_eq!(bench.level(), None);
    assert!(bench.session.has_room(usize::MAX), "only a poll is ever full");
}

#[test]
fn who_catches_up_for_long_is_told_the_count_and_is_not_level() {
    let mut bench = listening(None);
    bench.request(json!({"since": "4"}));
    let count = |bench: &mut Bench| {
        bench.session.count(bench.now, &Positions).map(|frame| without_time(&frame))
    };
    (0..UNCOUNTED - 1).for_each(|_| bench.session.sent(1, 7));
    assert_eq!(count(&mut bench), None);
    bench.session.sent(1, 8);
    let pong = json!({"type": "pong", "cursor": "8", "data": {"delivered": UNCOUNTED}});
    assert_eq!(count(&mut bench), Some(pong));
    assert_eq!(count(&mut bench), None);
    assert_eq!(bench.level().unwrap()["type"], "ping", "the bookmark is still owed");
}

#[test]
fn a_snapshot_ends_with_a_bookmark() {
    for wait in [None, Some(SECOND)] {
        let mut bench = listening(wait);
        let asked = subscribe(json!({"snapshot": true}));
        let request = bench.ask_snapshot(&asked);
        bench.begin_snapshot(request, 10);
        bench.session.end_snapshot();
        assert!(bench.level().is_some());
        assert_eq!(bench.session.end(), wait.map(|_| End::Done));
    }
}

#[test]
fn where_nothing_is_subscribed_nothing_follows() {
    let mut bench = listening(None);
    bench.request(json!({"since": "1"}));
    assert_eq!(bench.session.end(), Some(End::Done));
    let mut bench = listening(None);
    bench.request(json!({"since": "1", "on_gap": "live"}));
    assert_eq!(bench.session.end(), None);

    let mut bench =
        Bench::of(Principal::new("ana").reading(["bar".parse().unwrap()]), None, bench.now);
    bench.session.listen(Terms { lifetime: SECOND, wait: None }, bench.now.instant);
    let bar = Subscribe::live(vec!["bar".parse().unwrap()]);
    let foo = Subscribe::live(vec!["foo".parse().unwrap()]);
    // What is denied is no end while something else waits, or is held.
    for (asked, end) in [(&foo, None), (&bar, None), (&foo, None)] {
        bench.session.request(asked.clone());
        bench.session.request(bar.clone());
        assert!(bench.session.answer(bench.now, &Positions).is_some());
        assert_eq!(bench.session.end(), end);
    }
    let mut bench = Bench::of(Principal::new("ana"), None, bench.now);
    bench.session.listen(Terms { lifetime: SECOND, wait: None }, bench.now.instant);
    bench.request(json!({}));
    assert_eq!(bench.session.end(), Some(End::Done));
}

#[test]
fn a_state_that_cannot_be_had_now_is_asked_for_again() {
    for (error, end) in [
        (SnapshotError::Unsupported, End::Done),
        (SnapshotError::Unavailable(String::new()), End::Close(CloseCode::Unavailable)),
    ] {
        let mut bench = listening(None);
        let request = bench.ask_snapshot(&subscribe(json!({"snapshot": true})));
        bench.session.refuse_snapshot(request, &error, bench.now);
        assert_eq!(bench.session.end(), Some(end));
    }
}

#[test]
fn a_poll_ends_when_there_was_something() {
    let mut bench = listening(Some(25 * SECOND));
    bench.request(json!({"since": "4"}));
    assert_eq!(bench.level(), None, "a resume alone is nothing");
    assert_eq!(bench.session.end(), None);
    bench.session.sent(1, 10);
    assert_eq!(bench.level().unwrap()["data"]["delivered"], 1);
    assert_eq!(bench.session.end(), Some(End::Done));
}

#[test]
fn a_poll_ends_when_its_time_is_over() {
    for wait in [Duration::ZERO, 25 * SECOND] {
        let mut bench = listening(Some(wait));
        bench.request(json!({"since": "4"}));
        if let Some(before) = wait.checked_sub(SECOND) {
            bench.until(before);
            assert_eq!(bench.level(), None);
        }
        let steps = bench.until(SECOND);
        assert!(!steps.iter().any(|(_, step)| matches!(step, Step::Close(_))), "{steps:?}");
        // Not before it is level: there may be something.
        assert_eq!(bench.session.end(), None);
        let expected = json!({"type": "ping", "cursor": "10", "data": {"delivered": 0}});
        assert_eq!(bench.level(), Some(expected));
        assert_eq!(bench.session.end(), Some(End::Done));
    }
}

#[test]
fn a_poll_has_room_for_so_much() {
    let mut bench = listening(Some(SECOND));
    assert!(bench.session.has_room(MAX_BYTES + 1), "one may be larger");
    bench.session.sent(1, 1);
    assert_eq!(bench.session.count(bench.now, &Positions), None);
    assert!(!bench.session.has_room(1));
    assert_eq!(bench.session.end(), Some(End::Done));
    let last = bench.session.count(bench.now, &Positions).unwrap();
    let last = without_time(&last);
    assert_eq!(last, json!({"type": "pong", "cursor": "1", "data": {"delivered": 1}}));

    let mut bench = listening(Some(SECOND));
    for _ in 0..MAX_EVENTS {
        assert!(bench.session.has_room(1));
        bench.session.sent(1, 1);
    }
    assert!(!bench.session.has_room(1));
}
