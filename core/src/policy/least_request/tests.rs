use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::*;
use crate::policy::draw::scripted::Script;
use crate::{Address, Code, Connectivity, Endpoint};

const ENDED: Outcome = Outcome::new(Code::Ok, Nanos::ZERO);

/// A policy over endpoints of these weights, all READY, and the counts it keeps.
fn policy(config: LeastRequestConfig, weights: &[u32]) -> (ConnectAll<LeastRequest>, Arc<Outstanding>) {
    let outstanding = Arc::new(Outstanding::default());
    let mut policy = ConnectAll::new(LeastRequest::new(config, outstanding.clone()));
    snapshot(&mut policy, weights);
    (policy, outstanding)
}

fn choices(n: u32) -> LeastRequestConfig {
    LeastRequestConfig { choice_count: ChoiceCount::new(n).unwrap(), ..Default::default() }
}

fn bias(bias: f64) -> LeastRequestConfig {
    LeastRequestConfig { active_request_bias: Some(bias), ..Default::default() }
}

fn full_scan() -> LeastRequestConfig {
    LeastRequestConfig { selection_method: SelectionMethod::FullScan, ..Default::default() }
}

fn snapshot(policy: &mut ConnectAll<LeastRequest>, weights: &[u32]) {
    let mut rng = Script::indices(1, &[0]);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
    let endpoints = (0..).zip(weights).map(|(i, &weight)| endpoint(i).with_weight(weight));
    policy.update(&mut cx, &EndpointSet::new(endpoints));
    for (i, _) in (0..).zip(weights) {
        policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
    }
}

/// As if so many requests were outstanding.
fn set(outstanding: &Outstanding, endpoint: u32, requests: u32) {
    let id = EndpointId(endpoint);
    while outstanding.get(id) > requests {
        outstanding.done(id);
    }
    while outstanding.get(id) < requests {
        outstanding.started(id);
    }
}

/// Picks whose requests end at once.
fn brief_picks(picker: &dyn Picker, rng: &mut dyn rand::Rng, picks: usize) -> Vec<u32> {
    let mut pick = || match picker.pick(&mut PickContext::new(Nanos::ZERO, rng)) {
        Pick::Endpoint(id) => {
            picker.done(id, Nanos::ZERO, &ENDED);
            id.0
        }
        other => panic!("{other:?}"),
    };
    (0..picks).map(|_| pick()).collect()
}

fn picker(policy: &mut ConnectAll<LeastRequest>) -> Arc<dyn Picker> {
    policy.picker(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])))
}

fn picks(picker: &dyn Picker, n: u32, indices: &[u32], picks: usize) -> Vec<u32> {
    let mut rng = Script::indices(n, indices);
    let mut pick = || match picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
        Pick::Endpoint(id) => id.0,
        other => panic!("{other:?}"),
    };
    (0..picks).map(|_| pick()).collect()
}

#[test]
fn leastrequest_test_least_request_e2e() {
    let (mut policy, outstanding) = policy(choices(2), &[1; 3]);
    let pairs = [(0, 0), (0, 1), (1, 2), (0, 3), (1, 0), (2, 0), (0, 0), (2, 2), (2, 1)];
    let indices: Vec<u32> = pairs.iter().flat_map(|&(a, b)| [a, b]).collect();
    // Outstanding before each pick, and who has fewer:
    // 0 0 0: 0 · 1 0 0: 1 · 1 1 0: 2 · 1 1 1: 0 with itself · 2 1 1: 1 · 2 2 1: 2 · 2 2 2: 0 · 3 2 2: 2 · 3 2 3: 1.
    assert_eq!(picks(&*picker(&mut policy), 3, &indices, 9), [0, 1, 2, 0, 1, 2, 0, 2, 1]);
    assert_eq!([0, 1, 2].map(|i| outstanding.get(EndpointId(i))), [3, 3, 3]);
}

