//! The one time axis: columns of buckets, and the event track above the plots.

use super::axis::Scale;
use super::canvas::{Anchor, Canvas, Size};
use super::colour::{EVENT, INK, MUTED};
use super::text::{shorten, width_px};
use crate::number::short;
use crate::record::{RunRecord, StrategyRecord};

/// Buckets joined so that a plot has no more columns than it can show.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Columns {
    /// Buckets a column joins.
    pub(super) group: usize,
    /// Start and end of each column in seconds; the last ends where the run does.
    pub(super) spans: Vec<(f64, f64)>,
}

impl Columns {
    /// `None` if the record has no usable buckets.
    pub(super) fn of(record: &RunRecord, most: usize) -> Option<Self> {
        let (interval_s, duration_s) = (record.interval_s, record.duration_s);
        let usable = |x: f64| x.is_finite() && x > 0.0;
        if !usable(interval_s) || !usable(duration_s) || !usable(duration_s / interval_s) {
            return None;
        }
        let longest = record
            .strategies
            .iter()
            .map(|s| {
                let t = &s.timeline;
                let pods = t.requests_per_pod.iter().map(Vec::len).max().unwrap_or(0);
                pods.max(t.ok.len())
                    .max(t.failed.len())
                    .max(t.p50_ms.len())
                    .max(t.p99_ms.len())
                    .max(t.connections.len())
            })
            .max()
            .unwrap_or(0);
        let buckets = ((duration_s / interval_s - 1e-6).ceil() as usize).min(longest);
        let group = buckets.div_ceil(most.max(1)).max(1);
        let mut spans: Vec<(f64, f64)> = (0..buckets.div_ceil(group))
            .map(|i| {
                let start = (i * group) as f64 * interval_s;
                let end = (((i + 1) * group).min(buckets) as f64 * interval_s).min(duration_s);
                (start, end)
            })
            .collect();
        // A sliver at the end would be a rate over next to nothing.
        if spans.len() > 1 && spans.last().is_some_and(|(a, b)| b - a < 0.25 * group as f64 * interval_s) {
            spans.pop();
        }
        (!spans.is_empty()).then_some(Self { group, spans })
    }

    /// The buckets of each column, of a series that may be shorter than the run.
    pub(super) fn slices<'a, T>(&self, series: &'a [T]) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let (group, count) = (self.group, self.spans.len());
        (0..count).map(move |i| {
            let start = (i * group).min(series.len());
            &series[start..(start + group).min(series.len())]
        })
    }

    /// Counts per second.
    pub(super) fn rates(&self, counts: &[u32]) -> Vec<f64> {
        self.slices(counts)
            .zip(&self.spans)
            .map(|(slice, (start, end))| slice.iter().map(|&n| f64::from(n)).sum::<f64>() / (end - start))
            .collect()
    }

    pub(super) fn middle(&self, i: usize) -> f64 {
        self.spans.get(i).map_or(0.0, |(start, end)| (start + end) / 2.0)
    }
}

/// Margins that every time plot of a page shares, so that one moment is on one vertical.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) right: f64,
}

impl Frame {
    pub(super) fn new(size: Size, label_room: f64) -> Self {
        let room = label_room.clamp(48.0, size.width * 0.36);
        Self { left: 50.0, right: size.width - room }
    }

    pub(super) fn scale(&self, record: &RunRecord) -> Scale {
        Scale::linear(0.0, record.duration_s, self.left, self.right)
    }
}

/// An event's label on the track: its text covers `from..to`, its line stands at `x` from its lane down.
struct Placed {
    x: f64,
    from: f64,
    to: f64,
    lane: usize,
    text: String,
    anchor: Anchor,
}

/// Labels in lanes where no text meets another text or another event's line; an event that finds no place in four lanes
/// keeps its line only (the list of events at the end of the page has it).
pub(super) struct Track {
    /// Where the warm-up is.
    warm_up: Option<(f64, f64)>,
    placed: Vec<Placed>,
    lines: Vec<f64>,
    /// What controllers did by themselves.
    ticks: Vec<f64>,
}

