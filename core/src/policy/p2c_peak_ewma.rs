//! `p2c_peak_ewma`: of two endpoints drawn at random, the one whose next request should be over first, by its latency.
//!
//! **Solves** what `least_request` cannot see when a client has few requests: a slow endpoint with none of its requests
//! outstanding looks as idle as a fast one. Here it is remembered: the cost of an endpoint is
//!
//! ```text
//! cost = rtt · (pending + 1)
//! rtt  = sample                                    if the sample is slower (the peak)
//!        rtt · e^(−Δt/τ) + sample · (1 − e^(−Δt/τ)) if it is faster, Δt after the last sample
//! ```
//!
//! and where no sample comes, `rtt · e^(−Δt/τ)`: an endpoint that nobody picks is tried again after a while.
//!
//! **Source**: Finagle's `PeakEwma`, tower's `load::PeakEwma`, Linkerd's proxy. These write what a read decays to back under
//! a lock, and mix a faster sample with that; here a read writes nothing, and a sample is mixed with the average as the last
//! sample left it. Between samples the costs are the same, as e^(−a) · e^(−b) = e^(−(a + b)). Exponentials are within
//! 5 · 10^−7 of the true ones, so two endpoints are compared as the formula says unless their costs are as close as that.
//!
//! **A pick costs** two random numbers, an exponential (of the time between the last samples of the two, as what has passed
//! since is the same for both) and an addition on a counter of the chosen endpoint; its end an exponential and two atomic
//! exchanges. No lock.
//!
//! **Does badly** with an endpoint that fails fast: its latency is the best of all (pair it with outlier detection). Where
//! latencies vary by themselves, one slow request costs a good endpoint its share for a time of τ, so the load is less even
//! than `least_request`'s; and it takes an endpoint's recovery as slowly as τ says.
//!
//! ```
//! use lb_core::{Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("p2c_peak_ewma").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..2).map(endpoint)));
//! for i in 0..2 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! // One request at a time; endpoint 0 takes 100 ms, endpoint 1 takes 5 ms.
//! let mut counts = [0; 2];
//! for i in 0..100 {
//!     let now = Nanos::from_millis(100 * i);
//!     if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(now, &mut rng)) {
//!         let latency = Nanos::from_millis([100, 5][id.index()]);
//!         picker.done(id, now + latency, &Outcome::new(Code::Ok, latency));
//!         counts[id.index()] += 1;
//!     }
//! }
//! assert_eq!(counts, [1, 99]);
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::config::{Rule, Settings};
use super::draw::below;
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::{Outstanding, Shared};
use super::{Picker, Policy};
use crate::slots::Slots;
use crate::{Context, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// Added to the cost of an endpoint of which nothing is known but that it has not answered yet. As in Finagle's
/// `PeakEwma`, `Long.MaxValue >> 16` (39 hours in nanoseconds): above any latency, and still told apart by what is pending.
const PENALTY: f64 = (i64::MAX >> 16) as f64;

/// Settings of `p2c_peak_ewma`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct P2cPeakEwmaConfig {
    /// τ: an average that nothing renews falls to 37 % in this time; longer than nothing, as an average that is forgotten at
    /// once is none. 10 s, Linkerd and Finagle's `decayTime`.
    pub decay: Nanos,
    /// What a new endpoint's latency is taken to be; it decays like a sample. 30 ms, Linkerd. "0s" is Finagle's way: a new
    /// endpoint costs nothing until it has a request, and then more than any other until it answers.
    pub default_rtt: Nanos,
}

impl Default for P2cPeakEwmaConfig {
    fn default() -> Self {
        Self { decay: Nanos::from_secs(10), default_rtt: Nanos::from_millis(30) }
    }
}

impl Settings for P2cPeakEwmaConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(P2cPeakEwma {
            estimates: Arc::new(Estimates::new(self.decay, shared.outstanding.clone())),
            default_rtt: self.default_rtt,
        }))
    }

    fn check(&self) -> Result<(), Rule> {
        if self.decay == Nanos::ZERO { Err(Rule::broken("decay", self.decay, "> 0s")) } else { Ok(()) }
    }
}

/// The average of one endpoint's latency.
#[derive(Debug, Default)]
struct Estimate {
    /// Nanoseconds, as the bits of an `f64`.
    rtt: AtomicU64,
    /// When that was so, in nanoseconds of the host's clock.
    at: AtomicU64,
}

/// What one endpoint's next request will take.
#[derive(Debug, Clone, Copy)]
struct Load {
    rtt_ns: f64,
    /// When that was so.
    at: Nanos,
    pending: f64,
}

/// What is known of every endpoint: one table for all pickers of a policy.
#[derive(Debug)]
struct Estimates {
    slots: Slots<Estimate>,
    pending: Arc<Outstanding>,
    per_tau: PerTau,
}

impl Estimates {
    fn new(tau: Nanos, pending: Arc<Outstanding>) -> Self {
        Self { slots: Slots::new(), pending, per_tau: PerTau(1.0 / tau.0 as f64) }
    }

    /// An endpoint of which nothing is known yet.
    fn reset(&self, endpoint: EndpointId, now: Nanos, default_rtt: Nanos) {
        if let Some(estimate) = self.slots.get(endpoint.index()) {
            estimate.at.store(now.0, Ordering::Relaxed);
            estimate.rtt.store((default_rtt.0 as f64).to_bits(), Ordering::Release);
        }
    }

