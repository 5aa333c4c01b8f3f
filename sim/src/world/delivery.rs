//! Progressive delivery: the controller that measures a canary and moves traffic to it or back.
//!
//! Its judgement is the core's ([`lb_core::delivery`]). It sees what a metrics system would show it: requests to the canary's
//! cluster as the balancers saw them end, over the last interval.

use hdrhistogram::Histogram;
use lb_core::Nanos;
use lb_core::delivery::{Action, Delivery, Measured};
use lb_core::route::ClusterWeight;
use scenarios::ProgressiveDelivery;

use super::calls::{Call, End};
use super::tally::latencies;
use super::{Event, World};

/// The controller of one delivery.
pub(crate) struct Controller<'s> {
    spec: &'s ProgressiveDelivery,
    delivery: Delivery,
    requests: u64,
    errors: u64,
    latency: Histogram<u64>,
}

impl<'s> Controller<'s> {
    pub(super) fn new(spec: &'s ProgressiveDelivery) -> Self {
        Self { spec, delivery: Delivery::new(&spec.plan), requests: 0, errors: 0, latency: latencies(2) }
    }

    /// A balancer has seen a request to a cluster end.
    pub(super) fn measure(&mut self, now: Nanos, cluster: &str, call: &Call) {
        if self.spec.canary != cluster {
            return;
        }
        self.requests += 1;
        if call.end == End::Ok {
            self.latency.saturating_record(now.since(call.picked_at).0);
        } else {
            self.errors += 1;
        }
    }

    /// What was measured since the last time.
    fn take(&mut self) -> Measured {
        let p99 = (!self.latency.is_empty()).then(|| Nanos(self.latency.value_at_quantile(0.99)));
        self.latency.reset();
        Measured { requests: std::mem::take(&mut self.requests), errors: std::mem::take(&mut self.errors), p99 }
    }
}

impl World<'_> {
    /// The delivery starts, or an interval of it is over.
    pub(super) fn deliver(&mut self) {
        let now = self.now();
        let Some(controller) = &mut self.delivery else { return };
        let spec = controller.spec;
        let measured = controller.take();
        let action =
            if now == spec.start { controller.delivery.start(now) } else { controller.delivery.tick(now, &measured) };
        let next = controller.delivery.next_wake();
        if next != Nanos::NEVER {
            self.queue.at(next, Event::Deliver);
        }
        let (percent, words) = match action {
            Action::SetWeight(percent) => (percent, format!("{} gets {percent} %", spec.canary)),
            Action::Promote => (100, format!("{} is promoted", spec.canary)),
            Action::Rollback(reason) => (0, format!("{} is rolled back: {reason}", spec.canary)),
            Action::Wait => return,
        };
        self.recorder.happened(now, words);
        if let Some(route) = self.written.routes.iter_mut().find(|route| route.name == spec.route) {
            let weight = |name: &String| match name {
                name if *name == spec.canary => percent,
                name if *name == spec.stable => 100 - percent,
                _ => 0,
            };
            let weights =
                route.clusters.iter().map(|c| ClusterWeight { name: c.name.clone(), weight: weight(&c.name) });
            route.clusters = weights.collect();
        }
        self.configuration_changed();
    }
}
