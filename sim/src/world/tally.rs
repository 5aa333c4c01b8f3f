//! What is counted of a load's requests: how they ended, and how long those took that ended OK.
//!
//! The whole run's figures are the sum over its loads, put together at the end: a request is counted once, whatever the
//! number of loads.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use lb_core::Nanos;
use reports::record::{ErrorCount, Latency, Requests};

use super::calls::End;

/// A histogram of latencies in nanoseconds: 1 us to 1 h; what lies outside counts as the nearest end.
pub(super) fn latencies(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 3_600_000_000_000, digits).expect("constant bounds in order")
}

/// Requests issued after the warm-up.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) requests: Requests,
    /// Why requests failed.
    errors: BTreeMap<End, u64>,
    /// Latencies of those that ended OK, their sum and the slowest, exact.
    latency: Histogram<u64>,
    latency_sum: u128,
    latency_max: Nanos,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            requests: Requests::default(),
            errors: BTreeMap::new(),
            latency: latencies(3),
            latency_sum: 0,
            latency_max: Nanos::ZERO,
        }
    }

    /// A request has ended.
    #[inline]
    pub(super) fn ended(&mut self, end: End, latency: Nanos) {
        if end == End::Ok {
            self.requests.ok += 1;
            self.latency.saturating_record(latency.0);
            self.latency_sum += u128::from(latency.0);
            self.latency_max = self.latency_max.max(latency);
        } else {
            self.requests.failed += 1;
            *self.errors.entry(end).or_default() += 1;
        }
    }

    /// All of them together.
    pub(crate) fn sum(tallies: &[Self]) -> Self {
        let mut sum = Self::new();
        for tally in tallies {
            let (all, one) = (&mut sum.requests, &tally.requests);
            *all =
                Requests { started: all.started + one.started, ok: all.ok + one.ok, failed: all.failed + one.failed };
            for (&end, &count) in &tally.errors {
                *sum.errors.entry(end).or_default() += count;
            }
            sum.latency.add(&tally.latency).expect("the same bounds");
            sum.latency_sum += tally.latency_sum;
            sum.latency_max = sum.latency_max.max(tally.latency_max);
        }
        sum
    }

    /// Why requests failed, as the record has it.
    pub(crate) fn errors(&self) -> Vec<ErrorCount> {
        let describe = |(end, &count): (&End, &u64)| {
            let (code, reason) = end.describe();
            ErrorCount { code: code.into(), reason: reason.into(), count }
        };
        self.errors.iter().map(describe).collect()
    }

    /// The latency that this part of the requests stayed within, in milliseconds; 0 if none ended OK.
    pub(crate) fn percentile_ms(&self, q: f64) -> f64 {
        if self.requests.ok == 0 {
            return 0.0;
        }
        // The histogram gives the upper end of a value's class, which for the slowest is above the slowest.
        Nanos(self.latency.value_at_quantile(q)).min(self.latency_max).as_millis_f64()
    }

    /// The figures of the latency, as the record has them.
    pub(crate) fn latency_ms(&self) -> Latency {
        let ok = self.requests.ok;
        Latency {
            mean: if ok == 0 { 0.0 } else { self.latency_sum as f64 / 1e6 / ok as f64 },
            p50: self.percentile_ms(0.5),
            p90: self.percentile_ms(0.9),
            p99: self.percentile_ms(0.99),
            p999: self.percentile_ms(0.999),
            max: self.latency_max.as_millis_f64(),
        }
    }
}
