use super::*;
use crate::{Address, Connectivity, Endpoint};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

const LOW: u64 = 500;
const MID: u64 = 2_250;
const HIGH: u64 = 4_000;

/// The settings of rest.li's `TestDegrader`.
fn test_config() -> DegraderConfig {
    DegraderConfig {
        max_drop_rate: 0.9,
        up_step: 0.2,
        down_step: 0.25,
        min_call_count: 1,
        high_latency: Nanos::from_millis(HIGH),
        low_latency: Nanos::from_millis(LOW),
        high_error_rate: 0.5,
        low_error_rate: 0.1,
        ..DegraderConfig::default()
    }
}

fn interval(calls: u32, latency_ms: u64, errors: u32) -> Interval {
    let error_rate = if calls == 0 { 0.0 } else { f64::from(errors) / f64::from(calls) };
    Interval { calls, error_rate, latency: Nanos::from_millis(latency_ms) }
}

/// The drop rate after each of these intervals.
fn drop_rates(config: &DegraderConfig, from: f64, intervals: &[Interval]) -> Vec<f64> {
    let mut degraded = Degraded { drop_rate: from, recovery: None };
    let rates = intervals.iter().map(|&i| {
        degraded = degraded.after(i, config);
        // Sums of 0.2 are exact to 10^-16 or so.
        (degraded.drop_rate * 1e9).round() / 1e9
    });
    rates.collect()
}

#[test]
fn test_degrader_test_drop_rate() {
    let calls = |latency_ms| interval(1, latency_ms, 0);
    let up = [calls(HIGH), interval(2, HIGH, 2), calls(MID), calls(HIGH), calls(HIGH), calls(HIGH)];
    assert_eq!(drop_rates(&test_config(), 0.0, &up), [0.2, 0.4, 0.4, 0.6, 0.8, 0.9]);
    assert_eq!(drop_rates(&test_config(), 0.9, &[calls(LOW); 4]), [0.65, 0.4, 0.15, 0.0]);
    // testMinCallCount: 4 calls, then round(0.8 · 4) = 3, round(0.6 · 4) = 2 and round(0.85 · 4) = 3.
    let config = DegraderConfig { min_call_count: 4, ..test_config() };
    let few = [(3, HIGH), (4, HIGH), (2, HIGH), (3, HIGH), (1, LOW), (2, LOW), (2, LOW), (3, LOW)];
    let few = few.map(|(calls, latency_ms)| interval(calls, latency_ms, 0));
    assert_eq!(drop_rates(&config, 0.0, &few), [0.0, 0.2, 0.2, 0.4, 0.4, 0.15, 0.15, 0.0]);
}

#[test]
fn test_degrader_test_above_high() {
    let config = DegraderConfig { min_call_count: 10, ..test_config() };
    let by_errors = [interval(9, LOW, 4), interval(9, LOW, 5), interval(10, LOW, 4), interval(10, LOW, 5)];
    assert_eq!(drop_rates(&config, 0.0, &by_errors), [0.0, 0.0, 0.0, 0.2]);
    let by_latency = [(7, MID), (8, MID), (9, MID), (7, HIGH), (8, HIGH)].map(|(n, ms)| interval(n, ms, 0));
    assert_eq!(drop_rates(&config, 0.2, &by_latency), [0.2, 0.2, 0.2, 0.2, 0.4]);
}

#[test]
fn test_degrader_test_below_low() {
    let config =
        DegraderConfig { min_call_count: 100, low_error_rate: 0.2, up_step: 0.9, down_step: 0.1, ..test_config() };
    assert_eq!(drop_rates(&config, 0.0, &[interval(100, LOW, 100)]), [0.9]);
    let by_errors = [interval(9, LOW, 2), interval(9, LOW, 1), interval(10, LOW, 3), interval(10, LOW, 2)];
    assert_eq!(drop_rates(&config, 0.9, &by_errors), [0.9, 0.9, 0.9, 0.8]);
    let by_latency = [(19, MID), (20, MID), (21, MID), (19, LOW), (20, LOW)].map(|(n, ms)| interval(n, ms, 0));
    assert_eq!(drop_rates(&config, 0.8, &by_latency), [0.8, 0.8, 0.8, 0.8, 0.7]);
}

#[test]
fn test_degrader_test_initial_drop_rate() {
    let config = DegraderConfig { initial_drop_rate: 0.99, ..test_config() };
    let initial = Degrader::new(config.clone()).initial();
    let well = [1, 2, 5, 10].map(|calls| interval(calls, LOW, 0));
    assert_eq!(drop_rates(&config, initial.drop_rate, &well), [0.74, 0.49, 0.24, 0.0]);
}

