//! Where our server is to stand, and where it does.

use super::medians::{Metric, Results, number};

/// What a figure is compared with.
#[derive(Clone, Copy, Debug)]
enum Against {
    Peer(&'static str),
    /// The fastest of all that are neither ours nor a floor.
    BestPeer,
    /// The same of ours in another shape.
    Own(&'static str),
    /// Nothing: the figure itself is judged.
    Nothing,
}

/// How much a figure is to be.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure of ours, divided by that of another, is to be at least or at most so much.
#[derive(Debug)]
struct Goal {
    shape: &'static str,
    what: &'static str,
    metric: Metric,
    against: Against,
    bound: Bound,
}

const SERVERS: [&str; 2] = ["hub", "taskwatchd"];
const CLIENTS: [&str; 3] = ["sdk", "taskwatch-json", "taskwatch"];

pub(super) fn is_ours(peer: &str) -> bool {
    SERVERS.contains(&peer) || CLIENTS.contains(&peer)
}

const RATE: Metric = |row| row.deliveries_per_s;
const CPU: Metric = |row| row.cpu_us_per_delivery;

const fn goal(
    shape: &'static str,
    what: &'static str,
    metric: Metric,
    against: Against,
    bound: Bound,
) -> Goal {
    Goal { shape, what, metric, against, bound }
}

use Against::{BestPeer, Nothing, Own, Peer};
use Bound::{AtLeast, AtMost};

const OF_SERVERS: [Goal; 14] = [
    goal("flood", "deliveries/s", RATE, BestPeer, AtLeast(5.0)),
    goal("flood", "CPU per delivery", CPU, Peer("floor-16"), AtMost(1.2)),
    goal("flood4", "deliveries/s", RATE, Peer("uws"), AtLeast(1.3)),
    goal("flood4", "CPU per delivery", CPU, Peer("floor-4"), AtMost(1.4)),
    goal("rate", "CPU per delivery", CPU, Peer("uws"), AtMost(1.0)),
    goal("rate", "CPU per delivery", CPU, Peer("floor-1"), AtMost(1.35)),
    goal("rate", "p99", |row| row.p99_ms, Peer("uws"), AtMost(1.05)),
    goal("topics", "deliveries/s", RATE, Peer("uws"), AtLeast(1.4)),
    goal("topics", "CPU per delivery", CPU, Peer("floor-1"), AtMost(1.3)),
    goal(
        "idle",
        "bytes per connection, subscribed",
        |row| row.rss_per_connection,
        Peer("uws"),
        AtMost(1.0),
    ),
    goal(
        "idle",
        "bytes per connection, after two heartbeats",
        |row| row.rss_per_connection_stayed,
        Peer("uws"),
        AtMost(1.0),
    ),
    goal("commit", "changes/s", |row| row.publishes_per_s, Peer("bare"), AtLeast(0.5)),
    goal("syncs", "syncs per change", |row| row.syncs_per_publish, Nothing, AtMost(1.0 / 16.0)),
    goal("resume", "deliveries/s", RATE, Own("flood"), AtLeast(0.5)),
];

const OF_CLIENTS: [Goal; 3] = [
    goal("sdk", "events/s", RATE, Peer("tungstenite"), AtLeast(0.7)),
    goal("watcher", "events/s", RATE, Peer("wscat"), AtLeast(5.0)),
    goal("start", "seconds to the first line", |row| row.seconds, Peer("wscat"), AtMost(0.5)),
];

pub(super) fn table(results: &Results) -> String {
    let mut rows = rows(results, SERVERS, &OF_SERVERS);
    let faultless = |shape: &'static str| {
        SERVERS.map(|ours| {
            let faults: Vec<_> = results.rows(shape, ours).map(crate::row::Row::fault).collect();
            let bad = faults.iter().flatten().next().cloned();
            (!faults.is_empty())
                .then(|| bad.map_or("met".to_owned(), |fault| format!("**missed**: {fault}")))
        })
    };
    row(&mut rows, "deep", "lost, closed", "none", faultless("deep"));
    let growth = SERVERS.map(|ours| {
        let shapes = results.shapes("growth-");
        let all: Vec<f64> =
            shapes.iter().filter_map(|shape| results.median(shape, ours, CPU)).collect();
        let (min, max) =
            all.iter().fold((f64::MAX, 0.0_f64), |(min, max), cpu| (min.min(*cpu), max.max(*cpu)));
        (all.len() > 1 && min > 0.0).then(|| verdict(max / min, max / min <= 1.5))
    });
    row(&mut rows, "growth", "CPU per delivery, most / least", "≤ 1.50", growth);
    let crowd = SERVERS.map(|ours| {
        let with = results.median("crowd-100000", ours, |row| row.cpu_us_per_publish)?;
        let without = results.median("crowd-0", ours, |row| row.cpu_us_per_publish)?;
        (without > 0.0).then(|| verdict(with / without, with / without <= 1.2))
    });
    row(&mut rows, "crowd", "CPU per publish, with / without", "≤ 1.20", crowd);
    headed(&SERVERS, rows) + &headed(&CLIENTS, self::rows(results, CLIENTS, &OF_CLIENTS))
}

fn headed(ours: &[&str], rows: String) -> String {
    if rows.is_empty() {
        return rows;
    }
    let lines = "|---".repeat(3 + ours.len());
    format!("| shape | figure | goal | {} |\n{lines}|\n{rows}\n", ours.join(" | "))
}

fn rows<const N: usize>(results: &Results, ours: [&str; N], goals: &[Goal]) -> String {
    let mut out = String::new();
    for goal in goals {
        let cells = ours.map(|ours| goal.ratio(results, ours).map(|ratio| goal.judge(ratio)));
        row(&mut out, goal.shape, goal.what, &goal.text(), cells);
    }
    out
}

fn row<const N: usize>(
    out: &mut String,
    shape: &str,
    what: &str,
    goal: &str,
    cells: [Option<String>; N],
) {
    if cells.iter().any(Option::is_some) {
        let cells = cells.map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
        *out += &format!("| {shape} | {what} | {goal} | {} |\n", cells.join(" | "));
    }
}

fn verdict(ratio: f64, is_met: bool) -> String {
    let ratio = number(ratio);
    if is_met { format!("{ratio} met") } else { format!("{ratio} **missed**") }
}

impl Goal {
    fn ratio(&self, results: &Results, ours: &str) -> Option<f64> {
        let figure = results.median(self.shape, ours, self.metric)?;
        let other = match self.against {
            Against::Peer(peer) => results.median(self.shape, peer, self.metric)?,
            Against::BestPeer => {
                let peers = results.peers(self.shape).into_iter();
                let peers = peers.filter(|peer| !is_ours(peer) && !peer.starts_with("floor-"));
                peers
                    .filter_map(|peer| results.median(self.shape, peer, self.metric))
                    .max_by(f64::total_cmp)?
            }
            Against::Own(shape) => results.median(shape, ours, self.metric)?,
            Against::Nothing => 1.0,
        };
        (other > 0.0).then_some(figure / other)
    }

