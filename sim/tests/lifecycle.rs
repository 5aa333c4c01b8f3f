//! Pods that come and go at awkward moments, each with the arithmetic of what must come out.

mod common;

use common::{at_the_end, between, changed, event, pod, pods_of, received, scale, strategy};
use reports::record::{PodRecord, RunRecord};

/// A server, a client and a proxy; every message takes 1 ms, a request no time at all unless said otherwise.
const BASE: &str = r#"
title = "lifecycle"
duration = "10s"
interval = "100ms"
cluster = { hops = { same_pod = "1ms", same_node = "1ms", same_zone = "1ms" } }
dns = { cache = "0s", publication_delay = "50ms" }
endpoint_slices = { delay = "50ms" }
[[deployment]]
name = "server"
start_up = "200ms"
readiness = { period = "100ms" }
[[deployment]]
name = "proxy"
start_up = "200ms"
readiness = { period = "100ms" }
[[deployment]]
name = "client"
start_up = "200ms"
[[service]]
name = "server"
deployments = ["server"]
[load]
from = "client"
to = "server"
open = { rate = "100/s", arrivals = "constant" }
"#;

/// The base with these changes and additions.
fn run(changes: &[(&str, &str)], more: &str) -> RunRecord {
    common::run(&changed(BASE, changes, more))
}

#[test]
fn what_happens_at_once_happens_to_a_running_cluster() {
    let events = event("1ms", "restart = { deployment = \"client\" }") + &scale("1ms", "server", 2);
    let more = strategy("client") + "client = { policy = \"round_robin\", resolver = \"strict_dns\" }\n" + &events;
    let s = &run(&[], &more).strategies[0];
    // The new client's process listens 0.2 s after the event; then it sends 100/s.
    assert_eq!(pod(s, "client-1").started_s, Some(0.201));
    assert_eq!(at_the_end(s), 100);
    // The new server is ready within a probe's period of its start, and takes half once the next look-up has found it.
    assert!(pod(s, "server-1").ready_s.is_some_and(|ready| (0.2..0.3).contains(&ready)));
    assert!(pod(s, "server-1").requests > 200, "{}", pod(s, "server-1").requests);
}

#[test]
fn a_proxy_that_is_started_again_is_found_where_it_was() {
    for action in ["restart = { deployment = \"proxy\" }", "kill = { deployment = \"proxy\", pods = 3 }"] {
        for balancer in ["sidecar", "node_proxy"] {
            let more = strategy(balancer) + &event("3s", action);
            let s = &run(&[("name = \"client\"\n", "name = \"client\"\nreplicas = 2\n")], &more).strategies[0];
            // Down for 0.2 s of start-up and a back-off of at most 1.2 s; long up again in the last of ten seconds.
            assert_eq!(at_the_end(s), 200, "{balancer}, {action}");
            assert!(s.requests.failed > 0, "nobody answers while it is away");
            let clients: u64 = pods_of(s, "client").iter().map(|p| p.requests).sum();
            assert_eq!(clients, s.requests.started, "clients receive nothing");
        }
    }
}

#[test]
fn a_goaway_during_the_handshake_is_heard_after_it() {
    // The client's first packet comes to the server 3 ms into the run: the query and its answer, then itself. The
    // handshake ends at 6 ms. The server is told to go at 4 ms, and another is there; requests take 2 s of its 3 s.
    let events = scale("4ms", "server", 0) + &scale("5ms", "server", 1);
    let changes = [
        ("name = \"server\"\nstart_up", "name = \"server\"\ntermination_grace_period = \"3s\"\nstart_up"),
        ("open = { rate = \"100/s\", arrivals = \"constant\" }", "closed = { concurrency = 1, pause = \"10ms\" }"),
    ];
    let client = "client = { policy = \"round_robin\", resolver = { dns = { min_resolution_interval = \"1ms\" } } }\n";
    let s = &run(&changes, &(strategy("client") + client + &events)).strategies[0];
    let first = &s.pods[0];
    assert_eq!((first.name.as_str(), s.connections.goaways), ("server-0", 1));
    // The request that waited for the connection is served; then the connection closes, and the pod need not be killed.
    assert_eq!(first.requests, 1);
    let removed = first.removed_s.expect("it ended");
    assert!((0.006..0.02).contains(&removed), "{removed}");
    assert!(at_the_end(s) > 50, "the next server has taken over");
}

