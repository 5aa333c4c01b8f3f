//! Stable against canary: what part of a service's requests each of its deployments got, and how many of those failed.
//!
//! Only for services that more than one deployment answers. A request is the deployment's whose pod its last attempt reached.

use std::fmt::Write as _;

use super::axis::{EndLabel, Scale, end_labels, time_axis, y_axis};
use super::canvas::{Anchor, Canvas, Size, svg};
use super::colour::{INK, MUTED, PAPER, series};
use super::figure::{Figure, main_sizes};
use super::requests::Shared;
use super::tables::scroll;
use super::text::{escape, keep_units, shorten};
use super::time::{Columns, Frame, Track};
use crate::canary::share_of_one;
use crate::number::{count, list, percent, sig3};
use crate::record::{DeploymentRecord, RunRecord, StrategyRecord};
use crate::versions::services;

/// Most deployments of a service that are drawn: as many as there are hues.
const MOST: usize = 7;

/// For each such service who got the requests, and who failed them.
pub(super) fn figures(record: &RunRecord, s: &StrategyRecord, shared: Shared) -> Vec<Figure> {
    let of_service = |(name, members): &(&str, Vec<&DeploymentRecord>)| {
        let drawn = &members[..members.len().min(MOST)];
        [shares(record, s, name, drawn, shared), errors(record, s, name, drawn, shared)]
    };
    services(s).iter().flat_map(of_service).flatten().collect()
}

fn shares(
    record: &RunRecord,
    s: &StrategyRecord,
    service: &str,
    members: &[&DeploymentRecord],
    shared: Shared,
) -> Option<Figure> {
    let label = format!("Part of the requests to {service} that each deployment got over time under {}", s.name);
    let plot = both(record, s, shared, 120.0, &label, "", |c, plot| {
        let y = Scale::linear(0.0, 100.0, plot.bottom, plot.top);
        plot.axes(c, &y, "%");
        let rates: Vec<Vec<f64>> = members.iter().map(|d| plot.columns.rates(&d.timeline.requests)).collect();
        let mut labels = Vec::new();
        let columns = 0..plot.columns.spans.len();
        let sums: Vec<f64> = columns.clone().map(|i| rates.iter().map(|of| of[i]).sum()).collect();
        let mut floor = vec![0.0; sums.len()];
        for (n, of) in rates.iter().enumerate() {
            let ceiling: Vec<f64> =
                columns.clone().map(|i| floor[i] + if sums[i] > 0.0 { of[i] / sums[i] * 100.0 } else { 0.0 }).collect();
            if of.iter().any(|rate| *rate > 0.0) {
                // Steps: a part changes at once, and a column without requests has none.
                let top = plot.steps(&ceiling, &y);
                let mut outline = top.clone();
                outline.extend(plot.steps(&floor, &y).into_iter().rev());
                c.area(&outline, series(n));
                c.path(&top, PAPER, 0.5);
            }
            let last = (0..sums.len()).rev().find(|&i| sums[i] > 0.0).unwrap_or(0);
            let middle = (floor[last] + ceiling[last]) / 2.0;
            let text = shorten(&members[n].name, 16);
            labels.push(EndLabel { x: plot.frame.right, y: y.px(middle), text, colour: series(n) });
            floor = ceiling;
        }
        plot.track.verticals(c, plot.top, plot.bottom);
        labels.reverse();
        end_labels(c, &labels, plot.frame.right, plot.top, plot.bottom, INK);
    })?;
    let parts: Vec<String> = members.iter().map(|d| format!("{} {}", d.name, percent(d.share))).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Some(Figure {
        finding: format!("Of the requests that {service} answered, {}.", list(&parts)),
        how:
            "A band is a deployment, its height its part of the requests that ended in that time; blank where none did."
                .to_owned(),
        plot,
    })
}

fn errors(
    record: &RunRecord,
    s: &StrategyRecord,
    service: &str,
    members: &[&DeploymentRecord],
    shared: Shared,
) -> Option<Figure> {
    let failed = |d: &DeploymentRecord| d.timeline.failed.iter().any(|n| *n > 0);
    if !members.iter().any(|d| failed(d)) {
        return None;
    }
    let rates = |columns: &Columns, d: &DeploymentRecord| -> Vec<Option<f64>> {
        let (all, failed) = (columns.rates(&d.timeline.requests), columns.rates(&d.timeline.failed));
        all.iter().zip(failed).map(|(all, failed)| (*all > 0.0).then(|| (failed / all * 100.0).min(100.0))).collect()
    };
    let label = format!("Part of the requests to {service} that failed at each deployment over time under {}", s.name);
    let plot = both(record, s, shared, 110.0, &label, "dashed", |c, plot| {
        let lines: Vec<Vec<Option<f64>>> = members.iter().map(|d| rates(&plot.columns, d)).collect();
        let most = lines.iter().flatten().flatten().copied().fold(0.0, f64::max);
        let y = Scale::linear(0.0, most * 1.05, plot.bottom, plot.top);
        plot.axes(c, &y, "% failed");
        plot.track.verticals(c, 0.0, plot.bottom);
        let mut labels = Vec::new();
        for (n, line) in lines.iter().enumerate() {
            let mut end = None;
            let mut path: Vec<(f64, f64)> = Vec::new();
            // A gap where the deployment got nothing.
            for (i, value) in line.iter().chain([&None]).enumerate() {
                match (value, plot.columns.spans.get(i)) {
                    (Some(value), Some((from, to))) => {
                        path.extend([(plot.x.px(*from), y.px(*value)), (plot.x.px(*to), y.px(*value))]);
                    }
                    _ => {
                        if let Some(&last) = path.last() {
                            c.path(&path, series(n), 1.5);
                            end = Some(last);
                        }
                        path.clear();
                    }
                }
            }
            if let Some((x, y)) = end {
                labels.push(EndLabel { x, y, text: shorten(&members[n].name, 16), colour: series(n) });
            }
        }
        end_labels(c, &labels, plot.frame.right, plot.top, plot.bottom, INK);
    })?;
    let of = |d: &DeploymentRecord| match d.failed {
        0 => "none".to_owned(),
        failed if failed == d.requests => "all".to_owned(),
        failed => percent(failed as f64 / d.requests as f64),
    };
    let parts: Vec<String> = members
        .iter()
        .filter(|d| d.requests > 0)
        .enumerate()
        .map(|(i, d)| format!("{} {}{}", d.name, of(d), if i == 0 { " of its requests" } else { "" }))
        .collect();
    Some(Figure {
        finding: format!("Failed: {}.", parts.join(", ")),
        how: "Failed over ended requests of each deployment; a gap where it got none.".to_owned(),
        plot,
    })
}

