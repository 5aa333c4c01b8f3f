//! `adaptive_throttle`: around a child policy; a client that sees its requests rejected sends fewer, and turns the rest away
//! itself.
//!
//! **Solves** the cost of refusing: a backend that is overloaded spends, on each request that it rejects, work that it lacks for
//! those it accepts, until it does nothing but reject. Here a request is turned away before it is sent, with probability
//!
//! ```text
//! p = max(0, (requests − K · accepts) / (requests + padding))     over the last 30 s; requests = accepts + rejected
//! ```
//!
//! so that about K times as many are sent as are accepted. With K = 2 a backend rejects one for each that it accepts,
//! and it is known soon when it accepts more.
//!
//! **Source**: Google's SRE book, chapter 21 "Handling Overload", "Client-Side Throttling"; gRPC's throttler of requests to the
//! route lookup service (grpc-go `balancer/rls/internal/adaptive`; C-core's `rls.cc` has the same numbers). Both count a request
//! that was turned away here as one that was rejected. What differs:
//!
//! * The book takes two minutes for the window and 1 for the padding; here these are gRPC's.
//! * The book counts a request when it is made, gRPC and this when it has ended: one that hangs says nothing yet.
//! * The book counts as rejected what the backend says it rejects; gRPC, every error; here, the codes in `rejected_codes`.
//! * Who is turned away fails with UNAVAILABLE, as in gRPC (the book names no code), and also if it would wait for an endpoint to
//!   be ready: it was shed on purpose.
//!
//! **A pick costs**, besides the child's, a division and two loads; a random number, and an addition if it is turned away, only
//! while p is above 0. Its end costs a division, an addition and an exchange. All threads share the sums. When a bin is over
//! (every 300 ms), one pick or end clears those that have left the window, at most 100.
//!
//! **How close**: p is exact for what has been counted. Who reads the sums while another thread clears a bin may find its counts
//! still there, or gone. A request that ends while its bin is recycled may be left out.
//!
//! **Does badly** with few requests: below about `padding` rejections in 30 s hardly anything is turned away. Each client
//! judges by its own requests and for all endpoints alike: one endpoint that rejects everything, of ten, makes 10 % of requests
//! rejected, which K = 2 allows; if more do so, the good ones lose requests, too (pair it with outlier detection). A request that
//! waits for an endpoint is judged anew each time that it asks.
//!
//! ```
//! use lb_core::{Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("adaptive_throttle").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! policy.update(&mut cx, &EndpointSet::new([Endpoint::new(EndpointId(0), Address::new("10.0.0.1:80"))]));
//! policy.connectivity(&mut cx, EndpointId(0), Connectivity::Ready);
//! let picker = policy.picker(&mut cx);
//! // 100 requests a second arrive; the backend takes 20 and rejects the rest at once.
//! let (mut sent, mut taken) = (0, 0);
//! for i in 0..6_000 {
//!     let now = Nanos::from_millis(10 * i);
//!     taken = if i % 100 == 0 { 0 } else { taken };
//!     if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(now, &mut rng)) {
//!         let code = if taken < 20 { Code::Ok } else { Code::ResourceExhausted };
//!         taken += 1;
//!         picker.done(id, now, &Outcome::new(code, Nanos::ZERO));
//!         sent += u32::from(i >= 3_000);
//!     }
//! }
//! // In the second half minute 600 of 3,000 are accepted: p = (3,000 − 2 · 600) / 3,008, and 1,205 are sent.
//! assert!((1_100..1_300).contains(&sent), "{sent}");
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::around::{Around, Wrap};
use super::config::{Rule, Settings};
use super::draw::open_unit;
use super::outstanding::Shared;
use super::{Picker, Policy, PolicyConfig};
use crate::{Code, Codes, EndpointId, Nanos, Outcome, Pick, PickContext, Status};

/// Settings of `adaptive_throttle`. Names and defaults are grpc-go's, `balancer/rls/internal/adaptive`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AdaptiveThrottleConfig {
    /// How far back requests count. 30 s, `defaultDuration`; the SRE book: two minutes.
    pub duration: Nanos,
    /// In how many steps the past is forgotten, 1 to 256. 100, `defaultBins`.
    pub bins: u32,
    /// K: how many times as many requests are sent as are accepted; at least 1. 2.0, `defaultRatioForAccepts` and the SRE book.
    pub ratio_for_accepts: f64,
    /// Requests that are added to the denominator, so that few don't count much. 8, `defaultRequestsPadding`; the SRE book: 1.
    pub requests_padding: f64,
    /// What a backend that rejects a request answers. UNAVAILABLE and RESOURCE_EXHAUSTED (our choice).
    pub rejected_codes: Vec<Code>,
    /// Who chooses. `round_robin` by default (our choice, as for `circuit_breaker`).
    pub child_policy: Box<PolicyConfig>,
}

