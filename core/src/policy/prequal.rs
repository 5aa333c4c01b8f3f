//! `prequal`: endpoints are asked for their load beside the requests, and the next one goes to the one that is fast and not
//! among the fullest.
//!
//! **Solves** what a client's own requests do not tell: how busy an endpoint is with those of all others, and with whatever else
//! runs on its machine. Each request has a few endpoints asked for their requests in flight and their latency. Nothing waits
//! for the answers: they go to a pool, where they serve requests that come later.
//!
//! **Source**: Wydrowski, Kleinberg, Rumble and Archer, "Load is not what you should balance: Introducing Prequal", NSDI 2024,
//! the asynchronous mode; settings have the paper's names. An endpoint is hot if it has more requests in flight than the
//! quantile `q_rif` of what the last answers found. The choice is the endpoint of least latency that is not hot; if all are
//! hot, the one with the fewest requests. With fewer than two answers in the pool it is random. An answer is of use for
//! `max_age` and for so many requests that the pool does not run dry,
//!
//! ```text
//! b_reuse = max(1, (1 + δ) / ((1 − m/n) · r_probe − r_remove))    m slots in the pool, n endpoints
//! ```
//!
//! rounded up or down so that it is right on average. If the divisor is not above 0, which is so with 24 endpoints and the
//! paper's settings, nothing keeps the pool from running dry, and answers are used until they are too old. Whenever a request
//! is sent, its endpoint's entry counts it, and `r_remove` answers are dropped, in turn the oldest and the worst, which would
//! else be what is left. A new answer takes the place of the endpoint's last one, and in a full pool of the oldest.
//!
//! The paper rounds at random; here numbers of probes and removals are carried over from one request to the next, and what is
//! left of `b_reuse` is compared with multiples of the golden ratio, as no random stream comes with an answer. It does not
//! say how many answers make up the distribution; here it is the last 64. Not here are its synchronous mode, in which a
//! request waits for the answers to its own probes; probes while there are no requests; and its way to keep off endpoints that
//! fail fast (sinkholing). An answer without latency counts as one of no latency: nothing has ended there yet.
//!
//! **A pick costs** a look at all slots, twice, an exchange of the chosen one and of the one that is dropped, an addition on a
//! counter of requests and on one of the chosen endpoint, and a random number for each probe; an answer costs a look at all
//! slots and a quantile of 64 numbers. None of it grows with the number of endpoints. All threads of a client share the pool.
//! And there are `r_probe` messages for each request, each way.
//!
//! **How close**: shares are no aim here, as the name of the paper says.
//!
//! **Does badly** where servers report a latency that lags behind their load: those that have become idle are not chosen then.
//! It is to be what requests took that found about as many there as there are now. With 20 clients and 100 servers, 80 %
//! busy, a request takes 1.8 times its service so (3.5 with `least_request`), and 10 times if half of the latency is an
//! average of the last ones, twice as long as with `random`. Nor does it do well where answers are older than load lasts: a
//! client with less than a request a second has none that are young enough, and is `random`, as is one whose endpoints do not
//! answer. With less than one probe for a request the paper finds that tails get worse at once. With few endpoints all are
//! in every client's pool, and all clients go for the same ones. And an endpoint that fails fast is quick and has nothing in
//! flight (pair it with outlier detection).
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("prequal").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..10).map(endpoint)));
//! for i in 0..10 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! let mut slow = 0;
//! for ms in 0..1_000 {
//!     let now = Nanos::from_millis(ms);
//!     let mut cx = PickContext::new(now, &mut rng);
//!     let pick = picker.pick(&mut cx);
//!     slow += u32::from(pick == Pick::Endpoint(EndpointId(3)));
//!     // The host asks whom it is told to. Endpoint 3 is on a busy machine.
//!     for &id in cx.asks.probes() {
//!         let latency = Nanos::from_millis(if id == EndpointId(3) { 90 } else { 10 });
//!         picker.probed(id, now, &LoadReport { in_flight: Some(2), latency: Some(latency), ..LoadReport::default() });
//!     }
//! }
//! assert!(slow < 10, "a tenth would be 100");
//! ```

