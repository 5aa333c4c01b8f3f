//! Who gets the traffic: requests per pod over time. Stacked bands up to twelve pods, a heat map beyond.

use super::axis::{EndLabel, Scale, end_labels, time_axis, y_axis};
use super::canvas::{Anchor, Canvas, Size, svg};
use super::colour::{HEAT_LEVELS, INK, MUTED, PAPER, heat, heat_level, series};
use super::figure::{Figure, finding, main_sizes};
use super::text::shorten;
use super::time::{Columns, Frame, Track};
use crate::measure::imbalance;
use crate::number::{count, percent, plural, short, sig3};
use crate::record::{PodRecord, Role, RunRecord, StrategyRecord};
use crate::summary::{self, EVEN, is_in_server};
use crate::verdict;
use crate::versions;

/// Most pods that are drawn as bands.
pub(super) const BANDS: usize = 12;

/// Facts of the whole page that every strategy's plots share, so that they can be compared by eye.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    /// Room for labels right of every time plot.
    pub(super) label_room: f64,
    /// Most columns of a band plot.
    pub(super) columns: usize,
    /// Most cells of a heat map.
    pub(super) cells: usize,
}

/// `None` if the strategy has no pod of the role or the record no timeline.
pub(super) fn figure(record: &RunRecord, s: &StrategyRecord, role: Role, shared: Shared) -> Option<Figure> {
    let mut pods = pods_of(s, role);
    if pods.is_empty() {
        return None;
    }
    let groups = groups(s, &mut pods);
    let bands = pods.len() <= BANDS;
    let height = if bands { (196.0f64).max(pods.len() as f64 * 15.0) } else { 260.0 };
    let mut how = if bands {
        let colour = if groups.is_some() { ", its colour its deployment" } else { "" };
        format!("A band is a pod{colour}, its height the requests per second it received; vertical lines are events.")
    } else {
        String::new()
    };
    if role == Role::Proxy && s.pods.iter().any(|p| is_in_server(s, p)) {
        how.push_str(" Sidecars in server pods get what their servers get, and are not drawn.");
    }
    let label = format!("Requests per {} pod over time under {}", word(role), s.name);
    let mut plot = String::new();
    for size in main_sizes(height, height.min(230.0).max(pods.len().min(BANDS) as f64 * 15.0)) {
        let frame = Frame::new(size, shared.label_room);
        let track = Track::new(record, frame, size).of(record, s, frame);
        let size = Size { height: size.height + track.height() + 24.0, ..size };
        if bands {
            let most = if size.narrow { shared.columns.min(60) } else { shared.columns };
            let columns = Columns::of(record, most)?;
            // One scale for the page.
            let peak = record.strategies.iter().map(|s| peak_rate(s, role, &columns)).fold(0.0, f64::max);
            plot.push_str(&svg(size, "", &label, |c| {
                let area = Area::new(c, record, size, frame, &track);
                draw_bands(c, s, &pods, groups.as_deref(), &columns, &area, peak);
            }));
        } else {
            let rows_most = if size.narrow { 36 } else { 50 };
            let per_row = pods.len().div_ceil(rows_most);
            let rows = pods.len().div_ceil(per_row);
            let most = (shared.cells / rows).clamp(16, if size.narrow { 60 } else { 120 });
            let columns = Columns::of(record, most)?;
            let rates = heat_rates(s, &pods, per_row, &columns);
            let (peak, capped) = heat_peak(&rates);
            if !size.narrow {
                let row = if per_row == 1 { "A row is a pod".to_owned() } else { format!("A row is {per_row} pods") };
                let order = if groups.is_some() { "by deployment and then " } else { "" };
                how = format!(
                    "{row} {order}in order of creation, brighter is more requests per second{}; blank: no such pod; vertical lines are events.{}",
                    if per_row == 1 { "" } else { " and pod" },
                    if capped { " The brightest stands for anything above its figure." } else { "" }
                );
            }
            plot.push_str(&svg(size, "", &label, |c| {
                let area = Area::new(c, record, size, frame, &track);
                draw_heat(c, s, &pods, per_row, &rates, (peak, capped), &columns, &area);
            }));
        }
    }
    Some(Figure { finding: finding_of(record, s, role, &pods), how, plot })
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Proxy => "proxy",
        Role::Server => "server",
        Role::Support => "support",
    }
}

