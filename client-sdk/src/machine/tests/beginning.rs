//! A stream that begins with what has happened: since a time, or the last so many events.

use taskwatch_protocol::{OnGap as WireOnGap, Timestamp};

use super::*;

fn nine() -> Timestamp {
    Timestamp::from_unix_millis(9)
}

fn since(beginning: Beginning) -> Plan {
    Plan { beginning: Some(beginning), ..Plan::default() }
}

fn asks_for(subscribe: &Subscribe) -> (Option<Cursor>, Option<Timestamp>, Option<u32>) {
    (subscribe.since.clone(), subscribe.since_time, subscribe.tail)
}

#[test]
fn it_is_asked_for_in_each_attempt_until_it_was_answered() {
    for (beginning, asked) in [
        (Beginning::Time(nine()), (None, Some(nine()), None)),
        (Beginning::Tail(3), (None, None, Some(3))),
    ] {
        let mut rig = Rig::new(since(beginning));
        let first = subscribes(&rig.opens());
        assert_eq!(asks_for(&first[0]), asked);
        rig.cut();
        assert_eq!(asks_for(&rig.comes_back()), asked);
        // What comes after the first acknowledgement goes on from it.
        let actions = rig.acks(ack(Mode::Resumed, &["foo"], 7), at(5));
        assert!(actions.contains(&Action::Yield(connected(true, ""), None)));
        assert!(actions.contains(&Action::Bookmark(at(5))));
        rig.cut();
        assert_eq!(asks_for(&rig.comes_back()), (Some(at(5)), None, None));
    }
}

#[test]
fn what_had_happened_is_a_replay_with_an_end() {
    let mut rig = Rig::new(since(Beginning::Tail(2)));
    rig.opens();
    rig.acks(ack(Mode::Resumed, &["foo"], 7), at(5));
    let actions = [rig.event(6), rig.event(7)].concat();
    assert!(events(&actions).iter().all(|event| event.replayed));
    let level = rig.acks(ack(Mode::Live, &["foo"], 7), at(7));
    let caught_up = Update::CaughtUp { replayed: 2, away: Duration::ZERO };
    assert!(level.contains(&Action::Yield(caught_up, None)));
    assert!(!events(&rig.event(8))[0].replayed);
}

#[test]
fn a_loss_on_the_first_connection_goes_back_to_the_beginning_and_no_further() {
    let mut rig = Rig::new(since(Beginning::Tail(2)));
    rig.opens();
    rig.acks(ack(Mode::Resumed, &["foo"], 7), at(5));
    rig.event(7);
    assert!(retry_in(&rig.frame(&ping(2, 7))).is_some());
    assert_eq!(asks_for(&rig.comes_back()), (Some(at(5)), None, None));
}

#[test]
fn a_time_that_is_no_longer_kept_is_a_gap() {
    let reset = |accepted: &[&str]| Subscribed {
        reason: Some(ResetReason::Expired),
        ..ack(Mode::Reset, accepted, 7)
    };
    let mut rig = Rig::new(since(Beginning::Time(nine())));
    assert_eq!(subscribes(&rig.opens())[0].on_gap, None);
    let ended = rig.acks(reset(&[]), None);
    let gap = WatchError::Gap { reason: ResetReason::Expired };
    assert_eq!(stopped(&ended), Some(&gap));

    let mut rig = Rig::new(Plan { on_gap: OnGap::Live, ..since(Beginning::Time(nine())) });
    assert_eq!(subscribes(&rig.opens())[0].on_gap, Some(WireOnGap::Live));
    let actions = rig.acks(reset(&["foo"]), at(7));
    assert!(actions.contains(&Action::Yield(connected(false, ""), None)));
    let gap = Gap { reason: ResetReason::Expired, since: None, cursor: Some(at(7)) };
    assert!(actions.contains(&Action::Yield(Update::Gap(gap), Some(at(7)))));
    rig.cut();
    assert_eq!(asks_for(&rig.comes_back()), (Some(at(7)), None, None));
}

#[test]
fn it_wins_over_the_state_unless_it_cannot_be_had() {
    let mut rig = Rig::new(Plan { snapshot: true, ..since(Beginning::Time(nine())) });
    let [asked] = &subscribes(&rig.opens())[..] else { panic!("one subscription") };
    assert_eq!((asked.snapshot, asked.on_gap.clone()), (false, Some(WireOnGap::Snapshot)));
    rig.cut();
    // What is wished before the answer begins there too.
    rig.input(Input::Wish(Wish::Add(patterns(&["bar"]))));
    let asked = rig.comes_back();
    assert_eq!(asked.repositories, patterns(&["bar", "foo"]));
    assert_eq!(asks_for(&asked), (None, Some(nine()), None));
}

#[test]
fn a_server_that_does_not_offer_it_ends_the_stream() {
    for beginning in [Beginning::Time(nine()), Beginning::Tail(3)] {
        let mut rig = Rig::new(since(beginning));
        rig.opens();
        let refused = rig.errs(ErrorCode::Unsupported, None);
        assert!(matches!(
            stopped(&refused),
            Some(WatchError::Refused { code: ErrorCode::Unsupported, .. })
        ));
        // In a query it is passed over.
        let mut rig = Rig::new(since(beginning));
        rig.opens();
        let refused = rig.acks(ack(Mode::Live, &["foo"], 7), at(7));
        assert!(matches!(
            stopped(&refused),
            Some(WatchError::Refused { code: ErrorCode::Unsupported, .. })
        ));
    }
}

#[test]
fn an_answer_without_its_position_is_no_beginning() {
    let mut rig = Rig::new(since(Beginning::Tail(3)));
    rig.opens();
    assert!(retry_in(&rig.acks(ack(Mode::Resumed, &["foo"], 7), None)).is_some());
    assert_eq!(asks_for(&rig.comes_back()), (None, None, Some(3)));
}

#[test]
fn nothing_is_yielded_from_a_beginning_that_could_not_be_found_again() {
    let mut rig = Rig::new(Plan::default());
    rig.opens();
    let actions = rig.acks(ack(Mode::Live, &["foo"], 0), None);
    assert!(retry_in(&actions).is_some(), "{actions:?}");
    assert_eq!(events(&rig.event(1)), [] as [&Event; 0]);
    assert_eq!(rig.comes_back().since, None);
    rig.acks(ack(Mode::Live, &["foo"], 1), at(1));
    assert_eq!(positions(&rig.event(2)), [at(2)]);
}
