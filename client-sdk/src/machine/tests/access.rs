//! Tokens that are refused or run out, and permissions that come and go.

use taskwatch_protocol::{Auth, Authenticated};

use super::*;
use crate::{Token, TokenError};

fn with_tokens() -> Plan {
    Plan { has_tokens: true, ..Plan::default() }
}

fn unauthorized() -> LinkInput {
    let code = Some(ErrorCode::Unauthorized);
    let refusal = Refusal { status: 401, code, detail: "no".into(), retry_after: None, by: None };
    LinkInput::DialFailed(DialError::Refused(refusal))
}

fn is_rejected(actions: &[Action]) -> bool {
    matches!(stopped(actions), Some(WatchError::Rejected { status: 401, .. }))
}

fn token() -> Token {
    Token::new("an-example-token").unwrap()
}

fn denied(name: &str) -> Denied {
    Denied { repository: name.parse().unwrap(), code: ErrorCode::NotFound }
}

/// An answer that accepts some and denies others.
fn verdict(mode: Mode, accepted: &[&str], not: &[&str]) -> Subscribed {
    let denied = not.iter().map(|name| denied(name)).collect();
    Subscribed { denied, ..ack(mode, accepted, 9) }
}

impl Rig {
    /// Live on `foo`, with a token that lives so long.
    fn with_token(life: Duration) -> Self {
        let mut rig = Self::new(with_tokens());
        rig.opens();
        rig.welcomes(life);
        rig.acks(ack(Mode::Live, &["foo"], 0), at(0));
        rig
    }

    fn welcomes(&mut self, life: Duration) {
        let welcome = Welcome {
            protocol: 1,
            server: "hub 1".into(),
            connection_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            heartbeat_ms: 600_000,
            limits: Limits { max_message_bytes: 1, max_patterns_per_message: 1, max_patterns: 1 },
            token_expires_in_ms: Some(life.as_millis().try_into().unwrap()),
        };
        self.frame(&frame(ServerMessage::Welcome(welcome), None));
    }

    /// The provider answers.
    fn gives(&mut self, answer: Result<Token, TokenError>) -> Vec<Action> {
        self.link(LinkInput::Token(answer))
    }

    /// The provider gives a token; returns the id of the frame that sends it.
    fn renews(&mut self) -> Option<String> {
        let actions = self.gives(Ok(token()));
        let [Action::Send(Envelope { message: ClientMessage::Auth(auth), id, .. })] = &actions[..]
        else {
            panic!("{actions:?}")
        };
        assert_eq!(*auth, Auth { token: "an-example-token".into() });
        id.clone()
    }

    /// The next denial or grant, or nothing, of `foo` and `bar` with a connection of their own.
    fn comes_back_to(&mut self, accepted: &[&str], not: &[&str], at: Cursor) -> Vec<Action> {
        assert_eq!(self.comes_back().repositories, patterns(&["bar", "foo"]));
        self.acks(verdict(Mode::Resumed, accepted, not), at)
    }
}

#[test]
fn a_refused_token_is_asked_for_once_more_at_once() {
    let mut rig = Rig::new(with_tokens());
    let actions = rig.link(unauthorized());
    assert_eq!(retry_in(&actions), Some(Duration::ZERO));
    assert!(matches!(actions.last(), Some(Action::Dial(..))), "{actions:?}");
    assert!(is_rejected(&rig.link(unauthorized())));
    // Nobody is there to ask for another.
    assert!(is_rejected(&Rig::new(Plan::default()).link(unauthorized())));
}

#[test]
fn what_is_between_two_refusals_in_a_row_does_not_count_unless_it_was_a_subscription() {
    let mut rig = Rig::new(with_tokens());
    rig.link(unauthorized());
    rig.link(LinkInput::DialFailed(DialError::Failed("refused".into())));
    rig.after(SECOND);
    assert!(is_rejected(&rig.link(unauthorized())));

    let mut rig = Rig::new(with_tokens());
    rig.link(unauthorized());
    rig.opens();
    rig.acks(ack(Mode::Live, &["foo"], 0), at(0));
    rig.cut();
    rig.after(SECOND);
    assert_eq!(retry_in(&rig.link(unauthorized())), Some(Duration::ZERO));
}

