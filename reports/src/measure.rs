//! One number out of a strategy's record, as an expectation names it.
//!
//! Run-wide metrics (`requests.*`, `latency_ms.*`, `node_hops.*`, `connections.*`) are read from the record; they are of the
//! requests issued after the warm-up. With a window they are counted from the timeline, as metrics of pods are: over the
//! buckets that lie wholly inside it, so a window that begins inside a bucket leaves that bucket out rather than counting
//! what happened before. Pods are those that existed at some time in it.

use crate::canary::told_after;
use crate::number::short;
use crate::record::{
    DeploymentRecord, Latency, LoadRecord, PodRecord, Requests, Role, SplitPart, StrategyRecord, Times,
};

/// Every metric [`measure`] knows.
pub const METRICS: &[&str] = &[
    "requests.started",
    "requests.ok",
    "requests.failed",
    "requests.error_rate",
    "goodput_per_s",
    "goodput.jain",
    "latency_ms.mean",
    "latency_ms.p50",
    "latency_ms.p90",
    "latency_ms.p99",
    "latency_ms.p999",
    "latency_ms.max",
    "node_hops.mean",
    "node_hops.max",
    "connections.opened",
    "connections.closed",
    "connections.goaways",
    "connections.peak",
    "connections.opened_per_s.peak",
    "attempts_per_request",
    "splits.effective_error.max",
    "splits.measured_error.max",
    "configuration_s.max",
    "keys.moved",
    "probes",
    "imbalance",
    "jain",
    "pods.count",
    "pods.phases.max",
    "pods.requests",
    "pods.with_traffic",
    "share",
    "share.of_servers",
    "share.min",
    "share.max",
    "time_to_traffic_s.min",
    "time_to_traffic_s.mean",
    "time_to_traffic_s.max",
    "first_request_s.min",
    "first_request_s.max",
    "deployment.requests",
    "deployment.ok",
    "deployment.failed",
    "deployment.error_rate",
    "deployment.share",
    "deployment.latency_ms.p50",
    "deployment.latency_ms.p99",
    "detect.requests",
    "error_budget.burned",
];

/// Which pods of the deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pods {
    /// All of them.
    #[default]
    All,
    /// Those there from the start: `created_s` is 0.
    Initial,
    /// Those that came later.
    New,
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measure {
    /// One of [`METRICS`].
    pub metric: String,
    /// The load whose requests are meant; all requests if `None`. It has no windows.
    pub load: Option<String>,
    /// The deployments whose pods are meant; for metrics of pods.
    pub deployments: Vec<String>,
    /// Which of their pods; for metrics of pods.
    pub pods: Pods,
    /// Start of the window; `None` is the end of the warm-up.
    pub from_s: Option<f64>,
    /// End of the window; `None` is the end of the run.
    pub until_s: Option<f64>,
}

impl Measure {
    /// The words a reader can check: `share.max of new server pods from 60 s`.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut words = self.metric.clone();
        if let Some(load) = &self.load {
            words.push_str(&format!(" of load {load}"));
        }
        if is_of_deployments(&self.metric) {
            words.push_str(&format!(" of {}", self.deployments.join(" and ")));
        } else if is_of_pods(&self.metric) {
            let which = match self.pods {
                Pods::All => "",
                Pods::Initial => "initial ",
                Pods::New => "new ",
            };
            let of = if self.load.is_some() { "at" } else { "of" };
            words.push_str(&format!(" {of} {which}{} pods", self.deployments.join(" and ")));
        }
        if let Some(from) = self.from_s {
            words.push_str(&format!(" from {} s", short(from)));
        }
        if let Some(until) = self.until_s {
            words.push_str(&format!(" until {} s", short(until)));
        }
        words
    }

    fn selects(&self, pod: &PodRecord) -> bool {
        match self.pods {
            Pods::All => true,
            Pods::Initial => pod.created_s == 0.0,
            Pods::New => pod.created_s > 0.0,
        }
    }
}

/// Whether a metric is about the pods of deployments rather than the whole run.
fn is_of_pods(metric: &str) -> bool {
    let of_run = [
        "requests.",
        "goodput_per_s",
        "latency_ms.",
        "node_hops.",
        "connections.",
        "splits.",
        "configuration_s.",
        "keys.",
        "probes",
        "error_budget.",
        "attempts_per_request",
    ];
    !of_run.iter().any(|prefix| metric.starts_with(prefix))
}

