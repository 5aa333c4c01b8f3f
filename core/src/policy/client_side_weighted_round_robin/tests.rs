use super::*;
use crate::{Address, Code, Connectivity, Endpoint};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

type Config = ClientSideWeightedRoundRobinConfig;

const fn secs(s: u64) -> Nanos {
    Nanos::from_secs(s)
}

/// grpc-go's `perCallConfig`, with an update period that this policy has.
fn per_call() -> Config {
    Config {
        blackout_period: Nanos::ZERO,
        weight_expiration_period: secs(60),
        weight_update_period: secs(1),
        error_utilization_penalty: 0.0,
        ..Config::default()
    }
}

/// grpc-go's `oobConfig`.
fn oob() -> Config {
    Config { enable_oob_load_report: true, oob_reporting_period: Nanos::from_millis(5), ..per_call() }
}

fn load(qps: f64, application_utilization: f64) -> LoadReport {
    LoadReport { rps: qps, application_utilization, ..Default::default() }
}

/// A policy and its host.
struct Client {
    policy: Box<dyn Policy>,
    rng: Xoshiro256PlusPlus,
    now: Nanos,
}

impl Client {
    /// Over endpoints `0..n`, all READY at time zero.
    fn new(config: &Config, n: u32) -> Self {
        let (policy, rng) = (config.build(&Shared::default()), Xoshiro256PlusPlus::seed_from_u64(1));
        let mut client = Self { policy, rng, now: Nanos::ZERO };
        client.addresses(&(0..n).collect::<Vec<_>>());
        client
    }

