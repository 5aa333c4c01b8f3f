//! The stages of the time to first traffic of every new pod, and where it stopped if it never got any.

use super::axis::{Scale, time_axis};
use super::canvas::{Anchor, Canvas, Size, svg};
use super::colour::{INK, MUTED, NEVER, Rgb, series};
use super::figure::{Figure, side_sizes};
use super::text::{escape, shorten, width_px};
use crate::number::{list, short, sig3};
use crate::record::{Learnt, PodRecord, Role, RunRecord, StrategyRecord};
use crate::summary::new_pods;

/// How many stages there can be.
const STAGES: usize = 8;
const RESOLVABLE: usize = 4;
const RESOLVED: usize = 5;

/// A stage's name, and what to say of a pod that got no further than the stage before; none where the way by which callers
/// learn of the pod has no such stage.
fn stage(learnt: Learnt, stage: usize) -> Option<(&'static str, &'static str)> {
    use Learnt::{Balancer, ControlPlane, Dns, KubeProxy};
    Some(match (stage, learnt) {
        (0, _) => ("started", "its process never listened"),
        (1, _) => ("ready", "it was never ready"),
        (2, _) => ("in EndpointSlice", "no EndpointSlice had it as ready"),
        (3, Dns) => ("published", "its address was never published"),
        (3, KubeProxy) => ("in kube-proxy's rules", "kube-proxy never had it"),
        (3, ControlPlane) => ("known to the control plane", "the control plane never found it fit for use"),
        (3, Balancer) => ("known to the balancer", "the balancer never found it fit for use"),
        (RESOLVABLE, Dns) => ("resolvable", "the resolver answered from its cache to the end"),
        (RESOLVED, Dns) => ("resolved", "no caller learnt its address"),
        (RESOLVED, ControlPlane | Balancer) => ("pushed", "its address was pushed to no caller"),
        (RESOLVABLE, _) | (RESOLVED, KubeProxy) => return None,
        (6, _) => ("connected", "no caller connected to it"),
        _ => ("first request", "no request was sent to it"),
    })
}

/// The name of a stage that is there.
fn name_of(way: &Way<'_>, at: usize) -> &'static str {
    stage(way.pod.learnt, at).map_or("", |(name, _)| name)
}

/// Most pods that are drawn.
const DRAWN: usize = 16;
const ROW_PX: f64 = 36.0;

/// A new pod's way to its first request.
struct Way<'a> {
    pod: &'a PodRecord,
    /// Stage, and seconds after creation from … to.
    steps: Vec<(usize, f64, f64)>,
    /// The first stage it never reached.
    missing: Option<usize>,
    /// When it, or the run, ended, after creation.
    end_s: f64,
}

/// `None` if there are no new pods to reach.
pub(super) fn figure(record: &RunRecord, s: &StrategyRecord) -> Option<Figure> {
    let ways: Vec<Way<'_>> =
        [Role::Server, Role::Proxy].iter().flat_map(|role| new_pods(s, *role)).map(|pod| way(record, s, pod)).collect();
    if ways.is_empty() {
        return None;
    }
    let drawn = &ways[..ways.len().min(DRAWN)];
    let longest = drawn
        .iter()
        .map(|w| if w.missing.is_some() { w.end_s } else { w.steps.last().map_or(0.0, |step| step.2) })
        .fold(0.0, f64::max);
    let height = drawn.len() as f64 * ROW_PX + 24.0;
    let label = format!("Stages from creation to first request of each new pod under {}", s.name);
    let plot: String = side_sizes(height, height)
        .into_iter()
        .map(|size| svg(size, "", &label, |c| draw(c, size, drawn, longest)))
        .collect();
    let mut how = "A bar begins when the Deployment asks for the pod; each part ends when that stage is reached; a red line is waiting without end.".to_owned();
    if ways.len() > DRAWN {
        how.push_str(&format!(" The first {DRAWN} of {} new pods.", ways.len()));
    }
    Some(Figure { finding: finding(&ways), how, plot: key(&ways) + &plot })
}

fn way<'a>(record: &RunRecord, s: &StrategyRecord, pod: &'a PodRecord) -> Way<'a> {
    let mut moments: [Option<f64>; STAGES] = pod.moments();
    // What came after the first request was no step towards it: a sidecar serves its own pod before it is ready.
    for moment in &mut moments {
        *moment = moment.filter(|at| pod.first_request_s.is_none_or(|first| *at <= first));
    }
    // A stage without a moment before one with (a ClusterIP resolves no pod) is part of the next.
    let reached = moments.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
    let mut steps = Vec::new();
    let mut at = 0.0f64;
    for (stage, moment) in moments.iter().enumerate().take(reached) {
        if let Some(moment) = moment {
            let to = at.max(moment - pod.created_s);
            steps.push((stage, at, to));
            at = to;
        }
    }
    let end_s = (pod.removed_s.unwrap_or(record.duration_s).min(record.duration_s) - pod.created_s).max(at);
    // Records of before there were slices do not tell the cache from the look-up.
    let is_there = |at: usize| match at {
        RESOLVABLE => pod.endpoint_slice_s.is_some() && stage(pod.learnt, at).is_some(),
        RESOLVED => resolves(s, pod.role) && stage(pod.learnt, at).is_some(),
        _ => true,
    };
    Way { pod, steps, missing: (reached..STAGES).find(|at| is_there(*at)), end_s }
}

