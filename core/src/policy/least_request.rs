//! `least_request`: of a few endpoints drawn at random, the one with the fewest requests outstanding.
//!
//! **Solves** endpoints or requests that are not alike: a slow endpoint keeps its requests longer, so it has more of them
//! outstanding and gets fewer new ones. Two random choices instead of one take the fullest of *n* queues from about
//! ln *n* / ln ln *n* to ln ln *n* (Mitzenmacher, "The Power of Two Choices", 2001), and unlike a full scan they do not send
//! every client to the same emptiest endpoint.
//!
//! **Source**: gRFC A48, Envoy's LEAST_REQUEST with equal weights. Both draw endpoints with replacement, so one may be
//! compared with itself and even the busiest is picked once in *n*^choices. The literature mostly draws distinct ones
//! (`with_replacement = false`), which is better by a little: 19.59 ms against 19.68 ms at 100 servers of 10 ms, 80 % busy.
//! Weights are ignored, as in gRPC: Envoy's variant for unequal weights (`active_request_bias`) is not here.
//!
//! **A pick costs** one random number and two loads per choice, and an addition on a counter of the chosen endpoint; its
//! end costs a subtraction. Picks that choose different endpoints write to different counters.
//!
//! **Does badly** with an endpoint that fails fast: its requests are over at once, so it always looks idle and draws traffic
//! (pair it with outlier detection). A client sees its own requests only: with many clients of few requests each, all
//! counts are 0 or 1 and the choice is `random`'s.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("least_request").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..2).map(endpoint)));
//! for i in 0..2 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! let mut counts = [0u32; 2];
//! for _ in 0..1_000 {
//!     // Nothing ends, so the counts even out: both are in the draw half of the time.
//!     if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
//!         counts[id.index()] += 1;
//!     }
//! }
//! assert!(counts[0].abs_diff(counts[1]) < 20, "{counts:?}");
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::draw::below;
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::{Outstanding, Shared, WaitingPicker};
use super::{Picker, Policy};
use crate::{Context, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// Settings of `least_request`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeastRequestConfig {
    /// Endpoints compared per pick. 2 by default; at least 2, and more than 10 count as 10 (gRFC A48 `choiceCount`).
    pub choice_count: ChoiceCount,
    /// Whether an endpoint may be drawn twice for one pick. True in gRPC and Envoy; false in most of the literature.
    pub with_replacement: bool,
}

impl Default for LeastRequestConfig {
    fn default() -> Self {
        Self { choice_count: ChoiceCount::default(), with_replacement: true }
    }
}

impl Settings for LeastRequestConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        let outstanding = shared.outstanding.clone();
        let Self { choice_count: choices, with_replacement } = *self;
        Box::new(ConnectAll::new(LeastRequest { choices, with_replacement, outstanding }))
    }
}

/// How many endpoints a pick compares: 2 to 10.
///
/// ```
/// use lb_core::policy::least_request::ChoiceCount;
/// assert_eq!(ChoiceCount::new(3)?.get(), 3);
/// assert_eq!(ChoiceCount::new(11)?.get(), 10);
/// assert_eq!(ChoiceCount::new(1).unwrap_err().to_string(), "least_request: choice_count: 1, must be >= 2");
/// # Ok::<(), lb_core::policy::least_request::ChoiceCountError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ChoiceCount(u32);

impl ChoiceCount {
    /// gRFC A48: below 2 the configuration is rejected.
    const MIN: u32 = 2;
    /// gRFC A48: above 10 it becomes 10.
    const MAX: u32 = 10;

    /// `count` choices; 10 if it is more.
    ///
    /// # Errors
    ///
    /// If `count` is below 2: one choice is no comparison, that is `random`.
    pub fn new(count: u32) -> Result<Self, ChoiceCountError> {
        if count < Self::MIN { Err(ChoiceCountError { count }) } else { Ok(Self(count.min(Self::MAX))) }
    }

    /// As a number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for ChoiceCount {
    /// 2, gRFC A48.
    fn default() -> Self {
        Self(Self::MIN)
    }
}

impl TryFrom<u32> for ChoiceCount {
    type Error = ChoiceCountError;
    fn try_from(count: u32) -> Result<Self, ChoiceCountError> {
        Self::new(count)
    }
}

impl From<ChoiceCount> for u32 {
    fn from(count: ChoiceCount) -> Self {
        count.0
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ChoiceCount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ChoiceCount".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": Self::MIN, "maximum": u32::MAX })
    }
}

/// A choice that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("least_request: choice_count: {count}, must be >= 2")]
pub struct ChoiceCountError {
    count: u32,
}

struct LeastRequest {
    choices: ChoiceCount,
    with_replacement: bool,
    outstanding: Arc<Outstanding>,
}

impl PickerFactory for LeastRequest {
    fn updated(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet) {
        self.outstanding.reserve(endpoints);
    }

    fn over(&mut self, _cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        Arc::new(LeastRequestPicker {
            ready: ready.ids(),
            choices: self.choices.get() as usize,
            distinct: !self.with_replacement,
            outstanding: self.outstanding.clone(),
        })
    }

    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        Arc::new(WaitingPicker::new(answer, self.outstanding.clone()))
    }
}

