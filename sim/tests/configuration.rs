//! Routes that are pushed: in which order, and what an outage of the control plane does to them.

mod common;

use common::{event, pod, pods_of, sum};
use reports::record::{Role, StrategyRecord};

/// A client with routes to v1, 200 requests a second for 60 s; at 20 s half of them are to go to v2.
fn run(control_plane: &str, more: &str) -> StrategyRecord {
    let text = format!(
        "title = 'Does a route come before its cluster?'\nduration = '60s'\n\
         control_plane = {{ {control_plane} }}\n\
         load = {{ from = 'client', to = 'v1', open = {{ rate = '200/s' }} }}\n\
         [[deployment]]\nname = 'v1'\n[[deployment]]\nname = 'v2'\n[[deployment]]\nname = 'client'\n\
         [[service]]\nname = 'v1'\ndeployments = ['v1']\n[[service]]\nname = 'v2'\ndeployments = ['v2']\n\
         [[strategy]]\nname = 'xds'\nbalancer = 'client'\nconfiguration = 'xds'\n\
         client = {{ policy = 'round_robin', resolver = 'xds' }}\n\
         [[strategy.route]]\nname = 'all'\nclusters = [{{ name = 'v1' }}]\n\
         [[event]]\nat = '20s'\n\
         configure = {{ route = 'all', clusters = [{{ name = 'v1' }}, {{ name = 'v2' }}] }}\n{more}"
    );
    common::run(&text).strategies.remove(0)
}

fn requests(s: &StrategyRecord, deployment: &str) -> u64 {
    pods_of(s, deployment).iter().filter(|p| p.role == Role::Server).map(|p| p.requests).sum()
}

#[test]
fn in_order_a_new_cluster_is_known_before_its_route() {
    let s = run("push_delay = '1s'", "");
    assert_eq!(s.errors, []);
    // From 21 s on half of 200/s: 3,900 ± 4 · √(7,800 / 4).
    assert!(requests(&s, "v2").abs_diff(3_900) < 177 + 4 * 44, "{}", requests(&s, "v2"));
}

#[test]
fn out_of_order_requests_are_lost_until_the_cluster_comes() {
    let s = run("push_delay = '1s', ordered = false", "");
    // Half of 200/s for the second until the next push: 100 ± 4 · 10.
    let [error] = s.errors.as_slice() else { panic!("{:?}", s.errors) };
    assert_eq!((error.code.as_str(), error.reason.as_str()), ("UNAVAILABLE", "cluster not known"));
    assert!(error.count.abs_diff(100) < 40, "{error:?}");
}

#[test]
fn an_outage_delays_a_change_to_its_end() {
    let s = run("", &event("15s", "control_plane_outage = { for = '25s' }"));
    let [change] = s.configurations.as_slice() else { panic!("{:?}", s.configurations) };
    assert_eq!(change.at_s, 20.0);
    assert!(change.last_s.is_some_and(|last| (40.0..40.1).contains(&last)), "{change:?}");
    // What is known goes on being used.
    assert_eq!(s.errors, []);
}

#[test]
fn who_starts_during_an_outage_waits_for_its_end() {
    let outage = event("15s", "control_plane_outage = { for = '25s' }");
    let s = run("", &(outage + &event("30s", "restart = { deployment = 'client' }")));
    let new = pod(&s, "client-1");
    assert!(new.started_s.is_some_and(|started| (32.0..32.1).contains(&started)), "{new:?}");
    assert_eq!(sum(&s.timeline.ok[33..40]), 0, "no route is known");
    assert!(sum(&s.timeline.ok[40..42]) > 200 * 8, "what has waited is sent when the routes come");
}

#[test]
fn a_split_lasts_to_the_next_change_or_to_the_end_of_the_run() {
    let s = run("", "");
    let [before, after] = s.splits.as_slice() else { panic!("{:?}", s.splits) };
    assert_eq!((before.from_s, before.until_s), (0.0, 20.0));
    // The last event is some milliseconds before.
    assert_eq!(after.until_s, 60.0);
}
