//! What share each target of a route was configured to get, what its weights come to, and what it got.
//!
//! The three differ where a weight is that of a DNS name: it counts for each of the name's addresses, so the share follows
//! the number of pods. A period lasts from the moment every balancer goes by a configuration to the next change of it.

use lb_core::Nanos;
use lb_core::route::RouteId;

use super::calls::{Call, End};
use super::{PodId, World};

/// A route's split while one configuration was in force.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) route: String,
    index: usize,
    pub(crate) from: Nanos,
    pub(crate) until: Option<Nanos>,
    pub(crate) parts: Vec<Part>,
    /// Requests of the route that reached a server, by deployment, when it began.
    before: Vec<u64>,
}

/// One target of a route: a cluster, or a service of its only cluster.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// As it is written: its weight over the sum of the weights.
    pub(crate) configured: f64,
    /// As the balancer reads it: with the weight of a DNS name counted for each of its addresses.
    pub(crate) effective: f64,
    /// Requests it got.
    pub(crate) requests: u64,
    deployments: Vec<usize>,
}

impl World<'_> {
    /// A request of a route has come back from a server. Routes keep their order, so the index means the same to all.
    pub(super) fn count_for_split(&mut self, route: RouteId, call: &Call) {
        // Only what reached a server counts.
        if matches!(call.end, End::NoEndpoint | End::Cancelled) || call.connection.is_none() {
            return;
        }
        let deployment = self.pods[call.pod.0 as usize].deployment;
        self.reached[route.index()][deployment] += 1;
    }

    /// Every balancer goes by what is written down.
    pub(super) fn begin_splits(&mut self) {
        let from = self.now();
        for (index, route) in self.written.routes.clone().into_iter().enumerate() {
            if self.splits.iter().any(|split| split.route == route.name && split.until.is_none()) {
                continue;
            }
            let mut targets: Vec<(String, Vec<(String, u32)>, u32)> =
                route.clusters.iter().map(|c| (c.name.clone(), self.written.endpoints(&c.name), c.weight)).collect();
            // Of a single cluster its services are the targets.
            if let [(_, endpoints, _)] = targets.as_slice() {
                targets = endpoints.iter().map(|(s, w)| (s.clone(), vec![(s.clone(), *w)], *w)).collect();
                let each = |(_, services, weight): &mut (String, Vec<(String, u32)>, u32)| {
                    *weight *= self.addresses(&services[0].0);
                };
                let written: u32 = targets.iter().map(|(.., weight)| weight).sum();
                let configured: Vec<f64> = targets.iter().map(|(.., w)| f64::from(*w) / f64::from(written)).collect();
                targets.iter_mut().for_each(each);
                self.begin_split(index, from, &targets, Some(&configured));
            } else {
                self.begin_split(index, from, &targets, None);
            }
        }
    }

    fn begin_split(
        &mut self,
        route: usize,
        from: Nanos,
        targets: &[(String, Vec<(String, u32)>, u32)],
        configured: Option<&[f64]>,
    ) {
        let sum: f64 = targets.iter().map(|(.., weight)| f64::from(*weight)).sum();
        let parts = targets.iter().enumerate().map(|(i, (name, services, weight))| {
            let effective = if sum > 0.0 { f64::from(*weight) / sum } else { 0.0 };
            let services = services.iter().map(|(name, _)| &self.services[self.service(name)]);
            Part {
                name: name.clone(),
                configured: configured.map_or(effective, |shares| shares[i]),
                effective,
                requests: 0,
                deployments: services.flat_map(|service| service.deployments.iter().copied()).collect(),
            }
        });
        let split = Split {
            route: self.written.routes[route].name.clone(),
            index: route,
            from,
            until: None,
            parts: parts.collect(),
            before: self.reached[route].clone(),
        };
        self.splits.push(split);
    }

    /// What is written down changes, or the run is over: the present period ends.
    pub(super) fn end_splits(&mut self) {
        let now = self.now();
        for at in 0..self.splits.len() {
            if self.splits[at].until.is_some() {
                continue;
            }
            let split = &mut self.splits[at];
            let counts = &self.reached[split.index];
            split.until = Some(now);
            for part in &mut split.parts {
                part.requests = part.deployments.iter().map(|&d| counts[d] - split.before[d]).sum();
            }
        }
    }

    /// Ready pods of a service.
    fn addresses(&self, service: &str) -> u32 {
        let deployments = &self.services[self.service(service)].deployments;
        let ready = |pod: &PodId| deployments.contains(&self.pods[pod.0 as usize].deployment) && self.is_ready(*pod);
        (0..self.pods.len() as u32).map(PodId).filter(ready).count() as u32
    }
}
