//! What share each target of a route was configured to get, what its weights come to, and what it got.
//!
//! The three differ where a weight is that of a DNS name: it counts for each of the name's addresses, so the share follows
//! the number of pods. A period lasts from the moment every balancer goes by a configuration to the next change of it.

use lb_core::Nanos;
use lb_core::route::{ClusterWeight, RouteId};
use scenarios::ServiceWeight;

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

/// What a route's requests may go to.
struct Target {
    name: String,
    services: Vec<usize>,
    /// Its weight as it is written.
    written: u32,
    /// That times its addresses where it is the weight of each.
    effective: u32,
}

impl World<'_> {
    /// A request of a route has come back from a server. Routes keep their order, so the index means the same to all.
    pub(super) fn count_for_split(&mut self, route: RouteId, call: &Call) {
        // Only what reached a server counts.
        if matches!(call.end, End::NoEndpoint | End::Cancelled) || call.connection.is_none() {
            return;
        }
        // A request that comes to a server's sidecar has come to the server's pod.
        let pod = self.pods[call.pod.0 as usize].host;
        let deployment = self.pods[pod.0 as usize].deployment;
        self.reached[route.index()][deployment] += 1;
    }

    /// Every balancer goes by what is written down: a period begins for each route that has none.
    pub(super) fn begin_splits(&mut self) {
        let from = self.now();
        for index in 0..self.written.routes.len() {
            if self.splits.iter().any(|split| split.index == index && split.until.is_none()) {
                continue;
            }
            let targets = self.targets(index);
            let (written, effective) = (sum(&targets, |t| t.written), sum(&targets, |t| t.effective));
            let parts = targets.iter().map(|target| Part {
                name: target.name.clone(),
                configured: f64::from(target.written) / written,
                effective: f64::from(target.effective) / effective,
                requests: 0,
                deployments: target.services.iter().flat_map(|&s| self.services[s].deployments.clone()).collect(),
            });
            let split = Split {
                route: self.written.routes[index].name.clone(),
                index,
                from,
                until: None,
                parts: parts.collect(),
                before: self.reached[index].clone(),
            };
            self.splits.push(split);
        }
    }

    /// What a route divides its requests among: its clusters, or the services of its only one.
    fn targets(&self, route: usize) -> Vec<Target> {
        let clusters = &self.written.routes[route].clusters;
        if let [only] = clusters.as_slice() {
            let endpoints = self.written.endpoints(&only.name).into_iter();
            let target = |ServiceWeight { service: name, weight: written, .. }| {
                let services = vec![self.service(&name)];
                Target { effective: written.saturating_mul(self.addresses(services[0])), name, services, written }
            };
            return endpoints.map(target).collect();
        }
        let target = |cluster: &ClusterWeight| Target {
            name: cluster.name.clone(),
            services: self.written.endpoints(&cluster.name).iter().map(|e| self.service(&e.service)).collect(),
            written: cluster.weight,
            effective: cluster.weight,
        };
        clusters.iter().map(target).collect()
    }

    /// What is written down changes, or the run is over: the present period ends.
    pub(super) fn end_splits(&mut self, until: Nanos) {
        for at in 0..self.splits.len() {
            if self.splits[at].until.is_some() {
                continue;
            }
            let split = &mut self.splits[at];
            let counts = &self.reached[split.index];
            split.until = Some(until);
            for part in &mut split.parts {
                part.requests = part.deployments.iter().map(|&d| counts[d] - split.before[d]).sum();
            }
        }
    }

    /// Ready pods of a service.
    fn addresses(&self, service: usize) -> u32 {
        let deployments = &self.services[service].deployments;
        let ready = |pod: &PodId| deployments.contains(&self.pods[pod.0 as usize].deployment) && self.is_ready(*pod);
        (0..self.pods.len() as u32).map(PodId).filter(ready).count() as u32
    }
}

/// The sum of the targets' weights, to divide by. Two names with many addresses can go beyond what a weight can be.
fn sum(targets: &[Target], weight: fn(&Target) -> u32) -> f64 {
    targets.iter().map(|target| u64::from(weight(target))).sum::<u64>().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_weights_have_a_sum() {
        let target = || Target { name: String::new(), services: Vec::new(), written: 0, effective: u32::MAX };
        let targets = [target(), target()];
        assert_eq!(sum(&targets, |t| t.effective), 2.0 * f64::from(u32::MAX));
        assert_eq!(sum(&targets, |t| t.written), 1.0);
    }
}
