//! What is measured, and the table of each.

use super::medians::{Metric, Results, number};

/// What is measured, in one size or, if its name is the beginning of others, in several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    /// How the names of its sizes begin; the name itself if there is one.
    pub(super) start: &'static str,
    about: &'static str,
    pub(super) plotted: (&'static str, Metric),
    columns: &'static [(&'static str, Metric)],
    /// Ratios of the plotted figure to that of these.
    ratios: &'static [(&'static str, &'static str, Metric)],
}

const RATE: Metric = |row| row.deliveries_per_s;
const CPU: Metric = |row| row.cpu_us_per_delivery;
const PUBLISH: Metric = |row| row.cpu_us_per_publish;
const SUBSCRIBED: Metric = |row| row.rss_per_connection;
const CHANGES: Metric = |row| row.publishes_per_s;
const SYNCS: Metric = |row| row.syncs_per_publish;

const READING: &[(&str, Metric)] = &[
    ("events/s", RATE),
    ("CPU µs/event", CPU),
    ("of it user", |row| row.user_us_per_delivery),
    // Near 1 the server was the limit, and not the reader.
    ("server cores", |row| row.server_cores),
];

const FLOW: &[(&str, Metric)] = &[
    ("deliveries/s", RATE),
    ("CPU µs/delivery", CPU),
    ("of it user", |row| row.user_us_per_delivery),
    ("CPU µs/publish", PUBLISH),
    ("p99 ms", |row| row.p99_ms),
    ("client cores", |row| row.client_cores),
];

