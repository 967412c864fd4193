use taskwatch_protocol::Unsubscribe;

use super::*;
use crate::samples::task_event;

/// A hub's side with a log, driven by hand.
struct Rig {
    history: History,
    denied: BTreeSet<Pattern>,
    conversation: Conversation,
}

impl Rig {
    fn new(events: u64) -> Self {
        let (history, conversation) = (History::new(), Conversation::new());
        let mut rig = Self { history, denied: BTreeSet::new(), conversation };
        rig.happen(1..=events);
        rig
    }

    fn happen(&mut self, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            self.history.append(task_event(seq), Timestamp::from_unix_millis(0));
        }
    }

    fn at(&self, seq: Seq) -> Cursor {
        self.history.cursor(seq)
    }

    fn hear(&mut self, message: ClientMessage) -> Option<ServerFrame> {
        let Self { history, denied, conversation } = self;
        let world = World { history, denied, now: Timestamp::default() };
        conversation.hear(&Envelope::new(message).id("x".to_owned()).encode(), world)
    }

    fn next(&mut self) -> Option<Next> {
        let Self { history, denied, conversation } = self;
        conversation.next(World { history, denied, now: Timestamp::default() })
    }

    fn frame(&mut self) -> ServerFrame {
        match self.next() {
            Some(Next::Frame(frame)) => frame,
            other => panic!("{other:?}"),
        }
    }

    /// The answer to a subscription, where it comes next.
    fn subscribe(&mut self, subscribe: Subscribe) -> (Subscribed, Option<Cursor>) {
        assert_eq!(self.hear(ClientMessage::Subscribe(subscribe)), None);
        let frame = self.frame();
        assert_eq!(frame.id.as_deref(), Some("x"));
        match frame.message {
            ServerMessage::Subscribed(data) => (data, frame.cursor),
            other => panic!("{other:?}"),
        }
    }

    fn refused(&mut self, subscribe: Subscribe) -> ErrorCode {
        assert_eq!(self.hear(ClientMessage::Subscribe(subscribe)), None);
        match self.frame().message {
            ServerMessage::Error(error) => error.code,
            other => panic!("{other:?}"),
        }
    }

    /// The positions of the events that come, up to the first other frame or the end.
    fn events(&mut self) -> Vec<Cursor> {
        let mut cursors = Vec::new();
        while let Some(Next::Frame(frame)) = self.next() {
            assert!(matches!(frame.message, ServerMessage::Task(_)), "{frame:?}");
            cursors.push(frame.cursor.unwrap());
        }
        cursors
    }

    fn bookmark(&mut self) -> (Option<u64>, Option<Cursor>) {
        let frame = self.hear(ClientMessage::Ping).unwrap();
        match frame.message {
            ServerMessage::Pong(heartbeat) => (heartbeat.delivered, frame.cursor),
            other => panic!("{other:?}"),
        }
    }
}

fn foo() -> Subscribe {
    Subscribe::live(vec!["foo".parse().unwrap()])
}

fn since(cursor: Cursor) -> Subscribe {
    Subscribe { since: Some(cursor), ..foo() }
}

#[test]
fn live_begins_at_the_head_and_counts() {
    let mut rig = Rig::new(2);
    assert_eq!(rig.bookmark(), (Some(0), Some(rig.at(2))));
    let (data, cursor) = rig.subscribe(foo());
    assert_eq!((data.mode, data.head, cursor), (Mode::Live, Some(rig.at(2)), Some(rig.at(2))));
    rig.happen([3, 4]);
    assert_eq!(rig.bookmark(), (Some(0), Some(rig.at(2))));
    assert_eq!(rig.events(), [rig.at(3), rig.at(4)]);
    assert_eq!(rig.bookmark(), (Some(2), Some(rig.at(4))));
    assert!(rig.conversation.is_level(&rig.history));
}

