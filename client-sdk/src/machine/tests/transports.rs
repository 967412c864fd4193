//! Connections on which nothing can be said, and how they take turns with WebSocket.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn sse() -> Route {
    let first = Routes::new(TransportChoice::Auto).next(start());
    first.blocked("the server answered 426").unwrap()
}

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "any beginning will do")]
    Instant::now()
}

/// The way of a dialled connection, if that is all that happens beside leaving the one before.
fn redialled(actions: &[Action]) -> Option<Transport> {
    match actions {
        [Action::Leave, Action::Dial(_, route)] => Some(route.transport),
        _ => None,
    }
}

fn dialled(actions: &[Action]) -> Option<Transport> {
    actions.iter().find_map(|action| match action {
        Action::Dial(_, route) => Some(route.transport),
        _ => None,
    })
}

fn told(actions: &[Action]) -> Vec<&Update> {
    let told = |action: &'_ Action| matches!(action, Action::Yield(update, _) if !matches!(update, Update::Event(_)));
    let told = actions.iter().filter(|action| told(action));
    told.map(|action| match action {
        Action::Yield(update, _) => update,
        _ => unreachable!(),
    })
    .collect()
}

impl Rig {
    /// Live on `foo` over server-sent events, at position 0.
    fn listening() -> Self {
        let mut rig = Self::new(Plan::default());
        rig.opens_as(sse());
        rig.acks(ack(Mode::Live, &["foo"], 0), at(0));
        rig
    }

    fn opens_as(&mut self, route: Route) -> Vec<Action> {
        self.link(LinkInput::Opened(route))
    }

    fn wishes(&mut self, wish: impl Fn(Vec<Pattern>) -> Wish, name: &str) -> Vec<Action> {
        self.input(Input::Wish(wish(patterns(&[name]))))
    }
}

#[test]
fn the_way_that_was_taken_is_told_with_its_reason() {
    let mut rig = Rig::new(Plan::default());
    rig.opens_as(sse());
    let actions = rig.acks(ack(Mode::Live, &["foo"], 7), at(7));
    let fallback = Some("WebSocket is blocked: the server answered 426".to_owned());
    let connected = Update::Connected {
        resumed: false,
        server: String::new(),
        transport: Transport::Sse,
        fallback,
    };
    assert_eq!(actions, [Action::Ready, Action::Yield(connected, None), Action::Bookmark(at(7))]);
}

#[test]
fn the_way_may_change_until_the_first_frame() {
    let mut rig = Rig::new(Plan::default());
    rig.opens_as(sse());
    let poll = sse().blocked("nothing came in 2s").unwrap();
    assert_eq!(rig.link(LinkInput::Rerouted(poll)), []);
    let actions = rig.acks(ack(Mode::Live, &["foo"], 7), at(7));
    let is_poll = |update: &&Update| {
        matches!(update, Update::Connected { transport: Transport::LongPoll, .. })
    };
    assert!(told(&actions).iter().any(is_poll), "{actions:?}");
    // And it is what the next connection takes.
    assert_eq!(dialled(&[rig.cut(), rig.after(SECOND)].concat()), Some(Transport::LongPoll));
}

#[test]
fn nothing_is_said_on_it() {
    let mut rig = Rig::listening();
    let actions: Vec<Action> = (1..=3_000).flat_map(|seq| rig.event(seq)).collect();
    assert_eq!(positions(&actions).len(), 3_000);
    let actions = [actions, rig.frame(&ping(3_000, 3_000))].concat();
    assert!(!actions.iter().any(|action| matches!(action, Action::Send(_))));
    assert!(actions.contains(&Action::Bookmark(at(3_000))));
}

#[test]
fn a_count_is_a_proof_and_does_not_say_that_everything_has_come() {
    let mut rig = Rig::listening();
    rig.event(1);
    rig.cut();
    rig.after(SECOND);
    rig.opens_as(sse());
    rig.acks(ack(Mode::Resumed, &["foo"], 9), at(1));
    let pong = |delivered| {
        let count =
            ServerMessage::Pong(Heartbeat { delivered: Some(delivered), ..Heartbeat::default() });
        Envelope::new(count).cursor(at(2))
    };
    rig.event(2);
    assert_eq!(rig.frame(&pong(1)), [Action::Bookmark(at(2))]);
    rig.event(3);
    let level = rig.frame(&ping(2, 9));
    assert!(matches!(told(&level)[..], [Update::CaughtUp { replayed: 2, .. }]), "{level:?}");
    assert!(matches!(told(&rig.frame(&pong(7)))[..], [Update::Interrupted { .. }]));
}