#[test]
fn leastrequest_test_least_request_persists_counts() {
    // 50 requests stay on two endpoints; a third joins and takes all until it has as many.
    let (mut two, outstanding) = policy(choices(3), &[1; 2]);
    picks(&*picker(&mut two), 2, &[0, 1, 0, 1, 0, 1], 50);
    assert_eq!([0, 1].map(|i| outstanding.get(EndpointId(i))), [25, 25]);
    snapshot(&mut two, &[1; 3]);
    assert_eq!(picks(&*picker(&mut two), 3, &[0, 1, 2], 25), [2; 25]);
}

#[test]
fn counts_are_given_back_through_any_picker_and_never_below_zero() {
    let (mut policy, outstanding) = policy(choices(2), &[1; 2]);
    let first = picker(&mut policy);
    assert_eq!(picks(&*first, 2, &[0, 1], 2), [0, 1]);
    // Everything goes away; requests end through the picker that fails all, also more often than they should.
    let mut rng = Script::indices(1, &[0]);
    policy.update(&mut Context::new(Nanos::ZERO, &mut rng), &EndpointSet::default());
    let failing = picker(&mut policy);
    assert!(matches!(failing.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Fail(_)));
    for id in [0, 1, 1, 1, 9_999] {
        failing.done(EndpointId(id), Nanos::ZERO, &ENDED);
    }
    assert_eq!([0, 1].map(|i| outstanding.get(EndpointId(i))), [0, 0]);
}

#[test]
fn counts_return_to_zero_under_threads() {
    let (mut policy, outstanding) = policy(choices(2), &[1; 5]);
    let picker = picker(&mut policy);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let picker = &picker;
            scope.spawn(move || {
                let mut rng = Script::indices(5, &[thread, 2, 4, 1]);
                for _ in 0..10_000 {
                    if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
                        picker.done(id, Nanos::ZERO, &ENDED);
                    }
                }
            });
        }
    });
    assert!((0..5).all(|i| outstanding.get(EndpointId(i)) == 0));
}

#[test]
fn distinct_choices_step_over_those_drawn_before() {
    let distinct = LeastRequestConfig { with_replacement: false, ..choices(3) };
    let (mut policy, outstanding) = policy(distinct, &[1; 4]);
    for (endpoint, requests) in [(0, 9), (1, 3), (2, 5), (3, 0)] {
        set(&outstanding, endpoint, requests);
    }
    let picker = picker(&mut policy);
    // Draws 1 of 4, 1 of 3, 0 of 2: endpoint 1; then 1 steps over it to 2; then 0. Counts 3, 5, 9: endpoint 1.
    let mut rng = Script::each(&[(1, 4), (1, 3), (0, 2)]);
    assert_eq!(picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Endpoint(EndpointId(1)));
    // 0 of 4, 0 of 3, 1 of 2: endpoints 0, 1, and then the second of 2 and 3.
    let mut rng = Script::each(&[(0, 4), (0, 3), (1, 2)]);
    assert_eq!(picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Endpoint(EndpointId(3)));
}

#[test]
fn more_distinct_choices_than_endpoints_are_a_full_scan() {
    let (mut policy, _) = policy(LeastRequestConfig { with_replacement: false, ..choices(10) }, &[1; 3]);
    let mut picked = picks(&*picker(&mut policy), 3, &[2, 0, 0, 1, 1, 0, 0, 0, 0], 3);
    picked.sort_unstable();
    assert_eq!(picked, [0, 1, 2], "each pick sees all three, so no endpoint is second before all are first");
}

#[test]
fn choices_are_two_to_ten() {
    assert_eq!([0, 1].map(|n| ChoiceCount::new(n).is_err()), [true, true]);
    assert_eq!([2, 10, 11, u32::MAX].map(|n| ChoiceCount::new(n).unwrap().get()), [2, 10, 10, 10]);
}

/// The next ones of a test of Envoy: hosts are endpoints 0 and up, `random_` gives what the script says.
#[test]
fn least_request_lb_test_normal() {
    let (mut policy, outstanding) = policy(choices(2), &[1; 2]);
    let picker = picker(&mut policy);
    for (requests, least) in [([1, 2], 0), ([2, 1], 1)] {
        (0..).zip(requests).for_each(|(i, n)| set(&outstanding, i, n));
        assert_eq!(brief_picks(&*picker, &mut Script::indices(2, &[2, 3]), 1), [least]);
    }
}

