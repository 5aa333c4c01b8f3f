//! Each metric on a small record, with the arithmetic.

use super::*;
use crate::record::{
    ConfigurationRecord, Connections, DeploymentLatency, DeploymentTimeline, Hops, Interventions, Latency, Learnt,
    Requests, Role, SplitRecord, Timeline,
};

fn pod(name: &str, created_s: f64, first_request_s: Option<f64>) -> PodRecord {
    PodRecord {
        name: name.to_owned(),
        version: String::new(),
        deployment: name.split('-').next().unwrap_or_default().to_owned(),
        role: if name.starts_with("client") { Role::Client } else { Role::Server },
        node: "node-0".to_owned(),
        requests: 0,
        ok: Some(33),
        share: 0.0,
        created_s,
        started_s: None,
        ready_s: None,
        endpoint_slice_s: None,
        resolvable_s: None,
        learnt: Learnt::Dns,
        published_s: None,
        resolved_s: None,
        connected_s: None,
        first_request_s,
        deleted_s: None,
        removed_s: None,
    }
}

fn load(name: &str, [started, ok, failed]: [u64; 3], requests_per_pod: [u64; 4]) -> LoadRecord {
    let requests = Requests { started, ok, failed };
    LoadRecord { name: name.to_owned(), requests, requests_per_pod: requests_per_pod.to_vec(), ..LoadRecord::default() }
}

/// Two buckets of requests and failures.
fn deployment(name: &str, requests: [u32; 2], failed: [u32; 2], p99: f64) -> DeploymentRecord {
    let sum = |series: [u32; 2]| u64::from(series[0] + series[1]);
    DeploymentRecord {
        name: name.to_owned(),
        service: "server".to_owned(),
        requests: sum(requests),
        ok: sum(requests) - sum(failed),
        failed: sum(failed),
        detect_requests: (failed[1] > 0).then_some(11),
        latency_ms: DeploymentLatency { p50: p99 / 2.0, p99, ..DeploymentLatency::default() },
        timeline: DeploymentTimeline { requests: requests.into(), failed: failed.into(), p99_ms: Vec::new() },
        ..DeploymentRecord::default()
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
        splits: vec![SplitRecord {
            route: "split".to_owned(),
            from_s: 0.0,
            until_s: 4.0,
            parts: [("v1", 0.99, 0.9, 90), ("v2", 0.01, 0.1, 10)]
                .map(|(name, configured, effective, requests)| SplitPart {
                    name: name.to_owned(),
                    configured,
                    effective,
                    requests,
                    measured: requests as f64 / 100.0,
                })
                .into(),
        }],
        configurations: vec![ConfigurationRecord { at_s: 1.0, last_s: Some(3.5) }],
        loads: vec![
            load("all", [81, 80, 1], [30, 30, 0, 0]),
            LoadRecord {
                latency_ms: Latency { p99: 9.0, ..Latency::default() },
                ..load("preview", [20, 19, 0], [4, 4, 2, 0])
            },
        ],
        happenings: Vec::new(),
        interventions: Interventions::default(),
        keys_moved: Some(7),
        error_budget_burned: Some(2.5),
        deployments: vec![
            deployment("server", [80, 20], [2, 0], 4.0),
            deployment("canary", [15, 5], [10, 5], 9.0),
            DeploymentRecord { service: "other".to_owned(), ..deployment("other", [7, 7], [0, 0], 1.0) },
        ],
        pods: vec![
            pod("server-0", 0.0, Some(0.1)),
            pod("server-1", 0.0, Some(0.2)),
            pod("server-2", 2.0, Some(3.5)),
            pod("client-0", 0.0, None),
        ],
        timeline: Timeline {
            requests_per_pod: vec![vec![10, 10, 10, 4], vec![10, 10, 10, 4], vec![0, 0, 0, 2], vec![20, 20, 20, 10]],
            started: vec![21, 20, 20, 10],
            opened: vec![4, 0, 1, 2],
            ok: vec![20, 20, 19, 10],
            failed: vec![0, 0, 1, 0],
            ..Timeline::default()
        },
    }
}

