//! The verdict must be true of whatever the record holds.

mod common;

use common::{HEADLESS, Sample, empty, headless, record, strategies, strategy, three};
use reports::record::{DeploymentRecord, PodRecord, Role, RunRecord, StrategyRecord};
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
        (p.ready_s, p.published_s, p.first_request_s) = (None, None, None);
    }
    assert!(of(vec![s]).starts_with("headless: the new server pod was not published before the run ended; "));
    let mut s = strategy(Sample { new: 3, reached: Some(5.0), ..HEADLESS }, 1.0, 343.0);
    s.pods[4].first_request_s = None;
    s.pods[5].first_request_s = None;
    s.pods[5].published_s = None;
    assert!(of(vec![s]).starts_with(
        "headless: 1 of the 2 new server pods got no request in the 58 s after it was ready (1 more not published \
         before the run ended); "
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
        "sidecar spreads evenly over the new server pods within 6.6 s of creation, ingress-max-age within 7 s, headless \
         never; p99 is lowest under sidecar, 28.5 ms against the baseline headless's 31.2 ms (−8.6 %, one seed); 40 of \
         ingress-max-age's requests failed (0.1 %), no other."
    );
    assert!(sentence(&strategies()).starts_with(
        "max-age, ingress, ingress-max-age and 2 more spread evenly over the new server pods within 6.6 s of creation \
         (sidecar) to 14.9 s (max-age), headless and clusterip never; p99 "
    ));
}

#[test]
fn equal_strategies_are_called_equal() {
    let all = vec![strategy(no_new("a"), 1.0, 343.0), strategy(no_new("b"), 1.0, 343.0)];
    assert_eq!(
        of(all),
        "The load ends up even under each (busiest server pod at most 1.00 × the mean); p99 is 31.2 ms under each (one \
         seed); no request failed."
    );
}

#[test]
fn a_baseline_that_is_best_or_completes_nothing() {
    let slow = Sample { tail: 4.0, ..no_new("slow") };
    let all = vec![strategy(no_new("fast"), 1.0, 343.0), strategy(slow, 1.0, 343.0)];
    let text = of(all.clone());
    assert!(text.contains("p99 is 48.0 ms under slow against the baseline fast's 31.2 ms (+54 %, one seed)"), "{text}");
    let third = [all.clone(), vec![strategy(no_new("same"), 1.0, 343.0)]].concat();
    let text = of(third);
    assert!(
        text.contains(
            "p99 is nowhere below the baseline fast's 31.2 ms and highest under slow, 48.0 ms (+54 %, one seed)"
        ),
        "{text}"
    );
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
    assert!(of(all.clone()).starts_with(
        "No strategy sends the new server pods a request; the busiest server pod ends up with 1.67 × the mean under \
         headless and other; "
    ));
    // Ready 10 s before the end at most, which is too short to speak of never.
    let mut r = record("x", "?", all);
    for p in r.strategies.iter_mut().flat_map(|s| &mut s.pods).filter(|p| p.created_s > 0.0) {
        (p.created_s, p.ready_s) = (105.0, Some(p.ready_s.expect("ready") + 48.0));
    }
    let text = sentence(&r);
    assert!(text.starts_with("No strategy sends the new server pods a request in the 10 s that were left; "), "{text}");
    // From creation at 105 s to the end at 120 s.
    assert!(reports::terminal::table(&r, false).contains(" >15.0 s "), "{}", reports::terminal::table(&r, false));
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

/// The client restarts at 90 s; its new pod listens 2 s later and calls the new servers at once.
fn restarted() -> RunRecord {
    let mut waits = strategy(Sample { reached: Some(32.1), ..HEADLESS }, 1.0, 343.0);
    let mut client = waits.pods[0].clone();
    (client.created_s, client.started_s) = (90.0, Some(92.0));
    for p in waits.pods.iter_mut().filter(|p| p.created_s > 0.0) {
        (p.ready_s, p.published_s) = (Some(57.0), Some(58.0));
    }
    waits.pods.push(client);
    let polls = strategy(Sample { name: "sidecar", reached: Some(6.0), ..HEADLESS }, 1.0, 343.0);
    let mut r = record("x", "?", vec![waits, polls]);
    r.events.push(reports::record::EventRecord { at_s: 90.0, label: "restart client".to_owned() });
    r
}

#[test]
fn pods_that_only_a_new_caller_finds_are_told_of_as_such() {
    let mut r = restarted();
    let text = sentence(&r);
    assert!(
        text.starts_with(
            "sidecar spreads evenly over the new server pods within 6.7 s of creation, headless only after “restart \
             client” at 90 s; "
        ),
        "{text}"
    );
    r.strategies.truncate(1);
    let text = sentence(&r);
    assert!(
        text.starts_with(
            "headless: both new server pods got requests, the last 32.8 s after it was created, only after “restart \
             client” at 90 s; "
        ),
        "{text}"
    );
    // Published only 20 s before the new caller came: any caller might have found them just then.
    for p in r.strategies[0].pods.iter_mut().filter(|p| p.created_s == 60.0) {
        p.published_s = Some(70.0);
    }
    assert!(
        sentence(&r).starts_with("headless: both new server pods got requests, the last 32.8 s after it was created; ")
    );
}

/// The same where every server has a sidecar.
fn restarted_in_a_mesh() -> RunRecord {
    let mut r = restarted();
    for s in &mut r.strategies {
        let servers: Vec<PodRecord> = s.pods.iter().filter(|p| p.role == Role::Server).cloned().collect();
        s.deployments = vec![DeploymentRecord { name: "server".to_owned(), ..DeploymentRecord::default() }];
        for server in servers {
            let (name, deployment) = (format!("{}/envoy", server.name), "envoy".to_owned());
            s.pods.push(PodRecord { name, deployment, role: Role::Proxy, first_request_s: None, ..server });
        }
    }
    r
}

#[test]
fn sidecars_of_servers_are_no_new_proxies_and_bring_nobody() {
    // As proxies they would be told of as idle; as callers they would have found what only a new client finds.
    let without = sentence(&restarted());
    assert_eq!(sentence(&restarted_in_a_mesh()), without);
    let mut r = restarted_in_a_mesh();
    let client = |p: &&mut PodRecord| p.role == Role::Client && p.created_s > 0.0;
    // What comes at 90 s is another server's sidecar in place of the client.
    let late = r.strategies[0].pods.iter_mut().find(client).expect("it was restarted");
    (late.role, late.name) = (Role::Proxy, "server-9/envoy".to_owned());
    assert!(!sentence(&r).contains("only after"), "{}", sentence(&r));
}

#[test]
fn idle_proxies_are_told_of_among_several() {
    let mut r = strategies();
    let mut proxy = r.strategies[0].pods[4].clone();
    proxy.role = reports::record::Role::Proxy;
    proxy.deployment = "proxy".to_owned();
    r.strategies[3].pods.push(proxy);
    let text = sentence(&r);
    assert!(text.contains(" never; the new proxy pods idle under ingress; p99 "), "{text}");
}