/// Without the sidecars of servers, whose picture is their servers' again.
pub(super) fn pods_of(s: &StrategyRecord, role: Role) -> Vec<usize> {
    s.pods.iter().enumerate().filter(|(_, p)| p.role == role && !is_in_server(s, p)).map(|(i, _)| i).collect()
}

/// Puts the pods of one deployment together, in the scenario's order of deployments, and gives each pod's place in it.
/// `None`, and nothing moved, where they all are of one deployment.
pub(super) fn groups(s: &StrategyRecord, pods: &mut [usize]) -> Option<Vec<usize>> {
    let mut names: Vec<&str> = s.deployments.iter().map(|d| d.name.as_str()).collect();
    for &pod in pods.iter() {
        if !names.contains(&s.pods[pod].deployment.as_str()) {
            names.push(&s.pods[pod].deployment);
        }
    }
    names.retain(|name| pods.iter().any(|&pod| s.pods[pod].deployment == *name));
    if names.len() < 2 {
        return None;
    }
    let group = |pod: usize| names.iter().position(|name| s.pods[pod].deployment == *name).unwrap_or(0);
    pods.sort_by_key(|&pod| group(pod));
    Some(pods.iter().map(|&pod| group(pod)).collect())
}

pub(super) fn buckets(s: &StrategyRecord, pod: usize) -> &[u32] {
    s.timeline.requests_per_pod.get(pod).map_or(&[], Vec::as_slice)
}

/// Highest sum of the role's pods in a column.
pub(super) fn peak_rate(s: &StrategyRecord, role: Role, columns: &Columns) -> f64 {
    let mut sums = vec![0.0; columns.spans.len()];
    for pod in pods_of(s, role) {
        for (sum, rate) in sums.iter_mut().zip(columns.rates(buckets(s, pod))) {
            *sum += rate;
        }
    }
    sums.into_iter().fold(0.0, f64::max)
}

/// The plot's rectangle with its axis of time and the event track above it.
struct Area<'a> {
    x: Scale,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    track: &'a Track,
}

impl<'a> Area<'a> {
    fn new(c: &mut Canvas<'_>, record: &RunRecord, size: Size, frame: Frame, track: &'a Track) -> Self {
        let area = Self {
            x: frame.scale(record),
            left: frame.left,
            right: frame.right,
            top: track.height() + 4.0,
            bottom: size.height - 24.0,
            track,
        };
        time_axis(c, &area.x, area.bottom, if size.narrow { 4 } else { 8 });
        area
    }
}

fn draw_bands(
    c: &mut Canvas<'_>,
    s: &StrategyRecord,
    pods: &[usize],
    groups: Option<&[usize]>,
    columns: &Columns,
    area: &Area<'_>,
    peak: f64,
) {
    let y = Scale::linear(0.0, peak * 1.02, area.bottom, area.top + 12.0);
    y_axis(c, &y, area.left, area.right, 5);
    c.text((0.0, area.top - 2.0), "per s", Anchor::Start, MUTED);
    let mut floor = vec![0.0; columns.spans.len()];
    let mut labels = Vec::new();
    for (n, &pod) in pods.iter().enumerate() {
        let rates = columns.rates(buckets(s, pod));
        let ceiling: Vec<f64> = floor.iter().zip(&rates).map(|(a, b)| a + b).collect();
        let group = |n: usize| groups.and_then(|groups| groups.get(n)).copied();
        let colour = series(group(n).unwrap_or(n));
        if rates.iter().any(|r| *r > 0.0) {
            let top = edge(&ceiling, columns, area, &y);
            let mut outline = top.clone();
            outline.extend(edge(&floor, columns, area, &y).into_iter().rev());
            c.area(&outline, colour);
            // A line of paper between bands that touch; between those of one colour it is all that parts them.
            c.path(&top, PAPER, if groups.is_some() { 1.0 } else { 0.5 });
        }
        let middle = (floor.last().copied().unwrap_or(0.0) + ceiling.last().copied().unwrap_or(0.0)) / 2.0;
        let end = columns.spans.last().map_or(area.right, |span| area.x.px(span.1));
        // A deployment that was never called has one label for all of its pods.
        let called = |other: usize| !is_uncalled(&s.pods[pods[other]]);
        let idle = group(n).is_some() && (0..pods.len()).all(|other| group(other) != group(n) || !called(other));
        if !idle {
            labels.push(EndLabel { x: end, y: y.px(middle), text: pod_label(&s.pods[pod]), colour });
        } else if n == 0 || group(n - 1) != group(n) {
            let text = format!("{} none", shorten(&s.pods[pod].deployment, 14));
            labels.push(EndLabel { x: end, y: y.px(middle), text, colour });
        }
        floor = ceiling;
    }
    area.track.verticals(c, area.top, area.bottom);
    area.track.labels(c, area.top);
    // The first band is at the bottom, so labels are sorted from above.
    labels.reverse();
    end_labels(c, &labels, area.right, area.top + 6.0, area.bottom, INK);
}