#[test]
fn a_wish_takes_a_connection_of_its_own_and_nobody_hears_of_it() {
    let mut rig = Rig::listening();
    rig.event(1);
    assert_eq!(redialled(&rig.wishes(Wish::Add, "bar")), Some(Transport::Sse));
    // Another one before it is open is in the same request.
    assert_eq!(rig.wishes(Wish::Add, "baz"), []);
    let asked = subscribes(&rig.opens_as(sse()));
    assert_eq!(asked[0].repositories, patterns(&["bar", "baz", "foo"]));
    assert_eq!(asked[0].since, Some(at(1)));
    let actions = rig.acks(ack(Mode::Resumed, &["foo", "bar", "baz"], 9), at(1));
    assert_eq!(told(&actions), [] as [&Update; 0]);
    let actions = rig.event(2);
    assert!(!events(&actions)[0].replayed);
    assert_eq!(told(&rig.frame(&ping(1, 9))), [] as [&Update; 0]);

    assert_eq!(redialled(&rig.wishes(Wish::Remove, "bar")), Some(Transport::Sse));
    assert_eq!(subscribes(&rig.opens_as(sse()))[0].repositories, patterns(&["baz", "foo"]));
    rig.acks(ack(Mode::Resumed, &["foo", "baz"], 9), at(9));
    rig.wishes(Wish::Remove, "foo");
    // Before the answer too.
    rig.opens_as(sse());
    assert_eq!(rig.wishes(Wish::Remove, "baz"), [Action::Leave]);
    assert_eq!(rig.after(MINUTE), []);
    assert_eq!(dialled(&rig.wishes(Wish::Add, "foo")), Some(Transport::Sse));
}