/// Whether a metric is about what became of the requests that reached a deployment.
fn is_of_deployments(metric: &str) -> bool {
    metric.starts_with("deployment.") || metric.starts_with("detect.")
}

/// Measures; `None` where there is nothing to measure (no pods, no requests, a pod that never got one) and for a
/// metric that is not in [`METRICS`].
#[must_use]
pub fn measure(strategy: &StrategyRecord, times: Times, what: &Measure) -> Option<f64> {
    let window = Window::of(times, what);
    let load = match &what.load {
        None => None,
        // Counts by load have no timeline.
        Some(_) if what.from_s.is_some() || what.until_s.is_some() => return None,
        Some(name) => Some(strategy.loads.iter().find(|load| load.name == *name)?),
    };
    if is_of_deployments(&what.metric) {
        of_deployments(strategy, window, what)
    } else if is_of_pods(&what.metric) {
        of_pods(strategy, window, load, what)
    } else if let Some(load) = load {
        of_requests(&load.requests, &load.latency_ms, times, &what.metric)
    } else if matches!(what.metric.as_str(), "connections.opened_per_s.peak" | "attempts_per_request") {
        of_timeline(strategy, window, &what.metric)
    } else if what.from_s.is_none() && what.until_s.is_none() {
        of_run(strategy, times, &what.metric)
    } else {
        of_window(strategy, window, &what.metric)
    }
}

/// The part of a timeline that is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    from_s: f64,
    until_s: f64,
    interval_s: f64,
    duration_s: f64,
}

impl Window {
    fn of(times: Times, what: &Measure) -> Self {
        Self::between(times, what.from_s.unwrap_or(times.warm_up_s), what.until_s.unwrap_or(f64::INFINITY))
    }

    pub(crate) fn between(Times { interval_s, duration_s, .. }: Times, from_s: f64, until_s: f64) -> Self {
        // The end of the run closes the last bucket, even if that one is shorter.
        let until_s = if until_s >= duration_s { f64::INFINITY } else { until_s };
        Self { from_s, until_s, interval_s, duration_s }
    }

    /// Whether bucket `b` lies wholly inside.
    fn holds(&self, b: usize) -> bool {
        // Bucket borders are products of binary fractions: 3 · 0.1 is 0.30000000000000004.
        let slack = self.interval_s.abs() * 1e-6;
        b as f64 * self.interval_s >= self.from_s - slack && (b + 1) as f64 * self.interval_s <= self.until_s + slack
    }

    /// The values of a series' buckets inside.
    fn values<T: Copy>(self, series: &[T]) -> impl Iterator<Item = T> {
        series.iter().copied().enumerate().filter(move |&(b, _)| self.holds(b)).map(|(_, value)| value)
    }

    pub(crate) fn sum(self, series: &[u32]) -> u64 {
        self.values(series).map(u64::from).sum()
    }

    /// Seconds that the buckets of a series inside cover; the last may be shorter than the others.
    fn seconds(self, series: &[u32]) -> f64 {
        (0..series.len()).filter(|&b| self.holds(b)).map(|b| self.width(b)).sum()
    }

    /// Of bucket `b`, in seconds.
    fn width(&self, b: usize) -> f64 {
        self.interval_s.min(self.duration_s - b as f64 * self.interval_s).max(0.0)
    }
}

/// Largest difference between the share that a target of a route was configured to get and another of its shares; of routes
/// with two targets or more that got a request.
pub(crate) fn split_error(s: &StrategyRecord, share: impl Fn(&SplitPart) -> f64) -> Option<f64> {
    let used =
        s.splits.iter().filter(|split| split.parts.len() > 1 && split.parts.iter().any(|part| part.requests > 0));
    largest(used.flat_map(|split| &split.parts).map(|part| (share(part) - part.configured).abs()))
}

/// Failed over ended, `None` if nothing ended.
fn error_rate(failed: u64, ended: u64) -> Option<f64> {
    (ended > 0).then(|| failed as f64 / ended as f64)
}

