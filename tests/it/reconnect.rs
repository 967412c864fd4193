//! The connection ends, and the stream goes on.

use futures_util::StreamExt;
use taskwatch_client::{Update, Updates};
use taskwatch_tests::{Daemon, Proxy, Rest, Watcher, read_log, within};

use crate::support::{client, envelopes};

async fn update(updates: &mut Updates) -> Update {
    within("an update", updates.next()).await.unwrap().unwrap()
}

/// Reads up to an update of a kind.
async fn until<T>(updates: &mut Updates, mut wanted: impl FnMut(Update) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(update(updates).await) {
            return found;
        }
    }
}

fn interrupted(update: Update) -> Option<String> {
    match update {
        Update::Interrupted { reason, .. } => Some(reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_again_and_again_misses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let network = Proxy::start(daemon.addr()).await;
    let mut stream = client(network.url()).subscribe(["foo"]).unwrap();
    stream.ready().await.unwrap();

    let rest = Rest::new(daemon.url());
    let write = async {
        for number in 0..150 {
            let repository = if number % 4 == 3 { "bar" } else { "foo" };
            rest.create(repository, &format!("task {number}")).await;
            if number % 10 == 9 {
                network.cut();
            }
        }
        rest.create("foo", "the end").await;
    };
    let read = async {
        let mut seen = vec![];
        loop {
            let event = within("an event", stream.next()).await.unwrap().unwrap();
            seen.push(event.envelope().to_owned());
            if event.event.task().title == "the end" {
                return seen;
            }
        }
    };
    let ((), seen) = tokio::join!(write, read);
    assert_eq!(seen, envelopes(&read_log(data.path()), &["foo"]));
}

#[tokio::test]
async fn what_happened_while_the_network_was_gone_is_replayed() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let network = Proxy::start(daemon.addr()).await;
    let mut updates = client(network.url()).subscribe(["foo"]).unwrap().updates();
    updates.ready().await.unwrap();
    let rest = Rest::new(daemon.url());

    network.unplug();
    until(&mut updates, interrupted).await;
    for number in 0..5 {
        rest.create("foo", &format!("unseen {number}")).await;
        rest.create("bar", "not asked for").await;
    }
    network.plug();

    let mut replayed = vec![];
    let told = until(&mut updates, |update| match update {
        Update::Event(event) => {
            assert!(event.replayed, "it came late");
            replayed.push(event.event.task().title.clone());
            None
        }
        Update::CaughtUp { replayed, .. } => Some(replayed),
        _ => None,
    });
    let told = told.await;
    assert_eq!(told, 5);
    assert_eq!(replayed, (0..5).map(|number| format!("unseen {number}")).collect::<Vec<_>>());

    rest.create("foo", "live again").await;
    let live = until(&mut updates, |update| match update {
        Update::Event(event) => Some(event),
        _ => None,
    });
    let live = live.await;
    assert_eq!(live.event.task().title, "live again");
    assert!(!live.replayed);
}

#[tokio::test]
async fn the_watcher_says_that_none_was_lost_and_none_was() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let network = Proxy::start(daemon.addr()).await;
    let args = ["--repo", "foo", "-o", "json", "--count", "15"];
    let mut watcher = Watcher::start(network.url(), &args).await;
    let rest = Rest::new(daemon.url());

    for round in 0..2 {
        for number in 0..3 {
            rest.create("foo", &format!("seen {round}.{number}")).await;
        }
        network.unplug();
        watcher.stderr.until("connection lost").await;
        for number in 0..4 {
            rest.create("foo", &format!("unseen {round}.{number}")).await;
        }
        network.plug();
        let line = watcher.stderr.until("reconnected").await;
        assert!(line.ends_with("replayed · 0 lost"), "{line}");
    }
    rest.create("foo", "the end").await;

    let mut lines = vec![];
    while let Some(line) = watcher.stdout.next().await {
        lines.push(line);
    }
    assert_eq!(lines, envelopes(&read_log(data.path()), &["foo"]));
    assert_eq!(watcher.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_server_that_restarts_is_come_back_to() {
    let data = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(data.path()).await;
    let mut updates = client(daemon.url()).subscribe(["foo"]).unwrap().updates();
    updates.ready().await.unwrap();
    Rest::new(daemon.url()).create("foo", "before").await;

    daemon.signal("TERM");
    let reason = until(&mut updates, interrupted).await;
    assert!(reason.contains("restart"), "{reason}");
    assert!(daemon.wait().await.success());
    let addr = daemon.addr().to_owned();
    let daemon = Daemon::start_with(data.path(), &addr, &[]).await;
    let resumed = until(&mut updates, |update| match update {
        Update::Connected { resumed, .. } => Some(resumed),
        _ => None,
    });
    assert!(resumed.await);
    Rest::new(daemon.url()).create("foo", "after").await;
    let event = until(&mut updates, |update| match update {
        Update::Event(event) => Some(event),
        _ => None,
    });
    assert_eq!(event.await.event.task().title, "after");
}

#[tokio::test]
async fn repositories_are_added_to_and_removed_from_a_live_stream() {
    let data = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(data.path()).await;
    let rest = Rest::new(daemon.url());
    let network = Proxy::start(daemon.addr()).await;
    let mut stream = client(network.url()).subscribe(["foo"]).unwrap();
    stream.ready().await.unwrap();

    // One round: an event in each, and what came of it. `always` is in the set all the time.
    async fn round(rest: &Rest, stream: &mut taskwatch_client::EventStream, always: &str) -> bool {
        let other = if always == "foo" { "bar" } else { "foo" };
        rest.create(other, "perhaps").await;
        rest.create(always, "certainly").await;
        let mut perhaps = false;
        loop {
            let event = within("an event", stream.next()).await.unwrap().unwrap();
            if event.repository.as_str() == always {
                return perhaps;
            }
            perhaps = true;
        }
    }

    assert!(!round(&rest, &mut stream, "foo").await);
    stream.add(["bar"]).unwrap();
    within("bar is added", async { while !round(&rest, &mut stream, "foo").await {} }).await;
    stream.remove(["foo"]).unwrap();
    within("foo is removed", async { while round(&rest, &mut stream, "bar").await {} }).await;
    // What was chosen outlives a cut.
    network.cut();
    assert!(!round(&rest, &mut stream, "bar").await);
}