#[test]
fn an_outage_in_between_is_told() {
    let mut rig = Rig::listening();
    rig.wishes(Wish::Add, "bar");
    let actions = rig.link(LinkInput::DialFailed(DialError::Failed("refused".into())));
    assert_eq!(retry_in(&actions), Some(SECOND / 2));
    let asked = rig.after(SECOND);
    assert!(
        matches!(asked[0], Action::Yield(Update::Connecting { attempt: 2 }, None)),
        "{asked:?}"
    );
    rig.opens_as(sse());
    let actions = rig.acks(ack(Mode::Resumed, &["foo", "bar"], 0), at(0));
    let [Update::Connected { resumed: true, .. }, Update::CaughtUp { away, .. }] =
        told(&actions)[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(*away, SECOND);
}

#[test]
fn a_gap_in_between_is_told() {
    let mut rig = Rig::new(Plan { on_gap: OnGap::Live, ..Plan::default() });
    rig.opens_as(sse());
    rig.acks(ack(Mode::Live, &["foo"], 0), at(0));
    rig.wishes(Wish::Add, "bar");
    rig.opens_as(sse());
    let actions = rig.acks(ack(Mode::Reset, &["foo", "bar"], 9), at(9));
    let [Update::Connected { resumed: false, .. }, Update::Gap(gap)] = told(&actions)[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(gap.cursor, Some(at(9)));
}

#[test]
fn a_bookmark_says_when_it_is_level() {
    let mut rig = Rig::listening();
    rig.event(1);
    rig.cut();
    rig.after(SECOND);
    rig.opens_as(sse());
    let actions = rig.acks(ack(Mode::Resumed, &["foo"], 3), at(1));
    assert_eq!(subscribes(&actions), []);
    let [Update::Connected { .. }] = told(&actions)[..] else { panic!("{actions:?}") };
    assert!(events(&rig.event(2))[0].replayed);
    // While it catches up, a wish does not make it forget that.
    rig.wishes(Wish::Add, "bar");
    rig.opens_as(sse());
    let actions = rig.acks(ack(Mode::Resumed, &["foo", "bar"], 4), at(2));
    assert_eq!(told(&actions), [] as [&Update; 0]);
    assert!(events(&rig.event(4))[0].replayed);
    let actions = rig.frame(&ping(1, 4));
    let caught_up = Update::CaughtUp { replayed: 2, away: SECOND };
    assert_eq!(actions, [Action::Yield(caught_up, None), Action::Bookmark(at(4))]);
    assert!(!events(&rig.event(5))[0].replayed);
}

#[test]
fn after_a_sleep_it_is_made_anew() {
    let mut rig = Rig::listening();
    rig.now.wall += MINUTE;
    assert_eq!(redialled(&rig.after(SECOND)), Some(Transport::Sse));
}

#[test]
fn websocket_is_tried_again_after_ten_minutes_and_taken() {
    let mut rig = Rig::listening();
    let alive_for = |rig: &mut Rig, minutes| {
        (0..2 * minutes)
            .flat_map(|_| {
                rig.link(LinkInput::Alive);
                rig.after(MINUTE / 2)
            })
            .collect::<Vec<Action>>()
    };
    // The draw of the rig is the longest.
    assert_eq!(alive_for(&mut rig, 10), []);
    assert_eq!(redialled(&alive_for(&mut rig, 1)), Some(Transport::WebSocket));
    // It is still blocked: nobody hears of it.
    rig.opens_as(sse());
    assert_eq!(told(&rig.acks(ack(Mode::Resumed, &["foo"], 0), at(0))), [] as [&Update; 0]);
    assert_eq!(alive_for(&mut rig, 10), []);
    assert_eq!(redialled(&alive_for(&mut rig, 1)), Some(Transport::WebSocket));
    assert_eq!(subscribes(&rig.opens())[0].since, Some(at(0)));
    let actions = rig.acks(ack(Mode::Resumed, &["foo"], 0), at(0));
    assert_eq!(told(&actions), [&connected(true, "")]);
    assert_eq!(positions(&rig.event(1)), [at(1)]);
    assert_eq!(alive_for(&mut rig, 60), []);
}

#[test]
fn websocket_waits_for_a_snapshot_that_is_under_way() {
    let mut rig = Rig::new(Plan { snapshot: true, ..Plan::default() });
    rig.opens_as(sse());
    rig.acks(ack(Mode::Snapshot, &["foo"], 9), None);
    let part = |first, last| {
        let repositories = patterns(&["foo"]);
        let part = taskwatch_protocol::Snapshot { repositories, tasks: vec![], first, last };
        frame(ServerMessage::Snapshot(part), last.then(|| at(9)))
    };
    for _ in 0..30 {
        rig.link(LinkInput::Alive);
        assert_eq!(rig.after(MINUTE / 2), []);
    }
    rig.frame(&part(true, false));
    let actions = rig.frame(&part(false, true));
    assert_eq!(dialled(&actions), Some(Transport::WebSocket), "{actions:?}");
    assert_eq!(subscribes(&rig.opens())[0].since, Some(at(9)));
}

#[test]
fn what_is_open_and_mute_is_not_tried_again_at_once() {
    // A WebSocket that is upgraded, and lets no frame through.
    let mut rig = Rig::new(Plan::default());
    rig.opens();
    assert!(retry_in(&rig.after(10 * SECOND)).is_some());
    assert_eq!(dialled(&rig.after(SECOND)), Some(Transport::Sse));
    // One that fell silent later is another matter.
    let mut rig = Rig::live();
    assert!(retry_in(&rig.after(35 * SECOND)).is_some());
    assert_eq!(dialled(&rig.after(SECOND)), Some(Transport::WebSocket));
    // Events may be held back at any time.
    let mut rig = Rig::listening();
    rig.event(1);
    assert!(retry_in(&rig.after(35 * SECOND)).is_some());
    assert_eq!(dialled(&rig.after(SECOND)), Some(Transport::LongPoll));
}

#[test]
fn a_full_buffer_parks_it_too() {
    let mut rig = Rig::listening();
    rig.event(1);
    rig.input(Input::Full);
    assert!(!rig.machine.is_reading());
    assert_eq!(rig.after(5 * SECOND), [Action::Leave, Action::Yield(Update::Parked, None)]);
    let actions = rig.input(Input::Room);
    assert_eq!(dialled(&actions), Some(Transport::Sse));
    assert_eq!(subscribes(&rig.opens_as(sse()))[0].since, Some(at(1)));
    // A wish while it is full waits for room.
    rig.acks(ack(Mode::Resumed, &["foo"], 1), at(1));
    rig.input(Input::Full);
    assert_eq!(rig.wishes(Wish::Add, "bar"), [Action::Leave]);
    assert_eq!(rig.after(MINUTE), []);
    assert_eq!(dialled(&rig.input(Input::Room)), Some(Transport::Sse));
}

#[test]
fn a_request_that_is_refused_is_judged_like_an_upgrade() {
    let refused = |status, code| {
        let refusal = Refusal { status, code, detail: "no".into(), retry_after: Some(9 * SECOND) };
        Rig::listening().link(LinkInput::DialFailed(DialError::Refused(refusal)))
    };
    assert!(stopped(&refused(403, Some(ErrorCode::Host))).is_some());
    assert_eq!(retry_in(&refused(503, Some(ErrorCode::Unavailable))), Some(9 * SECOND));
    assert_eq!(retry_in(&refused(502, None)), Some(9 * SECOND));
}

#[test]
fn a_choice_is_dialled_again_and_again() {
    for (choice, transport) in
        [(TransportChoice::LongPoll, Transport::LongPoll), (TransportChoice::Sse, Transport::Sse)]
    {
        let mut rig = Rig::with(Plan { transport: choice, ..Plan::default() }, None);
        assert_eq!(dialled(&rig.wishes(Wish::Add, "foo")), Some(transport));
        rig.opens_as(Route::only(transport));
        let actions = rig.acks(ack(Mode::Live, &["foo"], 0), at(0));
        let Update::Connected { fallback: None, .. } = told(&actions)[0] else { panic!() };
        rig.after(35 * SECOND);
        assert_eq!(dialled(&rig.after(SECOND)), Some(transport));
    }
}