fn of_run(s: &StrategyRecord, times: Times, metric: &str) -> Option<f64> {
    let after_ok = |value: f64| (s.requests.ok > 0).then_some(value);
    match metric {
        "error_budget.burned" => s.error_budget_burned,
        "node_hops.mean" => after_ok(s.node_hops.mean),
        "node_hops.max" => after_ok(f64::from(s.node_hops.max)),
        "connections.opened" => Some(s.connections.opened as f64),
        "connections.closed" => Some(s.connections.closed as f64),
        "connections.goaways" => Some(s.connections.goaways as f64),
        "connections.peak" => Some(s.connections.peak as f64),
        "keys.moved" => s.keys_moved.map(|moved| moved as f64),
        "probes" => Some(s.interventions.probes as f64),
        "splits.effective_error.max" => split_error(s, |part| part.effective),
        "splits.measured_error.max" => split_error(s, |part| part.measured),
        // One change that did not reach everybody leaves no longest time.
        "configuration_s.max" => {
            let times: Option<Vec<f64>> = s.configurations.iter().map(|c| c.last_s.map(|last| last - c.at_s)).collect();
            largest(times?.into_iter())
        }
        _ => of_requests(&s.requests, &s.latency_ms, times, metric),
    }
}

/// What can be said of any set of requests: all of a run, or those of one load.
fn of_requests(requests: &Requests, latency_ms: &Latency, times: Times, metric: &str) -> Option<f64> {
    let after_ok = |value: f64| (requests.ok > 0).then_some(value);
    match metric {
        "requests.started" => Some(requests.started as f64),
        "requests.ok" => Some(requests.ok as f64),
        "requests.failed" => Some(requests.failed as f64),
        "requests.error_rate" => error_rate(requests.failed, requests.ok.saturating_add(requests.failed)),
        "goodput_per_s" => (times.measured_s() > 0.0).then(|| requests.ok as f64 / times.measured_s()),
        "latency_ms.mean" => after_ok(latency_ms.mean),
        "latency_ms.p50" => after_ok(latency_ms.p50),
        "latency_ms.p90" => after_ok(latency_ms.p90),
        "latency_ms.p99" => after_ok(latency_ms.p99),
        "latency_ms.p999" => after_ok(latency_ms.p999),
        "latency_ms.max" => after_ok(latency_ms.max),
        _ => None,
    }
}

/// What a window leaves of a run-wide metric: requests by the bucket they were issued or ended in. `None` for metrics that
/// cannot be cut, and where a record has no such series.
fn of_window(s: &StrategyRecord, window: Window, metric: &str) -> Option<f64> {
    let t = &s.timeline;
    let (ok, failed) = (window.sum(&t.ok), window.sum(&t.failed));
    match metric {
        "requests.started" => (!t.started.is_empty()).then(|| window.sum(&t.started) as f64),
        "requests.ok" => Some(ok as f64),
        "requests.failed" => Some(failed as f64),
        "requests.error_rate" => error_rate(failed, ok + failed),
        "goodput_per_s" => Some(window.seconds(&t.ok)).filter(|s| *s > 0.0).map(|seconds| ok as f64 / seconds),
        _ => None,
    }
}

/// What only the timeline has, with a window or without.
fn of_timeline(s: &StrategyRecord, window: Window, metric: &str) -> Option<f64> {
    let t = &s.timeline;
    match metric {
        "connections.opened_per_s.peak" => {
            let rates = (0..t.opened.len()).filter(|&b| window.holds(b)).map(|b| (t.opened[b], window.width(b)));
            largest(rates.filter(|(_, width)| *width > 0.0).map(|(opened, width)| f64::from(opened) / width))
        }
        // Retries show here, and so do attempts that their callers have given up.
        "attempts_per_request" => {
            let servers = s.pods.iter().enumerate().filter(|(_, pod)| pod.role == Role::Server);
            let attempts = servers.fold(0u64, |sum, (i, _)| sum.saturating_add(requests_in(s, i, window)));
            let started = window.sum(&t.started);
            (started > 0).then(|| attempts as f64 / started as f64)
        }
        _ => None,
    }
}

