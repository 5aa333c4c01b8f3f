//! Rate limits of a route: how many requests are let through, whatever the servers could take.
//!
//! **Solves** one caller taking what was meant for all: a limit refuses early and cheaply.
//!
//! **Source**: Envoy's filters envoy.filters.http.local_ratelimit (a token bucket in the proxy itself, [`token_bucket`]) and
//! envoy.filters.http.ratelimit (a service is asked for every request, [`service`]).
//!
//! **Does badly**: the local one limits each proxy or client for itself, so *n* of them let *n* times the limit through, and a
//! limit divided by *n* refuses too early wherever load is uneven. The global one is exact and puts a round trip to a
//! service, and its failures, in front of every request.
//!
//! With both, a host asks [`RateLimit::local`] first, and then, if there is a [`RateLimit::global`], sends its question to that
//! service and has the answer judged by [`RateLimit::global_answer`].

pub mod service;
pub mod token_bucket;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::problems::Problems;
use crate::{Code, Nanos, Status};

pub use service::{Limit, LimitUnit, RateLimitService};
pub use token_bucket::{TokenBucket, TokenBucketConfig};

/// Rate limits of a route; `local` is asked before `global`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RateLimitConfig {
    /// A token bucket in each client or proxy.
    pub local: Option<TokenBucketConfig>,
    /// A limit that all clients and proxies share, by asking a service.
    pub global: Option<GlobalLimitConfig>,
    /// A refused request fails with RESOURCE_EXHAUSTED instead of UNAVAILABLE, which callers retry. False:
    /// `rate_limited_as_resource_exhausted` of envoy.extensions.filters.http.ratelimit.v3.RateLimit and of
    /// envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit. (They answer 429, http-grpc-status-mapping.md.)
    pub rate_limited_as_resource_exhausted: bool,
}

/// A limit kept by a service: envoy.extensions.filters.http.ratelimit.v3.RateLimit, and the rule of the service
/// (github.com/envoyproxy/ratelimit).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GlobalLimitConfig {
    /// The deployment that answers.
    pub service: String,
    /// Requests let through per unit of time.
    pub requests_per_unit: u32,
    /// The unit of time.
    pub unit: LimitUnit,
    /// How long an answer is waited for. 20 ms, RateLimit `timeout`.
    #[serde(default = "timeout")]
    pub timeout: Nanos,
    /// A request whose question is not answered fails, with UNKNOWN (Envoy's 500). False, RateLimit `failure_mode_deny`: it is
    /// let through.
    #[serde(default)]
    pub failure_mode_deny: bool,
}

fn timeout() -> Nanos {
    Nanos::from_millis(20)
}

impl RateLimitConfig {
    pub(crate) fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        if self.local.is_none() && self.global.is_none() {
            problems.add(
                "",
                "neither `local` nor `global` is given; there is no limit",
                "add one of them, or delete it",
            );
        }
        if let Some(local) = &self.local {
            problems.part("local", local.problems());
        }
        if let Some(global) = &self.global {
            if global.service.trim().is_empty() {
                problems.add("global.service", "`service` is empty", "name the deployment that answers");
            }
            if global.timeout == Nanos::ZERO {
                let rule = "`timeout` is 0s; no answer could ever come in time";
                problems.add("global.timeout", rule, "Envoy's default is \"20ms\"");
            }
        }
        problems
    }
}

/// The rate limits of a route, ready for use.
#[derive(Debug, Clone)]
pub struct RateLimit {
    local: Option<(TokenBucketConfig, Arc<TokenBucket>)>,
    global: Option<GlobalLimitConfig>,
    over_limit: Status,
    failed: Status,
}

impl RateLimit {
    /// Limits of which nothing is used up.
    pub fn new(config: &RateLimitConfig) -> Self {
        let code = match config.rate_limited_as_resource_exhausted {
            true => Code::ResourceExhausted,
            false => Code::from_http(429),
        };
        Self {
            local: config.local.clone().map(|bucket| (bucket.clone(), Arc::new(TokenBucket::new(&bucket)))),
            global: config.global.clone(),
            over_limit: Status::new(code, "over the rate limit"),
            failed: Status::new(Code::from_http(500), "the rate limit service did not answer"),
        }
    }

