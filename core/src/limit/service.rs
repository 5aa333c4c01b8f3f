//! What a rate limit service decides: so many requests per key and unit of time, for all who ask.
//!
//! **Solves** a limit that holds over any number of proxies.
//!
//! **Source**: Envoy's envoy.service.ratelimit.v3.RateLimitService and its reference implementation
//! (github.com/envoyproxy/ratelimit): fixed windows aligned to the clock; every question is counted, also one that is refused.
//!
//! **A decision costs** a look-up by key. Only the current window's keys are kept.
//!
//! **Does badly** at the border of windows, where twice the limit passes within a moment; and when all callers come back at
//! the beginning of a window, which they do if they wait for it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::Nanos;

/// Unit of time of a limit (envoy.service.ratelimit.v3.RateLimitResponse.RateLimit.Unit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LimitUnit {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl LimitUnit {
    /// How long it is.
    pub const fn length(self) -> Nanos {
        Nanos::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        })
    }
}

/// The service's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Go on.
    Ok {
        /// Requests left in this window, for this key.
        remaining: u32,
    },
    /// Refuse it.
    OverLimit,
}

/// One rule of the service: a limit, applied to each key for itself.
///
/// ```
/// use lb_core::Nanos;
/// use lb_core::limit::{Limit, LimitUnit, RateLimitService};
///
/// let mut service = RateLimitService::new(2, LimitUnit::Second);
/// let mut ask = |ms| service.should_rate_limit(Nanos::from_millis(ms), "checkout", 1);
/// assert_eq!([0, 998, 999].map(&mut ask), [Limit::Ok { remaining: 1 }, Limit::Ok { remaining: 0 }, Limit::OverLimit]);
/// assert_eq!(ask(1000), Limit::Ok { remaining: 1 });
/// ```
#[derive(Debug, Clone)]
pub struct RateLimitService {
    requests_per_unit: u32,
    unit: LimitUnit,
    /// The window of the counts, by its number since the epoch.
    window: u64,
    counts: HashMap<Box<str>, u32>,
}

impl RateLimitService {
    /// A service that has counted nothing.
    pub fn new(requests_per_unit: u32, unit: LimitUnit) -> Self {
        Self { requests_per_unit, unit, window: 0, counts: HashMap::new() }
    }

    /// Counts `hits` requests for `key` and says whether they may go on: all of them or none.
    pub fn should_rate_limit(&mut self, now: Nanos, key: &str, hits: u32) -> Limit {
        let window = now.0 / self.unit.length().0;
        if window > self.window {
            // Windows of all keys begin together, so past ones go together too.
            self.window = window;
            self.counts.clear();
        }
        let count = match self.counts.get_mut(key) {
            Some(count) => count,
            None => self.counts.entry(key.into()).or_insert(0),
        };
        // As the reference does by INCRBY and then a comparison: what is refused is counted too.
        *count = count.saturating_add(hits);
        match self.requests_per_unit.checked_sub(*count) {
            Some(remaining) => Limit::Ok { remaining },
            None => Limit::OverLimit,
        }
    }

    /// Keys of which something is remembered.
    pub fn keys(&self) -> usize {
        self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_apart_and_forgotten_together() {
        let mut service = RateLimitService::new(1, LimitUnit::Minute);
        for key in ["a", "b"] {
            assert_eq!(service.should_rate_limit(Nanos::from_secs(59), key, 1), Limit::Ok { remaining: 0 });
            assert_eq!(service.should_rate_limit(Nanos::from_secs(59), key, 1), Limit::OverLimit);
        }
        assert_eq!(service.keys(), 2);
        assert_eq!(service.should_rate_limit(Nanos::from_secs(60), "a", 1), Limit::Ok { remaining: 0 });
        assert_eq!(service.keys(), 1, "past windows are dropped");
    }

    #[test]
    fn hits_go_together_and_count_when_refused() {
        let mut service = RateLimitService::new(5, LimitUnit::Hour);
        assert_eq!(service.should_rate_limit(Nanos::ZERO, "a", 3), Limit::Ok { remaining: 2 });
        // 3 + 3 > 5: refused, and counted, so that 1 more would be the seventh.
        assert_eq!(service.should_rate_limit(Nanos::ZERO, "a", 3), Limit::OverLimit);
        assert_eq!(service.should_rate_limit(Nanos::ZERO, "a", 1), Limit::OverLimit);
        assert_eq!(service.should_rate_limit(Nanos::ZERO, "a", u32::MAX), Limit::OverLimit);
    }

    #[test]
    fn units_have_their_lengths() {
        let lengths =
            [LimitUnit::Second, LimitUnit::Minute, LimitUnit::Hour, LimitUnit::Day].map(|u| u.length().to_string());
        assert_eq!(lengths, ["1s", "60s", "3600s", "86400s"]);
    }
}
