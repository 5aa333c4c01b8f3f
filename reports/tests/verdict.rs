//! The verdict must be true of whatever the record holds.

mod common;

use common::{HEADLESS, Sample, empty, headless, record, strategies, strategy, three};
use reports::record::{RunRecord, StrategyRecord};
use reports::verdict::sentence;

fn of(strategies: Vec<StrategyRecord>) -> String {
    sentence(&record("x", "?", strategies))
}

fn no_new(name: &'static str) -> Sample {
    Sample { name, new: 0, ..HEADLESS }
}

#[test]
fn one_strategy_whose_new_pods_get_nothing() {
    // The second new pod is ready at 62.3 s of 120 s.
    assert_eq!(
        sentence(&headless()),
        "headless: the 2 new server pods got no request in the 57.7 s after they were ready; 3 of 5 server pods take \
         every request from 63 s on, evenly; p99 31.2 ms, 0 of 41,239 requests failed."
    );
}

#[test]
fn one_strategy_without_new_pods() {
    assert_eq!(
        of(vec![strategy(no_new("even"), 1.0, 343.0)]),
        "even: 3 server pods share evenly, the busiest 1.00 × the mean; p99 31.2 ms, 0 of 41,171 requests failed."
    );
    assert_eq!(
        of(vec![strategy(Sample { one_pod: true, ..no_new("clusterip") }, 1.0, 343.0)]),
        "clusterip: one of 3 server pods, server-0, takes every request; p99 31.2 ms, 0 of 41,172 requests failed."
    );
}

#[test]
fn one_new_pod_and_pods_that_are_never_ready() {
    let mut s = strategy(Sample { new: 1, reached: Some(14.2), ..HEADLESS }, 1.0, 343.0);
    assert!(of(vec![s.clone()]).starts_with(
        "headless: the new server pod got its first request 14.2 s after it was created; 4 server pods share evenly from 75 s on"
    ));
    for p in s.pods.iter_mut().filter(|p| p.created_s > 0.0) {
        (p.ready_s, p.first_request_s) = (None, None);
    }
    assert!(of(vec![s]).starts_with("headless: the new server pod was never ready; "));
    let mut s = strategy(Sample { new: 3, reached: Some(5.0), ..HEADLESS }, 1.0, 343.0);
    s.pods[4].first_request_s = None;
    s.pods[5].first_request_s = None;
    s.pods[5].ready_s = None;
    assert!(of(vec![s]).starts_with(
        "headless: 1 of the 2 new server pods got no request in the 58 s after it was ready (1 more never ready); "
    ));
}

#[test]
fn nothing_to_measure() {
    assert_eq!(sentence(&empty()), "The record holds no strategy: there is nothing to report.");
    let mut s = strategy(no_new("idle"), 1.0, 343.0);
    s.requests = Default::default();
    assert_eq!(of(vec![s.clone()]), "No request was started: there is nothing to measure.");
    assert_eq!(of(vec![s.clone(), s.clone()]), "No request was started: there is nothing to measure.");
    s.timeline.requests_per_pod.clear();
    s.requests.started = 10;
    assert_eq!(of(vec![s.clone()]), "idle: none of 10 requests ended before the run did.");
    s.requests.failed = 1;
    assert_eq!(of(vec![s]), "idle: the only request that ended failed.");
}

#[test]
fn several_strategies_compare_with_the_first() {
    assert_eq!(
        sentence(&three()),
        "sidecar reaches the new server pods within 6.6 s of creation, ingress-max-age within 7 s, headless never; the \
         load ends up even under those that reach them, least so under headless (busiest server pod 1.67 × the mean); \
         p99 is lowest under sidecar, 28.5 ms against 31.2 ms of the baseline headless (−8.6 %, one seed, no interval); \
         40 of ingress-max-age's requests failed (0.1 %), no other."
    );
    assert!(sentence(&strategies()).starts_with(
        "sidecar, node-proxy, ingress and 2 more reach the new server pods within 6.6 s of creation (sidecar) to 14.9 s \
         (max-age), headless and clusterip never; "
    ));
}

#[test]
fn equal_strategies_are_called_equal() {
    let all = vec![strategy(no_new("a"), 1.0, 343.0), strategy(no_new("b"), 1.0, 343.0)];
    assert_eq!(
        of(all),
        "the load ends up even under each (busiest server pod at most 1.00 × the mean); p99 is 31.2 ms under each (one \
         seed, no interval); no request failed."
    );
}

#[test]
fn a_baseline_that_is_best_or_completes_nothing() {
    let slow = Sample { tail: 4.0, ..no_new("slow") };
    let all = vec![strategy(no_new("fast"), 1.0, 343.0), strategy(slow, 1.0, 343.0)];
    assert!(of(all.clone()).contains(
        "p99 is nowhere below the baseline fast's 31.2 ms and highest under slow, 48.0 ms (+54 %, one seed, no interval)"
    ), "{}", of(all));
    let mut all = all;
    all[0].requests.failed = all[0].requests.ok;
    all[0].requests.ok = 0;
    let text = of(all);
    assert!(text.contains("p99 is lowest under slow, 48.0 ms (the baseline fast completed no request)"), "{text}");
    assert!(text.ends_with("fast's requests failed (100 %), no other."), "{text}");
}

#[test]
fn no_strategy_reaches_the_new_pods() {
    let all = vec![strategy(HEADLESS, 1.0, 343.0), strategy(Sample { name: "other", ..HEADLESS }, 1.0, 343.0)];
    assert!(of(all).starts_with("no strategy sends the new server pods a request; "));
}

#[test]
fn new_proxies_are_told_of_under_one_strategy() {
    let mut r: RunRecord = headless();
    let mut proxy = r.strategies[0].pods[4].clone();
    proxy.role = reports::record::Role::Proxy;
    proxy.deployment = "proxy".to_owned();
    r.strategies[0].pods.push(proxy);
    assert!(sentence(&r).contains("; the new proxy pod got no request in the 58 s after it was ready; "));
}
