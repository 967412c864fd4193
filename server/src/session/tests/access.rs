//! Whose connection it is, and for how long.

use super::*;
use crate::{AuthError, Principal};

fn at(bench: &Bench, seconds: i64) -> Option<Timestamp> {
    Some(Timestamp::from_unix_millis(bench.now.wall.unix_millis() + 1_000 * seconds))
}

fn ana() -> Principal {
    Principal::new("ana").reading(["team/*".parse().unwrap()])
}

/// Ana, whose token runs out in a minute.
fn bench() -> Bench {
    let now = Bench::new().now;
    let expires = Some(Timestamp::from_unix_millis(now.wall.unix_millis() + 60_000));
    Bench::of(ana().expiring(expires), Some(Token::new("old")), now)
}

fn renewal(bench: &mut Bench, token: &str) -> Identification {
    let auth = json!({"type": "auth", "id": "a1", "data": {"token": token}});
    match bench.say(&auth) {
        Step::Identify(asked) => *asked,
        other => panic!("{other:?}"),
    }
}

fn answer(bench: &mut Bench, asked: Identification, answer: Result<Principal, AuthError>) -> Step {
    bench.session.identified(asked, answer, bench.now)
}

fn asks_again(bench: &mut Bench) -> Identification {
    match bench.session.authenticate(bench.now.instant) {
        Step::Identify(asked) => *asked,
        other => panic!("{other:?}"),
    }
}

impl Bench {
    /// Both clocks go on, and the peer says something.
    fn pass(&mut self, seconds: u64) -> &mut Self {
        let millis = i64::try_from(seconds * 1_000).unwrap();
        self.now.wall = Timestamp::from_unix_millis(self.now.wall.unix_millis() + millis);
        self.later(Duration::from_secs(seconds));
        self.session.alive(self.now.instant);
        self
    }
}

#[test]
fn who_is_nobody_in_particular_can_run_out_too() {
    let now = Bench::new().now;
    let expires = Some(Timestamp::from_unix_millis(now.wall.unix_millis() + 60_000));
    let mut bench = Bench::of(Principal::anonymous().expiring(expires), None, now);
    bench.pass(61);
    assert_eq!(bench.session.tick(bench.now, &Positions), Step::Close(CloseCode::TokenExpired));
}

#[test]
fn a_welcome_says_when_the_token_runs_out() {
    let welcome = |bench: &Bench| {
        let welcome = bench.session.welcome("a", Uuid::nil(), bench.now);
        without_time(&welcome)["data"]["token_expires_in_ms"].clone()
    };
    assert_eq!(welcome(&bench()), 60_000);
    assert_eq!(welcome(&Bench::new()), Value::Null);
}

#[test]
fn a_token_that_runs_out_ends_the_connection() {
    let mut bench = bench();
    assert!(bench.session.deadline() <= bench.now.instant + Duration::from_secs(60));
    assert_ne!(bench.pass(59).tick(), Step::Close(CloseCode::TokenExpired));
    assert_eq!(bench.pass(1).tick(), Step::Close(CloseCode::TokenExpired));
}

#[test]
fn a_wall_clock_that_is_set_forward_ends_it_too() {
    let mut bench = bench();
    bench.now.wall = at(&bench, 61).unwrap();
    assert_eq!(bench.tick(), Step::Close(CloseCode::TokenExpired));
}

#[test]
fn a_renewed_token_goes_on() {
    let mut bench = bench();
    let asked = renewal(&mut bench, "new");
    assert_eq!(asked.token, Some(Token::new("new")));
    let longer = ana().expiring(at(&bench, 300));
    let Step::Send(reply) = answer(&mut bench, asked, Ok(longer)) else { panic!("no reply") };
    let expected = json!({"type": "authenticated", "id": "a1",
        "data": {"subject": "ana", "token_expires_in_ms": 300_000}});
    assert_eq!(without_time(&reply), expected);
    let Step::Identify(asked) = bench.pass(61).tick() else { panic!("not looked at again") };
    assert_eq!(asked.token, Some(Token::new("new")));
}

