//! One number out of a strategy's record, as an expectation names it.
//!
//! Run-wide metrics (`requests.*`, `latency_ms.*`, `node_hops.*`, `connections.*`) are read from the record. Metrics of
//! pods are counted from the timeline over the buckets that lie wholly inside the window, for the pods that existed at
//! some time in it; so a window that begins inside a bucket leaves that bucket out rather than counting what happened
//! before.

use crate::number::short;
use crate::record::{PodRecord, StrategyRecord};

/// Every metric [`measure`] knows.
pub const METRICS: &[&str] = &[
    "requests.started",
    "requests.ok",
    "requests.failed",
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
    "imbalance",
    "jain",
    "pods.requests",
    "pods.with_traffic",
    "share",
    "share.min",
    "share.max",
    "time_to_traffic_s.min",
    "time_to_traffic_s.mean",
    "time_to_traffic_s.max",
    "first_request_s.min",
    "first_request_s.max",
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
    /// The deployments whose pods are meant; for metrics of pods.
    pub deployments: Vec<String>,
    /// Which of their pods; for metrics of pods.
    pub pods: Pods,
    /// Start of the window; `None` is the start of the run.
    pub from_s: Option<f64>,
    /// End of the window; `None` is the end of the run.
    pub until_s: Option<f64>,
}