/// Whether callers learn addresses of pods of this role at all: behind a ClusterIP they connect without.
fn resolves(s: &StrategyRecord, role: Role) -> bool {
    let mut connected = s.pods.iter().filter(|p| p.role == role && p.connected_s.is_some()).peekable();
    connected.peek().is_none() || connected.any(|p| p.resolved_s.is_some())
}

fn finding(ways: &[Way<'_>]) -> String {
    let mut parts = Vec::new();
    // Of those that never got a request: how many stopped at which stage.
    let mut reasons: Vec<(usize, &str)> = ways.iter().filter_map(why).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        let names: Vec<&str> = ways.iter().filter(|w| why(w) == Some(reason)).map(|w| w.pod.name.as_str()).collect();
        parts.push(format!("{}: never a request, {}", list(&names), reason.1));
    }
    let slowest = ways.iter().filter(|w| w.missing.is_none()).max_by(|a, b| f64::total_cmp(&total(a), &total(b)));
    if let Some(way) = slowest {
        let longest = longest_step(way);
        parts.push(format!(
            "{} waited longest, {} s, {} s of it until {}",
            way.pod.name,
            sig3(total(way)),
            sig3(longest.1),
            name_of(way, longest.0)
        ));
    }
    format!("{}.", parts.join("; "))
}

/// Where a way stopped, and how to say so.
fn why(way: &Way<'_>) -> Option<(usize, &'static str)> {
    let at = way.missing?;
    Some((at, stage(way.pod.learnt, at)?.1))
}

fn total(way: &Way<'_>) -> f64 {
    way.steps.last().map_or(0.0, |step| step.2)
}

/// Stage and length of the longest step, the first of equals.
fn longest_step(way: &Way<'_>) -> (usize, f64) {
    way.steps.iter().map(|(stage, from, to)| (*stage, to - from)).fold((0, 0.0), |a, b| if b.1 > a.1 { b } else { a })
}

/// The stages and their colours, in the order of the bar.
fn key(ways: &[Way<'_>]) -> String {
    let names = |at: usize| {
        let mut names: Vec<&str> = ways.iter().map(|way| name_of(way, at)).filter(|name| !name.is_empty()).collect();
        names.dedup();
        names.join(" / ")
    };
    let items: String = (0..STAGES)
        .map(|at| (at, names(at)))
        .filter(|(_, names)| !names.is_empty())
        .map(|(at, names)| format!("<li><i class=\"k{at}\"></i>{}</li>", escape(&names)))
        .collect();
    format!("<ul class=\"key\" aria-label=\"Stages in the order of each bar\">{items}</ul>")
}

fn stage_colour(stage: usize) -> Rgb {
    // There are seven hues; the last step is a hop and mostly too short to see.
    if stage < STAGES - 1 { series(stage) } else { MUTED }
}

fn draw(c: &mut Canvas<'_>, size: Size, ways: &[Way<'_>], longest: f64) {
    let x = Scale::linear(0.0, longest * 1.02, 5.0, size.width - 14.0);
    for (n, way) in ways.iter().enumerate() {
        let top = n as f64 * ROW_PX;
        let name = shorten(&way.pod.name, 20);
        c.bold((5.0, top + 9.0), &name, Anchor::Start, INK);
        let text = match way.missing {
            Some(_) => format!("never: {}", why(way).map_or("", |(_, why)| why)),
            None => {
                let (stage, length) = longest_step(way);
                format!("{} s, {} of it until {}", sig3(total(way)), short_length(length), name_of(way, stage))
            }
        };
        c.text(
            (width_px(&name) * 1.16 + 16.0, top + 9.0),
            &text,
            Anchor::Start,
            if way.missing.is_some() { NEVER } else { MUTED },
        );
        let (y0, y1) = (top + 18.0, top + 30.0);
        for (stage, from, to) in &way.steps {
            if to > from {
                c.rect((x.px(*from), y0), (x.px(*to).max(x.px(*from) + 0.5), y1), stage_colour(*stage));
            }
        }
        if way.missing.is_some() {
            let from = total(way);
            c.line((x.px(from), y0 + 6.0), (x.px(way.end_s), y0 + 6.0), NEVER, 1.5);
            c.text((x.px(way.end_s) + 2.0, y0 + 6.0), "✗", Anchor::Start, NEVER);
        }
    }
    time_axis(c, &x, ways.len() as f64 * ROW_PX, if size.narrow { 4 } else { 5 });
}

fn short_length(seconds: f64) -> String {
    format!("{} s", short(sig_round(seconds)))
}

/// Three digits are enough for a length.
fn sig_round(seconds: f64) -> f64 {
    if seconds >= 100.0 { seconds.round() } else { (seconds * 100.0).round() / 100.0 }
}