const RUN: Times = Times { duration_s: 3.5, interval_s: 1.0, warm_up_s: 0.0 };

fn of(metric: &str, pods: Pods, from_s: Option<f64>, until_s: Option<f64>) -> Option<f64> {
    let (load, deployments) = (None, vec!["server".to_owned()]);
    let what = Measure { metric: metric.to_owned(), load, deployments, pods, from_s, until_s };
    measure(&strategy(), RUN, &what)
}

#[test]
fn every_listed_metric_is_handled() {
    for metric in METRICS {
        let deployments = ["server", "canary"].map(str::to_owned).to_vec();
        let what = Measure { metric: (*metric).to_owned(), deployments, ..Measure::default() };
        assert!(measure(&strategy(), RUN, &what).is_some(), "{metric}");
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
fn the_run_has_windows_too() {
    let of = |metric: &str, from_s, until_s| of(metric, Pods::All, from_s, until_s);
    assert_eq!(of("requests.started", Some(1.0), Some(3.0)), Some(40.0));
    assert_eq!(of("requests.ok", Some(2.0), None), Some(29.0));
    assert_eq!(of("requests.failed", None, Some(2.0)), Some(0.0));
    // 1 of 19 + 1.
    assert_eq!(of("requests.error_rate", Some(2.0), Some(3.0)), Some(0.05));
    assert_eq!(of("requests.error_rate", None, None), Some(0.01), "1 of 99 + 1, as the record has it");
    assert_eq!(of("requests.error_rate", Some(1.2), Some(1.8)), None, "no bucket, nothing ended");
    // The last bucket is half a second long: 19 + 10 in 1.5 s.
    assert_eq!(of("goodput_per_s", Some(2.0), None), Some(29.0 / 1.5));
    assert_eq!(of("goodput_per_s", Some(2.0), Some(3.5)), Some(29.0 / 1.5), "the end of the run closes it");
    assert_eq!(of("goodput_per_s", None, None), Some(99.0 / 3.5));
    // A distribution cannot be cut.
    assert_eq!(of("latency_ms.p99", Some(1.0), None), None);
}

#[test]
fn a_load_has_figures_of_its_own() {
    let of = |metric: &str, load: &str, from_s| {
        let (load, deployments) = (Some(load.to_owned()), vec!["server".to_owned()]);
        measure(
            &strategy(),
            RUN,
            &Measure { metric: metric.to_owned(), load, deployments, from_s, ..Measure::default() },
        )
    };
    assert_eq!(of("requests.started", "preview", None), Some(20.0));
    assert_eq!(of("requests.error_rate", "all", None), Some(1.0 / 81.0));
    assert_eq!(of("goodput_per_s", "preview", None), Some(19.0 / 3.5));
    assert_eq!(of("latency_ms.p99", "preview", None), Some(9.0));
    assert_eq!(of("pods.requests", "preview", None), Some(10.0));
    // The largest of 4, 4, 2.
    assert_eq!(of("share.max", "preview", None), Some(0.4));
    assert_eq!(of("requests.started", "nobody", None), None);
    assert_eq!(of("connections.opened", "all", None), None, "connections are of no load");
    assert_eq!(of("requests.started", "all", Some(1.0)), None, "there is no timeline by load");
}

#[test]
fn a_part_of_all_servers_is_not_one_of_the_deployment() {
    let mut s = strategy();
    s.pods[2].deployment = "canary".to_owned();
    s.pods[3].role = Role::Client;
    let of = |metric: &str, load: Option<&str>| {
        let (load, deployments) = (load.map(str::to_owned), vec!["canary".to_owned()]);
        measure(&s, RUN, &Measure { metric: metric.to_owned(), load, deployments, ..Measure::default() })
    };
    assert_eq!(of("share", None), Some(1.0));
    // 2 of 34 + 34 + 2, and 2 of 4 + 4 + 2.
    assert_eq!(of("share.of_servers", None), Some(2.0 / 70.0));
    assert_eq!(of("share.of_servers", Some("preview")), Some(0.2));
    assert_eq!(of("share.of_servers", Some("all")), Some(0.0));
}

#[test]
fn goodput_is_fair_by_what_was_answered() {
    let mut s = strategy();
    let of = |s: &StrategyRecord| {
        let deployments = vec!["server".to_owned()];
        measure(s, RUN, &Measure { metric: "goodput.jain".to_owned(), deployments, ..Measure::default() })
    };
    (s.pods[0].ok, s.pods[1].ok, s.pods[2].ok) = (Some(1), Some(3), None);
    assert_eq!(of(&s), Some(0.8), "of those that call");
    (s.pods[0].ok, s.pods[1].ok) = (Some(0), Some(0));
    assert_eq!(of(&s), None);
}

#[test]
fn what_is_of_pods_begins_after_the_warm_up() {
    let measure = |metric: &str, from_s| {
        let what =
            Measure { metric: metric.to_owned(), deployments: vec!["server".to_owned()], from_s, ..Measure::default() };
        measure(&strategy(), Times { warm_up_s: 2.0, ..RUN }, &what)
    };
    // 10 + 10 + 0 and 4 + 4 + 2.
    assert_eq!(measure("pods.requests", None), Some(30.0));
    assert_eq!(measure("pods.requests", Some(0.0)), Some(70.0), "unless it is asked for");
    assert_eq!(measure("goodput_per_s", None), Some(99.0 / 1.5));
    assert_eq!(measure("requests.ok", None), Some(99.0), "the record leaves the warm-up out by itself");
}

#[test]
fn pods_outside_the_window_are_not_selected() {
    // The new pod is created at 2 s.
    assert_eq!(of("pods.requests", Pods::New, None, Some(2.0)), None);
    let count = |until_s| of("pods.count", Pods::New, None, until_s);
    assert_eq!((count(Some(2.0)), count(Some(3.0))), (Some(0.0), Some(1.0)));
    assert_eq!(of("pods.requests", Pods::New, None, Some(3.0)), Some(0.0));
}

#[test]
fn phases_are_counted_at_the_same_moment() {
    let life = |created_s, started_s, deleted_s, removed_s| PodRecord {
        started_s,
        deleted_s,
        removed_s,
        ..pod("server-0", created_s, None)
    };
    let window = Window::between(RUN, 0.0, f64::INFINITY);
    let old = life(0.0, Some(0.0), Some(2.0), Some(3.0));
    // Created at 1 s, running from 2 s: when the old one terminates, so never three at once …
    let next = life(1.0, Some(2.0), None, None);
    assert_eq!(most_phases([&old, &next].into_iter(), window), 2);
    // … but for one that is created meanwhile, at 2.5 s.
    let third = life(2.5, None, None, None);
    assert_eq!(most_phases([&old, &next, &third].into_iter(), window), 3);
    assert_eq!(most_phases([&old, &next, &third].into_iter(), Window::between(RUN, 0.0, 2.0)), 2);
}

#[test]
fn a_splits_error_is_that_of_its_worst_target() {
    // 0.99 − 0.9 and 0.1 − 0.01 are the same; the change of 1 s was everywhere at 3.5 s.
    let is = |metric: &str, value: f64| assert!((of(metric, Pods::All, None, None).unwrap() - value).abs() < 1e-12);
    is("splits.effective_error.max", 0.09);
    is("splits.measured_error.max", 0.09);
    is("configuration_s.max", 2.5);
}

#[test]
fn what_a_run_counts_is_its_number() {
    assert_eq!(of("keys.moved", Pods::All, None, None), Some(7.0));
    assert_eq!(of("probes", Pods::All, None, None), Some(0.0));
}

#[test]
fn reconnects_and_attempts_are_counted_by_bucket() {
    let of = |metric: &str, from_s, until_s| of(metric, Pods::All, from_s, until_s);
    assert_eq!(of("connections.opened_per_s.peak", None, None), Some(4.0));
    // The last bucket is half a second long: 2 in it are 4 per s.
    assert_eq!(of("connections.opened_per_s.peak", Some(1.0), Some(3.0)), Some(1.0));
    assert_eq!(of("connections.opened_per_s.peak", Some(1.0), None), Some(4.0));
    // 70 came to the servers, clients began 71; from 3 s on 10 and 10.
    assert_eq!(of("attempts_per_request", None, None), Some(70.0 / 71.0));
    assert_eq!(of("attempts_per_request", Some(3.0), None), Some(1.0));
    assert_eq!(of("attempts_per_request", Some(1.2), Some(1.8)), None);
}

#[test]
fn deployments_are_told_apart() {
    let of = |metric: &str, names: &[&str], from_s| {
        let deployments = names.iter().map(|&name| name.to_owned()).collect();
        let what = Measure { metric: format!("deployment.{metric}"), deployments, from_s, ..Measure::default() };
        measure(&strategy(), RUN, &what)
    };
    // 15 of 20 at the canary; 20 of 100 + 20 requests.
    assert_eq!(of("error_rate", &["canary"], None), Some(0.75));
    assert_eq!(of("share", &["canary"], None), Some(20.0 / 120.0));
    assert_eq!(of("share", &["canary"], Some(1.0)), Some(0.2));
    assert_eq!(of("ok", &["canary"], Some(1.0)), Some(0.0));
    // 17 of 120 together.
    assert_eq!(of("failed", &["server", "canary"], None), Some(17.0));
    assert_eq!(of("error_rate", &["server", "canary"], None), Some(17.0 / 120.0));
    assert_eq!(of("latency_ms.p99", &["server", "canary"], None), Some(9.0));
    assert_eq!(of("latency_ms.p99", &["server"], Some(1.0)), None, "a distribution cannot be cut");
    assert_eq!(of("share", &["other"], None), Some(1.0), "alone in its service");
    assert_eq!(of("requests", &["client"], None), None);
    let detect = |name: &str| {
        let deployments = vec![name.to_owned()];
        measure(&strategy(), RUN, &Measure { metric: "detect.requests".to_owned(), deployments, ..Measure::default() })
    };
    assert_eq!((detect("canary"), detect("server")), (Some(11.0), None), "stable is not the one that is worse");
    // From 1 s on a fifth goes to the canary, which fails all of it: ln 0.05 / ln 0.8 = 13.4.
    let what = Measure {
        metric: "detect.requests".to_owned(),
        deployments: vec!["canary".to_owned()],
        from_s: Some(1.0),
        ..Measure::default()
    };
    assert_eq!(measure(&strategy(), RUN, &what), Some(14.0));
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
    assert_eq!(measure(&s, RUN, &what("time_to_traffic_s.max")), None);
    assert_eq!(measure(&s, RUN, &what("time_to_traffic_s.mean")), None);
    assert_eq!(measure(&s, RUN, &what("first_request_s.max")), None);
    assert_eq!(measure(&s, RUN, &what("time_to_traffic_s.min")), Some(0.1));
}

#[test]
fn latencies_need_an_ok_request() {
    let mut s = strategy();
    s.requests.ok = 0;
    let what = |metric: &str| Measure { metric: metric.to_owned(), ..Measure::default() };
    assert_eq!(measure(&s, RUN, &what("latency_ms.p99")), None);
    assert_eq!(measure(&s, RUN, &what("node_hops.mean")), None);
    assert_eq!(measure(&s, RUN, &what("requests.ok")), Some(0.0));
}

#[test]
fn words_name_pods_and_window() {
    let mut what = Measure {
        metric: "share.max".to_owned(),
        load: None,
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
    (what.from_s, what.until_s) = (None, None);
    assert_eq!(what.describe(), "latency_ms.p99");
    what.metric = "requests.failed".to_owned();
    what.until_s = Some(30.0);
    assert_eq!(what.describe(), "requests.failed until 30 s");
    (what.load, what.until_s) = (Some("preview".to_owned()), None);
    assert_eq!(what.describe(), "requests.failed of load preview");
    what.metric = "share".to_owned();
    assert_eq!(what.describe(), "share of load preview at server and canary pods");
}
