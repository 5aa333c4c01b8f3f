//! How endpoints are learnt, each with the arithmetic of what must come out.

mod common;

use common::{event, pod, received, scale, sum};
use reports::record::{Learnt, RunRecord};

/// Every message takes 1 ms, a request no time at all. A pod is ready 0.2 s to 0.3 s after it is asked for, in its slice
/// 50 ms later, in DNS 50 ms after that.
const BASE: &str = r#"
title = "discovery"
duration = "40s"
interval = "100ms"
cluster = { hops = { same_pod = "1ms", same_node = "1ms", same_zone = "1ms" } }
dns = { cache = "0s", publication_delay = "50ms" }
endpoint_slices = { delay = "50ms" }
[[deployment]]
name = "server"
replicas = 2
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

fn run(more: &str) -> RunRecord {
    common::run(&format!("{BASE}{more}"))
}

/// One strategy, `round_robin` by this resolver.
fn client(resolver: &str, more: &str) -> String {
    format!(
        "[[strategy]]\nname = \"s\"\nbalancer = \"client\"\n\
         client = {{ policy = \"round_robin\", resolver = \"{resolver}\", {more} }}\n"
    )
}

#[test]
fn a_service_that_prefers_close_keeps_connections_in_their_zone() {
    // Four servers on four nodes in two zones, a client for each node, a connection per request.
    let hops = |distribution: &str| {
        let text = BASE
            .replace("cluster = {", "cluster = { nodes = 4, zones = 2,")
            .replace("replicas = 2", "replicas = 4")
            .replace("name = \"client\"", "name = \"client\"\nreplicas = 4")
            .replace("deployments = [\"server\"]", &format!("deployments = [\"server\"]\n{distribution}"))
            .replace("to = \"server\"", "to = \"server\"\nconnection = \"per_request\"");
        let text = format!("{text}[[strategy]]\nname = \"s\"\nbalancer = \"kube_proxy\"\n");
        let s = common::run(&text).strategies.remove(0);
        assert_eq!(s.requests.failed, 0);
        s.node_hops.mean
    };
    // Each of four servers is as likely: three of four are on another node; in the zone it is one of two; on the node none.
    assert!((hops("") - 0.75).abs() < 0.02);
    assert!((hops("traffic_distribution = \"PreferClose\"") - 0.5).abs() < 0.02);
    assert_eq!(hops("traffic_distribution = \"PreferSameNode\""), 0.0);
}

#[test]
fn a_watch_is_pushed_a_debounce_and_two_hops_after_the_slice() {
    let s = &run(&(client("xds", "") + &scale("1s", "server", 3))).strategies[0];
    let new = pod(s, "server-2");
    assert_eq!((new.learnt, new.resolvable_s), (Learnt::ControlPlane, None));
    let after_slice = |at: Option<f64>| at.expect("reached") - new.endpoint_slice_s.expect("reached");
    // The watch takes 1 ms, the debounce 100 ms, the push 1 ms; then a connection of two round trips.
    assert!((after_slice(new.published_s) - 0.001).abs() < 1e-9, "{new:?}");
    assert!((after_slice(new.resolved_s) - 0.102).abs() < 1e-9, "{new:?}");
    assert!((after_slice(new.connected_s) - 0.106).abs() < 1e-9, "{new:?}");
    assert_eq!(s.requests.failed, 0);
    assert!((received(s, "server-2", 100..200) as i64 - 333).abs() <= 1, "a third of 1000");
}

#[test]
fn a_loop_sees_what_dns_publishes_and_not_before_its_next_turn() {
    let plane = "[strategy.control_plane]\ndiscovery = { poll = \"3s\" }\nhealth_check = true\n";
    let s = &run(&(client("xds", "") + plane + &scale("1s", "server", 3))).strategies[0];
    let new = pod(s, "server-2");
    let waited = new.published_s.expect("found") - new.endpoint_slice_s.expect("reached");
    // 50 ms to DNS; then up to a loop of 3 s and its 8 ms: two hops for the look-up, six for the checks.
    assert!((0.05..=0.05 + 3.0 + 0.016).contains(&waited), "{waited}");
    assert!(waited > 0.2, "with this seed the loop is nowhere near its end: {waited}");
}

