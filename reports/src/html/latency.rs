//! p50 and p99 over time.

use super::axis::{EndLabel, Scale, end_labels, time_axis, y_axis};
use super::canvas::{Anchor, Canvas, Size, svg};
use super::colour::{INK, MUTED, series};
use super::figure::{Figure, main_sizes};
use super::requests::Shared;
use super::time::{Columns, Frame, Track};
use crate::number::{short, sig3};
use crate::record::{RunRecord, StrategyRecord};

/// `None` if no bucket has a latency.
pub(super) fn figure(record: &RunRecord, s: &StrategyRecord, shared: Shared) -> Option<Figure> {
    let columns = Columns::of(record, shared.columns)?;
    let (low, high) = range(record)?;
    let p99 = join(&columns, &s.timeline.p99_ms, f64::max);
    if p99.iter().all(Option::is_none) {
        return None;
    }
    let label = format!("Median and 99th percentile of latency over time under {}", s.name);
    let mut plot = String::new();
    for size in main_sizes(150.0, 150.0) {
        let columns = if size.narrow { Columns::of(record, shared.columns.min(60))? } else { columns.clone() };
        let frame = Frame::new(size, shared.label_room);
        let track = Track::new(record, frame, size).of(record, s, frame);
        plot.push_str(&svg(size, "dashed", &label, |c| draw(c, record, s, &columns, size, frame, &track, (low, high))));
    }
    let mut how = "Solid: median; dashed: 99th percentile of what ended OK in that time; log axis.".to_owned();
    // A phone's plot may join buckets where a wide one does not.
    if Columns::of(record, shared.columns.min(60))?.group > 1 {
        how.push_str(" Where a point joins several buckets: the mean of their medians, the largest p99.");
    }
    Some(Figure { finding: finding(record.interval_s, &s.timeline.p99_ms), how, plot })
}

/// One value a column from those of its buckets that have one.
fn join(columns: &Columns, series: &[Option<f64>], by: fn(f64, f64) -> f64) -> Vec<Option<f64>> {
    columns.slices(series).map(|slice| slice.iter().flatten().copied().reduce(by)).collect()
}

fn mean(columns: &Columns, series: &[Option<f64>]) -> Vec<Option<f64>> {
    columns
        .slices(series)
        .map(|slice| {
            let n = slice.iter().flatten().count();
            (n > 0).then(|| slice.iter().flatten().sum::<f64>() / n as f64)
        })
        .collect()
}

/// Over all strategies, so that their plots compare.
fn range(record: &RunRecord) -> Option<(f64, f64)> {
    let all = record.strategies.iter().flat_map(|s| s.timeline.p50_ms.iter().chain(&s.timeline.p99_ms).flatten());
    let (low, high) = all
        .filter(|v| **v > 0.0 && v.is_finite())
        .fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(*v), high.max(*v)));
    (high > 0.0).then_some((low, high))
}

/// Of single buckets, not of what the plot joins. A bucket of a few hundred requests has a p99 of a few requests, which
/// goes up and down by half by chance; only twice the usual is called a peak. Our own lines.
fn finding(interval_s: f64, p99: &[Option<f64>]) -> String {
    let mut known: Vec<(usize, f64)> = p99.iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?))).collect();
    known.sort_by(|a, b| f64::total_cmp(&a.1, &b.1).then(b.0.cmp(&a.0)));
    let (Some(&(_, low)), Some(&(peak, high))) = (known.first(), known.last()) else {
        return "No request ended OK.".to_owned();
    };
    let middle = known[known.len() / 2].1;
    if high > middle * 2.0 {
        let at = peak as f64 * interval_s;
        format!("p99 peaks at {} ms at {} s; half of the time it is below {} ms.", sig3(high), short(at), sig3(middle))
    } else if high <= middle * 1.5 && low >= middle / 1.5 {
        format!("p99 is steady: {} to {} ms.", sig3(low), sig3(high))
    } else {
        format!("p99 is between {} and {} ms, half of the time below {} ms.", sig3(low), sig3(high), sig3(middle))
    }
}

#[expect(clippy::too_many_arguments, reason = "one call, each a different thing to draw")]
fn draw(
    c: &mut Canvas<'_>,
    record: &RunRecord,
    s: &StrategyRecord,
    columns: &Columns,
    size: Size,
    frame: Frame,
    track: &Track,
    (low, high): (f64, f64),
) {
    let (top, bottom) = (18.0, size.height - 24.0);
    let x = frame.scale(record);
    let (low, high) = if high / low < 1.2 { (low / 1.5, high * 1.5) } else { (low / 1.1, high * 1.1) };
    let y = Scale::log(low, high, bottom, top);
    time_axis(c, &x, bottom, if size.narrow { 4 } else { 8 });
    y_axis(c, &y, frame.left, frame.right, 5);
    c.text((0.0, 8.0), "ms (log)", Anchor::Start, MUTED);
    track.verticals(c, 0.0, bottom);
    let mut labels = Vec::new();
    let lines = [("p50", mean(columns, &s.timeline.p50_ms)), ("p99", join(columns, &s.timeline.p99_ms, f64::max))];
    for (i, (name, values)) in lines.into_iter().enumerate() {
        let mut end = None;
        let mut path = Vec::new();
        // A gap where nothing ended OK; a lone point is a short stroke.
        for (n, value) in values.iter().chain([&None]).enumerate() {
            if let Some(v) = value {
                path.push((x.px(columns.middle(n)), y.px(*v)));
                continue;
            }
            if let [(px, py)] = path.as_slice() {
                path = vec![(px - 2.0, *py), (px + 2.0, *py)];
            }
            if path.len() > 1 {
                end = path.last().copied();
                c.path(&path, series(i), 1.5);
            }
            path.clear();
        }
        if let Some((x, y)) = end {
            labels.push(EndLabel { x, y, text: name.to_owned(), colour: series(i) });
        }
    }
    end_labels(c, &labels, frame.right, top, bottom, INK);
}