mod pool;
mod recent;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use self::pool::{Answer, Pool, Probe};
use self::recent::RecentRif;
use super::config::{Needs, Rule, Settings};
use super::draw::{another, below};
use super::endpoint_states::{ConnectAll, IdSet, PickerFactory, Ready};
use super::outstanding::{Outstanding, Shared, WaitingPicker};
use super::{Picker, Policy};
use crate::{Asks, Context, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick, PickContext};

/// Answers that there must be for a choice among them; with fewer it is random. NSDI 2024, §4.
const MIN_OCCUPANCY: usize = 2;

/// The largest pool. Our choice: every pick looks at all of it, and the paper finds that 16 are enough.
const MAX_POOL_SIZE: u32 = 64;

/// Settings of `prequal`, by the paper's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PrequalConfig {
    /// Endpoints asked for each request, different ones. 3, NSDI 2024 §5; at most 8, and one in two requests is 0.5.
    pub r_probe: f64,
    /// Answers dropped from the pool for each request. 1, NSDI 2024 §5.
    pub r_remove: f64,
    /// Answers in the pool, *m*. 16, NSDI 2024 §4; 2 to 64.
    pub pool_size: u32,
    /// How long an answer is of use. 1 s, NSDI 2024 §5.
    pub max_age: Nanos,
    /// δ: how much faster the pool is to fill than it is used up. 1, NSDI 2024 §5.
    pub delta: f64,
    /// The quantile of requests in flight above which an endpoint is hot: 0, the choice goes by requests in flight alone; 1, by
    /// latency alone. 2^−0.25 = 0.84, NSDI 2024 §5, which finds 0.6 to 0.9 best.
    pub q_rif: f64,
}

impl Default for PrequalConfig {
    fn default() -> Self {
        Self {
            r_probe: 3.0,
            r_remove: 1.0,
            pool_size: 16,
            max_age: Nanos::from_secs(1),
            delta: 1.0,
            q_rif: 0.840_896_415_253_714_5,
        }
    }
}

impl Settings for PrequalConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(Prequal::new(self.clone(), shared)))
    }

    fn needs(&self) -> Needs {
        Needs { oob_load: true, ..Needs::default() }
    }

    fn check(&self) -> Result<(), Rule> {
        let Self { r_probe, r_remove, pool_size, max_age: _, delta, q_rif } = *self;
        let not_between = |from: f64, to: f64, value: f64| !(value >= from && value <= to);
        let most = Asks::PROBES as f64;
        if not_between(0.0, most, r_probe) {
            return Err(Rule::broken("r_probe", r_probe, format!("between 0 and {most}")));
        }
        if not_between(0.0, f64::from(MAX_POOL_SIZE), r_remove) {
            return Err(Rule::broken("r_remove", r_remove, format!("between 0 and {MAX_POOL_SIZE}")));
        }
        if !(MIN_OCCUPANCY as u32..=MAX_POOL_SIZE).contains(&pool_size) {
            let must = format!("between {MIN_OCCUPANCY} and {MAX_POOL_SIZE}");
            return Err(Rule::broken("pool_size", pool_size, must));
        }
        if not_between(0.0, f64::MAX, delta) {
            return Err(Rule::broken("delta", delta, ">= 0"));
        }
        if not_between(0.0, 1.0, q_rif) {
            return Err(Rule::broken("q_rif", q_rif, "between 0 and 1"));
        }
        Ok(())
    }
}

impl PrequalConfig {
    /// For how many requests an answer serves on average, with `n` endpoints (NSDI 2024, equation 1).
    fn b_reuse(&self, n: usize) -> f64 {
        let growth = (1.0 - f64::from(self.pool_size) / n as f64) * self.r_probe - self.r_remove;
        if growth > 0.0 { ((1.0 + self.delta) / growth).max(1.0) } else { f64::INFINITY }
    }
}

