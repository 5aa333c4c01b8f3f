//! Pods that serve badly, zones that are cut off, and what controllers do about load, each with its arithmetic.

mod common;

use common::{between, changed, event, pod, pods_of, received, scale, strategy};
use reports::record::RunRecord;

/// One server of 10 ms that never waits, a client of 100 requests a second, 1 ms for every message.
const BASE: &str = r#"
title = "failures"
duration = "20s"
interval = "100ms"
cluster = { hops = { same_pod = "1ms", same_node = "1ms", same_zone = "1ms", other_zone = "1ms" } }
dns = { cache = "0s", publication_delay = "100ms" }
[[deployment]]
name = "server"
service_time = { constant = "10ms" }
start_up = "200ms"
readiness = { period = "100ms" }
[[deployment]]
name = "other"
replicas = 0
[[deployment]]
name = "proxy"
[[deployment]]
name = "client"
[[service]]
name = "server"
deployments = ["server", "other"]
[load]
from = "client"
to = "server"
open = { rate = "100/s", arrivals = "constant" }
"#;

/// The base with these changes and additions.
fn run(changes: &[(&str, &str)], more: &str) -> RunRecord {
    common::run(&changed(BASE, changes, more))
}

const CLIENT: &str = "[[strategy]]\nname = \"s\"\nbalancer = \"client\"\nclient = { policy = \"round_robin\", resolver = \"strict_dns\" }\n";

#[test]
fn a_part_of_the_requests_fails_after_their_work() {
    for balancer in ["client", "kube_proxy", "ingress", "sidecar"] {
        let changes = [("name = \"server\"\n", "name = \"server\"\nerror_rate = 0.25\nerror_code = \"ABORTED\"\n")];
        let s = &run(&changes, &strategy(balancer)).strategies[0];
        let [error] = s.errors.as_slice() else { panic!("{:?}", s.errors) };
        assert_eq!((error.code.as_str(), error.reason.as_str()), ("ABORTED", "application error"));
        // 2000 · 0.25 = 500 ± 4 · sqrt(2000 · 0.25 · 0.75) = 77.
        assert!((423..=577).contains(&s.requests.failed), "{balancer}: {}", s.requests.failed);
    }
}

#[test]
fn the_same_requests_fail_wherever_they_go() {
    // Two servers of equal error rate: which of the two a request goes to makes no difference.
    let changes = [("name = \"server\"\n", "name = \"server\"\nreplicas = 2\nerror_rate = 0.25\n")];
    let more = "[[strategy]]\nname = \"a\"\nbalancer = \"client\"\nclient = { policy = \"round_robin\" }\n\
                [[strategy]]\nname = \"b\"\nbalancer = \"client\"\nclient = { policy = \"random\" }\n";
    let record = run(&changes, more);
    assert_eq!(record.strategies[0].timeline.failed, record.strategies[1].timeline.failed);
    assert!(record.strategies[0].requests.failed > 0);
}

#[test]
fn a_cold_pod_is_slow_until_its_window_is_over() {
    // The second server listens at 1.2 s and is warm at 11.2 s. At speed 0.1 its 10 ms take 100 ms, at 0.55 (half the
    // window) 18 ms, in the end 10 ms, and 2 ms on the way. The first one is warm from the start.
    let changes = [("name = \"server\"\n", "name = \"server\"\nwarm_up = { window = \"10s\", speed = 0.1 }\n")];
    let second = scale("1s", "server", 2);
    let s = &run(&changes, &format!("{CLIENT}{second}")).strategies[0];
    let slowest = |second: usize| s.timeline.p99_ms[second * 10].expect("requests end all the time");
    assert!((slowest(0) - 12.0).abs() < 0.3, "{}", slowest(0));
    // DNS is asked every 5 s: from 5 s on, at 3.8 s of age, the speed is 0.1 + 0.9 · 0.38 = 0.44.
    let first = pod(s, "server-1").first_request_s.expect("it gets traffic");
    assert!((5.0..5.1).contains(&first), "{first}");
    assert!((slowest(6) - 20.6).abs() < 1.5, "{}", slowest(6));
    assert!((slowest(15) - 12.0).abs() < 0.3, "{}", slowest(15));
}