#[test]
fn test_degrader_test_slow_start_threshold() {
    let config = DegraderConfig { slow_start_threshold: 0.2, max_drop_rate: 1.0, ..test_config() };
    let up = [15, 10, 5, 2, 1].map(|calls| interval(calls, HIGH, 0));
    assert_eq!(drop_rates(&config, 0.0, &up), [0.2, 0.4, 0.6, 0.8, 1.0]);
    // 0.01, 0.02, 0.04, 0.08, 0.16 and 0.32 are sent; that is above 0.2, and 0.25 is added to it.
    let well = [1, 1, 2, 4, 4, 4, 4].map(|calls| interval(calls, LOW, 0));
    assert_eq!(drop_rates(&config, 1.0, &well), [0.99, 0.98, 0.96, 0.92, 0.84, 0.68, 0.43]);
}

#[test]
fn degrader_load_balancer_strategy_v3_recovery_ramps_up_without_calls() {
    let config = DegraderConfig { ring_ramp_factor: 2.0, ..DegraderConfig::default() };
    let mut degraded = Degraded { drop_rate: 0.8, recovery: None };
    degraded = degraded.after(interval(2, 5_000, 0), &config);
    assert_eq!((degraded.drop_rate, degraded.transmission()), (1.0, 0.01));
    let mut parts = Vec::new();
    for _ in 0..8 {
        degraded = degraded.after(interval(0, 0, 0), &config);
        parts.push(degraded.transmission());
    }
    assert_eq!(parts, [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]);
    // With calls it shows how it is: badly, and it falls back to the hundredth.
    degraded = degraded.after(interval(10, 5_000, 0), &config);
    assert_eq!(degraded.transmission(), 0.01);
}

#[test]
fn degrader_load_balancer_strategy_v3_fast_recovery() {
    // From the table of `handleClientInRecoveryMap`: slow start from 0.99 on, 0.32 left, steps of 0.2.
    let config = DegraderConfig { ring_ramp_factor: 2.0, slow_start_threshold: 0.2, ..DegraderConfig::default() };
    let mut degraded = Degraded { drop_rate: 0.96, recovery: Some(0.32) };
    let mut seen = Vec::new();
    for _ in 0..5 {
        degraded = degraded.after(interval(10, LOW, 0), &config);
        let percent = |part: f64| (part * 100.0).round();
        seen.push((percent(degraded.drop_rate), percent(degraded.transmission()), degraded.recovery.is_some()));
    }
    assert_eq!(
        seen,
        [(92.0, 32.0, true), (84.0, 32.0, true), (68.0, 32.0, true), (48.0, 52.0, false), (28.0, 72.0, false)]
    );
    // Without a ramp the first interval with enough calls ends the recovery.
    let plain = Degraded { drop_rate: 0.96, recovery: Some(0.32) };
    assert_eq!(plain.after(interval(10, LOW, 0), &DegraderConfig::default()).recovery, None);
}

struct Host {
    policy: ConnectAll<Degrader>,
    rng: Xoshiro256PlusPlus,
    now: Nanos,
}

impl Host {
    fn new(config: DegraderConfig, weights: &[u32]) -> Self {
        let policy = ConnectAll::new(Degrader::new(config));
        let mut host = Self { policy, rng: Xoshiro256PlusPlus::seed_from_u64(1), now: Nanos::ZERO };
        host.update(weights);
        host
    }

    fn update(&mut self, weights: &[u32]) {
        let address = |i| Address::new(&format!("10.0.0.{i}:80"));
        let endpoint = |(i, &weight)| Endpoint::new(EndpointId(i), address(i)).with_weight(weight);
        let cx = &mut Context::new(self.now, &mut self.rng);
        self.policy.update(cx, &EndpointSet::new((0..).zip(weights).map(endpoint)));
        (0..weights.len() as u32).for_each(|i| self.policy.connectivity(cx, EndpointId(i), Connectivity::Ready));
    }

    fn tick(&mut self) -> Option<Nanos> {
        self.policy.tick(&mut Context::new(self.now, &mut self.rng))
    }

    fn picker(&mut self) -> Arc<dyn Picker> {
        self.policy.picker(&mut Context::new(self.now, &mut self.rng))
    }

    /// So many calls to each endpoint end with this; then the interval is over.
    fn interval(&mut self, calls: u32, outcomes: &[Outcome]) {
        let picker = self.picker();
        for (i, outcome) in (0..).zip(outcomes) {
            (0..calls).for_each(|_| picker.done(EndpointId(i), self.now, outcome));
        }
        self.now += Nanos::from_secs(5);
        assert_eq!(self.tick(), Some(self.now + Nanos::from_secs(5)));
    }