#[test]
fn a_token_that_is_taken_away_is_asked_for_once_more() {
    let mut rig = Rig::with_token(3600 * SECOND);
    rig.event(1);
    let actions = rig.closes(CloseCode::Unauthorized, None);
    assert_eq!(retry_in(&actions), Some(Duration::ZERO));
    assert_eq!(subscribes(&rig.opens())[0].since, Some(at(1)));
    let actions = rig.closes(CloseCode::Unauthorized, None);
    let error = WatchError::Closed {
        code: CloseCode::Unauthorized,
        reason: CloseCode::Unauthorized.meaning().into(),
    };
    assert_eq!(stopped(&actions), Some(&error));
    let actions = Rig::live().closes(CloseCode::Unauthorized, None);
    assert!(stopped(&actions).is_some());
}

/// A server that accepts a token and takes it back, again and again.
#[test]
fn a_token_that_is_taken_away_each_time_makes_nobody_hammer() {
    let mut rig = Rig::with_token(3600 * SECOND);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let wait = retry_in(&rig.closes(CloseCode::Unauthorized, None)).unwrap();
        waits.push(wait.as_millis());
        rig.after(wait);
        rig.opens();
        rig.acks(ack(Mode::Resumed, &["foo"], 0), at(0));
    }
    assert_eq!(waits, [0, 500, 1000]);
}

#[test]
fn a_token_that_ran_out_and_a_change_of_permissions_bring_it_back_at_once() {
    for code in [CloseCode::TokenExpired, CloseCode::AccessChanged] {
        let mut rig = Rig::with_token(3600 * SECOND);
        rig.event(1);
        assert!(matches!(rig.closes(code, None).last(), Some(Action::Dial(..))));
        assert_eq!(subscribes(&rig.opens())[0].since, Some(at(1)));
    }
}

#[test]
fn a_provider_without_a_token_is_asked_again_unless_it_says_never() {
    let mut rig = Rig::new(with_tokens());
    let temporary = TokenError::Temporary("locked".into());
    let actions = rig.link(LinkInput::DialFailed(temporary.into()));
    assert_eq!(retry_in(&actions), Some(SECOND / 2));
    rig.after(SECOND);
    let never = TokenError::Final("no such key".into());
    let error = WatchError::Token { reason: "no such key".into() };
    assert_eq!(stopped(&rig.link(LinkInput::DialFailed(never.into()))), Some(&error));
}

#[test]
fn a_token_is_renewed_before_it_runs_out_and_nothing_else_happens() {
    let mut rig = Rig::with_token(100 * SECOND);
    assert_eq!(rig.after(69 * SECOND), []);
    assert_eq!(rig.after(SECOND), [Action::AskToken(rig.link)]);
    assert_eq!(rig.after(SECOND), [], "it is asked once");
    assert_eq!(positions(&rig.event(1)), [at(1)]);
    let id = rig.renews();
    assert_eq!(positions(&rig.event(2)), [at(2)]);
    let data = Authenticated { subject: "ana".into(), token_expires_in_ms: Some(5_000) };
    let answer = frame(ServerMessage::Authenticated(data), None);
    assert_eq!(rig.frame(&answer.clone().id("7".to_owned())), [], "it answers something else");
    assert_eq!(rig.after(3 * SECOND), []);
    assert_eq!(rig.frame(&answer.id(id)), []);
    assert_eq!(rig.after(5 * SECOND / 2), [Action::AskToken(rig.link)]);
    // Neither the silence nor the answer to what was asked is judged in another way.
    assert!(rig.frame(&ping(2, 2)).contains(&Action::Bookmark(at(2))));
}