#[test]
fn a_degraded_pod_recovers_when_its_time_is_over_or_it_is_replaced() {
    let degrade = event("2s", "degrade = { deployment = \"server\", speed = 0.5, error_rate = 1.0, for = \"5s\" }");
    let two = [("name = \"server\"\n", "name = \"server\"\nreplicas = 2\n")];
    let s = &run(&two, &format!("{CLIENT}{degrade}")).strategies[0];
    // The older of the two fails its half of 100/s from 2 s on; work that ends by 7 s is judged, 12 ms on.
    assert_eq!(between(&s.timeline.failed, 0, 2), 0);
    assert!((49..=51).contains(&between(&s.timeline.failed, 4, 5)));
    assert!((246..=252).contains(&s.requests.failed), "{}", s.requests.failed);
    assert!((s.timeline.p50_ms[100].expect("requests") - 12.0).abs() < 0.3);

    let restart = event("3s", "restart = { deployment = \"server\" }");
    let s = &run(&two, &format!("{CLIENT}{degrade}{restart}")).strategies[0];
    assert!(between(&s.timeline.failed, 2, 3) >= 49);
    // What fails later has no server: the new ones are found by the look-up at 5 s.
    let application = s.errors.iter().find(|e| e.reason == "application error").expect("some");
    assert!(application.count <= 55, "{}", application.count);
    assert_eq!(between(&s.timeline.failed, 6, 20), 0);
}

#[test]
fn a_rollout_to_another_template_makes_other_pods() {
    // The template is slower and says v2; its number of pods and its service are its own affair.
    let changes = [
        ("name = \"server\"\n", "name = \"server\"\nreplicas = 3\nversion = \"v1\"\nerror_rate = 0.5\n"),
        (
            "name = \"other\"\n",
            "name = \"other\"\nversion = \"v2\"\nservice_time = { constant = \"30ms\" }\nstart_up = \"1s\"\n",
        ),
    ];
    let events = event("1s", "rollout = { deployment = \"server\", template = \"other\" }")
        + &event("14s", "kill = { deployment = \"server\" }");
    let s = &run(&changes, &format!("{CLIENT}{events}")).strategies[0];
    let servers = pods_of(s, "server");
    assert_eq!(servers.len(), 7, "three, the three of the rollout, and one in the place of the killed");
    assert!(servers[..3].iter().all(|p| p.version == "v1") && servers[3..].iter().all(|p| p.version == "v2"));
    assert!(servers[3..].iter().all(|p| p.started_s == Some(p.created_s + 1.0)), "its start-up too");
    assert!((s.timeline.p50_ms[130].expect("requests") - 32.0).abs() < 0.4);
    let wrong = |from, until| between(&s.timeline.failed, from, until);
    // The look-up at 10 s has found the last of them.
    assert!(wrong(0, 1) > 30 && wrong(11, 14) == 0, "{} and {}", wrong(0, 1), wrong(11, 14));
}