pub(super) fn pod_label(pod: &PodRecord) -> String {
    let name = shorten(&pod.name, 14);
    if is_uncalled(pod) {
        format!("{name} none")
    } else if pod.removed_s.is_some() {
        format!("{name} gone")
    } else {
        name
    }
}

fn is_uncalled(pod: &PodRecord) -> bool {
    pod.requests == 0 && pod.first_request_s.is_none()
}

/// A band's edge through the middles of the columns, level at both ends.
fn edge(values: &[f64], columns: &Columns, area: &Area<'_>, y: &Scale) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> =
        values.iter().enumerate().map(|(i, v)| (area.x.px(columns.middle(i)), y.px(*v))).collect();
    if let (Some(first), Some(last), Some(span), Some(end)) =
        (points.first().copied(), points.last().copied(), columns.spans.first(), columns.spans.last())
    {
        points.insert(0, (area.x.px(span.0), first.1));
        points.push((area.x.px(end.1), last.1));
    }
    points
}

/// Requests per second and pod for each row and column; `None` where none of the row's pods existed.
pub(super) fn heat_rates(
    s: &StrategyRecord,
    pods: &[usize],
    per_row: usize,
    columns: &Columns,
) -> Vec<Vec<Option<f64>>> {
    pods.chunks(per_row)
        .map(|row| {
            let mut sums = vec![0.0; columns.spans.len()];
            let mut there = vec![0u32; columns.spans.len()];
            for &pod in row {
                let p = &s.pods[pod];
                let rates = columns.rates(buckets(s, pod));
                for (i, (start, end)) in columns.spans.iter().enumerate() {
                    if p.created_s < *end && p.removed_s.is_none_or(|removed| removed > *start) {
                        sums[i] += rates[i];
                        there[i] += 1;
                    }
                }
            }
            sums.into_iter().zip(there).map(|(sum, n)| (n > 0).then(|| sum / f64::from(n))).collect()
        })
        .collect()
}

/// Where the scale of a heat map ends: at the largest rate or, if a few cells stand far out and would leave the others
/// all dark, at the 98th percentile; then what is beyond is cut.
pub(super) fn heat_peak(rates: &[Vec<Option<f64>>]) -> (f64, bool) {
    let mut all: Vec<f64> = rates.iter().flatten().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let most = all.last().copied().unwrap_or(0.0);
    let usual = all.get(all.len() * 98 / 100).copied().unwrap_or(0.0);
    if usual > 0.0 && most > 1.5 * usual { (usual, true) } else { (most, false) }
}

fn scale_text(peak: f64) -> String {
    if peak >= 10.0 { short(peak.round()) } else { short(peak) }
}

