//! Sidecars on both sides: what a request passes, what it costs, and how a pod of two containers starts and ends.

mod common;

use common::{at_the_end, changed, event, pod, received, scale, strategy};
use reports::record::{Role, RunRecord};

/// Three servers on three nodes, one client. Every message takes 1 ms and work no time where a test has not said otherwise.
const BASE: &str = r#"
title = "mesh"
duration = "10s"
interval = "100ms"
cluster = { nodes = 3, hops = { same_pod = "1ms", same_node = "1ms", same_zone = "1ms" } }
dns = { cache = "0s", publication_delay = "50ms" }
endpoint_slices = { delay = "50ms" }
[[deployment]]
name = "server"
replicas = 3
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
fn each_side_of_a_call_has_a_sidecar_and_each_leg_its_two_messages() {
    // Proxies work for 3 ms, servers for 10 ms. There and back on every leg: 2 ms · 1, · 2, · 3.
    let work = [
        ("name = \"server\"\n", "name = \"server\"\nservice_time = { constant = \"10ms\" }\nconcurrency = 9\n"),
        ("name = \"proxy\"\n", "name = \"proxy\"\nservice_time = { constant = \"3ms\" }\nconcurrency = 9\n"),
        ("duration = \"10s\"", "duration = \"10s\"\nwarm_up = \"1s\""),
    ];
    let strategies = strategy("client") + &strategy("sidecar") + &strategy("mesh");
    let record = run(&work, &strategies);
    for (s, (proxies, legs)) in record.strategies.iter().zip([(0, 1), (1, 2), (2, 3)]) {
        let expected = f64::from(10 + 3 * proxies + 2 * legs);
        let latency = &s.latency_ms;
        // The mean is exact, percentiles have three digits.
        assert!((latency.mean - expected).abs() < 1e-9 && (latency.max - expected).abs() < 1e-9, "{latency:?}");
        assert_eq!((s.node_hops.max, s.requests.failed), (record.strategies[0].node_hops.max, 0), "{}", s.name);
    }
    let s = &record.strategies[2];
    let names: Vec<&str> = s.pods.iter().filter(|p| p.role == Role::Proxy).map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["server-0/proxy", "server-1/proxy", "server-2/proxy", "client-0/proxy"]);
    for server in ["server-0", "server-1", "server-2"] {
        let sidecar = pod(s, &format!("{server}/proxy"));
        assert_eq!((sidecar.node.as_str(), sidecar.requests), (&*pod(s, server).node, pod(s, server).requests));
    }
    // The client's to its sidecar, three across, and one within each server's pod.
    assert_eq!(s.connections.opened, 1 + 3 + 3);
    let of_servers = &s.deployments;
    assert_eq!((of_servers.len(), of_servers[0].name.as_str(), of_servers[0].ok), (1, "server", s.requests.ok));
}

#[test]
fn servers_do_the_same_work_behind_a_second_sidecar() {
    // With room for everybody a request takes what its own work takes; the second sidecar has work of its own.
    let random = [
        ("name = \"server\"\n", "name = \"server\"\nservice_time = { exponential = \"10ms\" }\nconcurrency = 99\n"),
        ("name = \"proxy\"\n", "name = \"proxy\"\nservice_time = { exponential = \"1ms\" }\nconcurrency = 99\n"),
        ("duration = \"10s\"", "duration = \"60s\""),
    ];
    let record = run(&random, &(strategy("sidecar") + &strategy("mesh")));
    let p99 = record.strategies[1].latency_ms.p99 - record.strategies[0].latency_ms.p99;
    let [sidecar, mesh] = [0, 1].map(|i| record.strategies[i].latency_ms.mean);
    // 2 ms on the loopback and 1 ms of work, of 6,000 draws: ± 3 · 1 ms / √6,000 = 0.04 ms. Other work of the servers would
    // move it by ± 3 · √2 · 10 ms / √6,000 = 0.5 ms.
    assert!((mesh - sidecar - 3.0).abs() < 0.04, "{mesh} - {sidecar}");
    // The two works have nothing to do with each other: the tail of their sum lies 10 ms · ln(1 / (1 − 1/10)) = 1.05 ms
    // further out than the server's. If they were the same draw it would be 1 ms · ln 100 = 4.6 ms.
    assert!((1.5..4.5).contains(&p99), "2 ms on the loopback and 1.05 ms: {p99}");
}