impl Default for AdaptiveThrottleConfig {
    fn default() -> Self {
        Self {
            duration: Nanos::from_secs(30),
            bins: 100,
            ratio_for_accepts: 2.0,
            requests_padding: 8.0,
            rejected_codes: vec![Code::Unavailable, Code::ResourceExhausted],
            child_policy: Box::new(PolicyConfig::RoundRobin(Default::default())),
        }
    }
}

impl Settings for AdaptiveThrottleConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(Around::new(Arc::new(Throttler::new(self)), self.child_policy.build_with(shared)))
    }

    fn check(&self) -> Result<(), Rule> {
        if self.duration == Nanos::ZERO {
            return Err(Rule::broken("duration", self.duration, "> 0s"));
        }
        if !(1..=Bin::MOST).contains(&self.bins) {
            return Err(Rule::broken("bins", self.bins, format!("1 to {}", Bin::MOST)));
        }
        if !(self.ratio_for_accepts >= 1.0 && self.ratio_for_accepts.is_finite()) {
            return Err(Rule::broken("ratio_for_accepts", self.ratio_for_accepts, ">= 1"));
        }
        if !(self.requests_padding >= 0.0 && self.requests_padding.is_finite()) {
            return Err(Rule::broken("requests_padding", self.requests_padding, ">= 0"));
        }
        Ok(())
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }
}

/// How a request ended, as the window counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Accepted,
    Rejected,
}

/// Counts of the last while, that many threads add to and read without a lock.
///
/// Time is cut into bins of equal width, and the bins that the window covers lie on a ring. Their sum is kept, so that a read
/// need not add them up. A bin carries the lap of the ring that it counts, by which the first to add to it in the next lap
/// sees that it is old, takes what is in it out of the sum, and begins anew; the first to come when a bin is over does so for
/// those that nobody has added to.
///
/// Whoever adds, adds to the sum before it adds to the bin. So a bin that is taken out of the sum holds nothing that is not in it
/// already, and the sum never falls below zero: the addition to a bin is a Release, and who takes it out Acquires it. The rest is
/// Relaxed.
#[derive(Debug)]
struct Lookback {
    /// Of a bin, in nanoseconds.
    width: u64,
    /// The latest bin: time by width.
    head: AtomicU64,
    /// Accepted in the lower half, rejected in the upper.
    sum: AtomicU64,
    /// [`Bin`]s.
    ring: Box<[AtomicU64]>,
}

/// A lap, modulo 2^16, and two counts of 24 bits: a bin of 300 ms is full at 56 million a second, and counts no further.
///
/// What a bin holds is taken for new if it is 65,535 or 65,536 laps old, 22 days with a window of 30 s, and nobody has asked
/// anything in between: then it counts once more, for the length of a window.
#[derive(Debug, Clone, Copy)]
struct Bin(u64);

impl Bin {
    const COUNT: u32 = 24;
    const FULL: u64 = (1 << Self::COUNT) - 1;
    /// As many full ones fit into the 32 bits of a sum.
    const MOST: u32 = 1 << (32 - Self::COUNT);

    fn empty(lap: u64) -> Self {
        Self(lap << (2 * Self::COUNT))
    }

    fn is_of(self, lap: u64) -> bool {
        self.0 >> (2 * Self::COUNT) == lap & 0xffff
    }

    fn accepted(self) -> u64 {
        self.0 & Self::FULL
    }

    fn rejected(self) -> u64 {
        self.0 >> Self::COUNT & Self::FULL
    }

    /// With one more; none if there is no room for it.
    fn plus(self, ended: Ended) -> Option<Self> {
        let (count, unit) = match ended {
            Ended::Accepted => (self.accepted(), 1),
            Ended::Rejected => (self.rejected(), 1 << Self::COUNT),
        };
        (count < Self::FULL).then(|| Self(self.0 + unit))
    }

    /// Its counts as in the sum.
    fn counts(self) -> u64 {
        self.rejected() << 32 | self.accepted()
    }
}

impl Lookback {
    fn new(duration: Nanos, bins: u32) -> Self {
        let bins = u64::from(bins.max(1));
        let ring = (0..bins).map(|_| AtomicU64::new(0)).collect();
        Self { width: (duration.0 / bins).max(1), head: AtomicU64::new(0), sum: AtomicU64::new(0), ring }
    }

    fn bins(&self) -> u64 {
        self.ring.len() as u64
    }

    /// The bin of `now`, after those that have left the window by then are out of the sum.
    #[inline]
    fn advance(&self, now: Nanos) -> u64 {
        let bin = now.0 / self.width;
        if bin > self.head.load(Ordering::Relaxed) {
            let before = self.head.fetch_max(bin, Ordering::Relaxed);
            if before < bin {
                // The ring has a bin for each of these once.
                let first = (before + 1).max(bin.saturating_sub(self.bins() - 1));
                (first..=bin).for_each(|b| self.clear(b));
            }
        }
        bin
    }

