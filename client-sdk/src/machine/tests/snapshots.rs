//! Streams that begin with the present state.

use taskwatch_protocol::{Snapshot as Part, TaskChange};

use super::*;
use crate::Snapshot;
use crate::testing::task_event;

fn plan() -> Plan {
    Plan { snapshot: true, ..Plan::default() }
}

/// A part of the snapshot of these, with one task.
fn part(names: &[&str], edges: (bool, bool), seq: u64) -> ServerFrame {
    let TaskChange::Created { task } = task_event(seq).change else { unreachable!() };
    let task = Task { repository: names[0].parse().unwrap(), ..*task };
    let (first, last) = edges;
    let part = Part { repositories: patterns(names), tasks: vec![task], first, last };
    frame(ServerMessage::Snapshot(part), last.then(|| at(seq)))
}

fn whole(names: &[&str], seq: u64) -> ServerFrame {
    part(names, (true, true), seq)
}

fn snapshots(actions: &[Action]) -> Vec<&Snapshot> {
    let mut snapshots = Vec::new();
    for action in actions {
        if let Action::Yield(Update::Snapshot(snapshot), position) = action {
            assert_eq!(position.as_ref(), Some(&snapshot.cursor));
            snapshots.push(snapshot);
        }
    }
    snapshots
}

fn is_lost(actions: &[Action]) -> bool {
    actions.contains(&Action::Drop) && retry_in(actions).is_some()
}

impl Rig {
    /// Announces the snapshot that was asked for last.
    fn announces(&mut self, mode: Mode, names: &[&str]) -> Vec<Action> {
        self.acks(ack(mode, names, 9), None)
    }

    /// Live on `foo`, behind its snapshot at position 5.
    fn with_state() -> Self {
        let mut rig = Self::new(plan());
        rig.opens();
        rig.announces(Mode::Snapshot, &["foo"]);
        assert_eq!(snapshots(&rig.frame(&whole(&["foo"], 5))).len(), 1);
        rig
    }

    fn adds(&mut self, names: &[&str]) -> Vec<Subscribe> {
        subscribes(&self.input(Input::Wish(Wish::Add(patterns(names)))))
    }

    fn removes(&mut self, names: &[&str]) {
        self.input(Input::Wish(Wish::Remove(patterns(names))));
    }

    /// Waits for the next attempt, lets it succeed and returns what is asked for.
    fn comes_back_twice(&mut self) -> (Subscribe, Subscribe) {
        let wait = self.machine.deadline().unwrap() - self.now.steady;
        self.after(wait);
        let [first, second] = subscribes(&self.opens()).try_into().unwrap();
        (first, second)
    }
}

fn of_state(names: &[&str]) -> Subscribe {
    Subscribe { snapshot: true, ..Subscribe::live(patterns(names)) }
}

