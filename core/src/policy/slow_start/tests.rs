use super::*;
use crate::policy::draw::scripted::Script;
use crate::{Address, Pick, PickContext};
use Connectivity::{Connecting, Idle, Ready, TransientFailure, Unhealthy};
use std::sync::Mutex;

const fn secs(s: u64) -> Nanos {
    Nanos::from_secs(s)
}

fn endpoints(weights: &[u32]) -> EndpointSet {
    let endpoint =
        |(i, &weight)| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80"))).with_weight(weight);
    EndpointSet::new((0..).zip(weights).map(endpoint))
}

/// Envoy's tests: hosts of weight 1 in Envoy's order of turns, beginning with the first.
struct Envoy(Box<dyn Policy>);

impl Envoy {
    fn new(settings: &str) -> Self {
        let child = r#"{"weighted_round_robin": {"scheduler": "edf"}}"#;
        let json = format!(r#"{{"slow_start": {{"child_policy": {child}, {settings}}}}}"#);
        Self(serde_json::from_str::<PolicyConfig>(&json).unwrap().build())
    }

    fn control<T>(&mut self, now: u64, call: impl FnOnce(&mut dyn Policy, &mut Context<'_>) -> T) -> T {
        call(&mut *self.0, &mut Context::new(secs(now), &mut Script::indices(1, &[0])))
    }

    /// From `now` on there are so many hosts, and the last one has just come.
    fn hosts(&mut self, now: u64, n: usize) {
        self.control(now, |p, cx| p.update(cx, &endpoints(&vec![1; n])));
        self.connectivity(now, n as u32 - 1, Ready);
    }

    fn connectivity(&mut self, now: u64, host: u32, state: Connectivity) {
        self.control(now, |p, cx| p.connectivity(cx, EndpointId(host), state));
    }

    /// The first picks after the weights were refreshed at `now`.
    fn picks<const N: usize>(&mut self, now: u64) -> [u32; N] {
        let picker = self.control(now, |p, cx| {
            p.tick(cx);
            p.picker(cx)
        });
        [0; N].map(|_| match picker.pick(&mut PickContext::new(secs(now), &mut Script::indices(1, &[0]))) {
            Pick::Endpoint(id) => id.0,
            other => panic!("{other:?}"),
        })
    }
}

#[test]
fn round_robin_lb_test_slow_start_no_wait() {
    let mut envoy = Envoy::new(r#""slow_start_window": "60s""#);
    envoy.hosts(1, 1);
    envoy.hosts(62, 2);
    // 12 s of 60: 0.2. Host 2 is due at 1/0.2 = 5, with host 1, which was added later: 4 : 1 in the first five picks.
    assert_eq!(envoy.picks(74), [0, 0, 0, 0, 1]);
    // 20 s of 60: due at 3.
    assert_eq!(envoy.picks(82), [0, 0, 1]);
    assert_eq!(envoy.picks(127), [0, 1, 0, 1]);
}

#[test]
fn round_robin_lb_test_slow_start_with_active_hc() {
    let mut envoy = Envoy::new(r#""slow_start_window": "10s""#);
    envoy.hosts(1, 1);
    envoy.hosts(20, 2);
    // 6 s of 10: due at 1.67 and 3.33.
    assert_eq!(envoy.picks(26), [0, 1, 0, 0]);
    assert_eq!(envoy.picks(46), [0, 1, 0, 1]);
    // Host 1 fails its health check and passes the next: 5 s of 10, due at 2, 4, 6.
    envoy.connectivity(46, 0, Unhealthy);
    envoy.connectivity(47, 0, Ready);
    assert_eq!(envoy.picks(52), [1, 0, 1, 1, 0, 1]);
}

#[test]
fn round_robin_lb_test_slow_start_with_runtime_aggression() {
    let three = |settings| {
        let mut envoy = Envoy::new(settings);
        envoy.hosts(1, 1);
        envoy.hosts(21, 2);
        envoy.hosts(21, 3);
        envoy
    };
    // 5 s of 10: both due at 2, before host 1, which was added later.
    assert_eq!(three(r#""slow_start_window": "10s""#).picks(26), [0, 1, 2, 0, 0]);
    let mut envoy = three(r#""slow_start_window": "10s", "aggression": 1.5"#);
    // (9/10)^(1/1.5) = 0.93: due at 1.07. Host 4 comes, with a tenth.
    envoy.hosts(30, 4);
    assert_eq!(envoy.picks(30), [0, 1, 2, 0, 1, 2]);
    assert_eq!(envoy.picks(39), [0, 1, 2, 3]);
}

#[test]
fn round_robin_lb_test_slow_start_no_wait_non_linear_aggression() {
    let mut envoy = Envoy::new(r#""slow_start_window": "60s", "aggression": 2"#);
    envoy.hosts(1, 1);
    envoy.hosts(62, 2);
    // (6/60)^(1/2) = 0.316: due at 3.16.
    assert_eq!(envoy.picks(68), [0, 0, 0, 1]);
    // (26/60)^(1/2) = 0.658: due at 1.52, 3.04 and 4.56.
    assert_eq!(envoy.picks(88), [0, 1, 0, 0, 1, 0, 1, 0]);
    assert_eq!(envoy.picks(129), [0, 1, 0, 1]);
}

#[test]
fn round_robin_lb_test_slow_start_no_wait_min_weight_percent_35() {
    let mut envoy = Envoy::new(r#""slow_start_window": "60s", "min_weight_percent": 35"#);
    envoy.hosts(1, 1);
    envoy.hosts(62, 2);
    // 12 s of 60 are 0.2; 0.35 is due at 2.86 and 5.71.
    assert_eq!(envoy.picks(74), [0, 0, 1, 0, 0, 0, 1]);
    // 30 s of 60: due at 2, 4, 6.
    assert_eq!(envoy.picks(92), [0, 1, 0, 0, 1, 0, 0]);
    assert_eq!(envoy.picks(137), [0, 1, 0, 1]);
}

#[test]
fn a_weight_grows_as_envoys_documentation_says() {
    let part = |aggression: f64, min_part, age_ms| {
        let ramp = Ramp { window: secs(10), exponent: 1.0 / aggression, min_part };
        (ramp.part(Nanos::from_millis(age_ms)) * 1e4).round() as u32
    };
    // Nothing is younger than a second: 1/10.
    assert_eq!([0, 1_000, 1_500, 9_999, 10_000].map(|ms| part(1.0, 0.0, ms)), [1_000, 1_000, 1_500, 9_999, 10_000]);
    // √0.1 = 0.3162 and √0.25 = 0.5; and below 1 the ramp is flat at first: 0.25² = 0.0625.
    assert_eq!([0, 2_500].map(|ms| part(2.0, 0.0, ms)), [3_162, 5_000]);
    assert_eq!([2_500, 5_000].map(|ms| part(0.5, 0.1, ms)), [1_000, 2_500], "at least min_weight_percent");
}

/// What a child was told of weights.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Vec<u32>>>>);

impl Told {
    fn take(&self) -> Vec<Vec<u32>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Policy for Told {
    fn update(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet) {
        self.0.lock().unwrap().push(endpoints.iter().map(|e| e.weight).collect());
    }

    fn connectivity(&mut self, _cx: &mut Context<'_>, _endpoint: EndpointId, _state: Connectivity) {}

    fn picker(&mut self, _cx: &mut Context<'_>) -> Arc<dyn Picker> {
        crate::policy::fixed::queue()
    }
}

fn slow_start(window: Nanos) -> (SlowStart, Told) {
    let told = Told::default();
    let ramp = Ramp { window, exponent: 1.0, min_part: 0.1 };
    (SlowStart::new(ramp, Box::new(told.clone())), told)
}

#[test]
fn a_ramp_has_a_hundred_steps_and_an_end() {
    let (mut policy, told) = slow_start(secs(60));
    let mut rng = Script::indices(1, &[0]);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    policy.update(&mut cx, &endpoints(&[3, 2]));
    assert_eq!((policy.tick(&mut cx), told.take()), (None, vec![vec![3, 2]]), "nothing is there yet");
    policy.connectivity(&mut cx, EndpointId(1), Ready);
    policy.picker(&mut cx);
    assert_eq!(told.take(), [[30_000, 2_000]], "a tenth of 2 · 10,000");
    let mut steps = 0;
    while let Some(due) = policy.tick(&mut cx) {
        steps += 1;
        assert_eq!(due, Nanos::from_millis(600 * steps));
        cx.now = due;
    }
    let told = told.take();
    assert_eq!((steps, told.len()), (100, 100));
    // 1,000 a step, once 6 s have passed; the last are the resolver's own.
    assert_eq!(told[8..11], [[30_000, 2_000], [30_000, 2_000], [30_000, 2_200]]);
    assert_eq!(told[98..], [[30_000, 19_800], [3, 2]]);
}

#[test]
fn only_an_endpoint_that_had_failed_begins_again() {
    let (mut policy, told) = slow_start(secs(10));
    let mut rng = Script::indices(1, &[0]);
    let mut at = |now: u64, states: &[Connectivity]| {
        let mut cx = Context::new(secs(now), &mut rng);
        if now == 0 {
            policy.update(&mut cx, &endpoints(&[1, 1]));
        }
        states.iter().for_each(|&state| policy.connectivity(&mut cx, EndpointId(0), state));
        policy.tick(&mut cx);
        told.take().pop()
    };
    assert_eq!(at(0, &[Connecting, Ready, Ready]), Some(vec![1_000, 10_000]));
    assert_eq!(at(5, &[Idle, Connecting, Ready]), Some(vec![5_000, 10_000]), "a connection that closed");
    assert_eq!(at(10, &[]), Some(vec![1, 1]));
    assert_eq!(at(11, &[Idle, Connecting, Ready]), None);
    assert_eq!(at(12, &[TransientFailure, Connecting]), None);
    assert_eq!(at(13, &[Ready]), Some(vec![1_000, 10_000]));
    assert_eq!(at(17, &[]), Some(vec![4_000, 10_000]));
    assert_eq!(at(18, &[Unhealthy]), Some(vec![1, 1]), "it gets nothing, so nobody is in a window");
    assert_eq!(at(19, &[Ready]), Some(vec![1_000, 10_000]));
}

#[test]
fn endpoints_that_stay_grow_on_and_others_are_forgotten() {
    let (mut policy, told) = slow_start(secs(10));
    let mut rng = Script::indices(1, &[0]);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    policy.update(&mut cx, &endpoints(&[1, 1]));
    [0, 1].into_iter().for_each(|i| policy.connectivity(&mut cx, EndpointId(i), Ready));
    cx.now = secs(5);
    policy.update(&mut cx, &endpoints(&[1, 4]));
    policy.tick(&mut cx);
    assert_eq!(told.take().pop(), Some(vec![5_000, 20_000]));
    policy.update(&mut cx, &endpoints(&[1, 4]));
    policy.tick(&mut cx);
    assert!(told.take().is_empty(), "the same answer again");
    // Another address under the same id is not there yet.
    let other = Endpoint::new(EndpointId(1), Address::new("10.9.9.9:80"));
    let first = endpoints(&[1]).as_slice()[0].clone();
    policy.update(&mut cx, &EndpointSet::new([first, other]));
    policy.tick(&mut cx);
    assert_eq!(told.take().pop(), Some(vec![5_000, 10_000]));
    policy.connectivity(&mut cx, EndpointId(1), Ready);
    policy.tick(&mut cx);
    assert_eq!(told.take().pop(), Some(vec![5_000, 1_000]));
}

#[test]
fn extreme_settings_do_no_harm() {
    let weights = |window, exponent, min_part, now| {
        let told = Told::default();
        let mut policy = SlowStart::new(Ramp { window, exponent, min_part }, Box::new(told.clone()));
        let mut rng = Script::indices(1, &[0]);
        let mut cx = Context::new(Nanos::ZERO, &mut rng);
        policy.update(&mut cx, &endpoints(&[u32::MAX, 1]));
        [0, 1].into_iter().for_each(|i| policy.connectivity(&mut cx, EndpointId(i), Ready));
        cx.now = now;
        assert!(policy.tick(&mut cx).is_none_or(|due| due > now || now == Nanos::NEVER));
        told.take().pop().unwrap()
    };
    // A tenth of 2^32 − 1 is 429,496,729.5; 1 can't be less.
    assert_eq!(weights(secs(60), 1.0, 0.1, Nanos::ZERO), [429_496_730, 1]);
    assert_eq!(weights(secs(60), 1.0, 1.0, Nanos::ZERO), [u32::MAX, 1]);
    assert_eq!(weights(Nanos::ZERO, 1.0, 0.1, Nanos::ZERO), [u32::MAX, 1]);
    assert_eq!(weights(Nanos(1), f64::INFINITY, 0.0, Nanos::ZERO), [u32::MAX, 1], "older than 1 ns from the start");
    assert_eq!(weights(Nanos::NEVER, f64::INFINITY, 0.0, Nanos::ZERO), [1, 1]);
    assert_eq!(weights(Nanos::NEVER, 0.0, 0.1, Nanos::ZERO), [u32::MAX, 1]);
    assert_eq!(weights(secs(60), 1.0, 0.1, Nanos::NEVER), [u32::MAX, 1]);
}

#[test]
fn a_child_that_does_not_go_by_weights_is_refused() {
    let check = |child: &str| {
        let child_policy = serde_json::from_str(child).unwrap();
        SlowStartConfig { child_policy, ..Default::default() }.check()
    };
    let rule = check(r#"{"circuit_breaker": {"child_policy": "random"}}"#).unwrap_err();
    assert_eq!((rule.field, rule.value.as_str()), ("child_policy", "circuit_breaker"));
    assert!(rule.must.starts_with("a policy that goes by weights, such as weighted_round_robin"), "{rule}");
    assert!(!rule.must.contains("random") && !rule.must.contains("slow_start"), "{rule}");
    assert_eq!(check(r#"{"circuit_breaker": {"child_policy": "maglev"}}"#), Ok(()));
}
