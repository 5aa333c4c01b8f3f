//! Latency against the part of requests that took at most that long, one line a strategy.
//!
//! x = log10(1/(1 − q)) gives each further nine the same room (Gil Tene's percentile plot), y is logarithmic. Drawn is
//! where the figures mean something: from below the fastest fifth, whose few microseconds would take half of the axis, to
//! where ten requests were still slower.

use libm::{floor, log10, pow};

use super::axis::{EndLabel, Scale, sampled_label_room, sampled_labels, y_axis};
use super::canvas::{Anchor, Canvas, Size, svg};
use super::colour::{GRID, MUTED, series};
use super::figure::{Figure, side_sizes};
use super::text::{shorten, width_px};
use crate::number::{list, short, sig3};
use crate::record::{Latency, RunRecord, StrategyRecord};

const NINES: [(f64, &str); 6] =
    [(0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99"), (0.99999, "99.999")];

/// The axis begins at a round figure below this part of the fastest strategy's requests.
const FROM_QUANTILE: f64 = 0.2;

/// A percentile beyond which fewer requests lie is chance.
const BEYOND: f64 = 10.0;

/// A strategy's place in the record, the strategy, and its points as (nines, ms).
type Line<'a> = (usize, &'a StrategyRecord, Vec<(f64, f64)>);

/// A point of the seeds' spread as (nines, lowest ms, highest ms).
type Spread = (f64, f64, f64);

/// `None` if no strategy has a distribution.
pub(super) fn figure(record: &RunRecord) -> Option<Figure> {
    let plot = plot(record, &side_sizes(300.0, 270.0))?;
    let lines = lines(record);
    let mut how =
        "Up is slower; each mark to the right is one more nine. Lines end where fewer than ten requests were slower."
            .to_owned();
    if let Some(r) = record.replications.as_ref().filter(|_| lines.iter().any(|line| !band(record, line).is_empty())) {
        how.push_str(&format!(
            " Lines and the figures above are of seed {}; the bands hold {}.",
            record.seed,
            r.words()
        ));
    }
    Some(Figure { finding: finding(&lines), how, plot })
}

fn lines(record: &RunRecord) -> Vec<Line<'_>> {
    let all = record.strategies.iter().enumerate().map(|(i, s)| (i, s, points(s)));
    all.filter(|(_, _, points)| !points.is_empty()).collect()
}

/// The plot alone, in each of the sizes.
pub(super) fn plot(record: &RunRecord, sizes: &[Size]) -> Option<String> {
    let lines = lines(record);
    if lines.is_empty() {
        return None;
    }
    let nines = lines.iter().flat_map(|(_, _, points)| points).map(|p| p.0).fold(1.0, f64::max);
    let bands: Vec<Vec<Spread>> = lines.iter().map(|line| band(record, line)).collect();
    let of_bands = bands.iter().flatten().map(|p| p.2);
    let high = lines.iter().flat_map(|(_, _, points)| points).map(|p| p.1).chain(of_bands).fold(0.0, f64::max);
    let low = round_below(lines.iter().map(|(_, _, points)| at_quantile(points, FROM_QUANTILE)).fold(high, f64::min));
    let label = format!("Latency percentiles of {} strategies on a log axis", lines.len());
    let draw_one = |size: &Size| svg(*size, "dashed", &label, |c| draw(c, *size, &lines, &bands, nines, (low, high)));
    Some(sizes.iter().map(draw_one).collect())
}

/// Points as (nines, ms), those that have a place on both axes, from left to right.
fn points(s: &StrategyRecord) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = s
        .latency_quantiles
        .iter()
        .filter(|q| (0.0..1.0).contains(&q.quantile) && q.ms > 0.0 && q.ms.is_finite())
        .map(|q| (-log10(1.0 - q.quantile), q.ms))
        .collect();
    points.sort_by(|a, b| f64::total_cmp(&a.0, &b.0));
    let known = points.iter().take_while(|(nines, _)| pow(10.0, -nines) * s.requests.ok as f64 >= BEYOND).count();
    // Of a handful of requests all there is.
    if known >= 2 {
        points.truncate(known);
    }
    points
}

