//! `client_side_weighted_round_robin`: the ready endpoints in turn, each as often as its own load reports say.
//!
//! **Solves** endpoints that differ in a way nobody wrote down: other processors, other neighbours on the machine. Every
//! endpoint reports how many requests a second it serves and how much of its capacity that takes; their quotient is what
//! it could serve if it were full, and that is its weight:
//!
//! ```text
//! weight = qps / (utilization + eps/qps · error_utilization_penalty)
//! ```
//!
//! where *eps* are its errors per second: an endpoint that fails fast looks idle, and the penalty takes that away from it.
//! As each gets requests in proportion to its weight, all come to the same utilization.
//!
//! **Source**: gRFC A58, whose `weighted_round_robin` this is, and the reports of A51; Envoy's
//! client_side_weighted_round_robin.v3. A weight is used when its endpoint has reported for `blackout_period`, so that one
//! that has just started is not judged by its first requests, and until `weight_expiration_period` after its last report;
//! then the blackout begins anew, as it does when the endpoint reconnects. With fewer than two usable weights all are the
//! same: that is `round_robin`. What differs: gRPC gives an endpoint without a usable weight the mean of the others,
//! Envoy the median; C-core and Java cut extreme weights; Go also forgets the weight of an endpoint that reconnects, which
//! without a blackout C-core and A58 use on. Envoy weighs a report that has errors and no utilization, gRPC ignores it. Envoy
//! can take utilization from any named metric (`metric_names_for_computing_utilization`, in gRPC gRFC A114), which is not here.
//! The order of turns is gRPC's; Envoy's is `edf` of [`weighted_round_robin`](super::weighted_round_robin).
//!
//! **A pick costs** as much as `weighted_round_robin`'s, and the end of a request that brings a report two divisions and
//! three stores. Once in a `weight_update_period`, weights are read and, if any is another, the schedule is made anew, which
//! goes on where the old one was.
//!
//! **How close**: between two such moments as `weighted_round_robin` with `static_stride`; without reports as `round_robin`.
//!
//! **Does badly** where utilization does not grow with requests: an idle endpoint whose processor does something else gets
//! a low weight, and keeps it. With few requests qps is what the client chose to send, so the weights of few are noise. A
//! report comes with a response, so an endpoint that hangs reports nothing, and keeps its weight until that expires.
//!
//! ```
//! use lb_core::{Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("client_side_weighted_round_robin").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..2).map(endpoint)));
//! for i in 0..2 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! // Both serve 100 requests a second; it takes all of the first and a quarter of the second.
//! for (now, requests, shares) in [(0, 100, [50, 50]), (10, 100, [20, 80])] {
//!     let mut cx = Context::new(Nanos::from_secs(now), &mut rng);
//!     policy.tick(&mut cx);
//!     let picker = policy.picker(&mut cx);
//!     let mut counts = [0; 2];
//!     for _ in 0..requests {
//!         if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(cx.now, cx.rng)) {
//!             let load = LoadReport { cpu_utilization: [1.0, 0.25][id.index()], rps: 100.0, ..Default::default() };
//!             picker.done(id, cx.now, &Outcome::new(Code::Ok, Nanos::from_millis(5)).with_load(load));
//!             counts[id.index()] += 1;
//!         }
//!     }
//!     assert_eq!(counts, shares);
//! }
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::config::{Needs, Rule, Settings};
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::Shared;
use super::static_stride::StaticStride;
pub use super::static_stride::WeightClamp;
use super::{Picker, Policy};
use crate::slots::Slots;
use crate::{Context, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick, PickContext};

/// Weights are read at most this often. 100 ms, gRFC A58 "Values less than 100ms are capped at 100ms".
const MIN_WEIGHT_UPDATE_PERIOD: Nanos = Nanos::from_millis(100);

/// Settings of `client_side_weighted_round_robin`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientSideWeightedRoundRobinConfig {
    /// Whether reports are asked for apart from responses; those that come with responses are ignored then. False, gRFC A58
    /// `enableOobLoadReport`.
    pub enable_oob_load_report: bool,
    /// How often they are asked for. 10 s, gRFC A58 `oobReportingPeriod`.
    pub oob_reporting_period: Nanos,
    /// How long an endpoint must have reported before its weight is used. 10 s, gRFC A58 `blackoutPeriod`.
    pub blackout_period: Nanos,
    /// How long a weight is used after its last report. 180 s, gRFC A58 `weightExpirationPeriod`.
    pub weight_expiration_period: Nanos,
    /// How often weights are looked at: 1 s, and less than 100 ms counts as 100 ms (gRFC A58 `weightUpdatePeriod`).
    pub weight_update_period: Nanos,
    /// How much a report's rate of errors adds to its utilization. 1, gRFC A58 `errorUtilizationPenalty`.
    pub error_utilization_penalty: f64,
    /// The weight of an endpoint that has no usable one.
    pub missing_weight: MissingWeight,
    /// How far a weight may be from the mean; as gRPC C-core has it by default.
    pub clamp: WeightClamp,
}