const LANE_PX: f64 = 16.0;
const LANES: usize = 4;

impl Track {
    pub(super) fn new(record: &RunRecord, frame: Frame, size: Size) -> Self {
        let scale = frame.scale(record);
        let warm_up = (record.warm_up_s > 0.0).then(|| (scale.px(0.0), scale.px(record.warm_up_s)));
        let mut track = Self { warm_up, placed: Vec::new(), lines: Vec::new(), ticks: Vec::new() };
        let within = |at_s: f64| at_s >= 0.0 && at_s <= record.duration_s;
        // From the right: a text runs to the right of its line, so an earlier event goes above the later ones it covers.
        for event in record.events.iter().rev().filter(|e| within(e.at_s)) {
            let x = scale.px(event.at_s);
            track.lines.push(x);
            let text = shorten(&format!("{} s {}", short(event.at_s), event.label), if size.narrow { 34 } else { 48 });
            let width = width_px(&text);
            let (from, to, anchor) = if x + 4.0 + width <= size.width {
                (x, x + 4.0 + width, Anchor::Start)
            } else {
                (x - 4.0 - width, x, Anchor::End)
            };
            if from < 0.0 {
                continue;
            }
            let free = |lane: &usize| {
                track.placed.iter().all(|p| {
                    let texts_meet = p.lane == *lane && from < p.to + 8.0 && p.from < to + 8.0;
                    let under_their_line = p.lane >= *lane && from < p.x && p.x < to;
                    let through_their_text = p.lane < *lane && p.from < x && x < p.to;
                    !(texts_meet || under_their_line || through_their_text)
                })
            };
            if let Some(lane) = (0..LANES).find(free) {
                track.placed.push(Placed { x, from, to, lane, text, anchor });
            }
        }
        track
    }

    /// With a tick for each thing that controllers did under this strategy.
    pub(super) fn of(mut self, record: &RunRecord, s: &StrategyRecord, frame: Frame) -> Self {
        let scale = frame.scale(record);
        let within = |at_s: &f64| (0.0..=record.duration_s).contains(at_s);
        self.ticks = s.happenings.iter().map(|e| e.at_s).filter(within).map(|at_s| scale.px(at_s)).collect();
        // What is on one pixel is one tick.
        self.ticks.dedup_by(|a, b| (*a - *b).abs() < 1.0);
        self
    }

    pub(super) fn height(&self) -> f64 {
        self.placed.iter().map(|p| p.lane + 1).max().unwrap_or(0) as f64 * LANE_PX + 6.0
    }

    /// The labels, in the strip above `bottom_px`.
    pub(super) fn labels(&self, c: &mut Canvas<'_>, bottom_px: f64) {
        for p in &self.placed {
            let y = bottom_px - 6.0 - (p.lane as f64 + 0.5) * LANE_PX;
            c.line((p.x, y - 6.0), (p.x, bottom_px), EVENT, 1.0);
            let x = if p.anchor == Anchor::Start { p.x + 4.0 } else { p.x - 4.0 };
            c.text((x, y), &p.text, p.anchor, INK);
        }
    }

    /// The verticals through a plot, and the shade of the warm-up.
    pub(super) fn verticals(&self, c: &mut Canvas<'_>, top_px: f64, bottom_px: f64) {
        if let Some((from, to)) = self.warm_up {
            c.veil(&[(from, top_px), (to, top_px), (to, bottom_px), (from, bottom_px)], MUTED);
        }
        for x in &self.ticks {
            c.line((*x, bottom_px), (*x, bottom_px - 8.0), INK, 1.5);
        }
        for x in &self.lines {
            c.line((*x, top_px), (*x, bottom_px), EVENT, 1.0);
        }
    }
}
