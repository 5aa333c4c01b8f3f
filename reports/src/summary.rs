//! The figures that the terminal table, the verdict and the page share: one row a strategy, how far new pods were
//! reached, and how evenly the load is spread once the last change has settled.

use crate::measure::{Window, imbalance, requests_in};
use crate::number;
use crate::record::{EventRecord, ExpectationRecord, PodRecord, ReplicatedStrategy, Role, RunRecord, StrategyRecord};
use crate::statistics::{
    CONNECTIONS, FAILED_SHARE, GOODPUT_PER_S, IMBALANCE, NODE_HOPS, P50_MS, P99_MS, P999_MS, TIME_TO_TRAFFIC_S,
};

/// Busiest pod at most 5 % over the mean: our own line between even and not.
pub(crate) const EVEN: f64 = 1.05;

/// A new pod without a request is said to get none "ever" only if it was ready this long, in seconds: the floor between
/// gRPC's look-ups of a name, so that every caller could have asked again. Our own line.
pub(crate) const PATIENCE_S: f64 = 30.0;

/// A first request this soon after a caller came is put down to that caller. Our own line.
const PROMPT_S: f64 = 1.0;

/// A strategy's row of the table. `None`: nothing to measure.
#[derive(Debug, Clone)]
pub(crate) struct Row<'a> {
    pub(crate) strategy: &'a StrategyRecord,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) p999_ms: Option<f64>,
    /// Failed over ended.
    pub(crate) error_part: Option<f64>,
    pub(crate) goodput_per_s: Option<f64>,
    pub(crate) imbalance: Option<f64>,
    pub(crate) first_traffic: FirstTraffic,
    pub(crate) hops: Option<f64>,
    pub(crate) connections: u64,
    /// p99 against the first strategy's; `None` for the first itself.
    pub(crate) delta_p99: Option<f64>,
}

/// Time from creation to first request of the new server pod that waited longest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FirstTraffic {
    /// No server pod was created after the start, or none of them could be reached before the run ended.
    NoNewPods,
    /// One of them got no request although it was there for [`PATIENCE_S`].
    Never,
    /// One of them got no request in the seconds from its creation to the end, too few of them to say never.
    NotWithin(f64),
    /// Seconds.
    After(f64),
}

pub(crate) fn rows(record: &RunRecord) -> Vec<Row<'_>> {
    let p99 = |s: &StrategyRecord| (s.requests.ok > 0).then_some(s.latency_ms.p99);
    let baseline = record.strategies.first().and_then(p99);
    record
        .strategies
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let ok = |value: f64| (s.requests.ok > 0).then_some(value);
            let ended = s.requests.ok.saturating_add(s.requests.failed);
            Row {
                strategy: s,
                p50_ms: ok(s.latency_ms.p50),
                p99_ms: p99(s),
                p999_ms: ok(s.latency_ms.p999),
                error_part: (ended > 0).then(|| s.requests.failed as f64 / ended as f64),
                goodput_per_s: Some(record.times().measured_s()).filter(|t| *t > 0.0).map(|t| s.requests.ok as f64 / t),
                imbalance: (ended > 0).then_some(s.imbalance),
                first_traffic: first_traffic(record, s),
                hops: ok(s.node_hops.mean),
                connections: s.connections.opened,
                delta_p99: if i == 0 { None } else { change(p99(s), baseline) },
            }
        })
        .collect()
}

fn change(value: Option<f64>, baseline: Option<f64>) -> Option<f64> {
    let (value, baseline) = (value?, baseline?);
    (baseline > 0.0).then(|| value / baseline - 1.0)
}

fn first_traffic(record: &RunRecord, s: &StrategyRecord) -> FirstTraffic {
    match reach(record, s, Role::Server) {
        Some(r) if r.reached < r.ready && r.longest_wait_s >= PATIENCE_S => FirstTraffic::Never,
        Some(r) if r.reached < r.ready => FirstTraffic::NotWithin(r.open_s),
        Some(r) if r.ready > 0 => FirstTraffic::After(r.worst_s),
        _ => FirstTraffic::NoNewPods,
    }
}

