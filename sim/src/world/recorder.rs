//! What is counted while the world runs.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use lb_core::Nanos;
use reports::record::{Connections, Requests, Timeline};

use super::calls::End;

/// A histogram of latencies in nanoseconds: 1 us to 1 h; what lies outside counts as the nearest end.
pub(super) fn latencies(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 3_600_000_000_000, digits).expect("constant bounds in order")
}

/// Counts and distributions of a run.
pub(crate) struct Recorder {
    interval: Nanos,
    /// Requests issued before are in the timeline only.
    warm_up: Nanos,
    bucket_end: Nanos,
    pub(crate) requests: Requests,
    /// Why requests failed.
    pub(crate) errors: BTreeMap<End, u64>,
    /// Latencies of all requests that ended OK, their sum and the slowest, exact.
    pub(crate) latency: Histogram<u64>,
    pub(crate) latency_sum: u128,
    pub(crate) latency_max: Nanos,
    /// The present bucket's.
    bucket_latency: Histogram<u64>,
    bucket_started: u32,
    bucket_ok: u32,
    bucket_failed: u32,
    pub(crate) hops_sum: u64,
    pub(crate) hops_max: u32,
    pub(crate) connections: Connections,
    open: u64,
    pub(crate) timeline: Timeline,
    pub(crate) interventions: Interventions,
    /// What controllers did, and when.
    pub(crate) happenings: Vec<(Nanos, String)>,
    /// When what balancers go by was changed, and when the last of them had it.
    pub(crate) configurations: Vec<(Nanos, Option<Nanos>)>,
}

/// What balancers did to requests besides passing them on.
#[derive(Debug, Default)]
pub(crate) struct Interventions {
    pub(crate) retries: u64,
    pub(crate) faults_injected: u64,
    pub(crate) rate_limited: u64,
}

impl Recorder {
    pub(super) fn new(interval: Nanos, warm_up: Nanos) -> Self {
        Self {
            interval,
            warm_up,
            bucket_end: interval,
            requests: Requests::default(),
            errors: BTreeMap::new(),
            latency: latencies(3),
            latency_sum: 0,
            latency_max: Nanos::ZERO,
            bucket_latency: latencies(2),
            bucket_started: 0,
            bucket_ok: 0,
            bucket_failed: 0,
            hops_sum: 0,
            hops_max: 0,
            connections: Connections::default(),
            open: 0,
            timeline: Timeline::default(),
            interventions: Interventions::default(),
            happenings: Vec::new(),
            configurations: Vec::new(),
        }
    }

    /// A client issues a request.
    #[inline]
    pub(super) fn started(&mut self, now: Nanos) {
        self.bucket_started += 1;
        self.requests.started += u64::from(now >= self.warm_up);
    }

    /// A client's request has ended, this long after it was issued.
    #[inline]
    pub(super) fn ended(&mut self, end: End, issued: Nanos, latency: Nanos, hops: u8) {
        if end == End::Ok {
            self.bucket_ok += 1;
            self.bucket_latency.saturating_record(latency.0);
        } else {
            self.bucket_failed += 1;
        }
        if issued < self.warm_up {
            return;
        }
        if end == End::Ok {
            self.requests.ok += 1;
            self.latency.saturating_record(latency.0);
            self.latency_sum += u128::from(latency.0);
            self.latency_max = self.latency_max.max(latency);
            self.hops_sum += u64::from(hops);
            self.hops_max = self.hops_max.max(u32::from(hops));
        } else {
            self.requests.failed += 1;
            *self.errors.entry(end).or_default() += 1;
        }
    }

    /// A controller did something that a reader of the report wants to know.
    pub(super) fn happened(&mut self, now: Nanos, what: String) {
        self.happenings.push((now, what));
    }

    /// What balancers go by was changed.
    pub(super) fn configuration_changed(&mut self, now: Nanos) {
        self.configurations.push((now, None));
    }

    /// The last balancer has got it.
    pub(super) fn configured(&mut self, now: Nanos) {
        if let Some((_, last @ None)) = self.configurations.last_mut() {
            *last = Some(now);
        }
    }

    pub(super) fn connection_opened(&mut self) {
        self.connections.opened += 1;
        self.open += 1;
        self.connections.peak = self.connections.peak.max(self.open);
    }

    pub(super) fn connection_closed(&mut self) {
        self.connections.closed += 1;
        self.open -= 1;
    }

    /// Buckets of the warm-up, which is a whole number of them.
    pub(crate) fn warm_up_buckets(&self) -> usize {
        (self.warm_up.0 / self.interval.0) as usize
    }

    pub(super) fn bucket_end(&self) -> Nanos {
        self.bucket_end
    }

    /// Buckets closed so far.
    pub(super) fn buckets(&self) -> usize {
        self.timeline.ok.len()
    }

    /// Whether the buckets reach up to `end`.
    pub(super) fn is_complete(&self, end: Nanos) -> bool {
        self.bucket_end - self.interval >= end
    }

    pub(super) fn close_bucket(&mut self) {
        let quantile = |q| {
            (!self.bucket_latency.is_empty()).then(|| Nanos(self.bucket_latency.value_at_quantile(q)).as_millis_f64())
        };
        self.timeline.p50_ms.push(quantile(0.5));
        self.timeline.p99_ms.push(quantile(0.99));
        self.timeline.started.push(std::mem::take(&mut self.bucket_started));
        self.timeline.ok.push(std::mem::take(&mut self.bucket_ok));
        self.timeline.failed.push(std::mem::take(&mut self.bucket_failed));
        self.timeline.connections.push(self.open as u32);
        self.bucket_latency.reset();
        self.bucket_end += self.interval;
    }
}