impl Default for ClientSideWeightedRoundRobinConfig {
    fn default() -> Self {
        Self {
            enable_oob_load_report: false,
            oob_reporting_period: Nanos::from_secs(10),
            blackout_period: Nanos::from_secs(10),
            weight_expiration_period: Nanos::from_secs(180),
            weight_update_period: Nanos::from_secs(1),
            error_utilization_penalty: 1.0,
            missing_weight: MissingWeight::default(),
            clamp: WeightClamp::default(),
        }
    }
}

/// What an endpoint without a usable weight gets. Implementations differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum MissingWeight {
    /// The mean of the usable weights: gRPC.
    #[default]
    Mean,
    /// Their median, of an even number the mean of the middle two: Envoy.
    Median,
}

impl Settings for ClientSideWeightedRoundRobinConfig {
    fn build(&self, _shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(ClientSideWeightedRoundRobin::new(self.clone())))
    }

    fn check(&self) -> Result<(), Rule> {
        let penalty = self.error_utilization_penalty;
        if self.oob_reporting_period == Nanos::ZERO {
            return Err(Rule::broken("oob_reporting_period", self.oob_reporting_period, "> 0s"));
        }
        if penalty >= 0.0 { Ok(()) } else { Err(Rule::broken("error_utilization_penalty", penalty, ">= 0")) }
    }

    fn needs(&self) -> Needs {
        Needs { load: !self.enable_oob_load_report, oob_load: self.enable_oob_load_report, ..Needs::default() }
    }
}

/// An endpoint's own weight, and since when it has had one.
#[derive(Debug)]
struct Weight {
    /// The bits of an `f64`; 0 before the first report.
    value: AtomicU64,
    /// Nanoseconds: when the last report came.
    last_updated: AtomicU64,
    /// Nanoseconds: when the first report came after the endpoint was READY or its weight expired; [`Nanos::NEVER`] before.
    non_empty_since: AtomicU64,
}

impl Default for Weight {
    fn default() -> Self {
        let non_empty_since = AtomicU64::new(Nanos::NEVER.0);
        Self { value: AtomicU64::new(0), last_updated: AtomicU64::new(0), non_empty_since }
    }
}

/// The weights of all endpoints: one table for all pickers of a policy.
struct Weights {
    slots: Slots<Weight>,
    config: ClientSideWeightedRoundRobinConfig,
}

impl Weights {
    /// A request was over, perhaps with a report.
    #[inline]
    fn ended(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        if let (Some(report), false) = (&outcome.load, self.config.enable_oob_load_report) {
            self.report(endpoint, now, report);
        }
    }

    /// A58 `UpdateWeight`.
    #[inline]
    fn report(&self, endpoint: EndpointId, now: Nanos, report: &LoadReport) {
        let Some(weight) = self.slots.get(endpoint.index()) else { return };
        let Some(value) = weight_of(report, self.config.error_utilization_penalty) else { return };
        // Two threads that both see the first report write nearly the same time.
        if weight.non_empty_since.load(Ordering::Relaxed) == Nanos::NEVER.0 {
            weight.non_empty_since.store(now.0, Ordering::Relaxed);
        }
        weight.value.store(value.to_bits(), Ordering::Relaxed);
        // Release: who sees that the weight is fresh sees the weight.
        weight.last_updated.store(now.0, Ordering::Release);
    }

    /// A58 `GetWeight`; none where that gives 0.
    fn get(&self, endpoint: EndpointId, now: Nanos) -> Option<f64> {
        let weight = self.slots.get(endpoint.index())?;
        let since = |time: u64| now.since(Nanos(time));
        if since(weight.last_updated.load(Ordering::Acquire)) >= self.config.weight_expiration_period {
            weight.non_empty_since.store(Nanos::NEVER.0, Ordering::Relaxed);
            return None;
        }
        // Nothing has passed since a time that has not come, so `NEVER` is within any blackout.
        if since(weight.non_empty_since.load(Ordering::Relaxed)) < self.config.blackout_period {
            return None;
        }
        Some(f64::from_bits(weight.value.load(Ordering::Relaxed))).filter(|&value| value > 0.0)
    }

    /// A58 `OnSubchannelBecomesReady`.
    fn connected(&self, endpoint: EndpointId) {
        if let Some(weight) = self.slots.get(endpoint.index()) {
            weight.non_empty_since.store(Nanos::NEVER.0, Ordering::Relaxed);
        }
    }

    fn forget(&self, endpoint: EndpointId) {
        if let Some(weight) = self.slots.get(endpoint.index()) {
            weight.value.store(0, Ordering::Relaxed);
        }
    }
}

/// What a report says; none if it lacks requests or utilization, or is nonsense.
#[inline]
fn weight_of(report: &LoadReport, error_utilization_penalty: f64) -> Option<f64> {
    let utilization = report.utilization();
    // Written so that NaN is no number, either.
    if !(report.rps > 0.0 && utilization > 0.0) {
        return None;
    }
    let penalty = if report.eps > 0.0 { report.eps / report.rps * error_utilization_penalty } else { 0.0 };
    let weight = report.rps / (utilization + penalty);
    (weight > 0.0 && weight.is_finite()).then_some(weight)
}

