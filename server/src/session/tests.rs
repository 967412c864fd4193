mod access;
mod listening;

use serde_json::{Value, json};

use super::*;
use crate::log::Start;
use crate::log::tests::event;
use crate::{MemoryLog, PageLimit, Principal, ReadFuture, SeekError, SnapshotError};
use taskwatch_protocol::{Cursor, EventKind, ResetReason, Timestamp};

const SECOND: Duration = Duration::from_secs(1);

/// A log of which only cursors matter: `"5"` is position 5, and 10 is its head.
struct Positions;

impl EventLog for Positions {
    fn head(&self) -> Seq {
        10
    }
    fn cursor(&self, seq: Seq) -> Cursor {
        Cursor::new(seq.to_string())
    }
    fn validate(&self, cursor: &Cursor) -> Result<Seq, ResetReason> {
        match cursor.as_str().parse::<Seq>() {
            Err(_) => Err(ResetReason::Malformed),
            Ok(0..=2) => Err(ResetReason::Expired),
            Ok(seq @ 3..=10) => Ok(seq),
            Ok(_) => Err(ResetReason::Future),
        }
    }
    fn read(&self, _: Seq, _: Seq, _: PageLimit) -> ReadFuture<'_> {
        unreachable!("a session reads nothing")
    }
}

