//! Worked examples of `pick_first`, in the order of the life of a channel.

use super::*;
use crate::PickContext;
use Connectivity::{Connecting, Idle, Ready, TransientFailure};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// A policy and what it is driven with; `ms` is the time.
struct Driver {
    policy: PickFirst,
    rng: Xoshiro256PlusPlus,
    ms: u64,
}

impl Driver {
    fn new(config: &PickFirstConfig) -> Self {
        Self { policy: PickFirst::new(config), rng: Xoshiro256PlusPlus::seed_from_u64(1), ms: 0 }
    }

    /// A walk over `ids` that has just begun.
    fn walking(ids: &[u32]) -> Self {
        let mut d = Self::new(&PickFirstConfig::default());
        d.update(ids);
        d
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut PickFirst, &mut Context<'_>) -> T) -> T {
        call(&mut self.policy, &mut Context::new(Nanos::from_millis(self.ms), &mut self.rng))
    }

    fn update(&mut self, ids: &[u32]) {
        let set = EndpointSet::new(ids.iter().map(|&i| endpoint(i, &format!("10.0.0.{i}:80"), 1)));
        self.with(|p, cx| p.update(cx, &set));
    }

    fn state(&mut self, id: u32, state: Connectivity) {
        self.with(|p, cx| p.connectivity(cx, EndpointId(id), state));
    }

    /// Lets time pass until `ms`; when to be woken again.
    fn tick(&mut self, ms: u64) -> Option<u64> {
        self.ms = ms;
        self.with(|p, cx| p.tick(cx)).map(|at| at.0 / 1_000_000)
    }

    fn wanted(&self) -> Option<Vec<u32>> {
        match self.policy.wanted() {
            Wanted::All => None,
            Wanted::Only(ids) => Some(ids.iter().map(|id| id.0).collect()),
        }
    }

    fn pick(&mut self) -> Pick {
        let picker = self.with(|p, cx| p.picker(cx));
        picker.pick(&mut PickContext::new(Nanos::from_millis(self.ms), &mut self.rng))
    }

    fn resolve_request(&mut self) -> bool {
        self.policy.take_resolve_request()
    }
}

fn endpoint(id: u32, address: &str, weight: u32) -> Endpoint {
    Endpoint::new(EndpointId(id), Address::new(address)).with_weight(weight)
}

fn to(id: u32) -> Pick {
    Pick::Endpoint(EndpointId(id))
}

#[test]
fn requests_wait_for_addresses_and_fail_when_there_are_none() {
    let mut d = Driver::new(&PickFirstConfig::default());
    assert_eq!((d.pick(), d.wanted(), d.resolve_request()), (Pick::Queue, Some(vec![]), false));
    d.update(&[]);
    assert_eq!((d.pick(), d.wanted(), d.resolve_request()), (Pick::Fail(no_addresses()), Some(vec![]), true));
    // That is no failure to connect, so it is not sticky.
    d.update(&[0]);
    assert_eq!((d.pick(), d.wanted(), d.resolve_request()), (Pick::Queue, Some(vec![0]), false));
}

#[test]
fn attempts_start_250_ms_apart_and_the_first_to_succeed_wins() {
    let mut d = Driver::walking(&[0, 1, 2]);
    assert_eq!(d.wanted(), Some(vec![0]));
    assert_eq!(d.tick(0), Some(250));
    assert_eq!((d.tick(249), d.wanted()), (Some(250), Some(vec![0])));
    assert_eq!((d.tick(250), d.wanted()), (Some(500), Some(vec![0, 1])));
    // The third is the last: no timer after it.
    assert_eq!((d.tick(500), d.wanted()), (None, Some(vec![0, 1, 2])));
    assert_eq!(d.pick(), Pick::Queue);
    d.state(1, Ready);
    assert_eq!((d.pick(), d.wanted()), (to(1), Some(vec![1])));
    // Late news of the losers is nothing.
    d.state(0, Ready);
    d.state(2, TransientFailure);
    assert_eq!((d.pick(), d.wanted(), d.resolve_request()), (to(1), Some(vec![1]), false));
}

#[test]
fn a_failure_starts_the_next_attempt_at_once_if_it_was_the_last_started() {
    let mut d = Driver::walking(&[0, 1, 2, 3]);
    d.tick(100);
    d.state(0, TransientFailure);
    // The second began at 100 ms, so the third is due at 350.
    assert_eq!((d.wanted(), d.tick(100)), (Some(vec![1]), Some(350)));
    assert_eq!((d.tick(350), d.wanted()), (Some(600), Some(vec![1, 2])));
    // The second fails while the third is in flight: the timer stays what it was.
    d.state(1, TransientFailure);
    assert_eq!((d.tick(400), d.wanted()), (Some(600), Some(vec![2])));
}

#[test]
fn when_all_have_failed_requests_fail_until_something_connects() {
    let mut d = Driver::walking(&[0, 1]);
    for id in [0, 1] {
        d.state(id, Connecting);
        assert_eq!(d.pick(), Pick::Queue);
        d.state(id, TransientFailure);
    }
    let failed = Pick::Fail(nothing_connects(2));
    assert_eq!((d.pick(), d.wanted(), d.resolve_request()), (failed.clone(), None, true));
    // Once per pass: two further failures of two endpoints are the next.
    for (id, asks) in [(1, false), (0, true)] {
        for state in [Idle, Connecting, TransientFailure, TransientFailure] {
            d.state(id, state);
            assert_eq!(d.pick(), failed);
        }
        assert_eq!(d.resolve_request(), asks);
    }
    d.state(1, Connecting);
    d.state(1, Ready);
    assert_eq!((d.pick(), d.wanted()), (to(1), Some(vec![1])));
}