#[test]
fn the_pod_begins_and_ends_as_one() {
    let work =
        [("name = \"server\"\n", "name = \"server\"\nservice_time = { constant = \"50ms\" }\nconcurrency = 9\n")];
    let events = scale("2s", "server", 1) + &scale("4s", "server", 2);
    let proxy = "proxy = { resolver = \"xds\" }\n";
    let s = &run(&work, &(strategy("mesh") + proxy + &events)).strategies[0];
    assert_eq!(s.requests.failed, 0, "{:?}", s.errors);
    for name in ["server-1", "server-2"] {
        let (server, sidecar) = (pod(s, name), pod(s, &format!("{name}/proxy")));
        let (server, sidecar) = (server.removed_s.expect("it ended"), sidecar.removed_s.expect("it ended"));
        // GOAWAY one way, what was sent meanwhile, 50 ms of work, and two legs of 1 ms each way.
        assert!(2.0 < sidecar && sidecar <= server && server < 2.06, "{name}: {sidecar}, then {server}");
    }
    let (server, sidecar) = (pod(s, "server-3"), pod(s, "server-3/proxy"));
    assert_eq!((server.started_s, sidecar.started_s), (Some(4.2), Some(4.2)));
    // What is resolved and connected is the pod, through its sidecar; that the sidecar has its loopback at once is no step.
    let steps = [server.ready_s, server.published_s, server.resolved_s, server.connected_s, server.first_request_s];
    assert!(steps.is_sorted() && steps.iter().all(Option::is_some), "{steps:?}");
    assert_eq!(server.connected_s, sidecar.connected_s);
    assert_eq!(
        server.first_request_s.map(|at| (at * 1e3).round()),
        sidecar.first_request_s.map(|at| (at * 1e3).round() + 1.0)
    );
}

#[test]
fn a_server_that_terminates_lets_its_own_sidecar_in() {
    // Within a pod a message takes 15 ms, so a new sidecar has its server 90 ms after it listens: a look-up of 2, TCP and
    // HTTP/2 of 4. Callers are there sooner: at 2.2 s it listens, a probe and 7 messages of 1 ms later requests come. They
    // are held at the sidecar when the pod is deleted at 2.22 s; its server has not been called by then.
    let changes = [
        ("same_pod = \"1ms\"", "same_pod = \"15ms\""),
        ("slices = { delay = \"50ms\"", "slices = { delay = \"0s\""),
        ("period = \"100ms\"", "period = \"1ms\""),
        ("rate = \"100/s\"", "rate = \"1000/s\""),
        ("name = \"proxy\"\n", "name = \"proxy\"\nconcurrency = 9\n"),
    ];
    let events = scale("2s", "server", 4) + &scale("2.22s", "server", 3);
    let proxy = "proxy = { resolver = \"xds\" }\ncontrol_plane = { push_delay = \"0s\" }\n";
    let s = &run(&changes, &(strategy("mesh") + proxy + &events)).strategies[0];
    assert_eq!(s.requests.failed, 0, "{:?}", s.errors);
    let (server, sidecar) = (pod(s, "server-3"), pod(s, "server-3/proxy"));
    assert!(sidecar.requests > 0 && server.requests == sidecar.requests, "{} of {}", server.requests, sidecar.requests);
    // The handshake ends at 2.29 s; then 15 ms there and back.
    assert_eq!(server.first_request_s, Some(2.305));
    assert!(server.removed_s.is_some_and(|removed| (2.32..2.33).contains(&removed)), "{:?}", server.removed_s);
}

#[test]
fn a_server_in_its_pre_stop_hook_serves_through_its_sidecar() {
    let hook = [("name = \"server\"\nreplicas = 3\n", "name = \"server\"\nreplicas = 2\npre_stop = \"3s\"\n")];
    // The file's list of servers is as it was at the start: only the GOAWAY, 3 s later, tells.
    let proxy = "proxy = { resolver = { strict_dns = { dns_refresh_rate = \"1h\" } } }\n";
    let s = &run(&hook, &(strategy("mesh") + proxy + &scale("2s", "server", 1))).strategies[0];
    assert_eq!(received(s, "server-1", 20..49), 145, "half of 100/s for 2.9 s");
    assert!(pod(s, "server-1").removed_s.is_some_and(|removed| (5.0..5.1).contains(&removed)));
    assert_eq!((s.requests.failed, s.connections.goaways), (0, 1));
}

