//! Pods that serve badly though their readiness probes pass: errors, a cold start, a slow or failing period.
//!
//! Whether a request fails is decided by its own random number against the pod's error rate, as its work is: the same
//! requests fail under every strategy that sends them to such a pod, so strategies differ by where they send and not by
//! luck; a retry is a new draw. A request's time is taken at the speed of the moment its work begins; it costs two comparisons where a pod is
//! neither warming up nor degraded.

use lb_core::{Code, Nanos};
use scenarios::Degrade;

use super::calls::Call;
use super::pods::Pod;
use super::{PodId, World};

/// A pod's bad period.
#[derive(Debug, Clone, Copy)]
pub(super) struct Degraded {
    until: Nanos,
    /// Part of its speed.
    speed: f64,
    /// Instead of its own, if given.
    error_rate: Option<f64>,
}

impl Pod<'_> {
    /// How fast it works now.
    #[inline]
    pub(super) fn speed(&self, now: Nanos) -> f64 {
        let mut speed = self.template.speed;
        // Those of time zero have been up for long.
        if let (Some(warm_up), Some(started)) = (&self.template.warm_up, self.moments.started)
            && self.moments.created > Nanos::ZERO
        {
            let passed = now.since(started).0 as f64 / warm_up.window.0 as f64;
            speed *= warm_up.speed + (1.0 - warm_up.speed) * passed.min(1.0);
        }
        match self.degraded_at(now) {
            Some(degraded) => speed * degraded.speed,
            None => speed,
        }
    }

    /// The status it answers a request with once its work is done.
    #[inline]
    pub(super) fn verdict(&self, call: &Call, now: Nanos) -> Option<Code> {
        let rate = self.degraded_at(now).and_then(|d| d.error_rate).unwrap_or(self.template.error_rate);
        (rate > 0.0 && call.work.luck(self.stage(call), call.attempt) < rate).then_some(self.template.error_code)
    }

    #[inline]
    fn degraded_at(&self, now: Nanos) -> Option<&Degraded> {
        self.degraded.as_deref().filter(|degraded| now < degraded.until)
    }
}

impl World<'_> {
    /// The oldest pods of a deployment have a bad time.
    pub(super) fn degrade(&mut self, deployment: usize, event: &Degrade) {
        let until = self.now() + event.lasts;
        let pods = self.deployments[deployment].pods.iter().copied();
        let victims: Vec<PodId> = pods.take(event.pods as usize).collect();
        for pod in victims {
            self.pods[pod.0 as usize].degraded =
                Some(Box::new(Degraded { until, speed: event.speed, error_rate: event.error_rate }));
        }
    }
}
