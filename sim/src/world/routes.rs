//! Routes: what a balancer does with a request around the pick. It finds the request's route, asks for leave where there
//! is a rate limit, injects faults, chooses a cluster by weight, and tries again what failed.
//!
//! What is decided is the core's ([`lb_core::route`]); here its decisions are carried out. A request that passes routes is
//! a call without a connection of its own (at a client) or the call a proxy has received, and each attempt is a call made
//! for it. Where the request stands between them is its [`Routed`].

use lb_core::channel::ChannelConfig;
use lb_core::limit::{Limit, RateLimitService};
use lb_core::route::{Attempts, ClusterId, Fault, Pushback, RequestInfo, RetryDecision, RouteConfig, RouteId, Router};
use lb_core::{Nanos, PolicyConfig};
use scenarios::{Balancer, ClusterConfig, Configuration, Strategy};

use super::callers::{Caller, Name};
use super::calls::{Call, End, Phase};
use super::load::ClientId;
use super::pods::Phase as PodPhase;
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::{Purpose, Stream, Work, fnv1a, stream};

/// A step on the way that no service has, so that the limit service's work is its own.
const LIMIT_STAGE: u8 = 200;

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
    pub(super) fn endpoints(&self, cluster: &str) -> Vec<(String, u32)> {
        match self.clusters.iter().find(|c| c.name == cluster) {
            Some(c) => c.endpoints.iter().map(|e| (e.service.clone(), e.weight)).collect(),
            None => vec![(cluster.to_owned(), 1)],
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
    channels: Vec<(String, Id<Caller>)>,
    /// The same by the router's index of the cluster; none where a route leads to a cluster not heard of.
    clusters: Vec<Id<Caller>>,
    /// Channels to limit services, each with the service.
    limiters: Vec<(usize, Id<Caller>)>,
    stream: Stream,
    /// Of the routes it goes by; none before the first come.
    version: Option<u32>,
    /// Requests that came before the first routes.
    waiting: Vec<Id<Call>>,
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

/// Where a request that passes routes stands.
pub(crate) struct Routed {
    /// Whose routes.
    pub(super) pod: PodId,
    pub(super) route: RouteId,
    cluster: ClusterId,
    pub(super) fault: Option<Fault>,
    pub(super) attempts: Option<Attempts>,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The limit service has been asked.
    Asking,
    /// An injected delay.
    Delayed,
    /// An attempt is under way.
    Attempting,
    /// The pause before the next attempt.
    Pausing,
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
        let services: Vec<String> = limit_services(&written.routes).map(str::to_owned).collect();
        for service in services {
            let service = self.service(&service);
            let known = self.pods[pod.0 as usize].routing.as_ref().is_some_and(|r| r.limiter(service).is_some());
            if !known {
                // Envoy's cluster for it is an ordinary one: its name is looked up as those of the servers are.
                let policy = PolicyConfig::RoundRobin(Default::default());
                let config = ChannelConfig { policy, resolver: self.balancer_channel().resolver, ..Default::default() };
                let caller = self.new_caller(pod, Name::Headless(service), &config);
                if let Some(routing) = &mut self.pods[pod.0 as usize].routing {
                    routing.limiters.push((service, caller));
                }
                self.start_caller(caller);
            }
        }
    }

    fn has_channel(&self, pod: PodId, cluster: &str) -> bool {
        let routing = self.pods[pod.0 as usize].routing.as_ref();
        routing.is_some_and(|routing| routing.channels.iter().any(|(name, _)| name == cluster))
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
        let list: Vec<(usize, u32)> = endpoints.iter().map(|(name, weight)| (self.service(name), *weight)).collect();
        match list.as_slice() {
            [(service, 1)] => Name::Headless(*service),
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
        self.end_splits();
        self.written.version += 1;
        self.versions.push(self.written.clone());
        let now = self.now();
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

    /// A client whose process has routes makes a request.
    pub(super) fn new_routed_call(&mut self, client: ClientId, work: Work) {
        let pod = self.client(client).pod;
        let call =
            Call { pod, phase: Phase::Forwarded(Id::NONE), ..Call::new(client, Id::NONE, work, self.queue.now()) };
        let call = self.begin_call(call);
        self.route(pod, call);
    }

    /// A request comes to a process with routes.
    pub(super) fn route(&mut self, pod: PodId, id: Id<Call>) {
        let now = self.queue.now();
        let Some(call) = self.calls.get_mut(id) else { return };
        let load = self.clients[call.client.index()].load as usize;
        let Some(Routing { router, stream, version, waiting, .. }) = self.pods[pod.0 as usize].routing.as_deref_mut()
        else {
            return;
        };
        if version.is_none() {
            return waiting.push(id);
        }
        let request = RequestInfo { path: &self.scenario.loads[load].path, headers: &self.headers[load] };
        let Some(route) = router.route(&request, stream) else { return self.end_routed(id, End::NoRoute) };
        let found = router.get(route);
        let cluster = found.cluster(stream);
        let attempts = found.retry().map(|retry| retry.begin());
        call.routed = self.routed.insert(Routed { pod, route, cluster, fault: None, attempts, step: Step::Asking });
        if let Some(timeout) = found.timeout() {
            self.queue.at(now + timeout, Event::RouteTimeout(id));
        }
        if let Some(Err(status)) = found.limit().map(|limit| limit.local(now)) {
            self.recorder.interventions.rate_limited += 1;
            return self.end_routed(id, End::RateLimited(status.code));
        }
        match found.limit().and_then(|limit| limit.global()).map(|global| (global.service.clone(), global.timeout)) {
            Some((service, timeout)) => self.ask_for_leave(id, &service, timeout),
            None => self.inject_fault(id),
        }
    }

    /// Sends the question to the limit service.
    fn ask_for_leave(&mut self, id: Id<Call>, service: &str, timeout: Nanos) {
        let service = self.service(service);
        let Some(pod) = self.routed_of(id).map(|r| r.pod) else { return };
        let limiter = self.pods[pod.0 as usize].routing.as_ref().and_then(|r| r.limiter(service)).unwrap_or(Id::NONE);
        self.call_for(id, limiter, LIMIT_STAGE, Some(timeout));
    }

    /// Its answer: leave, no leave, or nothing in time.
    fn answered_on_leave(&mut self, id: Id<Call>, answer: Option<Limit>) {
        let Some((pod, route)) = self.routed_of(id).map(|r| (r.pod, r.route)) else { return };
        let Some(routing) = self.pods[pod.0 as usize].routing.as_deref() else { return };
        match routing.router.get(route).limit().map(|limit| limit.global_answer(answer)) {
            Some(Err(status)) => {
                self.recorder.interventions.rate_limited += 1;
                let end = if answer.is_some() { End::RateLimited(status.code) } else { End::LimitFailed(status.code) };
                self.end_routed(id, end);
            }
            _ => self.inject_fault(id),
        }
    }

    fn inject_fault(&mut self, id: Id<Call>) {
        let Some(load) = self.calls.get(id).map(|c| self.client(c.client).load as usize) else { return };
        let Some(routed) = self.calls.get(id).map(|c| c.routed).and_then(|r| self.routed.get_mut(r)) else { return };
        let Some(Routing { router, stream, .. }) = self.pods[routed.pod.0 as usize].routing.as_deref_mut() else {
            return;
        };
        let Some(injector) = router.get(routed.route).fault() else { return self.attempt(id) };
        let request = RequestInfo { path: &self.scenario.loads[load].path, headers: &self.headers[load] };
        let fault = injector.begin(&request, stream);
        self.recorder.interventions.faults_injected += u64::from(fault.counts());
        let delay = fault.delay;
        routed.fault = Some(fault);
        match delay {
            Some(delay) => {
                routed.step = Step::Delayed;
                let now = self.queue.now();
                self.queue.at(now + delay, Event::Resume(id));
            }
            None => self.after_delay(id),
        }
    }

    fn after_delay(&mut self, id: Id<Call>) {
        let Some(routed) = self.calls.get(id).map(|c| c.routed).and_then(|r| self.routed.get_mut(r)) else { return };
        let Some(fault) = routed.fault.take() else { return self.attempt(id) };
        let abort = fault.abort.as_ref().map(|status| status.code);
        if let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref()
            && let Some(injector) = routing.router.get(routed.route).fault()
        {
            injector.end(fault);
        }
        match abort {
            Some(code) => self.end_routed(id, End::Injected(code)),
            None => self.attempt(id),
        }
    }

    /// An injected delay or the pause before a retry is over.
    pub(super) fn resume(&mut self, id: Id<Call>) {
        match self.routed_of(id).map(|r| r.step) {
            Some(Step::Delayed) => self.after_delay(id),
            Some(Step::Pausing) => self.attempt(id),
            _ => {}
        }
    }

    /// Sends the request to its cluster.
    fn attempt(&mut self, id: Id<Call>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        // A client's own request is worked on as if there were no routes, a proxy's is the next step on its way.
        let stage = call.stage + u8::from(!call.connection.is_none());
        let Some(routed) = self.routed.get_mut(call.routed) else { return };
        routed.step = Step::Attempting;
        let (pod, route, cluster) = (routed.pod, routed.route, routed.cluster);
        let before = routed.attempts.as_ref().map_or(0, |attempts| attempts.number() - 1);
        call.attempt = u8::try_from(before).unwrap_or(u8::MAX);
        let Some(routing) = self.pods[pod.0 as usize].routing.as_deref() else { return };
        let timeout = routing.router.get(route).retry().and_then(|retry| retry.per_attempt_timeout());
        let caller = routing.clusters.get(cluster.index()).copied().unwrap_or(Id::NONE);
        if caller.is_none() {
            return self.end_routed(id, End::NoCluster);
        }
        self.call_for(id, caller, stage, timeout);
    }

    /// Makes a call for the request `id`.
    fn call_for(&mut self, id: Id<Call>, caller: Id<Caller>, stage: u8, timeout: Option<Nanos>) {
        let now = self.queue.now();
        let Some(parent) = self.calls.get(id) else { return };
        let child = Call { caller, stage, ..parent.child(id, now) };
        let child = self.calls.insert(child);
        if let Some(parent) = self.calls.get_mut(id) {
            parent.phase = Phase::Forwarded(child);
        }
        if let Some(timeout) = timeout {
            self.queue.at(now + timeout, Event::Deadline(child));
        }
        self.pick_and_send(caller, child);
    }

    /// A call made for a routed request has ended.
    pub(super) fn routed_call_ended(&mut self, id: Id<Call>, child: &Call) {
        if let Some(parent) = self.calls.get_mut(id) {
            parent.phase = Phase::Forwarded(Id::NONE);
        }
        let Some(routed) = self.calls.get(id).map(|c| c.routed).and_then(|r| self.routed.get_mut(r)) else { return };
        if routed.step == Step::Asking {
            return self.answered_on_leave(
                id,
                match child.end {
                    End::Ok => Some(Limit::Ok { remaining: 0 }),
                    End::OverLimit => Some(Limit::OverLimit),
                    _ => None,
                },
            );
        }
        if let Some(controller) = &mut self.delivery
            && let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref()
        {
            controller.measure(self.queue.now(), routing.router.cluster_name(routed.cluster), child);
        }
        if let Some(Routing { router, stream, .. }) = self.pods[routed.pod.0 as usize].routing.as_deref_mut()
            && let Some(retry) = router.get(routed.route).retry()
            && let Some(attempts) = &mut routed.attempts
        {
            let decision = match child.end {
                End::Deadline => retry.on_attempt_timeout(attempts, stream),
                end => retry.on_attempt_end(attempts, end.code(), Pushback::None, stream),
            };
            if let RetryDecision::Retry(pause) = decision {
                routed.step = Step::Pausing;
                self.recorder.interventions.retries += 1;
                let now = self.queue.now();
                return self.queue.at(now + pause, Event::Resume(id));
            }
        }
        let route = routed.route;
        self.count_for_split(route, child);
        if let Some(parent) = self.calls.get_mut(id) {
            parent.hops = child.hops;
            parent.reached = child.reached;
        }
        self.release(id);
        self.pass_back(id, child.end);
    }

    /// The request ends without another attempt having ended: for want of a route or of leave, by a fault, by its time.
    fn end_routed(&mut self, id: Id<Call>, end: End) {
        self.release(id);
        if self.calls.get(id).is_some_and(|c| c.connection.is_none()) {
            self.fail_locally(id, end); // takes a moment, so that time passes in a closed loop
        } else {
            self.respond(id, end);
        }
    }

    /// The route's time for the whole request is over.
    pub(super) fn route_timeout(&mut self, id: Id<Call>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let Phase::Forwarded(child) = call.phase else { return };
        if call.routed.is_none() {
            return;
        }
        call.phase = Phase::Forwarded(Id::NONE);
        let reached = self.give_up(child, End::Cancelled).and_then(|child| child.reached);
        if let Some(call) = self.calls.get_mut(id) {
            call.reached = reached;
        }
        self.end_routed(id, End::Deadline);
    }

    /// Gives back what the request has taken of its route's counts.
    pub(super) fn release(&mut self, id: Id<Call>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let routed = std::mem::replace(&mut call.routed, Id::NONE);
        self.release_routed(routed);
    }

    pub(super) fn release_routed(&mut self, routed: Id<Routed>) {
        let Some(routed) = self.routed.remove(routed) else { return };
        // Without its process the counts are gone too.
        let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref() else { return };
        let route = routing.router.get(routed.route);
        if let Some((injector, fault)) = route.fault().zip(routed.fault) {
            injector.end(fault);
        }
        if let Some((retry, attempts)) = route.retry().zip(routed.attempts) {
            retry.end(attempts);
        }
    }

    fn routed_of(&self, id: Id<Call>) -> Option<&Routed> {
        self.routed.get(self.calls.get(id)?.routed)
    }

    /// The limit service has worked on a question: whether there is leave, by its counts of all who ask.
    pub(super) fn decide_on_leave(&mut self, id: Id<Call>) {
        let now = self.queue.now();
        let Some(routed) = self.calls.get(id).and_then(|c| self.routed_of(c.parent)) else {
            return self.respond(id, End::Cancelled);
        };
        let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref() else { return };
        let route = routing.router.get(routed.route);
        let Some(global) = route.limit().and_then(|limit| limit.global()) else { return self.respond(id, End::Ok) };
        // The replicas of a limit service share their counts (Redis), which outlive them.
        let at = match self.limits.iter().position(|(name, _)| *name == *route.name()) {
            Some(at) => at,
            None => {
                let service = RateLimitService::new(global.requests_per_unit, global.unit);
                self.limits.push((route.name().to_owned(), service));
                self.limits.len() - 1
            }
        };
        let name = route.name().to_owned();
        let end = match self.limits[at].1.should_rate_limit(now, &name, 1) {
            Limit::Ok { .. } => End::Ok,
            Limit::OverLimit => End::OverLimit,
        };
        self.respond(id, end);
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
        let channel =
            |name: &str| self.channels.iter().find(|(known, _)| known == name).map_or(Id::NONE, |(_, id)| *id);
        self.clusters = self.router.clusters().iter().map(|name| channel(name)).collect();
    }

    fn limiter(&self, service: usize) -> Option<Id<Caller>> {
        self.limiters.iter().find(|(of, _)| *of == service).map(|(_, caller)| *caller)
    }

    /// All of its channels.
    pub(super) fn channels(&self) -> impl Iterator<Item = Id<Caller>> {
        self.channels.iter().map(|(_, caller)| *caller).chain(self.limiters.iter().map(|(_, caller)| *caller))
    }
}

/// The deployments that answer questions about rate limits.
pub(super) fn limit_services(routes: &[RouteConfig]) -> impl Iterator<Item = &str> {
    routes.iter().filter_map(|route| Some(route.rate_limit.as_ref()?.global.as_ref()?.service.as_str()))
}
