//! Latency against the part of requests that took at most that long, one line a strategy.
//!
//! x = log10(1/(1 − q)) gives each further nine the same room (Gil Tene's percentile plot), y is logarithmic.

use libm::log10;

use super::axis::{EndLabel, Scale, end_label_room, end_labels, y_axis};
use super::canvas::{Anchor, Canvas, Size, svg};
use super::colour::{GRID, INK, MUTED, series};
use super::figure::{Figure, side_sizes};
use super::text::shorten;
use crate::number::sig3;
use crate::record::{RunRecord, StrategyRecord};

const NINES: [(f64, &str); 6] =
    [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %"), (0.99999, "99.999 %")];

/// A strategy's place in the record, the strategy, and its points as (nines, ms).
type Line<'a> = (usize, &'a StrategyRecord, Vec<(f64, f64)>);

/// `None` if no strategy has a distribution.
pub(super) fn figure(record: &RunRecord) -> Option<Figure> {
    let lines: Vec<Line<'_>> = record
        .strategies
        .iter()
        .enumerate()
        .map(|(i, s)| (i, s, points(s)))
        .filter(|(_, _, points)| !points.is_empty())
        .collect();
    if lines.is_empty() {
        return None;
    }
    let all = || lines.iter().flat_map(|(_, _, points)| points.iter().copied());
    let nines = all().map(|p| p.0).fold(1.0, f64::max);
    let (low, high) = all().map(|p| p.1).fold((f64::INFINITY, 0.0f64), |(l, h), y| (l.min(y), h.max(y)));
    let label = format!("Latency percentiles of {} strategies on a log axis", lines.len());
    let plot: String = side_sizes(300.0, 270.0)
        .into_iter()
        .map(|size| svg(size, "dashed", &label, |c| draw(c, size, &lines, nines, (low, high))))
        .collect();
    Some(Figure {
        finding: finding(&lines),
        how: "Up is slower; each mark to the right is one more nine.".to_owned(),
        plot,
    })
}

/// Points as (nines, ms), those that have a place on both axes.
fn points(s: &StrategyRecord) -> Vec<(f64, f64)> {
    s.latency_quantiles
        .iter()
        .filter(|q| (0.0..1.0).contains(&q.quantile) && q.ms > 0.0 && q.ms.is_finite())
        .map(|q| (-log10(1.0 - q.quantile), q.ms))
        .collect()
}

fn finding(lines: &[Line<'_>]) -> String {
    let tail = |s: &StrategyRecord| (s.latency_ms.p50 > 0.0).then(|| s.latency_ms.p99 / s.latency_ms.p50);
    let mut tails: Vec<(&str, f64)> = lines.iter().filter_map(|(_, s, _)| Some((s.name.as_str(), tail(s)?))).collect();
    tails.sort_by(|a, b| f64::total_cmp(&a.1, &b.1));
    match (tails.first(), tails.last()) {
        (Some((_, one)), _) if tails.len() == 1 => format!("p99 is {} × the median.", sig3(*one)),
        (Some((_, short)), Some((_, long))) if sig3(*short) == sig3(*long) => {
            format!("p99 is {} × the median under each.", sig3(*short))
        }
        (Some((first, short)), Some((last, long))) => {
            format!("p99 over median: {} × under {first}, {} × under {last}.", sig3(*short), sig3(*long))
        }
        _ => "No request ended OK.".to_owned(),
    }
}

fn draw(c: &mut Canvas<'_>, size: Size, lines: &[Line<'_>], nines: f64, (low, high): (f64, f64)) {
    let names: Vec<String> = lines.iter().map(|(_, s, _)| shorten(&s.name, 18)).collect();
    let room = end_label_room(names.iter().map(String::as_str)).min(size.width * 0.42);
    let (left, right, top, bottom) = (46.0, size.width - room, 20.0, size.height - 24.0);
    let x = Scale::linear(0.0, nines, left, right);
    // A flat distribution still gets an axis around it.
    let y = if high / low < 1.2 {
        Scale::log(low / 1.5, high * 1.5, bottom, top)
    } else {
        Scale::log(low / 1.06, high * 1.06, bottom, top)
    };
    y_axis(c, &y, left, right, 7);
    c.text((0.0, 7.0), "ms (log)", Anchor::Start, MUTED);
    let mut last_end = left - 20.0;
    for (quantile, text) in NINES {
        let at = x.px(-log10(1.0 - quantile));
        let width = super::text::width_px(text);
        if -log10(1.0 - quantile) > nines * 1.001 || at - width / 2.0 < last_end + 3.0 {
            continue;
        }
        last_end = at + width / 2.0;
        c.line((at, top), (at, bottom), GRID, 0.5);
        c.text((at, bottom + 14.0), text, Anchor::Middle, MUTED);
    }
    let mut labels = Vec::new();
    for ((i, _, points), name) in lines.iter().zip(names) {
        let mut path: Vec<(f64, f64)> = points.iter().map(|&(q, ms)| (x.px(q), y.px(ms))).collect();
        path.dedup();
        if let Some(&(end_x, end_y)) = path.last() {
            labels.push(EndLabel { x: end_x, y: end_y, text: name, colour: series(*i) });
        }
        c.path(&path, series(*i), 2.0);
    }
    end_labels(c, &labels, right, top, bottom, INK);
}
