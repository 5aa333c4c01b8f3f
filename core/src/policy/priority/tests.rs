//! Load by priority as Envoy spreads it and as gRPC moves it.

use super::*;
use crate::policy::children::tests::{Rig, endpoint, is_failure};
use Connectivity::{Connecting, Idle, Ready, TransientFailure, Unhealthy};

const ENVOY: &str = r#"{"priority": {}}"#;
const GRPC: &str = r#"{"priority": {"failover": "grpc"}}"#;

/// Endpoints with these priorities, numbered.
fn by_priority(priorities: &[u32]) -> impl Iterator<Item = Endpoint> {
    (0..).zip(priorities).map(|(i, &priority)| Endpoint { priority, ..endpoint(i) })
}

/// One request for each hundredth.
fn hundred() -> impl Iterator<Item = Option<u64>> {
    (0..100).map(|hash| Some(1_000 + hash))
}

/// Of a hundred requests, one for each hundredth, those that each priority gets when of 4 + 4 endpoints so many are ready.
fn spread(config: &str, ready: [u32; 2], otherwise: Connectivity) -> (Vec<u32>, [u32; 2]) {
    let mut rig = Rig::new(config);
    rig.update(by_priority(&[0, 0, 0, 0, 1, 1, 1, 1]));
    let state = |i: u32| if i % 4 < ready[(i / 4) as usize] { Ready } else { otherwise };
    // The second is not connected before the first has failed.
    (0..8).for_each(|i| rig.tell(i, state(i)));
    (4..8).for_each(|i| rig.tell(i, state(i)));
    let counts = rig.counts(8, hundred());
    let sums = [counts[..4].iter().sum(), counts[4..].iter().sum()];
    (counts, sums)
}

#[test]
fn load_balancer_impl_base_test_half_healthy() {
    assert_eq!(spread(ENVOY, [2, 2], TransientFailure).1, [70, 30]);
    assert_eq!(spread(ENVOY, [2, 2], Unhealthy).1, [70, 30]);
    assert_eq!(spread(ENVOY, [3, 0], Unhealthy).1, [100, 0]);
    assert_eq!(spread(r#"{"priority": {"overprovisioning_factor": 100}}"#, [2, 2], Unhealthy).1, [50, 50]);
}

#[test]
fn load_balancer_impl_base_test_panic() {
    // 35 % each, and both panic: 50 : 50 by the number of endpoints, over those that are connected. Round robin gives 50
    // requests to 4 endpoints as 12 or 13 each.
    let (counts, sums) = spread(ENVOY, [1, 1], Unhealthy);
    assert_eq!(sums, [50, 50]);
    assert!(counts.iter().all(|n| (12..=13).contains(n)), "{counts:?}");
    // What failed to connect can't be used in panic either.
    assert_eq!(spread(ENVOY, [1, 1], TransientFailure).0, [50, 0, 0, 0, 50, 0, 0, 0]);
    // Without panic the same share goes to the healthy ones alone.
    let calm = r#"{"priority": {"healthy_panic_threshold": 0}}"#;
    assert_eq!(spread(calm, [1, 1], Unhealthy).0, [50, 0, 0, 0, 50, 0, 0, 0]);
    assert_eq!(spread(ENVOY, [0, 0], Unhealthy).1, [50, 50]);
}

#[test]
fn round_robin_lb_test_max_unhealthy_panic() {
    // 2 of 6 hosts are healthy; then 4 of 6.
    let mut rig = Rig::new(ENVOY);
    rig.update(by_priority(&[0; 6]));
    rig.tell_all(0..2, Ready);
    rig.tell_all(2..6, Unhealthy);
    assert_eq!(rig.counts(6, [None; 60]), [10; 6]);
    rig.tell_all(2..4, Ready);
    assert_eq!(rig.counts(6, [None; 60]), [15, 15, 15, 15, 0, 0]);
}

#[test]
fn round_robin_lb_test_max_unhealthy_panic_disable_on_panic() {
    let mut rig = Rig::new(r#"{"priority": {"fail_traffic_on_panic": true}}"#);
    rig.update(by_priority(&[0; 6]));
    rig.tell_all(0..2, Ready);
    rig.tell_all(2..6, Unhealthy);
    assert!(is_failure(&rig.pick()));
    rig.tell_all(2..4, Ready);
    assert_eq!(rig.counts(6, [None; 60]), [15, 15, 15, 15, 0, 0]);
}

#[test]
fn round_robin_lb_test_basic_failover() {
    let mut rig = Rig::new(ENVOY);
    rig.update(by_priority(&[0, 1]));
    assert_eq!(rig.wanted(), Some(vec![0]));
    rig.tell(0, TransientFailure);
    assert_eq!((rig.wanted(), rig.pick()), (None, Pick::Queue));
    rig.tell(1, Ready);
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(1)));
    rig.tell(0, Ready);
    assert_eq!(rig.counts(2, [None; 10]), [10, 0]);
}

#[test]
fn a_request_waits_for_the_priority_that_it_is_drawn_to() {
    let mut rig = Rig::new(ENVOY);
    rig.update(by_priority(&[0, 0, 1]));
    rig.tell(0, TransientFailure);
    rig.tell(1, Connecting);
    rig.tell(2, Ready);
    // One of two is healthy: 70 % to those that connect.
    assert_eq!(rig.counts(3, hundred()), [0, 0, 30]);
    let drawn = |rig: &mut Rig| {
        let picker = rig.picker();
        let mut rng = crate::policy::draw::scripted::Script::each(&[(69, 100), (70, 100)]);
        [(); 2].map(|()| picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)))
    };
    assert_eq!(drawn(&mut rig), [Pick::Queue, Pick::Endpoint(EndpointId(2))]);
    // The attempt fails, and nobody waits any more.
    rig.tell(1, TransientFailure);
    assert_eq!(rig.counts(3, hundred()), [0, 0, 100]);
}

