//! The SDK's promises, kept on this hub whatever goes wrong.

mod property;

use std::sync::Mutex;

use futures_util::StreamExt;
use taskwatch_protocol::ResetReason;

use super::*;
use crate::{EventStream, OnGap, Update, Updates, WatchError};

fn client(hub: &TestHub) -> Client {
    hub.client().build().unwrap()
}

fn events(hub: &TestHub) -> EventStream {
    client(hub).subscribe(["*"]).unwrap()
}

/// The next update that is not about the connection.
async fn next(updates: &mut Updates) -> Update {
    loop {
        match updates.next().await.unwrap().unwrap() {
            Update::Connecting { .. } | Update::Connected { .. } | Update::CaughtUp { .. } => {}
            Update::Interrupted { .. } | Update::Bookmark(_) => {}
            update => return update,
        }
    }
}

async fn title(stream: &mut EventStream) -> String {
    stream.next().await.unwrap().unwrap().task().title.clone()
}

/// Makes so many tasks and sees them all come, in order.
async fn all_come(hub: &TestHub, stream: &mut EventStream, count: usize) {
    for number in 0..count {
        hub.create(task("foo", &number.to_string()));
    }
    for number in 0..count {
        assert_eq!(title(stream).await, number.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn events_come_once_and_in_order_through_every_fault() {
    let faults: [fn(&TestHub); 7] = [
        |_| {},
        TestHub::cut,
        |hub| hub.cut_after(3),
        |hub| hub.delay(Duration::from_secs(3)),
        |hub| hub.drain(Duration::from_secs(7)),
        |hub| hub.close(CloseCode::Rebalance),
        |hub| {
            hub.refuse(4);
            hub.cut();
        },
    ];
    for fault in faults {
        let hub = TestHub::new();
        let mut stream = events(&hub);
        stream.ready().await.unwrap();
        fault(&hub);
        all_come(&hub, &mut stream, 10).await;
        hub.settled(1).await;
        assert_eq!(stream.cursor(), Some(hub.head()));
    }
}

#[tokio::test(start_paused = true)]
async fn lost_events_come_late_and_once() {
    let hub = TestHub::new();
    let mut stream = events(&hub);
    stream.ready().await.unwrap();
    hub.lose(2);
    for title in ["a", "b", "c"] {
        hub.create(task("foo", title));
    }
    let mut titles = Vec::new();
    for _ in 0..3 {
        titles.push(title(&mut stream).await);
    }
    assert_eq!(titles, ["c", "a", "b"]);
    let more = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
    assert!(more.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_connection_through_which_nothing_comes_is_left() {
    let hub = TestHub::new();
    let mut stream = events(&hub);
    stream.ready().await.unwrap();
    hub.half_open();
    assert_eq!(hub.connections(), 0);
    hub.create(task("foo", "a"));
    let nothing = tokio::time::timeout(Duration::from_secs(300), stream.next()).await;
    assert!(nothing.is_err());
    hub.heal();
    assert_eq!(title(&mut stream).await, "a");
}

#[tokio::test(start_paused = true)]
async fn every_reason_of_a_gap_can_be_made() {
    let other = TestHub::new();
    other.create(task("foo", "a"));
    for (reason, since, fault) in [
        (ResetReason::Expired, None, (|hub| hub.expire()) as fn(&TestHub)),
        (ResetReason::Incarnation, None, TestHub::new_incarnation),
        (ResetReason::Future, Some(other.head()), |_| {}),
        (ResetReason::Malformed, Some(Cursor::new("nonsense")), |_| {}),
    ] {
        let hub = TestHub::new();
        let since = since.unwrap_or_else(|| hub.head());
        if !matches!(reason, ResetReason::Future) {
            hub.create(task("foo", "missed"));
        }
        fault(&hub);
        let mut stream = events(&hub).since(since.clone());
        let end = stream.next().await.unwrap();
        assert_eq!(end.unwrap_err(), WatchError::Gap { reason: reason.clone() });

        let mut updates = events(&hub).since(since.clone()).on_gap(OnGap::Live).updates();
        let Update::Gap(gap) = next(&mut updates).await else { panic!("no gap: {reason}") };
        assert_eq!((gap.reason, gap.since, gap.cursor), (reason, Some(since), Some(hub.head())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_stream_is_told_what_it_lost_and_gets_the_state() {
    for (reason, fault) in [
        (ResetReason::Expired, (|hub| hub.expire()) as fn(&TestHub)),
        (ResetReason::Incarnation, TestHub::new_incarnation),
    ] {
        let hub = TestHub::new();
        hub.create(task("foo", "a"));
        let mut updates = events(&hub).snapshot().on_gap(OnGap::Snapshot).updates();
        let Update::Snapshot(before) = next(&mut updates).await else { panic!("no snapshot") };
        assert_eq!(before.tasks, hub.tasks());
        for number in 0..9 {
            hub.create(task("foo", &number.to_string()));
        }
        fault(&hub);
        let Update::Gap(gap) = next(&mut updates).await else { panic!("no gap") };
        assert_eq!(gap.reason, reason);
        let Update::Snapshot(after) = next(&mut updates).await else { panic!("no snapshot") };
        assert_eq!((after.tasks, after.cursor), (hub.tasks(), hub.head()));
    }
}

#[tokio::test(start_paused = true)]
async fn permissions_come_and_go() {
    let hub = TestHub::new();
    hub.create(task("foo", "a"));
    let mut updates = client(&hub).subscribe(["foo", "bar"]).unwrap().snapshot().updates();
    assert!(matches!(next(&mut updates).await, Update::Snapshot(_)));
    hub.deny("foo");
    let Update::Denied(denied) = next(&mut updates).await else { panic!("not denied") };
    assert_eq!(denied[0].repository.to_string(), "foo");
    hub.create(task("foo", "b"));
    let seen = hub.create(task("bar", "c"));
    let Update::Event(event) = next(&mut updates).await else { panic!("no event") };
    assert_eq!(event.cursor, seen);
    hub.allow("foo");
    assert!(matches!(next(&mut updates).await, Update::Granted(_)));
    let Update::Snapshot(snapshot) = next(&mut updates).await else { panic!("no snapshot") };
    assert_eq!(snapshot.tasks.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_view_follows() {
    let hub = TestHub::new();
    let first = task("foo", "a");
    hub.create(first.clone());
    let mut view = client(&hub).view(["foo"]).unwrap();
    view.ready().await.unwrap();
    hub.update(first.id, |task| task.status = Status::Completed);
    hub.create(task("bar", "b"));
    hub.settled(1).await;
    let tasks = view.tasks();
    assert_eq!(tasks.get(first.id).map(|task| &task.status), Some(&Status::Completed));
    assert_eq!(tasks.len(), 1);
    hub.delete(first.id);
    hub.settled(1).await;
    assert!(view.tasks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_code_that_says_stop_ends_a_stream() {
    let hub = TestHub::new();
    let mut stream = events(&hub);
    stream.ready().await.unwrap();
    hub.close(CloseCode::Forbidden);
    let end = stream.next().await.unwrap();
    assert!(matches!(end, Err(WatchError::Closed { code: CloseCode::Forbidden, .. })));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_there_for_as_long_as_it_is_said() {
    let hub = TestHub::new();
    let client = hub.client().max_elapsed(Some(Duration::from_secs(60))).build().unwrap();
    hub.refuse(u64::MAX);
    let end = client.subscribe(["foo"]).unwrap().next().await.unwrap();
    assert!(matches!(end, Err(WatchError::Unreachable { .. })));
}

/// What happens, and when, to two who follow one hub.
async fn story() -> [Vec<(Duration, Update)>; 2] {
    let hub = TestHub::new();
    let mut first = task("foo", "a");
    first.id = Uuid::from_u128(1);
    let mut updates = events(&hub).snapshot().on_gap(OnGap::Snapshot).updates();
    let mut told = Vec::new();
    let second = Arc::new(Mutex::new(Vec::new()));
    let (mut others, heard, watch) =
        (events(&hub).on_gap(OnGap::Live).updates(), Arc::clone(&second), hub.clone());
    tokio::spawn(async move {
        while let Some(update) = others.next().await {
            heard.lock().unwrap().push((watch.shared.now(), update.unwrap()));
        }
    });
    for round in 0..12_u64 {
        if round == 0 {
            hub.create(first.clone());
        } else {
            hub.update(first.id, |task| task.title = round.to_string());
        }
        match round % 6 {
            1 => hub.cut(),
            2 => hub.half_open(),
            3 => hub.heal(),
            4 => hub.expire(),
            5 => hub.drain(Duration::from_millis(1_234)),
            _ => {}
        }
        let limit = Duration::from_secs(40);
        while let Ok(update) = tokio::time::timeout(limit, updates.next()).await {
            told.push((hub.shared.now(), update.unwrap().unwrap()));
            if told.len() % 7 == 0 {
                break;
            }
        }
    }
    [told, std::mem::take(&mut second.lock().unwrap())]
}

#[test]
fn a_test_always_runs_the_same() {
    let run = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(story())
    };
    let first = run();
    assert!(first.iter().all(|told| told.len() > 20), "{first:#?}");
    assert_eq!(first, run());
}

#[tokio::test(start_paused = true)]
async fn a_computer_that_slept_asks_whether_the_connection_lives() {
    let hub = TestHub::new();
    let mut updates = events(&hub).updates();
    updates.ready().await.unwrap();
    hub.half_open();
    hub.sleep_computer(Duration::from_secs(3600));
    let asleep = hub.shared.now();
    let reason = loop {
        if let Update::Interrupted { reason, .. } = updates.next().await.unwrap().unwrap() {
            break reason;
        }
    };
    assert!(reason.contains("did not survive"), "{reason}");
    assert!(hub.shared.now() - asleep < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn delays_and_drains_take_the_time_that_they_are_told() {
    let hub = TestHub::new();
    let mut stream = events(&hub);
    stream.ready().await.unwrap();
    let delay = Duration::from_secs(3);
    hub.delay(delay);
    let sent = hub.shared.now();
    hub.create(task("foo", "a"));
    assert_eq!(title(&mut stream).await, "a");
    assert_eq!((hub.shared.now() - sent).as_secs(), delay.as_secs());
    hub.heal();
    let (closed, away) = (hub.shared.now(), Duration::from_secs(100));
    hub.drain(away);
    hub.connected(1).await;
    assert!(hub.shared.now() - closed >= away);
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_in_the_past_and_tells_how_fresh_it_is() {
    let hub = TestHub::new();
    hub.create(task("foo", "a"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let noon = hub.time();
    hub.create(task("foo", "b"));
    assert_eq!(title(&mut events(&hub).since_time(noon)).await, "b");
    assert_eq!(title(&mut events(&hub).tail(2)).await, "a");

    let mut updates = events(&hub).freshness(Duration::from_secs(10)).updates();
    for delay in [0, 2] {
        hub.delay(Duration::from_secs(delay));
        let Update::Fresh { behind } = next(&mut updates).await else { panic!("no freshness") };
        assert_eq!(behind.as_secs(), delay);
    }
}