    fn control<T>(&mut self, call: impl FnOnce(&mut dyn Policy, &mut Context<'_>) -> T) -> T {
        call(&mut *self.policy, &mut Context::new(self.now, &mut self.rng))
    }

    /// The name resolves to these, and all connect.
    fn addresses(&mut self, ids: &[u32]) {
        let endpoint = |&i: &u32| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
        let endpoints = EndpointSet::new(ids.iter().map(endpoint));
        self.control(|p, cx| p.update(cx, &endpoints));
        ids.iter().for_each(|&i| self.connectivity(i, Connectivity::Ready));
    }

    fn connectivity(&mut self, endpoint: u32, state: Connectivity) {
        self.control(|p, cx| p.connectivity(cx, EndpointId(endpoint), state));
    }

    fn picker(&mut self) -> Arc<dyn Picker> {
        self.control(|p, cx| p.picker(cx))
    }

    /// The end of a request, with a report.
    fn done(&mut self, endpoint: u32, load: LoadReport) {
        let outcome = Outcome::new(Code::Ok, Nanos::from_millis(5)).with_load(load);
        self.picker().done(EndpointId(endpoint), self.now, &outcome);
    }

    fn oob(&mut self, endpoint: u32, load: LoadReport) {
        self.control(|p, cx| p.load_report(cx, EndpointId(endpoint), &load));
    }

    /// Time moves to `now`, and the timer is served if it is due by then.
    fn at(&mut self, now: Nanos) -> Option<Nanos> {
        self.now = now;
        self.control(|p, cx| p.tick(cx))
    }

    /// Time for the weights to be looked at.
    fn update_weights(&mut self) {
        self.at(self.now + secs(1));
    }

    /// 600 requests go to the endpoints in proportion to `weights`, give or take two each (as in grpc-go's `checkWeights`).
    #[track_caller]
    fn check(&mut self, weights: &[u32]) {
        let picker = self.picker();
        let mut counts = vec![0; weights.len()];
        for _ in 0..600 {
            match picker.pick(&mut PickContext::new(self.now, &mut self.rng)) {
                Pick::Endpoint(id) => counts[id.index()] += 1,
                other => panic!("{other:?}"),
            }
        }
        let share = |weight: &u32| 600 * weight / weights.iter().sum::<u32>();
        let off = counts.iter().zip(weights).map(|(count, weight)| share(weight).abs_diff(*count)).max();
        assert!(off <= Some(2), "{counts:?}, not as {weights:?}");
    }
}

#[test]
fn balancer_test_one_address() {
    let mut client = Client::new(&per_call(), 1);
    let picker = client.picker();
    assert_eq!(client.at(secs(1)), None, "one endpoint gets everything: nothing is ever due");
    for qps in 0..100 {
        client.done(0, load(f64::from(qps), 0.5));
        client.update_weights();
        assert!(Arc::ptr_eq(&picker, &client.picker()));
    }
    client.check(&[1]);
}

#[test]
fn balancer_test_two_addresses_reporting_disabled() {
    let mut client = Client::new(&per_call(), 2);
    let picker = client.picker();
    for second in 1..400 {
        assert_eq!(client.at(secs(second)), Some(secs(second + 1)));
        assert!(Arc::ptr_eq(&picker, &client.picker()), "nothing reports, nothing changes");
    }
    client.check(&[1, 1]);
}

#[test]
fn balancer_test_two_addresses_reporting_enabled_per_call() {
    let mut client = Client::new(&per_call(), 2);
    // 10/1.0 = 10 and 10/0.1 = 100.
    client.done(0, load(10.0, 1.0));
    client.done(1, load(10.0, 0.1));
    client.check(&[1, 1]);
    client.update_weights();
    client.check(&[1, 10]);
    // The same reports again change no weight.
    let picker = client.picker();
    client.done(0, load(10.0, 1.0));
    client.done(1, load(20.0, 0.2));
    client.update_weights();
    assert!(Arc::ptr_eq(&picker, &client.picker()));
}

#[test]
fn balancer_test_two_addresses_reporting_enabled_oob() {
    let application = |utilization| load(10.0, utilization);
    let cpu = |cpu_utilization| LoadReport { cpu_utilization, ..load(10.0, 0.0) };
    let both = |utilization| LoadReport { cpu_utilization: 2.0, ..load(10.0, utilization) };
    for report in [&application as &dyn Fn(f64) -> LoadReport, &cpu, &both] {
        let mut client = Client::new(&oob(), 2);
        client.oob(0, report(1.0));
        client.oob(1, report(0.1));
        client.update_weights();
        client.check(&[1, 10]);
    }
}

#[test]
fn balancer_test_two_addresses_update_loads() {
    let mut client = Client::new(&oob(), 2);
    client.oob(0, load(10.0, 1.0));
    client.oob(1, load(10.0, 0.1));
    client.update_weights();
    client.check(&[1, 10]);
    client.oob(0, load(10.0, 0.1));
    client.oob(1, load(10.0, 1.0));
    client.update_weights();
    client.check(&[10, 1]);
}

#[test]
fn balancer_test_two_addresses_oob_then_per_call() {
    // Both kinds come, and say the opposite: each configuration hears its own.
    for (config, weights, period) in [(oob(), [1, 10], Some(Nanos::from_millis(5))), (per_call(), [10, 1], None)] {
        let mut client = Client::new(&config, 2);
        client.oob(0, load(10.0, 1.0));
        client.oob(1, load(10.0, 0.1));
        client.done(0, load(10.0, 0.1));
        client.done(1, load(10.0, 1.0));
        client.update_weights();
        client.check(&weights);
        assert_eq!(client.policy.oob_reporting_period(), period);
        assert_eq!(config.needs().load, period.is_none());
    }
}

#[test]
fn balancer_test_two_addresses_error_penalty() {
    // 10/1.0 = 10 and 10/0.1 = 100; with a penalty of 0.9, 10/(0.1 + 10/10 · 0.9) = 10.
    for (error_utilization_penalty, weights) in [(0.0, [1, 10]), (0.9, [1, 1])] {
        let mut client = Client::new(&Config { error_utilization_penalty, ..oob() }, 2);
        client.oob(0, load(10.0, 1.0));
        client.oob(1, LoadReport { eps: 10.0, ..load(10.0, 0.1) });
        client.update_weights();
        client.check(&weights);
    }
}

#[test]
fn balancer_test_two_addresses_blackout_period() {
    for blackout_period in [secs(1), Config::default().blackout_period] {
        for (now, weights) in [(Nanos(blackout_period.0 - 1), [1, 1]), (blackout_period, [1, 10])] {
            let weight_update_period = Nanos::from_millis(100);
            let mut client = Client::new(&Config { blackout_period, weight_update_period, ..oob() }, 2);
            client.picker();
            client.oob(0, load(10.0, 1.0));
            client.oob(1, load(10.0, 0.1));
            client.at(now);
            client.check(&weights);
        }
    }
}

#[test]
fn balancer_test_two_addresses_weight_expiration() {
    let mut client = Client::new(&oob(), 2);
    client.oob(0, load(10.0, 1.0));
    client.oob(1, load(10.0, 0.1));
    for (now, weights) in [(secs(1), [1, 10]), (secs(59), [1, 10]), (secs(60), [1, 1]), (secs(61), [1, 1])] {
        client.at(now);
        client.check(&weights);
    }
}

#[test]
fn balancer_test_addresses_changing() {
    let mut client = Client::new(&oob(), 3);
    let report = |client: &mut Client| {
        for (i, (qps, utilization)) in (0..).zip([(10.0, 1.0), (10.0, 0.1), (20.0, 1.0), (20.0, 0.1)]) {
            client.oob(i, load(qps, utilization));
        }
        client.update_weights();
    };
    report(&mut client);
    client.check(&[1, 10, 2]);
    client.addresses(&[0, 1, 2, 3]);
    report(&mut client);
    client.check(&[1, 10, 2, 20]);
    client.connectivity(2, Connectivity::TransientFailure);
    report(&mut client);
    client.check(&[1, 10, 0, 20]);
    client.addresses(&[0, 3]);
    report(&mut client);
    client.check(&[1, 0, 0, 20]);
    client.addresses(&[1]);
    report(&mut client);
    client.check(&[0, 10]);
    client.addresses(&[1, 3]);
    report(&mut client);
    client.check(&[0, 10, 0, 20]);
}

#[test]
fn weighted_round_robin_test_basic() {
    let mut client = Client::new(&per_call(), 3);
    client.done(0, load(100.0, 0.9));
    client.done(1, load(100.0, 0.3));
    client.update_weights();
    // The third has not reported: the mean of 1 and 3.
    client.check(&[1, 3, 2]);
    client.done(2, load(100.0, 0.3));
    client.update_weights();
    client.check(&[1, 3, 3]);
}

#[test]
fn weighted_round_robin_test_eps() {
    let mut client = Client::new(&Config { error_utilization_penalty: 1.0, ..per_call() }, 3);
    // 1/(0.1 + 0.5) : 1/(0.1 + 0.2) : 1/(0.1 + 0.1) = 1 : 2 : 3.
    for (i, eps) in (0..).zip([50.0, 20.0, 10.0]) {
        client.done(i, LoadReport { eps, ..load(100.0, 0.1) });
    }
    client.update_weights();
    client.check(&[1, 2, 3]);
}

#[test]
fn weighted_round_robin_test_weight_update_period_lower_bound() {
    for (period, due) in [(2_000, 2_000), (10, 100), (0, 100)] {
        let weight_update_period = Nanos::from_millis(period);
        let mut client = Client::new(&Config { weight_update_period, ..per_call() }, 2);
        client.picker();
        assert_eq!(client.at(Nanos::ZERO), Some(Nanos::from_millis(due)));
    }
}

/// The configuration of the C-core tests: a blackout of a second, expiration after two.
fn two_seconds() -> Config {
    let weight_update_period = Nanos::from_millis(100);
    Config { blackout_period: secs(1), weight_expiration_period: secs(2), weight_update_period, ..per_call() }
}

/// Three endpoints that have reported for a second, 1 : 3 : 3.
fn reporting_for_a_second() -> Client {
    let mut client = Client::new(&two_seconds(), 3);
    for now in [0, 1] {
        client.now = secs(now);
        (0..).zip([0.9, 0.3, 0.3]).for_each(|(i, utilization)| client.done(i, load(100.0, utilization)));
    }
    client.at(secs(1));
    client.check(&[1, 3, 3]);
    client
}

#[test]
fn weighted_round_robin_test_blackout_period_after_weight_expiration() {
    let mut client = reporting_for_a_second();
    client.at(secs(3));
    client.check(&[1, 1, 1]);
    // They report again, and are in their blackout again.
    (0..).zip([0.3, 0.3, 0.9]).for_each(|(i, utilization)| client.done(i, load(100.0, utilization)));
    for (now, weights) in [(3_100, [1, 1, 1]), (3_900, [1, 1, 1]), (4_000, [3, 3, 1])] {
        client.at(Nanos::from_millis(now));
        client.check(&weights);
    }
}

#[test]
fn weighted_round_robin_test_blackout_period_after_disconnect() {
    let mut client = reporting_for_a_second();
    for state in [Connectivity::Idle, Connectivity::Connecting, Connectivity::Ready] {
        client.connectivity(2, state);
    }
    // It reports, but not for a second: the mean.
    client.done(2, load(100.0, 0.3));
    client.check(&[1, 3, 2]);
    client.at(secs(2));
    client.check(&[1, 3, 3]);
}

#[test]
fn weighted_round_robin_test_blackout_period_does_not_get_reset_after_update() {
    let mut client = reporting_for_a_second();
    client.addresses(&[0, 1, 2]);
    client.check(&[1, 3, 3]);
}

#[test]
fn client_side_weighted_round_robin_lb_test_update_weights_default_is_odd_median_weight() {
    let reported = [Some(5.0), Some(42.0), Some(5000.0), None, None];
    assert_eq!(completed(&reported, MissingWeight::Median), [5.0, 42.0, 5000.0, 42.0, 42.0]);
    // gRPC's way: (6 + 42 + 5001)/3.
    let mean = completed(&[Some(6.0), None, Some(42.0), Some(5001.0)], MissingWeight::Mean);
    assert_eq!(mean, [6.0, 1683.0, 42.0, 5001.0]);
}

#[test]
fn client_side_weighted_round_robin_lb_test_update_weights_default_is_even_median_weight() {
    // Envoy's weights are whole numbers: there it is 23.
    let reported = [Some(5.0), Some(42.0), None, None, None];
    assert_eq!(completed(&reported, MissingWeight::Median), [5.0, 42.0, 23.5, 23.5, 23.5]);
    let four = [Some(9.0), Some(1.0), Some(2.0), Some(4.0), None];
    assert_eq!(completed(&four, MissingWeight::Median)[4], 3.0);
}

#[test]
fn client_side_weighted_round_robin_lb_test_update_weights_one_host_has_client_side_weight() {
    for missing in [MissingWeight::Mean, MissingWeight::Median] {
        let weights = completed(&[Some(42.0), None, None], missing);
        assert_eq!(weights, [1.0; 3], "all the same, in whatever unit");
    }
}

#[test]
fn client_side_weighted_round_robin_lb_test_calculate_weight_from_orca_report() {
    assert_eq!(weight_of(&load(0.0, 0.5), 0.0), None, "no requests");
    assert_eq!(weight_of(&load(1000.0, 0.0), 0.0), None, "no utilization");
    assert_eq!(weight_of(&load(1000.0, 0.5), 0.0), Some(2000.0));
    let with_errors = LoadReport { eps: 100.0, ..load(1000.0, 0.5) };
    assert_eq!(weight_of(&with_errors, 0.0), Some(2000.0));
    // 1000/(0.5 + 0.1 · 2) = 1428.57.
    assert!(weight_of(&with_errors, 2.0).is_some_and(|w| (w - 1428.57).abs() < 0.01));
}

#[test]
fn nonsense_in_a_report_is_no_weight() {
    const ODD: [f64; 6] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 5e-324, f64::MAX];
    for odd in ODD {
        for other in ODD.into_iter().chain([1.0, 0.0]) {
            for report in [
                load(odd, other),
                LoadReport { eps: odd, ..load(other, 0.5) },
                LoadReport { eps: odd, ..load(100.0, other) },
                LoadReport { cpu_utilization: other, ..load(100.0, odd) },
            ] {
                for penalty in [0.0, 1.0, f64::INFINITY] {
                    let weight = weight_of(&report, penalty);
                    assert!(weight.is_none_or(|w| w > 0.0 && w.is_finite()), "{report:?}: {weight:?}");
                }
            }
        }
    }
    assert_eq!(weight_of(&LoadReport { eps: -50.0, ..load(100.0, 0.5) }, 1.0), Some(200.0), "less than no errors");
}