/// The pods of a role created after the start, without the sidecars of servers: those come with their servers, and what
/// reaches one is what reaches the other.
pub(crate) fn new_pods(s: &StrategyRecord, role: Role) -> impl Iterator<Item = &PodRecord> {
    s.pods.iter().filter(move |p| p.role == role && p.created_s > 0.0 && !is_in_server(s, p))
}

/// Whether a pod is a mesh's sidecar in the pod of a server: "server-3/proxy".
pub(crate) fn is_in_server(s: &StrategyRecord, pod: &PodRecord) -> bool {
    let host = pod.name.rsplit_once('/').filter(|_| pod.role == Role::Proxy);
    let deployment = host.and_then(|(host, _)| host.rsplit_once('-')).map(|(deployment, _)| deployment);
    deployment.is_some_and(|name| s.deployments.iter().any(|d| d.role == Role::Server && d.name == name))
}

/// How far the new pods of a role were reached. A pod whose address was never published cannot be blamed on a strategy,
/// so it is counted apart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reach<'a> {
    /// "server", or nothing if they are of several deployments.
    pub(crate) deployment: &'a str,
    /// New pods that were published or got a request.
    pub(crate) ready: u64,
    /// Those of them that got a request.
    pub(crate) reached: u64,
    /// New pods that were never published: not ready, or only at the very end.
    pub(crate) unready: u64,
    /// Longest from creation to first request, of those that got one.
    pub(crate) worst_s: f64,
    /// Shortest and longest time that one of those without a request was there and ready.
    pub(crate) waited_s: f64,
    pub(crate) longest_wait_s: f64,
    /// Longest time that one of those without a request was there.
    pub(crate) open_s: f64,
    /// The event that brought the caller without whom the slowest might wait still.
    pub(crate) only_after: Option<&'a EventRecord>,
}

/// `None` if the role has no new pods.
pub(crate) fn reach<'a>(record: &'a RunRecord, s: &'a StrategyRecord, role: Role) -> Option<Reach<'a>> {
    let mut reach = Reach {
        deployment: "",
        ready: 0,
        reached: 0,
        unready: 0,
        worst_s: 0.0,
        waited_s: f64::INFINITY,
        longest_wait_s: 0.0,
        open_s: 0.0,
        only_after: None,
    };
    let mut several = false;
    for pod in new_pods(s, role) {
        several |= !reach.deployment.is_empty() && reach.deployment != pod.deployment;
        reach.deployment = &pod.deployment;
        let end_s = pod.removed_s.unwrap_or(record.duration_s).min(record.duration_s);
        match (pod.first_request_s, pod.published_s) {
            (Some(first), _) => {
                reach.ready += 1;
                reach.reached += 1;
                if first - pod.created_s >= reach.worst_s {
                    reach.worst_s = first - pod.created_s;
                    reach.only_after = brought_by(record, s, pod);
                }
            }
            (None, Some(published)) => {
                reach.ready += 1;
                let waited_s = (end_s - pod.ready_s.unwrap_or(published)).max(0.0);
                reach.waited_s = reach.waited_s.min(waited_s);
                reach.longest_wait_s = reach.longest_wait_s.max(waited_s);
                reach.open_s = reach.open_s.max(end_s - pod.created_s);
            }
            (None, None) => reach.unready += 1,
        }
    }
    if several {
        reach.deployment = "";
    }
    (reach.ready + reach.unready > 0).then_some(reach)
}

