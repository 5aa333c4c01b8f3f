//! Cluster DNS and kube-proxy: what becomes of an EndpointSlice, and when.

use lb_core::channel::{Input, Resolution, ResolvedAddress, ResolverConfig};
use lb_core::{Address, Nanos};
use reports::record::Learnt;
use scenarios::{Balancer, Strategy, TrafficDistribution};

use super::callers::{Caller, Name};
use super::deployments::Role;
use super::endpoint_slices::EndpointSlice;
use super::places::Hop;
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::{below, shuffle};

/// How callers come to know of pods of this role.
pub(crate) fn learnt(strategy: &Strategy, role: Role) -> Learnt {
    let proxy = strategy.proxy.as_ref().map(|proxy| &proxy.resolver);
    let resolver = match (strategy.balancer, role) {
        (_, Role::Support) => None,
        (Balancer::KubeProxy, _) => return Learnt::KubeProxy,
        (Balancer::Client, _) | (Balancer::Ingress, Role::Proxy) => Some(&strategy.client.resolver),
        (Balancer::Ingress | Balancer::Sidecar | Balancer::NodeProxy | Balancer::Mesh, _) => proxy,
    };
    match resolver {
        None | Some(ResolverConfig::Dns(_) | ResolverConfig::StrictDns(_)) => Learnt::Dns,
        Some(ResolverConfig::Xds(_)) => Learnt::ControlPlane,
        Some(ResolverConfig::Grpclb(_)) => Learnt::Balancer,
    }
}

/// What an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A pod's own address.
    Pod(PodId),
    /// The ClusterIP of a service, by index.
    ClusterIp(usize),
}

/// A service as a part of what a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServicePart {
    /// Which.
    pub(super) service: usize,
    /// Weight of each of its addresses.
    pub(super) weight: u32,
    pub(super) priority: u32,
}

/// A Kubernetes Service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(super) name: String,
    /// Its ClusterIP.
    pub(super) address: Address,
    /// The deployments it selects, by index.
    pub(super) deployments: Vec<usize>,
    traffic_distribution: Option<TrafficDistribution>,
    /// Its endpoints, as the API server has them.
    pub(super) slice: EndpointSlice,
    /// The authoritative A records, in order of creation.
    records: Vec<PodId>,
    /// The resolver's cache: an answer and when it ends.
    cached: Option<(Vec<PodId>, Nanos)>,
    /// Its endpoints, as kube-proxy has them.
    rules: EndpointSlice,
}

impl Service {
    pub(super) fn new(
        index: usize,
        name: &str,
        deployments: Vec<usize>,
        traffic_distribution: Option<TrafficDistribution>,
    ) -> Self {
        // A ClusterIP as kubeadm's default service range would give it.
        let address = Address::new(&format!("10.96.{}.{}:50051", index / 250, index % 250 + 1));
        Self {
            name: name.to_owned(),
            address,
            deployments,
            traffic_distribution,
            slice: EndpointSlice::default(),
            records: Vec::new(),
            cached: None,
            rules: EndpointSlice::default(),
        }
    }
}

/// Puts `pod` into or takes it out of a list in order of creation.
pub(super) fn set_member(list: &mut Vec<PodId>, pod: PodId, member: bool) {
    match (list.binary_search(&pod), member) {
        (Err(at), true) => list.insert(at, pod),
        (Ok(at), false) => {
            list.remove(at);
        }
        _ => {}
    }
}

