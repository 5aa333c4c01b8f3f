//! `utilization_p2c`: of two endpoints drawn at random, the better by three things: requests in flight from here, how busy the
//! server says it is, and how often it failed lately. New endpoints get little until they have answered.
//!
//! **Solves** two weaknesses of `least_request`: with many balancers each sees few requests of its own, so a server that others
//! have filled looks idle (it says so itself here); and a server that rejects everything has the fewest requests of all (its
//! errors count against it). And a server that has just started is flooded because it has no requests yet.
//!
//! **Source**: Netflix, "Rethinking Netflix's Edge Load Balancing" (M. Smith, Netflix Technology Blog, September 2018). Its code
//! is not public.
//!
//! | | the article | here, where it does not say |
//! |---|---|---|
//! | choice | two servers, compared by the sum of three scores | drawn without replacement; of equals the first drawn |
//! | client utilization | requests in flight from this balancer; it comes first | as a part of the larger of the two; weight 1 |
//! | server utilization | the last that the server said in a response header, `X-Netflix.server.utilization`, its requests in flight in percent of its maximum; it comes second | [`LoadReport::utilization`](crate::LoadReport::utilization) of a response's trailer, 0 where none came; weight 1 |
//! | client health | rolling percentage of connection-related errors | an average in which each response counts a tenth; `error_codes`; weight 1 |
//! | filtering | N draws for a server below conservative thresholds of utilization and health, else one above | N = 5, thresholds 0.9 and 0.5; if one of the two is below, it is taken |
//! | probation | before its first response a server gets one request at a time, by the same filter | |
//! | warm-up | progressively more in a server's first 90 s | drawn in vain with odds 1 − age/90 s, by the same filter; age counts from the snapshot that brings it; where nobody stays from the one before, all are warm |
//! | decay | all that is remembered decays linearly to 0 over 30 s | counted from the last response or report |
//!
//! The article's optional `target` utilization, which a server may set as its own threshold, is not here.
//!
//! **A pick costs** two random numbers and eight loads, more only for draws that the filter rejects (at most 5 for each of
//! the two); and an addition on a counter of the chosen endpoint. Its end costs up to three atomic exchanges.
//!
//! **How close**: while nothing ends, as close as `least_request`: the gap between the fullest and the emptiest is O(log n).
//! Weights are ignored.
//!
//! **Does badly** with reports that lag: Netflix tried the processor's utilization and load average, and found oscillations,
//! as these are averages over time; it wants requests in flight. And where each balancer sends a server less than a few requests
//! in 30 s, what is remembered is gone before it is used.
//!
//! ```
//! use lb_core::{Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("utilization_p2c").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..2).map(endpoint)));
//! for i in 0..2 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! // One request at a time; other balancers keep endpoint 0 at 80 %.
//! let mut counts = [0; 2];
//! for _ in 0..100 {
//!     if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
//!         let load = LoadReport { application_utilization: [0.8, 0.2][id.index()], ..Default::default() };
//!         picker.done(id, Nanos::ZERO, &Outcome::new(Code::Ok, Nanos::from_millis(5)).with_load(load));
//!         counts[id.index()] += 1;
//!     }
//! }
//! assert!(counts[0] <= 1, "{counts:?}");
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::config::{Needs, Rule, Settings};
use super::draw::{below, open_unit};
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::{Outstanding, Shared};
use super::{Picker, Policy};
use crate::slots::Slots;
use crate::{Code, Codes, Context, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// Settings of `utilization_p2c`. "Netflix" is the article; it has no names for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UtilizationP2cConfig {
    /// What the requests in flight from here count, as a part of the larger of the two. 1, our choice.
    pub client_utilization_weight: f64,
    /// What counts the utilization that the server reported. 1, our choice: two requests against one outweigh a difference of
    /// less than 50 %, and ten against nine one of less than 10 %.
    pub server_utilization_weight: f64,
    /// What counts the part of responses that were errors. 1, our choice.
    pub client_health_weight: f64,
    /// Which errors count. UNAVAILABLE (our choice): Netflix counts those of the connection.
    pub error_codes: Vec<Code>,
    /// An endpoint that reports more is avoided. 0.9, our choice.
    pub max_utilization: f64,
    /// An endpoint of whose responses more are errors is avoided. 0.5, our choice.
    pub max_error_rate: f64,
    /// How many draws there are for an endpoint that need not be avoided, at least 1. 5, our choice of Netflix' N: with half of
    /// all to be avoided, one in 32 picks of a candidate finds none.
    pub filter_attempts: u32,
    /// Requests in flight to an endpoint that has not answered yet; at least 1. 1, Netflix.
    pub probation_requests: u32,
    /// How long a new endpoint is drawn less. 90 s, Netflix; "0s" for not at all.
    pub warm_up: Nanos,
    /// How long it takes until nothing is left of what was reported or went wrong. 30 s, Netflix.
    pub decay: Nanos,
}