#[test]
fn least_request_lb_test_pnc() {
    let pick = |choice_count, indices: &[u32]| {
        let (mut policy, outstanding) = policy(choices(choice_count), &[1; 4]);
        (0..4).for_each(|i| set(&outstanding, i, 4 - i));
        brief_picks(&*picker(&mut policy), &mut Script::indices(4, indices), 1)[0]
    };
    assert_eq!([pick(2, &[0]), pick(5, &[0])], [0, 0]);
    assert_eq!(pick(5, &[3, 0, 3, 2, 1]), 3);
}

#[test]
fn least_request_lb_test_full_scan_one_host_with_least_requests() {
    let (mut policy, outstanding) = policy(full_scan(), &[1; 5]);
    (0..).zip([4, 3, 2, 1, 5]).for_each(|(i, n)| set(&outstanding, i, n));
    assert_eq!(brief_picks(&*picker(&mut policy), &mut Script::indices(5, &[0]), 1), [3]);
}

#[test]
fn least_request_lb_test_full_scan_multiple_hosts_with_least_requests() {
    let (mut policy, outstanding) = policy(full_scan(), &[1; 5]);
    (0..).zip([3, 3, 1, 1, 1]).for_each(|(i, n)| set(&outstanding, i, n));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut counts = [0u32; 5];
    brief_picks(&*picker(&mut policy), &mut rng, 100_000).iter().for_each(|&i| counts[i as usize] += 1);
    // 33,333 each; five standard deviations are 5 · √(100,000 · 1/3 · 2/3) = 745.
    assert_eq!(counts[..2], [0, 0]);
    assert!(counts[2..].iter().all(|c| c.abs_diff(33_333) < 745), "{counts:?}");
}

#[test]
fn least_request_lb_test_weight_imbalance() {
    let (mut policy, outstanding) = policy(bias(1.0), &[1, 2]);
    let picker = picker(&mut policy);
    let picks = |n| brief_picks(&*picker, &mut Script::indices(1, &[0]), n);
    // 1 is due at 1/2, 1, 3/2 and 2, endpoint 0 at 1 and 2, and of equals is the first.
    assert_eq!(picks(6), [1, 0, 1, 1, 0, 1]);
    // 1 is due at 5/2 and from then on after (1 + 1)/2 = 1, as is 0 at 3.
    set(&outstanding, 1, 1);
    assert_eq!(picks(5), [1, 0, 1, 0, 1]);
    // 0 is due at 5 and after 2, 1 at 11/2 and after 1/2.
    set(&outstanding, 0, 1);
    set(&outstanding, 1, 0);
    assert_eq!(picks(10), [0, 1, 1, 1, 0, 1, 1, 1, 1, 0]);
}

#[test]
fn least_request_lb_test_weight_imbalance_with_custom_active_request_bias() {
    let (mut policy, outstanding) = policy(bias(0.0), &[1, 2]);
    set(&outstanding, 1, 1);
    assert_eq!(brief_picks(&*picker(&mut policy), &mut Script::indices(1, &[0]), 6), [1, 0, 1, 1, 0, 1]);
}

#[test]
fn least_request_lb_test_equal_weights_with_active_request_bias_runtime_guard_disabled() {
    let (mut policy, outstanding) = policy(bias(1.0), &[1; 2]);
    set(&outstanding, 0, 1);
    assert_eq!(brief_picks(&*picker(&mut policy), &mut Script::indices(2, &[0]), 10), [0; 10]);
}

#[test]
fn least_request_lb_test_weight_imbalance_callbacks() {
    let (mut policy, _) = policy(bias(1.0), &[1, 2]);
    assert_eq!(brief_picks(&*picker(&mut policy), &mut Script::indices(1, &[0]), 2), [1, 0]);
    snapshot(&mut policy, &[1]);
    assert_eq!(brief_picks(&*picker(&mut policy), &mut Script::indices(1, &[0]), 1), [0]);
}