impl World<'_> {
    /// CoreDNS has heard from its watch. Only ready endpoints have a record.
    pub(super) fn publish_dns(&mut self, pod: PodId) {
        let now = self.now();
        let deployment = self.pods[pod.0 as usize].deployment;
        let mut published = false;
        let mut resolvable = Nanos::NEVER;
        for service in self.services.iter_mut().filter(|s| s.deployments.contains(&deployment)) {
            let ready = service.slice.is_ready(pod);
            set_member(&mut service.records, pod, ready);
            published |= ready;
            if ready {
                // An answer that was cached before is given until it ends; a name nobody has asked for has none.
                let kept =
                    service.cached.as_ref().filter(|(pods, _)| !pods.contains(&pod)).map_or(now, |(_, end)| *end);
                resolvable = resolvable.min(kept.max(now));
            }
        }
        if published && self.learnt_by(pod) == Learnt::Dns {
            let moments = &mut self.pods[pod.0 as usize].moments;
            moments.published.get_or_insert(now);
            moments.resolvable.get_or_insert(resolvable);
        }
    }

    /// kube-proxy has heard from its watch and rewritten the nodes' rules.
    pub(super) fn sync_proxy(&mut self, pod: PodId) {
        let now = self.now();
        let deployment = self.pods[pod.0 as usize].deployment;
        let mut ready = false;
        for service in self.services.iter_mut().filter(|s| s.deployments.contains(&deployment)) {
            service.rules.copy_from(&service.slice, pod);
            ready |= service.rules.is_ready(pod);
        }
        if ready && self.learnt_by(pod) == Learnt::KubeProxy {
            self.pods[pod.0 as usize].moments.published.get_or_insert(now);
        }
    }

    /// Where kube-proxy on a pod's node sends a new connection: to a random ready backend of those that the Service prefers for
    /// it; if none is ready, to a random one that terminates and still serves (KEP-1669).
    pub(super) fn backend(&mut self, from: PodId, service: usize) -> Option<PodId> {
        let here = self.pods[from.0 as usize].node;
        let service = &self.services[service];
        let (places, pods) = (&self.places, &self.pods);
        let node_of = |pod: PodId| pods[pod.0 as usize].node;
        let same_node = |pod: PodId| node_of(pod) == here;
        let same_zone = |pod: PodId| places.zone(node_of(pod)) == places.zone(here);
        let any = |_: PodId| true;
        let preferences: &[&dyn Fn(PodId) -> bool] = match service.traffic_distribution {
            None => &[&any],
            Some(TrafficDistribution::PreferClose | TrafficDistribution::PreferSameZone) => &[&same_zone, &any],
            Some(TrafficDistribution::PreferSameNode) => &[&same_node, &same_zone, &any],
        };
        let rules = &service.rules;
        for prefers in preferences {
            let preferred = || rules.ready().filter(|pod| prefers(*pod));
            let n = preferred().count();
            if n > 0 {
                return preferred().nth(below(&mut self.names_stream, n));
            }
        }
        let serving = rules.serving_and_terminating().count();
        if serving == 0 {
            return None;
        }
        rules.serving_and_terminating().nth(below(&mut self.names_stream, serving))
    }

    /// How callers come to know of a pod.
    pub(super) fn learnt_by(&self, pod: PodId) -> Learnt {
        learnt(self.strategy, self.pods[pod.0 as usize].role)
    }

    /// The services that a name stands for; `None` where the address is known
    /// beforehand, and nobody subscribes to it (checked).
    pub(super) fn services_of(&self, name: Name) -> Option<Vec<ServicePart>> {
        match name {
            Name::Headless(service) => Some(vec![ServicePart { service, weight: 1, priority: 0 }]),
            Name::Weighted(list) => Some(self.weighted[list].clone()),
            Name::ClusterIp(_) | Name::Fixed(_) => None,
        }
    }

    /// A channel asks for its name.
    pub(super) fn resolve(&mut self, id: Id<Caller>) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        caller.unanswered = 0;
        match caller.name {
            // A fixed address needs no server.
            Name::Fixed(_) => self.queue.after(self.lanes.hops[Hop::SamePod as usize], Event::DnsQuery(id)),
            // The DNS server is a pod on some other node.
            _ => self.queue.after(self.lanes.hops[Hop::SameZone as usize], Event::DnsQuery(id)),
        }
    }

    pub(super) fn dns_query(&mut self, id: Id<Caller>) {
        let Some(name) = self.callers.get(id).map(|c| c.name) else { return };
        if (self.dns_is_out() || self.is_cut_off(id)) && !matches!(name, Name::Fixed(_)) {
            return self.no_answer(id);
        }
        let ttl = self.scenario.dns.ttl;
        let (resolution, hop) = match name {
            Name::Fixed(pod) => {
                let address = ResolvedAddress::new(self.pods[pod.0 as usize].address.clone());
                (Resolution { addresses: vec![address], ttl: Nanos::NEVER }, Hop::SamePod)
            }
            Name::ClusterIp(service) => {
                let address = ResolvedAddress::new(self.services[service].address.clone());
                (Resolution { addresses: vec![address], ttl }, Hop::SameZone)
            }
            Name::Headless(service) => (self.headless_answer(service, 1), Hop::SameZone),
            Name::Weighted(list) => (self.weighted_answer(list), Hop::SameZone),
        };
        if let Some(caller) = self.callers.get_mut(id) {
            caller.answer = Some(resolution);
            self.queue.after(self.lanes.hops[hop as usize], Event::DnsAnswer(id));
        }
    }

    /// The answers for several names in one: as Envoy's STRICT_DNS has it, a name's weight is that of each of its addresses.
    fn weighted_answer(&mut self, list: usize) -> Resolution {
        let mut all = Resolution { addresses: Vec::new(), ttl: Nanos::NEVER };
        for ServicePart { service, weight, priority } in self.weighted[list].clone() {
            let Resolution { addresses, ttl } = self.headless_answer(service, weight);
            all.addresses.extend(addresses.into_iter().map(|a| ResolvedAddress { priority, ..a }));
            all.ttl = all.ttl.min(ttl);
        }
        all
    }

    /// What the cluster's resolver answers: from its cache while that lasts, else what is published now. And when that ends.
    pub(super) fn cached_records(&mut self, service: usize) -> (Vec<PodId>, Nanos) {
        let now = self.queue.now();
        let dns = &self.scenario.dns;
        let service = &mut self.services[service];
        if service.cached.as_ref().is_none_or(|(_, end)| *end <= now) {
            service.cached = Some((service.records.clone(), now + dns.cache.min(dns.ttl)));
        }
        service.cached.clone().unwrap_or_default()
    }

    fn headless_answer(&mut self, service: usize, weight: u32) -> Resolution {
        let now = self.queue.now();
        let dns = &self.scenario.dns;
        let (mut pods, end) = self.cached_records(service);
        if dns.shuffle {
            shuffle(&mut self.names_stream, &mut pods);
        }
        // A cached answer carries what is left of its TTL.
        let ttl = if dns.cache == Nanos::ZERO { dns.ttl } else { end.since(now).min(dns.ttl) };
        Resolution { addresses: pods.into_iter().map(|pod| self.resolved_with_weight(pod, weight)).collect(), ttl }
    }

    /// A pod as a resolver gives it, with `n` times its weight.
    pub(super) fn resolved_with_weight(&self, pod: PodId, n: u32) -> ResolvedAddress {
        let pod = &self.pods[pod.0 as usize];
        ResolvedAddress::new(pod.address.clone()).with_weight(pod.template.weight.saturating_mul(n))
    }

    pub(super) fn dns_answer(&mut self, id: Id<Caller>) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        let Some(resolution) = caller.answer.take() else { return };
        let name = caller.name;
        // That a sidecar knows its own pod's server helps nobody to find it.
        if !matches!(name, Name::Fixed(pod) if self.is_sidecar_before(id, pod)) {
            self.address_learnt(&resolution.addresses);
        }
        self.tell(id, Input::Resolved(resolution));
    }
}
