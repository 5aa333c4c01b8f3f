use super::*;
use crate::policy::draw::scripted::Script;
use crate::policy::random::RandomConfig;
use crate::{Address, Code, Connectivity, Endpoint};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

type PrequalPolicy = ConnectAll<Prequal>;

const fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

/// No probes, and none removed: the pool is what the test puts into it.
fn by_hand() -> PrequalConfig {
    PrequalConfig { r_probe: 0.0, r_remove: 0.0, ..Default::default() }
}

/// Endpoints `0..n`, all READY.
fn policy(config: PrequalConfig, n: u32) -> PrequalPolicy {
    let mut policy = ConnectAll::new(Prequal::new(config, &Shared::default()));
    update(&mut policy, 0..n);
    (0..n).for_each(|i| state(&mut policy, i, Connectivity::Ready));
    policy
}

fn update(policy: &mut dyn Policy, ids: impl Iterator<Item = u32>) {
    let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
    let endpoints = EndpointSet::new(ids.map(endpoint));
    policy.update(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])), &endpoints);
}

fn state(policy: &mut dyn Policy, id: u32, state: Connectivity) {
    policy.connectivity(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])), EndpointId(id), state);
}

fn picker(policy: &mut dyn Policy) -> Arc<dyn Picker> {
    policy.picker(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])))
}

fn probed(picker: &dyn Picker, id: u32, at: Nanos, in_flight: u32, latency_ms: u64) {
    let report = LoadReport { in_flight: Some(in_flight), latency: Some(ms(latency_ms)), ..Default::default() };
    picker.probed(EndpointId(id), at, &report);
}

/// Where a request goes and who is asked; `random` is what is drawn.
fn pick(picker: &dyn Picker, now: Nanos, random: &[(u32, u32)]) -> (u32, Vec<u32>) {
    let mut rng = Script::each(random);
    let mut cx = PickContext::new(now, &mut rng);
    match picker.pick(&mut cx) {
        Pick::Endpoint(id) => (id.0, cx.asks.probes().iter().map(|id| id.0).collect()),
        other => panic!("{other:?}"),
    }
}

/// Where a request goes that should not be left to chance: for that there is the 9th of 10.
fn target(picker: &dyn Picker, now: Nanos) -> u32 {
    pick(picker, now, &[(9, 10)]).0
}

#[test]
fn nsdi24_equation_1() {
    let config = PrequalConfig::default();
    // (1 + 1) / ((1 − 16/100) · 3 − 1) = 2 / 1.52 = 1.316, so an answer serves 2 requests at the most, and 1 at the least.
    assert!((config.b_reuse(100) - 1.315_789).abs() < 1e-6);
    let uses = Uses::new(config.b_reuse(100));
    let served: Vec<u16> = (0..10_000).map(|n| uses.of(n)).collect();
    assert_eq!((served.iter().min(), served.iter().max()), (Some(&1), Some(&2)));
    assert!(served.iter().sum::<u16>().abs_diff(13_158) <= 2);
    // m = 48: 2 / 0.56 = 3.571. Very many endpoints: 2 / 2 = 1. As many as slots, or 24: 2 / 0, and there is no end to it.
    assert!((PrequalConfig { pool_size: 48, ..config.clone() }.b_reuse(100) - 3.571_428).abs() < 1e-6);
    assert!((config.b_reuse(1_000_000) - 1.0).abs() < 1e-4);
    assert_eq!([24, 16, 1].map(|n| config.b_reuse(n)), [f64::INFINITY; 3]);
    assert_eq!(Uses::new(f64::INFINITY).of(1), u16::MAX);
}

#[test]
fn the_coldest_by_latency_then_the_least_full_of_the_hot() {
    // Half of 5, 1, 9, 2 and 7 is at most 5: more than that is hot.
    let picker = picker(&mut policy(PrequalConfig { q_rif: 0.5, ..by_hand() }, 10));
    for (id, in_flight, latency_ms) in [(0, 5, 30), (1, 1, 60), (2, 9, 5), (3, 2, 40), (4, 7, 1)] {
        probed(&*picker, id, Nanos::ZERO, in_flight, latency_ms);
    }
    // 0 is the fastest with 5 in flight, and with 6 it is hot; then 3 until it has 6, and 1.
    let targets: Vec<u32> = (0..14).map(|_| target(&*picker, Nanos::ZERO)).collect();
    assert_eq!(targets[..10], [0, 3, 3, 3, 3, 1, 1, 1, 1, 1]);
    // All are hot: 0, 1 and 3 with 6, 4 with 7, 2 with 9. Of equals the fastest, 0 before 3 before 1, and then 4 among those with 7.
    assert_eq!(targets[10..], [0, 3, 1, 4]);
}