/// A number of things for each request that need not be whole: what is over is carried to the next request.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// In 2^−32.
    fixed: u64,
}

impl Rate {
    fn new(per_request: f64) -> Self {
        Self { fixed: (per_request * (1u64 << 32) as f64) as u64 }
    }

    /// How many there have been before the `k`th request.
    ///
    /// Products wrap around as the true number would if its highest bits were cut off, so differences stay right.
    #[inline]
    fn before(self, k: u64) -> u32 {
        (k.wrapping_mul(self.fixed) >> 32) as u32
    }

    /// The numbers, counted from the first ever, of those that are for the `k`th request.
    #[inline]
    fn during(self, k: u64) -> impl Iterator<Item = u32> {
        let first = self.before(k);
        let count = self.before(k.wrapping_add(1)).wrapping_sub(first);
        (0..count).map(move |i| first.wrapping_add(i))
    }
}

/// A number of uses that need not be whole.
#[derive(Debug, Clone, Copy)]
struct Uses {
    whole: u16,
    /// In 2^−64.
    rest: u64,
}

impl Uses {
    fn new(mean: f64) -> Self {
        let mean = mean.min(f64::from(u16::MAX));
        Self { whole: mean as u16, rest: (mean.fract() * 2f64.powi(64)) as u64 }
    }

    /// For the `n`th answer. The multiples of the golden ratio, mod 1, are spread as evenly as numbers can be that are made one
    /// by one.
    #[inline]
    fn of(self, n: u64) -> u16 {
        /// 2^64 / 1.618…
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        self.whole.saturating_add(u16::from(n.wrapping_mul(GOLDEN) < self.rest))
    }
}

/// What a client knows of its endpoints: for all pickers of a policy.
#[derive(Debug)]
struct Knowledge {
    pool: Pool,
    recent: RecentRif,
    /// How many there have been. Relaxed, as they order nothing but themselves.
    requests: AtomicU64,
    answers: AtomicU64,
}

impl Knowledge {
    fn none(config: &PrequalConfig) -> Self {
        let pool = Pool::new(config.pool_size as usize);
        Self { pool, recent: RecentRif::new(config.q_rif), requests: AtomicU64::new(0), answers: AtomicU64::new(0) }
    }
}

struct Prequal {
    config: PrequalConfig,
    outstanding: Arc<Outstanding>,
    knowledge: Arc<Knowledge>,
    /// Of the last picker; none if that said that nothing is ready.
    ready: IdSet,
}

impl Prequal {
    fn new(config: PrequalConfig, shared: &Shared) -> Self {
        let knowledge = Arc::new(Knowledge::none(&config));
        Self { config, outstanding: shared.outstanding.clone(), knowledge, ready: IdSet::default() }
    }
}

impl PickerFactory for Prequal {
    fn updated(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet, newcomers: &[EndpointId]) {
        self.outstanding.reserve(endpoints);
        newcomers.iter().for_each(|id| self.ready.remove(*id));
        if !newcomers.is_empty() {
            let (pool, new) = (&self.knowledge.pool, IdSet::of(newcomers.iter().copied()));
            pool.probes().filter(|probe| new.contains(probe.answer.endpoint)).for_each(|probe| pool.discard(&probe));
        }
    }

    fn over(&mut self, _cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        let (config, ids) = (&self.config, ready.ids());
        if !ids.iter().any(|id| self.ready.contains(*id)) {
            // Nobody stays of whom anything is known.
            self.knowledge = Arc::new(Knowledge::none(config));
        }
        self.ready = IdSet::of(ids.iter().copied());
        Arc::new(PrequalPicker {
            among: self.ready.clone(),
            max_age: config.max_age,
            r_probe: Rate::new(config.r_probe),
            r_remove: Rate::new(config.r_remove),
            b_reuse: Uses::new(config.b_reuse(ids.len())),
            knowledge: self.knowledge.clone(),
            outstanding: self.outstanding.clone(),
            ready: ids,
        })
    }

    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        self.ready = IdSet::default();
        Arc::new(WaitingPicker::new(answer, self.outstanding.clone()))
    }
}

