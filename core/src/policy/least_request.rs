//! `least_request`: of a few endpoints drawn at random, the one with the fewest requests outstanding.
//!
//! **Solves** endpoints or requests that are not alike: a slow endpoint keeps its requests longer, so it has more of them
//! outstanding and gets fewer new ones. Two random choices instead of one take the fullest of *n* queues from about
//! ln *n* / ln ln *n* to ln ln *n* (Mitzenmacher, "The Power of Two Choices", 2001), and unlike a full scan they do not send
//! every client to the same emptiest endpoint.
//!
//! **Source**: gRFC A48; Envoy's LEAST_REQUEST (envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest). Both
//! draw endpoints with replacement, so one may be compared with itself and even the busiest is picked once in *n*^choices.
//! The literature mostly draws distinct ones (`with_replacement = false`), which is better by a little: 19.59 ms against
//! 19.68 ms at 100 servers of 10 ms, 80 % busy. Envoy can also compare all of them (`selection_method = "full_scan"`).
//!
//! gRPC ignores weights, and so does this without an `active_request_bias`. With one, endpoints of unequal weights are not
//! drawn but have turns, as in Envoy: after a pick an endpoint is due again after (active + 1)^bias / weight, and the one that
//! is due first is next. Envoy takes 1.0 for a bias that is not given. Its newest version goes by turns also when weights are
//! equal and a bias is given; here, as in those before, equal weights mean choices. It starts its schedule over whenever an
//! endpoint comes or goes, and of equals takes the one that has waited longest; here endpoints that stay keep their turn, and
//! of equals the first listed is next. Shares are the same.
//!
//! **A pick costs** one random number and two loads per choice, and an addition on a counter of the chosen endpoint; its
//! end costs a subtraction. Picks that choose different endpoints write to different counters. A full scan costs a load for
//! each ready endpoint, and so does a pick by weight, with an exchange that is tried again, after another look at all, when
//! another thread took the same turn.
//!
//! **How close**: while nothing ends, two choices keep all counts within O(log *n*) of each other whatever *N*, and a full scan
//! within 1. By weight with a bias of 0, an endpoint has had ⌊*V* · w⌋ turns at virtual time *V*, one more or less for where it
//! began. Over all, *N* = *V* · Σw ± *n*, so its count is within 1 + *n* · w/Σw of *N* · w/Σw. With a bias *b*, while nothing
//! ends, *a* requests take 1^b/w + … + *a*^b/w ≈ *a*^(1+b) / ((1+b) · w) to come: counts go with w^(1/(1+b)), so at a bias of
//! 1 an endpoint of four times the weight has twice the requests. When requests end, rates go with w/(active + 1)^b.
//!
//! **Does badly** with an endpoint that fails fast: its requests are over at once, so it always looks idle and draws traffic
//! (pair it with outlier detection). A client sees its own requests only: with many clients of few requests each, all
//! counts are 0 or 1 and the choice is `random`'s. By weight, even the busiest has its turn in the end.
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

mod deadlines;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::deadlines::{Deadlines, LONGEST_STEP};
use super::config::{Rule, Settings};
use super::draw::{another, below, open_unit};
use super::endpoint_states::{ConnectAll, IdSet, PickerFactory, Ready};
use super::least_loaded::LeastLoadedPicker;
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
    /// Whether a few are compared, by default, or all (Envoy `selection_method`).
    pub selection_method: SelectionMethod,
    /// How much requests take from a weight, where weights differ: 0, nothing; 1, half of it with one request (Envoy
    /// `active_request_bias`, which is 1.0 there if it is not given). None by default: weights are ignored, as in gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_request_bias: Option<f64>,
}

/// Whom a pick compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SelectionMethod {
    /// `choice_count` endpoints, drawn at random (gRPC; Envoy's N_CHOICES, its default).
    #[default]
    NChoices,
    /// All, and of those with the fewest requests any (Envoy's FULL_SCAN): `least_loaded`.
    FullScan,
}

impl Default for LeastRequestConfig {
    fn default() -> Self {
        Self {
            choice_count: ChoiceCount::default(),
            with_replacement: true,
            selection_method: SelectionMethod::default(),
            active_request_bias: None,
        }
    }
}

