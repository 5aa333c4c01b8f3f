//! The picture of a run on its card in the gallery: who fails, who gets the requests over time, or the latency percentiles.
//!
//! The rules, the same for every run:
//!
//! 1. Where strategies differ much in failed requests ([`failures_differ`]), their failures over time.
//! 2. Else the first strategy beside the one whose requests over time differ most from its: per deployment where the servers
//!    are of several, per pod where they are of one. Pods are compared by rank (in each column from the busiest to the
//!    idlest), so that *which* pod is the busy one makes no difference.
//! 3. Where even that strategy differs by less than [`DIFFERENT`] of the mean rate, and the percentiles differ by more, or
//!    nobody's requests differ at all, the percentile curves of all strategies.

use super::axis::{EndLabel, Scale, end_label_room, end_labels, time_axis, y_axis};
use super::canvas::{Anchor, Canvas, Size, svg};
use super::colour::{EVENT, GRID, INK, MUTED, PAPER, heat, heat_level, series};
use super::percentile;
use super::requests::{BANDS, buckets, heat_peak, heat_rates, peak_rate, pods_of};
use super::text::{shorten, width_px};
use super::time::Columns;
use crate::number::{list, short};
use crate::record::{Role, RunRecord, StrategyRecord};
use crate::verdict::{failed_part, failures_differ};

/// Part of the mean rate that another strategy's pods must differ by to be worth a picture. Our own line.
const DIFFERENT: f64 = 0.1;

/// Part of the mean rate below which the same requests went the same ways. Our own line.
const SAME: f64 = 0.01;

/// Most strategies whose failures are drawn in one plot.
const LINES: usize = 4;

/// Most deployments that are told apart by colour: as many as there are hues.
const HUES: usize = 7;

const WIDTH: f64 = 358.0;
const HEIGHT: f64 = 170.0;

/// Rows of a small heat map.
const ROWS: usize = 24;

/// A picture and the words below it.
pub(super) struct Thumb {
    pub(super) caption: String,
    pub(super) plot: String,
}

/// `None` if there is neither a request nor a latency to draw. `bytes`: about as long as the SVG may become.
pub(super) fn thumb(record: &RunRecord, bytes: usize) -> Option<Thumb> {
    if failures_differ(&record.strategies)
        && let Some(thumb) = failures(record)
    {
        return Some(thumb);
    }
    match shown(record) {
        Some(strategies) => panels(record, &strategies, bytes).or_else(|| curves(record)),
        None => curves(record),
    }
}

/// The deployments of server pods that get a request under any strategy, if they are several.
fn deployments(record: &RunRecord) -> Option<Vec<&str>> {
    let mut names: Vec<&str> = Vec::new();
    for s in &record.strategies {
        // In the scenario's order, then whatever else has pods.
        let listed = s.deployments.iter().map(|d| d.name.as_str());
        let of_pods = s.pods.iter().map(|p| p.deployment.as_str());
        let called = |name: &str| {
            let mut pods = s.pods.iter().filter(|p| p.role == Role::Server && p.deployment == name);
            pods.any(|p| p.requests > 0)
        };
        for name in listed.chain(of_pods) {
            if !names.contains(&name) && called(name) {
                names.push(name);
            }
        }
    }
    (2..=HUES).contains(&names.len()).then_some(names)
}

/// The strategies to draw side by side; `None` if the percentiles tell more.
fn shown(record: &RunRecord) -> Option<Vec<&StrategyRecord>> {
    let (first, others) = record.strategies.split_first()?;
    if others.is_empty() {
        return (pods_of(first, Role::Server).len() > 1).then(|| vec![first]);
    }
    let columns = Columns::of(record, 60)?;
    let names = deployments(record);
    let way = |s: &StrategyRecord| match &names {
        Some(names) => by_deployment(s, names, &columns),
        None => ranked(s, &columns),
    };
    let base = way(first);
    // The first of equals.
    let far = others.iter().map(|s| (s, distance(&base, &way(s)))).reduce(|a, b| if b.1 > a.1 { b } else { a })?;
    let rate = base.iter().flatten().sum::<f64>() / columns.spans.len() as f64;
    let part = if rate > 0.0 { far.1 / rate } else { far.1 };
    let tells = part > DIFFERENT || (part > SAME && !percentiles_differ(record));
    tells.then(|| vec![first, far.0])
}