/// The seeds' spread as far as the line goes.
fn band(record: &RunRecord, (index, _, points): &Line<'_>) -> Vec<Spread> {
    let Some(seeds) = record.replications.as_ref().and_then(|r| r.strategy(*index)) else { return Vec::new() };
    let end = points.last().map_or(0.0, |p| p.0);
    let mut band: Vec<Spread> = seeds
        .latency_band
        .iter()
        .filter(|p| {
            (0.0..1.0).contains(&p.quantile) && p.low_ms > 0.0 && p.low_ms <= p.high_ms && p.high_ms.is_finite()
        })
        .map(|p| (-log10(1.0 - p.quantile), p.low_ms, p.high_ms))
        .filter(|p| p.0 <= end)
        .collect();
    band.sort_by(|a, b| f64::total_cmp(&a.0, &b.0));
    band
}

/// Milliseconds at a quantile, on the line between the points around it.
fn at_quantile(points: &[(f64, f64)], quantile: f64) -> f64 {
    let nines = -log10(1.0 - quantile);
    match points.iter().position(|p| p.0 >= nines) {
        None => points.last().map_or(1.0, |p| p.1),
        Some(0) => points[0].1,
        Some(i) => {
            let ((x0, y0), (x1, y1)) = (points[i - 1], points[i]);
            y0 + (y1 - y0) * ((nines - x0) / (x1 - x0))
        }
    }
}

/// The largest of 1, 2, 5 times a power of ten that is not above a positive value.
fn round_below(value: f64) -> f64 {
    let decade = pow(10.0, floor(log10(value)));
    [5.0, 2.0].into_iter().map(|m| m * decade).find(|v| *v <= value).unwrap_or(decade)
}

/// The part of a line that is not below `low`, beginning on it where the line comes from below.
fn clip(points: &[(f64, f64)], low: f64) -> Vec<(f64, f64)> {
    let Some(first) = points.iter().position(|p| p.1 >= low) else { return Vec::new() };
    let mut shown = Vec::new();
    if let Some(&(x0, y0)) = first.checked_sub(1).and_then(|i| points.get(i)) {
        let (x1, y1) = points[first];
        let part = log10(low / y0) / log10(y1 / y0);
        if part.is_finite() {
            shown.push((x0 + (x1 - x0) * part.clamp(0.0, 1.0), low));
        }
    }
    shown.extend(points[first..].iter().copied());
    shown
}

