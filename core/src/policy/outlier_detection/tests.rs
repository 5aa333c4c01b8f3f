use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::*;
use crate::policy::draw::scripted::Script;
use crate::{Address, Endpoint};

/// A policy over endpoints that are all READY, and a host that lives from one interval to the next.
struct Bench {
    policy: Box<dyn Policy>,
    /// The control stream.
    rng: Script,
    now: Nanos,
    /// When the policy wants to be called again.
    due: Option<Nanos>,
    n: u32,
}

fn set(n: u32) -> EndpointSet {
    EndpointSet::new((0..n).map(|i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")))))
}

impl Bench {
    fn new(n: u32, config: OutlierDetectionConfig) -> Self {
        assert_eq!(config.check(), Ok(()));
        let rng = Script::indices(1, &[0]);
        let mut bench = Self { policy: config.build(&Shared::default()), rng, now: Nanos::ZERO, due: None, n };
        bench.control(|p, cx| p.update(cx, &set(n)));
        (0..n).for_each(|i| bench.is(i, Connectivity::Ready));
        bench.at(0);
        bench
    }

    fn control<T>(&mut self, call: impl FnOnce(&mut dyn Policy, &mut Context<'_>) -> T) -> T {
        call(&mut *self.policy, &mut Context::new(self.now, &mut self.rng))
    }

    fn is(&mut self, endpoint: u32, state: Connectivity) {
        self.control(|p, cx| p.connectivity(cx, EndpointId(endpoint), state));
    }

    /// At this second, the timer.
    fn at(&mut self, s: u64) {
        self.now = Nanos::from_secs(s);
        self.due = self.control(|p, cx| p.tick(cx));
    }

    fn picker(&mut self) -> Arc<dyn Picker> {
        self.control(|p, cx| p.picker(cx))
    }

    fn ends(&mut self, endpoint: u32, times: u32, code: Code) {
        let (picker, outcome) = (self.picker(), Outcome::new(code, Nanos::from_millis(1)));
        (0..times).for_each(|_| picker.done(EndpointId(endpoint), self.now, &outcome));
    }

    /// Picks, and does what the pick asks for.
    fn pick(&mut self) -> Pick {
        let picker = self.picker();
        let mut rng = Script::indices(1, &[0]);
        let mut cx = PickContext::new(self.now, &mut rng);
        let pick = picker.pick(&mut cx);
        if cx.asks.exit_idle {
            self.control(|p, cx| p.exit_idle(cx));
        }
        pick
    }

    /// Who gets requests from now on.
    fn serving(&mut self) -> Vec<u32> {
        self.pick();
        let mut seen = BTreeSet::new();
        for _ in 0..2 * self.n {
            if let Pick::Endpoint(id) = self.pick() {
                seen.insert(id.0);
            }
        }
        seen.into_iter().collect()
    }
}

fn success_rate(stdev_factor: u32, minimum_hosts: u32, request_volume: u32) -> OutlierDetectionConfig {
    let rule = SuccessRateEjection { stdev_factor, minimum_hosts, request_volume, ..Default::default() };
    OutlierDetectionConfig { success_rate_ejection: Some(rule), ..Default::default() }
}

fn failure_percentage(threshold: u32, minimum_hosts: u32, request_volume: u32) -> OutlierDetectionConfig {
    let rule = FailurePercentageEjection { threshold, minimum_hosts, request_volume, ..Default::default() };
    OutlierDetectionConfig { failure_percentage_ejection: Some(rule), ..Default::default() }
}

fn consecutive(n: u32) -> OutlierDetectionConfig {
    OutlierDetectionConfig { consecutive_5xx: Some(n), ..Default::default() }
}

#[test]
fn outlier_detection_impl_test_sr_threshold() {
    assert_eq!(success_rate_threshold(&[50.0, 100.0, 100.0, 100.0, 100.0], 1900), (90.0, 52.0));
}

#[test]
fn outlier_detection_impl_test_basic_flow_success_rate_external_origin() {
    let mut bench = Bench::new(5, success_rate(1900, 5, 100));
    (0..5).for_each(|i| bench.ends(i, 200, Code::Ok));
    bench.ends(4, 200, Code::Unavailable);
    assert_eq!(bench.serving(), [0, 1, 2, 3, 4], "judged at the end of the interval only");
    bench.at(10);
    assert_eq!(bench.serving(), [0, 1, 2, 3], "50 % < 52 %");
    bench.at(20);
    assert_eq!(bench.serving(), [0, 1, 2, 3]);
    bench.at(50);
    assert_eq!(bench.serving(), [0, 1, 2, 3, 4]);
    // 25 and 50 requests are not enough.
    (0..5).for_each(|i| bench.ends(i, 25, Code::Ok));
    bench.ends(4, 25, Code::Unavailable);
    bench.at(60);
    assert_eq!(bench.serving(), [0, 1, 2, 3, 4]);
}

#[test]
fn outlier_detection_impl_test_basic_flow_5xx_via_http_codes() {
    let mut bench = Bench::new(2, consecutive(5));
    bench.ends(0, 1, Code::Internal);
    bench.ends(0, 1, Code::Ok);
    bench.ends(0, 4, Code::Internal);
    assert_eq!(bench.serving(), [0, 1]);
    bench.ends(0, 1, Code::Internal);
    assert_eq!(bench.serving(), [1]);
    bench.at(10);
    assert_eq!(bench.serving(), [1]);
    bench.at(31);
    assert_eq!(bench.serving(), [0, 1]);
    bench.ends(0, 4, Code::Internal);
    assert_eq!(bench.serving(), [0, 1]);
    bench.at(40);
    bench.ends(0, 1, Code::Internal);
    assert_eq!(bench.serving(), [1]);
}

/// Ejected by five failures; back after this many seconds, which pass in intervals of 10.
fn ejected_for(bench: &mut Bench, s: u64) {
    bench.ends(0, 5, Code::Internal);
    let now = bench.now.0 / 1_000_000_000;
    for elapsed in (0..s).step_by(10) {
        bench.at(now + elapsed);
        assert_eq!(bench.serving(), [1], "for {elapsed} s");
    }
    bench.at(now + s);
    assert_eq!(bench.serving(), [0, 1], "after {s} s");
}

#[test]
fn outlier_detection_impl_test_eject_time_backoff() {
    let config = OutlierDetectionConfig { base_ejection_time: Nanos::from_secs(10), ..consecutive(5) };
    let mut bench = Bench::new(2, config);
    for s in [10, 20, 30] {
        ejected_for(&mut bench, s);
    }
    // At 60 s. Two intervals without an ejection: 3 becomes 1, so the next is the second again.
    bench.at(70);
    bench.at(80);
    ejected_for(&mut bench, 20);
    (11..=60).for_each(|interval| bench.at(10 * interval));
    ejected_for(&mut bench, 10);
}

#[test]
fn outlier_detection_impl_test_max_eject_time() {
    // 305 s is no multiple of the interval, so that ejections last 310 s; a longest time below the first counts as that.
    for (max, reached) in [(300, 300), (305, 310), (3, 10)] {
        let config = OutlierDetectionConfig {
            base_ejection_time: Nanos::from_secs(10),
            max_ejection_time: Nanos::from_secs(max),
            ..consecutive(5)
        };
        let mut bench = Bench::new(2, config);
        for ejection in 1..=35 {
            ejected_for(&mut bench, (10 * ejection).min(reached));
        }
    }
}

#[test]
fn outlierdetection_test_eject_uneject_success_rate() {
    // Name, enforcement, largest percentage, failing endpoints of 3, ejected ones.
    for (name, enforcement_percentage, max_ejection_percent, failures, ejections) in [
        ("three_upstreams_one_failure", 100, 10, 1, 1),
        ("three_upstreams_no_failure", 100, 10, 0, 0),
        ("three_upstreams_one_failure_no_ejection_enforcement_perc", 0, 10, 1, 0),
        ("three_upstreams_one_failure_no_ejection_max_ejection_perc", 100, 0, 1, 0),
    ] {
        let mut config = OutlierDetectionConfig { max_ejection_percent, ..failure_percentage(50, 3, 3) };
        config.failure_percentage_ejection.as_mut().unwrap().enforcement_percentage = enforcement_percentage;
        let mut bench = Bench::new(3, config);
        (0..3).for_each(|i| bench.ends(i, 5, Code::Ok));
        bench.at(10);
        assert_eq!(bench.serving(), [0, 1, 2], "{name}");
        (0..3 - failures).for_each(|i| bench.ends(i, 5, Code::Ok));
        (3 - failures..3).for_each(|i| bench.ends(i, 5, Code::Unknown));
        bench.at(20);
        assert_eq!(bench.serving(), (0..3 - ejections).collect::<Vec<_>>(), "{name}");
        // What happens meanwhile is told when it is over.
        (3 - ejections..3).for_each(|i| bench.is(i, Connectivity::Connecting));
        assert_eq!(bench.serving(), (0..3 - ejections).collect::<Vec<_>>(), "{name}");
        bench.at(1_000);
        (3 - ejections..3).for_each(|i| bench.is(i, Connectivity::Ready));
        assert_eq!(bench.serving(), [0, 1, 2], "{name}");
    }
}

#[test]
fn outlierdetection_test_eject_failure_rate() {
    let mut bench = Bench::new(3, success_rate(500, 3, 3));
    (0..3).for_each(|i| bench.ends(i, 5, Code::Ok));
    bench.at(10);
    assert_eq!(bench.serving(), [0, 1, 2]);
    // Mean 66.7 %, σ √((2 · 33.3² + 66.7²)/3) = 47.1 %, and half of that below the mean: 43.1 %.
    (0..2).for_each(|i| bench.ends(i, 5, Code::Ok));
    bench.ends(2, 5, Code::Unknown);
    bench.at(20);
    assert_eq!(bench.serving(), [0, 1]);
}

#[test]
fn outlierdetection_test_duration_of_interval() {
    let config = OutlierDetectionConfig { interval: Nanos::from_secs(8), ..success_rate(1900, 5, 100) };
    let mut bench = Bench::new(3, config);
    assert_eq!(bench.due, Some(Nanos::from_secs(8)));
    bench.at(5);
    assert_eq!(bench.due, Some(Nanos::from_secs(8)), "news in between does not put it off");
    bench.at(9);
    assert_eq!(bench.due, Some(Nanos::from_secs(17)), "8 s after it was served");
    let mut off = Bench::new(3, OutlierDetectionConfig::default());
    assert_eq!(off.due, None, "without a rule there is no timer");
    off.ends(0, 1_000, Code::Internal);
    off.at(100);
    assert_eq!(off.serving(), [0, 1, 2]);
}

#[test]
fn as_many_as_the_threshold_are_too_many_or_not() {
    for (comparison, serving) in [(Comparison::GreaterOrEqual, vec![0]), (Comparison::Greater, vec![0, 1])] {
        let mut config = failure_percentage(85, 1, 50);
        config.failure_percentage_ejection.as_mut().unwrap().comparison = comparison;
        let mut bench = Bench::new(2, config);
        bench.ends(1, 15, Code::Ok);
        bench.ends(1, 85, Code::Internal);
        bench.at(10);
        assert_eq!(bench.serving(), serving, "{comparison:?}");
    }
}

#[test]
fn what_is_a_failure_is_a_setting() {
    for (failures, code, serving) in [
        (Failures::NotOk, Code::NotFound, vec![0]),
        (Failures::Http5xx, Code::NotFound, vec![0, 1]),
        (Failures::Http5xx, Code::Unimplemented, vec![0]),
    ] {
        let mut bench = Bench::new(2, OutlierDetectionConfig { failures, ..consecutive(3) });
        bench.ends(1, 3, code);
        assert_eq!(bench.serving(), serving, "{failures:?} {code}");
    }
}

/// How many of n are ejected when all but the first fail.
fn ejected_of(n: u32, config: OutlierDetectionConfig) -> usize {
    let mut bench = Bench::new(n, OutlierDetectionConfig { consecutive_5xx: Some(1), ..config });
    (1..n).for_each(|i| bench.ends(i, 1, Code::Internal));
    n as usize - bench.serving().len()
}

#[test]
fn the_limit_is_of_those_before_or_of_those_after() {
    use EjectionLimit::{After, Before};
    let config = |max_ejection_percent, ejection_limit, always_eject_one_host| OutlierDetectionConfig {
        max_ejection_percent,
        ejection_limit,
        always_eject_one_host,
        ..Default::default()
    };
    // 10 % of 5 are half a one: 0 % are ejected before the first, 20 % after it.
    assert_eq!(ejected_of(5, config(10, Before, false)), 1);
    assert_eq!(ejected_of(5, config(10, After, false)), 0);
    assert_eq!(ejected_of(5, config(10, After, true)), 1);
    // 25 % of 10: before the third they are 20 %, after it 30 %.
    assert_eq!(ejected_of(10, config(25, Before, false)), 3);
    assert_eq!(ejected_of(10, config(25, After, false)), 2);
    assert_eq!(ejected_of(10, config(25, After, true)), 2);
    assert_eq!(ejected_of(10, config(0, Before, false)), 0);
    assert_eq!(ejected_of(10, config(0, Before, true)), 1);
    assert_eq!(ejected_of(10, config(100, After, false)), 9);
}

#[test]
fn an_endpoint_that_leaves_takes_its_ejection_along() {
    let mut bench = Bench::new(4, consecutive(1));
    bench.ends(3, 1, Code::Internal);
    assert_eq!(bench.serving(), [0, 1, 2]);
    // With 25 % ejected no other may be; when that one has left, one may.
    bench.ends(2, 1, Code::Internal);
    assert_eq!(bench.serving(), [0, 1, 2]);
    bench.control(|p, cx| p.update(cx, &set(3)));
    bench.ends(2, 1, Code::Internal);
    assert_eq!(bench.serving(), [0, 1]);
    // It is new when it comes back, though it left with failures.
    bench.control(|p, cx| p.update(cx, &set(4)));
    bench.is(3, Connectivity::Ready);
    assert_eq!(bench.serving(), [0, 1, 3]);
}

#[test]
fn ejected_endpoints_are_no_part_of_the_mean() {
    let mut bench = Bench::new(6, OutlierDetectionConfig { max_ejection_percent: 50, ..success_rate(1900, 5, 10) });
    (0..5).for_each(|i| bench.ends(i, 100, Code::Ok));
    bench.ends(5, 100, Code::Internal);
    bench.at(10);
    assert_eq!(bench.serving(), [0, 1, 2, 3, 4]);
    // What was still under way to 5 fails. Of all six the mean were 76.7 % and the threshold 76.7 − 1.9 · 37.3 = 5.9 %;
    // of five, 92 % and 92 − 1.9 · 16 = 61.6 %: 4 is out with 60 %.
    (0..4).for_each(|i| bench.ends(i, 100, Code::Ok));
    bench.ends(4, 60, Code::Ok);
    bench.ends(4, 40, Code::Internal);
    bench.ends(5, 100, Code::Internal);
    bench.at(20);
    assert_eq!(bench.serving(), [0, 1, 2, 3]);
}

#[test]
fn odds_are_drawn_from_the_control_stream() {
    // 30 of 100 is no less than 30, 29 is.
    let mut config = OutlierDetectionConfig { max_ejection_percent: 100, ..failure_percentage(50, 1, 1) };
    config.failure_percentage_ejection.as_mut().unwrap().enforcement_percentage = 30;
    let mut bench = Bench::new(3, config);
    bench.ends(1, 1, Code::Internal);
    bench.ends(2, 1, Code::Internal);
    bench.rng = Script::each(&[(30, 100), (29, 100)]);
    bench.at(10);
    assert_eq!(bench.serving(), [0, 1]);
}

#[test]
fn the_next_pick_asks_for_the_ejection_until_it_is_done() {
    let mut bench = Bench::new(3, consecutive(2));
    let picker = bench.picker();
    let asks = |picker: &dyn Picker| {
        let mut rng = Script::indices(1, &[0]);
        let mut cx = PickContext::new(Nanos::ZERO, &mut rng);
        picker.pick(&mut cx);
        cx.asks.exit_idle
    };
    bench.ends(0, 1, Code::Internal);
    assert!(!asks(&*picker), "nothing is noted");
    bench.ends(0, 1, Code::Internal);
    assert!(asks(&*picker) && asks(&*picker), "a host that lost it is asked again");
    bench.control(|p, cx| p.exit_idle(cx));
    let without = bench.picker();
    assert!(!Arc::ptr_eq(&picker, &without));
    assert!(!asks(&*picker) && !asks(&*without));
    assert_eq!(bench.serving(), [1, 2]);
    // A host that only calls at the time that it was told finds it done as well.
    bench.at(31);
    bench.ends(1, 2, Code::Internal);
    bench.at(32);
    assert!(!asks(&*bench.picker()));
    assert_eq!(bench.serving(), [0, 2]);
}

#[test]
fn no_run_of_failures_is_lost_among_threads() {
    let mut bench = Bench::new(2, OutlierDetectionConfig { max_ejection_percent: 100, ..consecutive(1_000) });
    let picker = bench.picker();
    let failed = Outcome::new(Code::Internal, Nanos::ZERO);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..250).for_each(|_| picker.done(EndpointId(1), Nanos::ZERO, &failed)));
        }
    });
    assert_eq!(bench.serving(), [0]);
}