/// Whether the 99th or 99.9th percentile of two strategies is apart by more than [`DIFFERENT`] of the lower.
fn percentiles_differ(record: &RunRecord) -> bool {
    let apart = |of: fn(&StrategyRecord) -> f64| {
        let values = || record.strategies.iter().filter(|s| s.requests.ok > 0).map(of);
        let least = values().fold(f64::INFINITY, f64::min);
        values().fold(0.0, f64::max) > (1.0 + DIFFERENT) * least
    };
    apart(|s| s.latency_ms.p99) || apart(|s| s.latency_ms.p999)
}

/// Rates of the server pods, in each column from the largest to the smallest.
fn ranked(s: &StrategyRecord, columns: &Columns) -> Vec<Vec<f64>> {
    let rates: Vec<Vec<f64>> = pods_of(s, Role::Server).iter().map(|&pod| columns.rates(buckets(s, pod))).collect();
    let mut of_columns = by_column(&rates, columns);
    of_columns.iter_mut().for_each(|column| column.sort_by(|a, b| f64::total_cmp(b, a)));
    of_columns
}

/// Rates of the deployments in each column, in the order of the names.
fn by_deployment(s: &StrategyRecord, names: &[&str], columns: &Columns) -> Vec<Vec<f64>> {
    let rates: Vec<Vec<f64>> = names.iter().map(|name| rates_of(s, name, columns)).collect();
    by_column(&rates, columns)
}

fn by_column(rates: &[Vec<f64>], columns: &Columns) -> Vec<Vec<f64>> {
    (0..columns.spans.len()).map(|column| rates.iter().map(|of| of[column]).collect()).collect()
}

/// Rate of a deployment's server pods in each column.
fn rates_of(s: &StrategyRecord, deployment: &str, columns: &Columns) -> Vec<f64> {
    let mut sums = vec![0.0; columns.spans.len()];
    for pod in pods_of(s, Role::Server).into_iter().filter(|&pod| s.pods[pod].deployment == deployment) {
        sums.iter_mut().zip(columns.rates(buckets(s, pod))).for_each(|(sum, rate)| *sum += rate);
    }
    sums
}

/// Mean over the columns of what must move from rank to rank to make one of the other, in requests per second; what one
/// has and the other lacks counts whole.
fn distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let of_column = |(a, b): (&Vec<f64>, &Vec<f64>)| -> f64 {
        let at = |ranks: &[f64], i: usize| ranks.get(i).copied().unwrap_or(0.0);
        let apart: f64 = (0..a.len().max(b.len())).map(|i| (at(a, i) - at(b, i)).abs()).sum();
        let total: f64 = (a.iter().sum::<f64>() - b.iter().sum::<f64>()).abs();
        // A request that moves is missing at one rank and too many at another.
        (apart + total) / 2.0
    };
    a.iter().zip(b).map(of_column).sum::<f64>() / a.len().max(1) as f64
}

fn curves(record: &RunRecord) -> Option<Thumb> {
    let size = Size { width: WIDTH, height: HEIGHT + 20.0, narrow: false };
    let plot = percentile::plot(record, &[size])?;
    let names: Vec<&str> = record.strategies.iter().map(|s| s.name.as_str()).collect();
    let caption =
        format!("Latency percentiles under {}: up is slower, each mark to the right one more nine.", list(&names));
    Some(Thumb { caption, plot })
}

