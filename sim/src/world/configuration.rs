//! What balancers go by: routes and clusters are written down in versions, and reach each balancing process from a file, when
//! it starts, or pushed by the control plane.

use lb_core::Nanos;
use lb_core::PolicyConfig;
use lb_core::channel::ChannelConfig;
use lb_core::policy::Needs;
use lb_core::route::{RouteConfig, Router};
use scenarios::{Balancer, ClusterConfig, Configuration, ServiceWeight, Strategy};

use super::callers::{Caller, Name};
use super::calls::Call;
use super::names;
use super::pods::Phase as PodPhase;
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::{Purpose, Stream, fnv1a, stream};

/// The routes and clusters that are written down at present. Balancers have a copy of what they have got to know.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(super) routes: Vec<RouteConfig>,
    pub(super) clusters: Vec<ClusterConfig>,
    /// Counts the changes.
    pub(super) version: u32,
}

impl Written {
    pub(super) fn new(strategy: &Strategy) -> Self {
        Self { routes: strategy.routes.clone(), clusters: strategy.clusters.clone(), version: 0 }
    }

    /// The services of a cluster, each with the weight of its addresses: those declared, or the service of that name.
    pub(super) fn endpoints(&self, cluster: &str) -> Vec<ServiceWeight> {
        match self.clusters.iter().find(|c| c.name == cluster) {
            Some(c) => c.endpoints.clone(),
            None => vec![ServiceWeight { service: cluster.to_owned(), weight: 1, priority: 0 }],
        }
    }

    fn policy(&self, cluster: &str) -> Option<PolicyConfig> {
        self.clusters.iter().find(|c| c.name == cluster)?.policy.clone()
    }
}

/// A balancer's routes, as it knows them, and its channels to what they lead to.
#[derive(Debug)]
pub(crate) struct Routing {
    pub(super) router: Router,
    /// The channel to each cluster it has heard of.
    pub(super) channels: Vec<(String, Id<Caller>)>,
    /// The same by the router's index of the cluster; none where a route leads to a cluster not heard of.
    pub(super) clusters: Vec<Id<Caller>>,
    /// The channel to each limit service.
    pub(super) limiters: Vec<(String, Id<Caller>)>,
    pub(super) stream: Stream,
    /// Of the routes it goes by; none before the first come.
    pub(super) version: Option<u32>,
    /// Requests that came before the first routes.
    pub(super) waiting: Vec<Id<Call>>,
}

/// A part of the configuration, as a control plane sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Clusters,
    Routes,
}

impl Part {
    /// This part of a version reaches a balancer.
    fn event(self, pod: PodId, version: u32) -> Event {
        match self {
            Self::Clusters => Event::ClustersConfigured(pod, version),
            Self::Routes => Event::RoutesConfigured(pod, version),
        }
    }
}