    fn judge(&self, ratio: f64) -> String {
        let is_met = match self.bound {
            AtLeast(least) => ratio >= least,
            AtMost(most) => ratio <= most,
        };
        verdict(ratio, is_met)
    }

    fn text(&self) -> String {
        let against = match self.against {
            Against::Peer(peer) => format!(" × {peer}"),
            Against::BestPeer => " × best peer".to_owned(),
            Against::Own(shape) => format!(" × own {shape}"),
            Against::Nothing => String::new(),
        };
        match self.bound {
            AtLeast(least) => format!("≥ {}{against}", number(least)),
            AtMost(most) => format!("≤ {}{against}", number(most)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Row;

    fn row(shape: &str, peer: &str, deliveries_per_s: f64, cpu_us_per_delivery: f64) -> Row {
        let (peer, shape) = (peer.to_owned(), shape.to_owned());
        Row { peer, shape, deliveries_per_s, cpu_us_per_delivery, ..Row::default() }
    }

    #[test]
    fn goals_are_ratios_to_the_peer_or_to_the_best_one() {
        let results = Results(vec![
            row("flood", "floor-16", 900.0, 1.0),
            row("flood", "uws", 100.0, 2.0),
            row("flood", "nats", 50.0, 2.0),
            row("flood", "hub", 500.0, 1.25),
            row("deep", "hub", 1.0, 1.0),
            Row { lost: 3, ..row("deep", "taskwatchd", 1.0, 1.0) },
        ]);
        let table = table(&results);
        let lines: Vec<&str> = table.trim_end().lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| flood | deliveries/s | ≥ 5.00 × best peer | 5.00 met | – |",
                "| flood | CPU per delivery | ≤ 1.20 × floor-16 | 1.25 **missed** | – |",
                "| deep | lost, closed | none | met | **missed**: 3 lost |",
            ]
        );
    }

    #[test]
    fn what_is_ours_is_compared_with_itself_or_with_nothing() {
        let results = Results(vec![
            row("flood", "hub", 900.0, 1.0),
            row("resume", "hub", 450.0, 1.0),
            Row { syncs_per_publish: 0.07, ..row("syncs", "taskwatchd", 0.0, 0.0) },
        ]);
        let table = table(&results);
        assert!(
            table.contains("| resume | deliveries/s | ≥ 0.50 × own flood | 0.50 met | – |"),
            "{table}"
        );
        let syncs = "| syncs | syncs per change | ≤ 0.062 | – | 0.070 **missed** |";
        assert!(table.contains(syncs), "{table}");
        assert!(!table.contains("sdk"), "nothing was measured of the clients");
    }

    #[test]
    fn clients_have_a_table_of_their_own() {
        let results =
            Results(vec![row("sdk", "tungstenite", 100.0, 1.0), row("sdk", "sdk", 80.0, 1.0)]);
        assert_eq!(
            table(&results),
            "| shape | figure | goal | sdk | taskwatch-json | taskwatch |\n|---|---|---|---|---|---|\n\
             | sdk | events/s | ≥ 0.70 × tungstenite | 0.80 met | – | – |\n\n"
        );
    }

    #[test]
    fn growth_and_crowd_compare_us_with_ourselves() {
        let publish =
            |shape: &str, cost| Row { cpu_us_per_publish: cost, ..row(shape, "hub", 1.0, 1.0) };
        let results = Results(vec![
            row("growth-10", "hub", 1.0, 3.0),
            row("growth-100", "hub", 1.0, 2.0),
            publish("crowd-0", 10.0),
            publish("crowd-100000", 13.0),
        ]);
        let table = table(&results);
        assert!(
            table.contains("| growth | CPU per delivery, most / least | ≤ 1.50 | 1.50 met | – |")
        );
        assert!(table.contains(
            "| crowd | CPU per publish, with / without | ≤ 1.20 | 1.30 **missed** | – |"
        ));
    }
}