#[test]
fn a_position_is_gone_on_from_and_a_further_subscription_waits_until_it_is_level() {
    let mut rig = Rig::new(3);
    let (data, cursor) = rig.subscribe(since(rig.at(1)));
    assert_eq!((data.mode, data.head, cursor), (Mode::Resumed, Some(rig.at(3)), Some(rig.at(1))));
    assert_eq!(rig.hear(ClientMessage::Subscribe(foo())), None);
    assert_eq!([rig.frame().cursor, rig.frame().cursor], [Some(rig.at(2)), Some(rig.at(3))]);
    let answer = rig.frame();
    assert!(matches!(answer.message, ServerMessage::Subscribed(_)), "{answer:?}");
    assert_eq!(rig.next(), None);
    assert_eq!(rig.refused(since(rig.at(1))), ErrorCode::SinceNotFirst);
}

#[test]
fn a_beginning_in_the_past_is_a_position() {
    let tail = |tail| Subscribe { tail: Some(tail), ..foo() };
    let time = |millis| {
        let since_time = Some(Timestamp::from_unix_millis(millis));
        Subscribe { since_time, ..foo() }
    };
    for (asked, position) in [(tail(1), 2), (tail(9), 0), (time(0), 0), (time(1), 3)] {
        let mut rig = Rig::new(3);
        let (data, cursor) = rig.subscribe(asked);
        assert_eq!((data.mode, cursor), (Mode::Resumed, Some(rig.at(position))));
        assert_eq!(rig.events().len() as u64, 3 - position);
    }
    let mut rig = Rig::new(1);
    rig.history.expire();
    assert_eq!(rig.subscribe(time(0)).0.reason, Some(ResetReason::Expired));
    for wrong in [
        tail(0),
        tail(MAX_TAIL + 1),
        Subscribe { snapshot: true, ..tail(1) },
        Subscribe { tail: Some(1), ..time(0) },
    ] {
        assert_eq!(rig.refused(wrong), ErrorCode::BadMessage);
    }
}

#[test]
fn a_pong_tells_how_far_the_log_is() {
    let mut rig = Rig::new(0);
    rig.subscribe(foo());
    rig.happen([1]);
    let pong = rig.hear(ClientMessage::Ping).unwrap();
    let ServerMessage::Pong(Heartbeat { head, .. }) = pong.message else { panic!("no pong") };
    assert_eq!((head, pong.cursor), (Some(rig.at(1)), Some(rig.at(0))));
}

#[test]
fn what_cannot_be_gone_on_from_is_answered_as_it_was_asked_for() {
    let asked = |on_gap, snapshot| Subscribe { on_gap, snapshot, ..since(Cursor::new("")) };
    let mut rig = Rig::new(1);
    for on_gap in [None, Some(OnGap::Error)] {
        let (data, cursor) = rig.subscribe(asked(on_gap, false));
        assert_eq!((data.mode, data.reason), (Mode::Reset, Some(ResetReason::Malformed)));
        assert_eq!((data.accepted, cursor), (vec![], None));
        // Nothing is subscribed, and no position tells of what was not sent.
        assert_eq!(rig.bookmark(), (Some(0), None));
    }
    let (data, cursor) = rig.subscribe(asked(Some(OnGap::Live), false));
    assert_eq!((data.mode, cursor), (Mode::Reset, Some(rig.at(1))));
    for (on_gap, snapshot) in [(Some(OnGap::Snapshot), false), (Some(OnGap::Live), true)] {
        let mut rig = Rig::new(1);
        let (data, cursor) = rig.subscribe(asked(on_gap, snapshot));
        assert_eq!((data.mode, cursor), (Mode::Reset, None));
        assert!(matches!(rig.frame().message, ServerMessage::Snapshot(_)));
    }
}

#[test]
fn a_snapshot_comes_in_parts_of_which_the_last_has_the_position() {
    let mut rig = Rig::new(0);
    let more = TASKS_IN_A_FRAME as u128 + 1;
    for number in 0..more {
        let mut event = task_event(1);
        event.task_id = Uuid::from_u128(number);
        rig.history.append(event, Timestamp::default());
    }
    let head = rig.at(rig.history.head());
    let (data, cursor) = rig.subscribe(Subscribe { snapshot: true, ..foo() });
    assert_eq!((data.mode, cursor), (Mode::Snapshot, None));
    rig.happen([9]);
    let mut tasks = 0;
    for (is_first, is_last) in [(true, false), (false, true)] {
        assert_eq!(rig.bookmark(), (Some(0), None));
        let frame = rig.frame();
        let ServerMessage::Snapshot(part) = frame.message else { panic!("{:?}", frame.message) };
        tasks += part.tasks.len() as u128;
        assert_eq!((part.first, part.last), (is_first, is_last));
        assert_eq!(frame.cursor, is_last.then(|| head.clone()));
    }
    assert_eq!((tasks, rig.events().len()), (more, 1));
}