#[test]
fn the_state_is_yielded_whole_when_its_last_frame_has_come() {
    let mut rig = Rig::new(plan());
    assert_eq!(subscribes(&rig.opens()), [of_state(&["foo"])]);
    let announced = rig.announces(Mode::Snapshot, &["foo"]);
    let connected = connected(false, "");
    assert_eq!(announced, [Action::Ready, Action::Yield(connected, None)]);
    let parts =
        [(true, false), (false, false), (false, true)].map(|edges| part(&["foo"], edges, 5));
    assert_eq!(rig.frame(&parts[0]), []);
    assert_eq!(rig.frame(&parts[1]), []);
    let actions = rig.frame(&parts[2]);
    let [snapshot] = snapshots(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((snapshot.tasks.len(), &snapshot.cursor), (3, &at(5)));
    assert_eq!(snapshot.repositories, patterns(&["foo"]));
    assert!(snapshot.envelopes().eq(parts.iter().map(ServerFrame::encode)));
    // It does not count, and what follows goes on from it.
    rig.event(6);
    assert!(!is_lost(&rig.frame(&ping(1, 6))));
    rig.cut();
    let asked = rig.comes_back();
    assert_eq!((asked.since, asked.snapshot), (Some(at(6)), false));
}

#[test]
fn half_a_state_is_thrown_away_and_asked_for_again() {
    let mut rig = Rig::new(plan());
    rig.opens();
    rig.announces(Mode::Snapshot, &["foo"]);
    rig.frame(&part(&["foo"], (true, false), 5));
    rig.cut();
    assert_eq!(rig.comes_back(), of_state(&["foo"]));
    rig.announces(Mode::Snapshot, &["foo"]);
    let actions = rig.frame(&whole(&["foo"], 7));
    assert_eq!(snapshots(&actions)[0].tasks.len(), 1);
}

#[test]
fn what_is_added_has_its_state_too_and_a_cut_in_it_costs_the_others_nothing() {
    let mut rig = Rig::with_state();
    assert_eq!(rig.adds(&["bar"]), [of_state(&["bar"])]);
    rig.event(6);
    rig.announces(Mode::Snapshot, &["bar"]);
    rig.frame(&part(&["bar"], (true, false), 8));
    rig.cut();
    let (held, owed) = rig.comes_back_twice();
    assert_eq!((held.repositories, held.since), (patterns(&["foo"]), Some(at(6))));
    assert_eq!(owed, of_state(&["bar"]));
    // The answer to the second is the sign of being level.
    let first = frame(ServerMessage::Subscribed(ack(Mode::Resumed, &["foo"], 9)), at(6));
    let resumed = rig.frame(&first.id("1".to_owned()));
    assert_eq!(subscribes(&resumed), []);
    assert!(events(&rig.event(7))[0].replayed);
    let level = rig.announces(Mode::Snapshot, &["bar"]);
    assert!(matches!(level[..], [Action::Yield(Update::CaughtUp { replayed: 1, .. }, None)]));
    let actions = rig.frame(&whole(&["bar"], 9));
    assert_eq!(snapshots(&actions)[0].repositories, patterns(&["bar"]));
    rig.cut();
    assert_eq!(rig.comes_back().since, Some(at(9)));
}

#[test]
fn nothing_but_a_ping_without_a_position_comes_in_between() {
    let begun = || {
        let mut rig = Rig::with_state();
        rig.adds(&["bar"]);
        rig.announces(Mode::Snapshot, &["bar"]);
        rig.frame(&part(&["bar"], (true, false), 8));
        rig
    };
    let mut rig = begun();
    let quiet =
        frame(ServerMessage::Ping(Heartbeat { delivered: Some(0), ..Heartbeat::default() }), None);
    let actions = rig.frame(&quiet);
    assert!(matches!(actions[..], [Action::Send(_)]), "{actions:?}");
    assert_eq!(snapshots(&rig.frame(&part(&["bar"], (false, true), 8))).len(), 1);

    let done = Unsubscribed { accepted: vec![], head: None };
    for missing in [
        ping(0, 8),
        event_frame(9),
        frame(ServerMessage::Unsubscribed(done), at(8)),
        frame(ServerMessage::Subscribed(ack(Mode::Live, &["bar"], 8)), at(8)),
        part(&["bar"], (true, true), 8),
        Envelope { cursor: None, ..part(&["bar"], (false, true), 8) },
    ] {
        let mut rig = begun();
        let actions = rig.frame(&missing);
        assert!(is_lost(&actions) && events(&actions).is_empty(), "{missing:?}");
        let (held, owed) = rig.comes_back_twice();
        assert_eq!((held.since, owed), (Some(at(5)), of_state(&["bar"])));
    }
}

#[test]
fn a_state_that_was_not_announced_is_not_believed() {
    assert!(is_lost(&Rig::live().frame(&whole(&["foo"], 5))));
    let mut rig = Rig::new(plan());
    rig.opens();
    assert!(is_lost(&rig.event(6)), "nor an event before its acknowledgement");
}

#[test]
fn the_state_may_take_as_long_as_the_server_is_heard() {
    let quiet = || {
        frame(ServerMessage::Ping(Heartbeat { delivered: Some(0), ..Heartbeat::default() }), None)
    };
    let mut rig = Rig::new(plan());
    rig.opens();
    for _ in 0..9 {
        assert!(!is_lost(&rig.after(20 * SECOND)));
        rig.frame(&quiet());
    }
    rig.announces(Mode::Snapshot, &["foo"]);
    rig.frame(&part(&["foo"], (true, false), 5));
    assert_eq!(rig.after(34 * SECOND), []);
    rig.frame(&part(&["foo"], (false, false), 5));
    // After a sleep its frames show that the link lives, until they stop.
    rig.now.wall += 60 * SECOND;
    assert!(matches!(rig.after(SECOND)[..], [Action::Send(_)]));
    for _ in 0..3 {
        assert_eq!(rig.after(2 * SECOND), []);
        rig.frame(&part(&["foo"], (false, false), 5));
    }
    assert!(is_lost(&rig.after(3 * SECOND)));

    // It may also follow a position, for which it takes as long; nothing else does.
    for (on_gap, patient) in [(OnGap::Snapshot, true), (OnGap::Live, false)] {
        let mut rig = Rig::new(Plan { since: Some(at(1)), on_gap, ..Plan::default() });
        rig.opens();
        assert_eq!(is_lost(&rig.after(10 * SECOND)), !patient);
    }
}

#[test]
fn what_is_removed_meanwhile_is_not_shown() {
    let mut rig = Rig::with_state();
    rig.adds(&["bar", "baz"]);
    rig.announces(Mode::Snapshot, &["bar", "baz"]);
    rig.frame(&part(&["bar", "baz"], (true, false), 8));
    rig.removes(&["bar"]);
    let actions = rig.frame(&part(&["baz", "bar"], (false, true), 8));
    let [snapshot] = snapshots(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((snapshot.repositories.clone(), snapshot.tasks.len()), (patterns(&["baz"]), 1));
    // The JSON is of the same.
    let [json] = snapshot.envelopes().collect::<Vec<_>>().try_into().unwrap();
    let frame = ServerFrame::decode(json).unwrap();
    assert!(matches!(frame.message, ServerMessage::Snapshot(part) if part.tasks == snapshot.tasks));
    assert_eq!(frame.cursor, Some(at(8)));

    let mut rig = Rig::with_state();
    rig.adds(&["bar"]);
    rig.announces(Mode::Snapshot, &["bar"]);
    rig.removes(&["bar"]);
    assert_eq!(rig.frame(&whole(&["bar"], 8)), [Action::Bookmark(at(8))]);
}

#[test]
fn what_is_removed_and_added_again_waits_for_the_later_state() {
    let mut rig = Rig::with_state();
    rig.adds(&["bar"]);
    rig.announces(Mode::Snapshot, &["bar"]);
    rig.removes(&["bar"]);
    assert_eq!(rig.adds(&["bar"]), [of_state(&["bar"])]);
    assert_eq!(rig.frame(&whole(&["bar"], 8)), [Action::Bookmark(at(8))]);
    // Between the two it is not subscribed, so there is no position to go on from.
    rig.cut();
    assert_eq!(rig.comes_back_twice().1, of_state(&["bar"]));
}

#[test]
fn a_gap_is_told_and_then_everything_as_it_is() {
    let plan = || Plan { since: Some(at(1)), on_gap: OnGap::Snapshot, ..Plan::default() };
    let expired =
        Subscribed { reason: Some(ResetReason::Expired), ..ack(Mode::Reset, &["foo"], 9) };
    let mut rig = Rig::new(plan());
    let asked = subscribes(&rig.opens());
    assert_eq!(asked[0].on_gap, Some(taskwatch_protocol::OnGap::Snapshot));
    let actions = rig.acks(expired.clone(), None);
    let gap = Gap { reason: ResetReason::Expired, since: Some(at(1)), cursor: None };
    assert!(actions.contains(&Action::Yield(Update::Gap(gap), None)));
    // The old position is no good any more, also for what was added meanwhile.
    rig.frame(&part(&["foo"], (true, false), 9));
    rig.adds(&["bar"]);
    rig.cut();
    assert_eq!(rig.comes_back(), of_state(&["bar", "foo"]));
    rig.announces(Mode::Snapshot, &["bar", "foo"]);
    assert_eq!(snapshots(&rig.frame(&whole(&["bar", "foo"], 9))).len(), 1);
    rig.cut();
    assert_eq!(rig.comes_back().since, Some(at(9)));
}

#[test]
fn a_position_wins_over_the_state() {
    let mut rig = Rig::new(Plan { since: Some(at(1)), ..plan() });
    let [asked] = subscribes(&rig.opens()).try_into().unwrap();
    assert_eq!((asked.since, asked.snapshot), (Some(at(1)), false));
    assert_eq!(asked.on_gap, Some(taskwatch_protocol::OnGap::Snapshot));
    rig.acks(ack(Mode::Resumed, &["foo"], 1), at(1));
    // From here on a gap is what the caller said it is.
    rig.cut();
    assert_eq!(rig.comes_back().on_gap, None);
    let expired = Subscribed { reason: Some(ResetReason::Expired), ..ack(Mode::Reset, &[], 9) };
    assert!(matches!(stopped(&rig.acks(expired, None)), Some(WatchError::Gap { .. })));
}

#[test]
fn a_server_that_has_no_state_to_send_ends_the_stream() {
    let mut rig = Rig::new(plan());
    rig.opens();
    let error = WatchError::Refused { code: ErrorCode::Unsupported, reason: "no".into() };
    assert_eq!(stopped(&rig.errs(ErrorCode::Unsupported, None)), Some(&error));

    // One that does not know the word, at the beginning, after a gap and later.
    let mut rig = Rig::new(plan());
    rig.opens();
    let ignored = rig.acks(ack(Mode::Live, &["foo"], 9), at(9));
    let plan = Plan { since: Some(at(1)), on_gap: OnGap::Snapshot, ..Plan::default() };
    let mut rig = Rig::new(plan);
    rig.opens();
    let nothing = rig.acks(ack(Mode::Reset, &[], 9), None);
    let mut rig = Rig::with_state();
    rig.adds(&["bar"]);
    let later = rig.acks(ack(Mode::Live, &["bar"], 9), at(9));
    for actions in [ignored, nothing, later] {
        let code = ErrorCode::Unsupported;
        assert!(
            matches!(stopped(&actions), Some(WatchError::Refused { code: it, .. }) if *it == code)
        );
    }

    // A refusal is not hidden by being the sign of being level.
    let mut rig = Rig::with_state();
    rig.cut();
    rig.adds(&["bar"]);
    rig.comes_back_twice();
    let first = frame(ServerMessage::Subscribed(ack(Mode::Resumed, &["foo"], 9)), at(5));
    rig.frame(&first.id("1".to_owned()));
    assert_eq!(stopped(&rig.errs(ErrorCode::Unsupported, None)), Some(&error));
}

#[test]
fn the_state_and_a_choice_of_events_are_refused_before_anything_is_dialled() {
    let types = Some(vec![EventKind::Deleted]);
    for plan in [
        Plan { types: types.clone(), ..plan() },
        Plan { types, on_gap: OnGap::Snapshot, ..Plan::default() },
    ] {
        let mut rig = Rig::with(plan, None);
        let actions = rig.input(Input::Wish(Wish::Add(patterns(&["foo"]))));
        assert_eq!(actions, [Action::Drop, Action::Stop(WatchError::FilteredSnapshot)]);
    }
}

#[test]
fn a_loss_behind_a_state_that_is_not_proven_begins_with_the_state_again() {
    let mut rig = Rig::with_state();
    rig.adds(&["bar"]);
    rig.announces(Mode::Snapshot, &["bar"]);
    rig.frame(&whole(&["bar"], 8));
    // From 5 `bar` cannot go on, and from 8 `foo` cannot.
    assert!(is_lost(&rig.frame(&ping(1, 9))));
    assert_eq!(rig.comes_back(), of_state(&["bar", "foo"]));

    let mut rig = Rig::with_state();
    rig.adds(&["bar"]);
    rig.announces(Mode::Snapshot, &["bar"]);
    rig.frame(&whole(&["bar"], 8));
    rig.frame(&ping(0, 8));
    assert!(is_lost(&rig.frame(&ping(1, 9))));
    assert_eq!(rig.comes_back().since, Some(at(8)));
}

#[test]
fn a_full_buffer_in_the_middle_parks_and_begins_again() {
    let mut rig = Rig::with_state();
    rig.adds(&["bar"]);
    rig.announces(Mode::Snapshot, &["bar"]);
    rig.frame(&part(&["bar"], (true, false), 8));
    rig.input(Input::Full);
    assert_eq!(rig.after(5 * SECOND), [Action::Leave, Action::Yield(Update::Parked, None)]);
    rig.input(Input::Room);
    let asked = subscribes(&rig.opens());
    assert_eq!((&asked[0].since, &asked[1]), (&Some(at(5)), &of_state(&["bar"])));
}

#[test]
fn a_denied_pattern_is_asked_for_again_and_told_once() {
    let denied = vec![Denied { repository: "bar".parse().unwrap(), code: ErrorCode::NotFound }];
    let answer =
        |names: &[&str]| Subscribed { denied: denied.clone(), ..ack(Mode::Snapshot, names, 9) };
    let told =
        |actions: &[Action]| actions.contains(&Action::Yield(Update::Denied(denied.clone()), None));
    let mut rig = Rig::new(plan());
    rig.input(Input::Wish(Wish::Add(patterns(&["bar"]))));
    rig.opens();
    assert!(told(&rig.acks(answer(&["foo"]), None)));
    let actions = rig.frame(&whole(&["foo"], 5));
    assert_eq!(snapshots(&actions)[0].repositories, patterns(&["foo"]));
    rig.cut();
    let (held, owed) = rig.comes_back_twice();
    assert_eq!((held.repositories, owed), (patterns(&["foo"]), of_state(&["bar"])));
    let first = frame(ServerMessage::Subscribed(ack(Mode::Resumed, &["foo"], 5)), at(5));
    rig.frame(&first.id("1".to_owned()));
    // Nothing was accepted, so no snapshot follows.
    assert!(!told(&rig.acks(answer(&[]), None)));
    assert_eq!(positions(&rig.event(6)), [at(6)]);
}
