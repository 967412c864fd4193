//! Where no WebSocket gets through: the same events on another way, and nothing is lost on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::StreamExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use taskwatch_client::{
    Client, EventStream, OnGap, ResetReason, TaskView, Token, Transport, TransportChoice, Update,
    Updates, WatchError,
};
use taskwatch_protocol::Pattern;
use taskwatch_server::{HubConfig, Principal};
use taskwatch_tests::{
    Daemon, Gateway, Habits, Plan, Proxy, Rest, Upgrades, Watcher, read_log, within,
};

use crate::support::{Embedded, TestLog, client, client_over, envelopes};
use crate::tokens::{Known, after, server};

const HTTP: [(TransportChoice, Transport); 2] =
    [(TransportChoice::Sse, Transport::Sse), (TransportChoice::LongPoll, Transport::LongPoll)];
/// Written before and after the server is killed.
const HALF: usize = 260;
/// A connection of the random network lasts for so many bytes at most.
const LONGEST: u64 = 60_000;

async fn next(updates: &mut Updates) -> Update {
    within("an update", updates.next()).await.unwrap().unwrap()
}

async fn until<T>(updates: &mut Updates, mut wanted: impl FnMut(Update) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(next(updates).await) {
            return found;
        }
    }
}

fn connected(update: Update) -> Option<(Transport, Option<String>)> {
    match update {
        Update::Connected { transport, fallback, .. } => Some((transport, fallback)),
        _ => None,
    }
}

fn title(update: Update) -> Option<String> {
    match update {
        Update::Event(event) => Some(event.task().title.clone()),
        _ => None,
    }
}

/// Events are written while the network fails at random and the server is killed; all of them come, on
/// the way that is expected.
async fn goes_through(habits: Habits, expected: Transport) {
    let data = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    let gateway = Gateway::start(daemon.addr(), habits).await;
    let network = Proxy::start(gateway.addr()).await;
    let mut updates = client(network.url()).subscribe(["foo"]).unwrap().updates();
    within("a subscription", updates.ready()).await.unwrap();

    let rng = &mut StdRng::seed_from_u64(7);
    network.plan((0..20).map(|_| Plan::random(rng, LONGEST)));
    let write = async {
        for half in 0..2 {
            let rest = Rest::new(daemon.url());
            for number in 0..HALF {
                let repository = if number % 20 == 19 { "bar" } else { "foo" };
                rest.create(repository, &format!("task {half}.{number}")).await;
                if number % 40 == 39 {
                    network.cut();
                }
            }
            if half == 0 {
                daemon.kill().await;
                let addr = daemon.addr().to_owned();
                daemon = Daemon::start_with(data.path(), &addr, &[]).await;
            }
        }
        Rest::new(daemon.url()).create("foo", "the end").await;
    };
    let read = async {
        let (mut seen, mut ways) = (vec![], vec![]);
        loop {
            match next(&mut updates).await {
                Update::Event(event) => {
                    seen.push(event.envelope().to_owned());
                    if event.task().title == "the end" {
                        return (seen, ways);
                    }
                }
                Update::Connected { transport, .. } => ways.push(transport),
                _ => {}
            }
        }
    };
    let ((), (seen, ways)) = tokio::join!(write, read);
    assert_eq!(seen, envelopes(&read_log(data.path()), &["foo"]));
    assert!(seen.len() > 480 && ways.len() > 5, "{} events, {ways:?}", seen.len());
    // A busy machine may take longer for a first byte than is waited for.
    let is_one = |way: &Transport| *way == expected || *way == Transport::LongPoll;
    assert!(ways.contains(&expected) && ways.iter().all(is_one), "{ways:?}");
    // What is blocked was found out once, and not with each connection.
    let attempts = gateway.count("/ws");
    assert!((1..ways.len()).contains(&attempts), "{attempts} attempts, {ways:?}");
}

#[tokio::test]
async fn events_come_through_a_gateway_that_refuses_upgrades() {
    goes_through(Habits { upgrades: Upgrades::Refuse, holds_streams: false }, Transport::Sse).await;
}

#[tokio::test]
async fn events_come_through_a_gateway_that_knows_no_upgrades() {
    goes_through(Habits { upgrades: Upgrades::Strip, holds_streams: false }, Transport::Sse).await;
}

#[tokio::test]
async fn events_come_through_a_gateway_that_resets_upgrades_and_holds_streams_back() {
    let habits = Habits { upgrades: Upgrades::Reset, holds_streams: true };
    goes_through(habits, Transport::LongPoll).await;
}

#[tokio::test]
async fn events_come_through_a_gateway_that_leaves_upgrades_hanging() {
    goes_through(Habits { upgrades: Upgrades::Hang, holds_streams: false }, Transport::Sse).await;
}