#[test]
fn least_request_lb_test_pending_counted_weighted() {
    // There pending requests count as active ones. Both are first due as if idle, at 1 and 1/2; then 1 after (3 + 1)/2 = 2.
    let (mut policy, outstanding) = policy(bias(1.0), &[1, 2]);
    let picker = picker(&mut policy);
    set(&outstanding, 1, 3);
    assert_eq!(brief_picks(&*picker, &mut Script::indices(1, &[0]), 6), [1, 0, 0, 1, 0, 0]);
}

#[test]
fn a_bias_of_one_half_takes_the_root_of_the_requests() {
    // 3 requests: √(3 + 1) = 2, so weights 4 and 2 are 2 to 2, the first of which is due first of equals; with 15 it is 1 to 2.
    let (mut policy, outstanding) = policy(bias(0.5), &[4, 2]);
    set(&outstanding, 0, 3);
    let first = picker(&mut policy);
    let mut rng = Script::indices(1, &[0]);
    assert_eq!(brief_picks(&*first, &mut rng, 6), [0, 1, 0, 1, 0, 1]);
    set(&outstanding, 0, 15);
    assert_eq!(brief_picks(&*first, &mut rng, 7), [0, 1, 1, 0, 1, 1, 0]);
}

#[test]
fn those_who_stay_keep_their_turn_and_others_join_at_the_present_time() {
    let (mut policy, _) = policy(bias(0.0), &[1, 2]);
    let mut rng = Script::indices(1, &[0]);
    // 0 is due at 3 next, 1 at 5/2.
    brief_picks(&*picker(&mut policy), &mut rng, 6);
    // A third of weight 4 joins at 5/2 and is due at 11/4, then at 3; at time 0 it would have ten turns before the others.
    snapshot(&mut policy, &[1, 2, 4]);
    assert_eq!(brief_picks(&*picker(&mut policy), &mut rng, 7), [1, 2, 0, 1, 2, 2, 1]);
    // Who was away comes back at the present time, too, instead of making up for it.
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    policy.connectivity(&mut cx, EndpointId(2), Connectivity::Idle);
    brief_picks(&*picker(&mut policy), &mut Script::indices(1, &[0]), 300);
    snapshot(&mut policy, &[1, 2, 4]);
    let mut counts = [0u32; 3];
    brief_picks(&*picker(&mut policy), &mut rng, 70).iter().for_each(|&i| counts[i as usize] += 1);
    assert!((0..).zip([10, 20, 40]).all(|(i, n): (usize, u32)| counts[i].abs_diff(n) <= 1), "{counts:?}");
}

#[test]
fn clients_that_start_together_begin_anywhere_in_the_first_round() {
    let mut firsts = [0u32; 2];
    for seed in 0..3_000 {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (mut policy, _) = policy(bias(1.0), &[1, 2]);
        let picker = policy.picker(&mut Context::new(Nanos::ZERO, &mut rng));
        firsts[brief_picks(&*picker, &mut rng, 1)[0] as usize] += 1;
    }
    // Start is up to 2/(1 + 2), and whoever is due next is the first. 0 is at 1; 1 is at 1/2, or at 1 from there on. Of equals 0
    // is the first: that is a quarter of the starts. Five standard deviations are 5 · √(3,000 · 1/4 · 3/4) = 119.
    assert!(firsts[0].abs_diff(750) < 119, "{firsts:?}");
}

#[test]
fn absurd_steps_keep_everyone_in_turn() {
    // Beyond 2^53 a step of 1 is lost in the rounding, and (active + 1)^1000 is infinite.
    let (mut policy, outstanding) = policy(bias(1_000.0), &[1, 2]);
    set(&outstanding, 0, 9);
    set(&outstanding, 1, 9);
    let picker = picker(&mut policy);
    let mut rng = Script::indices(1, &[0]);
    brief_picks(&*picker, &mut rng, 10_000_000);
    (0..2).for_each(|i| set(&outstanding, i, 0));
    let mut counts = [0; 2];
    brief_picks(&*picker, &mut rng, 100).iter().for_each(|&i| counts[i as usize] += 1);
    assert!(counts.iter().all(|c| *c > 20), "{counts:?}");
}

