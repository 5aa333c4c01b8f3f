//! What is counted while the world runs.

use hdrhistogram::Histogram;
use lb_core::Nanos;
use reports::record::{Connections, DeploymentTimeline, Interventions, Timeline};

use super::calls::End;
use super::tally::{Tally, latencies};

/// What there is to say of a client's request when it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// Which of the scenario's loads it was.
    pub(super) load: u32,
    pub(super) issued: Nanos,
    pub(super) latency: Nanos,
    /// Node borders it crossed.
    pub(super) hops: u8,
    /// The deployment whose pod its last attempt reached.
    pub(super) reached: Option<u16>,
}

/// Counts and distributions of a run.
pub(crate) struct Recorder {
    interval: Nanos,
    /// Requests issued before are in the timeline only.
    warm_up: Nanos,
    bucket_end: Nanos,
    /// The requests of each load.
    pub(crate) loads: Vec<Tally>,
    /// The present bucket's.
    bucket_latency: Histogram<u64>,
    bucket_opened: u32,
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
    /// By deployment of the world; only servers' are counted.
    pub(crate) deployments: Vec<OfDeployment>,
}

/// What became of the requests that reached a deployment.
#[derive(Default)]
pub(crate) struct OfDeployment {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    bucket_requests: u32,
    bucket_failed: u32,
    /// None where all requests are of one deployment: then the run's latencies are its own.
    pub(crate) latencies: Option<Latencies>,
    pub(crate) timeline: DeploymentTimeline,
}

/// Latencies of what ended OK at a deployment.
pub(crate) struct Latencies {
    pub(crate) all: Histogram<u64>,
    pub(crate) sum: u128,
    bucket: Histogram<u64>,
}

impl OfDeployment {
    #[inline]
    fn ended(&mut self, is_ok: bool, latency: Nanos, counts: bool) {
        self.bucket_requests += 1;
        self.bucket_failed += u32::from(!is_ok);
        if counts {
            *(if is_ok { &mut self.ok } else { &mut self.failed }) += 1;
        }
        if let Some(latencies) = self.latencies.as_mut().filter(|_| is_ok) {
            latencies.bucket.saturating_record(latency.0);
            if counts {
                latencies.all.saturating_record(latency.0);
                latencies.sum += u128::from(latency.0);
            }
        }
    }

    fn close_bucket(&mut self, p99_of_run: Option<f64>) {
        self.timeline.requests.push(std::mem::take(&mut self.bucket_requests));
        self.timeline.failed.push(std::mem::take(&mut self.bucket_failed));
        self.timeline.p99_ms.push(match &mut self.latencies {
            None => p99_of_run,
            Some(latencies) => {
                let p99 = quantile(&latencies.bucket, 0.99);
                latencies.bucket.reset();
                p99
            }
        });
    }
}

/// In milliseconds; none of nothing.
fn quantile(histogram: &Histogram<u64>, q: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| Nanos(histogram.value_at_quantile(q)).as_millis_f64())
}

impl Recorder {
    pub(super) fn new(interval: Nanos, warm_up: Nanos, loads: usize) -> Self {
        Self {
            interval,
            warm_up,
            bucket_end: interval,
            loads: vec![Tally::new(); loads],
            bucket_latency: latencies(2),
            bucket_opened: 0,
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
            deployments: Vec::new(),
        }
    }

    /// Which of the world's deployments are servers'.
    pub(super) fn tell_apart(&mut self, is_server: &[bool]) {
        let several = is_server.iter().filter(|server| **server).count() > 1;
        let latencies = || Latencies { all: latencies(2), sum: 0, bucket: latencies(2) };
        let of =
            |&server: &bool| OfDeployment { latencies: (server && several).then(latencies), ..OfDeployment::default() };
        self.deployments = is_server.iter().map(of).collect();
    }

    /// A client issues a request of a load.
    #[inline]
    pub(super) fn started(&mut self, load: usize, now: Nanos) {
        self.bucket_started += 1;
        self.loads[load].requests.started += u64::from(self.counts(now));
    }

    /// A client's request has ended.
    #[inline]
    pub(super) fn ended(&mut self, end: End, Ended { load, issued, latency, hops, reached }: Ended) {
        if end == End::Ok {
            self.bucket_ok += 1;
            self.bucket_latency.saturating_record(latency.0);
        } else {
            self.bucket_failed += 1;
        }
        let counts = self.counts(issued);
        if let Some(deployment) = reached {
            self.deployments[deployment as usize].ended(end == End::Ok, latency, counts);
        }
        if !counts {
            return;
        }
        self.loads[load as usize].ended(end, latency);
        if end == End::Ok {
            self.hops_sum += u64::from(hops);
            self.hops_max = self.hops_max.max(u32::from(hops));
        }
    }

    /// Whether the warm-up is over.
    #[inline]
    pub(super) fn counts(&self, now: Nanos) -> bool {
        now >= self.warm_up
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
        self.bucket_opened += 1;
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
        let p99 = quantile(&self.bucket_latency, 0.99);
        self.timeline.p50_ms.push(quantile(&self.bucket_latency, 0.5));
        self.timeline.p99_ms.push(p99);
        self.deployments.iter_mut().for_each(|d| d.close_bucket(p99));
        self.timeline.started.push(std::mem::take(&mut self.bucket_started));
        self.timeline.ok.push(std::mem::take(&mut self.bucket_ok));
        self.timeline.failed.push(std::mem::take(&mut self.bucket_failed));
        self.timeline.opened.push(std::mem::take(&mut self.bucket_opened));
        self.timeline.connections.push(self.open as u32);
        self.bucket_latency.reset();
        self.bucket_end += self.interval;
    }
}