    /// Other limits. A bucket with the same settings goes on.
    pub(crate) fn with_config(&self, config: &RateLimitConfig) -> Self {
        let mut limit = Self::new(config);
        if let (Some(new), Some(old)) = (&mut limit.local, &self.local)
            && new.0 == old.0
        {
            new.1 = Arc::clone(&old.1);
        }
        limit
    }

    /// Takes a token of the local bucket, if there is one.
    ///
    /// # Errors
    ///
    /// If it is empty: what the request fails with.
    #[inline]
    pub fn local(&self, now: Nanos) -> Result<(), Status> {
        match &self.local {
            Some((_, bucket)) if !bucket.take(now) => Err(self.over_limit.clone()),
            _ => Ok(()),
        }
    }

    /// The service to ask, if there is one.
    pub fn global(&self) -> Option<&GlobalLimitConfig> {
        self.global.as_ref()
    }

    /// What the service's answer means for the request; `None` if there was no answer in time or the question failed.
    ///
    /// # Errors
    ///
    /// If the request is refused: what it fails with.
    pub fn global_answer(&self, answer: Option<Limit>) -> Result<(), Status> {
        match answer {
            Some(Limit::Ok { .. }) => Ok(()),
            Some(Limit::OverLimit) => Err(self.over_limit.clone()),
            None if self.global.as_ref().is_some_and(|global| global.failure_mode_deny) => Err(self.failed.clone()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(toml: &str) -> RateLimit {
        let config: RateLimitConfig = toml::from_str(toml).unwrap();
        assert_eq!(config.problems().0, []);
        RateLimit::new(&config)
    }

    #[test]
    fn a_refused_request_is_unavailable_unless_asked_otherwise() {
        let local = "local = { max_tokens = 1, fill_interval = '1s' }";
        let codes = [local.to_owned(), format!("rate_limited_as_resource_exhausted = true\n{local}")].map(|toml| {
            let limit = limit(&toml);
            assert_eq!(limit.local(Nanos::ZERO), Ok(()));
            limit.local(Nanos::ZERO).unwrap_err().code
        });
        assert_eq!(codes, [Code::Unavailable, Code::ResourceExhausted]);
    }

    #[test]
    fn without_an_answer_the_mode_decides() {
        let global = "service = 'ratelimit', requests_per_unit = 10, unit = 'second'";
        let open = limit(&format!("global = {{ {global} }}"));
        assert_eq!(open.global().unwrap().timeout, Nanos::from_millis(20));
        assert_eq!(open.local(Nanos::ZERO), Ok(()));
        assert_eq!(open.global_answer(None), Ok(()));
        assert_eq!(open.global_answer(Some(Limit::Ok { remaining: 0 })), Ok(()));
        assert_eq!(open.global_answer(Some(Limit::OverLimit)).unwrap_err().code, Code::Unavailable);
        let closed = limit(&format!("global = {{ {global}, failure_mode_deny = true }}"));
        assert_eq!(closed.global_answer(None).unwrap_err().code, Code::Unknown);
    }

    #[test]
    fn an_unchanged_bucket_survives_an_update() {
        let config: RateLimitConfig = toml::from_str("local = { max_tokens = 1, fill_interval = '1s' }").unwrap();
        let before = RateLimit::new(&config);
        assert!(before.local(Nanos::ZERO).is_ok());
        assert!(before.with_config(&config).local(Nanos::ZERO).is_err());
        let more: RateLimitConfig = toml::from_str("local = { max_tokens = 2, fill_interval = '1s' }").unwrap();
        assert!(before.with_config(&more).local(Nanos::ZERO).is_ok(), "another bucket starts full");
    }
}
