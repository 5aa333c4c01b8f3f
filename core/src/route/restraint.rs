//! What holds further attempts back, whichever request they are for: gRPC's throttling and Envoy's budget.
//!
//! **Solves** what a limit per request can't: when everything fails, or everything is slow, every request has all its
//! attempts, and the load is multiplied when it should shrink. Both look at the whole traffic of a route.
//!
//! **Source**: gRFC A6 `retryThrottling`, for retries and hedges alike (there per server name, here per route); Envoy's
//! RetryBudget.
//!
//! **Costs** an addition at the beginning of a request, one at its end, and with throttling one per attempt, all atomic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use crate::problems::Problems;

/// Throttle tokens are counted in thousandths, as gRPC's implementations do.
const TOKEN: u32 = 1000;

/// Further attempts as a part of what is going on: envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BudgetConfig {
    /// Retries or hedges that may be going on, in percent of the requests that are. 20, RetryBudget `budget_percent`.
    pub budget_percent: f64,
    /// This many are always allowed. 3, RetryBudget `min_retry_concurrency`.
    pub min_retry_concurrency: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { budget_percent: 20.0, min_retry_concurrency: 3 }
    }
}

impl BudgetConfig {
    pub(super) fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        problems.within("budget_percent", self.budget_percent, 0.0, 100.0, "Envoy's default is 20");
        problems
    }
}

/// gRFC A6 `retryThrottling`: tokens that failures take and successes give back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ThrottlingConfig {
    /// Tokens at the start and at most, 1 to 1000. Retries and hedges stop at half of it. gRFC A6 `maxTokens`.
    pub max_tokens: u32,
    /// What a success gives back; a failure takes 1. Counted in thousandths. gRFC A6 `tokenRatio`.
    pub token_ratio: f64,
}

impl ThrottlingConfig {
    pub(super) fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        problems.within("max_tokens", self.max_tokens, 1, 1000, "gRFC A6 has 10 as its example");
        // Less than a thousandth would be counted as nothing.
        let hint = "gRFC A6 has 0.1 as its example: ten successes for a failure";
        problems.within("token_ratio", self.token_ratio, 0.001, 1000.0, hint);
        problems
    }
}

/// Throttle and budget of a route, with what they count. A clone shares the counts.
#[derive(Debug, Clone)]
pub(super) struct Restraint {
    budget: Option<BudgetConfig>,
    throttle: Option<Throttle>,
    counts: Arc<Counts>,
}

/// Limits of the tokens, in thousandths.
#[derive(Debug, Clone, Copy)]
struct Throttle {
    max: u32,
    ratio: u32,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU32,
    /// Attempts beyond the first of each request.
    further: AtomicU32,
    /// Thousandths; without meaning while there is no throttle.
    tokens: AtomicU32,
}

impl Restraint {
    pub(super) fn new(budget: Option<&BudgetConfig>, throttling: Option<&ThrottlingConfig>) -> Self {
        let throttle = throttling.map(Throttle::new);
        let counts = Counts::default();
        // gRFC A6: the bucket starts full.
        counts.tokens.store(throttle.map_or(0, |throttle| throttle.max), Ordering::Relaxed);
        Self { budget: budget.cloned(), throttle, counts: Arc::new(counts) }
    }

    /// Other settings, the same counts. The bucket of tokens stays as full as it was, in proportion (gRPC C-core).
    pub(super) fn with(&self, budget: Option<&BudgetConfig>, throttling: Option<&ThrottlingConfig>) -> Self {
        let restraint = Self { counts: Arc::clone(&self.counts), ..Self::new(budget, throttling) };
        if let Some(Throttle { max, .. }) = restraint.throttle {
            let scaled = |tokens: u32| match self.throttle {
                Some(before) => (u64::from(tokens) * u64::from(max) / u64::from(before.max.max(1))) as u32,
                None => max,
            };
            change(&restraint.counts.tokens, |tokens| Some(scaled(tokens)));
        }
        restraint
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        change(&self.counts.requests, |n| n.checked_add(1));
    }

    /// A request is over.
    pub(super) fn end(&self) {
        change(&self.counts.requests, |n| n.checked_sub(1));
    }

    /// An attempt has succeeded.
    pub(super) fn success(&self) {
        if let Some(Throttle { max, ratio }) = self.throttle {
            change(&self.counts.tokens, |tokens| Some(tokens.saturating_add(ratio).min(max)));
        }
    }

    /// An attempt has failed with a code that counts. Whether there are to be no others: gRFC A6, while the tokens are at
    /// half of the maximum or below.
    pub(super) fn failure(&self) -> bool {
        self.throttle.is_some_and(|Throttle { max, .. }| {
            let less = |tokens: u32| Some(tokens.saturating_sub(TOKEN));
            let (Ok(before) | Err(before)) =
                self.counts.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            before.saturating_sub(TOKEN) <= max / 2
        })
    }

    /// The same without a failure.
    pub(super) fn throttled(&self) -> bool {
        self.throttle.is_some_and(|Throttle { max, .. }| self.counts.tokens.load(Ordering::Relaxed) <= max / 2)
    }

    /// Counts one more attempt if the budget has room: Envoy's `max(budget_percent / 100 · active, min_retry_concurrency)`.
    /// Requests count from their beginning to their end; in Envoy one that waits for a retry does not.
    pub(super) fn take(&self) -> bool {
        let most = self.budget.as_ref().map_or(u32::MAX, |budget| {
            let part = budget.budget_percent / 100.0 * f64::from(self.requests());
            // Truncated, as Envoy's conversion to an integer does.
            (part as u32).max(budget.min_retry_concurrency)
        });
        change(&self.counts.further, |n| if n < most { n.checked_add(1) } else { None })
    }

    /// Gives back what as many attempts took of the budget.
    pub(super) fn give_back(&self, attempts: u32) {
        if attempts > 0 {
            change(&self.counts.further, |n| n.checked_sub(attempts));
        }
    }

    pub(super) fn requests(&self) -> u32 {
        self.counts.requests.load(Ordering::Relaxed)
    }

    pub(super) fn further_attempts(&self) -> u32 {
        self.counts.further.load(Ordering::Relaxed)
    }

    pub(super) fn tokens(&self) -> Option<f64> {
        self.throttle.map(|_| f64::from(self.counts.tokens.load(Ordering::Relaxed)) / f64::from(TOKEN))
    }
}

impl Throttle {
    fn new(config: &ThrottlingConfig) -> Self {
        let max = config.max_tokens.saturating_mul(TOKEN);
        // gRFC A6: decimals beyond the third are ignored. The half of a millionth
        // is for products such as 1.001 · 1000 = 1000.9999999999999.
        Self { max, ratio: (config.token_ratio * f64::from(TOKEN) + 0.0005) as u32 }
    }
}

/// Changes a counter by `f`, unless that is `None`. Whether it was changed.
fn change(counter: &AtomicU32, f: impl FnMut(u32) -> Option<u32>) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, f).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_has_three_decimals() {
        let ratio = |token_ratio| Throttle::new(&ThrottlingConfig { max_tokens: 10, token_ratio }).ratio;
        assert_eq!([0.1, 0.5549, 1.0, 1.001, 0.001].map(ratio), [100, 554, 1000, 1001, 1]);
    }
}