struct LeastRequestPicker {
    ready: Box<[EndpointId]>,
    choices: usize,
    distinct: bool,
    outstanding: Arc<Outstanding>,
}

impl LeastRequestPicker {
    /// Of `choices` indices, drawn one after the other, the endpoint with the fewest requests.
    #[inline]
    fn least(&self, choices: usize, mut draw: impl FnMut(usize) -> usize) -> EndpointId {
        let mut sample = |k| {
            let endpoint = self.ready[draw(k)];
            (endpoint, self.outstanding.get(endpoint))
        };
        let mut best = sample(0);
        for k in 1..choices {
            let other = sample(k);
            // A48: "if (sampled.active_requests < candidate.active_requests)": of equals the first drawn stays.
            if other.1 < best.1 {
                best = other;
            }
        }
        best.0
    }
}

impl Picker for LeastRequestPicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        let len = self.ready.len();
        let best = if self.distinct {
            // The indices drawn so far, ascending: the k-th draw is from len − k and steps over those before it.
            let mut drawn = [0; ChoiceCount::MAX as usize];
            self.least(self.choices.min(len), |k| {
                let (mut index, mut at) = (below(cx.rng, len - k), 0);
                while at < k && drawn[at] <= index {
                    index += 1;
                    at += 1;
                }
                drawn.copy_within(at..k, at + 1);
                drawn[at] = index;
                index
            })
        } else {
            self.least(self.choices, |_| below(cx.rng, len))
        };
        self.outstanding.started(best);
        Pick::Endpoint(best)
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.outstanding.started(endpoint);
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, _now: Nanos, _outcome: &Outcome) {
        self.outstanding.done(endpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::draw::scripted::Script;
    use crate::{Address, Code, Connectivity, Endpoint};

    const ENDED: Outcome = Outcome::new(Code::Ok, Nanos::ZERO);

    fn factory(choices: u32) -> LeastRequest {
        LeastRequest {
            choices: ChoiceCount::new(choices).unwrap(),
            with_replacement: true,
            outstanding: Arc::default(),
        }
    }

    /// A policy over endpoints `0..n`, all READY, and the counts it keeps.
    fn policy(choices: u32, n: u32) -> (ConnectAll<LeastRequest>, Arc<Outstanding>) {
        let factory = factory(choices);
        let outstanding = factory.outstanding.clone();
        let mut policy = ConnectAll::new(factory);
        snapshot(&mut policy, n);
        (policy, outstanding)
    }

    fn snapshot(policy: &mut ConnectAll<LeastRequest>, n: u32) {
        let mut rng = Script::indices(1, &[0]);
        let mut cx = Context::new(Nanos::ZERO, &mut rng);
        let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
        policy.update(&mut cx, &EndpointSet::new((0..n).map(endpoint)));
        for i in 0..n {
            policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
        }
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
        let (mut policy, outstanding) = policy(2, 3);
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
        let (mut two, outstanding) = policy(3, 2);
        picks(&*picker(&mut two), 2, &[0, 1, 0, 1, 0, 1], 50);
        assert_eq!([0, 1].map(|i| outstanding.get(EndpointId(i))), [25, 25]);
        snapshot(&mut two, 3);
        assert_eq!(picks(&*picker(&mut two), 3, &[0, 1, 2], 25), [2; 25]);
    }

    #[test]
    fn counts_are_given_back_through_any_picker_and_never_below_zero() {
        let (mut policy, outstanding) = policy(2, 2);
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
    fn requests_that_a_policy_around_it_sent_are_counted_ready_or_not() {
        let (mut policy, outstanding) = policy(2, 2);
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

    #[test]
    fn counts_return_to_zero_under_threads() {
        let (mut policy, outstanding) = policy(2, 5);
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
        let factory = LeastRequest { with_replacement: false, ..factory(3) };
        let outstanding = factory.outstanding.clone();
        let mut policy = ConnectAll::new(factory);
        snapshot(&mut policy, 4);
        for (endpoint, requests) in [(0, 9), (1, 3), (2, 5), (3, 0)] {
            for _ in 0..requests {
                outstanding.started(EndpointId(endpoint));
            }
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
        let mut policy = ConnectAll::new(LeastRequest { with_replacement: false, ..factory(10) });
        snapshot(&mut policy, 3);
        let mut picked = picks(&*picker(&mut policy), 3, &[2, 0, 0, 1, 1, 0, 0, 0, 0], 3);
        picked.sort_unstable();
        assert_eq!(picked, [0, 1, 2], "each pick sees all three, so no endpoint is second before all are first");
    }

    #[test]
    fn choices_are_two_to_ten() {
        assert_eq!([0, 1].map(|n| ChoiceCount::new(n).is_err()), [true, true]);
        assert_eq!([2, 10, 11, u32::MAX].map(|n| ChoiceCount::new(n).unwrap().get()), [2, 10, 10, 10]);
    }
}
