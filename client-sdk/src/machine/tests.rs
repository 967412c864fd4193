//! The machine without a socket, a runtime or a clock.

mod access;
mod beginning;
mod freshness;
mod snapshots;
mod transports;

use std::time::{Duration, Instant, SystemTime};

use taskwatch_protocol::{
    Advice, ClientMessage, CloseCode, CloseReason, Cursor, Denied, Envelope, ErrorCode,
    ErrorMessage, Heartbeat, Limits, Mode, Pattern, ResetReason, ServerFrame, ServerMessage,
    Subscribe, Subscribed, Task, Unsubscribed, Welcome,
};

use super::*;
use crate::dial::{DialError, Refusal};
use crate::testing::{at, event_frame};
use crate::transport::{Route, TransportChoice};
use crate::{Event, Gap, Transport};

const SECOND: Duration = Duration::from_secs(1);

/// A machine with hands on its clocks.
struct Rig {
    machine: Machine,
    now: Now,
    link: Generation,
    last_ack: Option<String>,
}

fn patterns(names: &[&str]) -> Vec<Pattern> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn frame(message: ServerMessage, cursor: impl Into<Option<Cursor>>) -> ServerFrame {
    Envelope::new(message).cursor(cursor)
}

fn ping(delivered: u64, seq: u64) -> ServerFrame {
    frame(
        ServerMessage::Ping(Heartbeat { delivered: Some(delivered), ..Heartbeat::default() }),
        at(seq),
    )
}

fn ack(mode: Mode, names: &[&str], head: u64) -> Subscribed {
    let accepted = patterns(names);
    Subscribed { accepted, denied: vec![], mode, reason: None, head: Some(at(head)) }
}

fn events(actions: &[Action]) -> Vec<&Event> {
    let event = |action: &'_ Action| matches!(action, Action::Yield(Update::Event(_), _));
    let events = actions.iter().filter(|action| event(action));
    events
        .map(|action| match action {
            Action::Yield(Update::Event(event), _) => event,
            _ => unreachable!(),
        })
        .collect()
}

fn positions(actions: &[Action]) -> Vec<Cursor> {
    events(actions).iter().map(|event| event.cursor.clone()).collect()
}

fn subscribes(actions: &[Action]) -> Vec<Subscribe> {
    let subscribe = |action: &Action| match action {
        Action::Send(Envelope { message: ClientMessage::Subscribe(data), .. }) => {
            Some(data.clone())
        }
        _ => None,
    };
    actions.iter().filter_map(subscribe).collect()
}

fn stopped(actions: &[Action]) -> Option<&WatchError> {
    actions.iter().find_map(|action| match action {
        Action::Stop(error) => Some(error),
        _ => None,
    })
}

fn connected(resumed: bool, server: &str) -> Update {
    let (server, transport) = (server.to_owned(), Transport::WebSocket);
    Update::Connected { resumed, server, transport, fallback: None }
}

fn retry_in(actions: &[Action]) -> Option<Duration> {
    actions.iter().find_map(|action| match action {
        Action::Yield(Update::Interrupted { retry_in, .. }, _) => Some(*retry_in),
        _ => None,
    })
}

