//! Envoy's worked examples, and the way from health to shares.

use super::*;
use crate::policy::children::tests::{Rig, endpoint, is_failure, within};
use crate::{Connectivity, EndpointSet};
use Connectivity::{Ready, TransientFailure, Unhealthy};

fn local(own: &str, clients: &[(&str, u32)]) -> Local {
    let zones = clients.iter().map(|&(zone, n)| (zone.into(), n)).collect();
    Local { zone: Some(own.into()), zones, ..Default::default() }
}

/// The parts of `hosts` by zone for an Envoy in zone `own`, where `clients` are in the zones.
fn parts(own: &str, clients: &[(&str, u32)], hosts: &[(&str, usize)]) -> Option<Vec<f64>> {
    let hosts: Vec<_> = hosts.iter().map(|&(zone, n)| (Some(zone), n)).collect();
    by_zone(&local(own, clients), 1, &hosts)
}

#[track_caller]
fn assert_parts(parts: Option<Vec<f64>>, expected: &[f64]) {
    let parts = parts.expect("routing by zone");
    let close = parts.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
    assert!(close && parts.len() == expected.len(), "{parts:?}, not {expected:?}");
}

#[test]
fn round_robin_lb_test_zone_aware_small_cluster() {
    let (local, hosts) = (local("B", &[("A", 1), ("B", 1), ("C", 1)]), [("A", 1), ("B", 1), ("C", 1)]);
    let hosts = hosts.map(|(zone, n)| (Some(zone), n));
    assert_eq!(by_zone(&local, 7, &hosts), None);
    assert_parts(by_zone(&local, 1, &hosts), &[0.0, 1.0, 0.0]);
}

#[test]
fn round_robin_lb_test_zone_aware_zones_mismatched() {
    let (clients, hosts) = ([("A", 1), ("B", 1)], [("A", 1), ("C", 1)]);
    assert_parts(parts("A", &clients, &hosts), &[1.0, 0.0]);
    // A has as many clients as hosts, in parts: no room there.
    assert_parts(parts("B", &clients, &hosts), &[0.0, 1.0]);
}

#[test]
fn round_robin_lb_test_zone_aware_residuals_mismatched() {
    let clients = [("A", 2), ("B", 2), ("C", 1), ("D", 1)];
    let hosts = [("A", 1), ("C", 3), ("D", 3), ("E", 1)];
    // 1/8 of the hosts for 1/3 of the clients: 1250/3333 = 0.3750. Room in C and D: 3750 − 1666 = 2084, in E 1250; 5418 in all.
    let away = |room: f64| 0.625 * room / 5418.0;
    assert_parts(parts("A", &clients, &hosts), &[0.375, away(2084.0), away(2084.0), away(1250.0)]);
}

#[test]
fn round_robin_lb_test_zone_aware_different_zone_size() {
    // 3333/5000 = 0.6666 stay in B, the rest goes to C: A has 1/3 of the hosts for half of the clients.
    let parts = parts("B", &[("A", 1), ("B", 1)], &[("A", 1), ("B", 1), ("C", 1)]);
    assert_parts(parts, &[0.0, 0.6666, 0.3334]);
}

#[test]
fn round_robin_lb_test_zone_aware_routing_large_zone_switch_on_off() {
    let all = [("A", 1), ("B", 1), ("C", 1)];
    assert_parts(parts("B", &all, &all.map(|(zone, n)| (zone, n as usize))), &[0.0, 1.0, 0.0]);
}

#[test]
fn round_robin_lb_test_zone_aware_routing_small_zone() {
    // A fifth of the hosts for a third of the clients: 2000/3333 = 0.6000; the others have room 4000 − 3333 each.
    let parts = parts("A", &[("A", 1), ("B", 1), ("C", 1)], &[("A", 1), ("B", 2), ("C", 2)]);
    assert_parts(parts, &[0.6, 0.2, 0.2]);
}

#[test]
fn round_robin_lb_test_zone_aware_no_matching_zones() {
    let parts = parts("A", &[("A", 1), ("B", 1), ("C", 1)], &[("D", 1), ("E", 1), ("F", 1)]);
    assert_parts(parts, &[1.0 / 3.0; 3]);
}

#[test]
fn round_robin_lb_test_zone_aware_empty_localities() {
    let clients = [("A", 1), ("C", 1), ("D", 1), ("F", 1)];
    let hosts = [("A", 0), ("B", 0), ("C", 2), ("D", 0), ("E", 1), ("F", 2), ("H", 1)];
    // Room: C and F 3333 − 2500, E and H 1666; 4998 in all.
    let [some, more] = [833.0 / 4998.0, 1666.0 / 4998.0];
    assert_parts(parts("A", &clients, &hosts), &[0.0, 0.0, some, 0.0, more, some, more]);
}

#[test]
fn round_robin_lb_test_low_precision_for_distribution() {
    // 4499/4500 = 0.9997 stay; the rest goes to any zone, as B's 5500 − 5500 show no room.
    let parts = parts("A", &[("A", 45_000), ("B", 55_000)], &[("A", 44_999), ("B", 55_001)]);
    assert_parts(parts, &[0.9997 + 0.0003 / 2.0, 0.0003 / 2.0]);
}