#[tokio::test]
async fn a_gateway_that_learns_makes_no_difference_to_the_stream() {
    let server = Embedded::start(HubConfig::default()).await;
    let blocks = Habits { upgrades: Upgrades::Strip, holds_streams: true };
    let gateway = Gateway::start(server.addr(), blocks).await;
    let url = gateway.url();
    let mut updates = client(&url).subscribe(["foo"]).unwrap().updates();
    let (way, reason) = until(&mut updates, connected).await;
    assert_eq!(way, Transport::LongPoll);
    let reason = reason.unwrap();
    assert!(reason.contains("426") && reason.contains("held back"), "{reason}");
    let first = server.created("foo", "over long polling");
    assert_eq!(until(&mut updates, title).await, "over long polling");

    // Another stream of a later program, from the same position.
    gateway.set(Habits { upgrades: Upgrades::Pass, holds_streams: false });
    drop(updates);
    server.created("foo", "meanwhile");
    let mut updates = client(&url).subscribe(["foo"]).unwrap().since(first).updates();
    assert_eq!(until(&mut updates, connected).await, (Transport::WebSocket, None));
    assert_eq!(until(&mut updates, title).await, "meanwhile");
}

#[tokio::test]
async fn the_watcher_says_which_way_it_chose_and_why() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let blocks = Habits { upgrades: Upgrades::Strip, holds_streams: false };
    let gateway = Gateway::start(daemon.addr(), blocks).await;
    let url = gateway.url();
    for (way, said) in [
        ("auto", "over server-sent events (WebSocket is blocked: the server answered 426: "),
        ("sse", "over server-sent events (as --transport says)"),
        ("poll", "over long polling (as --transport says)"),
    ] {
        let args = ["--repo", "foo", "--transport", way, "--count", "1"];
        let mut watcher = Watcher::spawn(&url, &args);
        let line = watcher.stderr.until("connected to").await;
        assert!(line.contains(said), "{line}");
        Rest::new(daemon.url()).create("foo", way).await;
        assert!(watcher.stdout.next().await.unwrap().contains(way));
        assert_eq!(watcher.wait().await.code(), Some(0));
    }
    let mut watcher = Watcher::spawn(&url, &["--repo", "foo", "--transport", "ws"]);
    let line = watcher.stderr.until("not connected").await;
    assert!(line.contains("426"), "{line}");
}

#[tokio::test]
async fn a_token_that_runs_out_is_followed_by_another() {
    // A poll that waits has the second token.
    for ((choice, transport), short_lived) in HTTP.into_iter().zip([1, 2]) {
        let known = Known::new();
        let server = server(&known).await;
        let asked = AtomicU32::new(0);
        let provider = {
            let known = Arc::clone(&known);
            move || {
                let number = asked.fetch_add(1, Ordering::SeqCst);
                let token = format!("token-{number}");
                let reader = Principal::new("ana").reading(["foo".parse::<Pattern>().unwrap()]);
                known.set(&token, reader.expiring((number < short_lived).then(|| after(2))));
                async move { Ok(Token::new(token)?) }
            }
        };
        let client = Client::builder(&server.url).token(provider).transport(choice);
        let mut updates = client.build().unwrap().subscribe(["foo"]).unwrap().updates();
        assert_eq!(until(&mut updates, connected).await, (transport, None));
        let reason = until(&mut updates, |update| match update {
            Update::Interrupted { reason, .. } => Some(reason),
            _ => None,
        });
        let reason = reason.await;
        assert!(reason.contains("4200"), "{transport}: {reason}");
        server.created("foo", "with the next one");
        assert_eq!(until(&mut updates, title).await, "with the next one");
    }
}

#[tokio::test]
async fn who_may_no_longer_read_is_told() {
    for (choice, _) in HTTP {
        let known = Known::new();
        let server = server(&known).await;
        known.grant("secret", &["foo", "bar"]);
        let client = Client::builder(&server.url).bearer("secret").transport(choice);
        let mut updates = client.build().unwrap().subscribe(["foo", "bar"]).unwrap().updates();
        within("a subscription", updates.ready()).await.unwrap();
        server.created("bar", "seen");
        assert_eq!(until(&mut updates, title).await, "seen");
        known.grant("secret", &["foo"]);
        let denied = until(&mut updates, |update| match update {
            Update::Denied(denied) => Some(denied),
            _ => None,
        });
        let denied = denied.await;
        assert_eq!(denied[0].repository, "bar".parse().unwrap());
        server.created("bar", "not seen");
        server.created("foo", "seen");
        assert_eq!(until(&mut updates, title).await, "seen");
        known.forget("secret");
        let end = async {
            loop {
                if let Err(end) = updates.next().await.unwrap() {
                    return end;
                }
            }
        };
        let end = within("the end", end).await;
        assert!(matches!(end, WatchError::Rejected { status: 401, .. }), "{end}");
    }
}