#[test]
fn an_empty_snapshot_is_one_frame() {
    let mut rig = Rig::new(0);
    rig.subscribe(Subscribe { snapshot: true, ..foo() });
    let ServerMessage::Snapshot(part) = rig.frame().message else { panic!("no snapshot") };
    assert_eq!((part.tasks.len(), part.first, part.last), (0, true, true));
    assert_eq!(rig.next(), None);
}

#[test]
fn what_may_not_be_read_is_denied_and_not_sent() {
    let mut rig = Rig::new(0);
    rig.denied.insert("foo".parse().unwrap());
    let (data, cursor) = rig.subscribe(foo());
    assert_eq!((data.accepted, data.mode, cursor), (vec![], Mode::Live, None));
    assert_eq!(data.denied[0].code, ErrorCode::NotFound);
    assert_eq!(rig.bookmark(), (Some(0), None));
    // It still counts as the first.
    let all = Subscribe { since: Some(rig.at(0)), ..Subscribe::live(vec![Pattern::All]) };
    assert_eq!(rig.subscribe(all).0.mode, Mode::Resumed);
    rig.happen([1]);
    assert_eq!(rig.events(), []);
    assert_eq!(rig.bookmark(), (Some(0), Some(rig.at(1))));
}

#[test]
fn types_choose_and_cannot_change() {
    let mut rig = Rig::new(0);
    let chosen = |kind| Subscribe { types: Some(vec![kind]), ..foo() };
    rig.subscribe(chosen(EventKind::Deleted));
    rig.happen([1]);
    assert_eq!(rig.events(), []);
    assert_eq!(rig.refused(chosen(EventKind::Created)), ErrorCode::BadMessage);
    assert_eq!(rig.refused(Subscribe { snapshot: true, ..foo() }), ErrorCode::BadMessage);
    rig.subscribe(foo());
}

#[test]
fn exactly_what_was_subscribed_is_taken_away() {
    let mut rig = Rig::new(0);
    rig.subscribe(Subscribe::live(vec!["foo".parse().unwrap(), Pattern::All]));
    for (gone, events) in [("foo", 1), ("*", 0)] {
        let repositories = vec![gone.parse().unwrap()];
        assert_eq!(rig.hear(ClientMessage::Unsubscribe(Unsubscribe { repositories })), None);
        assert!(matches!(rig.frame().message, ServerMessage::Unsubscribed(_)));
        rig.happen([1]);
        assert_eq!(rig.events().len(), events, "{gone}");
    }
}

#[test]
fn who_is_overtaken_is_told() {
    let mut rig = Rig::new(0);
    rig.subscribe(foo());
    rig.happen([1]);
    rig.history.expire();
    assert_eq!(rig.next(), Some(Next::Overtaken));
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let mut rig = Rig::new(0);
    let world = World { history: &rig.history, denied: &rig.denied, now: Timestamp::default() };
    let answer = rig.conversation.hear("{", world).unwrap();
    assert!(matches!(answer.message, ServerMessage::Error(_)));
    assert_eq!(rig.refused(Subscribe::live(vec![])), ErrorCode::BadMessage);
    let many = (0..=MOST_PATTERNS).map(|number| format!("r{number}").parse().unwrap());
    let many = Subscribe::live(many.collect());
    assert_eq!(rig.refused(many), ErrorCode::LimitSubscriptions);
    for _ in 0..MOST_WAITING {
        assert_eq!(rig.hear(ClientMessage::Subscribe(foo())), None);
    }
    let ServerMessage::Error(error) = rig.hear(ClientMessage::Subscribe(foo())).unwrap().message
    else {
        panic!("nine wait");
    };
    assert_eq!(error.code, ErrorCode::RateLimited);
}
