use super::*;
use crate::policy::draw::scripted::Script;
use crate::{Address, Code, Connectivity, Endpoint};
use proptest::prelude::*;

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);

const fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

/// A factory over endpoints `0..n` that came at time zero.
fn factory(n: u32, tau: Nanos, default_rtt: Nanos) -> P2cPeakEwma {
    let mut factory = P2cPeakEwma { estimates: Arc::new(Estimates::new(tau, Arc::default())), default_rtt };
    let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
    let newcomers: Vec<EndpointId> = (0..n).map(EndpointId).collect();
    let mut rng = Script::indices(1, &[0]);
    factory.updated(&mut Context::new(Nanos::ZERO, &mut rng), &EndpointSet::new((0..n).map(endpoint)), &newcomers);
    factory
}

/// In nanoseconds.
fn cost(estimates: &Estimates, endpoint: EndpointId, now: Nanos) -> f64 {
    estimates.load(endpoint).cost(now, estimates.per_tau)
}

#[track_caller]
fn costs_ms(estimates: &Estimates, endpoint: EndpointId, now: Nanos, expected: f64) {
    let cost = cost(estimates, endpoint, now) / 1e6;
    assert!((cost - expected).abs() < expected * 1e-4, "{cost} ms, not {expected} ms");
}

#[test]
fn tower_peak_ewma_default_decay() {
    // Default 10 ms, τ = 1 s.
    let e = factory(1, ms(1_000), ms(10)).estimates;
    assert_eq!(cost(&e, A, Nanos::ZERO), 10e6);
    costs_ms(&e, A, ms(100), 9.0484); // 10 · e^(−0.1)
    costs_ms(&e, A, ms(200), 8.1873); // 10 · e^(−0.2)
}

#[test]
fn tower_peak_ewma_compound_decay() {
    // Default 20 ms, τ = 1 s; two requests of 200 ms, sent at 100 ms and at 200 ms.
    let e = factory(1, ms(1_000), ms(20)).estimates;
    assert_eq!(cost(&e, A, Nanos::ZERO), 20e6);
    e.pending.started(A);
    costs_ms(&e, A, ms(100), 36.193); // 20 · e^(−0.1) · 2: more than 20
    e.pending.started(A);
    costs_ms(&e, A, ms(200), 49.124); // 20 · e^(−0.2) · 3: more than 40
    e.sampled(A, ms(300), ms(200));
    assert_eq!(cost(&e, A, ms(300)), 400e6, "200 ms at once, twice, as one is pending");
    e.sampled(A, ms(400), ms(200));
    costs_ms(&e, A, ms(400), 200.0); // 200 · e^(−0.1) + 200 · (1 − e^(−0.1))
    costs_ms(&e, A, ms(1_400), 73.576); // 200 · e^(−1): less than 100
    assert!(cost(&e, A, ms(11_400)) < 0.1e6, "200 ms · e^(−11) = 3.3 us");
}

#[test]
fn a_slower_sample_counts_at_once_and_a_faster_one_decays_in() {
    let e = factory(1, ms(10_000), ms(20)).estimates;
    e.sampled(A, ms(1_000), ms(400));
    assert_eq!(cost(&e, A, ms(1_000)), 400e6);
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
    assert_eq!(cost(&e, A, ms(0)), 0.0, "a new one is tried first");
    e.pending.started(A);
    assert_eq!(cost(&e, A, ms(0)), PENALTY + 1.0);
    assert!(cost(&e, A, ms(0)) > cost(&e, B, ms(0)), "and costs more than one that took an hour");
    e.sampled(A, ms(5), ms(5));
    assert_eq!(cost(&e, A, ms(5)), 5e6);
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
    let mut rng = Script::indices(1, &[0]);
    factory.updated(&mut Context::new(ms(1), &mut rng), &EndpointSet::default(), &[A]);
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
    assert_eq!(cost(&e, A, Nanos::ZERO), 10_000_004.0);
}

#[test]
fn exponentials_are_within_five_in_ten_million() {
    for n in 0..=200_000 {
        let x = f64::from(n) * 5e-6;
        let (exact, here) = (libm::exp(-x), exp_minus(x));
        assert!((here - exact).abs() <= 5e-7 * exact, "e^-{x}: {here}, not {exact}");
    }
    assert_eq!([0.0, 1e3, f64::INFINITY].map(exp_minus), [1.0, 0.0, 0.0]);
    assert_eq!(PerTau(1.0).decay(Nanos::NEVER), 0.0);
}

proptest! {
    /// Nothing is lost by comparing costs at the time of the later sample instead of now.
    #[test]
    fn endpoints_compare_as_their_costs_do(
        [a, b] in [(0..1u64 << 36, 0..1u64 << 36, 0..9u32), (0..1u64 << 36, 0..1u64 << 36, 0..9u32)],
        wait in 0..1u64 << 36,
    ) {
        let e = factory(2, ms(10_000), ms(30)).estimates;
        for (id, (rtt, at, pending)) in [(A, a), (B, b)] {
            e.reset(id, Nanos(at), Nanos(rtt));
            (0..pending).for_each(|_| e.pending.started(id));
        }
        let now = Nanos(a.1.max(b.1) + wait);
        let cost = |(rtt, at, pending): (u64, u64, u32)| {
            let decayed = rtt as f64 * libm::exp(-(now.since(Nanos(at)).0 as f64) / 10e9);
            if rtt == 0 && pending > 0 { PENALTY + f64::from(pending) } else { decayed * f64::from(pending + 1) }
        };
        let (a, b) = (cost(a), cost(b));
        prop_assume!((a - b).abs() > 1e-6 * a.max(b));
        prop_assert_eq!((e.cheaper(A, B), e.cheaper(B, A)), (a < b, b < a));
    }
}