/// Of all the deployments named together; a latency is that of the slowest.
fn of_deployments(s: &StrategyRecord, window: Window, what: &Measure) -> Option<f64> {
    let selected: Vec<&DeploymentRecord> =
        s.deployments.iter().filter(|d| what.deployments.contains(&d.name)).collect();
    if selected.is_empty() {
        return None;
    }
    let cut = what.from_s.is_some() || what.until_s.is_some();
    // Without a window the record's own count, which goes by when a request was issued.
    let count = |d: &DeploymentRecord, whole: u64, series: fn(&DeploymentRecord) -> &[u32]| {
        if cut { window.sum(series(d)) } else { whole }
    };
    let requests_of = |d: &DeploymentRecord| count(d, d.requests, |d| &d.timeline.requests);
    let requests = selected.iter().fold(0u64, |sum, d| sum.saturating_add(requests_of(d)));
    let failed = selected.iter().fold(0u64, |sum, d| sum.saturating_add(count(d, d.failed, |d| &d.timeline.failed)));
    let slowest = |pick: fn(&DeploymentRecord) -> f64| {
        selected.iter().filter(|d| d.ok > 0 && !cut).map(|d| pick(d)).reduce(f64::max)
    };
    match what.metric.as_str() {
        "deployment.requests" => Some(requests as f64),
        "deployment.ok" => Some(requests.saturating_sub(failed) as f64),
        "deployment.failed" => Some(failed as f64),
        "deployment.error_rate" => error_rate(failed, requests),
        "deployment.share" => {
            let of_services = s.deployments.iter().filter(|d| selected.iter().any(|one| one.service == d.service));
            let all = of_services.fold(0u64, |sum, d| sum.saturating_add(requests_of(d)));
            (all > 0).then(|| requests as f64 / all as f64)
        }
        "deployment.latency_ms.p50" => slowest(|d| d.latency_ms.p50),
        "deployment.latency_ms.p99" => slowest(|d| d.latency_ms.p99),
        // What the window's own share and error rates come to.
        "detect.requests" if cut => {
            let failed_of = |d: &DeploymentRecord| count(d, d.failed, |d| &d.timeline.failed);
            let others = |d: &DeploymentRecord| {
                let (name, service) = (&d.name, &d.service);
                let others = s.deployments.iter().filter(|o| o.service == *service && o.name != *name);
                others.fold((0u64, 0u64), |(n, failed), o| (n + requests_of(o), failed + failed_of(o)))
            };
            let found = selected.iter().filter_map(|d| told_after((requests_of(d), failed_of(d)), others(d)));
            found.min().map(|n| n as f64)
        }
        // The one that is found first.
        "detect.requests" => selected.iter().filter_map(|d| d.detect_requests).min().map(|n| n as f64),
        _ => None,
    }
}

fn of_pods(s: &StrategyRecord, window: Window, load: Option<&LoadRecord>, what: &Measure) -> Option<f64> {
    let requests_of = |i: usize| match load {
        None => requests_in(s, i, window),
        Some(load) => load.requests_per_pod.get(i).copied().unwrap_or(0),
    };
    let in_window: Vec<(&PodRecord, u64)> = s
        .pods
        .iter()
        .enumerate()
        .filter(|(_, pod)| what.deployments.contains(&pod.deployment))
        .filter(|(_, pod)| {
            pod.created_s < window.until_s && pod.removed_s.is_none_or(|removed| removed > window.from_s)
        })
        .map(|(i, pod)| (pod, requests_of(i)))
        .collect();
    let of_all = in_window.iter().fold(0u64, |sum, &(_, n)| sum.saturating_add(n));
    let selected: Vec<(&PodRecord, u64)> = in_window.into_iter().filter(|(pod, _)| what.selects(pod)).collect();
    if what.metric == "pods.count" {
        return Some(selected.len() as f64); // none is a number too
    }
    if selected.is_empty() {
        return None;
    }
    if what.metric == "pods.phases.max" {
        return Some(f64::from(most_phases(selected.iter().map(|(pod, _)| *pod), window)));
    }
    let requests: Vec<u64> = selected.iter().map(|&(_, n)| n).collect();
    let sum = requests.iter().fold(0u64, |sum, &n| sum.saturating_add(n));
    let part = |n: u64| (of_all > 0).then(|| n as f64 / of_all as f64);
    let firsts = || selected.iter().filter_map(|(pod, _)| pod.first_request_s);
    // One pod without a first request leaves no largest and no mean, but the others' smallest stands.
    let all_got_one = selected.iter().all(|(pod, _)| pod.first_request_s.is_some());
    let waits: Vec<f64> =
        selected.iter().filter_map(|(pod, _)| pod.first_request_s.map(|first| first - pod.created_s)).collect();
    match what.metric.as_str() {
        "imbalance" => (sum > 0).then(|| imbalance(&requests)),
        "jain" => (sum > 0).then(|| jain(&requests)),
        "pods.requests" => Some(sum as f64),
        "pods.with_traffic" => Some(requests.iter().filter(|&&n| n > 0).count() as f64),
        "share" => part(sum),
        "share.of_servers" => {
            let at_server = |i: usize| if s.pods[i].role == Role::Server { requests_of(i) } else { 0 };
            let of_servers = (0..s.pods.len()).fold(0u64, |sum, i| sum.saturating_add(at_server(i)));
            (of_servers > 0).then(|| sum as f64 / of_servers as f64)
        }
        "goodput.jain" => {
            let ok: Vec<u64> = selected.iter().filter_map(|(pod, _)| pod.ok).collect();
            ok.iter().any(|&n| n > 0).then(|| jain(&ok))
        }
        "share.min" => part(*requests.iter().min()?),
        "share.max" => part(*requests.iter().max()?),
        "time_to_traffic_s.min" => smallest(waits.iter().copied()),
        "time_to_traffic_s.mean" => all_got_one.then(|| waits.iter().sum::<f64>() / waits.len() as f64),
        "time_to_traffic_s.max" => all_got_one.then(|| largest(waits.iter().copied())).flatten(),
        "first_request_s.min" => smallest(firsts()),
        "first_request_s.max" => all_got_one.then(|| largest(firsts())).flatten(),
        _ => None,
    }
}