struct ClientSideWeightedRoundRobin {
    weights: Arc<Weights>,
    /// The last picker, and when its schedule is to be looked at.
    last: Option<Arc<WeightedPicker>>,
    due: Nanos,
}

impl ClientSideWeightedRoundRobin {
    fn new(config: ClientSideWeightedRoundRobinConfig) -> Self {
        let weights = Arc::new(Weights { slots: Slots::new(), config });
        Self { weights, last: None, due: Nanos::ZERO }
    }

    fn config(&self) -> &ClientSideWeightedRoundRobinConfig {
        &self.weights.config
    }

    fn next_update(&self, now: Nanos) -> Nanos {
        now + self.config().weight_update_period.max(MIN_WEIGHT_UPDATE_PERIOD)
    }

    /// The weights to schedule by.
    fn current(&self, now: Nanos, ready: &Ready<'_>) -> Vec<f64> {
        let reported: Vec<Option<f64>> = ready.iter().map(|e| self.weights.get(e.id, now)).collect();
        completed(&reported, self.config().missing_weight)
    }

    fn publish(&mut self, ready: &Ready<'_>, stride: StaticStride) -> Arc<dyn Picker> {
        self.last.insert(Arc::new(WeightedPicker { ready: ready.ids(), stride, weights: self.weights.clone() })).clone()
    }
}

/// A weight for each.
fn completed(reported: &[Option<f64>], missing: MissingWeight) -> Vec<f64> {
    let mut usable: Vec<f64> = reported.iter().copied().flatten().collect();
    // A58: "When less than two subchannels have load info, all subchannels will get the same weight".
    if usable.len() < 2 {
        return vec![1.0; reported.len()];
    }
    let missing = match missing {
        MissingWeight::Mean => mean(&usable),
        MissingWeight::Median => median(&mut usable),
    };
    reported.iter().map(|weight| weight.unwrap_or(missing)).collect()
}

/// Each is divided before it is added, so that no sum overflows.
fn mean(weights: &[f64]) -> f64 {
    weights.iter().map(|w| w / weights.len() as f64).sum()
}

fn median(weights: &mut [f64]) -> f64 {
    let middle = weights.len() / 2;
    let is_odd = weights.len() % 2 == 1;
    let (lower, &mut upper, _) = weights.select_nth_unstable_by(middle, f64::total_cmp);
    if is_odd { upper } else { mean(&[lower.iter().copied().fold(0.0, f64::max), upper]) }
}

impl PickerFactory for ClientSideWeightedRoundRobin {
    fn updated(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet, newcomers: &[EndpointId]) {
        self.weights.slots.reserve(endpoints.table_len());
        newcomers.iter().for_each(|id| self.weights.forget(*id));
    }

    fn connected(&mut self, endpoint: EndpointId) {
        self.weights.connected(endpoint);
    }

    fn over(&mut self, cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        self.due = self.next_update(cx.now);
        let stride = StaticStride::new(&self.current(cx.now, &ready), self.config().clamp, cx.rng);
        self.publish(&ready, stride)
    }

    fn tick(&mut self, cx: &mut Context<'_>, ready: Ready<'_>) -> (Option<Arc<dyn Picker>>, Option<Nanos>) {
        // One endpoint gets everything, whatever its weight.
        if ready.len() < 2 {
            return (None, None);
        }
        if cx.now < self.due {
            return (None, Some(self.due));
        }
        self.due = self.next_update(cx.now);
        // If other endpoints are ready now, a picker is made when one is asked for.
        let same = |last: &&Arc<WeightedPicker>| last.ready.iter().copied().eq(ready.iter().map(|e| e.id));
        let stride = self.last.as_ref().filter(same).and_then(|last| {
            let weights = self.current(cx.now, &ready);
            last.stride.reweighted(&weights, self.config().clamp)
        });
        (stride.map(|stride| self.publish(&ready, stride)), Some(self.due))
    }

    fn oob_reporting_period(&self) -> Option<Nanos> {
        self.config().enable_oob_load_report.then_some(self.config().oob_reporting_period)
    }

    fn load_report(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, report: &LoadReport) {
        if self.config().enable_oob_load_report {
            self.weights.report(endpoint, cx.now, report);
        }
    }

    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        Arc::new(WaitingPicker { answer, weights: self.weights.clone() })
    }
}

struct WeightedPicker {
    ready: Box<[EndpointId]>,
    stride: StaticStride,
    weights: Arc<Weights>,
}

impl Picker for WeightedPicker {
    #[inline]
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        Pick::Endpoint(self.ready[self.stride.next()])
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.weights.ended(endpoint, now, outcome);
    }
}

/// While nothing is ready: requests that were sent before still end, and bring reports.
struct WaitingPicker {
    answer: Pick,
    weights: Arc<Weights>,
}

impl Picker for WaitingPicker {
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        self.answer.clone()
    }

    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.weights.ended(endpoint, now, outcome);
    }
}

#[cfg(test)]
mod tests;
