//! One picture of each shape: a bar for each peer.

use super::goals::is_ours;
use super::medians::{Metric, Results, number};
use super::tables::{SHAPES, Shape};

const LABELS: f64 = 150.0;
const BARS: f64 = 440.0;
const FIGURES: f64 = 90.0;
const WIDTH: f64 = LABELS + BARS + FIGURES;
const HEAD: f64 = 34.0;
const STEP: f64 = 24.0;

/// The shapes there is something of.
pub(super) fn shapes(results: &Results) -> Vec<Shape> {
    SHAPES.iter().filter(|shape| !results.shapes(shape.start).is_empty()).copied().collect()
}

struct Bar {
    label: String,
    value: f64,
    is_ours: bool,
}

fn bars(results: &Results, shape: &Shape, metric: Metric) -> Vec<Bar> {
    let mut bars = vec![];
    for name in results.shapes(shape.start) {
        // What is measured in several sizes has its size beside its name.
        let size = name.strip_prefix(shape.name).unwrap_or_default().trim_start_matches('-');
        for peer in results.peers(name) {
            let Some(value) = results.median(name, peer, metric) else { continue };
            let label = if size.is_empty() { peer.to_owned() } else { format!("{peer}, {size}") };
            bars.push(Bar { label, value, is_ours: is_ours(peer) });
        }
    }
    if shape.name == "growth" || shape.name == "crowd" {
        bars.sort_by(|a, b| a.label.split(',').next().cmp(&b.label.split(',').next()));
    } else {
        bars.sort_by(|a, b| b.value.total_cmp(&a.value));
    }
    bars
}

pub(super) fn svg(results: &Results, shape: &Shape) -> String {
    let (title, metric) = shape.plotted;
    let bars = bars(results, shape, metric);
    let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let height = HEAD + STEP * bars.len() as f64 + 8.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"20\" font-weight=\"bold\">{}: {title}</text>\n",
        shape.name
    );
    for (at, bar) in bars.iter().enumerate() {
        let top = HEAD + STEP * at as f64;
        let middle = top + 13.0;
        let width = (bar.value / most * BARS).max(1.0);
        let colour = if bar.is_ours { "#1f77b4" } else { "#b0b8c0" };
        out += &format!(
            "<text x=\"{:.0}\" y=\"{middle:.0}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS:.0}\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"17\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{middle:.0}\">{}</text>\n",
            LABELS - 8.0,
            bar.label,
            LABELS + width + 6.0,
            number(bar.value)
        );
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Row;

    fn row(shape: &str, peer: &str, deliveries_per_s: f64) -> Row {
        Row { shape: shape.into(), peer: peer.into(), deliveries_per_s, ..Row::default() }
    }

    #[test]
    fn the_longest_bar_is_first_and_fills_the_picture() {
        let results = Results(vec![row("flood", "uws", 50.0), row("flood", "hub", 100.0)]);
        let shapes = shapes(&results);
        assert_eq!(shapes.len(), 1, "flood4 is another");
        let svg = svg(&results, &shapes[0]);
        let widths: Vec<&str> =
            svg.matches("width=\"440.0\"").chain(svg.matches("width=\"220.0\"")).collect();
        assert_eq!(widths.len(), 2);
        assert!(svg.find(">hub<").unwrap() < svg.find(">uws<").unwrap());
    }
}