/// The event to which a pod owes its first request: callers could have found it for [`PATIENCE_S`] and did not, until
/// a caller came that was not there before and called it at once. So a restarted client finds what a running one misses.
fn brought_by<'a>(record: &'a RunRecord, s: &StrategyRecord, pod: &PodRecord) -> Option<&'a EventRecord> {
    let (published_s, first_s) = (pod.published_s?, pod.first_request_s?);
    let calls = |caller: &&PodRecord| caller.role < pod.role && !is_in_server(s, caller);
    let newcomer = s.pods.iter().filter(calls).find(|caller| {
        caller.created_s - published_s >= PATIENCE_S
            && caller.started_s.is_some_and(|started| (0.0..=PROMPT_S).contains(&(first_s - started)))
    })?;
    record.events.iter().find(|event| (event.at_s - newcomer.created_s).abs() < 1e-6)
}

/// An expectation's sentence, without the strategy's name before it: wherever it is shown, the name has a place of its own.
pub(crate) fn words(e: &ExpectationRecord) -> &str {
    e.text.strip_prefix(e.strategy.as_str()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&e.text)
}

/// Requests of the server pods once the last change has settled: from the first bucket after every new server pod had
/// its first request (one that never got any: after it was ready) to the end, over the pods that were there all along.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spread {
    pub(crate) from_s: f64,
    /// Index into the strategy's pods, and requests.
    pub(crate) pods: Vec<(usize, u64)>,
    pub(crate) total: u64,
    pub(crate) imbalance: f64,
}

impl Spread {
    pub(crate) fn is_even(&self) -> bool {
        self.imbalance <= EVEN
    }

    /// Parts of the total, as (smallest, largest).
    pub(crate) fn extremes(&self) -> (f64, f64) {
        let part = |n: u64| n as f64 / self.total as f64;
        let counts = || self.pods.iter().map(|&(_, n)| n);
        (part(counts().min().unwrap_or(0)), part(counts().max().unwrap_or(0)))
    }

    pub(crate) fn busiest(&self) -> Option<usize> {
        // The first of equals, so that it reads the same whatever the order of comparison.
        self.pods.iter().rev().max_by_key(|&&(_, n)| n).map(|&(i, _)| i)
    }
}

/// `None` if no whole bucket or no request is left to count.
pub(crate) fn spread(record: &RunRecord, s: &StrategyRecord) -> Option<Spread> {
    let interval_s = record.interval_s;
    if interval_s <= 0.0 || !interval_s.is_finite() {
        return None;
    }
    let settled_s =
        new_pods(s, Role::Server).filter_map(|p| p.first_request_s.or(p.ready_s)).fold(record.warm_up_s, f64::max);
    let from_s = (settled_s / interval_s - 1e-6).ceil().max(0.0) * interval_s;
    let mut pods = Vec::new();
    for (i, pod) in s.pods.iter().enumerate().filter(|(_, p)| p.role == Role::Server) {
        let there = pod.created_s <= from_s
            && (pod.ready_s.is_some_and(|ready| ready <= from_s) || pod.first_request_s.is_some())
            && pod.removed_s.is_none_or(|removed| removed >= record.duration_s);
        if there {
            pods.push((i, requests_in(s, i, Window::between(record.times(), from_s, f64::INFINITY))));
        }
    }
    let counts: Vec<u64> = pods.iter().map(|&(_, n)| n).collect();
    let total = counts.iter().fold(0u64, |sum, &n| sum.saturating_add(n));
    (total > 0).then(|| Spread { from_s, imbalance: imbalance(&counts), pods, total })
}

/// "the first 20 s are warm-up and not in the figures"; nothing without a warm-up.
pub(crate) fn warm_up(record: &RunRecord) -> Option<String> {
    let words = |s: f64| format!("the first {} s are warm-up and not in the figures", number::short(s));
    (record.warm_up_s > 0.0).then(|| words(record.warm_up_s))
}