    fn shares(&mut self, n: usize) -> Vec<f64> {
        let picker = self.picker();
        let mut counts = vec![0; n];
        for _ in 0..100_000 {
            match picker.pick(&mut PickContext::new(self.now, &mut self.rng)) {
                Pick::Endpoint(id) => counts[id.index()] += 1,
                other => panic!("{other:?}"),
            }
        }
        counts.into_iter().map(|count| f64::from(count) / 100_000.0).collect()
    }
}

fn ended(code: Code, latency_ms: u64) -> Outcome {
    Outcome::new(code, Nanos::from_millis(latency_ms))
}

#[track_caller]
fn near(shares: &[f64], expected: &[f64]) {
    // Five standard deviations of a share of a half in 100,000: 5 · √(1/4 / 100,000) = 0.008.
    assert!(shares.iter().zip(expected).all(|(s, e)| (s - e).abs() < 0.008), "{shares:?}, not {expected:?}");
}

#[test]
fn shares_are_weights_times_what_is_not_dropped() {
    let mut host = Host::new(DegraderConfig::default(), &[1, 3]);
    let before = host.picker();
    host.interval(10, &[ended(Code::Ok, 10), ended(Code::Ok, 1_000)]);
    assert!(Arc::ptr_eq(&before, &host.picker()), "between the thresholds nothing changes, nor at 0");
    near(&host.shares(2), &[0.25, 0.75]);
    host.interval(10, &[ended(Code::Ok, 10), ended(Code::Ok, 3_000)]);
    near(&host.shares(2), &[1.0 / 3.4, 2.4 / 3.4]); // 1 against 3 · 0.8
    host.interval(9, &[ended(Code::Ok, 10), ended(Code::Ok, 3_000)]);
    near(&host.shares(2), &[1.0 / 2.8, 1.8 / 2.8]); // of round(0.8 · 10) = 8 calls nine are enough: 3 · 0.6
}

#[test]
fn all_degraded_alike_get_the_same_and_recover() {
    let config = DegraderConfig { high_error_rate: 0.5, low_error_rate: 0.1, ..DegraderConfig::default() };
    let mut host = Host::new(config, &[1, 1]);
    let failed = ended(Code::Unavailable, 1);
    (0..6).for_each(|_| host.interval(10, &[failed, failed]));
    near(&host.shares(2), &[0.5, 0.5]);
    // One call in 5 s is enough of an endpoint that gets next to nothing.
    host.interval(1, &[ended(Code::Ok, 1), failed]);
    near(&host.shares(2), &[0.2 / 0.21, 0.01 / 0.21]);
    // NOT_FOUND is an answer.
    host.interval(10, &[ended(Code::NotFound, 1), ended(Code::NotFound, 1)]);
    near(&host.shares(2), &[0.4 / 0.6, 0.2 / 0.6]);
}

#[test]
fn an_endpoint_that_comes_back_is_as_good_as_new() {
    let mut host = Host::new(DegraderConfig::default(), &[1, 1]);
    host.interval(10, &[ended(Code::Ok, 10), ended(Code::Ok, 9_000)]);
    let last = host.picker();
    host.update(&[1]);
    // A call that was sent before ends, also such that never was.
    (0..50).for_each(|_| last.done(EndpointId(1), host.now, &ended(Code::Ok, u64::MAX)));
    last.done(EndpointId(9_999), host.now, &ended(Code::Ok, 1));
    host.update(&[1, 1]);
    near(&host.shares(2), &[0.5, 0.5]);
    host.interval(0, &[]);
    near(&host.shares(2), &[0.5, 0.5]);
}

#[test]
fn nobody_is_judged_where_nobody_is() {
    let mut host = Host::new(DegraderConfig::default(), &[1]);
    host.now = Nanos::from_secs(2);
    assert_eq!(host.tick(), Some(Nanos::from_secs(5)));
    host.update(&[]);
    assert_eq!(host.tick(), None);
    host.now = Nanos::from_secs(60);
    host.update(&[1]);
    assert_eq!(host.tick(), Some(Nanos::from_secs(65)), "an interval begins with the endpoints");
}

#[test]
fn rules_for_values() {
    let broken = |json: &str| serde_json::from_str::<DegraderConfig>(json).unwrap().check().unwrap_err().to_string();
    assert_eq!(broken(r#"{"interval": "0s"}"#), "interval: 0s, must be > 0s");
    assert_eq!(broken(r#"{"up_step": 1.5}"#), "up_step: 1.5, must be 0 to 1");
    assert_eq!(broken(r#"{"high_error_rate": -1}"#), "high_error_rate: -1, must be >= 0");
    assert_eq!(broken(r#"{"initial_recovery_level": 0}"#), "initial_recovery_level: 0, must be > 0 and <= 1");
    assert_eq!(broken(r#"{"ring_ramp_factor": 0.5}"#), "ring_ramp_factor: 0.5, must be >= 1");
}