#[test]
fn a_renewal_that_fails_is_tried_again_while_there_is_time() {
    let mut rig = Rig::with_token(60 * SECOND);
    assert_eq!(rig.after(30 * SECOND), [Action::AskToken(rig.link)]);
    assert_eq!(rig.gives(Err(TokenError::Temporary("locked".into()))), []);
    assert_eq!(rig.after(15 * SECOND), [Action::AskToken(rig.link)]);
    let id = rig.renews();
    let refusal = ErrorMessage::new(ErrorCode::Unauthorized, "another subject");
    assert_eq!(rig.frame(&frame(ServerMessage::Error(refusal), None).id(id)), []);
    assert_eq!(rig.after(7_500 * SECOND / 1_000), [Action::AskToken(rig.link)]);
    assert_eq!(rig.gives(Err(TokenError::Final("no such key".into()))), []);
    assert_eq!(rig.after(60 * SECOND), [], "the server closes it, not we");
    assert!(matches!(rig.closes(CloseCode::TokenExpired, None).last(), Some(Action::Dial(..))));
}

#[test]
fn a_token_of_a_connection_that_is_gone_is_nobodys() {
    let mut rig = Rig::with_token(60 * SECOND);
    let old = rig.link;
    assert_eq!(rig.after(30 * SECOND), [Action::AskToken(old)]);
    rig.cut();
    rig.comes_back();
    assert_eq!(rig.input(Input::Link(old, LinkInput::Token(Ok(token())))), []);
    // Without a provider nobody is asked.
    let mut rig = Rig::live();
    rig.welcomes(60 * SECOND);
    assert_eq!(rig.after(59 * SECOND), []);
}

#[test]
fn a_permission_that_is_taken_away_leaves_the_others_whole() {
    let mut rig = Rig::with(Plan::default(), None);
    rig.input(Input::Wish(Wish::Add(patterns(&["foo", "bar"]))));
    rig.opens();
    rig.acks(ack(Mode::Live, &["foo", "bar"], 0), at(0));
    rig.event(1);
    rig.closes(CloseCode::AccessChanged, None);
    let asked = subscribes(&rig.opens());
    assert_eq!(asked[0].repositories, patterns(&["bar", "foo"]));
    assert_eq!(asked[0].since, Some(at(1)));
    let actions = rig.acks(verdict(Mode::Resumed, &["foo"], &["bar"]), at(1));
    assert!(actions.contains(&Action::Yield(Update::Denied(vec![denied("bar")]), None)));
    // What proves that it has caught up is a pattern that may be read.
    assert_eq!(subscribes(&actions), [Subscribe::live(patterns(&["foo"]))]);
    assert_eq!(positions(&[rig.event(2), rig.event(3)].concat()), [at(2), at(3)]);

    // Each connection asks again, from where the stream is.
    rig.cut();
    let actions = rig.comes_back_to(&["foo"], &["bar"], at(3));
    assert!(!actions.iter().any(|it| matches!(it, Action::Yield(Update::Denied(_), _))));
    rig.cut();
    let actions = rig.comes_back_to(&["foo", "bar"], &[], at(3));
    assert!(actions.contains(&Action::Yield(Update::Granted(patterns(&["bar"])), None)));
    assert_eq!(positions(&rig.event(4)), [at(4)]);
    rig.cut();
    let actions = rig.comes_back_to(&["foo"], &["bar"], at(4));
    assert!(actions.contains(&Action::Yield(Update::Denied(vec![denied("bar")]), None)));
}

/// The answer of a server that accepts nothing has no position. That is no gap.
#[test]
fn when_every_permission_is_gone_the_stream_ends_as_denied() {
    for on_gap in [OnGap::Error, OnGap::Live, OnGap::Snapshot] {
        let mut rig = Rig::new(Plan { on_gap, ..Plan::default() });
        rig.opens();
        rig.acks(ack(Mode::Live, &["foo"], 0), at(0));
        rig.closes(CloseCode::AccessChanged, None);
        rig.opens();
        let actions = rig.acks(verdict(Mode::Live, &[], &["foo"]), None);
        let error = WatchError::Denied { denied: vec![denied("foo")] };
        assert_eq!(actions, [Action::Leave, Action::Stop(error)]);
    }
}

