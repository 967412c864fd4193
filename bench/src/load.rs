//! The load client: one thread, one poll, and one buffer that all sockets are read into.

mod args;
mod client;
mod publisher;
mod subscribers;
mod window;

use std::time::{Duration, Instant};

pub(crate) use self::args::Args;
use self::args::Mode;
use self::client::Client;
use crate::process::{Cpu, Processes};
use crate::row::Row;
use crate::{Failure, print};

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let named = || args.run.row();
    let row = measure(args, named());
    let failed = row.as_ref().err().map(ToString::to_string);
    let row = row.unwrap_or_else(|error| Row { error: Some(error.to_string()), ..named() });
    print(&serde_json::to_string(&row)?);
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn measure(args: &Args, row: Row) -> Result<Row, Failure> {
    let server = Processes::below(args.server_pid);
    let rss_before = server.resident();
    let mut client = Client::new(args)?;
    match args.mode {
        Mode::Resume => client.fall_behind(args)?,
        _ => client.open(args)?,
    }
    client.wait(Duration::from_millis(if args.mode == Mode::Idle { 2000 } else { 500 }))?;
    // Once more: a server may have started others since.
    let server = Processes::below(args.server_pid);
    let rss_subscribed = server.resident();
    client.wait(Duration::from_secs_f64(args.stay))?;
    let rss_stayed = server.resident();
    if matches!(args.mode, Mode::Flood | Mode::Rate | Mode::Commit) {
        client.connect_publishers(args)?;
    }
    if matches!(args.mode, Mode::Flood | Mode::Rate) {
        client.first_messages(args)?;
    }

    client.subscribers.latency.reset();
    let before =
        (client.subscribers.counts, client.published(), server.cpu(), Processes::own().cpu());
    let syncs = crate::process::syncs(args.syncs.as_deref());
    let machine = crate::process::machine();
    let begun = Instant::now();
    match args.mode {
        Mode::Flood => client.flood(args)?,
        Mode::Rate => client.pace(args)?,
        Mode::Commit => client.commit(args)?,
        Mode::Resume => client.come_back(args)?,
        Mode::Idle => {}
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after =
        (client.subscribers.counts, client.published(), server.cpu(), Processes::own().cpu());
    let syncs = crate::process::syncs(args.syncs.as_deref()) - syncs;
    let busy = crate::process::machine() - machine;
    let latency = client.subscribers.latency.clone();

    let deadline = Instant::now() + Duration::from_secs_f64(args.drain);
    while client.window.under_way() > 0 && Instant::now() < deadline {
        client.turn(Duration::from_millis(10))?;
    }
    let difference = client.subscribers.difference(&client.window);
    let deliveries = after.0.deliveries - before.0.deliveries;
    let publishes = after.1 - before.1;
    let cpu: Cpu = after.2 - before.2;
    let own = after.3 - before.3;
    let per = |value: f64, count: u64| if count == 0 { 0.0 } else { value / count as f64 };
    let milliseconds = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e6;
    let connections = client.subscribers.len() as u64;
    let row = Row {
        subscribers: args.subscribers,
        seconds,
        publishes,
        publishes_per_s: publishes as f64 / seconds,
        deliveries,
        deliveries_per_s: deliveries as f64 / seconds,
        cpu_us_per_delivery: per(cpu.all() * 1e6, deliveries),
        user_us_per_delivery: per(cpu.user * 1e6, deliveries),
        system_us_per_delivery: per(cpu.system * 1e6, deliveries),
        cpu_us_per_publish: per(cpu.all() * 1e6, publishes),
        syncs_per_publish: per(syncs as f64, publishes),
        server_cores: cpu.all() / seconds,
        client_cores: own.all() / seconds,
        other_cores: (busy - cpu.all() - own.all()).max(0.0) / seconds,
        p50_ms: milliseconds(0.5),
        p99_ms: milliseconds(0.99),
        p999_ms: milliseconds(0.999),
        bytes_per_delivery: per((after.0.bytes - before.0.bytes) as f64, deliveries),
        deliveries_per_read: per(deliveries as f64, after.0.reads - before.0.reads),
        lost: difference.lost,
        repeated: difference.repeated,
        killed: client.subscribers.counts.killed,
        refused: client.publishers.as_ref().map_or(0, |publishers| publishers.refused),
        rss_before,
        rss_subscribed,
        rss_stayed,
        rss_after: server.resident(),
        rss_per_connection: per(rss_subscribed as f64 - rss_before as f64, connections),
        rss_per_connection_stayed: per(rss_stayed as f64 - rss_before as f64, connections),
        ..row
    };
    Ok(row)
}