struct Bench {
    session: Session,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        let now = Now { instant: Instant::now(), wall: Timestamp::from_unix_millis(0) };
        Self::of(Principal::anonymous(), None, now)
    }

    fn of(principal: Principal, token: Option<Token>, now: Now) -> Self {
        let selection = Arc::new(Selection::of(principal));
        Self {
            session: Session::new(
                &Arc::new(Rules::of(&HubConfig::default())),
                selection,
                token,
                10,
                0.5,
                now,
            ),
            now,
        }
    }

    /// What the session does about a frame, without its time.
    fn say(&mut self, frame: &Value) -> Step {
        self.session.text(self.now, &frame.to_string(), &Positions, 10)
    }

    fn reply(&mut self, frame: &Value) -> Value {
        match self.say(frame) {
            Step::Send(reply) => without_time(&reply),
            other => panic!("{other:?}"),
        }
    }

    fn error_code(&mut self, frame: &Value) -> Value {
        self.reply(frame)["data"]["code"].clone()
    }

    /// Says something that has to wait, and is answered as soon as the connection is level.
    fn ask(&mut self, frame: &Value) -> Value {
        assert_eq!(self.say(frame), Step::Nothing);
        match self.session.answer(self.now, &Positions) {
            Some(Answer::Frame(frame)) => without_time(&frame),
            other => panic!("{other:?}"),
        }
    }

    /// The same for what begins at a position that is looked for, with what is found.
    fn ask_seek(&mut self, frame: &Value, found: Result<Seq, SeekError>) -> Value {
        match self.seek(frame, found) {
            Answer::Frame(frame) => without_time(&frame),
            other => panic!("{other:?}"),
        }
    }

    fn seek(&mut self, frame: &Value, found: Result<Seq, SeekError>) -> Answer {
        assert_eq!(self.say(frame), Step::Nothing);
        match self.session.answer(self.now, &Positions) {
            Some(Answer::Seek(request)) => {
                self.session.sought(*request, found, self.now, &Positions)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The same for what needs a snapshot.
    fn ask_snapshot(&mut self, frame: &Value) -> SnapshotRequest {
        assert_eq!(self.say(frame), Step::Nothing);
        match self.session.answer(self.now, &Positions) {
            Some(Answer::Snapshot(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn begin_snapshot(&mut self, request: SnapshotRequest, seq: Seq) -> Value {
        self.session.scanned(seq);
        without_time(&self.session.begin_snapshot(request, self.now, &Positions))
    }

    fn later(&mut self, by: Duration) -> &mut Self {
        self.now.instant += by;
        self
    }

    fn tick(&mut self) -> Step {
        self.session.tick(self.now, &Positions)
    }
}

fn without_time(frame: &ServerFrame) -> Value {
    let mut value: Value = serde_json::from_str(&frame.encode()).unwrap();
    assert!(value.as_object_mut().unwrap().remove("timestamp").is_some());
    value
}

fn subscribe(extra: Value) -> Value {
    let mut data = json!({"repositories": ["foo"]});
    data.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"type": "subscribe", "id": "1", "data": data})
}

#[test]
fn a_live_subscription_begins_at_the_head() {
    let answer = Bench::new().ask(&subscribe(json!({})));
    let expected = json!({"type": "subscribed", "id": "1", "cursor": "10",
        "data": {"accepted": ["foo"], "denied": [], "mode": "live", "head": "10"}});
    assert_eq!(answer, expected);
}

#[test]
fn a_resume_begins_where_it_was_asked_to() {
    let mut bench = Bench::new();
    let answer = bench.ask(&subscribe(json!({"since": "4"})));
    assert_eq!((&answer["data"]["mode"], &answer["cursor"]), (&json!("resumed"), &json!("4")));
    assert_eq!(answer["data"]["head"], "10");
    assert_eq!(bench.session.position(), 4);
}

#[test]
fn a_reset_says_why_and_subscribes_nothing_unless_asked_to() {
    for (since, reason) in [("1", "expired"), ("11", "future"), ("", "malformed")] {
        let mut bench = Bench::new();
        let answer = bench.ask(&subscribe(json!({"since": since})));
        let data =
            json!({"accepted": [], "denied": [], "mode": "reset", "reason": reason, "head": "10"});
        assert_eq!(answer, json!({"type": "subscribed", "id": "1", "data": data}));
        assert!(!bench.session.wants(&event(11, "foo")));
        // The first subscription is still to come.
        assert_eq!(bench.ask(&subscribe(json!({"since": "4"})))["data"]["mode"], "resumed");

        let mut bench = Bench::new();
        let answer = bench.ask(&subscribe(json!({"since": since, "on_gap": "live"})));
        assert_eq!((&answer["data"]["reason"], &answer["cursor"]), (&json!(reason), &json!("10")));
        assert!(bench.session.wants(&event(11, "foo")));
    }
}

#[test]
fn since_and_types_belong_to_the_first_subscription() {
    let mut bench = Bench::new();
    bench.ask(&subscribe(json!({"types": ["task.created"]})));
    let again = bench.ask(&subscribe(json!({"since": "4"})));
    assert_eq!(again["data"]["code"], "since_not_first");
    let other = bench.ask(&subscribe(json!({"types": ["task.deleted"]})));
    assert_eq!(other["data"]["code"], "bad_message");
    assert_eq!(bench.ask(&subscribe(json!({"types": ["task.created"]})))["data"]["mode"], "live");
    assert_eq!(bench.ask(&subscribe(json!({})))["data"]["mode"], "live");
    assert!(bench.session.wants(&event(11, "foo")));
}

#[test]
fn unsubscribing_takes_away_exactly_that_pattern() {
    let mut bench = Bench::new();
    bench.ask(&subscribe(json!({"repositories": ["foo", "*"]})));
    let answer =
        bench.ask(&json!({"type": "unsubscribe", "data": {"repositories": ["*", "never"]}}));
    let data = json!({"accepted": ["*", "never"], "head": "10"});
    assert_eq!(answer, json!({"type": "unsubscribed", "cursor": "10", "data": data}));
    assert!(bench.session.wants(&event(11, "foo")));
    assert!(!bench.session.wants(&event(11, "bar")));
}

#[test]
fn a_start_that_was_looked_for_is_a_resume_from_there() {
    for extra in [json!({"tail": 5}), json!({"since_time": "2026-11-22T10:00:00Z"})] {
        let mut bench = Bench::new();
        // What the log holds beyond what was published is still to come.
        let answer = bench.ask_seek(&subscribe(extra.clone()), Ok(12));
        assert_eq!(answer["cursor"], "10");
        let mut bench = Bench::new();
        let answer = bench.ask_seek(&subscribe(extra), Ok(4));
        let data = json!({"accepted": ["foo"], "denied": [], "mode": "resumed", "head": "10"});
        let expected = json!({"type": "subscribed", "id": "1", "cursor": "4", "data": data});
        assert_eq!(answer, expected);
        assert_eq!(bench.session.position(), 4);
        assert!(bench.session.wants(&event(11, "foo")));
    }
}

#[test]
fn a_time_before_what_is_kept_is_a_reset() {
    let at = |on_gap: &str| json!({"since_time": "2026-11-22T10:00:00Z", "on_gap": on_gap});
    let mut bench = Bench::new();
    let answer = bench.ask_seek(&subscribe(at("error")), Err(SeekError::Gone));
    let data =
        json!({"accepted": [], "denied": [], "mode": "reset", "reason": "expired", "head": "10"});
    assert_eq!(answer, json!({"type": "subscribed", "id": "1", "data": data}));
    let answer = bench.ask_seek(&subscribe(at("live")), Err(SeekError::Gone));
    assert_eq!((&answer["data"]["reason"], &answer["cursor"]), (&json!("expired"), &json!("10")));

    let mut bench = Bench::new();
    let sought = bench.seek(&subscribe(at("snapshot")), Err(SeekError::Gone));
    let Answer::Snapshot(request) = sought else { panic!("{sought:?}") };
    let answer = bench.begin_snapshot(request, 10);
    assert_eq!(
        (&answer["data"]["mode"], &answer["data"]["reason"]),
        (&json!("reset"), &json!("expired"))
    );
}

#[test]
fn a_tail_is_of_what_was_asked_for_and_may_be_read() {
    let now = Now { instant: Instant::now(), wall: Timestamp::from_unix_millis(0) };
    let ana = Principal::new("ana").reading(["foo".parse().unwrap()]);
    let mut bench = Bench::of(ana, None, now);
    let asked = json!({"repositories": ["*"], "types": ["task.deleted"], "tail": 1});
    assert_eq!(bench.say(&subscribe(asked)), Step::Nothing);
    let Some(Answer::Seek(request)) = bench.session.answer(now, &Positions) else { panic!() };
    let Start::Tail(mut tail) = request.start.clone() else { panic!("{request:?}") };
    assert_eq!(tail.upto(), 10);
    let mut look_at = |seq, name: &str, kind: EventKind| {
        tail.look_at(seq, &name.parse().unwrap(), &kind).is_break()
    };
    assert!(!look_at(10, "foo", EventKind::Created));
    assert!(!look_at(9, "secret", EventKind::Deleted));
    assert!(look_at(8, "foo", EventKind::Deleted));
    assert_eq!(tail.position(), 7);
}

#[test]
fn a_start_that_makes_no_sense_or_cannot_be_found_is_refused() {
    let time = "2026-11-22T10:00:00Z";
    for extra in [
        json!({"tail": 0}),
        json!({"tail": 10_001}),
        json!({"tail": 1, "since": "4"}),
        json!({"tail": 1, "since_time": time}),
        json!({"since_time": time, "since": "4"}),
        json!({"tail": 1, "snapshot": true}),
        json!({"since_time": time, "snapshot": true}),
    ] {
        let answer = Bench::new().ask(&subscribe(extra.clone()));
        assert_eq!(answer["data"]["code"], "bad_message", "{extra}");
    }
    for extra in [json!({"tail": 1}), json!({"since_time": time})] {
        let mut bench = Bench::new();
        for (error, code) in [
            (SeekError::Unsupported, "unsupported"),
            (SeekError::Unavailable("/home/ana: gone".into()), "unavailable"),
        ] {
            let answer = bench.ask_seek(&subscribe(extra.clone()), Err(error));
            assert_eq!(answer["data"]["code"], code);
            assert!(!answer.to_string().contains("ana"));
        }
        // Nothing was subscribed, so the next one is the first.
        assert_eq!(bench.ask_seek(&subscribe(extra.clone()), Ok(4))["data"]["mode"], "resumed");
        assert_eq!(bench.ask(&subscribe(extra))["data"]["code"], "since_not_first");
    }
}

#[test]
fn a_snapshot_begins_where_the_log_says_and_until_its_end_there_is_no_bookmark() {
    let mut bench = Bench::new();
    let request = bench.ask_snapshot(&subscribe(json!({"snapshot": true})));
    assert!(bench.session.wants_nothing());
    let answer = bench.begin_snapshot(request, 12);
    let data = json!({"accepted": ["foo"], "denied": [], "mode": "snapshot", "head": "12"});
    assert_eq!(answer, json!({"type": "subscribed", "id": "1", "data": data}));
    assert!(bench.session.wants(&event(13, "foo")));
    let ping = json!({"type": "ping"});
    assert_eq!(bench.reply(&ping), json!({"type": "pong", "data": {"delivered": 0, "head": "12"}}));
    bench.session.end_snapshot();
    assert_eq!(bench.reply(&ping)["cursor"], "12");
}

#[test]
fn a_position_that_can_be_honoured_wins_over_a_snapshot() {
    let honoured = json!({"snapshot": true, "since": "4"});
    assert_eq!(Bench::new().ask(&subscribe(honoured))["data"]["mode"], "resumed");
    for lost in
        [json!({"snapshot": true, "since": "1"}), json!({"on_gap": "snapshot", "since": "1"})]
    {
        let mut bench = Bench::new();
        let request = bench.ask_snapshot(&subscribe(lost));
        let answer = bench.begin_snapshot(request, 10);
        assert_eq!((&answer["data"]["mode"], &answer["cursor"]), (&json!("reset"), &Value::Null));
        assert_eq!(answer["data"]["reason"], "expired");
    }
}

#[test]
fn a_snapshot_and_a_filter_of_types_do_not_go_together() {
    for extra in [json!({"snapshot": true}), json!({"on_gap": "snapshot", "since": "1"})] {
        let mut both = extra.clone();
        both["types"] = json!(["task.created"]);
        assert_eq!(Bench::new().ask(&subscribe(both))["data"]["code"], "bad_message");
        let mut bench = Bench::new();
        bench.ask(&subscribe(json!({"types": ["task.created"]})));
        let mut later = extra;
        later.as_object_mut().unwrap().remove("since");
        assert_eq!(bench.ask(&subscribe(later))["data"]["code"], "bad_message");
    }
}

#[test]
fn without_a_snapshot_nothing_is_subscribed() {
    let mut bench = Bench::new();
    for (error, code) in [
        (SnapshotError::Unsupported, "unsupported"),
        (SnapshotError::Unavailable("/home/ana: gone".into()), "unavailable"),
    ] {
        let request = bench.ask_snapshot(&subscribe(json!({"snapshot": true})));
        let answer = without_time(&bench.session.refuse_snapshot(request, &error, bench.now));
        assert_eq!(answer["data"]["code"], code);
        assert!(!answer.to_string().contains("ana"));
        assert!(bench.session.wants_nothing());
    }
    assert_eq!(bench.ask(&subscribe(json!({"since": "5"})))["data"]["mode"], "resumed");
}

#[test]
fn limits_are_refused_by_name_and_the_session_goes_on() {
    let mut bench = Bench::new();
    let many: Vec<String> = (0..129).map(|n| format!("r{n}")).collect();
    assert_eq!(bench.error_code(&subscribe(json!({"repositories": many}))), "limit_subscriptions");
    assert_eq!(bench.error_code(&subscribe(json!({"repositories": []}))), "bad_message");
    bench.ask(&subscribe(json!({"repositories": &many[..128]})));
    let rest: Vec<String> = (200..201).map(|n| format!("r{n}")).collect();
    let answer = bench.ask(&subscribe(json!({"repositories": rest})));
    assert_eq!(answer["data"]["code"], "limit_subscriptions");
    for _ in 0..8 {
        assert_eq!(bench.say(&subscribe(json!({}))), Step::Nothing);
    }
    assert_eq!(bench.error_code(&subscribe(json!({}))), "rate_limited");
}

#[test]
fn a_ping_is_answered_with_what_is_behind_the_reader() {
    let mut bench = Bench::new();
    bench.ask(&subscribe(json!({})));
    bench.session.sent(1, 12);
    bench.session.scanned(15);
    let pong = bench.reply(&json!({"type": "ping", "id": "p"}));
    let expected = json!({"type": "pong", "id": "p", "cursor": "15",
        "data": {"delivered": 1, "head": "15"}});
    assert_eq!(pong, expected);
    assert_eq!(bench.say(&json!({"type": "pong"})), Step::Nothing);
}

#[test]
fn the_answer_to_a_ping_shows_whether_more_is_to_come() {
    let mut bench = Bench::new();
    bench.ask(&subscribe(json!({"since": "4"})));
    let pong = bench.reply(&json!({"type": "ping"}));
    assert_eq!((&pong["cursor"], &pong["data"]["head"]), (&json!("4"), &json!("10")));
    bench.session.scanned(10);
    let pong = bench.reply(&json!({"type": "ping"}));
    assert_eq!((&pong["cursor"], &pong["data"]["head"]), (&json!("10"), &json!("10")));
}

#[test]
fn until_the_first_subscription_is_accepted_there_is_no_bookmark() {
    let mut bench = Bench::new();
    let ping = json!({"type": "ping"});
    let bare = json!({"type": "pong", "data": {"delivered": 0, "head": "10"}});
    assert_eq!(bench.reply(&ping)["cursor"], "10");
    // What becomes of this one is not known yet, so its client may not save the head.
    bench.ask_snapshot(&subscribe(json!({"snapshot": true})));
    assert_eq!(bench.reply(&ping), bare);
    // Refused, so the position that was asked for is still the one to come back with.
    assert_eq!(bench.ask(&subscribe(json!({"since": "99"})))["data"]["mode"], "reset");
    assert_eq!(bench.reply(&ping), bare);
    bench.ask(&subscribe(json!({})));
    assert_eq!(bench.reply(&ping)["cursor"], "10");
}

#[test]
fn bookmarks_never_go_back() {
    let mut bench = Bench::new();
    bench.session.sent(1, 20);
    bench.session.scanned(15);
    assert_eq!(bench.session.position(), 20);
}

#[test]
fn unreadable_frames_are_answered_until_there_are_too_many() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        let Step::Send(reply) = bench.session.text(bench.now, "garbage", &Positions, 10) else {
            panic!()
        };
        assert_eq!(without_time(&reply)["data"]["code"], "bad_message");
    }
    let close = bench.session.text(bench.now, "garbage", &Positions, 10);
    assert_eq!(close, Step::Close(CloseCode::BadMessage));
    assert_eq!(Bench::new().error_code(&json!({"type": "task.frobnicate"})), "bad_message");
}

#[test]
fn floods_are_closed() {
    let mut bench = Bench::new();
    let pong = json!({"type": "pong"});
    assert!((0..60).all(|_| bench.say(&pong) == Step::Nothing));
    assert_eq!(bench.say(&pong), Step::Close(CloseCode::RateLimited));
    bench.later(SECOND);
    assert!((0..20).all(|_| bench.say(&pong) == Step::Nothing));

    let now = bench.now.instant;
    assert!((0..50).all(|_| bench.session.control(now) == Step::Nothing));
    assert_eq!(bench.session.control(now), Step::Close(CloseCode::RateLimited));
    assert_eq!(bench.session.heard(now, 1 << 20), Step::Nothing);
    assert_eq!(bench.session.heard(now, 1), Step::Close(CloseCode::RateLimited));
}

#[test]
fn heartbeats_come_on_time_and_silence_ends_it() {
    let mut bench = Bench::new();
    bench.ask(&subscribe(json!({})));
    assert_eq!(bench.tick(), Step::Nothing);
    bench.now.instant = bench.session.deadline();
    let Step::Send(ping) = bench.tick() else { panic!() };
    let expected = json!({"type": "ping", "cursor": "10", "data": {"delivered": 0}});
    assert_eq!(without_time(&ping), expected);
    // 20 s have passed: at 44 s another ping is due, and only at 45 s the peer counts as gone.
    assert!(matches!(bench.later(Duration::from_secs(24)).tick(), Step::Send(_)));
    assert_eq!(bench.later(SECOND).tick(), Step::Close(CloseCode::NoPong));
}

#[test]
fn whoever_speaks_is_not_silent() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        bench.later(Duration::from_secs(30));
        bench.session.heard(bench.now.instant, 2);
        assert_ne!(bench.tick(), Step::Close(CloseCode::NoPong));
    }
}

