//! The verdict must be true of whatever the record holds.

mod common;

use common::{HEADLESS, Sample, canary, empty, headless, record, strategies, strategy, three};
use reports::record::{
    ConfigurationRecord, DeploymentRecord, PodRecord, Requests, Role, RunRecord, SplitPart, SplitRecord, StrategyRecord,
};
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
    assert!(text.starts_with("Under fast all requests failed, under slow none; "), "{text}");
    assert!(text.contains("p99 is lowest under slow, 48.0 ms (the baseline fast completed no request)"), "{text}");
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

/// Strategies that spread evenly and failed these of 1,000 requests.
fn failing(failed: &[(&'static str, u64)]) -> String {
    let one = |&(name, failed): &(&'static str, u64)| {
        let mut s = strategy(no_new(name), 1.0, 343.0);
        s.requests = Requests { started: 1000, ok: 1000 - failed, failed };
        s
    };
    of(failed.iter().map(one).collect())
}

#[test]
fn failures_that_differ_much_come_first() {
    let text = failing(&[("a", 4), ("b", 120), ("c", 0), ("d", 4)]);
    assert_eq!(
        text,
        "Under b 12 % of requests failed, under a and d 0.4 %, under c none; of requests answered OK, p99 is 31.2 ms under \
         each (one seed)."
    );
    // A third of the most is much less; more is not. Nor does 1 % lead from below.
    assert!(failing(&[("a", 40), ("b", 120)]).starts_with("Under b 12 % of requests failed, under a 4 %; "));
    for alike in [[("a", 41), ("b", 120)], [("a", 0), ("b", 9)]] {
        assert!(failing(&alike).starts_with("The load ends up even under each"), "{}", failing(&alike));
    }
}

#[test]
fn p99s_that_are_near_are_not_ranked() {
    let with = |ms: f64| {
        let mut all = vec![strategy(no_new("a"), 1.0, 343.0), strategy(no_new("b"), 1.0, 343.0)];
        all[0].latency_ms.p99 = 50.0;
        all[1].latency_ms.p99 = ms;
        of(all)
    };
    assert!(with(50.9).contains("; p99 is about the same under each, 50.0 to 50.9 ms (one seed); "), "{}", with(50.9));
    assert!(with(51.0).contains("p99 is 51.0 ms under b against the baseline a's 50.0 ms (+2.0 %, one seed)"));
}

fn split(configured: f64, effective: f64, measured: f64) -> SplitRecord {
    let part = |name: &str, of: [f64; 3]| SplitPart {
        name: name.to_owned(),
        configured: of[0],
        effective: of[1],
        measured: of[2],
        requests: (of[2] * 1000.0) as u64,
    };
    let v1 = part("v1", [1.0 - configured, 1.0 - effective, 1.0 - measured]);
    let parts = vec![v1, part("v2", [configured, effective, measured])];
    SplitRecord { route: "all".to_owned(), from_s: 0.0, until_s: 120.0, parts }
}

#[test]
fn a_split_that_is_not_what_was_configured_is_told_of() {
    let mut by_name = strategy(no_new("by-name"), 1.0, 343.0);
    by_name.splits = vec![split(0.5, 0.25, 0.25)];
    by_name.configurations = vec![ConfigurationRecord { at_s: 10.0, last_s: Some(17.5) }];
    let mut by_route = strategy(no_new("by-route"), 1.0, 343.0);
    by_route.splits = vec![split(0.5, 0.5, 0.498)];
    by_route.configurations = vec![ConfigurationRecord { at_s: 10.0, last_s: Some(10.1) }];
    let text = of(vec![by_name.clone(), by_route.clone()]);
    // The target's name keeps its spelling at the front of the sentence.
    assert!(
        text.starts_with(
            "v2 was meant to get 50 % and got 25 % under by-name, as weights count per address; targets got what was \
             configured under by-route, within 0.2 % of all requests; a change reached every balancer within 7.50 s under \
             by-name and 0.1 s under by-route; "
        ),
        "{text}"
    );
    let text = of(vec![by_route]);
    assert!(text.contains("targets got what was configured, within 0.2 % of all requests; "), "{text}");
    assert!(!text.contains("a change"), "0.1 s is no delay: {text}");
}

#[test]
fn a_canary_is_told_of_by_what_it_fails_and_not_by_how_even_it_is() {
    let mut record = canary();
    let text = sentence(&record);
    assert!(text.contains("; server-canary fails 2"), "{text}");
    assert!(text.contains(" % of its 10 % of the requests (told after 119 requests); "), "{text}");
    assert!(!text.contains("evenly") && !text.contains("the mean"), "{text}");
    // A strategy that keeps requests from it.
    let mut other = record.strategies[0].clone();
    other.name = "kept".to_owned();
    let d = other.deployments.iter_mut().find(|d| d.name == "server-canary").expect("a canary");
    (d.requests, d.ok, d.failed, d.share, d.error_rate, d.detect_requests) = (0, 0, 0, 0.0, None, None);
    record.strategies.push(other);
    let text = sentence(&record);
    assert!(text.contains(" (told after 119 requests), gets none under kept; "), "{text}");
    // Without failures its part is what is left to say.
    for d in record.strategies.iter_mut().flat_map(|s| &mut s.deployments) {
        (d.ok, d.failed, d.detect_requests) = (d.requests, 0, None);
    }
    let text = sentence(&record);
    assert!(text.contains("server-canary gets 10 % of the requests under "), "{text}");
    assert!(text.contains(", 0 % under kept; "), "{text}");
}