fn panels(record: &RunRecord, strategies: &[&StrategyRecord], bytes: usize) -> Option<Thumb> {
    let most_pods = strategies.iter().map(|s| pods_of(s, Role::Server).len()).max().filter(|n| *n > 0)?;
    let names = deployments(record);
    let most_bands = names.as_ref().map_or(most_pods, Vec::len);
    let bands = most_bands <= BANDS;
    // A band takes about 24 bytes a column (two edges and a line), a cell of a heat map 30.
    let of_column = strategies.len() * if bands { most_bands * 24 } else { most_pods.min(ROWS) * 30 };
    let columns = Columns::of(record, (bytes / of_column).clamp(12, 48))?;
    let of = if names.is_some() { "deployment" } else { "server pod" };
    let titles: Vec<&str> = strategies.iter().map(|s| s.name.as_str()).collect();
    let label = format!("Requests per {of} over time under {}", list(&titles));
    let short_names: Vec<String> = names.iter().flatten().map(|name| shorten(name, 13)).collect();
    // The last panel's bands have their names beside them.
    let room = if names.is_some() { end_label_room(short_names.iter().map(String::as_str)) - 18.0 } else { 0.0 };
    let plot = svg(Size { width: WIDTH, height: HEIGHT, narrow: false }, "", &label, |c| {
        let width = (WIDTH - room - 12.0 * (strategies.len() - 1) as f64) / strategies.len() as f64;
        for (i, s) in strategies.iter().enumerate() {
            let left = i as f64 * (width + 12.0);
            let panel = Panel::new(c, record, &s.name, left, left + width);
            if bands {
                let peak = strategies.iter().map(|s| peak_rate(s, Role::Server, &columns)).fold(0.0, f64::max);
                let rates: Vec<Vec<f64>> = match &names {
                    Some(names) => names.iter().map(|name| rates_of(s, name, &columns)).collect(),
                    None => {
                        let pods = pods_of(s, Role::Server);
                        pods.iter().map(|&pod| columns.rates(buckets(s, pod))).collect()
                    }
                };
                let labels = if i + 1 == strategies.len() { short_names.as_slice() } else { &[] };
                draw_bands(c, &rates, labels, &columns, &panel, peak);
            } else {
                draw_heat(c, s, strategies, &columns, &panel);
            }
            panel.events(c, record);
        }
    });
    let unit = if names.is_some() {
        "a band is a deployment"
    } else if bands {
        "a band is a server pod"
    } else if most_pods <= ROWS {
        "a row is a server pod, brighter is more"
    } else {
        "a row is some server pods, brighter is more"
    };
    let caption = match titles.as_slice() {
        [one] => format!("Requests over time under {one}: {unit}."),
        [first, other, ..] => {
            let why = if record.strategies.len() > 2 { ", which differs most from it" } else { "" };
            format!("Requests over time: {first}, and {other}{why}; {unit}.")
        }
        [] => return None,
    };
    Some(Thumb { caption, plot })
}

