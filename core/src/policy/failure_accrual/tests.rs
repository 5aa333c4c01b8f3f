use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::*;
use crate::policy::draw::scripted::Script;
use crate::policy::least_request::LeastRequestConfig;
use crate::{Address, Code, Endpoint};

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);

const fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

/// A policy over endpoints that are all READY, and a host.
struct Bench {
    policy: Box<dyn Policy>,
    shared: Shared,
    /// The control stream.
    rng: Script,
    now: Nanos,
    due: Option<Nanos>,
    n: u32,
}

fn set(n: u32) -> EndpointSet {
    EndpointSet::new((0..n).map(|i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")))))
}

impl Bench {
    fn new(n: u32, config: FailureAccrualConfig) -> Self {
        assert_eq!(config.check(), Ok(()));
        let shared = Shared::default();
        let (policy, rng) = (config.build(&shared), Script::indices(1, &[0]));
        let mut bench = Self { policy, shared, rng, now: Nanos::ZERO, due: None, n };
        bench.control(|p, cx| p.update(cx, &set(n)));
        (0..n).for_each(|i| bench.is(i, Connectivity::Ready));
        bench
    }

    fn control<T>(&mut self, call: impl FnOnce(&mut dyn Policy, &mut Context<'_>) -> T) -> T {
        let result = call(&mut *self.policy, &mut Context::new(self.now, &mut self.rng));
        self.due = self.policy.tick(&mut Context::new(self.now, &mut self.rng));
        result
    }

    fn is(&mut self, endpoint: u32, state: Connectivity) {
        self.control(|p, cx| p.connectivity(cx, EndpointId(endpoint), state));
    }

    fn at(&mut self, now: Nanos) {
        self.now = now;
        self.control(|_, _| ());
    }

    fn picker(&mut self) -> Arc<dyn Picker> {
        self.control(|p, cx| p.picker(cx))
    }

    fn ends(&mut self, endpoint: EndpointId, times: u32, code: Code) {
        let (picker, outcome) = (self.picker(), Outcome::new(code, ms(1)));
        (0..times).for_each(|_| picker.done(endpoint, self.now, &outcome));
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

    /// Who gets requests once the control side has heard of everything.
    fn serving(&mut self) -> Vec<u32> {
        self.control(|_, _| ());
        let mut seen = BTreeSet::new();
        for _ in 0..2 * self.n {
            if let Pick::Endpoint(id) = self.pick() {
                seen.insert(id.0);
            }
        }
        seen.into_iter().collect()
    }
}

/// Penalties without jitter over a child that takes turns.
fn config(consecutive_failures: u32, max_penalty: Nanos) -> FailureAccrualConfig {
    FailureAccrualConfig {
        consecutive_failures,
        max_penalty,
        jitter_ratio: 0.0,
        child_policy: Box::new(PolicyConfig::RoundRobin(Default::default())),
        ..Default::default()
    }
}

/// By the rate alone.
fn rated(required_success_rate: f64, window: Nanos, min_request_threshold: u32) -> FailureAccrualConfig {
    let rule = SuccessRate { required_success_rate, window, min_request_threshold };
    FailureAccrualConfig { success_rate: Some(rule), ..config(0, Nanos::from_secs(60)) }
}

#[test]
fn linkerd_consecutive_failures_transitions() {
    let mut bench = Bench::new(2, config(2, Nanos::from_secs(100)));
    bench.ends(A, 1, Code::Unavailable);
    assert_eq!(bench.serving(), [0, 1], "one failure");
    bench.ends(A, 1, Code::Unavailable);
    assert_eq!(bench.serving(), [1], "two are too many");
    assert_eq!(bench.due, Some(ms(1_000)));
    bench.at(ms(500));
    assert_eq!(bench.serving(), [1]);
    // After a second it is limited to one request.
    bench.at(ms(1_000));
    assert_eq!(bench.pick(), Pick::Endpoint(A));
    assert_eq!(bench.serving(), [1]);
    // Which fails: shut for 2 s. Who straggles in meanwhile is not heard.
    bench.ends(A, 1, Code::Unavailable);
    bench.at(ms(2_000));
    assert_eq!((bench.serving(), bench.due), (vec![1], Some(ms(3_000))));
    bench.ends(A, 1, Code::Ok);
    assert_eq!(bench.serving(), [1]);
    bench.at(ms(3_000));
    assert_eq!(bench.pick(), Pick::Endpoint(A));
    bench.ends(A, 1, Code::Ok);
    assert_eq!(bench.serving(), [0, 1], "one success opens it");
    // And two failures are too many again, not one; for the shortest time.
    bench.ends(A, 1, Code::Unavailable);
    assert_eq!(bench.serving(), [0, 1]);
    bench.ends(A, 1, Code::Unavailable);
    assert_eq!((bench.serving(), bench.due), (vec![1], Some(ms(4_000))));
}

#[test]
fn finagle_success_resets_failures() {
    let mut bench = Bench::new(2, config(3, Nanos::from_secs(60)));
    for _ in 0..5 {
        bench.ends(A, 2, Code::Internal);
        bench.ends(A, 1, Code::Ok);
    }
    assert_eq!(bench.serving(), [0, 1]);
    bench.ends(A, 3, Code::Internal);
    assert_eq!(bench.serving(), [1]);
}

#[test]
fn finagle_success_rate_within_duration_fractional() {
    let s = Nanos::from_secs;
    let mut bench = Bench::new(2, rated(0.5, s(100), 0));
    for second in 1..=100 {
        bench.at(s(second));
        bench.ends(A, 1, Code::Ok);
    }
    // 100 · ln 2 = 69.3: e^(−0.69) = 0.502, e^(−0.7) = 0.497.
    for second in 101..=169 {
        bench.at(s(second));
        bench.ends(A, 1, Code::Internal);
        assert_eq!(bench.serving(), [0, 1], "{second}");
    }
    bench.at(s(170));
    bench.ends(A, 1, Code::Internal);
    assert_eq!(bench.serving(), [1]);
}

#[test]
fn finagle_success_rate_within_duration_respects_rps_threshold() {
    let s = Nanos::from_secs;
    let mut bench = Bench::new(2, rated(1.0, s(30), 5));
    bench.at(s(30));
    bench.ends(A, 4, Code::Internal);
    assert_eq!(bench.serving(), [0, 1]);
    bench.ends(A, 1, Code::Internal);
    assert_eq!(bench.serving(), [1], "five requests in the window");
    // Requests leave the window: four at 30 s are not counted with one at 61 s.
    let mut bench = Bench::new(2, rated(1.0, s(30), 5));
    bench.at(s(30));
    bench.ends(A, 4, Code::Internal);
    bench.at(s(61));
    bench.ends(A, 1, Code::Internal);
    assert_eq!(bench.serving(), [0, 1]);
}

#[test]
fn finagle_success_rate_within_duration_revived_resets_failures() {
    let s = Nanos::from_secs;
    let mut bench = Bench::new(2, rated(1.0, s(30), 0));
    bench.ends(A, 1, Code::Internal);
    assert_eq!(bench.serving(), [0, 1], "not before a window has passed");
    bench.at(s(30));
    bench.ends(A, 1, Code::Internal);
    assert_eq!(bench.serving(), [1]);
    bench.at(s(31));
    assert_eq!(bench.pick(), Pick::Endpoint(A));
    bench.ends(A, 1, Code::Ok);
    assert_eq!(bench.serving(), [0, 1]);
    bench.ends(A, 1, Code::Internal);
    bench.at(s(60));
    bench.ends(A, 1, Code::Internal);
    assert_eq!(bench.serving(), [0, 1], "29 s after it was opened");
    bench.at(s(61));
    bench.ends(A, 1, Code::Internal);
    assert_eq!(bench.serving(), [1]);
}

#[test]
fn finagle_hybrid_policy_uses_windowed_success_rate_as_well_as_consecutive_failure() {
    let rule = SuccessRate { min_request_threshold: 0, ..SuccessRate::default() };
    let hybrid = FailureAccrualConfig { success_rate: Some(rule), ..config(3, Nanos::from_secs(300)) };
    let mut bench = Bench::new(2, hybrid.clone());
    bench.ends(A, 3, Code::Internal);
    assert_eq!(bench.serving(), [1], "three in a row");
    // In turns, so that no two follow each other: half of them fail.
    let mut bench = Bench::new(2, hybrid);
    for second in 0..30 {
        bench.at(Nanos::from_secs(second));
        bench.ends(A, 1, if second % 2 == 0 { Code::Ok } else { Code::Internal });
        assert_eq!(bench.serving(), [0, 1]);
    }
    bench.at(Nanos::from_secs(30));
    bench.ends(A, 1, Code::Internal);
    assert_eq!(bench.serving(), [1], "50 % < 80 %, and 30 s have passed");
}

#[test]
fn penalties_double_up_to_the_longest_with_jitter_below_it() {
    let config = FailureAccrualConfig::default();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    for (times, base) in
        [(0, 1u64), (1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 60), (63, 60), (64, 60), (u32::MAX, 60)]
    {
        let range = Nanos::from_secs(base)..=Nanos::from_millis((1_500 * base).min(60_000));
        let penalties: Vec<Nanos> = (0..100).map(|_| config.penalty(&mut cx, times)).collect();
        assert!(penalties.iter().all(|p| range.contains(p)), "{times}: {penalties:?}");
        assert_eq!(penalties.iter().collect::<BTreeSet<_>>().len() > 1, base < 60, "{times}");
    }
}

#[test]
fn when_all_are_shut_requests_wait_for_the_first_probation() {
    let mut bench = Bench::new(2, config(1, Nanos::from_secs(60)));
    bench.ends(A, 1, Code::Internal);
    bench.at(ms(300));
    bench.ends(B, 1, Code::Internal);
    assert!(matches!(bench.pick(), Pick::Endpoint(B)), "this pick asks for B to be shut");
    assert_eq!(bench.pick(), Pick::Queue);
    bench.at(ms(1_000));
    assert_eq!([bench.pick(), bench.pick()], [Pick::Endpoint(A), Pick::Queue]);
    bench.at(ms(1_300));
    assert_eq!([bench.pick(), bench.pick()], [Pick::Endpoint(B), Pick::Queue]);
    // Nobody waits for those that are not connected.
    bench.is(0, Connectivity::TransientFailure);
    bench.is(1, Connectivity::TransientFailure);
    assert!(matches!(bench.pick(), Pick::Fail(_)));
}

#[test]
fn a_penalty_begins_with_the_failure_however_late_the_control_side_hears_of_it() {
    let mut bench = Bench::new(2, config(1, Nanos::from_secs(60)));
    let picker = bench.picker();
    picker.done(A, ms(100), &Outcome::new(Code::Internal, Nanos::ZERO));
    bench.now = ms(900);
    let mut rng = Script::indices(1, &[0]);
    let mut cx = PickContext::new(bench.now, &mut rng);
    picker.pick(&mut cx);
    assert!(cx.asks.exit_idle);
    bench.control(|p, cx| p.exit_idle(cx));
    assert_eq!(bench.due, Some(ms(1_100)));
    // So late that it is over already.
    bench.ends(B, 1, Code::Internal);
    bench.at(ms(60_000));
    assert_eq!([bench.pick(), bench.pick()], [Pick::Endpoint(A), Pick::Endpoint(B)], "both are on probation");
    assert_eq!(bench.pick(), Pick::Queue);
}

#[test]
fn a_probe_needs_a_connection_and_waits_for_it() {
    let mut bench = Bench::new(2, config(1, Nanos::from_secs(60)));
    bench.ends(A, 1, Code::Internal);
    bench.at(ms(500));
    bench.is(0, Connectivity::Idle);
    bench.at(ms(1_000));
    assert_eq!(bench.serving(), [1]);
    bench.is(0, Connectivity::Connecting);
    bench.is(0, Connectivity::Ready);
    assert_eq!([bench.pick(), bench.pick()], [Pick::Endpoint(A), Pick::Endpoint(B)]);
    // It was lost with its probe under way, which decides all the same.
    bench.is(0, Connectivity::Idle);
    bench.ends(A, 1, Code::Unavailable);
    bench.is(0, Connectivity::Ready);
    assert_eq!(bench.serving(), [1]);
    assert_eq!(bench.due, Some(ms(3_000)));
}

#[test]
fn probes_are_counted_by_the_child() {
    let child = PolicyConfig::LeastRequest(LeastRequestConfig::default());
    let config = FailureAccrualConfig { child_policy: Box::new(child), ..config(1, Nanos::from_secs(60)) };
    let mut bench = Bench::new(2, config);
    bench.ends(A, 1, Code::Internal);
    bench.at(ms(1_000));
    assert_eq!(bench.pick(), Pick::Endpoint(A));
    assert_eq!(bench.shared.outstanding.get(A), 1);
    bench.ends(A, 1, Code::Ok);
    assert_eq!(bench.shared.outstanding.get(A), 0);
}

#[test]
fn who_leaves_is_open_when_it_comes_back() {
    let mut bench = Bench::new(2, config(1, Nanos::from_secs(60)));
    bench.ends(B, 1, Code::Internal);
    assert_eq!(bench.serving(), [0]);
    bench.control(|p, cx| p.update(cx, &set(1)));
    assert_eq!(bench.due, None, "its penalty has left with it");
    bench.ends(B, 5, Code::Internal);
    bench.control(|p, cx| p.update(cx, &set(2)));
    bench.is(1, Connectivity::Ready);
    assert_eq!((bench.serving(), bench.due), (vec![0, 1], None));
}

#[test]
fn one_thread_only_gets_the_probe() {
    let mut bench = Bench::new(2, config(1, Nanos::from_secs(60)));
    bench.ends(A, 1, Code::Internal);
    bench.at(ms(1_000));
    // Two pickers that both know of the probation, as after a change.
    let first = bench.picker();
    bench.is(1, Connectivity::Idle);
    bench.is(1, Connectivity::Ready);
    let pickers = [first, bench.picker()];
    assert!(!Arc::ptr_eq(&pickers[0], &pickers[1]));
    let probes = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (picker, probes) = (&pickers[thread % 2], &probes);
            scope.spawn(move || {
                let mut rng = Script::indices(1, &[0]);
                for _ in 0..1_000 {
                    if picker.pick(&mut PickContext::new(ms(1_000), &mut rng)) == Pick::Endpoint(A) {
                        probes.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(probes.into_inner(), 1);
}

#[test]
fn settings_are_checked() {
    let broken = |text: &str| toml::from_str::<FailureAccrualConfig>(text).unwrap().check().unwrap_err().to_string();
    assert_eq!(broken("max_penalty = '0s'\nmin_penalty = '0s'"), "max_penalty: 0s, must be > 0s");
    assert_eq!(broken("min_penalty = '2m'"), "min_penalty: 120s, must be <= max_penalty, 60s");
    assert_eq!(broken("jitter_ratio = nan"), "jitter_ratio: NaN, must be 0 to 100");
    assert_eq!(
        broken("success_rate = { required_success_rate = 1.5 }"),
        "success_rate.required_success_rate: 1.5, must be 0 to 1"
    );
    assert_eq!(broken("success_rate = { window = '0s' }"), "success_rate.window: 0s, must be > 0s");
    assert_eq!(FailureAccrualConfig::default().check(), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whoever is not open gets one request at most until that has ended, and somebody always gets one in the end.
    #[test]
    fn one_request_at_a_time_in_probation(
        n in 1u32..5,
        failures in 1u32..4,
        steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0u64..3_000), 1..200),
    ) {
        let config = config(failures, Nanos::from_secs(8));
        let gates = Arc::new(Gates::new(&config));
        let child = Masked::new(config.child_policy.build_with(&Shared::default()));
        let policy = FailureAccrual {
            child, gates: gates.clone(), config, ends: BTreeSet::new(), version: 0, published: None,
        };
        let (shared, rng) = (Shared::default(), Script::indices(1, &[0]));
        let mut bench = Bench { policy: Box::new(policy), shared, rng, now: Nanos::ZERO, due: None, n };
        bench.control(|p, cx| p.update(cx, &set(n)));
        (0..n).for_each(|i| bench.is(i, Connectivity::Ready));
        let mut under_way: Vec<EndpointId> = Vec::new();
        for (fails, which, wait) in steps {
            bench.at(bench.now + ms(wait));
            let before: Vec<u8> = (0..n).map(|i| gates.at(EndpointId(i))).collect();
            match bench.pick() {
                Pick::Endpoint(id) => {
                    let at = before[id.index()];
                    prop_assert!(at == gate::OPEN || at == gate::PROBATION, "{:?} was at {}", id, at);
                    under_way.push(id);
                }
                pick => {
                    prop_assert_eq!(pick, Pick::Queue);
                    prop_assert!(before.iter().all(|at| *at != gate::OPEN && *at != gate::PROBATION));
                }
            }
            if !under_way.is_empty() {
                let id = under_way.swap_remove(which.index(under_way.len()));
                bench.ends(id, 1, if fails { Code::Internal } else { Code::Ok });
            }
        }
        for id in under_way.drain(..) {
            bench.ends(id, 1, Code::Internal);
        }
        bench.at(bench.now + Nanos::from_secs(8));
        prop_assert!(matches!(bench.pick(), Pick::Endpoint(_)));
    }
}