impl World<'_> {
    /// A balancing process starts, and gets its configuration if its strategy has routes: it reads a file, or asks the
    /// control plane.
    pub(super) fn start_routing(&mut self, pod: PodId) {
        if self.strategy.routes.is_empty() {
            return;
        }
        let name = fnv1a(self.pods[pod.0 as usize].name.as_bytes());
        let routing = Routing {
            router: Router::new(&[]),
            channels: Vec::new(),
            clusters: Vec::new(),
            limiters: Vec::new(),
            stream: stream(self.seed, Purpose::Routes, name),
            version: None,
            waiting: Vec::new(),
        };
        self.pods[pod.0 as usize].routing = Some(Box::new(routing));
        let version = self.written.version;
        // At time zero everything has long been running.
        if self.strategy.configuration == Configuration::Static || self.now() == Nanos::ZERO {
            self.apply_clusters(pod, version);
            self.apply_routes(pod, version);
        } else {
            self.ask_for_configuration(pod);
        }
    }

    /// A balancer gets the clusters of a version: it makes a channel to each that is new, and to the limit services.
    fn apply_clusters(&mut self, pod: PodId, version: u32) {
        let Some(written) = self.versions.get(version as usize).cloned() else { return };
        let mut new: Vec<(String, Name, ChannelConfig)> = Vec::new();
        for cluster in written.routes.iter().flat_map(|route| &route.clusters) {
            if self.has_channel(pod, &cluster.name) || new.iter().any(|(known, ..)| *known == cluster.name) {
                continue;
            }
            let mut config = self.balancer_channel();
            config.policy = written.policy(&cluster.name).unwrap_or(config.policy);
            new.push((cluster.name.clone(), self.cluster_name(&written, &cluster.name), config));
        }
        for (cluster, name, config) in new {
            let caller = self.new_caller(pod, name, &config);
            if let Some(routing) = &mut self.pods[pod.0 as usize].routing {
                routing.channels.push((cluster, caller));
                routing.map_clusters();
            }
            self.start_caller(caller);
        }
        for service in limit_services(&written.routes) {
            let routing = self.pods[pod.0 as usize].routing.as_ref();
            let known = routing.is_some_and(|routing| !channel_of(&routing.limiters, service).is_none());
            if !known {
                // Envoy's cluster for it is an ordinary one: its name is looked up as those of the servers are.
                let policy = PolicyConfig::RoundRobin(Default::default());
                let config = ChannelConfig { policy, resolver: self.balancer_channel().resolver, ..Default::default() };
                let caller = self.new_caller(pod, Name::Headless(self.service(service)), &config);
                if let Some(routing) = &mut self.pods[pod.0 as usize].routing {
                    routing.limiters.push((service.to_owned(), caller));
                }
                self.start_caller(caller);
            }
        }
    }

    fn has_channel(&self, pod: PodId, cluster: &str) -> bool {
        let routing = self.pods[pod.0 as usize].routing.as_ref();
        routing.is_some_and(|routing| !channel_of(&routing.channels, cluster).is_none())
    }

    /// A balancer gets the routes of a version, and what has waited for them goes on.
    fn apply_routes(&mut self, pod: PodId, version: u32) {
        let Some(written) = self.versions.get(version as usize) else { return };
        let Some(routing) = &mut self.pods[pod.0 as usize].routing else { return };
        routing.router.update(&written.routes);
        routing.map_clusters();
        routing.version = Some(version);
        let waiting = std::mem::take(&mut routing.waiting);
        for call in waiting {
            self.route(pod, call);
        }
        self.note_configured();
    }

    /// A part of a version that was pushed reaches a balancer, or waits at the border of its zone.
    pub(super) fn configured(&mut self, pod: PodId, version: u32, part: Part) {
        let reached = self.back_at(self.pods[pod.0 as usize].node);
        if reached > self.now() {
            return self.queue.at(reached, part.event(pod, version));
        }
        // A balancer that is gone by now, or has something newer, takes no notice.
        let older = |routing: &Routing| routing.version.is_none_or(|known| known < version);
        if !self.pods[pod.0 as usize].routing.as_deref().is_some_and(older) && !self.waits_for_clusters(pod, version) {
            return;
        }
        match part {
            Part::Clusters => self.apply_clusters(pod, version),
            Part::Routes => self.apply_routes(pod, version),
        }
    }

    /// Whether routes of this version came before their clusters.
    fn waits_for_clusters(&self, pod: PodId, version: u32) -> bool {
        let routing = self.pods[pod.0 as usize].routing.as_deref();
        routing.is_some_and(|routing| routing.version == Some(version) && routing.clusters.contains(&Id::NONE))
    }

    /// The channel of whoever balances, to the servers.
    pub(super) fn balancer_channel(&self) -> ChannelConfig {
        match self.strategy.balancer {
            Balancer::KubeProxy | Balancer::Client => self.strategy.client.clone(),
            _ => self.strategy.proxy.clone().unwrap_or_default().channel(),
        }
    }

    fn cluster_name(&mut self, written: &Written, cluster: &str) -> Name {
        let endpoints = written.endpoints(cluster);
        let part = |e: &ServiceWeight| names::ServicePart {
            service: self.service(&e.service),
            weight: e.weight,
            priority: e.priority,
        };
        let list: Vec<names::ServicePart> = endpoints.iter().map(part).collect();
        match list.as_slice() {
            [names::ServicePart { service, weight: 1, priority: 0 }] => Name::Headless(*service),
            _ => {
                self.weighted.push(list);
                Name::Weighted(self.weighted.len() - 1)
            }
        }
    }

    /// The timeline changes what is written down.
    pub(super) fn configure(&mut self, change: &scenarios::Configure) {
        let route = self.written.routes.iter_mut().find(|r| change.route.as_ref() == Some(&r.name));
        let cluster = self.written.clusters.iter_mut().find(|c| change.cluster.as_ref() == Some(&c.name));
        match (route, cluster) {
            (Some(route), _) => route.clusters.clone_from(&change.clusters),
            (_, Some(cluster)) => cluster.endpoints.clone_from(&change.endpoints),
            (None, None) => return, // this strategy has neither
        }
        self.configuration_changed();
    }

    /// What is written down is another: a control plane pushes it, a file is read at the next start.
    pub(super) fn configuration_changed(&mut self) {
        let now = self.now();
        self.end_splits(now);
        self.written.version += 1;
        self.versions.push(self.written.clone());
        self.recorder.configuration_changed(now);
        if self.strategy.configuration == Configuration::Xds {
            self.push_soon();
        }
    }

    /// The control plane tells every balancer what is written down, with whatever else it has to push.
    ///
    /// In order (ADS: clusters and endpoints before routes) a route never leads to a cluster that is not known yet: its
    /// answers are three more exchanges on the stream. Out of order the routes are there first, and the clusters come with
    /// the next push.
    pub(super) fn push_configuration(&mut self) {
        let version = self.written.version;
        if self.strategy.configuration != Configuration::Xds || version == self.pushed_version {
            return;
        }
        self.pushed_version = version;
        for pod in self.balancers() {
            self.send_configuration(pod, self.hops(1));
        }
    }

    /// The pods with routes.
    fn balancers(&self) -> Vec<PodId> {
        let pods = self.pods.iter().enumerate().filter(|(_, pod)| pod.routing.is_some());
        pods.map(|(index, _)| PodId(index as u32)).collect()
    }

    /// A balancer that has started asks the control plane, which answers if it is there.
    fn ask_for_configuration(&mut self, pod: PodId) {
        if !self.control_plane_is_out() {
            // A connection (two round trips), the question and its answer.
            self.send_configuration(pod, self.hops(6));
        }
    }

    /// The control plane is back: balancers connect again and get what is written down now.
    pub(super) fn configure_all_again(&mut self) {
        for pod in self.balancers() {
            self.ask_for_configuration(pod);
        }
        self.pushed_version = self.written.version;
    }

    fn send_configuration(&mut self, pod: PodId, after: Nanos) {
        let (now, version) = (self.now(), self.written.version);
        let (clusters, routes) = match self.control_plane_settings().ordered {
            true => (after, after + self.hops(6)),
            false => (after + self.control_plane_settings().push_delay, after),
        };
        self.queue.at(now + clusters, Part::Clusters.event(pod, version));
        self.queue.at(now + routes, Part::Routes.event(pod, version));
    }

    /// If every balancer has what is written down, that is noted.
    pub(super) fn note_configured(&mut self) {
        let alive = |pod: &&super::Pod| pod.phase != PodPhase::Gone && pod.phase != PodPhase::Starting;
        let versions = self.pods.iter().filter(alive).filter_map(|pod| pod.routing.as_deref()).map(|r| r.version);
        let mut known = versions.peekable();
        if known.peek().is_some() && known.all(|version| version == Some(self.written.version)) {
            let now = self.now();
            self.recorder.configured(now);
            self.begin_splits();
        }
    }
}

