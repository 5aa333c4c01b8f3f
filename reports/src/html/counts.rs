//! Open connections and failed requests over time: one count each, as steps.

use super::axis::{Scale, time_axis, y_axis};
use super::canvas::{Anchor, Canvas, Size, svg};
use super::colour::{MUTED, NEVER, Rgb, series};
use super::figure::{Figure, main_sizes};
use super::requests::Shared;
use super::time::{Columns, Frame, Track};
use crate::number::{count, percent, plural, short};
use crate::record::{RunRecord, StrategyRecord};

/// Connections open at the end of each bucket.
pub(super) fn connections(record: &RunRecord, s: &StrategyRecord, shared: Shared) -> Option<Figure> {
    if s.timeline.connections.iter().all(|n| *n == 0) {
        return None;
    }
    let last = |columns: &Columns| -> Vec<f64> {
        columns.slices(&s.timeline.connections).map(|slice| f64::from(slice.last().copied().unwrap_or(0))).collect()
    };
    let most = record.strategies.iter().flat_map(|s| s.timeline.connections.iter().copied()).max().unwrap_or(0);
    let label = format!("Open connections over time under {}", s.name);
    let plot = draw_both(record, s, shared, &label, "open", f64::from(most), series(2), last)?;
    let of = &s.connections;
    let finding = if of.closed == 0 {
        format!("{} opened, none closed.", plural(of.opened, "connection"))
    } else {
        format!(
            "{} opened, {} closed, at most {} at a time.",
            plural(of.opened, "connection"),
            count(of.closed),
            count(of.peak)
        )
    };
    let goaways = if of.goaways > 0 { format!(" {} sent.", plural(of.goaways, "GOAWAY")) } else { String::new() };
    Some(Figure {
        finding: finding + &goaways,
        how: "Connections of clients and proxies open at the end of each bucket.".to_owned(),
        plot,
    })
}

/// Failed requests per second, only where some failed.
pub(super) fn failures(record: &RunRecord, s: &StrategyRecord, shared: Shared) -> Option<Figure> {
    if s.requests.failed == 0 || s.timeline.failed.iter().all(|n| *n == 0) {
        return None;
    }
    let columns = Columns::of(record, shared.columns)?;
    let rates = |columns: &Columns| columns.rates(&s.timeline.failed);
    let most = record.strategies.iter().flat_map(|s| columns.rates(&s.timeline.failed)).fold(0.0, f64::max);
    let label = format!("Failed requests per second over time under {}", s.name);
    let plot = draw_both(record, s, shared, &label, "per s", most, NEVER, rates)?;
    let at = |i: Option<usize>| i.map_or(0.0, |i| i as f64 * record.interval_s);
    let failed = |n: &u32| *n > 0;
    let from = at(s.timeline.failed.iter().position(failed));
    let until = at(s.timeline.failed.iter().rposition(failed).map(|i| i + 1)).min(record.duration_s);
    let mut reasons: Vec<_> = s.errors.iter().collect();
    reasons.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    let why = reasons
        .first()
        .map_or_else(String::new, |e| format!("; most often {} ({}), {} times", e.code, e.reason, count(e.count)));
    let part = s.requests.failed as f64 / s.requests.ok.saturating_add(s.requests.failed) as f64;
    Some(Figure {
        finding: format!(
            "{} failed ({}), between {} s and {} s{why}.",
            plural(s.requests.failed, "request"),
            percent(part),
            short(from),
            short(until)
        ),
        how: "Requests per second that ended with any status but OK.".to_owned(),
        plot,
    })
}

#[expect(clippy::too_many_arguments, reason = "one call, each a different thing to draw")]
fn draw_both(
    record: &RunRecord,
    s: &StrategyRecord,
    shared: Shared,
    label: &str,
    unit: &str,
    most: f64,
    colour: Rgb,
    values: impl Fn(&Columns) -> Vec<f64>,
) -> Option<String> {
    let mut plot = String::new();
    for size in main_sizes(110.0, 110.0) {
        let columns = Columns::of(record, if size.narrow { shared.columns.min(60) } else { shared.columns })?;
        let frame = Frame::new(size, shared.label_room);
        let track = Track::new(record, frame, size).of(record, s, frame);
        let values = values(&columns);
        plot.push_str(&svg(size, "", label, |c| {
            draw(c, record, &columns, &values, size, frame, &track, (unit, most, colour))
        }));
    }
    Some(plot)
}

#[expect(clippy::too_many_arguments, reason = "one call, each a different thing to draw")]
fn draw(
    c: &mut Canvas<'_>,
    record: &RunRecord,
    columns: &Columns,
    values: &[f64],
    size: Size,
    frame: Frame,
    track: &Track,
    (unit, most, colour): (&str, f64, Rgb),
) {
    let (top, bottom) = (18.0, size.height - 24.0);
    let x = frame.scale(record);
    let y = Scale::linear(0.0, most * 1.05, bottom, top);
    time_axis(c, &x, bottom, if size.narrow { 4 } else { 8 });
    y_axis(c, &y, frame.left, frame.right, 4);
    c.text((0.0, 8.0), unit, Anchor::Start, MUTED);
    track.verticals(c, 0.0, bottom);
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for (value, (start, end)) in values.iter().zip(&columns.spans) {
        let y = y.px(*value);
        match steps.last_mut() {
            // A level that stays is one stroke.
            Some(last) if last.1 == y => last.0 = x.px(*end),
            _ => steps.extend([(x.px(*start), y), (x.px(*end), y)]),
        }
    }
    c.path(&steps, colour, 1.5);
}