struct PrequalPicker {
    /// At least one.
    ready: Box<[EndpointId]>,
    /// The same, as a set.
    among: IdSet,
    max_age: Nanos,
    r_probe: Rate,
    r_remove: Rate,
    b_reuse: Uses,
    knowledge: Arc<Knowledge>,
    outstanding: Arc<Outstanding>,
}

impl PrequalPicker {
    #[inline]
    fn is_of_use(&self, answer: &Answer, now: Nanos) -> bool {
        now.since(answer.at) <= self.max_age && self.among.contains(answer.endpoint)
    }

    /// How many answers are of use, and the one with the lowest key.
    #[inline]
    fn lowest(&self, now: Nanos, key: impl Fn(&Probe) -> (u64, u64)) -> (usize, Option<Probe>) {
        let (mut lowest, mut found, mut occupancy) = ((u64::MAX, u64::MAX), None, 0);
        for probe in self.knowledge.pool.probes().filter(|probe| self.is_of_use(&probe.answer, now)) {
            occupancy += 1;
            let key = key(&probe);
            if found.is_none() || key < lowest {
                (lowest, found) = (key, Some(probe));
            }
        }
        (occupancy, found)
    }

    #[inline]
    fn choose(&self, hot_from: u32, cx: &mut PickContext<'_>) -> EndpointId {
        let pool = &self.knowledge.pool;
        loop {
            match self.lowest(cx.now, |probe| probe.rank(hot_from)) {
                (MIN_OCCUPANCY.., Some(best)) => {
                    if pool.spend(&best) {
                        return best.answer.endpoint;
                    }
                    // Another thread was faster; what it took counts a request more now, or is gone.
                }
                (_, only) => {
                    let endpoint = self.ready[below(cx.rng, self.ready.len())];
                    only.iter().filter(|only| only.answer.endpoint == endpoint).for_each(|only| pool.compensate(only));
                    return endpoint;
                }
            }
        }
    }

    /// Drops what is due with this request: the oldest answer and the worst, in turn.
    #[inline]
    fn remove(&self, request: u64, hot_from: u32, now: Nanos) {
        for number in self.r_remove.during(request) {
            let (_, dropped) = self.lowest(now, |probe| {
                if number % 2 == 0 {
                    (probe.answer.at.0, 0)
                } else {
                    let (first, then) = probe.rank(hot_from);
                    (!first, !then)
                }
            });
            let Some(dropped) = dropped else { return };
            self.knowledge.pool.discard(&dropped);
        }
    }

    /// Has endpoints asked for their load, different ones.
    #[inline]
    fn ask(&self, request: u64, cx: &mut PickContext<'_>) {
        let mut drawn = [0; Asks::PROBES];
        let most = drawn.len().min(self.ready.len());
        for k in (0..most).zip(self.r_probe.during(request)).map(|(k, _)| k) {
            let endpoint = self.ready[another(cx.rng, self.ready.len(), &mut drawn, k)];
            cx.asks.probe(endpoint);
        }
    }
}

impl Picker for PrequalPicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        let request = self.knowledge.requests.fetch_add(1, Ordering::Relaxed);
        let hot_from = self.knowledge.recent.hot_from();
        let endpoint = self.choose(hot_from, cx);
        self.remove(request, hot_from, cx.now);
        self.ask(request, cx);
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

    fn probed(&self, endpoint: EndpointId, now: Nanos, report: &LoadReport) {
        let Some(rif) = report.in_flight.filter(|_| self.among.contains(endpoint)) else { return };
        let Knowledge { pool, recent, answers, .. } = &*self.knowledge;
        let n = answers.fetch_add(1, Ordering::Relaxed);
        recent.saw(n, rif);
        let answer = Answer { endpoint, rif, latency: report.latency.unwrap_or(Nanos::ZERO), at: now };
        pool.insert(answer, self.b_reuse.of(n), |other| self.is_of_use(other, now));
    }
}

#[cfg(test)]
mod tests;
