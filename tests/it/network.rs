//! A network that cuts, resets, delays, crumbles and falls silent: nothing is lost, and nothing comes
//! twice.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use taskwatch_client::{Client, EventStream, Update, WatchError};
use taskwatch_protocol::{Cursor, Position, Seq};
use taskwatch_server::HubConfig;
use taskwatch_tests::{End, Faults, Plan, Proxy, within};

use crate::support::Embedded;

/// Exchanges at the same time.
const PARALLEL: usize = 16;

fn client(url: &str) -> Client {
    Client::builder(url)
        .backoff_initial(Duration::from_millis(1))
        .backoff_cap(Duration::from_millis(10))
        .build()
        .unwrap()
}

fn seq(cursor: &Cursor) -> Seq {
    cursor.to_string().parse::<Position>().unwrap().seq
}

fn to_server(faults: Faults) -> Plan {
    Plan { to_server: faults, ..Plan::default() }
}

fn to_client(faults: Faults) -> Plan {
    Plan { to_client: faults, ..Plan::default() }
}

/// Tells of this many tasks that are watched, and of others.
fn tell(server: &Embedded, count: usize) -> Vec<Cursor> {
    let told = (0..count).map(|number| {
        server.created("bar", "not wanted");
        server.created("foo", &format!("wanted {number}"))
    });
    told.collect()
}

/// Reads exactly these events. The position to save is never ahead of them.
async fn read(stream: &mut EventStream, told: &[Cursor], plan: &Plan) {
    for (at, cursor) in told.iter().enumerate() {
        let event = within("an event", stream.next()).await.unwrap().unwrap();
        assert_eq!(event.cursor, *cursor, "event {at} of {plan:?}");
        let saved = seq(&stream.cursor().unwrap());
        let next = told.get(at + 1).map_or(Seq::MAX, seq);
        assert!((seq(cursor)..next).contains(&saved), "{saved} after event {at} of {plan:?}");
    }
}

/// What a network carried in an exchange, for each connection.
type Carried = Vec<(u64, u64)>;

/// Subscribes through a network whose first connection goes by this plan, and has all events.
async fn exchange(plan: Plan, config: HubConfig, count: usize) -> Carried {
    let server = Embedded::start(config).await;
    let network = Proxy::start(server.addr()).await;
    network.plan([plan.clone()]);
    let mut stream = client(network.url()).subscribe(["foo"]).unwrap();
    within("a subscription", stream.ready()).await.unwrap();
    let told = tell(&server, count);
    read(&mut stream, &told, &plan).await;
    if plan.is_fatal() {
        network.connected(2).await;
    }
    // What comes twice, or late from a connection that was given up, comes before the last.
    network.heal();
    let last = tell(&server, 1);
    read(&mut stream, &last, &plan).await;
    network.carried()
}

/// The bytes of an exchange in which nothing goes wrong, up to its last event but one.
async fn recorded(count: usize) -> (u64, u64) {
    let server = Embedded::start(HubConfig::default()).await;
    let network = Proxy::start(server.addr()).await;
    let mut stream = client(network.url()).subscribe(["foo"]).unwrap();
    stream.ready().await.unwrap();
    let told = tell(&server, count);
    read(&mut stream, &told, &Plan::default()).await;
    let [carried] = network.carried()[..] else { panic!("one connection is enough") };
    carried
}