#[test]
fn settings_are_read_and_checked() {
    let parse = |text: &str| toml::from_str::<OutlierDetectionConfig>(text).unwrap();
    let config =
        parse("success_rate_ejection = {}\nconsecutive_5xx = 5\nfailures = 'http_5xx'\nejection_limit = 'after'");
    assert_eq!(config.success_rate_ejection, Some(SuccessRateEjection::default()));
    assert_eq!((config.failure_percentage_ejection, config.consecutive_5xx), (None, Some(5)));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<OutlierDetectionConfig>(&json).unwrap(), config);
    for (text, rule) in [
        ("interval = '0s'", "interval: 0s, must be > 0s"),
        ("max_ejection_percent = 101", "max_ejection_percent: 101, must be <= 100"),
        ("consecutive_5xx = 0", "consecutive_5xx: 0, must be >= 1"),
        (
            "success_rate_ejection = { enforcement_percentage = 101 }",
            "success_rate_ejection.enforcement_percentage: 101, must be <= 100",
        ),
        (
            "failure_percentage_ejection = { threshold = 101 }",
            "failure_percentage_ejection.threshold: 101, must be <= 100",
        ),
    ] {
        assert_eq!(parse(text).check().unwrap_err().to_string(), rule);
    }
}

#[test]
fn absurd_settings_do_no_harm() {
    let config = OutlierDetectionConfig {
        interval: Nanos(1),
        base_ejection_time: Nanos::NEVER,
        max_ejection_time: Nanos::NEVER,
        max_ejection_percent: u32::MAX,
        success_rate_ejection: Some(SuccessRateEjection {
            stdev_factor: u32::MAX,
            enforcement_percentage: u32::MAX,
            minimum_hosts: 0,
            request_volume: 0,
        }),
        failure_percentage_ejection: Some(FailurePercentageEjection {
            threshold: 0,
            minimum_hosts: 0,
            request_volume: 0,
            ..Default::default()
        }),
        ..consecutive(u32::MAX)
    };
    let mut policy = config.build(&Shared::default());
    let mut rng = Script::indices(1, &[0]);
    for now in [Nanos::ZERO, Nanos(1), Nanos(u64::MAX - 1), Nanos::NEVER] {
        let mut cx = Context::new(now, &mut rng);
        policy.update(&mut cx, &set(3));
        policy.picker(&mut cx).done(EndpointId(1), now, &Outcome::new(Code::Internal, Nanos::ZERO));
        assert!(policy.tick(&mut cx).is_none_or(|due| due > now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever is ejected gets nothing, and no more are than may be, whatever happens.
    #[test]
    fn the_limit_holds(
        n in 1u32..12,
        percent in 0u32..=100,
        after: bool,
        one: bool,
        ends in proptest::collection::vec((0u32..12, 1u32..8, any::<bool>(), 0u64..15), 1..80),
        seed: u64,
    ) {
        let config = OutlierDetectionConfig {
            max_ejection_percent: percent,
            ejection_limit: if after { EjectionLimit::After } else { EjectionLimit::Before },
            always_eject_one_host: one,
            success_rate_ejection: Some(SuccessRateEjection { minimum_hosts: 2, request_volume: 2, ..Default::default() }),
            failure_percentage_ejection: Some(FailurePercentageEjection {
                minimum_hosts: 1,
                request_volume: 2,
                ..Default::default()
            }),
            ..consecutive(4)
        };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let child = config.child_policy.build_with(&Shared::default());
        let calls = Calls { in_a_row: 4, ..Calls::default() };
        let mut policy =
            OutlierDetection { config: config.clone(), child: Masked::new(child), calls: Arc::new(calls), began: None, published: None };
        let mut now = Nanos::ZERO;
        policy.update(&mut Context::new(now, &mut rng), &set(n));
        (0..n).for_each(|i| policy.connectivity(&mut Context::new(now, &mut rng), EndpointId(i), Connectivity::Ready));
        for (endpoint, times, ok, wait) in ends {
            now += Nanos::from_secs(wait);
            let mut cx = Context::new(now, &mut rng);
            let picker = policy.picker(&mut cx);
            let outcome = Outcome::new(if ok { Code::Ok } else { Code::Internal }, Nanos::ZERO);
            (0..times).for_each(|_| picker.done(EndpointId(endpoint % n), now, &outcome));
            policy.tick(&mut cx);
            let ejected = policy.child.held();
            // The last of them was allowed.
            prop_assert!(ejected == 0 || config.may_eject(ejected - 1, n as usize), "{ejected} of {n}");
            let picker = policy.picker(&mut cx);
            for _ in 0..2 * n {
                if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(now, &mut rng)) {
                    prop_assert!(!policy.child.is_held(id), "{:?} is ejected", id);
                } else {
                    prop_assert_eq!(ejected, n as usize);
                }
            }
        }
    }
}