#[test]
fn changes_that_follow_each_other_are_pushed_once_but_not_put_off_for_ever() {
    // A pod more every 50 ms for 15 s keeps a debounce of 1 s waiting up to its limit of 10 s.
    let steps: String = (0..300).map(|i| scale(&format!("{}ms", 1000 + i * 50), "server", 3 + i)).collect();
    let s = &run(&(client("xds", "") + "control_plane = { push_delay = \"1s\" }\n" + &steps)).strategies[0];
    let first = pod(s, "server-2");
    let waited = first.resolved_s.expect("pushed") - first.published_s.expect("known");
    assert!((waited - 10.001).abs() < 1e-6, "{waited}");
}

#[test]
fn without_the_control_plane_clients_go_on_with_what_they_know() {
    let more = event("5s", "control_plane_outage = { for = \"10s\" }")
        + &scale("6s", "server", 3)
        + &event("8s", "restart = { deployment = \"client\" }");
    let s = &run(&(client("xds", "") + &more)).strategies[0];
    assert_eq!(sum(&s.timeline.failed[0..80]), 0, "nobody who was connected notices");
    assert_eq!(received(s, "server-2", 0..150), 0, "nobody hears of the new pod");
    // The new client knows nothing, and nobody tells it.
    assert_eq!(sum(&s.timeline.ok[84..150]), 0);
    assert!(sum(&s.timeline.failed[84..149]) >= 640, "100/s fail at once");
    // Its fifth attempt comes 1 + 1.6 + 2.56 + 4.1 = 9.3 s ± 20 % after the first, so before 20 s.
    assert_eq!(sum(&s.timeline.ok[200..300]), 1000);
    assert!((received(s, "server-2", 200..300) as i64 - 333).abs() <= 1);
}

#[test]
fn without_dns_clients_go_on_and_new_ones_fail_after_two_queries() {
    let more = event("5s", "dns_outage = { for = \"20s\" }") + &event("6s", "restart = { deployment = \"client\" }");
    let s = &run(&(client("dns", "") + &more)).strategies[0];
    assert_eq!(sum(&s.timeline.failed[0..160]), 0, "requests of the new client wait for the answer");
    // It starts at 6.2 s and asks twice, 5 s each: from 16.2 s on its requests fail, those that waited first.
    assert!(sum(&s.timeline.failed[162..170]) > 1000);
    assert_eq!(sum(&s.timeline.ok[65..250]), 0);
    assert_eq!(sum(&s.timeline.ok[390..400]), 100, "DNS is back, and so is the client");
}

#[test]
fn a_client_that_checks_health_leaves_a_pod_that_does_not_serve() {
    let sick = event("10s", "unhealthy = { deployment = \"server\", pods = 1, for = \"10s\" }");
    let careful = run(&(client("dns", "health_check = true") + &sick));
    let s = &careful.strategies[0];
    // It hears of it a hop later; what was on its way fails, at 100/s at most one.
    assert!(s.requests.failed <= 1, "{:?}", s.requests);
    assert_eq!(received(s, "server-0", 102..199), 0);
    assert_eq!(received(s, "server-0", 202..302), 500, "half of 100/s for 10 s, as before");

    let trusting = run(&(client("dns", "") + &sick));
    let s = &trusting.strategies[0];
    assert_eq!(s.requests.failed, 500, "half of 100/s for 10 s");
    assert_eq!((s.errors[0].code.as_str(), s.errors[0].reason.as_str()), ("UNAVAILABLE", "not serving"));
}

#[test]
fn a_control_plane_that_checks_health_takes_the_pod_out_for_everybody() {
    let sick = event("10s", "unhealthy = { deployment = \"server\", pods = 1, for = \"10s\" }");
    let plane = "[strategy.control_plane]\nhealth_check = true\nhealth_check_interval = \"2s\"\n";
    let s = &run(&(client("xds", "") + plane + &sick)).strategies[0];
    // Found within 2 s, pushed 0.1 s later, and back in the same way.
    assert!(s.requests.failed <= 106, "{:?}", s.requests);
    assert_eq!(received(s, "server-0", 122..199), 0);
    assert_eq!(received(s, "server-0", 225..325), 500);
}