impl Routing {
    /// Whether a request waits for the first routes.
    #[cfg(debug_assertions)]
    pub(super) fn holds(&self, call: Id<Call>) -> bool {
        self.version.is_none() && self.waiting.contains(&call)
    }

    /// Finds the channels of the router's clusters, which may be more than before.
    fn map_clusters(&mut self) {
        self.clusters = self.router.clusters().iter().map(|name| channel_of(&self.channels, name)).collect();
    }

    /// All of its channels.
    pub(super) fn channels(&self) -> impl Iterator<Item = Id<Caller>> {
        self.channels.iter().map(|(_, caller)| *caller).chain(self.limiters.iter().map(|(_, caller)| *caller))
    }
}

/// What the policies of a strategy need to know, whoever balances.
pub(super) fn needs(strategy: &Strategy) -> Needs {
    let proxy = strategy.proxy.as_ref().map(|proxy| &proxy.policy);
    let clusters = strategy.clusters.iter().filter_map(|cluster| cluster.policy.as_ref());
    let policies = [&strategy.client.policy].into_iter().chain(proxy).chain(clusters);
    policies.fold(Needs::default(), |all, policy| all.or(policy.needs()))
}

/// The channel to what has this name, if there is one.
pub(super) fn channel_of(channels: &[(String, Id<Caller>)], name: &str) -> Id<Caller> {
    channels.iter().find(|(known, _)| known == name).map_or(Id::NONE, |(_, caller)| *caller)
}

/// The deployments that answer questions about rate limits.
pub(super) fn limit_services(routes: &[RouteConfig]) -> impl Iterator<Item = &str> {
    routes.iter().filter_map(|route| Some(route.rate_limit.as_ref()?.global.as_ref()?.service.as_str()))
}
