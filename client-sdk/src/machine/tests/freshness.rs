//! The caller is told how fresh the stream is.

use super::*;
use crate::Freshness;

/// The id of the question among these, if one is asked.
fn question(actions: &[Action]) -> Option<String> {
    actions.iter().find_map(|action| match action {
        Action::Send(Envelope { message: ClientMessage::Ping, id, .. }) => id.clone(),
        _ => None,
    })
}

fn fresh(actions: &[Action]) -> Option<Duration> {
    actions.iter().find_map(|action| match action {
        Action::Yield(Update::Fresh(Freshness { behind, .. }), _) => Some(*behind),
        _ => None,
    })
}

fn pong(id: &str, seq: u64, head: Option<u64>) -> ServerFrame {
    let beat = Heartbeat { delivered: None, head: head.map(at) };
    frame(ServerMessage::Pong(beat), at(seq)).id(id.to_owned())
}

/// Dialling `foo`, to be told each second.
fn dialling() -> Rig {
    Rig::new(Plan { freshness: Some(SECOND), ..Plan::default() })
}

/// Live at 0, and the id of the first question.
fn live() -> (Rig, String) {
    let mut rig = dialling();
    assert_eq!(question(&rig.opens()), None);
    let asked = question(&rig.acks(ack(Mode::Live, &["foo"], 0), at(0)));
    (rig, asked.expect("it is asked as soon as the stream is live"))
}

#[test]
fn the_answer_says_how_long_ago_everything_was_there() {
    let (mut rig, id) = live();
    rig.after(SECOND / 5);
    let actions = rig.frame(&pong(&id, 3, Some(3)));
    let behind = Freshness { behind: SECOND / 5 };
    // The position comes first: it is what the freshness is about.
    assert_eq!(actions, [Action::Bookmark(at(3)), Action::Yield(Update::Fresh(behind), None)]);
    // The next question comes a second after the last.
    assert_eq!(rig.machine.deadline(), Some(rig.now.steady + SECOND * 4 / 5));
    assert_eq!(question(&rig.after(SECOND * 4 / 5 - SECOND / 1000)), None);
    let id = question(&rig.after(SECOND / 1000)).unwrap();
    assert_eq!(fresh(&rig.frame(&pong(&id, 3, Some(3)))), Some(Duration::ZERO));
}

#[test]
fn who_is_not_level_is_told_nothing() {
    let (mut rig, id) = live();
    assert_eq!(fresh(&rig.frame(&pong(&id, 3, Some(4)))), None);
    // An older server does not say where its head is.
    let id = question(&rig.after(SECOND)).unwrap();
    assert_eq!(fresh(&rig.frame(&pong(&id, 4, None))), None);
    // An answer to something else says nothing either.
    question(&rig.after(SECOND)).unwrap();
    assert_eq!(fresh(&rig.frame(&pong("another", 4, Some(4)))), None);
}

#[test]
fn one_question_at_a_time_and_silence_is_judged_as_ever() {
    let (mut rig, _) = live();
    for _ in 0..34 {
        assert_eq!(rig.after(SECOND), []);
    }
    assert!(rig.after(SECOND).contains(&Action::Drop));
    // The next connection asks anew.
    rig.comes_back();
    assert!(question(&rig.acks(ack(Mode::Resumed, &["foo"], 0), at(0))).is_some());
}

#[test]
fn while_it_catches_up_nothing_is_asked() {
    let mut rig = Rig::new(Plan { since: Some(at(1)), freshness: Some(SECOND), ..Plan::default() });
    rig.opens();
    assert_eq!(question(&rig.acks(ack(Mode::Resumed, &["foo"], 3), at(1))), None);
    assert_eq!(question(&rig.after(5 * SECOND)), None);
    rig.event(2);
    rig.event(3);
    assert!(question(&rig.acks(ack(Mode::Live, &["foo"], 3), at(3))).is_some());
}

#[test]
fn an_answer_that_shows_a_loss_is_no_freshness() {
    let (mut rig, id) = live();
    let beat = Heartbeat { delivered: Some(1), head: Some(at(1)) };
    let actions = rig.frame(&frame(ServerMessage::Pong(beat), at(1)).id(id));
    assert_eq!(fresh(&actions), None);
    assert!(actions.contains(&Action::Drop));
}

#[test]
fn after_a_sleep_the_probe_is_its_own_question() {
    let (mut rig, id) = live();
    rig.now.wall += 60 * SECOND;
    let probe = question(&rig.input(Input::Tick)).unwrap();
    assert_ne!(probe, id);
    rig.frame(&pong(&id, 0, Some(0)));
    // The answer to the other does not end the probe.
    let late = [rig.after(3 * SECOND), rig.after(Duration::ZERO)].concat();
    assert!(late.contains(&Action::Drop));
    assert_eq!(fresh(&late), None);
}

#[test]
fn a_full_buffer_is_asked_nothing() {
    let (mut rig, id) = live();
    rig.frame(&pong(&id, 0, Some(0)));
    rig.input(Input::Full);
    assert_eq!(question(&rig.after(2 * SECOND)), None);
    assert!(question(&rig.input(Input::Room)).is_some());
}

#[test]
fn where_nothing_can_be_said_nothing_is_asked() {
    let sse = TransportChoice::Sse;
    let mut rig = Rig::new(Plan { transport: sse, freshness: Some(SECOND), ..Plan::default() });
    let route = Routes::new(sse).next(rig.now.steady);
    rig.link(LinkInput::Opened(route));
    assert_eq!(question(&rig.acks(ack(Mode::Live, &["foo"], 0), at(0))), None);
    assert_eq!(question(&rig.after(5 * SECOND)), None);
}