/// Median and p99 of the fastest and the slowest, as spelt: what reads the same is the same.
fn finding(lines: &[Line<'_>]) -> String {
    let latency = |pick: fn(&Latency) -> f64| -> Vec<(&str, f64)> {
        let mut all: Vec<(&str, f64)> = lines.iter().map(|(_, s, _)| (s.name.as_str(), pick(&s.latency_ms))).collect();
        all.sort_by(|a, b| f64::total_cmp(&a.1, &b.1));
        all
    };
    let (p50, p99) = (latency(|l| l.p50), latency(|l| l.p99));
    match (p50.as_slice(), p99.as_slice()) {
        ([(_, p50)], [(_, p99)]) if *p50 > 0.0 => {
            format!("p50 is {} ms, p99 {} ms: {} × as long.", sig3(*p50), sig3(*p99), sig3(p99 / p50))
        }
        _ => format!("p50 {}; p99 {}.", span(&p50), span(&p99)),
    }
}

/// "from 7.26 ms (headless) to 12.9 ms (clusterip)", of values in ascending order.
fn span(values: &[(&str, f64)]) -> String {
    let (Some((_, least)), Some((_, most))) = (values.first(), values.last()) else { return String::new() };
    let (least, most) = (sig3(*least), sig3(*most));
    let who = |text: &str| {
        let names: Vec<&str> = values.iter().filter(|(_, v)| sig3(*v) == text).map(|(name, _)| *name).collect();
        list(&names)
    };
    match values.len() {
        1 => format!("{least} ms"),
        _ if least == most => format!("{least} ms under each"),
        _ => format!("from {least} ms ({}) to {most} ms ({})", who(&least), who(&most)),
    }
}

fn draw(
    c: &mut Canvas<'_>,
    size: Size,
    lines: &[Line<'_>],
    bands: &[Vec<Spread>],
    nines: f64,
    (low, high): (f64, f64),
) {
    let names: Vec<String> = lines.iter().map(|(_, s, _)| shorten(&s.name, 18)).collect();
    let room = sampled_label_room(names.iter().map(String::as_str)).min(size.width * 0.48);
    // Tens of seconds have longer labels.
    let left = (width_px(&short(high)) + 7.0).max(40.0);
    let (right, top, bottom) = (size.width - room, 20.0, size.height - 24.0);
    let x = Scale::linear(0.0, nines, left, right);
    // A flat distribution still gets an axis around it.
    let y = if high / low < 1.2 {
        Scale::log(low / 1.5, high * 1.5, bottom, top)
    } else {
        Scale::log(low, high * 1.06, bottom, top)
    };
    y_axis(c, &y, left, right, 7);
    c.text((0.0, 7.0), "ms (log)", Anchor::Start, MUTED);
    let mut last_end = left - 20.0;
    let shown: Vec<(f64, &str)> =
        NINES.into_iter().map(|(q, text)| (-log10(1.0 - q), text)).filter(|(at, _)| *at <= nines * 1.001).collect();
    for (i, (at, text)) in shown.iter().enumerate() {
        let at = x.px(*at);
        let width = width_px(text);
        if at - width / 2.0 < last_end + 8.0 {
            continue;
        }
        last_end = at + width / 2.0;
        c.line((at, top), (at, bottom), GRID, 0.5);
        c.text((at, bottom + 14.0), text, Anchor::Middle, MUTED);
        if i + 1 == shown.len() {
            c.text((last_end + 3.0, bottom + 14.0), "%", Anchor::Start, MUTED);
        }
    }
    for ((i, ..), band) in lines.iter().zip(bands) {
        let shown = || band.iter().filter(|p| p.2 >= low);
        let top = shown().map(|&(q, _, most)| (x.px(q), y.px(most)));
        let below = shown().rev().map(|&(q, least, _)| (x.px(q), y.px(least.max(low))));
        let around: Vec<(f64, f64)> = top.chain(below).collect();
        if around.len() > 2 {
            c.veil(&around, series(*i));
        }
    }
    let mut labels = Vec::new();
    for ((i, _, points), name) in lines.iter().zip(names) {
        let mut path: Vec<(f64, f64)> = clip(points, low).iter().map(|&(q, ms)| (x.px(q), y.px(ms))).collect();
        path.dedup();
        if let Some(&(end_x, end_y)) = path.last() {
            labels.push(EndLabel { x: end_x, y: end_y, text: name, colour: series(*i) });
        }
        c.path(&path, series(*i), 2.0);
    }
    sampled_labels(c, &labels, right, top, bottom);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_begin_at_a_round_figure() {
        for (value, below) in [(2.56, 2.0), (2.0, 2.0), (9.9, 5.0), (1.0, 1.0), (0.07, 0.05), (130.0, 100.0)] {
            let round = round_below(value);
            assert!((round / below - 1.0).abs() < 1e-9, "{value}: {round}");
        }
    }

    #[test]
    fn a_line_from_below_begins_on_the_floor() {
        // From 0.1 to 10 in one step, floor 1: halfway on a log axis.
        assert_eq!(clip(&[(0.0, 0.1), (2.0, 10.0), (3.0, 20.0)], 1.0), [(1.0, 1.0), (2.0, 10.0), (3.0, 20.0)]);
        assert_eq!(clip(&[(0.0, 5.0), (1.0, 6.0)], 1.0), [(0.0, 5.0), (1.0, 6.0)]);
        assert_eq!(clip(&[(0.0, 0.5)], 1.0), []);
    }

    #[test]
    fn quantiles_lie_on_the_line_between_points() {
        let nines = -log10(0.8);
        assert_eq!(at_quantile(&[(0.0, 1.0), (2.0 * nines, 3.0)], 0.2), 2.0);
        assert_eq!(at_quantile(&[(nines * 2.0, 3.0)], 0.2), 3.0);
        assert_eq!(at_quantile(&[(0.0, 3.0)], 0.2), 3.0);
    }
}
