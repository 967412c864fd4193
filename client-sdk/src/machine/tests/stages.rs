//! How the connection stands.

use super::*;
use crate::ConnectionState;
use crate::Transport::{Sse, WebSocket};

#[test]
fn it_is_live_when_nothing_is_missed_any_more() {
    let mut rig = Rig::with(Plan::default(), None);
    assert_eq!(rig.machine.stage(), Stage::Idle);
    rig.input(Input::Wish(Wish::Add(patterns(&["foo"]))));
    assert_eq!(rig.machine.stage(), Stage::Connecting(1));
    rig.opens();
    assert_eq!(rig.machine.stage(), Stage::Connecting(1));
    rig.acks(ack(Mode::Live, &["foo"], 0), at(0));
    rig.event(1);
    assert_eq!(rig.machine.stage(), Stage::Live(WebSocket));
    rig.cut();
    let until = rig.machine.deadline().unwrap();
    let reason = "reset by peer".to_owned();
    let waiting = ConnectionState::Waiting { reason, until };
    assert_eq!(rig.machine.connection(), Some(waiting));
    rig.comes_back();
    assert_eq!(rig.machine.stage(), Stage::Connecting(2));
    rig.acks(ack(Mode::Resumed, &["foo"], 2), at(1));
    assert_eq!(rig.machine.stage(), Stage::CatchingUp(WebSocket));
    rig.event(2);
    rig.acks(ack(Mode::Live, &["foo"], 2), at(2));
    assert_eq!(rig.machine.stage(), Stage::Live(WebSocket));
}

#[test]
fn it_is_behind_until_a_snapshot_has_come() {
    let mut rig = Rig::new(Plan { snapshot: true, ..Plan::default() });
    rig.opens();
    rig.acks(ack(Mode::Snapshot, &["foo"], 9), None);
    assert_eq!(rig.machine.stage(), Stage::CatchingUp(WebSocket));
    let snapshot = taskwatch_protocol::Snapshot {
        repositories: patterns(&["foo"]),
        tasks: vec![],
        first: true,
        last: true,
    };
    rig.frame(&frame(ServerMessage::Snapshot(snapshot), at(5)));
    assert_eq!(rig.machine.stage(), Stage::Live(WebSocket));
}

#[test]
fn a_connection_that_is_only_made_anew_stays_live() {
    let mut rig = Rig::new(Plan::default());
    let auto = Routes::new(TransportChoice::Auto).next(rig.now.steady);
    let sse = || auto.blocked("426").unwrap();
    rig.link(LinkInput::Opened(sse()));
    rig.acks(ack(Mode::Live, &["foo"], 0), at(0));
    assert_eq!(rig.machine.stage(), Stage::Live(Sse));
    let dialled = rig.input(Input::Wish(Wish::Add(patterns(&["bar"]))));
    assert!(matches!(dialled[..], [Action::Leave, Action::Dial(..)]), "{dialled:?}");
    assert_eq!(rig.machine.stage(), Stage::Live(Sse));
    rig.link(LinkInput::Opened(sse()));
    assert_eq!(rig.machine.stage(), Stage::Live(Sse));
    rig.cut();
    assert!(matches!(rig.machine.stage(), Stage::Waiting(_)));
}

#[test]
fn it_is_parked_while_the_caller_is_slow_and_stopped_at_the_end() {
    let mut rig = Rig::live();
    rig.input(Input::Full);
    assert_eq!(rig.machine.stage(), Stage::Live(WebSocket));
    rig.after(6 * SECOND);
    assert_eq!(rig.machine.connection(), Some(ConnectionState::Parked));
    rig.input(Input::Room);
    assert!(matches!(rig.machine.stage(), Stage::Connecting(_)));
    rig.link(LinkInput::DialFailed(DialError::Final(WatchError::Aborted)));
    assert_eq!((rig.machine.stage(), rig.machine.connection()), (Stage::Stopped, None));
}