impl Rig {
    fn with(plan: Plan, max_elapsed: Option<Duration>) -> Self {
        let delays = Delays::new(SECOND / 2, 30 * SECOND, || 1.0);
        #[expect(clippy::disallowed_methods, reason = "any beginning will do")]
        let now = Now { steady: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        let machine = Machine::new(plan, delays, max_elapsed);
        Self { machine, now, link: Generation(0), last_ack: None }
    }

    /// Dialling `foo`.
    fn new(plan: Plan) -> Self {
        let mut rig = Self::with(plan, None);
        rig.input(Input::Wish(Wish::Add(patterns(&["foo"]))));
        rig
    }

    /// Live on `foo`, at position 0.
    fn live() -> Self {
        let mut rig = Self::new(Plan::default());
        rig.opens();
        rig.acks(ack(Mode::Live, &["foo"], 0), at(0));
        rig
    }

    fn input(&mut self, input: Input) -> Vec<Action> {
        self.machine.handle(self.now, input);
        let actions: Vec<Action> = std::iter::from_fn(|| self.machine.poll_action()).collect();
        for action in &actions {
            match action {
                Action::Dial(generation, _) => self.link = *generation,
                Action::Send(Envelope { message: ClientMessage::Subscribe(_), id, .. }) => {
                    self.last_ack.clone_from(id);
                }
                _ => {}
            }
        }
        actions
    }

    fn link(&mut self, input: LinkInput) -> Vec<Action> {
        self.input(Input::Link(self.link, input))
    }

    fn opens(&mut self) -> Vec<Action> {
        let route = Routes::new(TransportChoice::Auto).next(self.now.steady);
        self.link(LinkInput::Opened(route))
    }

    fn frame(&mut self, frame: &ServerFrame) -> Vec<Action> {
        self.link(LinkInput::Text(frame.encode().into()))
    }

    fn event(&mut self, seq: u64) -> Vec<Action> {
        self.frame(&event_frame(seq))
    }

    /// Acknowledges the last subscription that was sent.
    fn acks(&mut self, data: Subscribed, cursor: impl Into<Option<Cursor>>) -> Vec<Action> {
        let id = self.last_ack.clone();
        self.frame(&frame(ServerMessage::Subscribed(data), cursor).id(id))
    }

    fn errs(&mut self, code: ErrorCode, retry_after_ms: Option<u64>) -> Vec<Action> {
        let error = ErrorMessage { retry_after_ms, ..ErrorMessage::new(code, "no") };
        let id = self.last_ack.clone();
        self.frame(&frame(ServerMessage::Error(error), None).id(id))
    }

    fn closes(&mut self, code: CloseCode, retry_after_ms: Option<u64>) -> Vec<Action> {
        let reason = CloseReason { word: code.word().into(), retry_after_ms };
        self.link(LinkInput::Closed(code, reason))
    }

    fn cut(&mut self) -> Vec<Action> {
        self.link(LinkInput::Lost("reset by peer".into()))
    }

    /// Lets both clocks run.
    fn after(&mut self, time: Duration) -> Vec<Action> {
        self.now.steady += time;
        self.now.wall += time;
        self.input(Input::Tick)
    }

    /// Waits for the next attempt, lets it succeed and returns what is asked for.
    fn comes_back(&mut self) -> Subscribe {
        let wait = self.machine.deadline().unwrap() - self.now.steady;
        assert!(matches!(self.after(wait)[..], [Action::Yield(..), Action::Dial(..)]));
        let [first] = subscribes(&self.opens()).try_into().unwrap();
        first
    }
}

#[test]
fn it_subscribes_to_everything_in_one_frame_and_yields_what_comes() {
    let mut rig = Rig::with(Plan::default(), None);
    let dialled = rig.input(Input::Wish(Wish::Add(patterns(&["foo", "acme/*"]))));
    assert_eq!(
        dialled,
        [
            Action::Yield(Update::Connecting { attempt: 1 }, None),
            Action::Dial(Generation(1), Routes::new(TransportChoice::Auto).next(rig.now.steady))
        ]
    );
    let asked = subscribes(&rig.opens());
    assert_eq!(asked, [Subscribe::live(patterns(&["acme/*", "foo"]))]);
    let live = rig.acks(ack(Mode::Live, &["foo", "acme/*"], 7), at(7));
    let connected = connected(false, "");
    assert_eq!(live, [Action::Ready, Action::Yield(connected, None), Action::Bookmark(at(7))]);
    let actions = rig.event(8);
    let [event] = events(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((event.cursor.clone(), event.replayed), (at(8), false));
    assert_eq!(event.envelope(), event_frame(8).encode());
}

#[test]
fn it_comes_back_for_what_it_missed_and_says_when_it_is_level() {
    let mut rig = Rig::live();
    rig.event(1);
    rig.after(10 * SECOND);
    assert_eq!(retry_in(&rig.cut()), Some(SECOND / 2));
    assert_eq!(rig.comes_back().since, Some(at(1)));
    let resumed = rig.acks(ack(Mode::Resumed, &["foo"], 3), at(1));
    // A further subscription is answered only when nothing is left to catch up with.
    assert_eq!(subscribes(&resumed), [Subscribe::live(patterns(&["foo"]))]);
    let actions = [rig.event(2), rig.event(3)].concat();
    assert!(events(&actions).iter().all(|event| event.replayed));
    let level = rig.acks(ack(Mode::Live, &["foo"], 3), at(3));
    let caught_up = Update::CaughtUp { replayed: 2, away: SECOND / 2 };
    assert!(level.contains(&Action::Yield(caught_up, None)));
    assert!(!events(&rig.event(4))[0].replayed);
}

#[test]
fn with_nothing_missed_it_is_level_at_once() {
    let mut rig = Rig::new(Plan { since: Some(at(5)), ..Plan::default() });
    assert_eq!(subscribes(&rig.opens())[0].since, Some(at(5)));
    let actions = rig.acks(ack(Mode::Resumed, &["foo"], 5), at(5));
    let caught_up = Update::CaughtUp { replayed: 0, away: Duration::ZERO };
    assert!(actions.contains(&Action::Yield(caught_up, None)));
    assert_eq!(subscribes(&actions), []);
}

#[test]
fn a_server_that_will_not_say_when_it_is_level_is_not_left() {
    let mut rig = Rig::new(Plan { since: Some(at(5)), ..Plan::default() });
    rig.opens();
    rig.acks(ack(Mode::Resumed, &["foo"], 9), at(5));
    let actions = rig.errs(ErrorCode::RateLimited, None);
    assert!(matches!(actions[..], [Action::Yield(Update::CaughtUp { .. }, None)]));
}

#[test]
fn an_event_that_was_received_is_not_yielded_again() {
    let mut rig = Rig::live();
    rig.event(1);
    rig.cut();
    rig.comes_back();
    rig.acks(ack(Mode::Resumed, &["foo"], 2), at(1));
    assert_eq!(positions(&rig.event(1)), []);
    assert_eq!(positions(&rig.event(2)), [at(2)]);
}

#[test]
fn a_lost_event_is_found_by_counting_and_fetched() {
    let mut rig = Rig::live();
    rig.event(1);
    assert!(rig.frame(&ping(1, 1)).contains(&Action::Bookmark(at(1))));
    rig.event(2);
    rig.event(4);
    let actions = rig.frame(&ping(4, 4));
    assert!(actions.contains(&Action::Drop) && !actions.contains(&Action::Bookmark(at(4))));
    assert_eq!(rig.comes_back().since, Some(at(1)));
    rig.acks(ack(Mode::Resumed, &["foo"], 4), at(1));
    let replay = [rig.event(2), rig.event(3), rig.event(4)].concat();
    assert_eq!(positions(&replay), [at(3)]);
    // Events skipped as repeated were written by the server all the same.
    assert_eq!(retry_in(&rig.frame(&ping(3, 9))), None);
}

#[test]
fn bookmarks_move_the_position_of_a_quiet_subscriber() {
    let mut rig = Rig::live();
    let actions = rig.frame(&ping(0, 40).id("7".to_owned()));
    let pong = Envelope::new(ClientMessage::Pong).id("7".to_owned());
    assert_eq!(actions, [Action::Send(pong), Action::Bookmark(at(40))]);
    rig.cut();
    assert_eq!(rig.comes_back().since, Some(at(40)));
}

#[test]
fn a_position_told_before_the_acknowledgement_is_not_ours() {
    let mut rig = Rig::new(Plan { since: Some(at(1)), ..Plan::default() });
    rig.opens();
    assert!(!rig.frame(&ping(0, 40)).contains(&Action::Bookmark(at(40))));
    rig.cut();
    assert_eq!(rig.comes_back().since, Some(at(1)));
}

#[test]
fn many_unproven_events_make_it_ask_for_a_proof_ten_times_a_second() {
    let mut rig = Rig::live();
    let pings = |actions: &[Action]| {
        let ping = |action: &&Action| {
            matches!(action, Action::Send(Envelope { message: ClientMessage::Ping, .. }))
        };
        actions.iter().filter(ping).count()
    };
    let first: Vec<Action> = (1..=2_000).flat_map(|seq| rig.event(seq)).collect();
    assert_eq!(pings(&first), 1);
    rig.after(SECOND / 10);
    assert_eq!(pings(&rig.event(2_001)), 1);
    rig.frame(&frame(
        ServerMessage::Pong(Heartbeat { delivered: Some(2_001), ..Heartbeat::default() }),
        at(2_001),
    ));
    rig.after(SECOND / 10);
    assert_eq!(pings(&rig.event(2_002)), 0);
}

#[test]
fn silence_ends_a_link_after_one_and_a_half_heartbeats_and_5_s() {
    let mut rig = Rig::live();
    assert_eq!(rig.after(35 * SECOND - SECOND / 1000), []);
    rig.link(LinkInput::Alive);
    assert_eq!(rig.after(34 * SECOND), []);
    let actions = rig.after(SECOND);
    // Dropped, not closed: nobody is there to answer.
    assert!(actions.contains(&Action::Drop) && !actions.contains(&Action::Leave));
    let welcome = Welcome {
        protocol: 1,
        server: "hub 1".into(),
        connection_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        heartbeat_ms: 2_000,
        limits: Limits { max_message_bytes: 1, max_patterns_per_message: 1, max_patterns: 1 },
        token_expires_in_ms: None,
    };
    rig.comes_back();
    rig.frame(&frame(ServerMessage::Welcome(welcome), None));
    let actions = rig.acks(ack(Mode::Resumed, &["foo"], 0), at(0));
    let connected = connected(true, "hub 1");
    assert!(actions.contains(&Action::Yield(connected, None)));
    assert_eq!(rig.after(8 * SECOND - SECOND / 1000), []);
    assert!(rig.after(SECOND / 1000).contains(&Action::Drop));
}

#[test]
fn every_step_of_connecting_has_a_deadline() {
    let mut rig = Rig::new(Plan::default());
    assert_eq!(rig.after(14 * SECOND), []);
    assert_eq!(retry_in(&rig.after(SECOND)), Some(SECOND / 2));
    rig.comes_back();
    assert_eq!(rig.after(9 * SECOND), []);
    assert_eq!(retry_in(&rig.after(SECOND)), Some(SECOND));
}

#[test]
fn after_a_sleep_the_link_has_3_s_to_prove_itself() {
    let mut rig = Rig::live();
    rig.now.wall += 6 * SECOND;
    let actions = rig.after(SECOND);
    let [Action::Send(probe)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(probe.message, ClientMessage::Ping);
    // What lay in the kernel's buffer proves nothing.
    rig.event(1);
    assert_eq!(rig.after(2 * SECOND), []);
    let pong = ServerMessage::Pong(Heartbeat { delivered: Some(1), ..Heartbeat::default() });
    rig.frame(&frame(pong, at(1)).id(probe.id.clone()));
    assert_eq!(rig.after(2 * SECOND), []);
    rig.now.wall += 6 * SECOND;
    rig.after(SECOND);
    assert!(rig.after(3 * SECOND).contains(&Action::Drop));
}

#[test]
fn after_a_sleep_a_wait_is_over() {
    let mut rig = Rig::live();
    rig.closes(CloseCode::Overload, None);
    rig.now.wall += 60 * SECOND;
    assert!(matches!(rig.after(Duration::ZERO)[..], [_, Action::Dial(..)]));
}

#[test]
fn a_wall_clock_set_back_is_no_sleep() {
    let mut rig = Rig::live();
    rig.now.wall = SystemTime::UNIX_EPOCH - 3600 * SECOND;
    assert_eq!(rig.after(SECOND), []);
}

#[test]
fn a_full_buffer_stops_reading_then_parks_and_room_resumes_without_delay() {
    let mut rig = Rig::live();
    rig.event(1);
    rig.input(Input::Full);
    assert!(!rig.machine.is_reading());
    assert_eq!(rig.after(5 * SECOND - SECOND / 1000), []);
    assert_eq!(rig.after(SECOND / 1000), [Action::Leave, Action::Yield(Update::Parked, None)]);
    assert_eq!(rig.after(3600 * SECOND), []);
    let actions = rig.input(Input::Room);
    assert_eq!(actions[0], Action::Yield(Update::Connecting { attempt: 1 }, None));
    assert_eq!(subscribes(&rig.opens())[0].since, Some(at(1)));
    // Not a failure: the first wait is still ahead.
    assert_eq!(retry_in(&rig.cut()), Some(SECOND / 2));
}

#[test]
fn room_within_5_s_keeps_the_link_although_it_was_not_heard() {
    let mut rig = Rig::live();
    rig.after(33 * SECOND);
    rig.input(Input::Full);
    rig.after(4 * SECOND);
    assert_eq!(rig.input(Input::Room), []);
    assert!(rig.machine.is_reading());
    assert_eq!(rig.after(34 * SECOND), []);
}

#[test]
fn a_caller_who_does_not_read_is_not_dialled_for() {
    let mut rig = Rig::live();
    rig.cut();
    rig.input(Input::Full);
    assert_eq!(rig.after(60 * SECOND), []);
    assert!(rig.machine.deadline().is_none());
    assert!(matches!(rig.input(Input::Room)[..], [_, Action::Dial(..)]));
}

#[test]
fn waits_grow_until_a_link_was_live_for_30_s() {
    let mut rig = Rig::live();
    let mut fail_after = |live: Duration| {
        rig.after(live / 2);
        rig.link(LinkInput::Alive);
        rig.after(live - live / 2);
        let wait = retry_in(&rig.cut()).unwrap();
        rig.comes_back();
        rig.acks(ack(Mode::Resumed, &["foo"], 0), at(0));
        wait
    };
    let waits = [1, 29, 0, 30, 1].map(|seconds| fail_after(seconds * SECOND).as_millis());
    assert_eq!(waits, [500, 1000, 2000, 500, 1000]);
}

#[test]
fn every_close_code_is_obeyed() {
    for &code in CloseCode::KNOWN {
        let mut rig = Rig::live();
        let actions = rig.closes(code, None);
        match code.advice() {
            Advice::Stop => {
                let reason = code.meaning().to_owned();
                assert_eq!(stopped(&actions), Some(&WatchError::Closed { code, reason }));
            }
            Advice::AtOnce => assert_eq!(retry_in(&actions), Some(Duration::ZERO), "{code}"),
            Advice::BackOff { .. } if code == CloseCode::Restart => {
                assert_eq!(retry_in(&actions), Some(5 * SECOND));
            }
            Advice::BackOff { at_least } => {
                assert_eq!(retry_in(&actions), Some(at_least.max(SECOND / 2)), "{code}");
            }
        }
    }
}

#[test]
fn a_code_of_the_future_that_says_stop_is_told_in_its_own_word() {
    let reason = CloseReason { word: "moved".into(), retry_after_ms: None };
    let actions = Rig::live().link(LinkInput::Closed(CloseCode::Other(4050), reason));
    let error = stopped(&actions).unwrap().to_string();
    assert_eq!(error, "the server closed the connection for good: moved (4050)");
}

#[test]
fn advice_is_a_floor_and_not_a_sentence() {
    let wait = |code, hint| retry_in(&Rig::live().closes(code, hint));
    assert_eq!(wait(CloseCode::Restart, Some(7_000)), Some(7 * SECOND));
    assert_eq!(wait(CloseCode::Restart, Some(1)), Some(SECOND / 2));
    assert_eq!(wait(CloseCode::Overload, Some(1)), Some(5 * SECOND));
    assert_eq!(wait(CloseCode::Rebalance, Some(2_000)), Some(2 * SECOND));
    assert_eq!(wait(CloseCode::Restart, Some(u64::MAX)), Some(3600 * SECOND));
}

#[test]
fn a_server_that_keeps_saying_at_once_is_not_hammered() {
    let mut rig = Rig::live();
    let mut waits = Vec::new();
    for _ in 0..3 {
        waits.push(retry_in(&rig.closes(CloseCode::Rebalance, None)).unwrap().as_millis());
        if waits.last() != Some(&0) {
            rig.comes_back();
        } else {
            rig.opens();
        }
        rig.acks(ack(Mode::Resumed, &["foo"], 0), at(0));
    }
    assert_eq!(waits, [0, 500, 1000]);
}

#[test]
fn our_own_refusal_is_final_and_an_intermediary_is_not() {
    let refusal = |status, code| {
        let retry_after = Some(9 * SECOND);
        let refusal = Refusal { status, code, detail: "no".into(), retry_after };
        Rig::new(Plan::default()).link(LinkInput::DialFailed(DialError::Refused(refusal)))
    };
    let ours = refusal(403, Some(ErrorCode::Host));
    let expected =
        WatchError::Rejected { status: 403, code: Some(ErrorCode::Host), reason: "no".into() };
    assert_eq!(stopped(&ours), Some(&expected));
    assert!(stopped(&refusal(401, None)).is_some());
    for survivable in [None, Some(ErrorCode::UpgradeRequired), Some(ErrorCode::Unavailable)] {
        assert_eq!(retry_in(&refusal(503, survivable)), Some(9 * SECOND));
    }
    let failed = DialError::Failed("refused".into());
    let actions = Rig::new(Plan::default()).link(LinkInput::DialFailed(failed));
    assert_eq!(retry_in(&actions), Some(SECOND / 2));
}

#[test]
fn frames_of_an_older_connection_are_nobodys() {
    let mut rig = Rig::live();
    let old = rig.link;
    rig.cut();
    let late = || Input::Link(old, LinkInput::Text(event_frame(1).encode().into()));
    assert_eq!(rig.input(late()), []);
    rig.comes_back();
    assert_eq!(rig.input(late()), []);
    assert_eq!(rig.input(Input::Link(old, LinkInput::Lost("late".into()))), []);
}

#[test]
fn what_is_added_and_removed_while_down_is_in_the_one_frame() {
    let mut rig = Rig::live();
    rig.cut();
    assert_eq!(rig.input(Input::Wish(Wish::Add(patterns(&["bar", "baz"])))), []);
    assert_eq!(rig.input(Input::Wish(Wish::Remove(patterns(&["foo", "baz"])))), []);
    let asked = rig.comes_back();
    assert_eq!((asked.repositories, asked.since), (patterns(&["bar"]), Some(at(0))));
}

#[test]
fn what_is_added_and_removed_while_live_is_sent_at_once_and_once() {
    let mut rig = Rig::live();
    let actions = rig.input(Input::Wish(Wish::Add(patterns(&["foo", "bar", "bar"]))));
    assert_eq!(subscribes(&actions), [Subscribe::live(patterns(&["bar"]))]);
    let denied = Denied { repository: "bar".parse().unwrap(), code: ErrorCode::NotFound };
    let actions =
        rig.acks(Subscribed { denied: vec![denied.clone()], ..ack(Mode::Live, &[], 4) }, at(4));
    assert_eq!(
        actions,
        [Action::Bookmark(at(4)), Action::Yield(Update::Denied(vec![denied]), None)]
    );
    let actions = rig.input(Input::Wish(Wish::Remove(patterns(&["foo", "never"]))));
    let [Action::Send(Envelope { message: ClientMessage::Unsubscribe(data), id, .. })] =
        &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(data.repositories, patterns(&["foo"]));
    let done = Unsubscribed { accepted: patterns(&["foo"]), head: None };
    let reply = frame(ServerMessage::Unsubscribed(done), at(5)).id(id.clone());
    assert_eq!(rig.frame(&reply), [Action::Bookmark(at(5))]);
}

#[test]
fn with_nothing_wished_nothing_is_dialled() {
    let mut rig = Rig::live();
    rig.input(Input::Wish(Wish::Remove(patterns(&["foo"]))));
    rig.cut();
    assert_eq!(rig.after(60 * SECOND), []);
    assert!(matches!(
        rig.input(Input::Wish(Wish::Add(patterns(&["foo"]))))[..],
        [_, Action::Dial(..)]
    ));
    rig.input(Input::Wish(Wish::Remove(patterns(&["foo"]))));
    assert_eq!(rig.opens(), [Action::Leave]);
}

#[test]
fn types_are_asked_for_in_every_subscription() {
    let types = Some(vec![EventKind::Deleted]);
    let mut rig = Rig::new(Plan { types: types.clone(), ..Plan::default() });
    assert_eq!(subscribes(&rig.opens())[0].types, types);
    let more = rig.input(Input::Wish(Wish::Add(patterns(&["bar"]))));
    assert_eq!(subscribes(&more)[0].types, types);
}

#[test]
fn a_reset_ends_the_stream_unless_a_gap_is_allowed() {
    let reset = || Subscribed { reason: Some(ResetReason::Expired), ..ack(Mode::Reset, &[], 9) };
    let mut rig = Rig::new(Plan { since: Some(at(1)), ..Plan::default() });
    assert_eq!(subscribes(&rig.opens())[0].on_gap, None);
    let actions = rig.acks(reset(), None);
    let gap = WatchError::Gap { reason: ResetReason::Expired };
    assert_eq!(actions, [Action::Leave, Action::Stop(gap)]);

    let plan = Plan { since: Some(at(1)), on_gap: OnGap::Live, ..Plan::default() };
    let mut rig = Rig::new(plan);
    assert_eq!(subscribes(&rig.opens())[0].on_gap, Some(taskwatch_protocol::OnGap::Live));
    let actions = rig.acks(Subscribed { accepted: patterns(&["foo"]), ..reset() }, at(9));
    let gap = Gap { reason: ResetReason::Expired, since: Some(at(1)), cursor: Some(at(9)) };
    assert!(actions.contains(&Action::Yield(Update::Gap(gap), Some(at(9)))));
    rig.cut();
    assert_eq!(rig.comes_back().since, Some(at(9)));
}

#[test]
fn a_position_that_is_ignored_is_a_gap() {
    let mut rig = Rig::new(Plan { since: Some(at(1)), ..Plan::default() });
    rig.opens();
    let actions = rig.acks(ack(Mode::Live, &["foo"], 9), at(9));
    assert!(matches!(stopped(&actions), Some(WatchError::Gap { .. })));
}

#[test]
fn denials_are_told_when_they_change_and_end_the_stream_when_nothing_is_left() {
    let denied = vec![Denied { repository: "bar".parse().unwrap(), code: ErrorCode::NotFound }];
    let some = |mode, names: &[&str]| Subscribed { denied: denied.clone(), ..ack(mode, names, 0) };
    let mut rig = Rig::new(Plan::default());
    rig.opens();
    let told = Action::Yield(Update::Denied(denied.clone()), None);
    assert!(rig.acks(some(Mode::Live, &["foo"]), at(0)).contains(&told));
    rig.cut();
    rig.comes_back();
    assert!(!rig.acks(some(Mode::Resumed, &["foo"]), at(0)).contains(&told));
    rig.cut();
    rig.comes_back();
    let actions = rig.acks(some(Mode::Resumed, &[]), at(0));
    let error = WatchError::Denied { denied: denied.clone() };
    assert_eq!(error.to_string(), "no such repository: bar");
    assert_eq!(stopped(&actions), Some(&error));
}

#[test]
fn a_refused_subscription_is_final_unless_it_may_succeed_later() {
    let refused = |code, hint| {
        let mut rig = Rig::new(Plan::default());
        rig.opens();
        rig.errs(code, hint)
    };
    let code = ErrorCode::LimitSubscriptions;
    let error = WatchError::Refused { code: code.clone(), reason: "no".into() };
    assert_eq!(refused(code, None), [Action::Leave, Action::Stop(error)]);
    let actions = refused(ErrorCode::Unavailable, Some(3_000));
    assert_eq!(retry_in(&actions), Some(3 * SECOND));
    let mut rig = Rig::live();
    assert_eq!(rig.errs(ErrorCode::BadMessage, None), [], "it was answered already");
}

#[test]
fn what_it_does_not_know_is_ignored_and_what_it_cannot_read_is_not() {
    let mut rig = Rig::live();
    assert_eq!(rig.link(LinkInput::Text(r#"{"type":"weather","data":{}}"#.into())), []);
    assert!(rig.link(LinkInput::Text(r#"{"type":"task.created"}"#.into())).contains(&Action::Drop));
    let mut rig = Rig::live();
    let nowhere = Envelope { cursor: None, ..event_frame(1) };
    assert!(rig.frame(&nowhere).contains(&Action::Drop));
}

#[test]
fn it_gives_up_only_when_told_to() {
    let failed = || LinkInput::DialFailed(DialError::Failed("refused".into()));
    let mut rig = Rig::with(Plan::default(), Some(3 * SECOND));
    rig.input(Input::Wish(Wish::Add(patterns(&["foo"]))));
    assert_eq!(retry_in(&rig.link(failed())), Some(SECOND / 2));
    rig.after(SECOND / 2);
    assert_eq!(retry_in(&rig.link(failed())), Some(SECOND));
    rig.after(SECOND);
    let actions = rig.link(failed());
    let error = WatchError::Unreachable { attempts: 3, reason: "refused".into() };
    assert_eq!(stopped(&actions), Some(&error));
}

#[test]
fn the_error_is_last_and_comes_once() {
    let mut rig = Rig::live();
    let actions = rig.closes(CloseCode::Forbidden, None);
    assert!(matches!(actions.last(), Some(Action::Stop(_))));
    assert_eq!(rig.closes(CloseCode::Forbidden, None), []);
    assert_eq!(rig.event(1), []);
    assert_eq!(rig.input(Input::Wish(Wish::Add(patterns(&["bar"])))), []);
    assert_eq!(rig.input(Input::Full), []);
    assert_eq!(rig.after(3600 * SECOND), []);
}