#[test]
fn round_robin_lb_test_no_zone_aware() {
    let [one, two] = [&[("A", 1)][..], &[("A", 1), ("B", 1)]];
    assert_eq!(parts("A", one, &[("A", 1), ("B", 1)]), None, "NotEnoughLocalZones");
    assert_eq!(parts("A", two, &[("A", 1)]), None, "NotEnoughUpstreamZones");
    assert_eq!(parts("C", two, &[("A", 1), ("B", 1)]), None, "no client is known in the own zone");
    assert_eq!(parts("A", &[], &[("A", 1), ("B", 1)]), None, "nobody knows the clients");
    assert_eq!(parts("A", two, &[("A", 0), ("B", 0)]), None);
}

/// Each host's load, over all clients, is the same: that is what the arithmetic is for.
#[test]
fn all_clients_together_load_all_hosts_alike() {
    let zones = ["A", "B", "C"];
    for hosts in [[4, 4, 3], [1, 5, 9], [2, 0, 6], [7, 7, 1]] {
        for clients in [[5, 5, 5], [1, 2, 9], [4, 4, 3], [10, 1, 1]] {
            let mut load = [0.0; 3];
            for (own, n) in zones.iter().zip(clients) {
                let at = |counts: [u32; 3]| zones.iter().copied().zip(counts).collect::<Vec<_>>();
                let hosts: Vec<_> = at(hosts).into_iter().map(|(zone, n)| (zone, n as usize)).collect();
                let parts = parts(own, &at(clients), &hosts).unwrap();
                (0..3).for_each(|i| load[i] += f64::from(n) * parts[i]);
            }
            let per_host = f64::from(clients.iter().sum::<u32>()) / f64::from(hosts.iter().sum::<u32>());
            for (load, n) in load.iter().zip(hosts) {
                // Parts are cut to 1/10,000, which is at most 1/100 of a zone's.
                assert!((load - per_host * f64::from(n)).abs() < 0.01 * per_host * f64::from(n.max(1)), "{load} {n}");
            }
        }
    }
}

/// A client in zone "a", one of 5 there and 5 in "b"; 4 endpoints in each zone, and two of unknown place.
fn rig(settings: &str) -> Rig {
    let mut rig = Rig::new(&format!(r#"{{"zone_aware": {{{settings}}}}}"#));
    let endpoints = (0..10).map(|i| match i {
        0..4 => within("a", 0, endpoint(i)),
        4..8 => within("b", 0, endpoint(i)),
        _ => endpoint(i),
    });
    rig.update_set(&EndpointSet::new(endpoints).with_local(local("a", &[("a", 5), ("b", 5)]).into()));
    rig
}

/// Requests of 10,000 to each: "a", "b", and nowhere.
fn counts(rig: &mut Rig) -> [u32; 3] {
    let counts = rig.counts(10, [None; 10_000]);
    [counts[..4].iter().sum(), counts[4..8].iter().sum(), counts[8..].iter().sum()]
}

#[track_caller]
fn assert_counts(counts: [u32; 3], parts: [f64; 3]) {
    let near = |(&n, p): (&u32, f64)| (f64::from(n) - 10_000.0 * p).abs() <= 5.0 * (10_000.0 * p * (1.0 - p)).sqrt();
    assert!(counts.iter().zip(parts).all(near), "{counts:?}, not {parts:?}");
}

#[test]
fn shares_follow_health() {
    let mut rig = rig("");
    rig.tell_all(0..10, Ready);
    // 40 % of the endpoints for half of the clients: 0.8 stay; b is full, and those of no zone have room for the rest.
    assert_counts(counts(&mut rig), [0.8, 0.0, 0.2]);
    // 3 of 9 for half: 0.6666. Room: b has 4444 − 5000, the others 2222.
    rig.tell(0, TransientFailure);
    assert_counts(counts(&mut rig), [0.6666, 0.0, 0.3334]);
    // 3 of 6: half, so everything.
    rig.tell_all(4..7, Unhealthy);
    assert_counts(counts(&mut rig), [1.0, 0.0, 0.0]);
}

#[test]
fn small_clusters_and_some_requests_are_not_routed_by_zone() {
    let mut small = rig(r#""min_cluster_size": 11"#);
    small.tell_all(0..10, Ready);
    assert_counts(counts(&mut small), [0.4, 0.4, 0.2]);
    let mut half = rig(r#""routing_enabled": 50"#);
    half.tell_all(0..10, Ready);
    assert_counts(counts(&mut half), [0.6, 0.2, 0.2]);
}

#[test]
fn in_panic_all_that_are_connected_are_used() {
    let mut panicking = rig("");
    panicking.tell_all(0..4, Ready);
    panicking.tell_all(4..8, Unhealthy);
    panicking.tell_all(8..10, TransientFailure);
    // 4 of 10 are well. Those of no zone can't be reached.
    assert_counts(counts(&mut panicking), [0.5, 0.5, 0.0]);
    // 5 of 10 are enough, though too few for routing by zone.
    panicking.tell(8, Ready);
    assert_counts(counts(&mut panicking), [0.8, 0.0, 0.2]);

    let mut failing = rig(r#""fail_traffic_on_panic": true"#);
    failing.tell_all(0..4, Ready);
    failing.tell_all(4..10, Unhealthy);
    assert!(is_failure(&failing.pick()));
    failing.tell(4, Ready);
    assert!(!is_failure(&failing.pick()));
}
