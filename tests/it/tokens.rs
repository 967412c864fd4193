//! Tokens of the SDK against a server that looks at them: renewed, replaced, taken away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use taskwatch_client::{Client, Token, TokenError, Update, Updates, WatchError};
use taskwatch_protocol::{Cursor, Pattern, Timestamp};
use taskwatch_server::{AuthError, AuthFuture, Authenticator, HubConfig, Principal};
use taskwatch_tests::{Proxy, within};
use tokio::sync::watch;

use crate::support::Embedded;

/// Knows tokens by heart.
#[derive(Debug)]
pub(super) struct Known {
    tokens: Mutex<HashMap<String, Principal>>,
    changed: watch::Sender<()>,
}

impl Known {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { tokens: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// From now on this token lets `ana` read these.
    pub(super) fn grant(&self, token: &str, patterns: &[&str]) {
        let patterns = patterns.iter().map(|pattern| pattern.parse::<Pattern>().unwrap());
        self.set(token, Principal::new("ana").reading(patterns));
    }

    pub(super) fn set(&self, token: &str, principal: Principal) {
        self.tokens.lock().unwrap().insert(token.to_owned(), principal);
        self.changed.send_replace(());
    }

    pub(super) fn forget(&self, token: &str) {
        self.tokens.lock().unwrap().remove(token);
        self.changed.send_replace(());
    }
}

impl Authenticator for Known {
    fn authenticate<'a>(&'a self, token: Option<&'a taskwatch_server::Token>) -> AuthFuture<'a> {
        let known = token.ok_or(AuthError::Missing).and_then(|token| {
            let tokens = self.tokens.lock().unwrap();
            tokens.get(token.expose()).cloned().ok_or(AuthError::Invalid("not known".to_owned()))
        });
        Box::pin(std::future::ready(known))
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        Some(self.changed.subscribe())
    }
}

pub(super) async fn server(known: &Arc<Known>) -> Embedded {
    let authenticator: Arc<dyn Authenticator> = Arc::clone(known) as _;
    Embedded::start(HubConfig { authenticator, ..HubConfig::default() }).await
}

fn client(url: &str) -> taskwatch_client::ClientBuilder {
    Client::builder(url)
        .no_proxy()
        .backoff_initial(Duration::from_millis(1))
        .backoff_cap(Duration::from_millis(10))
}

/// The next update that is this.
async fn next<T>(updates: &mut Updates, wanted: impl Fn(Update) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(within("an update", updates.next()).await.unwrap().unwrap()) {
            return found;
        }
    }
}

async fn position(updates: &mut Updates) -> Cursor {
    let position = |update| match update {
        Update::Event(event) => Some(event.cursor),
        _ => None,
    };
    next(updates, position).await
}

pub(super) fn after(seconds: u64) -> Timestamp {
    let time = SystemTime::now() + Duration::from_secs(seconds);
    let millis = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    Timestamp::from_unix_millis(millis.try_into().unwrap())
}

/// Each token lives for 6 s; the connection lives on.
#[tokio::test]
async fn a_token_that_runs_out_is_renewed_and_the_connection_stays() {
    let known = Known::new();
    let server = server(&known).await;
    let network = Proxy::start(server.addr()).await;
    let given = Arc::new(watch::Sender::new(0));
    let provider = {
        let (known, given) = (Arc::clone(&known), Arc::clone(&given));
        move || {
            let mut number = 0;
            given.send_modify(|count| {
                *count += 1;
                number = *count;
            });
            let token = format!("token-{number}");
            let patterns = ["foo".parse::<Pattern>().unwrap()];
            let principal = Principal::new("ana").reading(patterns).expiring(Some(after(6)));
            known.set(&token, principal);
            async move { Ok(Token::new(token)?) }
        }
    };
    let client = client(network.url()).token(provider).build().unwrap();
    let mut events = client.subscribe(["foo"]).unwrap();
    within("a subscription", events.ready()).await.unwrap();
    let mut asked = given.subscribe();
    for round in 2..=3 {
        within("another token", asked.wait_for(|count| *count >= round)).await.unwrap();
        let told = server.created("foo", "whole");
        assert_eq!(within("an event", events.next()).await.unwrap().unwrap().cursor, told);
    }
    assert_eq!(network.carried().len(), 1, "it has reconnected");
}

#[tokio::test]
async fn a_token_that_is_replaced_is_asked_for_when_the_old_one_is_refused() {
    let known = Known::new();
    let server = server(&known).await;
    known.grant("old", &["foo"]);
    let current = Arc::new(Mutex::new("old"));
    let asked = Arc::<AtomicU64>::default();
    let provider = {
        let (current, asked) = (Arc::clone(&current), Arc::clone(&asked));
        move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let token = Token::new(*current.lock().unwrap()).map_err(TokenError::from);
            async move { token }
        }
    };
    let builder = client(&server.url).token(provider);
    let mut updates = builder.build().unwrap().subscribe(["foo"]).unwrap().updates();
    within("a subscription", updates.ready()).await.unwrap();
    let first = server.created("foo", "by the old one");
    assert_eq!(position(&mut updates).await, first);

    known.grant("new", &["foo"]);
    *current.lock().unwrap() = "new";
    known.forget("old");
    next(&mut updates, |update| matches!(update, Update::Connected { .. }).then_some(())).await;
    let second = server.created("foo", "by the new one");
    assert_eq!(position(&mut updates).await, second);
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    // Now there is none that is good.
    known.forget("new");
    let end = loop {
        match within("the end", updates.next()).await.unwrap() {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert!(matches!(end, WatchError::Rejected { status: 401, .. }), "{end:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 3, "once more, and no more");
}

#[tokio::test]
async fn who_may_no_longer_read_one_thing_misses_nothing_of_another() {
    let known = Known::new();
    let server = server(&known).await;
    known.grant("secret", &["foo", "bar"]);
    let builder = client(&server.url).bearer("secret");
    let mut updates = builder.build().unwrap().subscribe(["foo", "bar"]).unwrap().updates();
    within("a subscription", updates.ready()).await.unwrap();
    let first = server.created("bar", "seen");
    assert_eq!(position(&mut updates).await, first);

    known.grant("secret", &["foo"]);
    let told: Vec<_> = (0..100).map(|_| server.created("foo", "seen")).collect();
    let (mut seen, mut denied) = (vec![], vec![]);
    while seen.len() < told.len() || denied.is_empty() {
        match within("an update", updates.next()).await.unwrap().unwrap() {
            Update::Event(event) => seen.push(event.cursor.clone()),
            Update::Denied(patterns) => denied = patterns,
            _ => {}
        }
    }
    assert_eq!(seen, told);
    let [denied] = denied.try_into().unwrap();
    assert_eq!(denied.repository, "bar".parse().unwrap());
    server.created("bar", "not seen");
    let next_of_foo = server.created("foo", "seen");
    assert_eq!(position(&mut updates).await, next_of_foo);

    known.grant("secret", &["foo", "bar"]);
    let granted = next(&mut updates, |update| match update {
        Update::Granted(granted) => Some(granted),
        _ => None,
    });
    assert_eq!(granted.await, ["bar".parse().unwrap()]);
    let last = server.created("bar", "seen again");
    assert_eq!(position(&mut updates).await, last);

    known.grant("secret", &[]);
    let end = loop {
        match within("the end", updates.next()).await.unwrap() {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    let WatchError::Denied { denied } = end else { panic!("{end:?}") };
    assert_eq!(denied.len(), 2);
}