#[test]
fn a_priority_stays_connected_for_a_while() {
    for config in [ENVOY, GRPC] {
        let mut rig = Rig::new(config);
        rig.update(by_priority(&[0, 1]));
        rig.tell(0, TransientFailure);
        rig.tell(1, Ready);
        assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(1)), "{config}");
        rig.tell(0, Ready);
        let minutes = |n: u64| Nanos::from_secs(60 * n);
        rig.wait_until(minutes(10));
        assert_eq!(rig.wanted(), None, "{config}");
        // Used for a moment, and the time begins anew.
        rig.tell(0, TransientFailure);
        assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(1)), "{config}: it is still connected");
        rig.tell(0, Ready);
        rig.wait_until(Nanos(minutes(25).0 - 1));
        assert_eq!(rig.wanted(), None, "{config}");
        rig.wait_until(minutes(25));
        assert_eq!(rig.wanted(), Some(vec![0]), "{config}");
        // It was closed, and has to be connected.
        rig.tell(0, TransientFailure);
        assert_eq!((rig.wanted(), rig.pick()), (None, Pick::Queue), "{config}");
    }
}

#[test]
fn nothing_is_said_before_the_first_snapshot_and_failure_on_an_empty_one() {
    for config in [ENVOY, GRPC] {
        let mut rig = Rig::new(config);
        assert_eq!(rig.pick(), Pick::Queue);
        rig.update([]);
        assert_eq!(rig.pick(), Pick::Fail(no_addresses()));
        rig.update(by_priority(&[3]));
        rig.tell(0, TransientFailure);
        assert!(is_failure(&rig.pick()), "{config}");
        assert_eq!(rig.policy.state(), Some(TransientFailure));
    }
}

/// grpc-go TestPriority_HighPriorityReady: "Init 0 and 1; 0 is up, use 0; add 2, use 0; remove 2, use 0."
#[test]
fn balancer_test_high_priority_ready() {
    let mut rig = Rig::new(GRPC);
    rig.update(by_priority(&[0, 1]));
    rig.tell(0, Ready);
    for priorities in [&[0, 1][..], &[0, 1, 2], &[0, 1]] {
        rig.update(by_priority(priorities));
        assert_eq!((rig.wanted(), rig.pick()), (Some(vec![0]), Pick::Endpoint(EndpointId(0))));
    }
}

/// grpc-go TestPriority_SwitchPriority: "0 is up, use 0; 0 is down, 1 is up, use 1; add 2, use 1; 1 is down, use 2; remove 2, use 1."
#[test]
fn balancer_test_switch_priority() {
    let mut rig = Rig::new(GRPC);
    rig.update(by_priority(&[0, 1]));
    rig.tell(0, Ready);
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(0)));
    rig.tell(0, TransientFailure);
    assert_eq!((rig.wanted(), rig.pick()), (None, Pick::Queue));
    rig.tell(1, Ready);
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(1)));
    rig.update(by_priority(&[0, 1, 2]));
    assert_eq!((rig.wanted(), rig.pick()), (Some(vec![0, 1]), Pick::Endpoint(EndpointId(1))));
    rig.tell(1, TransientFailure);
    assert_eq!((rig.wanted(), rig.pick()), (None, Pick::Queue));
    rig.tell(2, Ready);
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(2)));
    rig.update(by_priority(&[0, 1]));
    assert!(is_failure(&rig.pick()), "the last that is left, which failed");
    rig.tell(1, Connecting);
    assert!(is_failure(&rig.pick()));
    rig.tell(1, Ready);
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(1)));
}

