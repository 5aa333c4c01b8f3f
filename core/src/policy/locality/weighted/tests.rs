//! Shares by weight and health.

use crate::policy::children::tests::{Rig, endpoint, is_failure, within};
use crate::policy::endpoint_states::no_addresses;
use crate::{Connectivity, EndpointId, Pick};
use Connectivity::{Connecting, Idle, Ready, TransientFailure, Unhealthy};

const WEIGHTED: &str = r#"{"wrr_locality": {}}"#;

/// Of `requests`, how many go to each of the endpoints, with five standard deviations of chance for a part of `p` of them.
fn near(count: u32, requests: f64, p: f64) -> bool {
    (f64::from(count) - requests * p).abs() <= 5.0 * (requests * p * (1.0 - p)).sqrt() + 0.5
}

/// Localities "a" with five endpoints and weight 1, "b" with one and weight 2, of which so many of the first are healthy.
fn five_and_one(config: &str, healthy: u32) -> Rig {
    let mut rig = Rig::new(config);
    rig.update((0..6).map(|i| if i < 5 { within("a", 1, endpoint(i)) } else { within("b", 2, endpoint(i)) }));
    rig.tell_all((0..healthy).chain([5]), Ready);
    rig.tell_all(healthy..5, Unhealthy);
    rig
}

#[test]
fn locality_wrr_test_unhealthy_failover() {
    // Envoy's picks of 100 for locality 0, in the turns of its round robin; and the effective weight that they follow:
    // min(1, 1.4 · healthy/5) against 2.
    let rows = [(5, 33, 1.0), (4, 33, 1.0), (3, 29, 0.84), (2, 22, 0.56), (1, 12, 0.28), (0, 0, 0.0)];
    for (healthy, envoy, effective) in rows {
        let part: f64 = effective / (effective + 2.0);
        assert!((100.0 * part - f64::from(envoy)).abs() < 1.0, "{part} is what Envoy gives, {envoy} of 100");
        let counts = five_and_one(WEIGHTED, healthy).counts(6, [None; 20_000]);
        let (a, b) = (counts[..5].iter().sum::<u32>(), counts[5]);
        assert_eq!(a + b, 20_000);
        assert!(near(a, 20_000.0, part), "{healthy}: {a}, not {}", 20_000.0 * part);
    }
}

/// OverProvisioningFactorTest.LocalityPickChanges: of two and one hosts, one and one healthy.
#[test]
fn locality_wrr_test_overprovisioning_factor() {
    for (factor, part) in [(100, 1.0 / 3.0), (200, 0.5), (u32::MAX, 0.5)] {
        let mut rig = Rig::new(&format!(r#"{{"wrr_locality": {{"overprovisioning_factor": {factor}}}}}"#));
        rig.update([within("a", 1, endpoint(0)), within("a", 1, endpoint(1)), within("b", 1, endpoint(2))]);
        rig.tell_all([0, 2], Ready);
        rig.tell(1, TransientFailure);
        assert!(near(rig.counts(3, [None; 10_000])[0], 10_000.0, part), "{factor}");
    }
}

#[test]
fn locality_wrr_test_weighted_all_chosen() {
    let mut rig = Rig::new(WEIGHTED);
    rig.update([("a", 1), ("b", 6), ("c", 3)].into_iter().zip(0..).map(|((zone, w), i)| within(zone, w, endpoint(i))));
    rig.tell_all(0..3, Ready);
    let counts = rig.counts(3, [None; 10_000]);
    assert!(counts.iter().zip([0.1, 0.6, 0.3]).all(|(&n, part)| near(n, 10_000.0, part)), "{counts:?}");
}

#[test]
fn locality_wrr_test_missing_weight() {
    let mut rig = Rig::new(WEIGHTED);
    rig.update([("a", 1), ("b", 0), ("c", 1)].into_iter().zip(0..).map(|((zone, w), i)| within(zone, w, endpoint(i))));
    assert_eq!(rig.wanted(), Some(vec![0, 2]));
    rig.tell_all([0, 2], Ready);
    let counts = rig.counts(3, [None; 1_000]);
    assert!(counts[1] == 0 && near(counts[0], 1_000.0, 0.5), "{counts:?}");
}

#[test]
fn locality_wrr_test_all_zero_weights() {
    // Envoy then goes round all hosts: a locality with two of three gets two thirds.
    let mut rig = Rig::new(WEIGHTED);
    rig.update([("a", 0), ("a", 0), ("b", 0)].into_iter().zip(0..).map(|((zone, w), i)| within(zone, w, endpoint(i))));
    rig.tell_all(0..3, Ready);
    assert!(near(rig.counts(3, [None; 9_000])[2], 9_000.0, 1.0 / 3.0));
}

#[test]
fn locality_wrr_test_all_hosts_unhealthy() {
    let mut rig = Rig::new(WEIGHTED);
    rig.update(["a", "b", "c"].into_iter().zip(0..).map(|(zone, i)| within(zone, 1, endpoint(i))));
    rig.tell_all(0..2, Unhealthy);
    assert_eq!(rig.pick(), Pick::Queue, "the third may be well");
    rig.tell(2, Unhealthy);
    assert!(is_failure(&rig.pick()));
    rig.update([]);
    assert_eq!(rig.pick(), Pick::Fail(no_addresses()));
}

/// gRFC A28: "distribute picks to the child policies (that are reporting READY)".
#[test]
fn requests_do_not_wait_for_a_locality_while_another_is_ready() {
    let mut rig = five_and_one(WEIGHTED, 5);
    rig.tell(5, Idle);
    rig.tell(5, Connecting);
    assert_eq!(rig.counts(6, [None; 100])[..5].iter().sum::<u32>(), 100);
    // And only for that is it connected again.
    rig.tell_all(0..5, TransientFailure);
    assert_eq!(rig.pick(), Pick::Queue);
    rig.tell(5, Ready);
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(5)));
}

#[test]
fn a_child_that_rests_is_woken() {
    let mut rig = five_and_one(r#"{"wrr_locality": {"child_policy": "pick_first"}}"#, 1);
    assert_eq!(rig.wanted(), Some(vec![0, 5]));
    rig.tell(0, Idle);
    assert_eq!(rig.wanted(), Some(vec![0, 5]), "nobody would wait for it while the other locality is ready");
    assert_eq!(rig.counts(6, [None; 10]), [0, 0, 0, 0, 0, 10]);
    rig.tell(0, Ready);
    assert!(near(rig.counts(6, [None; 9_000])[0], 9_000.0, 1.0 / 3.0));
}

#[test]
fn endpoints_without_a_locality_are_one_of_weight_1() {
    let mut rig = Rig::new(WEIGHTED);
    rig.update([endpoint(0), endpoint(1), within("a", 3, endpoint(2)), within("a", 2, endpoint(3))]);
    rig.tell_all(0..4, Ready);
    // 1 : 3, as the larger of two weights counts.
    let counts = rig.counts(4, [None; 10_000]);
    assert!(near(counts[0] + counts[1], 10_000.0, 0.25), "{counts:?}");
}