impl Default for UtilizationP2cConfig {
    fn default() -> Self {
        Self {
            client_utilization_weight: 1.0,
            server_utilization_weight: 1.0,
            client_health_weight: 1.0,
            error_codes: vec![Code::Unavailable],
            max_utilization: 0.9,
            max_error_rate: 0.5,
            filter_attempts: 5,
            probation_requests: 1,
            warm_up: Nanos::from_secs(90),
            decay: Nanos::from_secs(30),
        }
    }
}

impl Settings for UtilizationP2cConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(UtilizationP2c::new(self, shared)))
    }

    fn check(&self) -> Result<(), Rule> {
        let numbers = [
            ("client_utilization_weight", self.client_utilization_weight),
            ("server_utilization_weight", self.server_utilization_weight),
            ("client_health_weight", self.client_health_weight),
            ("max_utilization", self.max_utilization),
            ("max_error_rate", self.max_error_rate),
        ];
        if let Some((field, value)) = numbers.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            return Err(Rule::broken(field, value, ">= 0"));
        }
        let counts = [("filter_attempts", self.filter_attempts), ("probation_requests", self.probation_requests)];
        if let Some((field, value)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err(Rule::broken(field, value, ">= 1"));
        }
        if self.decay == Nanos::ZERO {
            return Err(Rule::broken("decay", self.decay, "> 0s"));
        }
        Ok(())
    }

    fn needs(&self) -> Needs {
        Needs { load: true, ..Needs::default() }
    }
}

/// What a response counts in the rolling percentage of errors: our choice, a half is reached after seven in a row.
const ERROR_SHARE: f32 = 0.1;

/// A number that decays linearly to 0, and the time it is from, in one word: who reads the one reads the other.
#[derive(Debug, Default)]
struct Decaying(AtomicU64);

impl Decaying {
    /// Time is kept in units of 2^24 ns = 16.8 ms, modulo 2^32: a number is taken for one of the future, and so for a new
    /// one, if nobody renews it for 1.1 years.
    const TICK: u32 = 24;

    fn pack(value: f32, now: Nanos) -> u64 {
        u64::from(value.to_bits()) << 32 | now.0 >> Self::TICK & 0xffff_ffff
    }

    /// What is left of a packed number. `per_tick` is the part that decays in a unit of time.
    #[inline]
    fn unpack(packed: u64, now: Nanos, per_tick: f32) -> f32 {
        let elapsed = ((now.0 >> Self::TICK) as u32).wrapping_sub(packed as u32) as i32;
        f32::from_bits((packed >> 32) as u32) * (1.0 - elapsed.max(0) as f32 * per_tick).max(0.0)
    }

    /// Relaxed here and below: an estimate that orders nothing.
    #[inline]
    fn get(&self, now: Nanos, per_tick: f32) -> f32 {
        Self::unpack(self.0.load(Ordering::Relaxed), now, per_tick)
    }

    fn set(&self, value: f32, now: Nanos) {
        self.0.store(Self::pack(value, now), Ordering::Relaxed);
    }

    /// Moves what is left by this part towards `value`.
    #[inline]
    fn mix(&self, value: f32, part: f32, now: Nanos, per_tick: f32) {
        let mixed = |packed| {
            let left = Self::unpack(packed, now, per_tick);
            Some(Self::pack(left + part * (value - left), now))
        };
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mixed);
    }
}

/// What is known of one endpoint.
#[derive(Debug, Default)]
struct Server {
    error_rate: Decaying,
    utilization: Decaying,
    /// There was a response: no probation any more.
    answered: AtomicBool,
    /// When the warm-up is over, in nanoseconds of the host's clock.
    warm_at: AtomicU64,
}

/// What is known of every endpoint, and the rules: one for all pickers of a policy.
struct Servers {
    slots: Slots<Server>,
    outstanding: Arc<Outstanding>,
    config: UtilizationP2cConfig,
    errors: Codes,
    /// The part of a number that decays in a [unit of time](Decaying::TICK).
    per_tick: f32,
}

/// An endpoint that was drawn.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    index: usize,
    endpoint: EndpointId,
    viable: bool,
    in_flight: u32,
    /// What counts against it besides.
    strain: f64,
}

impl Servers {
    #[inline]
    fn look(&self, index: usize, endpoint: EndpointId, cx: &mut PickContext<'_>) -> Candidate {
        let in_flight = self.outstanding.get(endpoint);
        let Some(server) = self.slots.get(endpoint.index()) else {
            return Candidate { index, endpoint, viable: false, in_flight, strain: 0.0 };
        };
        let config = &self.config;
        let error_rate = f64::from(server.error_rate.get(cx.now, self.per_tick));
        let utilization = f64::from(server.utilization.get(cx.now, self.per_tick));
        let viable = error_rate <= config.max_error_rate
            && utilization <= config.max_utilization
            && (in_flight < config.probation_requests || server.answered.load(Ordering::Relaxed))
            && self.is_warm(server, cx);
        let strain = config.client_health_weight * error_rate + config.server_utilization_weight * utilization;
        Candidate { index, endpoint, viable, in_flight, strain }
    }