/// Two zones of a node each: server-0 and the client in zone 0, server-1 in zone 1.
fn two_zones(loss: &str) -> [(&'static str, String); 2] {
    [
        ("cluster = { ", format!("cluster = {{ nodes = 2, zones = 2, {loss}")),
        ("name = \"server\"\n", "name = \"server\"\nreplicas = 2\n".to_owned()),
    ]
}

fn run_in_zones(settings: &str, more: &str, changes: &[(&str, &str)]) -> RunRecord {
    let zones = two_zones(settings);
    let mut all: Vec<(&str, &str)> = zones.iter().map(|(from, to)| (*from, to.as_str())).collect();
    all.extend(changes);
    run(&all, more)
}

#[test]
fn requests_to_a_lost_zone_hang_until_the_names_have_no_more_of_it() {
    let loss = event("2s", "zone_loss = { zone = 1, for = \"60s\" }");
    let settings = "node_monitor_grace_period = \"5s\", default_unreachable_toleration = \"5s\", ";
    let s = &run_in_zones(settings, &format!("{CLIENT}{loss}"), &[("[load]\n", "[load]\ndeadline = \"1s\"\n")])
        .strategies[0];
    // NotReady at 7 s, out of the names at 7.1 s, found out by the look-up at 10 s: half of 100/s for 8 s.
    assert!((398..=402).contains(&s.requests.failed), "{:?}", s.errors);
    assert_eq!(s.errors[0].code, "DEADLINE_EXCEEDED");
    // The first to fail was under way when the zone was lost.
    assert!(between(&s.timeline.failed, 2, 3) <= 1 && between(&s.timeline.failed, 12, 20) == 0);
    // Deleted at 12 s, but its kubelet can't hear of it; its place is taken in the other zone.
    let (lost, new) = (pod(s, "server-1"), pod(s, "server-2"));
    assert_eq!((lost.removed_s, new.created_s, new.node.as_str()), (None, 12.0, "node-0"));
    assert!(new.first_request_s.is_some_and(|first| (15.0..15.1).contains(&first)), "{:?}", new.first_request_s);
}

#[test]
fn a_zone_that_comes_back_answers_what_it_was_asked() {
    let loss = event("2s", "zone_loss = { zone = 1, for = \"3s\" }");
    let s = &run_in_zones("", &format!("{CLIENT}{loss}"), &[]).strategies[0];
    assert_eq!(s.requests.failed, 0);
    // What was lost first, within 20 ms of 2 s, is sent again 0.2, 0.6, 1.4 and 3 s later: after the zone is back.
    assert!((3000.0..3050.0).contains(&s.latency_ms.max), "{}", s.latency_ms.max);
    assert_eq!(pods_of(s, "server").len(), 2, "too short for anybody to notice");

    // Back before its pods were evicted: they are endpoints again, and are found to be at the next look-up.
    let loss = event("2s", "zone_loss = { zone = 1, for = \"10s\" }");
    let settings = "node_monitor_grace_period = \"1s\", ";
    let s = &run_in_zones(settings, &format!("{CLIENT}{loss}"), &[("[load]\n", "[load]\ndeadline = \"1s\"\n")])
        .strategies[0];
    assert_eq!(pods_of(s, "server").len(), 2);
    assert_eq!((received(s, "server-1", 60..150), received(s, "server-1", 160..200)), (0, 200));
}

#[test]
fn keepalive_finds_out_that_nobody_is_there() {
    let loss = event("2s", "zone_loss = { zone = 1, for = \"60s\" }");
    let keepalive = "keepalive = { time = \"10s\", timeout = \"1s\" }";
    let client = |more: &str| {
        format!(
            "[[strategy]]\nname = \"s\"\nbalancer = \"client\"\nclient = {{ policy = \"round_robin\"{more} }}\n{loss}"
        )
    };
    let s = &run_in_zones("", &client(&format!(", {keepalive}")), &[]).strategies[0];
    // 10 s after the last answer the ping, 1 s later the end: what was sent meanwhile fails, 50/s for 11 s.
    assert!((548..=552).contains(&s.requests.failed), "{:?}", s.errors);
    assert_eq!(s.errors[0].reason, "connection closed");
    // The next attempt is not answered, so all requests go to the other server.
    assert_eq!(between(&s.timeline.ok, 15, 20), 500);

    // Without it they hang for good: half of what is sent.
    let s = &run_in_zones("", &client(""), &[]).strategies[0];
    assert_eq!((s.requests.failed, between(&s.timeline.ok, 15, 20)), (0, 250));
}

#[test]
fn an_autoscaler_follows_the_load_up_at_once_and_down_late() {
    // 100/s of 10 ms keep one place of two busy on average. 0.25 of a pod's places wanted: two pods at 5 s, by all the rules.
    let changes =
        [("name = \"server\"\n", "name = \"server\"\nconcurrency = 2\n"), ("duration = \"20s\"", "duration = \"60s\"")];
    let hpa = "[[hpa]]\ndeployment = \"server\"\nmax_replicas = 5\ntarget_utilization = 0.25\nsync_period = \"5s\"\n\
               scale_down_stabilization = \"15s\"\n";
    let stop = scale("31s", "client", 0);
    let s = &run(&changes, &format!("{hpa}{CLIENT}{stop}")).strategies[0];
    let servers = pods_of(s, "server");
    let created: Vec<f64> = servers.iter().map(|p| p.created_s).collect();
    assert_eq!(created, [0.0, 5.0]);
    // Idle from 31 s on. At 30 s two were desired, at 35 s still (1 s of 5 at 25 % each: 0.4), later one; until 50 s the two
    // of 35 s are within the window of 15 s.
    let removed = servers[1].removed_s.expect("it is scaled down");
    assert!((50.0..=55.1).contains(&removed), "{removed}");
    assert_eq!(servers[0].removed_s, None);
}

#[test]
fn an_autoscaler_is_blind_to_one_hot_pod_among_idle_ones() {
    let changes = [("name = \"server\"\n", "name = \"server\"\nreplicas = 4\nconcurrency = 1\n")];
    let hpa = "[[hpa]]\ndeployment = \"server\"\nmin_replicas = 4\nmax_replicas = 8\ntarget_utilization = 0.5\nsync_period = \"5s\"\n";
    let s = &run(&changes, &(hpa.to_owned() + &strategy("kube_proxy"))).strategies[0];
    // One pod of four works all the time: 25 % on average.
    assert_eq!(pods_of(s, "server").len(), 4);
    assert_eq!(pods_of(s, "server").iter().filter(|p| p.requests > 0).count(), 1);
}