#[test]
fn failure_outlives_a_snapshot_and_endpoints_in_back_off_are_passed_over() {
    let mut d = Driver::walking(&[0, 1]);
    d.state(0, TransientFailure);
    d.state(1, TransientFailure);
    assert!(d.resolve_request());
    d.update(&[0, 1, 2]);
    assert_eq!((d.pick(), d.wanted()), (Pick::Fail(nothing_connects(2)), Some(vec![2])));
    d.state(2, TransientFailure);
    assert_eq!((d.pick(), d.wanted(), d.resolve_request()), (Pick::Fail(nothing_connects(3)), None, true));
    // A snapshot of nothing but endpoints in back-off: nothing was tried, so nothing is asked.
    d.update(&[0, 1]);
    assert_eq!((d.wanted(), d.resolve_request()), (None, false));
    // Attempts under way when the walk begins again go on.
    d.state(1, Connecting);
    d.update(&[2, 0, 1]);
    assert_eq!(d.wanted(), Some(vec![1, 2]));
}

#[test]
fn an_endpoint_that_failed_before_its_turn_has_its_turn_after_its_back_off() {
    let mut d = Driver::walking(&[0, 1]);
    d.state(0, TransientFailure);
    d.state(1, TransientFailure);
    d.state(1, Connecting);
    d.update(&[2, 1]);
    assert_eq!(d.wanted(), Some(vec![1, 2]));
    // The old attempt fails, and its back-off ends, while the walk is at the endpoint before it.
    d.state(1, TransientFailure);
    d.state(1, Idle);
    assert_eq!(d.wanted(), Some(vec![2]));
    d.state(2, TransientFailure);
    assert_eq!(d.wanted(), Some(vec![1]));
    d.state(1, TransientFailure);
    assert_eq!(d.wanted(), None);
}

#[test]
fn a_lost_connection_rests_until_a_request_comes() {
    let mut d = Driver::walking(&[0, 1]);
    d.state(0, TransientFailure);
    d.state(1, Ready);
    assert!(!d.resolve_request());
    d.state(1, Idle);
    assert_eq!((d.pick(), d.wanted(), d.resolve_request(), d.tick(9)), (Pick::Queue, Some(vec![]), true, None));
    // A snapshot does not wake it.
    d.update(&[0, 1]);
    assert_eq!(d.wanted(), Some(vec![]));
    d.ms = 10_000;
    d.with(|p, cx| p.exit_idle(cx));
    // From the top of the list, also to the endpoint that failed before there was a connection.
    assert_eq!((d.wanted(), d.tick(10_000)), (Some(vec![0]), Some(10_250)));
}

#[test]
fn a_snapshot_with_the_selected_endpoint_changes_nothing_and_one_without_it_starts_again() {
    let mut d = Driver::walking(&[0, 1]);
    d.state(0, Ready);
    let before = d.with(|p, cx| p.picker(cx));
    d.update(&[2, 1, 0]);
    assert!(Arc::ptr_eq(&before, &d.with(|p, cx| p.picker(cx))));
    assert_eq!(d.wanted(), Some(vec![0]));
    d.update(&[2, 1]);
    assert_eq!((d.pick(), d.wanted()), (Pick::Queue, Some(vec![2])));
    // The same id under another address is another endpoint.
    d.state(2, Ready);
    let set = EndpointSet::new([endpoint(2, "10.9.9.9:80", 1)]);
    d.with(|p, cx| p.update(cx, &set));
    assert_eq!((d.pick(), d.wanted()), (Pick::Queue, Some(vec![2])));
}

#[test]
fn the_attempt_delay_is_kept_within_a61s_limits() {
    let delay = |ms| ConnectionAttemptDelay::new(Nanos::from_millis(ms)).get();
    assert_eq!([0, 99, 100, 2_000, 2_001].map(delay), [100, 100, 100, 2_000, 2_000].map(Nanos::from_millis));
    let config = PickFirstConfig { connection_attempt_delay: Nanos::from_millis(1).into(), ..Default::default() };
    let mut d = Driver::new(&config);
    d.update(&[0, 1]);
    assert_eq!(d.tick(0), Some(100));
}

#[test]
fn families_alternate_from_the_first_ones() {
    let all = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "[::1]:80", "unix:/run/s.sock", "[::2]:80"];
    let endpoints: Vec<Endpoint> = (0..).zip(all).map(|(i, a)| endpoint(i, a, 1)).collect();
    let order: Vec<u32> = interleave_families(endpoints.iter().collect()).iter().map(|e| e.id.0).collect();
    assert_eq!(order, [0, 3, 4, 1, 5, 2]);
}

#[test]
fn a_weighted_shuffle_puts_each_first_as_often_as_its_share() {
    let config = PickFirstConfig { shuffle_address_list: true, ..Default::default() };
    for (weights, share) in [([1, 1, 1], 1.0 / 3.0), ([6, 3, 1], 0.6)] {
        let mut d = Driver::new(&config);
        let set = EndpointSet::new([0, 1, 2].map(|i| endpoint(i, &format!("10.0.0.{i}:80"), weights[i as usize])));
        let mut first = 0u32;
        for _ in 0..10_000 {
            d.with(|p, cx| p.update(cx, &EndpointSet::default()));
            d.with(|p, cx| p.update(cx, &set));
            first += u32::from(d.wanted() == Some(vec![0]));
        }
        // Five standard deviations of 10,000 draws are at most 5 · √(10,000 · 1/4) = 250.
        assert!((f64::from(first) - 10_000.0 * share).abs() < 250.0, "{weights:?}: {first}");
    }
}
