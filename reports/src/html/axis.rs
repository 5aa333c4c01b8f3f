//! Scales, ticks and labels that keep their distance.

use libm::{floor, log10, pow};

use super::canvas::{Anchor, Canvas};
use super::colour::{GRID, INK, MUTED, Rgb};
use super::text::width_px;
use crate::number::short;

/// Maps a range of values to a range of pixels; logarithmic if asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from_px: f64,
    to_px: f64,
    log: bool,
}

impl Scale {
    pub(super) fn linear(low: f64, high: f64, from_px: f64, to_px: f64) -> Self {
        // Bounded, so that neither the width of the range nor a step beyond its end is infinite.
        let low = if low.is_finite() { low.clamp(-1e300, 1e300) } else { 0.0 };
        let high = if high.is_finite() { high.min(1e305) } else { low };
        let high = if high > low { high } else { low + low.abs().max(1.0) };
        Self { low, high, from_px, to_px, log: false }
    }

    /// Both ends must be positive; others are replaced.
    pub(super) fn log(low: f64, high: f64, from_px: f64, to_px: f64) -> Self {
        let low = if low.is_finite() && low > 0.0 { low.clamp(1e-300, 1e300) } else { 1.0 };
        let high = if high.is_finite() && high > low { high.min(1e305) } else { low * 2.0 };
        Self { low, high, from_px, to_px, log: true }
    }

    pub(super) fn px(&self, value: f64) -> f64 {
        let part = if self.log {
            let floor = self.low.min(self.high);
            log10(value.max(floor) / self.low) / log10(self.high / self.low)
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from_px + part.clamp(-0.05, 1.05) * (self.to_px - self.from_px)
    }

    /// Round values inside the range, about `wanted` of them.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<f64> {
        if self.log {
            let ticks = log_ticks(self.low, self.high, wanted);
            if ticks.len() >= 3 {
                return ticks;
            }
        }
        linear_ticks(self.low, self.high, wanted)
    }
}

fn linear_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let raw = (high - low) / wanted.max(1) as f64;
    if !(raw.is_finite() && raw > 0.0) {
        return vec![low];
    }
    let decade = pow(10.0, floor(log10(raw)));
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * decade).find(|s| *s >= raw * 0.999).unwrap_or(raw);
    if !(step.is_finite() && step > 0.0) {
        return vec![low];
    }
    let first = (low / step - 1e-9).ceil();
    (0..=wanted * 2 + 2)
        .map(|i| (first + i as f64) * step)
        .take_while(|t| *t <= high + step * 1e-9)
        .map(|t| if t == 0.0 { 0.0 } else { t })
        .collect()
}

fn log_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let (first, last) = (floor(log10(low)) as i32, floor(log10(high)) as i32);
    let of = |digits: &[f64]| -> Vec<f64> {
        (first..=last)
            .flat_map(|e| digits.iter().map(move |d| d * pow(10.0, f64::from(e))))
            .filter(|t| *t >= low * 0.999 && *t <= high * 1.001)
            .collect()
    };
    // The finest that is not too many; a wide range thins its decades.
    for digits in [&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0][..], &[1.0, 2.0, 5.0], &[1.0, 3.0]] {
        let ticks = of(digits);
        if ticks.len() <= wanted + 1 {
            return ticks;
        }
    }
    let decades = of(&[1.0]);
    let every = decades.len().div_ceil(wanted.max(1)).max(1);
    decades.into_iter().step_by(every).collect()
}

/// Grid lines and labels of a vertical axis, the labels left of `left_px`.
pub(super) fn y_axis(c: &mut Canvas<'_>, scale: &Scale, left_px: f64, right_px: f64, wanted: usize) {
    for tick in scale.ticks(wanted) {
        let y = scale.px(tick);
        c.line((left_px, y), (right_px, y), GRID, 0.5);
        c.text((left_px - 6.0, y), &short(tick), Anchor::End, MUTED);
    }
}

/// Ticks and labels of a time axis below `bottom_px`, with the unit on the last.
pub(super) fn time_axis(c: &mut Canvas<'_>, scale: &Scale, bottom_px: f64, wanted: usize) {
    let ticks = scale.ticks(wanted);
    for (i, tick) in ticks.iter().enumerate() {
        let x = scale.px(*tick);
        c.line((x, bottom_px), (x, bottom_px + 4.0), MUTED, 0.5);
        let unit = if i + 1 == ticks.len() { " s" } else { "" };
        c.text((x, bottom_px + 14.0), &format!("{}{unit}", short(*tick)), Anchor::Middle, MUTED);
    }
    c.line((scale.px(scale.low), bottom_px), (scale.px(scale.high), bottom_px), MUTED, 0.5);
}