/// `foo` and `bar` with their state; `bar` is denied after a change of permissions.
fn bar_is_denied() -> Rig {
    let mut rig = Rig::with(Plan { snapshot: true, ..Plan::default() }, None);
    rig.input(Input::Wish(Wish::Add(patterns(&["foo", "bar"]))));
    rig.opens();
    rig.acks(ack(Mode::Snapshot, &["bar", "foo"], 9), None);
    rig.frame(&empty(&["bar", "foo"], 5));
    rig.closes(CloseCode::AccessChanged, None);
    assert_eq!(subscribes(&rig.opens())[0].since, Some(at(5)));
    let actions = rig.acks(verdict(Mode::Resumed, &["foo"], &["bar"]), at(5));
    assert!(actions.contains(&Action::Yield(Update::Denied(vec![denied("bar")]), None)));
    assert_eq!(positions(&rig.event(6)), [at(6)]);
    rig.cut();
    rig
}

fn empty(names: &[&str], seq: u64) -> ServerFrame {
    let part = taskwatch_protocol::Snapshot {
        repositories: patterns(names),
        tasks: vec![],
        first: true,
        last: true,
    };
    frame(ServerMessage::Snapshot(part), at(seq))
}

impl Rig {
    /// Comes back, resumes `foo` at 6 if it may, and gives the state of `bar` if it may.
    fn answers_both(&mut self, foo: bool, bar: bool) -> Vec<Action> {
        let wait = self.machine.deadline().unwrap() - self.now.steady;
        self.after(wait);
        let [held, owed] = subscribes(&self.opens()).try_into().unwrap();
        assert_eq!((held.repositories, held.since), (patterns(&["foo"]), Some(at(6))));
        assert_eq!(owed, Subscribe { snapshot: true, ..Subscribe::live(patterns(&["bar"])) });
        let first = match foo {
            true => frame(ServerMessage::Subscribed(verdict(Mode::Resumed, &["foo"], &[])), at(6)),
            false => frame(ServerMessage::Subscribed(verdict(Mode::Live, &[], &["foo"])), None),
        };
        let mut actions = self.frame(&first.id("1".to_owned()));
        actions.extend(match bar {
            true => self.acks(verdict(Mode::Snapshot, &["bar"], &[]), None),
            false => self.acks(verdict(Mode::Live, &[], &["bar"]), None),
        });
        actions
    }
}

#[test]
fn what_may_be_read_again_begins_with_its_state() {
    let mut rig = bar_is_denied();
    let actions = rig.answers_both(true, true);
    assert!(actions.contains(&Action::Yield(Update::Granted(patterns(&["bar"])), None)));
    let actions = rig.frame(&empty(&["bar"], 8));
    assert!(actions.iter().any(|it| matches!(it, Action::Yield(Update::Snapshot(_), _))));
    rig.cut();
    let asked = rig.comes_back();
    assert_eq!((asked.repositories, asked.since), (patterns(&["bar", "foo"]), Some(at(8))));
}

#[test]
fn permissions_may_change_places() {
    let mut rig = bar_is_denied();
    let actions = rig.answers_both(false, true);
    assert!(actions.contains(&Action::Yield(Update::Denied(vec![denied("foo")]), None)));
    assert!(actions.contains(&Action::Yield(Update::Granted(patterns(&["bar"])), None)));
    assert!(stopped(&actions).is_none() && actions.contains(&Action::Ready));
    rig.frame(&empty(&["bar"], 8));
    assert_eq!(positions(&rig.event(9)), [at(9)]);
    rig.cut();
    let wait = rig.machine.deadline().unwrap() - rig.now.steady;
    rig.after(wait);
    let [held, owed] = subscribes(&rig.opens()).try_into().unwrap();
    assert_eq!((held.repositories, held.since), (patterns(&["bar"]), Some(at(9))));
    assert_eq!(owed, Subscribe { snapshot: true, ..Subscribe::live(patterns(&["foo"])) });
}

#[test]
fn when_the_last_permission_is_gone_all_of_them_are_named() {
    let mut rig = bar_is_denied();
    let actions = rig.answers_both(false, false);
    let Some(WatchError::Denied { denied: all }) = stopped(&actions) else { panic!("{actions:?}") };
    assert_eq!(*all, [denied("foo"), denied("bar")]);
}