#[test]
fn fewer_than_two_answers_leave_it_to_chance() {
    let picker = picker(&mut policy(by_hand(), 10));
    assert_eq!(pick(&*picker, Nanos::ZERO, &[(7, 10)]).0, 7);
    probed(&*picker, 3, Nanos::ZERO, 0, 1);
    assert_eq!(pick(&*picker, Nanos::ZERO, &[(7, 10)]).0, 7);
    // A request that chance sends to 3 is counted there: 1 has none and comes first, until it has one and is slower.
    assert_eq!(pick(&*picker, Nanos::ZERO, &[(3, 10)]).0, 3);
    probed(&*picker, 1, Nanos::ZERO, 0, 2);
    assert_eq!([(); 2].map(|()| target(&*picker, Nanos::ZERO)), [1, 3]);
    // An answer without requests in flight is none; one without latency is of a server that has not ended any yet.
    picker.probed(EndpointId(5), Nanos::ZERO, &LoadReport::default());
    picker.probed(EndpointId(6), Nanos::ZERO, &LoadReport { in_flight: Some(0), ..Default::default() });
    assert_eq!(target(&*picker, Nanos::ZERO), 6);
}

#[test]
fn answers_are_of_use_for_a_second() {
    let picker = picker(&mut policy(by_hand(), 10));
    probed(&*picker, 0, ms(0), 0, 1);
    probed(&*picker, 1, ms(400), 0, 2);
    probed(&*picker, 2, ms(900), 0, 3);
    assert_eq!(target(&*picker, ms(1_000)), 0);
    assert_eq!(target(&*picker, ms(1_001)), 1);
    assert_eq!(target(&*picker, ms(1_401)), 9, "there is only one left");
}

#[test]
fn an_answer_serves_b_reuse_requests() {
    // (1 + 5) / ((1 − 16/32) · 4 − 0) = 3.
    let config = PrequalConfig { delta: 5.0, r_remove: 0.0, r_probe: 4.0, q_rif: 1.0, ..Default::default() };
    let picker = picker(&mut policy(config, 32));
    for id in 0..4 {
        probed(&*picker, id, Nanos::ZERO, 0, u64::from(id));
    }
    let targets: Vec<u32> = (0..9).map(|_| pick(&*picker, Nanos::ZERO, &[(0, 1)]).0).collect();
    assert_eq!(targets, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
}

#[test]
fn the_oldest_and_the_worst_are_removed_in_turn() {
    // Nobody is hot, so the worst is the slowest.
    let config = PrequalConfig { r_remove: 1.0, q_rif: 1.0, ..by_hand() };
    let picker = picker(&mut policy(config, 10));
    for (id, at, latency_ms) in [(0, 3, 70), (1, 1, 50), (2, 2, 90), (3, 5, 20), (4, 4, 80)] {
        probed(&*picker, id, ms(at), 0, latency_ms);
    }
    // Each goes to 3, and takes 1 (the oldest), 2 (the slowest), 0 (the oldest left) and 4 (the slowest left) along.
    assert_eq!([(); 4].map(|()| target(&*picker, ms(5))), [3; 4]);
    assert_eq!(target(&*picker, ms(5)), 9, "there is only one left");
}

#[test]
fn the_worst_of_all_is_a_hot_one() {
    // More than 4 in flight is hot, and the fullest of these is the worst, though it is fast.
    let config = PrequalConfig { r_remove: 2.0, q_rif: 0.5, ..by_hand() };
    let picker = picker(&mut policy(config, 10));
    for (id, in_flight, latency_ms) in [(0, 1, 10), (1, 2, 90), (2, 9, 1), (3, 8, 2), (4, 4, 50)] {
        probed(&*picker, id, ms(u64::from(id)), in_flight, latency_ms);
    }
    // 0, and it is the oldest besides; 2 is the worst. Then 4, the faster of those that are not hot, after which all are.
    assert_eq!(target(&*picker, ms(5)), 0);
    assert_eq!(target(&*picker, ms(5)), 4);
    // 1 was the oldest, and 3 the worst.
    assert_eq!(target(&*picker, ms(5)), 9, "there is only one left");
}

#[test]
fn different_endpoints_are_asked_and_fractions_carried_over() {
    let picker_of = |r_probe, n| picker(&mut policy(PrequalConfig { r_probe, ..Default::default() }, n));
    // The first draw is for the request; then 4 of 10, 4 of the other 9, which is 5, and the last of the other 8.
    assert_eq!(pick(&*picker_of(3.0, 10), Nanos::ZERO, &[(0, 10), (4, 10), (4, 9), (7, 8)]), (0, vec![4, 5, 9]));
    let counts = |r_probe, n| {
        let picker = picker_of(r_probe, n);
        [(); 6].map(|()| pick(&*picker, Nanos::ZERO, &[(0, 1)]).1.len())
    };
    assert_eq!(counts(2.5, 10), [2, 3, 2, 3, 2, 3]);
    assert_eq!(counts(0.5, 10), [0, 1, 0, 1, 0, 1]);
    assert_eq!(counts(8.0, 3), [3; 6], "no more than there are");
    assert_eq!(counts(0.0, 3), [0; 6]);
}

#[test]
fn rates_stay_right_when_numbers_wrap_around() {
    let rate = Rate::new(2.75);
    for k in [0, u64::MAX / 2, u64::MAX - 8] {
        let count: usize = (0..400).map(|i| rate.during(k.wrapping_add(i)).count()).sum();
        assert_eq!(count, 1_100);
    }
}

#[test]
fn who_left_or_is_not_ready_is_not_sent_to() {
    let mut policy = policy(PrequalConfig { q_rif: 1.0, ..by_hand() }, 10);
    let first = picker(&mut policy);
    for id in 0..4 {
        probed(&*first, id, Nanos::ZERO, 0, u64::from(id));
    }
    state(&mut policy, 0, Connectivity::Idle);
    assert_eq!(target(&*picker(&mut policy), Nanos::ZERO), 1);
    // 1 leaves and comes back as another; what was known of it is not known of that. 2 stays.
    update(&mut policy, (0..10).filter(|i| *i != 1));
    update(&mut policy, 0..10);
    state(&mut policy, 1, Connectivity::Ready);
    assert_eq!(target(&*picker(&mut policy), Nanos::ZERO), 2);
    // An answer of one that is not ready, or not there, comes too late.
    let last = picker(&mut policy);
    [0, 77].into_iter().for_each(|id| probed(&*last, id, Nanos::ZERO, 0, 0));
    assert_eq!(target(&*last, Nanos::ZERO), 2);
    // Requests end, also more often than they should.
    for id in [2, 2, 2, 77] {
        last.done(EndpointId(id), Nanos::ZERO, &Outcome::new(Code::Ok, ms(1)));
    }
}

#[test]
fn without_answers_it_is_random() {
    let config = PrequalConfig { r_probe: 0.0, ..Default::default() };
    let mut random = RandomConfig::default().build(&Shared::default());
    update(&mut *random, 0..10);
    (0..10).for_each(|i| state(&mut *random, i, Connectivity::Ready));
    let mut prequal = policy(config, 10);
    let picks = |policy: &mut dyn Policy| {
        let (picker, mut rng) = (picker(policy), Xoshiro256PlusPlus::seed_from_u64(4));
        [(); 1_000].map(|()| picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)))
    };
    assert_eq!(picks(&mut prequal), picks(&mut *random));
}

