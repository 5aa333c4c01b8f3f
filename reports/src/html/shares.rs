//! Each server pod's part of the requests, against an even part.

use super::axis::{Scale, y_axis};
use super::canvas::{Anchor, Canvas, Size, svg};
use super::colour::{INK, MUTED, series};
use super::figure::{Figure, side_sizes};
use super::requests::groups;
use super::text::{shorten, width_px};
use crate::number::{percent, ratio, short};
use crate::record::{RunRecord, StrategyRecord};
use crate::summary::{Spread, spread};

/// Most pods that get a named bar each.
const NAMED: usize = 16;

/// `None` if no request was counted.
pub(super) fn figure(record: &RunRecord, s: &StrategyRecord) -> Option<Figure> {
    let mut spread = spread(record, s)?;
    let (low, high) = spread.extremes();
    let even = 1.0 / spread.pods.len() as f64;
    let since = if spread.from_s > 0.0 {
        format!("from {} s on", short(spread.from_s))
    } else {
        "over the whole run".to_owned()
    };
    let finding = if percent(low) == percent(high) {
        format!("Every server pod has {} of the requests {since}.", percent(low))
    } else {
        format!(
            "Server pods have {} to {} of the requests {since}, even is {} (busiest {} × the mean).",
            percent(low),
            percent(high),
            percent(even),
            ratio(spread.imbalance)
        )
    };
    let named = spread.pods.len() <= NAMED;
    if let Some(hues) = by_deployment(s, &mut spread.pods).filter(|_| named) {
        return Some(Figure {
            finding,
            how: "A bar is a pod, its colour its deployment; the line is an even part.".to_owned(),
            plot: plot(s, &spread, even, &hues),
        });
    }
    let hues: Vec<usize> = spread.pods.iter().map(|&(i, _)| usize::from(s.pods[i].created_s > 0.0)).collect();
    let new = spread.pods.iter().any(|&(i, _)| s.pods[i].created_s > 0.0);
    let how = match (named, new) {
        (true, true) => {
            "A bar is a pod, the second colour marks those created after the start; the line is an even part."
        }
        (true, false) => "A bar is a pod; the line is an even part.",
        (false, true) => {
            "Pods from most to least, the second colour marks those created after the start; the line is an even part."
        }
        (false, false) => "Pods from most to least; the line is an even part.",
    };
    Some(Figure { finding, how: how.to_owned(), plot: plot(s, &spread, even, &hues) })
}

/// The pods by deployment, and each one's colour; `None` if they are all of one.
fn by_deployment(s: &StrategyRecord, pods: &mut [(usize, u64)]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = pods.iter().map(|&(i, _)| i).collect();
    let hues = groups(s, &mut order)?;
    pods.sort_by_key(|&(i, _)| order.iter().position(|&pod| pod == i));
    Some(hues)
}

fn plot(s: &StrategyRecord, spread: &Spread, even: f64, hues: &[usize]) -> String {
    let named = spread.pods.len() <= NAMED;
    let height = if named { spread.pods.len() as f64 * 22.0 + 26.0 } else { 180.0 };
    let label = format!("Part of the requests of each server pod under {}", s.name);
    let draw = |size| {
        svg(size, "", &label, |c| {
            if named { bars(c, size, s, spread, even, hues) } else { ranks(c, size, s, spread, even) }
        })
    };
    side_sizes(height, height).into_iter().map(draw).collect()
}

fn bars(c: &mut Canvas<'_>, size: Size, s: &StrategyRecord, spread: &Spread, even: f64, hues: &[usize]) {
    let names: Vec<String> = spread.pods.iter().map(|&(i, _)| shorten(&s.pods[i].name, 16)).collect();
    let left = names.iter().map(|n| width_px(n)).fold(0.0, f64::max) * 1.06 + 10.0;
    let (_, high) = spread.extremes();
    let x = Scale::linear(0.0, high.max(even * 1.2), left, size.width - 58.0);
    let top = 20.0;
    for (n, (&(_, requests), name)) in spread.pods.iter().zip(&names).enumerate() {
        let y = top + 4.0 + n as f64 * 22.0;
        let part = requests as f64 / spread.total as f64;
        let colour = series(hues.get(n).copied().unwrap_or(0));
        c.text((left - 6.0, y + 8.0), name, Anchor::End, INK);
        if requests > 0 {
            c.rect((left, y), (x.px(part), y + 16.0), colour);
        }
        // Beyond the line of the even part if the bar ends near it.
        let end = x.px(part);
        let line = x.px(even);
        let at = if end < line && end + 52.0 > line { line } else { end };
        c.text((at + 5.0, y + 8.0), &percent(part), Anchor::Start, INK);
    }
    let line = x.px(even);
    c.line((line, top - 4.0), (line, size.height), INK, 1.0);
    c.text((line, 8.0), &format!("even {}", percent(even)), Anchor::Middle, MUTED);
}

fn ranks(c: &mut Canvas<'_>, size: Size, s: &StrategyRecord, spread: &Spread, even: f64) {
    let mut ranked = spread.pods.clone();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let (left, right, top, bottom) = (50.0, size.width - 4.0, 24.0, size.height - 20.0);
    let (_, high) = spread.extremes();
    let y = Scale::linear(0.0, high.max(even * 1.2) * 100.0, bottom, top);
    y_axis(c, &y, left, right, 4);
    c.text((0.0, 8.0), "% of requests", Anchor::Start, MUTED);
    let step = (right - left) / ranked.len() as f64;
    let gap = if step > 3.0 { 1.0 } else { 0.0 };
    for (n, (i, requests)) in ranked.iter().enumerate() {
        let x = left + n as f64 * step;
        let part = *requests as f64 / spread.total as f64 * 100.0;
        c.rect((x, y.px(part)), (x + step - gap, bottom), series(usize::from(s.pods[*i].created_s > 0.0)));
    }
    let line = y.px(even * 100.0);
    c.line((left, line), (right, line), INK, 1.0);
    c.text((right, line - 9.0), &format!("even {}", percent(even)), Anchor::End, INK);
    c.text((left, bottom + 12.0), "most", Anchor::Start, MUTED);
    c.text((right, bottom + 12.0), "least", Anchor::End, MUTED);
}