#[test]
fn the_token_of_another_or_of_nobody_changes_nothing() {
    let expires = at(&bench(), 300);
    for (found, code) in [
        (Ok(Principal::new("ben").reading(["team/*".parse().unwrap()])), "unauthorized"),
        (Ok(Principal::anonymous()), "unauthorized"),
        (Err(AuthError::Invalid("forged".to_owned())), "unauthorized"),
        (Err(AuthError::Expired), "unauthorized"),
        (Err(AuthError::Unavailable("down".to_owned())), "unavailable"),
    ] {
        let mut bench = bench();
        let asked = renewal(&mut bench, "new");
        let found = found.map(|found| found.expiring(expires));
        let Step::Send(reply) = answer(&mut bench, asked, found) else { panic!("no reply") };
        let reply = without_time(&reply);
        assert_eq!((&reply["id"], &reply["data"]["code"]), (&json!("a1"), &json!(code)));
        assert!(!reply.to_string().contains("forged"), "the reason is for the log: {reply}");
        assert_eq!(bench.pass(60).tick(), Step::Close(CloseCode::TokenExpired));
    }
}

#[test]
fn whoever_may_see_something_else_begins_anew() {
    let others =
        [ana().reading(["*".parse().unwrap()]), ana().with_metrics(true), ana().with_operate(true)];
    for other in others {
        let mut renewing = bench();
        let asked = renewal(&mut renewing, "new");
        let changed = Step::Close(CloseCode::AccessChanged);
        assert_eq!(answer(&mut renewing, asked, Ok(other.clone())), changed);
        let mut held = bench();
        let asked = asks_again(&mut held);
        assert_eq!(answer(&mut held, asked, Ok(other)), changed);
    }
}

#[test]
fn a_token_is_looked_at_again_every_minute() {
    let now = Bench::new().now;
    let mut bench = Bench::of(ana(), Some(Token::new("old")), now);
    assert!(!matches!(bench.pass(59).tick(), Step::Identify(_)));
    let Step::Identify(asked) = bench.pass(1).tick() else { panic!("not looked at") };
    assert_eq!(answer(&mut bench, *asked, Ok(ana())), Step::Nothing);
    assert!(!matches!(bench.pass(59).tick(), Step::Identify(_)));
    assert!(matches!(bench.pass(1).tick(), Step::Identify(_)));
    let mut nobody = Bench::new();
    assert!((0..9).all(|_| !matches!(nobody.pass(60).tick(), Step::Identify(_))));
}

#[test]
fn what_is_found_then_decides() {
    for (found, code) in [
        (Err(AuthError::Expired), CloseCode::TokenExpired),
        (Err(AuthError::Missing), CloseCode::Unauthorized),
        (Err(AuthError::Invalid(String::new())), CloseCode::Unauthorized),
        (Err(AuthError::Unavailable(String::new())), CloseCode::Unavailable),
    ] {
        let mut bench = bench();
        let asked = asks_again(&mut bench);
        assert_eq!(answer(&mut bench, asked, found), Step::Close(code));
    }
}

#[test]
fn a_change_while_somebody_is_asked_is_asked_about_again() {
    let mut bench = bench();
    let asked = renewal(&mut bench, "new");
    assert_eq!(bench.session.authenticate(bench.now.instant), Step::Nothing);
    let second = json!({"type": "auth", "data": {"token": "newer"}});
    assert_eq!(bench.error_code(&second), "rate_limited");
    let found = Ok(ana().expiring(at(&bench, 300)));
    assert!(matches!(answer(&mut bench, asked, found), Step::Send(_)));
    assert!(matches!(bench.tick(), Step::Identify(_)));
}

#[test]
fn what_may_not_be_seen_is_denied_as_if_it_were_not_there() {
    let mut bench = bench();
    let ask = |bench: &mut Bench, repositories: Value| {
        bench.ask(&json!({"type": "subscribe", "data": {"repositories": repositories}}))
    };
    let nothing = ask(&mut bench, json!(["secret"]));
    let denied = json!([{"repository": "secret", "code": "not_found"}]);
    let expected = json!({"accepted": [], "denied": denied, "mode": "live", "head": "10"});
    assert_eq!((&nothing["data"], &nothing["cursor"]), (&expected, &Value::Null));
    // So the first is still to come.
    let since = json!({"type": "subscribe", "data":
        {"repositories": ["team/a", "secret", "team/*", "*"], "since": "4"}});
    let some = bench.ask(&since);
    assert_eq!(some["data"]["accepted"], json!(["team/a", "team/*", "*"]));
    assert_eq!((&some["data"]["denied"], &some["data"]["mode"]), (&denied, &json!("resumed")));
    assert!(bench.session.wants(&event(5, "team/b")));
    assert!(!bench.session.wants(&event(5, "secret")));
}

#[test]
fn who_is_nobody_in_particular_has_nothing_to_renew() {
    let auth = json!({"type": "auth", "data": {"token": "x"}});
    assert_eq!(Bench::new().error_code(&auth), "unsupported");
}