/// The columns of the comparison, each with how its figure is spelt and which is best.
pub(crate) const COLUMNS: [Column; 10] = [
    Column { head: "p50", unit: "ms", long: "median latency of requests that ended OK" },
    Column { head: "p99", unit: "ms", long: "99th percentile of latency" },
    Column { head: "p99.9", unit: "ms", long: "99.9th percentile of latency" },
    Column { head: "errors", unit: "", long: "failed requests over ended ones" },
    Column { head: "goodput", unit: "per s", long: "requests that ended OK per second" },
    Column { head: "imbalance", unit: "max/mean", long: "busiest server pod over the mean, whole run; 1 is even" },
    Column {
        head: "new pods",
        unit: "1st req.",
        long: "time from creation to first request of the new server pod that waited longest",
    },
    Column { head: "hops", unit: "mean", long: "borders between nodes crossed on the way to the server" },
    Column { head: "conns", unit: "opened", long: "connections opened by clients and proxies" },
    Column { head: "Δp99", unit: "to base", long: "p99 against the first strategy" },
];

/// One column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) head: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) long: &'static str,
}

/// A figure as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) best: bool,
    /// Of several seeds: `±0.4`, half the figure's interval; `[−16, −14]`, the interval of a change.
    pub(crate) interval: Option<String>,
}

/// Value to rank by, from small to large; text; interval.
type Spelt = (Option<f64>, String, Option<String>);

/// The words for an interval with zero in it.
pub(crate) const NO_DIFFERENCE: &str = "no difference found";

/// Every row's cells in the order of [`COLUMNS`], means where there are several seeds. Best is what reads the same as
/// the best figure, unless all do.
pub(crate) fn cells(record: &RunRecord) -> Vec<[Cell; 10]> {
    let rows = rows(record);
    let of_seeds = |i: usize| record.replications.as_ref().and_then(|r| r.strategy(i));
    let spelt: Vec<[Spelt; 10]> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| match of_seeds(i) {
            Some(seeds) => spelt_of_seeds(i, rows.len(), row, seeds),
            None => spelt_of_one(i, rows.len(), row).map(|(value, text)| (value, text, None)),
        })
        .collect();
    let best: [Option<String>; 10] = std::array::from_fn(|column| {
        let mut of_column: Vec<&Spelt> = spelt.iter().map(|row| &row[column]).collect();
        of_column.retain(|(value, ..)| value.is_some());
        let least = of_column.iter().min_by(|a, b| f64::total_cmp(&a.0.unwrap_or(0.0), &b.0.unwrap_or(0.0)))?;
        let differ = of_column.iter().any(|(_, text, _)| *text != least.1);
        (differ && least.0 != Some(f64::INFINITY)).then(|| least.1.clone())
    });
    spelt
        .into_iter()
        .map(|row| {
            let mut column = 0;
            row.map(|(_, text, interval)| {
                let is_best = best[column].as_ref() == Some(&text);
                column += 1;
                Cell { best: is_best, text, interval }
            })
        })
        .collect()
}

/// A row of one seed.
fn spelt_of_one(index: usize, rows: usize, row: &Row<'_>) -> [(Option<f64>, String); 10] {
    let of = |value: Option<f64>, spell: fn(f64) -> String| (value, value.map_or_else(|| "–".to_owned(), spell));
    [
        of(row.p50_ms, number::sig3),
        of(row.p99_ms, number::sig3),
        of(row.p999_ms, number::sig3),
        of(row.error_part, part),
        // Ranked from small to large like the others.
        of(row.goodput_per_s.map(|g| -g), |g| number::sig3(-g)),
        of(row.imbalance, number::ratio),
        match row.first_traffic {
            FirstTraffic::NoNewPods => (None, "–".to_owned()),
            FirstTraffic::Never => (Some(f64::INFINITY), "never".to_owned()),
            FirstTraffic::NotWithin(s) => (Some(f64::INFINITY), format!(">{} s", number::sig3(s))),
            FirstTraffic::After(s) => (Some(s), format!("{} s", number::sig3(s))),
        },
        of(row.hops, number::ratio),
        (Some(row.connections as f64), number::count(row.connections)),
        match (index, row.delta_p99) {
            (0, _) if rows > 1 => (Some(0.0), "base".to_owned()),
            (_, delta) => of(delta, number::change),
        },
    ]
}