/// A label at the right end of a series.
pub(super) struct EndLabel {
    /// Where the series ends.
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) text: String,
    pub(super) colour: Rgb,
}

/// Writes labels in the margin from `left_px`, each at the height of its series' end, moved apart where they would
/// overlap, with a line of the series' own colour and dash from its end to its label.
pub(super) fn end_labels(c: &mut Canvas<'_>, labels: &[EndLabel], left_px: f64, top_px: f64, bottom_px: f64, ink: Rgb) {
    for (i, y) in placed(labels, top_px, bottom_px) {
        let label = &labels[i];
        let leader = [(label.x, label.y), (left_px + 3.0, label.y), (left_px + 11.0, y), (left_px + 17.0, y)];
        c.path(&leader, label.colour, 1.0);
        c.text((left_px + 21.0, y), &label.text, Anchor::Start, ink);
    }
}

/// Like [`end_labels`] for lines that end close together: a thin grey line leads to a sample of the series' own line,
/// long enough to show its dash.
pub(super) fn sampled_labels(c: &mut Canvas<'_>, labels: &[EndLabel], left_px: f64, top_px: f64, bottom_px: f64) {
    for (i, y) in placed(labels, top_px, bottom_px) {
        let label = &labels[i];
        c.path(&[(label.x, label.y), (left_px + 12.0, y)], MUTED, 0.5);
        c.path(&[(left_px + 12.0, y), (left_px + 12.0 + SAMPLE_PX, y)], label.colour, 2.0);
        c.text((left_px + 17.0 + SAMPLE_PX, y), &label.text, Anchor::Start, INK);
    }
}

const SAMPLE_PX: f64 = 24.0;

/// Room that [`sampled_labels`] needs right of the plot.
pub(super) fn sampled_label_room<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    texts.map(width_px).fold(0.0, f64::max) + 22.0 + SAMPLE_PX
}

/// Index and height of each label, from above.
fn placed(labels: &[EndLabel], top_px: f64, bottom_px: f64) -> Vec<(usize, f64)> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| f64::total_cmp(&labels[a].y, &labels[b].y).then(a.cmp(&b)));
    let wanted: Vec<f64> = order.iter().map(|&i| labels[i].y).collect();
    let at = apart(&wanted, 14.0, top_px, bottom_px);
    order.into_iter().zip(at).collect()
}

/// Room that [`end_labels`] needs right of the plot.
pub(super) fn end_label_room<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    texts.map(width_px).fold(0.0, f64::max) + 26.0
}

/// Positions at least `gap` apart and inside `low..high` if they fit, in the order given (ascending), near those wanted.
pub(super) fn apart(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut at: Vec<f64> = Vec::with_capacity(wanted.len());
    let mut floor = low;
    for &w in wanted {
        let y = w.max(floor);
        at.push(y);
        floor = y + gap;
    }
    // What went past the lower edge pushes those above it back.
    let mut ceiling = high;
    for y in at.iter_mut().rev() {
        if *y > ceiling {
            *y = ceiling;
        }
        ceiling = *y - gap;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let of = |low, high, n| Scale::linear(low, high, 0.0, 100.0).ticks(n);
        assert_eq!(of(0.0, 120.0, 6), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0]);
        assert_eq!(of(0.0, 0.9, 3), [0.0, 0.5]);
        assert_eq!(Scale::log(1.0, 100.0, 0.0, 1.0).ticks(7), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        // A range without round powers falls back to steps.
        assert_eq!(Scale::log(30.5, 33.0, 0.0, 1.0).ticks(5), [30.5, 31.0, 31.5, 32.0, 32.5, 33.0]);
    }

    #[test]
    fn scales_survive_any_range() {
        // The largest doubled is infinite, and so would be the number of its decades.
        let ranges = [
            (0.0, 0.0),
            (1.0, 1.0),
            (f64::MIN, f64::MAX),
            (f64::MAX, f64::MAX),
            (f64::MIN_POSITIVE, f64::INFINITY),
            (5.0, -5.0),
            (f64::INFINITY, 0.0),
            (1e-300, 1e300),
        ];
        for (low, high) in ranges {
            for scale in [Scale::linear(low, high, 0.0, 100.0), Scale::log(low, high, 0.0, 100.0)] {
                assert!(scale.ticks(5).len() < 20);
                assert!(scale.px(1.0).is_finite());
            }
        }
    }

    #[test]
    fn labels_keep_their_distance() {
        assert_eq!(apart(&[10.0, 11.0, 50.0], 14.0, 0.0, 100.0), [10.0, 24.0, 50.0]);
        // 90 and 95 do not both fit below 100 with 14 between: 86 and 100… pushed up from 104.
        assert_eq!(apart(&[90.0, 95.0], 14.0, 0.0, 100.0), [86.0, 100.0]);
    }
}