impl Measure {
    /// The words a reader can check: `share.max of new server pods from 60 s`.
    #[must_use]
    pub fn describe(&self) -> String {
        if !is_of_pods(&self.metric) {
            return self.metric.clone();
        }
        let which = match self.pods {
            Pods::All => "",
            Pods::Initial => "initial ",
            Pods::New => "new ",
        };
        let mut words = format!("{} of {which}{} pods", self.metric, self.deployments.join(" and "));
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
    !["requests.", "latency_ms.", "node_hops.", "connections."].iter().any(|prefix| metric.starts_with(prefix))
}

/// Measures; `None` where there is nothing to measure (no pods, no requests, a pod that never got one) and for a
/// metric that is not in [`METRICS`].
#[must_use]
pub fn measure(strategy: &StrategyRecord, interval_s: f64, what: &Measure) -> Option<f64> {
    if is_of_pods(&what.metric) { of_pods(strategy, interval_s, what) } else { of_run(strategy, &what.metric) }
}

fn of_run(s: &StrategyRecord, metric: &str) -> Option<f64> {
    let after_ok = |value: f64| (s.requests.ok > 0).then_some(value);
    match metric {
        "requests.started" => Some(s.requests.started as f64),
        "requests.ok" => Some(s.requests.ok as f64),
        "requests.failed" => Some(s.requests.failed as f64),
        "latency_ms.mean" => after_ok(s.latency_ms.mean),
        "latency_ms.p50" => after_ok(s.latency_ms.p50),
        "latency_ms.p90" => after_ok(s.latency_ms.p90),
        "latency_ms.p99" => after_ok(s.latency_ms.p99),
        "latency_ms.p999" => after_ok(s.latency_ms.p999),
        "latency_ms.max" => after_ok(s.latency_ms.max),
        "node_hops.mean" => after_ok(s.node_hops.mean),
        "node_hops.max" => after_ok(f64::from(s.node_hops.max)),
        "connections.opened" => Some(s.connections.opened as f64),
        "connections.closed" => Some(s.connections.closed as f64),
        "connections.goaways" => Some(s.connections.goaways as f64),
        "connections.peak" => Some(s.connections.peak as f64),
        _ => None,
    }
}

fn of_pods(s: &StrategyRecord, interval_s: f64, what: &Measure) -> Option<f64> {
    let from_s = what.from_s.unwrap_or(0.0);
    let until_s = what.until_s.unwrap_or(f64::INFINITY);
    let in_window: Vec<(&PodRecord, u64)> = s
        .pods
        .iter()
        .enumerate()
        .filter(|(_, pod)| what.deployments.contains(&pod.deployment))
        .filter(|(_, pod)| pod.created_s < until_s && pod.removed_s.is_none_or(|removed| removed > from_s))
        .map(|(i, pod)| (pod, requests_between(s, i, interval_s, from_s, until_s)))
        .collect();
    let of_all = in_window.iter().fold(0u64, |sum, &(_, n)| sum.saturating_add(n));
    let selected: Vec<(&PodRecord, u64)> = in_window.into_iter().filter(|(pod, _)| what.selects(pod)).collect();
    if selected.is_empty() {
        return None;
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

/// Requests of pod `i` in the buckets wholly inside `from_s..until_s`.
pub(crate) fn requests_between(s: &StrategyRecord, i: usize, interval_s: f64, from_s: f64, until_s: f64) -> u64 {
    // Bucket borders are products of binary fractions: 3 · 0.1 is 0.30000000000000004.
    let slack = interval_s.abs() * 1e-6;
    let buckets = s.timeline.requests_per_pod.get(i).map_or(&[][..], Vec::as_slice);
    buckets
        .iter()
        .enumerate()
        .filter(|&(b, _)| b as f64 * interval_s >= from_s - slack && (b + 1) as f64 * interval_s <= until_s + slack)
        .map(|(_, &n)| u64::from(n))
        .sum()
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
mod tests {
    use super::*;
    use crate::record::{Connections, Hops, Latency, Requests, Role, Timeline};

    fn pod(name: &str, created_s: f64, first_request_s: Option<f64>) -> PodRecord {
        PodRecord {
            name: name.to_owned(),
            deployment: name.split('-').next().unwrap_or_default().to_owned(),
            role: Role::Server,
            node: "node-0".to_owned(),
            requests: 0,
            share: 0.0,
            created_s,
            started_s: None,
            ready_s: None,
            published_s: None,
            resolved_s: None,
            connected_s: None,
            first_request_s,
            removed_s: None,
        }
    }

    /// Two initial pods, one created at 2 s that gets traffic in the last bucket; buckets of 1 s.
    fn strategy() -> StrategyRecord {
        StrategyRecord {
            name: "headless".to_owned(),
            summary: String::new(),
            requests: Requests { started: 101, ok: 99, failed: 1 },
            errors: Vec::new(),
            latency_ms: Latency { mean: 1.0, p50: 2.0, p90: 3.0, p99: 4.0, p999: 5.0, max: 6.0 },
            latency_quantiles: Vec::new(),
            node_hops: Hops { mean: 0.5, max: 1 },
            connections: Connections { opened: 7, closed: 3, goaways: 2, peak: 5 },
            imbalance: 1.0,
            jain: 1.0,
            pods: vec![
                pod("server-0", 0.0, Some(0.1)),
                pod("server-1", 0.0, Some(0.2)),
                pod("server-2", 2.0, Some(3.5)),
                pod("client-0", 0.0, None),
            ],
            timeline: Timeline {
                requests_per_pod: vec![
                    vec![10, 10, 10, 4],
                    vec![10, 10, 10, 4],
                    vec![0, 0, 0, 2],
                    vec![20, 20, 20, 10],
                ],
                ..Timeline::default()
            },
        }
    }

    fn of(metric: &str, pods: Pods, from_s: Option<f64>, until_s: Option<f64>) -> Option<f64> {
        let what = Measure { metric: metric.to_owned(), deployments: vec!["server".to_owned()], pods, from_s, until_s };
        measure(&strategy(), 1.0, &what)
    }

    #[test]
    fn every_listed_metric_is_handled() {
        for metric in METRICS {
            assert!(of(metric, Pods::All, None, None).is_some(), "{metric}");
        }
        assert_eq!(of("latency_ms.p98", Pods::All, None, None), None);
        assert_eq!(of("share.median", Pods::All, None, None), None);
    }

    #[test]
    fn shares_are_parts_of_all_pods_of_the_deployments_in_the_window() {
        // Whole run: 34 + 34 + 2 = 70, the new pod has 2 of them.
        assert_eq!(of("share", Pods::New, None, None), Some(2.0 / 70.0));
        // From 3 s: 4 + 4 + 2 = 10.
        assert_eq!(of("share", Pods::New, Some(3.0), None), Some(0.2));
        assert_eq!(of("share.max", Pods::Initial, Some(3.0), None), Some(0.4));
        assert_eq!(of("share", Pods::Initial, Some(3.0), None), Some(0.8));
        assert_eq!(of("share.min", Pods::All, Some(3.0), None), Some(0.2));
    }

    #[test]
    fn only_buckets_wholly_inside_the_window_count() {
        // 1.5 s to 3 s holds the bucket from 2 s alone: 10 + 10 + 0.
        assert_eq!(of("pods.requests", Pods::All, Some(1.5), Some(3.0)), Some(20.0));
        assert_eq!(of("pods.with_traffic", Pods::All, Some(1.5), Some(3.0)), Some(2.0));
        // No bucket fits: requests are 0, and parts of nothing are not measured.
        assert_eq!(of("pods.requests", Pods::All, Some(1.5), Some(1.9)), Some(0.0));
        assert_eq!(of("share", Pods::All, Some(1.5), Some(1.9)), None);
        assert_eq!(of("imbalance", Pods::All, Some(1.5), Some(1.9)), None);
    }

    #[test]
    fn pods_outside_the_window_are_not_selected() {
        // The new pod is created at 2 s.
        assert_eq!(of("pods.requests", Pods::New, None, Some(2.0)), None);
        assert_eq!(of("pods.requests", Pods::New, None, Some(3.0)), Some(0.0));
    }

    #[test]
    fn imbalance_is_max_over_mean() {
        // 34, 34, 2: mean 70/3, 34 · 3 / 70 = 1.457…
        assert_eq!(of("imbalance", Pods::All, None, None), Some(34.0 * 3.0 / 70.0));
        assert_eq!(imbalance(&[10, 0, 0]), 3.0);
        assert_eq!(imbalance(&[]), 1.0);
        assert_eq!(imbalance(&[0, 0]), 1.0);
    }

    #[test]
    fn jain_is_squared_sum_over_n_squares() {
        // (1 + 3)² / (2 · (1 + 9)) = 16 / 20
        assert_eq!(jain(&[1, 3]), 0.8);
        assert_eq!(jain(&[5, 0, 0, 0]), 0.25);
        assert_eq!(jain(&[]), 1.0);
        assert_eq!(jain(&[0, 0]), 1.0);
    }

    #[test]
    fn time_to_traffic_counts_from_creation() {
        // 3.5 − 2.0
        assert_eq!(of("time_to_traffic_s.max", Pods::New, None, None), Some(1.5));
        assert_eq!(of("first_request_s.min", Pods::New, None, None), Some(3.5));
        // (0.1 + 0.2 + 1.5) / 3
        let mean = of("time_to_traffic_s.mean", Pods::All, None, None).expect("all three got traffic");
        assert!((mean - 0.6).abs() < 1e-12);
    }

    #[test]
    fn one_pod_that_never_got_a_request_leaves_no_largest() {
        let mut s = strategy();
        s.pods[1].first_request_s = None;
        let what = |metric: &str| Measure {
            metric: metric.to_owned(),
            deployments: vec!["server".to_owned()],
            ..Measure::default()
        };
        assert_eq!(measure(&s, 1.0, &what("time_to_traffic_s.max")), None);
        assert_eq!(measure(&s, 1.0, &what("time_to_traffic_s.mean")), None);
        assert_eq!(measure(&s, 1.0, &what("first_request_s.max")), None);
        assert_eq!(measure(&s, 1.0, &what("time_to_traffic_s.min")), Some(0.1));
    }

    #[test]
    fn latencies_need_an_ok_request() {
        let mut s = strategy();
        s.requests.ok = 0;
        let what = |metric: &str| Measure { metric: metric.to_owned(), ..Measure::default() };
        assert_eq!(measure(&s, 1.0, &what("latency_ms.p99")), None);
        assert_eq!(measure(&s, 1.0, &what("node_hops.mean")), None);
        assert_eq!(measure(&s, 1.0, &what("requests.ok")), Some(0.0));
    }

    #[test]
    fn words_name_pods_and_window() {
        let mut what = Measure {
            metric: "share.max".to_owned(),
            deployments: vec!["server".to_owned()],
            pods: Pods::New,
            from_s: Some(60.0),
            until_s: None,
        };
        assert_eq!(what.describe(), "share.max of new server pods from 60 s");
        what.until_s = Some(90.5);
        what.deployments.push("canary".to_owned());
        what.pods = Pods::All;
        assert_eq!(what.describe(), "share.max of server and canary pods from 60 s until 90.5 s");
        what.metric = "latency_ms.p99".to_owned();
        assert_eq!(what.describe(), "latency_ms.p99");
    }
}