#[test]
fn lists_come_from_the_balancer_and_from_dns_when_it_and_the_servers_are_lost() {
    let balancer = "[[deployment]]\nname = \"balancer\"\nstart_up = \"200ms\"\nreadiness = { period = \"100ms\" }\n\
                    [lookaside]\ndeployment = \"balancer\"\nupdate_interval = \"500ms\"\n";
    let gone = scale("5s", "balancer", 0);
    let grown = scale("6s", "server", 3);
    let s = &run(&(client("grpclb", "") + balancer + &scale("1s", "server", 3))).strategies[0];
    let new = pod(s, "server-2");
    assert_eq!(new.learnt, Learnt::Balancer);
    let waited = new.resolved_s.expect("sent") - new.endpoint_slice_s.expect("reached");
    assert!((0.002..=0.502).contains(&waited), "the watch, up to an update, a hop: {waited}");

    // The balancer is gone: the list stays as it was.
    let s = &run(&(client("grpclb", "") + balancer + &gone + &grown)).strategies[0];
    assert_eq!((s.requests.failed, received(s, "server-2", 0..400)), (0, 0));

    // At 35 s the two servers of the list die as well. The name was looked up at the start, so it may be again, at once: DNS
    // knows the third. (Before 30 s the client would be left with the two dead addresses until then.)
    let killed = event("35s", "kill = { deployment = \"server\", pods = 2 }");
    let s = &run(&(client("grpclb", "") + balancer + &gone + &grown + &killed)).strategies[0];
    assert_eq!(received(s, "server-2", 0..350), 0);
    assert_eq!(received(s, "server-2", 355..400), 450, "all of 100/s while nobody else is known");
    assert!(s.requests.failed <= 10, "{:?}", s.requests);
}

#[test]
fn servers_report_by_what_they_were_made_from() {
    // At 1 s `server` is rolled to what `wide` is, so all three are as busy as each other: 100/s · 0.2 s / 3 of 100 places.
    // Of one place they would be full, and in the list once where `wide` is 19 times.
    let wide = "[[deployment]]\nname = \"wide\"\nservice_time = { constant = \"200ms\" }\nconcurrency = 100\n";
    let balancer = "[[deployment]]\nname = \"balancer\"\n[lookaside]\ndeployment = \"balancer\"\nload_aware = true\n";
    let rollout = event("1s", "rollout = { deployment = \"server\", template = \"wide\" }");
    let more = client("grpclb", "").replace("round_robin", "weighted_round_robin") + wide + balancer + &rollout;
    let base = BASE.replace("[\"server\"]", "[\"server\", \"wide\"]");
    let base = base.replacen("replicas = 2\n", "replicas = 2\nconcurrency = 1\n", 1);
    let s = &common::run(&(base + &more)).strategies[0];
    let got = received(s, "wide-0", 200..400);
    assert!(got.abs_diff(667) < 60, "a third of 100/s for 20 s: {got}");
}

#[test]
fn a_client_without_a_balancer_waits_ten_seconds_and_goes_by_dns() {
    let balancer = "[[deployment]]\nname = \"balancer\"\n[lookaside]\ndeployment = \"balancer\"\n";
    let more = scale("1s", "balancer", 0) + &event("5s", "restart = { deployment = \"client\" }");
    let s = &run(&(client("grpclb", "") + balancer + &more)).strategies[0];
    // It starts at 5.2 s; its requests wait until 15.2 s, and none fails.
    assert_eq!((sum(&s.timeline.ok[53..152]), sum(&s.timeline.ok[153..154])), (0, 10));
    assert_eq!(s.requests.failed, 0);
}

#[test]
fn a_cache_that_waits_for_all_names_answers_nobody_who_names_one() {
    let two = "[[deployment]]\nname = \"other\"\n[[service]]\nname = \"other\"\ndeployments = [\"other\"]\n";
    let base = BASE.replace("[load]", "[[load]]");
    let load = "[[load]]\nfrom = \"client\"\nto = \"other\"\nopen = { rate = \"100/s\", arrivals = \"constant\" }\n";
    let run = |withhold: bool| {
        let plane = format!("[strategy.control_plane]\nwithhold_until_all_named = {withhold}\n");
        common::run(&format!("{base}{load}{two}{}{plane}", client("xds", "")))
    };
    let open = run(false);
    assert_eq!(open.strategies[0].requests.failed, 0);
    assert!(open.strategies[0].requests.ok > 7900);
    let withheld = run(true);
    let s = &withheld.strategies[0];
    assert_eq!(s.requests.ok, 0);
    // 15 s of silence count as "there is no such resource"; then everything that waited fails.
    assert_eq!((sum(&s.timeline.failed[0..150]), s.connections.opened), (0, 0));
    assert!(sum(&s.timeline.failed[150..152]) >= 3000);
}