#[test]
fn a_killed_pod_takes_its_sidecar_with_it_and_a_retry_goes_elsewhere() {
    let work =
        [("name = \"server\"\n", "name = \"server\"\nservice_time = { constant = \"50ms\" }\nconcurrency = 9\n")];
    let kill = event("3s", "kill = { deployment = \"server\", pods = 1 }");
    let route = "[[strategy.route]]\nname = \"all\"\nclusters = [{ name = \"server\" }]\n";
    let retry = "[strategy.route.retry]\nmax_attempts = 2\ninitial_backoff = \"1ms\"\nretryable_status_codes = [\"UNAVAILABLE\"]\n";
    let [without, with] =
        ["", retry].map(|retry| run(&work, &(strategy("mesh") + route + retry + &kill)).strategies.remove(0));
    // 100/s for three servers, each request some 56 ms under way: two of them, one more or less, were at the killed one.
    assert!((1..=3).contains(&without.requests.failed), "{:?}", without.errors);
    assert_eq!(with.requests.failed, 0, "{:?}", with.errors);
    for s in [&without, &with] {
        assert_eq!((pod(s, "server-0").removed_s, pod(s, "server-0/proxy").removed_s), (Some(3.0), Some(3.0)));
        assert!(pod(s, "server-3/proxy").requests > 0, "its successor has one too");
        assert_eq!(at_the_end(s), 100);
    }
}

#[test]
fn a_sidecar_that_is_started_again_is_found_at_its_pods_address() {
    for action in ["restart = { deployment = \"proxy\" }", "kill = { deployment = \"proxy\", pods = 9 }"] {
        let s = &run(&[], &(strategy("mesh") + &event("3s", action))).strategies[0];
        assert!(s.requests.failed > 0, "{action}: nobody answers while they are away");
        // Down for 0.2 s of start-up and back-offs of at most 1.2 s; long up again in the last of ten seconds.
        assert_eq!(at_the_end(s), 100, "{action}");
        assert!(pod(s, "server-0").removed_s.is_none(), "{action}: the server was not touched");
        let names: Vec<&str> = s.pods[8..].iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["server-0/proxy-4", "server-1/proxy-5", "server-2/proxy-6", "client-0/proxy-7"], "{action}");
        assert!(s.pods[8..11].iter().all(|p| p.requests > 100), "{action}: {:?}", s.pods[8].requests);
    }
}

#[test]
fn an_age_is_that_of_connections_from_outside() {
    // Of the three across, one in every second after its first; those on the loopback stay.
    let age = "max_age = \"1s\"\nmax_age_jitter = 0.0\n";
    let s = &run(&[], &(strategy("mesh") + age)).strategies[0];
    assert_eq!(s.requests.failed, 0, "{:?}", s.errors);
    // Counted from the accept, the next one as soon as the GOAWAY is there: 9 in 10 s each.
    assert_eq!((s.connections.goaways, s.connections.opened), (27, 1 + 3 + 3 + 27));
}

#[test]
fn a_request_counts_for_the_deployment_whose_sidecar_it_reached() {
    let canary = "[[deployment]]\nname = \"canary\"\n[[service]]\nname = \"v2\"\ndeployments = [\"canary\"]\n";
    let route =
        "[[strategy.route]]\nname = \"split\"\nclusters = [{ name = \"server\", weight = 3 }, { name = \"v2\" }]\n";
    let s = &run(&[], &(strategy("mesh") + route + canary)).strategies[0];
    let [split] = s.splits.as_slice() else { panic!("{:?}", s.splits) };
    let parts: Vec<u64> = split.parts.iter().map(|part| part.requests).collect();
    let [server, canary] =
        ["server", "canary"].map(|d| s.deployments.iter().find(|r| r.name == d).expect("it answers"));
    assert_eq!(parts, [server.ok, canary.ok]);
    // A quarter of 1,000 ± 3 · √(1,000 · 3/16).
    assert!((209..=291).contains(&canary.ok), "{}", canary.ok);
}