    #[inline]
    fn load(&self, endpoint: EndpointId) -> Load {
        let (mut rtt_ns, mut at) = (0.0, Nanos::ZERO);
        if let Some(estimate) = self.slots.get(endpoint.index()) {
            // Acquire, and the average first: who sees a new average sees its time, too. The other way round a fresh peak
            // could be taken for one that an hour has worn away.
            rtt_ns = f64::from_bits(estimate.rtt.load(Ordering::Acquire));
            at = Nanos(estimate.at.load(Ordering::Relaxed));
        }
        Load { rtt_ns, at, pending: f64::from(self.pending.get(endpoint)) }
    }

    /// Whether a request costs less at `a` than at `b`.
    ///
    /// At the time of the later sample of the two: until now both have fallen by the same factor since.
    #[inline]
    fn cheaper(&self, a: EndpointId, b: EndpointId) -> bool {
        let (a, b) = (self.load(a), self.load(b));
        let then = a.at.max(b.at);
        a.cost(then, self.per_tau) < b.cost(then, self.per_tau)
    }

    /// A request was over after this time.
    #[inline]
    fn sampled(&self, endpoint: EndpointId, now: Nanos, latency: Nanos) {
        self.pending.done(endpoint);
        let Some(estimate) = self.slots.get(endpoint.index()) else { return };
        let sample = latency.0 as f64;
        // Not an exchange, which would cost as much as all the arithmetic: of samples at the same time on several threads
        // each may count the time since the last, and the average is mixed more than once for it.
        let last = Nanos(estimate.at.load(Ordering::Relaxed));
        if now > last {
            estimate.at.store(now.0, Ordering::Relaxed);
        }
        let mixed = |bits| {
            let rtt = f64::from_bits(bits);
            let keep = || self.per_tau.decay(now.since(last));
            Some(if sample > rtt { sample } else { sample + (rtt - sample) * keep() }.to_bits())
        };
        // Repeated if another sample came between, so that no peak is lost; Release for the time above.
        let _ = estimate.rtt.fetch_update(Ordering::Release, Ordering::Relaxed, mixed);
    }
}

impl Load {
    /// In nanoseconds; the lower, the better.
    #[inline]
    fn cost(self, now: Nanos, per_tau: PerTau) -> f64 {
        let Self { rtt_ns, at, pending } = self;
        if rtt_ns == 0.0 && pending > 0.0 {
            return PENALTY + pending;
        }
        rtt_ns * per_tau.decay(now.since(at)) * (pending + 1.0)
    }
}

/// 1/τ, in 1/ns.
#[derive(Debug, Clone, Copy)]
struct PerTau(f64);

impl PerTau {
    /// What an average is worth after this time.
    #[inline]
    fn decay(self, elapsed: Nanos) -> f64 {
        // By way of a signed integer, which a processor converts in one step; the bound is 292 years.
        exp_minus(elapsed.0.min(i64::MAX as u64) as i64 as f64 * self.0)
    }
}

/// e^−x for x ≥ 0, within 5 · 10^−7 of it.
///
/// Averages are mostly younger than a quarter of τ, and that far six terms of the series do, in a quarter of the time: the
/// terms left out begin with 0.25^6 / 6! = 3.4 · 10^−7, which is 4.4 · 10^−7 of e^−0.25. The same on every machine, as libm's.
#[inline]
fn exp_minus(x: f64) -> f64 {
    if x < 0.25 {
        let xx = x * x;
        (1.0 - x) + xx * ((1.0 / 2.0 - x * (1.0 / 6.0)) + xx * (1.0 / 24.0 - x * (1.0 / 120.0)))
    } else {
        libm::exp(-x)
    }
}

struct P2cPeakEwma {
    estimates: Arc<Estimates>,
    default_rtt: Nanos,
}

impl PickerFactory for P2cPeakEwma {
    fn updated(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet, newcomers: &[EndpointId]) {
        self.estimates.pending.reserve(endpoints);
        self.estimates.slots.reserve(endpoints.table_len());
        for &newcomer in newcomers {
            self.estimates.reset(newcomer, cx.now, self.default_rtt);
        }
    }

    fn over(&mut self, _cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        Arc::new(P2cPeakEwmaPicker { ready: ready.ids(), estimates: self.estimates.clone() })
    }

    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        Arc::new(WaitingPicker { answer, estimates: self.estimates.clone() })
    }
}

struct P2cPeakEwmaPicker {
    /// At least one.
    ready: Box<[EndpointId]>,
    estimates: Arc<Estimates>,
}

impl Picker for P2cPeakEwmaPicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        let len = self.ready.len();
        let mut best = self.ready[0];
        if len > 1 {
            // Two different ones, as in Finagle and tower: the second draw steps over the first.
            let first = below(cx.rng, len);
            let second = below(cx.rng, len - 1);
            let second = second + usize::from(second >= first);
            let (a, b) = (self.ready[first], self.ready[second]);
            best = if self.estimates.cheaper(b, a) { b } else { a };
        }
        self.estimates.pending.started(best);
        Pick::Endpoint(best)
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.estimates.pending.started(endpoint);
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.estimates.sampled(endpoint, now, outcome.latency);
    }
}

/// While nothing is ready: requests that were sent before still end, and are samples.
struct WaitingPicker {
    answer: Pick,
    estimates: Arc<Estimates>,
}

impl Picker for WaitingPicker {
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        self.answer.clone()
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.estimates.pending.started(endpoint);
    }

    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.estimates.sampled(endpoint, now, outcome.latency);
    }
}

#[cfg(test)]
mod tests;