/// The same exchange with an end at every byte of either direction.
async fn ends_at_every_byte(end: End) {
    const EVENTS: usize = 2;
    let (sent, received) = recorded(EVENTS).await;
    assert!(sent > 200 && received > 1_000, "{sent} and {received} bytes are no exchange");
    let at = |at| Faults { end: Some((at, end)), ..Faults::default() };
    let up = (0..=sent).map(|offset| (to_server(at(offset)), offset, true));
    let down = (0..=received).map(|offset| (to_client(at(offset)), offset, false));
    let runs = iter(up.chain(down)).map(|(plan, offset, is_up)| {
        let exchange = exchange(plan.clone(), HubConfig::default(), EVENTS);
        async move {
            let carried = tokio::spawn(exchange).await.unwrap();
            // Otherwise it went well because nothing went wrong.
            assert_eq!(carried.len(), 2, "connections of {plan:?}");
            let (up, down) = carried[0];
            assert_eq!(if is_up { up } else { down }, offset, "{plan:?}");
        }
    });
    assert_eq!(runs.buffer_unordered(PARALLEL).count().await as u64, sent + received + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_every_byte_of_an_exchange() {
    ends_at_every_byte(End::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_at_every_byte_of_an_exchange() {
    ends_at_every_byte(End::Reset).await;
}

#[tokio::test]
async fn segments_of_one_byte_make_no_difference() {
    let crumbs = || Faults { segment: Some(1), ..Faults::default() };
    let plan = Plan { to_server: crumbs(), to_client: crumbs(), seed: 0 };
    let carried = exchange(plan.clone(), HubConfig::default(), 100).await;
    assert_eq!(carried.len(), 1, "nothing was wrong with the first connection");

    // And with a cut in the middle of a replay that comes in crumbs as well.
    let (_, received) = carried[0];
    let end = Some((received / 2, End::Cut));
    let cut = Plan { to_client: Faults { end, ..crumbs() }, ..plan.clone() };
    let server = Embedded::start(HubConfig::default()).await;
    let network = Proxy::start(server.addr()).await;
    let mut stream = client(network.url()).subscribe(["foo"]).unwrap();
    stream.ready().await.unwrap();
    network.plan([cut, plan.clone()]);
    network.unplug();
    let told = tell(&server, 100);
    network.plug();
    read(&mut stream, &told, &plan).await;
    assert_eq!(network.carried().len(), 3);
}

/// Half-open from some byte on: one direction falls silent, and neither side is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_in_one_direction_is_noticed_by_one_side_or_the_other() {
    const EVENTS: usize = 2;
    // The client takes no shorter heartbeat.
    let config = HubConfig {
        heartbeat: Duration::from_secs(1),
        silence: Duration::from_secs(3),
        ..HubConfig::default()
    };
    let (sent, received) = recorded(EVENTS).await;
    let from = |at| Faults { silent: Some(at), ..Faults::default() };
    let up = (0..sent).step_by(40).chain([sent]).map(|at| to_server(from(at)));
    let down = (0..received).step_by(40).map(|at| to_client(from(at)));
    let runs = up.chain(down).map(|plan| tokio::spawn(exchange(plan, config.clone(), EVENTS)));
    for run in runs.collect::<Vec<_>>() {
        assert!(run.await.unwrap().len() > 1, "nobody has noticed");
    }
}

/// Through many connections that all end, most of them in the middle of something.
async fn storm(seed: u64) {
    const EVENTS: usize = 300;
    const CONNECTIONS: usize = 40;
    let mut random = StdRng::seed_from_u64(seed);
    // Slow enough for the limit of messages from a client.
    let config = HubConfig { heartbeat: Duration::from_millis(200), ..HubConfig::default() };
    let server = Embedded::start(config).await;
    let network = Proxy::start(server.addr()).await;
    let mut updates = client(network.url()).subscribe(["foo"]).unwrap().updates();
    updates.ready().await.unwrap();
    network.plan((0..CONNECTIONS).map(|_| Plan::random(&mut random, 8_000)));
    network.cut();

    let (mut told, mut seen) = (vec![], 0);
    while seen < EVENTS {
        match within("an update", updates.next()).await.unwrap().unwrap() {
            Update::Event(event) => {
                assert_eq!(Some(&event.cursor), told.get(seen), "event {seen}");
                seen += 1;
                if told.len() < EVENTS {
                    told.extend(tell(&server, 1));
                }
            }
            // Some happens while nobody is connected.
            Update::Interrupted { .. } if told.len() < EVENTS => {
                let count = random.random_range(0..12).min(EVENTS - told.len());
                told.extend(tell(&server, count));
            }
            Update::Connected { .. } if told.is_empty() => told.extend(tell(&server, 5)),
            Update::Bookmark(cursor) => {
                let before = told.iter().filter(|event| seq(event) <= seq(&cursor)).count();
                assert!(before <= seen, "a bookmark says what was not seen");
            }
            Update::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
    }
    assert_eq!(told.len(), EVENTS);
    assert!(network.carried().len() > 10, "that was no storm");
}

/// `SEED` repeats one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_delays_cuts_and_resets() {
    let given = std::env::var("SEED").ok().map(|seed| vec![seed.parse().unwrap()]);
    let seeds = given.unwrap_or_else(|| (0..20).map(|_| rand::random()).collect());
    let storms: Vec<_> = seeds.into_iter().map(|seed| (seed, tokio::spawn(storm(seed)))).collect();
    for (seed, storm) in storms {
        storm.await.unwrap_or_else(|error| panic!("SEED={seed}: {error}"));
    }
}

/// What keeps a position good while nothing happens is the bookmark of the heartbeat.
#[tokio::test]
async fn a_silent_repository_outlives_the_history_of_the_others() {
    let config = HubConfig {
        heartbeat: Duration::from_millis(200),
        // All the history there is; it outlasts one round.
        cache_events: 64,
        ..HubConfig::default()
    };
    let server = Embedded::start(config).await;
    let network = Proxy::start(server.addr()).await;
    let mut updates = client(network.url()).subscribe(["foo"]).unwrap().updates();
    updates.ready().await.unwrap();
    let first = loop {
        if let Update::Bookmark(cursor) =
            within("an update", updates.next()).await.unwrap().unwrap()
        {
            break cursor;
        }
    };
    for _ in 0..5 {
        let told: Vec<_> = (0..20).map(|_| server.created("bar", "not wanted")).collect();
        while updates.cursor().as_ref() != told.last() {
            within("an update", updates.next()).await.unwrap().unwrap();
        }
    }

    network.unplug();
    let missed = server.created("foo", "wanted");
    network.plug();
    loop {
        match within("an update", updates.next()).await.unwrap().unwrap() {
            Update::Event(event) => break assert_eq!(event.cursor, missed),
            Update::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
    }
    // Without bookmarks it would have been too late.
    let mut late = client(&server.url).subscribe(["foo"]).unwrap().since(first);
    let refused = within("an answer", late.next()).await.unwrap().unwrap_err();
    assert!(matches!(refused, WatchError::Gap { .. }), "{refused}");
}