pub(super) const SHAPES: [Shape; 16] = [
    Shape {
        name: "flood",
        start: "flood",
        about: "1,000 subscribers of one repository; 64 messages are under way at any time.",
        plotted: ("deliveries a second", RATE),
        columns: FLOW,
        ratios: &[("× uws", "uws", RATE), ("CPU × floor-16", "floor-16", CPU)],
    },
    Shape {
        name: "flood4",
        start: "flood4",
        about: "The same with 4 under way: little that could go out together.",
        plotted: ("deliveries a second", RATE),
        columns: FLOW,
        ratios: &[("× uws", "uws", RATE), ("CPU × floor-4", "floor-4", CPU)],
    },
    Shape {
        name: "rate",
        start: "rate",
        about: "The same with 50 publishes a second: latency. It has in it half of the fan-out itself.",
        plotted: ("p99 in milliseconds", |row| row.p99_ms),
        columns: &[
            ("p50 ms", |row| row.p50_ms),
            ("p99 ms", |row| row.p99_ms),
            ("p99.9 ms", |row| row.p999_ms),
            ("CPU µs/delivery", CPU),
            ("deliveries/s", RATE),
        ],
        ratios: &[("CPU × uws", "uws", CPU), ("CPU × floor-1", "floor-1", CPU)],
    },
    Shape {
        name: "topics",
        start: "topics",
        about: "100 repositories of 10 subscribers each, 256 messages under way: many events, each for few.",
        plotted: ("deliveries a second", RATE),
        columns: FLOW,
        ratios: &[("× uws", "uws", RATE), ("CPU × floor-1", "floor-1", CPU)],
    },
    Shape {
        name: "deep",
        start: "deep",
        about: "As flood with 1,024 under way: who loses messages or clients?",
        plotted: ("deliveries a second", RATE),
        columns: &[
            ("deliveries/s", RATE),
            ("CPU µs/delivery", CPU),
            ("p99 ms", |row| row.p99_ms),
            ("MiB after", |row| row.rss_after as f64 / 1_048_576.0),
        ],
        ratios: &[("× uws", "uws", RATE)],
    },
    Shape {
        name: "idle",
        start: "idle",
        about: "5,000 subscribers, to whom nothing is sent: resident memory of the server for each, once they have subscribed, \
                and after two heartbeats. The kernel's own is the same for all.",
        plotted: ("bytes per connection", SUBSCRIBED),
        columns: &[
            ("bytes/connection", SUBSCRIBED),
            ("after two heartbeats", |row| row.rss_per_connection_stayed),
        ],
        ratios: &[("× uws", "uws", SUBSCRIBED)],
    },
    Shape {
        name: "growth",
        start: "growth-",
        about: "Flood with 10 to 10,000 subscribers: what a delivery costs when there are more. With few, publishing is most of it.",
        plotted: ("CPU µs per delivery", CPU),
        columns: &[("deliveries/s", RATE), ("CPU µs/delivery", CPU), ("CPU µs/publish", PUBLISH)],
        ratios: &[],
    },
    Shape {
        name: "crowd",
        start: "crowd-",
        about: "10 subscribers, 64 messages under way, beside 1,000 connections with 100 subscriptions each to repositories of \
                which nothing is told, and without them.",
        plotted: ("CPU µs per publish", PUBLISH),
        columns: &[("publishes/s", CHANGES), ("CPU µs/publish", PUBLISH)],
        ratios: &[],
    },
    Shape {
        name: "commit",
        start: "commit",
        about: "64 REST writers, each with one change under way, nobody listens. `bare` is a loop that inserts the same rows into \
                the same file, 64 changes in a transaction. Both sync each commit to disk.",
        plotted: ("changes a second", CHANGES),
        columns: &[
            ("changes/s", CHANGES),
            ("CPU µs/change", PUBLISH),
            ("server cores", |row| row.server_cores),
            ("client cores", |row| row.client_cores),
        ],
        ratios: &[("× bare", "bare", CHANGES), ("CPU × bare", "bare", PUBLISH)],
    },
    Shape {
        name: "syncs",
        start: "syncs",
        about: "The same once more, with strace, which counts each fsync and fdatasync, those of checkpoints too, and stops the \
                server at nothing else.",
        plotted: ("syncs for each change", SYNCS),
        columns: &[
            ("changes/s", CHANGES),
            ("syncs/change", SYNCS),
            ("changes/sync", |row| 1.0 / row.syncs_per_publish),
        ],
        ratios: &[],
    },
    Shape {
        name: "resume",
        start: "resume",
        about: "2,000 clients are connected, and all at once ask for the 1,000 events they have missed: from the first request to \
                the last event.",
        plotted: ("deliveries a second", RATE),
        columns: &[
            ("deliveries/s", RATE),
            ("CPU µs/delivery", CPU),
            ("of it user", |row| row.user_us_per_delivery),
            ("seconds", |row| row.seconds),
            ("server cores", |row| row.server_cores),
            ("client cores", |row| row.client_cores),
        ],
        ratios: &[],
    },
    Shape {
        name: "sdk",
        start: "sdk",
        about: "A server writes prepared events of 0.6 KB, some twenty in each write, as fast as one reader on one core takes them: \
                the SDK's stream, and tokio-tungstenite as it comes, with each frame parsed into the types of the protocol. CPU is \
                that of the reader, from its start to its end.",
        plotted: ("events a second", RATE),
        columns: READING,
        ratios: &[
            ("× tungstenite", "tungstenite", RATE),
            ("CPU × tungstenite", "tungstenite", CPU),
        ],
    },
    Shape {
        name: "watcher",
        start: "watcher",
        about: "The same events, a line of each in a file: the watcher, the watcher with `-o json`, and `wscat`, which does not \
                look into what it prints.",
        plotted: ("events a second", RATE),
        columns: READING,
        ratios: &[("× wscat", "wscat", RATE), ("CPU × wscat", "wscat", CPU)],
    },
    Shape {
        name: "start",
        start: "start",
        about: "From the start of a program to its first event on a line, as in `taskwatch … | head -1`: 21 starts each, the median.",
        plotted: ("seconds", |row| row.seconds),
        columns: &[("seconds", |row| row.seconds)],
        ratios: &[("× wscat", "wscat", |row| row.seconds)],
    },
    Shape {
        name: "streams",
        start: "streams-",
        about: "1,000 streams of the SDK on one thread, which wait: after no event, and after 2,000 events each.",
        plotted: ("bytes per stream", SUBSCRIBED),
        columns: &[("bytes/stream", SUBSCRIBED)],
        ratios: &[],
    },
    Shape {
        name: "micro",
        start: "micro",
        about: "What the parts take on the way of an event of 0.9 KB, one at a time (`cargo bench -p taskwatch-bench`): it becomes a \
                frame; the recipients of one event, or of 64, are listed, so many of so many subscriptions; somebody with so many patterns enters the \
                registry and leaves it, beside 1,000 others; a connection answers a message; the SDK's machine makes 64 events of \
                64 frames.",
        plotted: ("nanoseconds", |row| row.nanoseconds),
        columns: &[("ns", |row| row.nanoseconds)],
        ratios: &[],
    },
];