#[test]
fn reports_count_that_come_when_nothing_is_ready() {
    let mut client = Client::new(&per_call(), 2);
    for i in [0, 1] {
        client.connectivity(i, Connectivity::Idle);
    }
    assert_eq!(client.at(secs(1)), None, "nothing is ready, nothing is due");
    client.done(0, load(10.0, 1.0));
    client.done(1, load(10.0, 0.1));
    client.done(9_999, load(10.0, 0.1));
    for i in [0, 1] {
        client.connectivity(i, Connectivity::Ready);
    }
    client.check(&[1, 10]);
}

#[test]
fn the_timer_may_be_due_before_there_is_a_picker_over_other_endpoints() {
    let mut client = Client::new(&per_call(), 3);
    // Wherever the round stands.
    for _ in 0..3 {
        client.check(&[1, 1, 1]);
        client.picker().pick(&mut PickContext::new(client.now, &mut client.rng));
        client.connectivity(2, Connectivity::Idle);
        client.update_weights();
        client.check(&[1, 1]);
        client.connectivity(2, Connectivity::Ready);
        client.update_weights();
    }
}

#[test]
fn a_weight_is_forgotten_with_its_endpoint() {
    let mut client = Client::new(&per_call(), 3);
    (0..).zip([1.0, 0.1, 0.5]).for_each(|(i, utilization)| client.done(i, load(10.0, utilization)));
    client.update_weights();
    client.check(&[1, 10, 2]);
    client.addresses(&[0, 1]);
    client.addresses(&[0, 1, 2]);
    // The mean of 1 and 10 is 5.5.
    client.check(&[2, 20, 11]);
}

#[test]
fn a_new_schedule_goes_on_where_the_old_one_was() {
    let mut client = Client::new(&per_call(), 10);
    let mut counts = [0; 10];
    for request in 0..100 {
        // All report the same, then not quite the same: the schedule changes before every request.
        let picker = client.picker();
        if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(client.now, &mut client.rng)) {
            counts[id.index()] += 1;
        }
        (0..10).for_each(|i| client.done(i, load(100.0, 0.5 + f64::from((i + request) % 10) / 1e4)));
        client.update_weights();
        assert!(request == 0 || !Arc::ptr_eq(&picker, &client.picker()));
    }
    assert!(counts.iter().all(|count| (9..=11).contains(count)), "{counts:?}");
}