#[test]
fn a_message_that_was_begun_must_be_finished() {
    let mut bench = Bench::new();
    bench.session.unfinished(bench.now.instant);
    bench.later(UNFINISHED);
    assert_eq!(bench.session.deadline(), bench.now.instant);
    assert_eq!(bench.tick(), Step::Close(CloseCode::RateLimited));

    let mut bench = Bench::new();
    bench.session.unfinished(bench.now.instant);
    bench.say(&json!({"type": "pong"}));
    assert_eq!(bench.later(UNFINISHED).tick(), Step::Nothing);
}

#[test]
fn welcome_tells_the_limits() {
    let bench = Bench::new();
    let frame = bench.session.welcome("taskwatch/1", Uuid::nil(), bench.now);
    let expected = json!({"protocol": 1, "server": "taskwatch/1", "connection_id": Uuid::nil(),
        "heartbeat_ms": 20_000, "limits": {"max_message_bytes": 524_288,
        "max_patterns_per_message": 128, "max_patterns": 128}});
    assert_eq!(without_time(&frame)["data"], expected);
}

#[test]
fn a_memory_log_honours_its_own_cursors() {
    let log = MemoryLog::new(10, 1 << 20);
    assert_eq!(log.validate(&log.cursor(0)), Ok(0));
    assert_eq!(log.validate(&log.cursor(1)), Err(ResetReason::Future));
}