#[test]
fn while_nothing_ends_counts_go_with_the_root_of_the_weight() {
    let (mut policy, outstanding) = policy(bias(1.0), &[1, 4, 9]);
    picks(&*picker(&mut policy), 1, &[0], 600);
    // a(a + 1)/2 / w is the same for all: 100 of 600, 200 and 300.
    assert_eq!([0, 1, 2].map(|i| outstanding.get(EndpointId(i)).abs_diff(100 * (i + 1)) <= 1), [true; 3]);
}

#[test]
fn no_turn_is_given_to_two_threads() {
    let weights = [1, 2, 3, 4];
    let (mut policy, _) = policy(bias(0.0), &weights);
    let picker = picker(&mut policy);
    let counts: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let work = |_| brief_picks(&*picker, &mut Script::indices(1, &[0]), 10_000);
        let threads: Vec<_> = (0..4).map(|i| scope.spawn(move || work(i))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    // 40,000 turns, which no number of threads shares out in any other way than one would.
    for (endpoint, weight) in (0..).zip(weights) {
        let count = counts.iter().flatten().filter(|&&i| i == endpoint).count();
        assert!(count.abs_diff(4_000 * weight as usize) <= 2, "{endpoint}: {count}");
    }
}

proptest! {
    /// The same picks as from a heap of deadlines on one thread, however requests begin and end.
    #[test]
    fn picks_are_those_of_a_heap(
        weights in proptest::collection::vec(1..20u32, 2..12),
        bias_of in prop_oneof![Just(0.0), Just(0.5), Just(1.0), Just(2.5)],
        ends in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 200),
    ) {
        prop_assume!(weights.iter().any(|w| *w != weights[0]));
        let (mut policy, outstanding) = policy(bias(bias_of), &weights);
        let picker = picker(&mut policy);
        let after = |at: usize| {
            let active = f64::from(outstanding.get(EndpointId(at as u32)));
            libm::pow(active + 1.0, bias_of) / f64::from(weights[at])
        };
        // Earliest first: numbers that are not negative are in the order of their bits.
        let mut heap: std::collections::BinaryHeap<_> =
            (0..weights.len()).map(|at| std::cmp::Reverse((after(at).to_bits(), at))).collect();
        let mut under_way = Vec::new();
        for (end, which) in ends {
            let std::cmp::Reverse((deadline, at)) = heap.pop().unwrap();
            heap.push(std::cmp::Reverse(((f64::from_bits(deadline) + after(at)).to_bits(), at)));
            let expected = EndpointId(at as u32);
            let pick = picker.pick(&mut PickContext::new(Nanos::ZERO, &mut Script::indices(1, &[0])));
            prop_assert_eq!(pick, Pick::Endpoint(expected));
            under_way.push(expected);
            if end {
                let id = under_way.swap_remove(which.index(under_way.len()));
                picker.done(id, Nanos::ZERO, &ENDED);
            }
        }
    }
}

#[test]
fn requests_that_a_policy_around_it_sent_are_counted_ready_or_not() {
    let (mut policy, outstanding) = policy(choices(2), &[1; 2]);
    let ready = picker(&mut policy);
    ready.picked(EndpointId(0), Nanos::ZERO);
    assert_eq!(picks(&*ready, 2, &[0, 1], 1), [1], "0 has one already");
    let mut rng = Script::indices(1, &[0]);
    policy.update(&mut Context::new(Nanos::ZERO, &mut rng), &EndpointSet::default());
    let failing = picker(&mut policy);
    failing.picked(EndpointId(1), Nanos::ZERO);
    assert_eq!([0, 1].map(|i| outstanding.get(EndpointId(i))), [1, 2]);
    for id in [0, 1, 1] {
        failing.done(EndpointId(id), Nanos::ZERO, &ENDED);
    }
    assert_eq!([0, 1].map(|i| outstanding.get(EndpointId(i))), [0, 0]);
}