/// Requests of pod `i` in the buckets wholly inside a window.
pub(crate) fn requests_in(s: &StrategyRecord, i: usize, window: Window) -> u64 {
    s.timeline.requests_per_pod.get(i).map_or(0, |series| window.sum(series))
}

/// In how many of the phases that `kubectl get pods` shows (ContainerCreating, Running, Terminating) the pods were at the same
/// moment, at most.
fn most_phases<'p>(pods: impl Iterator<Item = &'p PodRecord> + Clone, window: Window) -> u8 {
    // Each phase of a pod as a span of time; it ends where the next begins.
    let spans = pods.clone().flat_map(|pod| {
        let gone = pod.removed_s.unwrap_or(f64::INFINITY);
        let deleted = pod.deleted_s.unwrap_or(gone).min(gone);
        let started = pod.started_s.unwrap_or(deleted).min(deleted);
        [(1u8, pod.created_s, started), (2, started, deleted), (4, deleted, gone)]
    });
    let spans: Vec<(u8, f64, f64)> = spans.filter(|(_, from, until)| from < until).collect();
    // The number changes only where a phase begins.
    let begins = spans.iter().map(|&(_, from, _)| from.max(window.from_s)).filter(|at| *at < window.until_s);
    let at =
        |t: f64| spans.iter().filter(|(_, from, until)| *from <= t && t < *until).fold(0u8, |all, (bit, ..)| all | bit);
    begins.map(|t| at(t).count_ones() as u8).max().unwrap_or(0)
}

fn smallest(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::min)
}

fn largest(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::max)
}

/// Where the percentile plot has its points: evenly spaced in nines, 1 − 10^(−k/10), as far as the number of requests
/// can tell.
pub fn quantile_points(requests: u64) -> impl Iterator<Item = f64> {
    (0..=100)
        .map(|k| 1.0 - libm::pow(10.0, -f64::from(k) / 10.0))
        .take_while(move |q| requests > 0 && (1.0 - q) * requests as f64 >= 1.0 - 1e-9)
}

/// Most requests of a pod over the mean of all; 1 is even, n is one pod of n. 1 for no pods or no requests.
#[must_use]
pub fn imbalance(requests: &[u64]) -> f64 {
    let sum: f64 = requests.iter().map(|&n| n as f64).sum();
    let max = requests.iter().copied().max().unwrap_or(0) as f64;
    if sum > 0.0 { max * requests.len() as f64 / sum } else { 1.0 }
}

/// Jain's fairness index (Σx)² / (n·Σx²) (Jain, Chiu, Hawe 1984): 1 is even, 1/n is one pod of n. 1 for no pods or no
/// requests.
#[must_use]
pub fn jain(requests: &[u64]) -> f64 {
    let sum: f64 = requests.iter().map(|&n| n as f64).sum();
    let squares: f64 = requests.iter().map(|&n| n as f64 * n as f64).sum();
    if squares > 0.0 { sum * sum / (requests.len() as f64 * squares) } else { 1.0 }
}

#[cfg(test)]
mod tests;