#[test]
fn threads_share_the_pool() {
    let picker = picker(&mut policy(PrequalConfig::default(), 50));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let picker = &picker;
            scope.spawn(move || {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(thread);
                let mut slow = 0;
                for n in 0..20_000u64 {
                    let mut cx = PickContext::new(Nanos(n * 1_000), &mut rng);
                    let Pick::Endpoint(id) = picker.pick(&mut cx) else { panic!("all are ready") };
                    slow += u32::from(id.0 < 10);
                    // The first ten of fifty are slow.
                    let asks = cx.asks;
                    for &id in asks.probes() {
                        probed(&**picker, id.0, Nanos(n * 1_000), 3, if id.0 < 10 { 100 } else { 10 });
                    }
                    picker.done(id, Nanos(n * 1_000), &Outcome::new(Code::Ok, ms(1)));
                }
                assert!(slow < 400, "{slow} of 20,000, not 4,000");
            });
        }
    });
}

#[test]
fn settings_are_checked() {
    let broken = [
        (PrequalConfig { r_probe: 9.0, ..Default::default() }, "r_probe: 9, must be between 0 and 8"),
        (PrequalConfig { r_probe: f64::NAN, ..Default::default() }, "r_probe: NaN, must be between 0 and 8"),
        (PrequalConfig { r_remove: -1.0, ..Default::default() }, "r_remove: -1, must be between 0 and 64"),
        (PrequalConfig { pool_size: 1, ..Default::default() }, "pool_size: 1, must be between 2 and 64"),
        (PrequalConfig { delta: -0.5, ..Default::default() }, "delta: -0.5, must be >= 0"),
        (PrequalConfig { q_rif: 1.5, ..Default::default() }, "q_rif: 1.5, must be between 0 and 1"),
    ];
    for (config, message) in broken {
        assert_eq!(config.check().unwrap_err().to_string(), message);
    }
    assert_eq!(PrequalConfig::default().check(), Ok(()));
}
