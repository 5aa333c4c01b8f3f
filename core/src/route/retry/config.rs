//! Settings of retries, with the defaults of gRPC and Envoy.

use serde::{Deserialize, Serialize};

use crate::problems::Problems;
use crate::route::restraint::{BudgetConfig, ThrottlingConfig};
use crate::{Code, Nanos};

/// gRFC A6: a client treats more than 5 attempts, retried or hedged, as 5.
pub const MOST_ATTEMPTS: u32 = 5;

/// How failed attempts are repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RetryConfig {
    /// Attempts of a request, the first included: 2 to 5 (gRFC A6 `maxAttempts`, which has no default). 2 by default:
    /// envoy.config.route.v3.RetryPolicy `num_retries` is 1, and gRFC A44 adds the first attempt.
    pub max_attempts: u32,
    /// Which codes are retried. UNAVAILABLE by default (our choice; gRFC A6 `retryableStatusCodes` and Envoy's `retry_on` have
    /// none). By xDS only CANCELLED, DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED and UNAVAILABLE can be named (A44).
    pub retryable_status_codes: Vec<Code>,
    /// Pause before the first retry. 25 ms, Envoy's `retry_back_off` when unset (gRFC A44).
    pub initial_backoff: Nanos,
    /// Longest pause before jitter. 250 ms, Envoy's `retry_back_off` when unset: ten times the base (gRFC A44).
    pub max_backoff: Nanos,
    /// Growth per retry, at least 1. 2, gRFC A44 `backoffMultiplier`.
    pub backoff_multiplier: f64,
    /// An attempt that takes longer is given up and may be retried. None by default: envoy.config.route.v3.RetryPolicy
    /// `per_try_timeout`, gRPC C-core's experimental `perAttemptRecvTimeout`.
    pub per_attempt_timeout: Option<Nanos>,
    /// Limits retries to a part of the requests that are going on. None by default, as in Envoy (whose circuit breaker then
    /// allows a cluster `max_retries`, 3, at a time; that is not here).
    pub budget: Option<BudgetConfig>,
    /// Stops retries while too much fails. None by default, as in gRPC.
    pub throttling: Option<ThrottlingConfig>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 2,
            retryable_status_codes: vec![Code::Unavailable],
            initial_backoff: Nanos::from_millis(25),
            max_backoff: Nanos::from_millis(250),
            backoff_multiplier: 2.0,
            per_attempt_timeout: None,
            budget: None,
            throttling: None,
        }
    }
}

impl RetryConfig {
    pub(in crate::route) fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        let hint = "gRPC does at most 5; the first attempt is one of them";
        problems.within("max_attempts", self.max_attempts, 2, MOST_ATTEMPTS, hint);
        if self.retryable_status_codes.is_empty() {
            let rule = "`retryable_status_codes` is empty; nothing would be retried";
            problems.add("retryable_status_codes", rule, "leave it out to get [\"UNAVAILABLE\"]");
        }
        codes_problems(&mut problems, "retryable_status_codes", &self.retryable_status_codes, "retried");
        let least = Nanos::from_millis(1);
        problems.at_least("initial_backoff", self.initial_backoff, least, "Envoy's default is \"25ms\"");
        if self.max_backoff < self.initial_backoff {
            let rule = format!(
                "`max_backoff` is {}, shorter than the first pause ({})",
                self.max_backoff, self.initial_backoff
            );
            problems.add("max_backoff", rule, format!("write at least {}", self.initial_backoff));
        }
        problems.within("backoff_multiplier", self.backoff_multiplier, 1.0, 1000.0, "gRFC A44 has 2");
        if self.per_attempt_timeout == Some(Nanos::ZERO) {
            let rule = "`per_attempt_timeout` is 0s; no attempt could ever succeed";
            problems.add("per_attempt_timeout", rule, "leave it out for no limit");
        }
        if let Some(budget) = &self.budget {
            problems.part("budget", budget.problems());
        }
        if let Some(throttling) = &self.throttling {
            problems.part("throttling", throttling.problems());
        }
        problems
    }
}

/// OK is no reason for another attempt.
pub(in crate::route) fn codes_problems(problems: &mut Problems, path: &str, codes: &[Code], what: &str) {
    if let Some(i) = codes.iter().position(|&code| code == Code::Ok) {
        problems.add(&format!("{path}.{i}"), format!("OK is not an error; it can't be {what}"), "delete it");
    }
}