/// One round: an event in each, and what came of it. `always` is in the set all the time.
async fn round(server: &Embedded, stream: &mut EventStream, always: &str) -> bool {
    let other = if always == "foo" { "bar" } else { "foo" };
    server.created(other, "perhaps");
    server.created(always, "certainly");
    let mut perhaps = false;
    loop {
        let event = within("an event", stream.next()).await.unwrap().unwrap();
        if event.repository.as_str() == always {
            return perhaps;
        }
        perhaps = true;
    }
}

#[tokio::test]
async fn repositories_are_added_and_removed() {
    for (choice, _) in HTTP {
        let server = Embedded::start(HubConfig::default()).await;
        let mut stream = client_over(&server.url, choice).subscribe(["foo"]).unwrap();
        within("a subscription", stream.ready()).await.unwrap();
        assert!(!round(&server, &mut stream, "foo").await);
        stream.add(["bar"]).unwrap();
        within("bar", async { while !round(&server, &mut stream, "foo").await {} }).await;
        stream.remove(["foo"]).unwrap();
        within("no foo", async { while round(&server, &mut stream, "bar").await {} }).await;
        assert!(!round(&server, &mut stream, "bar").await);
    }
}

#[tokio::test]
async fn a_gap_ends_the_stream_or_is_told() {
    for (choice, transport) in HTTP {
        let log = TestLog::new();
        log.append("foo", "before");
        let server = Embedded::with_log(log.clone(), HubConfig::default()).await;
        let from_another_life = taskwatch_client::Cursor::new("c1-0123456789abcdef-1");
        let stream = || {
            let stream = client_over(&server.url, choice).subscribe(["foo"]).unwrap();
            stream.since(from_another_life.clone())
        };
        let ended = within("the end", stream().next()).await.unwrap();
        assert_eq!(ended, Err(WatchError::Gap { reason: ResetReason::Incarnation }));

        for on_gap in [OnGap::Live, OnGap::Snapshot] {
            let mut updates = stream().on_gap(on_gap).updates();
            assert_eq!(until(&mut updates, connected).await.0, transport);
            let Update::Gap(gap) = next(&mut updates).await else { panic!("{on_gap:?}") };
            assert_eq!(gap.reason, ResetReason::Incarnation);
            if on_gap == OnGap::Snapshot {
                let Update::Snapshot(snapshot) = next(&mut updates).await else { panic!() };
                assert!(snapshot.tasks.iter().any(|task| task.title == "before"));
            }
            let title_of = format!("{on_gap:?}");
            server.hub.publish(log.append("foo", &title_of));
            assert_eq!(until(&mut updates, title).await, title_of);
        }
    }
}

#[tokio::test]
async fn a_view_is_what_the_log_says() {
    for (choice, transport) in HTTP {
        let data = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(data.path()).await;
        let rest = Rest::new(daemon.url());
        let network = Proxy::start(daemon.addr()).await;
        for number in 0..60 {
            rest.create(["foo", "bar", "other"][number % 3], "state").await;
        }
        let mut view = client_over(network.url(), choice).view(["foo"]).unwrap();
        within("the state", view.ready()).await.unwrap();
        assert_eq!(view.tasks().len(), 20, "{transport}");
        // Its state comes when the rest is level.
        view.add(["bar"]).unwrap();
        holds(&mut view, 40).await;
        network.cut();
        rest.create("foo", "one more").await;
        rest.create("bar", "one more").await;
        holds(&mut view, 42).await;
        view.remove(["foo"]).unwrap();
        holds(&mut view, 21).await;
        rest.create("foo", "not seen").await;
        rest.create("bar", "another").await;
        holds(&mut view, 22).await;
    }
}

/// Waits until there are so many tasks.
async fn holds(view: &mut TaskView, count: usize) {
    let wanted = async {
        while view.tasks().len() != count {
            view.changed().await.unwrap();
        }
    };
    within("the state", wanted).await;
}

#[tokio::test]
async fn a_caller_who_pauses_loses_nothing() {
    const EVENTS: usize = 6_000;
    for (choice, transport) in HTTP {
        let server = Embedded::start(HubConfig::default()).await;
        let mut updates = client_over(&server.url, choice).subscribe(["foo"]).unwrap().updates();
        within("a subscription", updates.ready()).await.unwrap();
        let told: Vec<_> = (0..EVENTS).map(|_| server.created("foo", "event")).collect();
        // The connection is given back while nobody reads. Between polls there is none in any case.
        let parked = async {
            while server.hub.stats().connections > 0 {
                tokio::task::yield_now().await;
            }
        };
        within("the buffer to be full for too long", parked).await;
        let (mut seen, mut parked) = (vec![], 0);
        while seen.len() < EVENTS {
            match next(&mut updates).await {
                Update::Event(event) => seen.push(event.cursor.clone()),
                Update::Parked => parked += 1,
                Update::Interrupted { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
        assert_eq!(seen, told, "{transport}");
        assert!(parked > 0 || transport == Transport::LongPoll, "{transport}");
    }
}