    /// Makes the place of this bin its own, if it is that of another lap. But not if it is that of the next: then this thread is
    /// late. (If it is later still, it takes the place all the same, and some counts are lost.)
    fn clear(&self, bin: u64) {
        let (lap, place) = (bin / self.bins(), &self.ring[(bin % self.bins()) as usize]);
        let recycled = place.fetch_update(Ordering::Acquire, Ordering::Relaxed, |bits| {
            let is_other = !Bin(bits).is_of(lap) && !Bin(bits).is_of(lap.wrapping_add(1));
            is_other.then(|| Bin::empty(lap).0)
        });
        if let Ok(old) = recycled {
            self.sum.fetch_sub(Bin(old).counts(), Ordering::Relaxed);
        }
    }

    /// Counts one. One from before the window is not counted.
    fn add(&self, now: Nanos, ended: Ended) {
        let bin = self.advance(now);
        if self.head.load(Ordering::Relaxed).saturating_sub(bin) >= self.bins() {
            return;
        }
        // In case that whoever moved the head has not come to this bin yet.
        self.clear(bin);
        let unit = match ended {
            Ended::Accepted => 1,
            Ended::Rejected => 1 << 32,
        };
        self.sum.fetch_add(unit, Ordering::Relaxed);
        let (lap, place) = (bin / self.bins(), &self.ring[(bin % self.bins()) as usize]);
        let counted = place.fetch_update(Ordering::Release, Ordering::Relaxed, |bits| {
            let bin = Bin(bits);
            if bin.is_of(lap) { bin.plus(ended).map(|bin| bin.0) } else { None }
        });
        // Full, or recycled in between.
        if counted.is_err() {
            self.sum.fetch_sub(unit, Ordering::Relaxed);
        }
    }

    /// Accepted and rejected.
    #[inline]
    fn sums(&self, now: Nanos) -> (u32, u32) {
        self.advance(now);
        let sum = self.sum.load(Ordering::Relaxed);
        (sum as u32, (sum >> 32) as u32)
    }
}

/// gRPC's throttler.
#[derive(Debug)]
struct Throttler {
    lookback: Lookback,
    ratio_for_accepts: f64,
    requests_padding: f64,
    rejected: Codes,
}

impl Throttler {
    fn new(config: &AdaptiveThrottleConfig) -> Self {
        Self {
            lookback: Lookback::new(config.duration, config.bins),
            ratio_for_accepts: config.ratio_for_accepts,
            requests_padding: config.requests_padding,
            rejected: Codes::of(&config.rejected_codes),
        }
    }

    /// p.
    #[inline]
    fn probability(&self, now: Nanos) -> f64 {
        let (accepts, rejected) = self.lookback.sums(now);
        let requests = f64::from(accepts) + f64::from(rejected);
        let excess = requests - self.ratio_for_accepts * f64::from(accepts);
        // With no padding and no requests it would be 0/0.
        if excess > 0.0 { excess / (requests + self.requests_padding) } else { 0.0 }
    }

    /// Whether a request is turned away; if so, it counts as rejected.
    #[inline]
    fn should_throttle(&self, cx: &mut PickContext<'_>) -> bool {
        let probability = self.probability(cx.now);
        if probability == 0.0 || open_unit(cx.rng) >= probability {
            return false;
        }
        self.lookback.add(cx.now, Ended::Rejected);
        true
    }

    #[inline]
    fn done(&self, now: Nanos, outcome: &Outcome) {
        let is_rejected = self.rejected.contains(outcome.code);
        self.lookback.add(now, if is_rejected { Ended::Rejected } else { Ended::Accepted });
    }
}

/// One for all pickers, as a request may end through a later one.
impl Wrap for Arc<Throttler> {
    fn around(&self, child: Arc<dyn Picker>) -> Arc<dyn Picker> {
        let throttled = Status::unavailable("adaptive throttle: the backends reject too many requests");
        Arc::new(AdaptiveThrottlePicker { throttler: self.clone(), throttled, child })
    }
}

struct AdaptiveThrottlePicker {
    throttler: Arc<Throttler>,
    throttled: Status,
    child: Arc<dyn Picker>,
}

impl Picker for AdaptiveThrottlePicker {
    fn child(&self) -> Option<&dyn Picker> {
        Some(&*self.child)
    }

    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        if self.throttler.should_throttle(cx) {
            return Pick::Drop(self.throttled.clone());
        }
        self.child.pick(cx)
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.throttler.done(now, outcome);
        self.child.done(endpoint, now, outcome);
    }
}

#[cfg(test)]
mod tests;
