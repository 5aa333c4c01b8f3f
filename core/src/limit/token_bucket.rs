//! A token bucket: a burst of so many, then so many per interval.
//!
//! **Solves** limiting a rate on the spot, without asking anybody.
//!
//! **Source**: envoy.type.v3.TokenBucket as Envoy's local rate limit uses it: tokens come in lumps, `tokens_per_fill` every
//! `fill_interval`, and what does not fit is lost. Fills are at multiples of the interval on the host's clock; in Envoy a
//! timer counts from when the filter was made.
//!
//! **A take costs** one compare-and-swap of a word that holds both tokens and fills; there is no timer and no lock.
//!
//! **Does badly** with a long interval: all of it can be used up at its beginning, and twice `max_tokens` pass within a
//! moment around a fill.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::Nanos;
use crate::problems::Problems;

/// A burst of so many requests, then so many per interval: envoy.type.v3.TokenBucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenBucketConfig {
    /// Tokens at the start and at most; a request takes one.
    pub max_tokens: u32,
    /// Tokens that come per interval. 1, envoy.type.v3.TokenBucket `tokens_per_fill`.
    #[serde(default = "one")]
    pub tokens_per_fill: u32,
    /// Time between fills; at least 50 ms, Envoy's local_ratelimit.
    pub fill_interval: Nanos,
}

fn one() -> u32 {
    1
}

impl TokenBucketConfig {
    pub(super) fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        problems.at_least("max_tokens", self.max_tokens, 1, "with no tokens nothing ever passes");
        problems.at_least("tokens_per_fill", self.tokens_per_fill, 1, "leave it out to get 1");
        let hint = "as in Envoy; for a higher rate raise `tokens_per_fill`";
        problems.at_least("fill_interval", self.fill_interval, Nanos::from_millis(50), hint);
        problems
    }
}

/// A bucket that starts full.
///
/// ```
/// use lb_core::Nanos;
/// use lb_core::limit::{TokenBucket, TokenBucketConfig};
///
/// let config = TokenBucketConfig { max_tokens: 2, tokens_per_fill: 1, fill_interval: Nanos::from_secs(1) };
/// let bucket = TokenBucket::new(&config);
/// assert_eq!([0, 10, 20].map(|ms| bucket.take(Nanos::from_millis(ms))), [true, true, false]);
/// assert_eq!([1000, 1001].map(|ms| bucket.take(Nanos::from_millis(ms))), [true, false]);
/// ```
#[derive(Debug)]
pub struct TokenBucket {
    max: u32,
    per_fill: u32,
    interval: u64,
    /// Tokens in the upper half, the number of the last fill that is in them in the lower.
    state: AtomicU64,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(config: &TokenBucketConfig) -> Self {
        let (max, per_fill) = (config.max_tokens, config.tokens_per_fill);
        Self { max, per_fill, interval: config.fill_interval.0.max(1), state: AtomicU64::new(pack(max, 0)) }
    }

    /// Takes a token, if there is one.
    #[inline]
    pub fn take(&self, now: Nanos) -> bool {
        let fill = self.fill(now);
        // The fills of an empty bucket need not be written down: who finds it fuller will count them.
        let less = |state| {
            let (tokens, fill) = self.filled(state, fill);
            tokens.checked_sub(1).map(|left| pack(left, fill))
        };
        self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Tokens there are.
    pub fn tokens(&self, now: Nanos) -> u32 {
        let state = self.state.load(Ordering::Relaxed);
        self.filled(state, self.fill(now)).0
    }

    /// Fills up to now. 2^32 of 50 ms are 6.8 years; then there are no more.
    fn fill(&self, now: Nanos) -> u32 {
        u32::try_from(now.0 / self.interval).unwrap_or(u32::MAX)
    }

    /// Tokens with what came since, and the last fill. Another thread may have seen a later time: nothing comes then.
    fn filled(&self, state: u64, fill: u32) -> (u32, u32) {
        let (tokens, last) = ((state >> 32) as u32, state as u32);
        let new = u64::from(fill.saturating_sub(last)) * u64::from(self.per_fill);
        let tokens = (u64::from(tokens).saturating_add(new)).min(u64::from(self.max)) as u32;
        (tokens, last.max(fill))
    }
}

fn pack(tokens: u32, fill: u32) -> u64 {
    u64::from(tokens) << 32 | u64::from(fill)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(max_tokens: u32, tokens_per_fill: u32, fill_interval: Nanos) -> TokenBucket {
        TokenBucket::new(&TokenBucketConfig { max_tokens, tokens_per_fill, fill_interval })
    }

    /// How many of `n` takes succeed.
    fn takes(bucket: &TokenBucket, now: Nanos, n: u32) -> u32 {
        (0..n).map(|_| u32::from(bucket.take(now))).sum()
    }

    #[test]
    fn fills_come_in_lumps_and_overflow() {
        let bucket = bucket(5, 2, Nanos::from_millis(100));
        assert_eq!(takes(&bucket, Nanos::ZERO, 10), 5);
        assert_eq!(takes(&bucket, Nanos::from_millis(99), 10), 0);
        assert_eq!(takes(&bucket, Nanos::from_millis(100), 10), 2);
        // 2 per 100 ms for 200 ms are 4; for 900 ms they would be 18 and 5 fit.
        assert_eq!(takes(&bucket, Nanos::from_millis(300), 10), 4);
        assert_eq!(takes(&bucket, Nanos::from_millis(1200), 10), 5);
    }

    #[test]
    fn a_late_thread_gets_no_fill_twice() {
        let bucket = bucket(2, 1, Nanos::from_millis(100));
        assert_eq!(takes(&bucket, Nanos::from_millis(500), 3), 2);
        assert_eq!(takes(&bucket, Nanos::from_millis(400), 3), 0);
        assert_eq!(takes(&bucket, Nanos::from_millis(500), 3), 0);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let bucket = bucket(u32::MAX, u32::MAX, Nanos(1));
        assert!(bucket.take(Nanos::NEVER));
        assert!(bucket.take(Nanos::ZERO));
        assert_eq!(bucket.tokens(Nanos::NEVER), u32::MAX - 2);
        assert!(!self::bucket(0, 0, Nanos::ZERO).take(Nanos::NEVER));
    }

    #[test]
    fn threads_share_what_there_is() {
        let bucket = bucket(1_000, 1, Nanos::from_secs(1));
        let taken: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| takes(&bucket, Nanos::ZERO, 500))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }
}