#[test]
fn a_deadline_frees_the_client_and_the_pod_when_it_is_done() {
    // Work takes 10 ms on average, the deadline is 20 ms: one in e^2 requests is late. A pod whose slots the late ones
    // kept would stop after the first.
    let changes = [
        ("name = \"server\"\n", "name = \"server\"\nservice_time = { exponential = \"10ms\" }\nconcurrency = 2\n"),
        ("rate = \"100/s\"", "rate = \"20/s\""),
        ("[load]\n", "[load]\ndeadline = \"20ms\"\nconnection = \"per_request\"\n"),
    ];
    for balancer in ["kube_proxy", "client", "ingress", "sidecar", "mesh"] {
        let r = &run(&changes, &strategy(balancer)).strategies[0].requests;
        // Look-up and connection take 6 ms of the 20 for each leg that makes its own, the way 2 ms a leg.
        assert!(r.ok as f64 > 0.5 * r.started as f64, "{balancer}: {r:?}");
        assert!(r.failed > 10, "{balancer}: {r:?}");
    }
}

#[test]
fn without_a_queue_a_pod_is_a_loss_system() {
    // Erlang B with 2 servers and 2 erlangs: B = (2^2/2) / (1 + 2 + 2^2/2) = 0.4. 200/s · 10 ms = 2 erlangs.
    let changes = [
        (
            "name = \"server\"\n",
            "name = \"server\"\nservice_time = { exponential = \"10ms\" }\nconcurrency = 2\nqueue = 0\n",
        ),
        ("rate = \"100/s\", arrivals = \"constant\"", "rate = \"200/s\""),
        ("duration = \"10s\"", "duration = \"500s\""),
    ];
    let s = &run(&changes, &strategy("client")).strategies[0];
    let lost = s.requests.failed as f64 / s.requests.started as f64;
    // 100,000 requests: 0.4 ± 0.002, four standard errors allow 0.008 (losses come in runs).
    assert!((lost - 0.4).abs() < 0.008, "{lost}");
    assert_eq!((s.errors.len(), s.errors[0].code.as_str()), (1, "RESOURCE_EXHAUSTED"));
    // Nobody waits: service and two hops of 1 ms, 10 ms · ln 2 + 2 ms = 8.9 ms.
    assert!((s.latency_ms.p50 - 8.93).abs() < 0.2, "{:?}", s.latency_ms);
}

#[test]
fn down_to_nothing_and_back() {
    let events = scale("2s", "server", 0) + &scale("5s", "server", 2);
    for balancer in ["kube_proxy", "client", "ingress", "sidecar", "node_proxy", "mesh"] {
        let s = &run(&[("duration = \"10s\"", "duration = \"40s\"")], &(strategy(balancer) + &events)).strategies[0];
        let answered = |from, until| between(&s.timeline.ok, from, until);
        assert!(answered(0, 2) >= 190, "{balancer}");
        assert_eq!(answered(3, 5), 0, "{balancer}");
        // Up 0.4 s later. A proxy looks up every 5 s, a ClusterIP is still the same; only the client that resolves for
        // itself stays with an address nobody has until the floor between look-ups, 30 s, is over.
        assert_eq!(answered(25, 28) > 0, balancer != "client", "{balancer}");
        assert_eq!(at_the_end(s), 100, "{balancer}");
    }
}

#[test]
fn draining_servers_cost_no_requests() {
    // Two of three servers restart while requests of 50 ms are under way; they have 30 s to finish them.
    let changes =
        [("name = \"server\"\n", "name = \"server\"\nreplicas = 3\nservice_time = { constant = \"50ms\" }\n")];
    let events = scale("2s", "server", 1);
    for balancer in ["client", "ingress", "sidecar", "node_proxy", "mesh"] {
        let client = "client = { policy = \"round_robin\" }\n";
        let s = &run(&changes, &(strategy(balancer) + client + &events)).strategies[0];
        assert_eq!(s.requests.failed, 0, "{balancer}: {:?}", s.errors);
        for pod in s.pods.iter().filter(|p| p.removed_s.is_some()) {
            let removed = pod.removed_s.unwrap_or_default();
            // GOAWAY one way, what was sent meanwhile, 50 ms of work and the way back.
            assert!((2.0..2.06).contains(&removed), "{balancer}: {} left at {removed}", pod.name);
        }
    }
}

#[test]
fn a_rolling_update_keeps_to_its_surge_and_its_unavailability() {
    let ten = "name = \"server\"\nreplicas = 10\nmax_surge = \"25%\"\nmax_unavailable = \"25%\"\n";
    let more = strategy("sidecar") + &event("1s", "rollout = { deployment = \"server\" }");
    let s = &run(&[("name = \"server\"\n", ten)], &more).strategies[0];
    let servers = pods_of(s, "server");
    assert_eq!(servers.len(), 20, "each of the ten is replaced once");
    assert!(servers[..10].iter().all(|p| p.removed_s.is_some()) && servers[10..].iter().all(|p| p.removed_s.is_none()));
    // A pod that is told to go counts no more, and is gone a message or two of 1 ms later. So at any time the pods that
    // count are at least those that are there 5 ms later, and at most those that are there.
    let changes = servers.iter().flat_map(|p| [Some(p.created_s), p.ready_s, p.removed_s]).flatten();
    for t in changes {
        let count = |later: f64, ready: bool| {
            let there = |p: &&&PodRecord| {
                p.removed_s.is_none_or(|removed| removed > t + later)
                    && if ready { p.ready_s } else { Some(p.created_s) }.is_some_and(|since| since <= t)
            };
            servers.iter().filter(there).count()
        };
        // 25 % of 10, rounded up for the surge and down for the unavailable: 3 and 2.
        assert!(count(0.005, false) <= 13 && count(0.0, true) >= 8, "at {t} s");
    }
    assert_eq!(at_the_end(s), 100);
}

