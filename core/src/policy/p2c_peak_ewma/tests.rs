use super::*;
use crate::policy::draw::scripted::Script;
use crate::{Code, Connectivity, Endpoint};

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);

const fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

/// A factory over endpoints `0..n` that came at time zero.
fn factory(n: u32, tau: Nanos, default_rtt: Nanos) -> P2cPeakEwma {
    let mut factory =
        P2cPeakEwma { estimates: Arc::new(Estimates::new(tau, Arc::default())), default_rtt, known: BTreeMap::new() };
    update(&mut factory, Nanos::ZERO, 0..n);
    factory
}

fn update(factory: &mut P2cPeakEwma, now: Nanos, ids: impl Iterator<Item = u32>) {
    let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
    let mut rng = Script::indices(1, &[0]);
    factory.updated(&mut Context::new(now, &mut rng), &EndpointSet::new(ids.map(endpoint)));
}

#[track_caller]
fn costs_ms(estimates: &Estimates, endpoint: EndpointId, now: Nanos, expected: f64) {
    let cost = estimates.cost(endpoint, now) / 1e6;
    assert!((cost - expected).abs() < expected * 1e-4, "{cost} ms, not {expected} ms");
}

#[test]
fn tower_peak_ewma_default_decay() {
    // Default 10 ms, τ = 1 s.
    let e = factory(1, ms(1_000), ms(10)).estimates;
    assert_eq!(e.cost(A, Nanos::ZERO), 10e6);
    costs_ms(&e, A, ms(100), 9.0484); // 10 · e^(−0.1)
    costs_ms(&e, A, ms(200), 8.1873); // 10 · e^(−0.2)
}

#[test]
fn tower_peak_ewma_compound_decay() {
    // Default 20 ms, τ = 1 s; two requests of 200 ms, sent at 100 ms and at 200 ms.
    let e = factory(1, ms(1_000), ms(20)).estimates;
    assert_eq!(e.cost(A, Nanos::ZERO), 20e6);
    e.pending.started(A);
    costs_ms(&e, A, ms(100), 36.193); // 20 · e^(−0.1) · 2: more than 20
    e.pending.started(A);
    costs_ms(&e, A, ms(200), 49.124); // 20 · e^(−0.2) · 3: more than 40
    e.sampled(A, ms(300), ms(200));
    assert_eq!(e.cost(A, ms(300)), 400e6, "200 ms at once, twice, as one is pending");
    e.sampled(A, ms(400), ms(200));
    costs_ms(&e, A, ms(400), 200.0); // 200 · e^(−0.1) + 200 · (1 − e^(−0.1))
    costs_ms(&e, A, ms(1_400), 73.576); // 200 · e^(−1): less than 100
    assert!(e.cost(A, ms(11_400)) < 0.1e6, "200 ms · e^(−11) = 3.3 us");
}

#[test]
fn a_slower_sample_counts_at_once_and_a_faster_one_decays_in() {
    let e = factory(1, ms(10_000), ms(20)).estimates;
    e.sampled(A, ms(1_000), ms(400));
    assert_eq!(e.cost(A, ms(1_000)), 400e6);
    costs_ms(&e, A, ms(6_000), 242.61); // 400 · e^(−0.5)
    e.sampled(A, ms(6_000), ms(10));
    costs_ms(&e, A, ms(6_000), 246.55); // 400 · e^(−0.5) + 10 · (1 − e^(−0.5)) = 242.612 + 3.935
    // At the same moment no time has passed, and a faster sample changes nothing.
    e.sampled(A, ms(6_000), ms(10));
    costs_ms(&e, A, ms(6_000), 246.55);
}

#[test]
fn finagle_penalises_an_endpoint_that_has_not_answered_yet() {
    let e = factory(2, ms(10_000), Nanos::ZERO).estimates;
    e.sampled(B, ms(0), Nanos::from_secs(3_600));
    assert_eq!(e.cost(A, ms(0)), 0.0, "a new one is tried first");
    e.pending.started(A);
    assert_eq!(e.cost(A, ms(0)), PENALTY + 1.0);
    assert!(e.cost(A, ms(0)) > e.cost(B, ms(0)), "and costs more than one that took an hour");
    e.sampled(A, ms(5), ms(5));
    assert_eq!(e.cost(A, ms(5)), 5e6);
}

#[test]
fn the_cheaper_of_two_different_endpoints_is_picked() {
    let mut factory = factory(3, ms(10_000), ms(30));
    let picker = P2cPeakEwmaPicker { ready: (0..3).map(EndpointId).collect(), estimates: factory.estimates.clone() };
    let pick = |draws: [(u32, u32); 2]| picker.pick(&mut PickContext::new(Nanos::ZERO, &mut Script::each(&draws)));
    // Draw 1 of 3, then 1 of the two others: endpoints 1 and 2, equal, so the first stays and has a request pending.
    assert_eq!(pick([(1, 3), (1, 2)]), Pick::Endpoint(B));
    // The same draws: 60 ms against 30 ms.
    assert_eq!(pick([(1, 3), (1, 2)]), Pick::Endpoint(EndpointId(2)));
    // 2 of 3 and 0 of the others: 60 ms against 30 ms of endpoint 0.
    assert_eq!(pick([(2, 3), (0, 2)]), Pick::Endpoint(A));
    // An endpoint that stays keeps what is known of it, one that comes back does not.
    for id in [A, B] {
        factory.estimates.sampled(id, ms(0), ms(500));
    }
    update(&mut factory, ms(1), [1, 2].into_iter());
    update(&mut factory, ms(1), 0..3);
    costs_ms(&factory.estimates, A, ms(1), 30.0);
    costs_ms(&factory.estimates, B, ms(1), 499.95); // 500 · e^(−0.0001)
}

#[test]
fn requests_end_also_when_nothing_is_ready() {
    let factory = factory(0, ms(10_000), ms(30));
    let estimates = factory.estimates.clone();
    let mut policy = ConnectAll::new(factory);
    let mut rng = Script::indices(1, &[0]);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    let pod = Endpoint::new(A, Address::new("10.0.0.0:80"));
    policy.update(&mut cx, &EndpointSet::new([pod]));
    policy.connectivity(&mut cx, A, Connectivity::Ready);
    let ready = policy.picker(&mut cx);
    assert_eq!(ready.pick(&mut PickContext::new(Nanos::ZERO, cx.rng)), Pick::Endpoint(A));
    costs_ms(&estimates, A, Nanos::ZERO, 60.0);
    policy.connectivity(&mut cx, A, Connectivity::TransientFailure);
    let failing = policy.picker(&mut cx);
    for stray in [A, A, EndpointId(9_999)] {
        failing.done(stray, ms(80), &Outcome::new(Code::Unavailable, ms(80)));
    }
    costs_ms(&estimates, A, ms(80), 80.0);
}

#[test]
fn no_peak_is_lost_among_threads() {
    let e = factory(1, ms(10_000), ms(1)).estimates;
    std::thread::scope(|scope| {
        for thread in 1..=4 {
            let e = &e;
            scope.spawn(move || (1..=10_000).for_each(|n| e.sampled(A, Nanos::ZERO, Nanos(n * 1_000 + thread))));
        }
    });
    // No time passes, so the slowest of all 40,000 samples is what stays: 10 ms and 4 ns.
    assert_eq!(e.cost(A, Nanos::ZERO), 10_000_004.0);
}