#[expect(clippy::too_many_arguments, reason = "one call, each a different thing to draw")]
fn draw_heat(
    c: &mut Canvas<'_>,
    s: &StrategyRecord,
    pods: &[usize],
    per_row: usize,
    rates: &[Vec<Option<f64>>],
    (peak, capped): (f64, bool),
    columns: &Columns,
    area: &Area<'_>,
) {
    let (top, bottom) = (area.top + 4.0, area.bottom);
    let row_px = (bottom - top) / rates.len() as f64;
    // By level, so that cells of one colour become one path; each as long as its level lasts.
    let mut runs: Vec<(usize, f64, f64, f64)> = Vec::new();
    for (r, row) in rates.iter().enumerate() {
        let y = top + r as f64 * row_px;
        let mut open: Option<(usize, f64, f64)> = None;
        for (cell, (start, end)) in row.iter().zip(&columns.spans) {
            let level = cell.map(|rate| heat_level(if peak > 0.0 { rate / peak } else { 0.0 }));
            open = match (open, level) {
                (Some((l, from, _)), Some(level)) if l == level => Some((l, from, *end)),
                (previous, level) => {
                    runs.extend(previous.map(|(l, from, to)| (l, from, to, y)));
                    level.map(|l| (l, *start, *end))
                }
            };
        }
        runs.extend(open.map(|(l, from, to)| (l, from, to, y)));
    }
    runs.sort_by_key(|run| run.0);
    for (level, from, to, y) in runs {
        c.rect((area.x.px(from), y), (area.x.px(to), y + row_px), heat(level));
    }
    if per_row == 1 {
        // A deployment's rows end at a line.
        for (r, pair) in pods.windows(2).enumerate() {
            if s.pods[pair[0]].deployment != s.pods[pair[1]].deployment {
                let y = top + (r + 1) as f64 * row_px;
                c.line((area.left, y), (area.right, y), INK, 1.0);
            }
        }
    }
    // A pod's name beside its row, as many as have room; the first of each deployment is always among them.
    let every = (15.0 / row_px).ceil().max(1.0) as usize;
    let deployment = |r: usize| s.pods[pods[r * per_row]].deployment.as_str();
    let firsts: Vec<usize> = (1..rates.len()).filter(|&r| deployment(r) != deployment(r - 1)).collect();
    for r in 0..rates.len() {
        let crowded = firsts.iter().any(|first| r.abs_diff(*first) < every);
        if firsts.contains(&r) || (r % every == 0 && !crowded) {
            let y = top + (r as f64 + 0.5) * row_px;
            let name = shorten(&s.pods[pods[r * per_row]].name, 14);
            c.text((area.right + 6.0, y.max(top + 6.0)), &name, Anchor::Start, INK);
        }
    }
    area.track.verticals(c, area.top, area.bottom);
    area.track.labels(c, area.top);
    scale_bar(c, area, top, bottom, (peak, capped));
}

/// The colours and what they stand for, left of the map.
fn scale_bar(c: &mut Canvas<'_>, area: &Area<'_>, top: f64, bottom: f64, (peak, capped): (f64, bool)) {
    let step = (bottom - top - 18.0) / HEAT_LEVELS as f64;
    for level in 0..HEAT_LEVELS {
        let y = bottom - (level + 1) as f64 * step;
        c.rect((area.left - 16.0, y), (area.left - 8.0, y + step), heat(level));
    }
    c.text((area.left - 20.0, bottom - 6.0), "0", Anchor::End, MUTED);
    c.text(
        (area.left - 20.0, top + 24.0),
        &format!("{}{}", if capped { ">" } else { "" }, scale_text(peak)),
        Anchor::End,
        MUTED,
    );
    c.text((area.left - 8.0, top + 6.0), "per s", Anchor::End, MUTED);
}

fn finding_of(record: &RunRecord, s: &StrategyRecord, role: Role, pods: &[usize]) -> String {
    let total = pods.iter().fold(0u64, |sum, &i| sum.saturating_add(s.pods[i].requests));
    if total == 0 {
        return format!("No {} pod got a request.", word(role));
    }
    if let Some(reach) = summary::reach(record, s, role) {
        let mut text = verdict::reached(&reach);
        if reach.ready > 0 && reach.reached == 0 {
            text.push_str(&format!(", the others got all {}", count(total)));
        }
        return finding(&text);
    }
    if role == Role::Server
        && let Some(shares) = versions::shares(s)
    {
        // A deployment's name keeps its spelling.
        return format!("{shares}.");
    }
    if role == Role::Server
        && let Some(spread) = summary::spread(record, s)
    {
        return finding(&verdict::spread_of(s, &spread));
    }
    let per_s = sig3(total as f64 / record.duration_s);
    if let [only] = pods {
        let name = &s.pods[*only].name;
        return format!("The one {} pod, {name}, got all {}, {per_s} per s.", word(role), plural(total, "request"));
    }
    let counts: Vec<u64> = pods.iter().map(|&i| s.pods[i].requests).collect();
    if imbalance(&counts) <= EVEN {
        let pods = plural(pods.len() as u64, &format!("{} pod", word(role)));
        return format!("{pods} share {} evenly.", plural(total, "request"));
    }
    let busiest = pods.iter().copied().max_by_key(|&i| (s.pods[i].requests, usize::MAX - i)).unwrap_or(pods[0]);
    let part = s.pods[busiest].requests as f64 / total as f64;
    format!(
        "{} got {} of the {} at {}, {per_s} per s.",
        s.pods[busiest].name,
        percent(part),
        plural(total, "request"),
        plural(pods.len() as u64, &format!("{} pod", word(role)))
    )
}