/// grpc-go TestPriority_HigherReadyCloseAllLower.
#[test]
fn balancer_test_higher_ready_close_all_lower() {
    let mut rig = Rig::new(r#"{"priority": {"failover": "grpc", "child_retention_interval": "0s"}}"#);
    rig.update(by_priority(&[0, 1, 2]));
    rig.tell_all([0, 1], TransientFailure);
    rig.tell(2, Ready);
    assert_eq!((rig.wanted(), rig.pick()), (None, Pick::Endpoint(EndpointId(2))));
    rig.tell(1, Ready);
    rig.wait_until(Nanos(1));
    assert_eq!((rig.wanted(), rig.pick()), (Some(vec![0, 1]), Pick::Endpoint(EndpointId(1))));
}

/// grpc-go TestPriority_InitTimeout: "Init 0 and 1; 0 is in connecting, after timeout, use 1."
#[test]
fn balancer_test_init_timeout() {
    let mut rig = Rig::new(GRPC);
    rig.update(by_priority(&[0, 1]));
    rig.tell(0, Connecting);
    rig.wait_until(Nanos(Nanos::from_secs(10).0 - 1));
    assert_eq!((rig.wanted(), rig.pick()), (Some(vec![0]), Pick::Queue));
    rig.wait_until(Nanos::from_secs(10));
    assert_eq!((rig.wanted(), rig.pick()), (None, Pick::Queue));
    rig.tell(1, Ready);
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(1)));
    rig.tell(0, Ready);
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(0)));
}

/// gRFC A56 "Child Connectivity State Tracking": the timer starts again for a child that was READY or IDLE after it last failed.
#[test]
fn a_priority_that_was_ready_has_time_to_connect_again() {
    let mut rig = Rig::new(GRPC);
    rig.update(by_priority(&[0, 1]));
    rig.tell(0, TransientFailure);
    rig.tell(1, Ready);
    rig.tell(0, Ready);
    // Requests wait for the first, though the second is connected.
    rig.tell(0, Idle);
    rig.tell(0, Connecting);
    assert_eq!(rig.pick(), Pick::Queue);
    rig.wait_until(Nanos::from_secs(10));
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(1)));
    // One that failed has none.
    rig.tell(0, TransientFailure);
    rig.tell(0, Connecting);
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(1)));
}

/// grpc-go TestPriority_HighPriorityInitIdle and TestPriority_AddLowPriorityWhenHighIsInIdle: one that rests is used.
#[test]
fn balancer_test_high_priority_idle() {
    let mut rig = Rig::new(r#"{"priority": {"failover": "grpc", "child_policy": "pick_first"}}"#);
    rig.update(by_priority(&[0]));
    rig.tell(0, Ready);
    rig.tell(0, Idle);
    assert_eq!((rig.wanted(), rig.policy.state()), (Some(vec![]), Some(Idle)));
    rig.update(by_priority(&[0, 1]));
    assert_eq!((rig.wanted(), rig.pick()), (Some(vec![]), Pick::Queue));
    rig.exit_idle();
    assert_eq!(rig.wanted(), Some(vec![0]));
    // Once it fails the next one's turn comes.
    rig.tell(0, TransientFailure);
    assert_eq!(rig.wanted(), Some(vec![0, 1]));
}

/// grpc-go TestPriority_MoveReadyChildToHigherPriority, by endpoints.
#[test]
fn balancer_test_move_ready_to_higher_priority() {
    let mut rig = Rig::new(GRPC);
    rig.update(by_priority(&[0, 1]));
    rig.tell(0, TransientFailure);
    rig.tell(1, Ready);
    assert_eq!(rig.pick(), Pick::Endpoint(EndpointId(1)));
    rig.update(by_priority(&[1, 0]));
    assert_eq!((rig.pick(), rig.wanted()), (Pick::Endpoint(EndpointId(1)), None));
    // Endpoint 0 is the second priority's now, which was used before and is dropped in a while.
    rig.wait_until(Nanos::from_secs(15 * 60));
    assert_eq!((rig.pick(), rig.wanted()), (Pick::Endpoint(EndpointId(1)), Some(vec![1])));
}

#[test]
fn a_subset_that_is_down_is_a_priority_that_is_down() {
    // 8 of 10 endpoints are not in the subset: nobody knows of them, and they don't help.
    let child = r#"{"random_subsetting": {"subset_size": 2, "seed": 1}}"#;
    let mut rig = Rig::new(&format!(r#"{{"priority": {{"child_policy": {child}}}}}"#));
    rig.update((0..11).map(|i| Endpoint { priority: i / 10, ..endpoint(i) }));
    let subset = rig.wanted().unwrap();
    assert_eq!(subset.len(), 2);
    rig.tell(subset[0], TransientFailure);
    rig.tell(subset[1], TransientFailure);
    rig.tell(10, Ready);
    assert_eq!(rig.counts(11, hundred())[10], 100);
}