/// One strategy's rectangle with its name above and its time below.
struct Panel {
    x: Scale,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Panel {
    fn new(c: &mut Canvas<'_>, record: &RunRecord, name: &str, left: f64, right: f64) -> Self {
        // Room for half of the first tick's label, and for the last with its unit.
        let x = Scale::linear(0.0, record.duration_s, left + 4.0, right - 18.0);
        let panel = Self { x, left, right, top: 20.0, bottom: HEIGHT - 24.0 };
        let fits =
            (4..=name.chars().count()).rev().map(|n| shorten(name, n)).find(|n| width_px(n) * 1.16 < right - left);
        c.bold((left, 8.0), &fits.unwrap_or_else(|| name.to_owned()), Anchor::Start, INK);
        time_axis(c, &panel.x, panel.bottom, if right - left < 200.0 { 3 } else { 6 });
        panel
    }

    /// Events, and the shade of the warm-up.
    fn events(&self, c: &mut Canvas<'_>, record: &RunRecord) {
        if record.warm_up_s > 0.0 {
            let (from, to, top) = (self.x.px(0.0), self.x.px(record.warm_up_s), self.top + 12.0);
            c.veil(&[(from, top), (to, top), (to, self.bottom), (from, self.bottom)], MUTED);
        }
        for event in record.events.iter().filter(|e| (0.0..=record.duration_s).contains(&e.at_s)) {
            let x = self.x.px(event.at_s);
            c.line((x, self.top + 12.0), (x, self.bottom), EVENT, 1.0);
        }
    }
}

/// `labels`: the bands' names, or nothing where they have none.
fn draw_bands(c: &mut Canvas<'_>, bands: &[Vec<f64>], labels: &[String], columns: &Columns, panel: &Panel, peak: f64) {
    let y = Scale::linear(0.0, peak * 1.02, panel.bottom, panel.top + 12.0);
    c.line((panel.left + 4.0, y.px(peak)), (panel.right - 18.0, y.px(peak)), GRID, 0.5);
    let mut floor = vec![0.0; columns.spans.len()];
    let mut ends = Vec::new();
    for (n, rates) in bands.iter().enumerate() {
        let ceiling: Vec<f64> = floor.iter().zip(rates).map(|(a, b)| a + b).collect();
        if rates.iter().any(|r| *r > 0.0) {
            let top = edge(&ceiling, columns, panel, &y);
            let mut outline = top.clone();
            outline.extend(edge(&floor, columns, panel, &y).into_iter().rev());
            c.area(&outline, series(n));
            c.path(&top, PAPER, 0.5);
        }
        let middle = (floor.last().copied().unwrap_or(0.0) + ceiling.last().copied().unwrap_or(0.0)) / 2.0;
        let text = labels.get(n).cloned();
        ends.extend(text.map(|text| EndLabel { x: panel.right - 18.0, y: y.px(middle), text, colour: series(n) }));
        floor = ceiling;
    }
    // The first band is at the bottom, so labels are sorted from above.
    ends.reverse();
    end_labels(c, &ends, panel.right - 18.0, panel.top + 12.0, panel.bottom - 4.0, INK);
    c.text((panel.left, y.px(peak) - 7.0), &format!("{} per s", short(peak.round())), Anchor::Start, MUTED);
}

/// Failed over ended requests of the strategies, or of the first and the one that differs most if they are many.
fn failures(record: &RunRecord) -> Option<Thumb> {
    let columns = Columns::of(record, 60)?;
    let mut drawn: Vec<(usize, &StrategyRecord)> = record.strategies.iter().enumerate().collect();
    if drawn.len() > LINES {
        let base = failed_part(drawn[0].1).unwrap_or(0.0);
        let apart = |s: &StrategyRecord| (failed_part(s).unwrap_or(0.0) - base).abs();
        let far = drawn.iter().copied().reduce(|a, b| if apart(b.1) > apart(a.1) { b } else { a })?;
        drawn = vec![drawn[0], far];
    }
    let lines: Vec<Vec<Option<f64>>> = drawn.iter().map(|(_, s)| failed_percent(s, &columns)).collect();
    let most = lines.iter().flatten().flatten().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let names: Vec<&str> = drawn.iter().map(|(_, s)| s.name.as_str()).collect();
    let texts: Vec<String> = names.iter().map(|name| shorten(name, 16)).collect();
    let room = end_label_room(texts.iter().map(String::as_str)).min(WIDTH * 0.42);
    let label = format!("Part of the requests that failed over time under {}", list(&names));
    let plot = svg(Size { width: WIDTH, height: HEIGHT, narrow: false }, "dashed", &label, |c| {
        let (left, right, top, bottom) = (32.0, WIDTH - room, 18.0, HEIGHT - 24.0);
        let x = Scale::linear(0.0, record.duration_s, left, right);
        let y = Scale::linear(0.0, most * 1.02, bottom, top);
        let panel = Panel { x, left: left - 4.0, right: right + 18.0, top: top - 12.0, bottom };
        time_axis(c, &panel.x, bottom, 4);
        y_axis(c, &y, left, right, 4);
        c.text((0.0, 6.0), "% failed", Anchor::Start, MUTED);
        panel.events(c, record);
        let mut ends = Vec::new();
        for ((line, (i, _)), text) in lines.iter().zip(&drawn).zip(&texts) {
            let mut end = None;
            // A gap where nothing ended.
            for run in line.iter().zip(&columns.spans).collect::<Vec<_>>().split(|(value, _)| value.is_none()) {
                let middle = |(value, span): &(&Option<f64>, &(f64, f64))| {
                    Some((panel.x.px((span.0 + span.1) / 2.0), y.px((**value)?)))
                };
                let points: Vec<(f64, f64)> = run.iter().filter_map(middle).collect();
                c.path(&points, series(*i), 1.5);
                end = points.last().copied().or(end);
            }
            ends.extend(end.map(|(x, y)| EndLabel { x, y, text: text.clone(), colour: series(*i) }));
        }
        end_labels(c, &ends, right, top, bottom, INK);
    });
    let which = if drawn.len() < record.strategies.len() { ", which differs most from it" } else { "" };
    let caption = format!("Requests that failed over time, in % of those that ended: {}{which}.", list(&names));
    Some(Thumb { caption, plot })
}

fn failed_percent(s: &StrategyRecord, columns: &Columns) -> Vec<Option<f64>> {
    let (ok, failed) = (columns.rates(&s.timeline.ok), columns.rates(&s.timeline.failed));
    ok.iter().zip(failed).map(|(ok, failed)| (ok + failed > 0.0).then(|| failed / (ok + failed) * 100.0)).collect()
}

fn edge(values: &[f64], columns: &Columns, panel: &Panel, y: &Scale) -> Vec<(f64, f64)> {
    values
        .iter()
        .zip(&columns.spans)
        .flat_map(|(v, (from, to))| {
            // Level at both ends of the run, else through the middles of the columns.
            let first = (*from == 0.0).then(|| (panel.x.px(*from), y.px(*v)));
            let last = columns.spans.last().is_some_and(|end| end.1 == *to).then(|| (panel.x.px(*to), y.px(*v)));
            first.into_iter().chain([(panel.x.px((from + to) / 2.0), y.px(*v))]).chain(last)
        })
        .collect()
}

fn draw_heat(c: &mut Canvas<'_>, s: &StrategyRecord, all: &[&StrategyRecord], columns: &Columns, panel: &Panel) {
    let rows_of = |s: &StrategyRecord| {
        let pods = pods_of(s, Role::Server);
        heat_rates(s, &pods, pods.len().div_ceil(ROWS).max(1), columns)
    };
    // One scale for both.
    let every: Vec<Vec<Option<f64>>> = all.iter().flat_map(|s| rows_of(s)).collect();
    let (peak, _) = heat_peak(&every);
    let rows = rows_of(s);
    let top = panel.top + 12.0;
    let row_px = (panel.bottom - top) / rows.len().max(1) as f64;
    let mut cells: Vec<(usize, f64, f64, f64)> = Vec::new();
    for (r, row) in rows.iter().enumerate() {
        let y = top + r as f64 * row_px;
        for (cell, (from, to)) in row.iter().zip(&columns.spans) {
            let Some(rate) = cell else { continue };
            let level = heat_level(if peak > 0.0 { rate / peak } else { 0.0 });
            match cells.last_mut() {
                Some(last) if last.0 == level && last.2 == *from && last.3 == y => last.2 = *to,
                _ => cells.push((level, *from, *to, y)),
            }
        }
    }
    // By level: neighbouring rectangles of one colour become one path.
    cells.sort_by_key(|cell| cell.0);
    for (level, from, to, y) in cells {
        c.rect((panel.x.px(from), y), (panel.x.px(to), y + row_px), heat(level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_pod_is_the_busy_one_makes_no_difference() {
        // Ranked, so both are 30 and nothing.
        assert_eq!(distance(&[vec![30.0, 0.0, 0.0]], &[vec![30.0, 0.0, 0.0]]), 0.0);
        // From all on one to even: 20 of 30 move.
        assert_eq!(distance(&[vec![30.0, 0.0, 0.0]], &[vec![10.0, 10.0, 10.0]]), 20.0);
        // 6 requests that one strategy does not serve are 6, wherever they are missing.
        assert_eq!(distance(&[vec![10.0, 10.0, 10.0]], &[vec![8.0, 8.0, 8.0]]), 6.0);
        // One pod more with an even part: 7.5 at the fourth rank came from the others.
        assert_eq!(distance(&[vec![10.0, 10.0, 10.0]], &[vec![7.5, 7.5, 7.5, 7.5]]), 7.5);
    }
}