pub(super) fn section(results: &Results, shape: &Shape) -> String {
    let mut out = format!("### {}\n\n{}\n\n![{0}](bench/{0}.svg)\n\n", shape.name, shape.about);
    let names = results.shapes(shape.start);
    let columns = shape.columns.iter().map(|(name, _)| *name);
    let ratios = shape.ratios.iter().map(|(name, ..)| *name);
    let heads: Vec<&str> = columns.chain(ratios).chain(["lost, closed"]).collect();
    out += &format!("| | {} |\n|---{}|\n", heads.join(" | "), "|---".repeat(heads.len()));
    for name in names {
        let size = name.strip_prefix(shape.name).unwrap_or_default().trim_start_matches('-');
        for peer in results.peers(name) {
            let label = if size.is_empty() { peer.to_owned() } else { format!("{peer}, {size}") };
            out += &format!("| {label} | {} |\n", cells(results, shape, name, peer).join(" | "));
        }
    }
    out + "\n"
}

fn cells(results: &Results, shape: &Shape, name: &str, peer: &str) -> Vec<String> {
    let spread = |metric| {
        results.spread(name, peer, metric).map_or("–".to_owned(), |spread| spread.text())
    };
    let ratio = |other: &str, metric| {
        let other = results.median(name, other, metric).filter(|other| *other > 0.0)?;
        Some(number(results.median(name, peer, metric)? / other))
    };
    let faults = results.rows(name, peer).filter_map(crate::row::Row::fault);
    let faults = faults.collect::<Vec<_>>().join("; ");
    let columns = shape.columns.iter().map(|(_, metric)| spread(*metric));
    let ratios = shape
        .ratios
        .iter()
        .map(|(_, other, metric)| ratio(other, *metric).unwrap_or_else(|| "–".to_owned()));
    let faults = if faults.is_empty() { "0".to_owned() } else { faults };
    columns.chain(ratios).chain([faults]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Row;

    #[test]
    fn a_section_has_a_line_for_each_peer_with_its_ratios_and_faults() {
        let row = |peer: &str, bytes, killed| Row {
            shape: "idle".into(),
            peer: peer.into(),
            rss_per_connection: bytes,
            rss_per_connection_stayed: bytes,
            killed,
            ..Row::default()
        };
        let results = Results(vec![row("uws", 2000.0, 0), row("hub", 8000.0, 2)]);
        let shape = SHAPES.iter().find(|shape| shape.name == "idle").unwrap();
        let section = section(&results, shape);
        assert!(section.contains("| uws | 2,000 | 2,000 | 1.00 | 0 |\n"), "{section}");
        assert!(section.contains("| hub | 8,000 | 8,000 | 4.00 | 2 killed |\n"), "{section}");
        assert!(section.contains("![idle](bench/idle.svg)"));
    }

    #[test]
    fn sizes_of_a_shape_stand_beside_the_peer() {
        let row = Row { shape: "growth-10".into(), peer: "hub".into(), ..Row::default() };
        let shape = SHAPES.iter().find(|shape| shape.name == "growth").unwrap();
        assert!(section(&Results(vec![row]), shape).contains("| hub, 10 | "));
    }
}