/// A row a deployment, for each service that several answer.
pub(super) fn table(s: &StrategyRecord) -> String {
    let mut html = String::new();
    for (service, members) in services(s) {
        let mut body = String::new();
        let tells = members.iter().any(|d| d.detect_requests.is_some());
        for d in &members {
            let latency = |ms: f64| if d.ok > 0 { sig3(ms) } else { "–".to_owned() };
            let _ = writeln!(
                body,
                "<tr><th scope=\"row\" class=\"l\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>{}</tr>",
                escape(&d.name),
                count(d.requests),
                percent(d.share),
                count(d.failed),
                d.error_rate.map_or_else(|| "–".to_owned(), percent),
                latency(d.latency_ms.p50),
                latency(d.latency_ms.p99),
                if tells {
                    let found = d.detect_requests.map_or_else(|| "–".to_owned(), count);
                    format!("<td class=\"n\">{found}</td>")
                } else {
                    String::new()
                }
            );
        }
        let caption = format!("Deployments of {service} under {}", s.name);
        html.push_str(&scroll(
            &caption,
            &format!(
                "<table><caption>Who answered the requests to {}</caption><thead><tr><th scope=\"col\" class=\"l\">deployment</th>\
                 <th scope=\"col\">requests</th><th scope=\"col\">share</th><th scope=\"col\">failed</th><th scope=\"col\">error rate</th>\
                 <th scope=\"col\">p50 ms</th><th scope=\"col\">p99 ms</th>{}</tr></thead><tbody>\n{body}</tbody></table>",
                escape(service),
                if tells { "<th scope=\"col\">told after</th>" } else { "" }
            ),
        ));
        if tells {
            html.push_str(&told(s, &members));
        }
    }
    html
}

/// How to read the last column, and what the failures cost.
fn told(s: &StrategyRecord, members: &[&DeploymentRecord]) -> String {
    let equal: Vec<String> = [1, 2, 3, 4, 9].map(|n| percent(share_of_one(n))).into();
    let budget = s.error_budget_burned.map_or_else(String::new, |part| match part {
        // Percent are no words for many times.
        times if times >= 2.0 => format!(" Failed requests used up {} × the error budget.", sig3(times)),
        part => format!(" Failed requests used up {} of the error budget.", percent(part)),
    });
    let all = members.iter().fold(0u64, |sum, d| sum.saturating_add(d.requests));
    format!(
        "<p class=\"note\">Told after: requests to the service, of which this run had {}, until the deployment's error rate is told \
         from the others' with 95 % power at 5 % significance. One canary pod beside 1, 2, 3, 4 or 9 equal ones gets {}; \
         other parts need weights or a route.{}</p>\n",
        count(all),
        escape(&keep_units(&equal.join(", "))),
        escape(&keep_units(&budget))
    )
}

/// What a plot over time needs in one of its sizes.
struct Plot {
    size: Size,
    columns: Columns,
    frame: Frame,
    track: Track,
    x: Scale,
    top: f64,
    bottom: f64,
}

impl Plot {
    fn axes(&self, c: &mut Canvas<'_>, y: &Scale, unit: &str) {
        time_axis(c, &self.x, self.bottom, if self.size.narrow { 4 } else { 8 });
        y_axis(c, y, self.frame.left, self.frame.right, 4);
        c.text((0.0, 8.0), unit, Anchor::Start, MUTED);
    }

    fn steps(&self, values: &[f64], y: &Scale) -> Vec<(f64, f64)> {
        let mut steps: Vec<(f64, f64)> = Vec::new();
        for (value, (from, to)) in values.iter().zip(&self.columns.spans) {
            let at = y.px(*value);
            match steps.last_mut() {
                // A level that stays is one stroke.
                Some(last) if last.1 == at => last.0 = self.x.px(*to),
                _ => steps.extend([(self.x.px(*from), at), (self.x.px(*to), at)]),
            }
        }
        steps
    }
}

fn both(
    record: &RunRecord,
    s: &StrategyRecord,
    shared: Shared,
    height: f64,
    label: &str,
    class: &str,
    draw: impl Fn(&mut Canvas<'_>, &Plot),
) -> Option<String> {
    let mut svgs = String::new();
    for size in main_sizes(height, height) {
        let columns = Columns::of(record, if size.narrow { shared.columns.min(60) } else { shared.columns })?;
        let frame = Frame::new(size, shared.label_room);
        let (track, x) = (Track::new(record, frame, size).of(record, s, frame), frame.scale(record));
        let plot = Plot { size, columns, frame, track, x, top: 18.0, bottom: size.height - 24.0 };
        svgs.push_str(&svg(size, class, label, |c| draw(c, &plot)));
    }
    Some(svgs)
}