    /// Whether it is drawn in earnest: with odds of its age in warm-ups.
    #[inline]
    fn is_warm(&self, server: &Server, cx: &mut PickContext<'_>) -> bool {
        let left = Nanos(server.warm_at.load(Ordering::Relaxed)).since(cx.now);
        left == Nanos::ZERO || open_unit(cx.rng) * self.config.warm_up.0 as f64 > left.0 as f64
    }

    /// The better of two.
    #[inline]
    fn better(&self, a: Candidate, b: Candidate) -> EndpointId {
        if a.viable != b.viable {
            return if a.viable { a.endpoint } else { b.endpoint };
        }
        let most = f64::from(a.in_flight.max(b.in_flight).max(1));
        let score = |c: Candidate| self.config.client_utilization_weight * (f64::from(c.in_flight) / most) + c.strain;
        if score(b) < score(a) { b.endpoint } else { a.endpoint }
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.outstanding.done(endpoint);
        let Some(server) = self.slots.get(endpoint.index()) else { return };
        let is_error = self.errors.contains(outcome.code);
        server.error_rate.mix(if is_error { 1.0 } else { 0.0 }, ERROR_SHARE, now, self.per_tick);
        // A client makes these two itself when it has waited in vain: they are no response, as an error of the connection is none.
        if !is_error && !matches!(outcome.code, Code::DeadlineExceeded | Code::Cancelled) {
            server.answered.store(true, Ordering::Relaxed);
        }
        // Nonsense is no report; what is too large for 32 bits is as busy as can be.
        let reported = outcome.load.map(|load| load.utilization()).filter(|utilization| *utilization >= 0.0);
        if let Some(utilization) = reported {
            server.utilization.set(utilization.min(f64::from(f32::MAX)) as f32, now);
        }
    }
}

struct UtilizationP2c {
    servers: Arc<Servers>,
}

impl UtilizationP2c {
    fn new(config: &UtilizationP2cConfig, shared: &Shared) -> Self {
        let servers = Servers {
            slots: Slots::new(),
            outstanding: shared.outstanding.clone(),
            errors: Codes::of(&config.error_codes),
            per_tick: ((1u64 << Decaying::TICK) as f64 / config.decay.0 as f64) as f32,
            config: config.clone(),
        };
        Self { servers: Arc::new(servers) }
    }
}

impl PickerFactory for UtilizationP2c {
    fn updated(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet, newcomers: &[EndpointId]) {
        self.servers.outstanding.reserve(endpoints);
        self.servers.slots.reserve(endpoints.table_len());
        // Nobody stays who could take what these are spared.
        let alone = newcomers.len() == endpoints.len();
        let warm_at = if alone { Nanos::ZERO } else { cx.now + self.servers.config.warm_up };
        for server in newcomers.iter().filter_map(|id| self.servers.slots.get(id.index())) {
            server.error_rate.set(0.0, cx.now);
            server.utilization.set(0.0, cx.now);
            server.answered.store(false, Ordering::Relaxed);
            server.warm_at.store(warm_at.0, Ordering::Relaxed);
        }
    }

    fn over(&mut self, _cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        Arc::new(UtilizationP2cPicker { ready: ready.ids(), servers: self.servers.clone() })
    }

    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        Arc::new(WaitingPicker { answer, servers: self.servers.clone() })
    }
}

struct UtilizationP2cPicker {
    /// At least one.
    ready: Box<[EndpointId]>,
    servers: Arc<Servers>,
}

impl UtilizationP2cPicker {
    /// One that is viable, or the last that was drawn, and not the one at `other`.
    #[inline]
    fn candidate(&self, other: Option<usize>, cx: &mut PickContext<'_>) -> Candidate {
        let mut attempts = self.servers.config.filter_attempts;
        loop {
            let mut index = below(cx.rng, self.ready.len() - usize::from(other.is_some()));
            index += usize::from(other.is_some_and(|other| index >= other));
            let candidate = self.servers.look(index, self.ready[index], cx);
            attempts = attempts.saturating_sub(1);
            if candidate.viable || attempts == 0 {
                return candidate;
            }
        }
    }
}

impl Picker for UtilizationP2cPicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        let best = if let [only] = *self.ready {
            only
        } else {
            let first = self.candidate(None, cx);
            let second = self.candidate(Some(first.index), cx);
            self.servers.better(first, second)
        };
        self.servers.outstanding.started(best);
        Pick::Endpoint(best)
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.servers.outstanding.started(endpoint);
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.servers.done(endpoint, now, outcome);
    }
}

/// While nothing is ready: requests that were sent before still end, and say something.
struct WaitingPicker {
    answer: Pick,
    servers: Arc<Servers>,
}

impl Picker for WaitingPicker {
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        self.answer.clone()
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.servers.outstanding.started(endpoint);
    }

    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.servers.done(endpoint, now, outcome);
    }
}

#[cfg(test)]
mod tests;
