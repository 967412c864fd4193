//! Rounds put together.

use crate::row::Row;

/// A figure of a run.
pub(super) type Metric = fn(&Row) -> f64;

/// Everything that was measured, in the order in which it was.
#[derive(Debug)]
pub(super) struct Results(pub(super) Vec<Row>);

/// One figure over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of the middle two, if they are even, the mean.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            f64::midpoint(values[half - 1], values[half])
        };
        Some(Self { median, min, max })
    }

    /// With the range, if there was more than one round.
    pub(super) fn text(&self) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(number);
        if min == max { median } else { format!("{median} ({min}–{max})") }
    }
}

impl Results {
    /// Who has a run of this shape, failed or not.
    pub(super) fn peers(&self, shape: &str) -> Vec<&str> {
        let mut peers: Vec<&str> = vec![];
        for row in self.0.iter().filter(|row| row.shape == shape) {
            if !peers.contains(&row.peer.as_str()) {
                peers.push(&row.peer);
            }
        }
        peers
    }

    /// The shape of this name; the shapes whose names begin so, if that ends with a `-`.
    pub(super) fn shapes(&self, name: &str) -> Vec<&str> {
        let mut shapes: Vec<&str> = vec![];
        let matches =
            |shape: &str| shape == name || (name.ends_with('-') && shape.starts_with(name));
        for row in self.0.iter().filter(|row| matches(&row.shape)) {
            if !shapes.contains(&row.shape.as_str()) {
                shapes.push(&row.shape);
            }
        }
        shapes
    }

    pub(super) fn rows<'a>(
        &'a self,
        shape: &'a str,
        peer: &'a str,
    ) -> impl Iterator<Item = &'a Row> {
        self.0.iter().filter(move |row| row.shape == shape && row.peer == peer)
    }

    /// Over the rounds that came to their end.
    pub(super) fn spread(&self, shape: &str, peer: &str, metric: Metric) -> Option<Spread> {
        Spread::of(self.rows(shape, peer).filter(|row| row.error.is_none()).map(metric).collect())
    }

    pub(super) fn median(&self, shape: &str, peer: &str, metric: Metric) -> Option<f64> {
        Some(self.spread(shape, peer, metric)?.median)
    }
}

/// Three digits or so, and thousands apart.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        // Two that mean something, as in a sync for many changes.
        0.001..0.1 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let plain = format!("{value:.digits$}");
    let whole = plain.split('.').next().map_or(0, str::len);
    let mut out = String::new();
    for (at, character) in plain.chars().enumerate() {
        let left = whole.saturating_sub(at);
        if at > 0 && left > 0 && left.is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_rounds() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(spread(&[7.0]).map(|spread| spread.text()).as_deref(), Some("7.00"));
        assert_eq!(
            spread(&[1000.0, 3000.0]).map(|s| s.text()).as_deref(),
            Some("2,000 (1,000–3,000)")
        );
    }

    #[test]
    fn numbers_have_as_many_digits_as_mean_something() {
        let all = [0.0, 0.0213, 0.276, 17.04, 286.4, 1000.0, 3_646_921.0, -1234.0, -123.0];
        let text = ["0.00", "0.021", "0.28", "17.0", "286", "1,000", "3,646,921", "-1,234", "-123"];
        assert_eq!(all.map(number), text);
    }

    #[test]
    fn a_round_that_failed_does_not_count() {
        let row = |shape: &str, seconds, error: Option<&str>| Row {
            peer: "hub".into(),
            shape: shape.into(),
            seconds,
            error: error.map(str::to_owned),
            ..Row::default()
        };
        let results = Results(vec![
            row("rate", 1.0, None),
            row("rate", 9.0, Some("x")),
            row("idle", 5.0, None),
        ]);
        assert_eq!(results.median("rate", "hub", |row| row.seconds), Some(1.0));
        assert_eq!(results.median("rate", "uws", |row| row.seconds), None);
        assert_eq!(results.peers("rate"), ["hub"]);
    }
}