impl Settings for LeastRequestConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(LeastRequest::new(self.clone(), shared.outstanding.clone())))
    }

    fn check(&self) -> Result<(), Rule> {
        match self.active_request_bias {
            Some(bias) if !(bias >= 0.0 && bias.is_finite()) => Err(Rule::broken("active_request_bias", bias, ">= 0")),
            _ => Ok(()),
        }
    }

    fn uses_weights(&self) -> bool {
        self.active_request_bias.is_some()
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
    config: LeastRequestConfig,
    outstanding: Arc<Outstanding>,
    /// Who came since the last picker was built.
    newcomers: Vec<EndpointId>,
    /// Of the last picker, if it went by weights.
    deadlines: Option<Arc<Deadlines>>,
}

impl LeastRequest {
    fn new(config: LeastRequestConfig, outstanding: Arc<Outstanding>) -> Self {
        Self { config, outstanding, newcomers: Vec::new(), deadlines: None }
    }

    /// A picker that goes by weights.
    fn weighted(&mut self, cx: &mut Context<'_>, ready: Box<[EndpointId]>, weights: Box<[f64]>, bias: f64) -> Weighted {
        let newcomers = IdSet::of(self.newcomers.drain(..));
        let last = self.deadlines.take();
        let last = |id| last.as_ref().filter(|_| !newcomers.contains(id)).and_then(|last| last.of(id));
        let outstanding = &self.outstanding;
        let steps = ready.iter().zip(&weights).map(|(&id, &weight)| step(outstanding.get(id), weight, bias));
        // Anywhere in the first round, so that clients that start together do not all begin with the heaviest. Envoy picks
        // up to a round in advance for that (EdfLoadBalancerBase, `seed_ % hosts.size()`).
        let round = || weights.len() as f64 / steps.clone().map(|step| 1.0 / step).sum::<f64>();
        let deadlines = Arc::new(Deadlines::new(&ready, steps.clone(), last, || open_unit(cx.rng) * round()));
        self.deadlines = Some(deadlines.clone());
        Weighted { ready, weights, bias, deadlines, outstanding: self.outstanding.clone() }
    }
}

impl PickerFactory for LeastRequest {
    fn updated(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet, newcomers: &[EndpointId]) {
        self.outstanding.reserve(endpoints);
        // Otherwise nothing is remembered that could be another's.
        if self.deadlines.is_some() {
            self.newcomers.extend(newcomers);
        }
    }

    fn over(&mut self, cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        let (ids, weights, outstanding) = (ready.ids(), ready.weights(), self.outstanding.clone());
        if let Some(bias) = self.config.active_request_bias
            && weights.iter().any(|w| *w != weights[0])
        {
            return Arc::new(self.weighted(cx, ids, weights, bias));
        }
        self.deadlines = None;
        self.newcomers.clear();
        match self.config.selection_method {
            SelectionMethod::FullScan => Arc::new(LeastLoadedPicker::new(ids, outstanding)),
            SelectionMethod::NChoices => Arc::new(LeastRequestPicker {
                ready: ids,
                choices: self.config.choice_count.get() as usize,
                distinct: !self.config.with_replacement,
                outstanding,
            }),
        }
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
            let mut drawn = [0; ChoiceCount::MAX as usize];
            self.least(self.choices.min(len), |k| another(cx.rng, len, &mut drawn, k))
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

/// In turn, as often as the weight says, and less often the more requests there are.
struct Weighted {
    ready: Box<[EndpointId]>,
    weights: Box<[f64]>,
    bias: f64,
    deadlines: Arc<Deadlines>,
    outstanding: Arc<Outstanding>,
}

/// Until an endpoint's next turn: (active + 1)^bias / weight.
#[inline]
fn step(active: u32, weight: f64, bias: f64) -> f64 {
    let requests = f64::from(active) + 1.0;
    let load = if bias == 1.0 { requests } else { libm::pow(requests, bias) };
    (load / weight).min(LONGEST_STEP)
}

impl Picker for Weighted {
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        let step = |at: usize| step(self.outstanding.get(self.ready[at]), self.weights[at], self.bias);
        let endpoint = self.ready[self.deadlines.take(step)];
        self.outstanding.started(endpoint);
        Pick::Endpoint(endpoint)
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
mod tests;