#[test]
fn a_pod_in_its_pre_stop_hook_serves_but_is_no_endpoint() {
    // Two servers; at 2 s one is deleted. For 3 s more it serves the client that has its connection, then it says GOAWAY.
    let two = "name = \"server\"\nreplicas = 2\npre_stop = \"3s\"\n";
    let more = strategy("client") + "client = { policy = \"round_robin\" }\n" + &scale("2s", "server", 1);
    let s = &run(&[("name = \"server\"\n", two)], &more).strategies[0];
    assert_eq!(received(s, "server-1", 20..49), 145, "half of 100/s for 2.9 s");
    assert_eq!(received(s, "server-1", 51..100), 0);
    assert!(pod(s, "server-1").removed_s.is_some_and(|removed| (5.0..5.1).contains(&removed)));
    assert_eq!((s.requests.failed, s.connections.goaways), (0, 1));
}

#[test]
fn scaling_in_the_middle_of_a_rolling_update_ends_with_the_new_number_of_new_pods() {
    for replicas in [0, 2, 4, 7] {
        let four = "name = \"server\"\nreplicas = 4\n";
        let more = strategy("client")
            + "client = { policy = \"round_robin\", resolver = \"strict_dns\" }\n"
            + &event("1s", "rollout = { deployment = \"server\" }")
            + &scale("1.25s", "server", replicas);
        let s = &run(&[("name = \"server\"\n", four)], &more).strategies[0];
        let left: Vec<_> = pods_of(s, "server").into_iter().filter(|p| p.removed_s.is_none()).collect();
        assert_eq!(left.len(), replicas as usize, "of {replicas}");
        assert!(left.iter().all(|p| p.created_s >= 1.0 && p.ready_s.is_some()), "none of the old revision");
    }
}

#[test]
fn a_pod_is_known_through_its_slice_first_and_out_of_the_cache_last() {
    // Ready somewhere in 1.2 s to 1.3 s; 50 ms to its slice, 50 ms to DNS. The client asks every 200 ms, and an answer is
    // kept for 1 s: from the first one on, at 2 ms, they end at 1 s, 2 s and so on after it.
    let changes = [("cache = \"0s\"", "cache = \"1s\"")];
    let client =
        "client = { policy = \"round_robin\", resolver = { strict_dns = { dns_refresh_rate = \"200ms\" } } }\n";
    let s = &run(&changes, &(strategy("client") + client + &scale("1s", "server", 2))).strategies[0];
    let pod = pod(s, "server-1");
    let step = |from: Option<f64>, to: Option<f64>| to.expect("reached") - from.expect("reached");
    assert!((step(pod.ready_s, pod.endpoint_slice_s) - 0.05).abs() < 1e-9, "{pod:?}");
    assert!((step(pod.endpoint_slice_s, pod.published_s) - 0.05).abs() < 1e-9, "{pod:?}");
    let resolvable = pod.resolvable_s.expect("the cache ends");
    assert!((2.0..2.3).contains(&resolvable), "{resolvable}");
    assert!((0.0..0.21).contains(&step(pod.resolvable_s, pod.resolved_s)), "{pod:?}");
}

#[test]
fn kube_proxy_sends_to_a_terminating_backend_only_if_there_is_no_other() {
    // KEP-1669. Each request makes its own connection. One server is deleted at 2 s and sleeps until 5 s.
    let changes = |replicas: u32| {
        [
            ("open = {", "connection = \"per_request\"\nopen = {"),
            (
                "name = \"server\"\n",
                if replicas == 1 { "name = \"server\"\nreplicas = 1\n" } else { "name = \"server\"\nreplicas = 2\n" },
            ),
        ]
    };
    for replicas in [1, 2] {
        let proxy = "pre_stop = \"3s\"\n[kube_proxy]\nsync_period = \"50ms\"\n";
        let more = strategy("kube_proxy") + proxy + &scale("2s", "server", replicas - 1);
        let s = &run(&changes(replicas), &more).strategies[0];
        let goes = pods_of(s, "server").pop().expect("it exists");
        let asleep = received(s, &goes.name, 22..49);
        assert_eq!(asleep, if replicas == 1 { 270 } else { 0 }, "100/s for 2.7 s, of {replicas}");
    }
}