fn part(p: f64) -> String {
    if p == 0.0 { "0".to_owned() } else { number::percent(p) }
}

/// A row of several seeds; what none of them could measure is as in the first.
fn spelt_of_seeds(index: usize, rows: usize, row: &Row<'_>, seeds: &ReplicatedStrategy) -> [Spelt; 10] {
    let of = |metric: &str, sign: f64, spell: fn(f64) -> String, interval: fn(f64, f64) -> String| -> Spelt {
        let estimate = seeds.figure(metric);
        match estimate.and_then(|e| e.mean) {
            None => (None, "–".to_owned(), None),
            Some(mean) => {
                let half = estimate.and_then(|e| e.half_width());
                (Some(sign * mean), spell(mean), half.map(|half| interval(half, mean)))
            }
        }
    };
    let sig3 = |half: f64, mean: f64| number::half_width(half, mean, number::decimals(mean));
    let ratio = |half: f64, mean: f64| number::half_width(half, mean, 2);
    // In percent like the figure, whose unit is enough for both.
    let percent = |half: f64, _: f64| match number::percent(half) {
        _ if half == 0.0 => "±0".to_owned(),
        text => format!("±{}", text.trim_end_matches(" %")),
    };
    let first_traffic = match of(TIME_TO_TRAFFIC_S, 1.0, |s| format!("{} s", number::sig3(s)), sig3) {
        (None, ..) => match row.first_traffic {
            FirstTraffic::After(_) => (None, "–".to_owned(), None),
            _ => {
                let [.., (value, text), _, _, _] = spelt_of_one(index, rows, row);
                (value, text, None)
            }
        },
        known => known,
    };
    [
        of(P50_MS, 1.0, number::sig3, sig3),
        of(P99_MS, 1.0, number::sig3, sig3),
        of(P999_MS, 1.0, number::sig3, sig3),
        of(FAILED_SHARE, 1.0, part, percent),
        of(GOODPUT_PER_S, -1.0, number::sig3, sig3),
        of(IMBALANCE, 1.0, number::ratio, ratio),
        first_traffic,
        of(NODE_HOPS, 1.0, number::ratio, ratio),
        of(
            CONNECTIONS,
            1.0,
            |mean| if mean.fract() == 0.0 { number::short(mean) } else { number::sig3(mean) },
            |half, mean| {
                let decimals = if mean.fract() == 0.0 { 0 } else { number::decimals(mean) };
                number::half_width(half, mean, decimals)
            },
        ),
        match index {
            0 if rows > 1 => (Some(0.0), "base".to_owned(), None),
            _ => change_of_seeds(seeds),
        },
    ]
}

fn change_of_seeds(seeds: &ReplicatedStrategy) -> Spelt {
    let nothing = (None, "–".to_owned(), None);
    let Some(d) = seeds.difference(P99_MS) else { return nothing };
    let interval = d.relative_low.zip(d.relative_high).map(|(low, high)| number::change_interval(low, high));
    match (d.is_found(), d.relative) {
        (Some(false), _) => (Some(0.0), NO_DIFFERENCE.to_owned(), interval),
        (_, Some(relative)) => (Some(relative), number::change(relative), interval),
        _ => nothing,
    }
}

/// Which figures of which strategies could not be measured under every seed.
pub(crate) fn gaps(record: &RunRecord) -> Vec<String> {
    let Some(replications) = &record.replications else { return Vec::new() };
    let all = replications.seeds.len();
    let of = |s: &ReplicatedStrategy| {
        let gaps = s.figures.iter().filter(|f| f.n > 0 && (f.n as usize) < all);
        gaps.map(|f| format!("{} of {}: measured under {} of {all} seeds", f.metric, s.name, f.n)).collect::<Vec<_>>()
    };
    replications.strategies.iter().flat_map(of).collect()
}
