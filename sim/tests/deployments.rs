//! Stable against canary: whose requests are whose, through every kind of strategy.

mod common;

use common::{event, run, sum};
use reports::record::DeploymentRecord;

/// Three stable pods and a slow canary behind one service, under round robin: a quarter each.
const SCENARIO: &str = r#"
title = "Who answers?"
duration = "20s"

[[deployment]]
name = "stable"
replicas = 3
service_time = { constant = "10ms" }

[[deployment]]
name = "canary"
service_time = { constant = "40ms" }

[[deployment]]
name = "proxy"

[[deployment]]
name = "client"

[[service]]
name = "server"
deployments = ["stable", "canary"]

[load]
from = "client"
to = "server"
open = { rate = "200/s", arrivals = "constant" }
DEADLINE

[[strategy]]
name = "client"
balancer = "client"
client = { policy = "round_robin" }

[[strategy]]
name = "ingress"
balancer = "ingress"

[[strategy]]
name = "sidecar"
balancer = "sidecar"

[[strategy]]
name = "routed"
balancer = "client"
client = { policy = "round_robin", resolver = "xds" }
[[strategy.route]]
name = "all"
clusters = [{ name = "server" }]
"#;

#[test]
fn requests_are_the_deployments_that_answered_them_also_through_a_proxy() {
    for s in &run(&SCENARIO.replace("DEADLINE", "")).strategies {
        let [stable, canary] = s.deployments.as_slice() else { panic!("{}: {:?}", s.name, s.deployments) };
        assert_eq!((stable.name.as_str(), canary.name.as_str()), ("stable", "canary"));
        assert_eq!(stable.requests + canary.requests, s.requests.ok, "{}: nothing failed, all reached one", s.name);
        assert!((canary.share - 0.25).abs() < 0.01, "{}: {}", s.name, canary.share);
        assert!((stable.share + canary.share - 1.0).abs() < 1e-12);
        // The work, and a few hops of a quarter of a millisecond.
        assert!((10.0..14.0).contains(&stable.latency_ms.p50), "{}: {:?}", s.name, stable.latency_ms);
        assert!((40.0..45.0).contains(&canary.latency_ms.p99), "{}: {:?}", s.name, canary.latency_ms);
        for d in [stable, canary] {
            assert_eq!(sum(&d.timeline.requests), d.requests, "{}: {}", s.name, d.name);
            assert_eq!(d.timeline.p99_ms.len(), s.timeline.ok.len());
        }
    }
}

#[test]
fn a_deadline_fails_the_requests_of_those_that_are_too_slow() {
    // 25 ms: enough for the stable pods, too little for the canary, also when it is a proxy that waits for it.
    for s in &run(&SCENARIO.replace("DEADLINE", "deadline = \"25ms\"")).strategies {
        let rate = |d: &DeploymentRecord| d.error_rate.expect("requests");
        assert_eq!((rate(&s.deployments[0]), rate(&s.deployments[1])), (0.0, 1.0), "{}", s.name);
        assert_eq!(s.deployments[1].failed, s.requests.failed, "{}: each is attributed", s.name);
        assert_eq!(sum(&s.deployments[1].timeline.failed), s.requests.failed);
        assert_eq!(s.deployments[1].latency_ms.p99, 0.0, "none ended OK");
    }
}

#[test]
fn one_that_reached_no_server_is_nobodys() {
    // All servers die; until they are back and known, no endpoint is ready or connections are refused.
    let kill = event("5s", "kill = { deployment = \"stable\", pods = 3 }")
        + &event("5s", "kill = { deployment = \"canary\" }");
    for s in &run(&(SCENARIO.replace("DEADLINE", "") + &kill)).strategies {
        let attributed: u64 = s.deployments.iter().map(|d| d.failed).sum();
        assert!(s.requests.failed > 100, "{}: {:?}", s.name, s.requests);
        // Those that were being worked on when the pods died.
        assert!(
            attributed > 0 && attributed < s.requests.failed / 5,
            "{}: {attributed} of {}",
            s.name,
            s.requests.failed
        );
    }
}

#[test]
fn one_deployment_alone_has_the_runs_latencies() {
    let text = SCENARIO.replace("DEADLINE", "").replace("[\"stable\", \"canary\"]", "[\"stable\"]");
    for s in &run(&text).strategies {
        let [stable] = s.deployments.as_slice() else { panic!("{}: {:?}", s.name, s.deployments) };
        assert_eq!((stable.requests, stable.share), (s.requests.ok, 1.0));
        assert_eq!(stable.latency_ms.mean, s.latency_ms.mean, "{}", s.name);
        assert_eq!(stable.timeline.p99_ms, s.timeline.p99_ms);
    }
}

#[test]
fn a_canary_that_fails_is_told_after_a_few_requests_and_burns_the_budget() {
    let text = SCENARIO.replace("DEADLINE", "deadline = \"25ms\"\nslo = 0.9");
    for s in &run(&text).strategies {
        let [stable, canary] = s.deployments.as_slice() else { panic!("{}: {:?}", s.name, s.deployments) };
        // All of a quarter fail, nothing else does: ln 0.05 / ln(3/4) = 10.4.
        assert_eq!((stable.detect_requests, canary.detect_requests), (None, Some(11)), "{}", s.name);
        // A quarter failed, a tenth may.
        let burned = s.error_budget_burned.expect("requests ended");
        assert!((burned - 2.5).abs() < 0.05, "{}: {burned}", s.name);
    }
}
