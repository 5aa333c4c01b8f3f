//! The simulated cluster under one strategy.
//!
//! Each module is one part of the world and extends [`World`] with what happens there:
//!
//! * [`load`]: client applications send requests and wait for answers;
//! * [`callers`]: the core's channel, one per client or proxy, and the picks made through it;
//! * [`calls`]: a request on its way: to a pod, through its queue, on through a proxy, and back;
//! * [`connections`]: connect, GOAWAY, drain, ping, break;
//! * [`control_plane`]: endpoints that are pushed (xDS);
//! * [`deployments`]: what a strategy runs, and how it is scaled, restarted and rolled;
//! * [`autoscaler`]: the HorizontalPodAutoscaler;
//! * [`failures`]: pods that serve badly: errors, cold starts, bad periods;
//! * [`pods`]: pods start, become ready, terminate, die;
//! * [`endpoint_slices`]: who is ready, as the rest of the cluster hears it;
//! * [`names`]: cluster DNS and kube-proxy;
//! * [`configuration`]: the routes and clusters that balancers go by, and how they get to know them;
//! * [`routes`]: what a balancer does with a request around the pick;
//! * [`splits`]: what share each target of a route got;
//! * [`delivery`]: the controller that brings a new version in step by step;
//! * [`faults`]: outages, and pods that do not serve;
//! * [`lookaside`]: balancers that clients ask for servers (grpclb);
//! * [`mesh`]: sidecars in the servers' pods too;
//! * [`requests`]: whom a request is for: keys, hashes, sessions;
//! * [`load_reports`]: what servers say of their load;
//! * [`peers`]: who a caller is among its like;
//! * [`places`]: nodes, zones and the hops between them;
//! * [`zones`]: a zone that is cut off, and when that is noticed;
//! * [`recorder`] and [`tally`]: what is counted on the way.
//!
//! Nothing here decides what the core decides; the world carries out and reports back.

#[cfg(debug_assertions)]
mod audit;
mod autoscaler;
mod callers;
mod calls;
mod configuration;
mod connections;
mod control_plane;
mod delivery;
mod deployments;
mod endpoint_slices;
mod failures;
mod faults;
mod load;
mod load_reports;
mod lookaside;
mod mesh;
mod names;
mod peers;
mod places;
mod pods;
mod recorder;
mod requests;
mod routes;
mod splits;
mod tally;
mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_core::limit::RateLimitService;
use lb_core::policy::Needs;
use lb_core::{Address, Locality, Nanos};
use reports::record::Learnt;
use scenarios::{Load, Scenario, Strategy};

use crate::engine::{Id, Lane, Queue, Slab};
use crate::random::{Purpose, Stream, stream};
use autoscaler::Autoscaler;
use callers::Caller;
use calls::Call;
use configuration::{Part, Written};
use connections::Connection;
use control_plane::{ControlPlane, Push, Step};
use delivery::Controller;
use deployments::Deployment;
pub(crate) use deployments::Role;
use load::{Client, ClientId};
use load_reports::{Probe, Trailer};
use lookaside::Lookaside;
use names::Service;
use places::{Hop, Places};
use pods::Pod;
pub(crate) use recorder::{Latencies, OfDeployment, Recorder};
use requests::KeyShares;
use routes::Routed;
pub(crate) use splits::Split;
pub(crate) use tally::Tally;
use zones::Zones;

/// Index of a pod; pods are never removed, so that the record has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodId(u32);

/// Something that happens at its time.
///
/// Every field is a number of words of 4 bytes, 8 bytes in all at most. An event is then copied in words; with a single byte
/// among the fields the copies do not line up, and that costs a tenth of a simulated request.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A client starts its next batch, or an open loop's next request arrives.
    Issue(ClientId),
    /// A request that failed without leaving the client has done so.
    LocalFailure(Id<Call>),
    /// A request reaches the pod it was sent to.
    Reach(Id<Call>),
    /// The pod has finished its work on a request.
    Worked(Id<Call>),
    /// The answer reaches the caller.
    Answer(Id<Call>),
    /// The request's deadline.
    Deadline(Id<Call>),
    /// A caller's channel wants to be woken.
    Wake(Id<Caller>),
    /// A caller's query reaches the DNS server.
    DnsQuery(Id<Caller>),
    /// The answer reaches the caller.
    DnsAnswer(Id<Caller>),
    /// A query has had no answer for too long.
    DnsTimeout(Id<Caller>),
    /// A caller's subscription reaches the control plane.
    Subscribed(Id<Caller>),
    /// A list of endpoints reaches a caller.
    Pushed(Id<Push>),
    /// A caller notices that its subscription's stream has broken.
    StreamBroken(Id<Caller>),
    /// What the control plane does next, in this one of its lives.
    ControlPlane(Step, u32),
    /// The control plane's watch has news of a pod.
    Observe(PodId, u32),
    /// A client's request for lists reaches a lookaside balancer.
    BalancerAsked(Id<Caller>),
    /// The balancers' watches have news of a pod.
    BalancerObserves(PodId),
    /// The balancers send new lists.
    SendLists,
    /// Servers report their load to the balancers.
    ReportLoad,
    /// The reports are there.
    LoadReported,
    /// A health check's stream reaches its pod.
    HealthWatch(Id<Connection>),
    /// The pod's word that it serves reaches the caller.
    Healthy(Id<Connection>),
    /// That it does not.
    Unhealthy(Id<Connection>),
    /// A server's report of its load, apart from responses, reaches the caller.
    LoadReport(Id<Connection>),
    /// A probe reaches its server.
    Probe(Id<Probe>),
    /// The answer to a probe reaches the caller.
    Probed(Id<Probe>),
    /// A pod may serve again.
    Recovered(PodId),
    /// The first packet of a connection reaches the other side.
    Knock(Id<Connection>),
    /// The attempt was refused.
    Refused(Id<Connection>),
    /// The connection is ready at the caller's side.
    Established(Id<Connection>),
    /// The server's timer for a connection: its age, or the end of its grace.
    Age(Id<Connection>),
    /// A GOAWAY reaches the caller.
    GoAway(Id<Connection>),
    /// A connection that was cut is noticed by the caller.
    Broken(Id<Connection>),
    /// The caller's timer for pings on a quiet connection.
    Keepalive(Id<Connection>),
    /// The answer to a ping reaches the caller.
    Pong(Id<Connection>),
    /// The pod's process listens.
    Started(PodId),
    /// The pod's readiness probe passes.
    Ready(PodId),
    /// The EndpointSlice controller takes note of the pod's present state.
    Slice(PodId),
    /// DNS takes note of what the slices say of the pod.
    PublishDns(PodId),
    /// kube-proxy takes note of what the slices say of the pod.
    SyncProxy(PodId),
    /// The end of a pod's preStop hook.
    Sigterm(PodId),
    /// The end of the termination grace period.
    Kill(PodId),
    /// The nodes of a zone have not been heard of for too long, since the event of this index.
    NodesNotReady { event: u32, zone: u32 },
    /// The pods of a node have not been tolerated on it since the event of this index.
    Evict { event: u32, node: u32 },
    /// A zone can be reached again.
    ZoneBack(u32),
    /// An autoscaler looks at its pods: its index.
    Autoscale(u32),
    /// The scenario's timeline: index of its event.
    Timeline(u32),
    /// An injected delay or the pause before a retry is over, or another attempt of a hedged request is due.
    Resume(Id<Call>),
    /// The time that a route gives a request.
    RouteTimeout(Id<Call>),
    /// The clusters of a pushed configuration, by its version, reach a balancer.
    ClustersConfigured(PodId, u32),
    /// Its routes do.
    RoutesConfigured(PodId, u32),
    /// A progressive delivery begins or is judged.
    Deliver,
}

/// Lanes for the constant delays.
struct Lanes {
    /// One-way latency of each hop class, in the order of [`places::Hop`].
    hops: [Lane; 4],
    /// The deadline of each load that has one.
    deadlines: Vec<Option<Lane>>,
}

/// Everything that exists, and the queue of what will happen.
pub(crate) struct World<'s> {
    scenario: &'s Scenario,
    strategy: &'s Strategy,
    seed: u64,
    queue: Queue<Event>,
    lanes: Lanes,
    places: Places,
    zones: Zones,
    deployments: Vec<Deployment<'s>>,
    autoscalers: Vec<Autoscaler<'s>>,
    services: Vec<Service>,
    pods: Vec<Pod<'s>>,
    by_address: BTreeMap<Address, names::Target>,
    clients: Vec<Client>,
    callers: Slab<Caller>,
    callers_made: u64,
    connections: Slab<Connection>,
    calls: Slab<Call>,
    names_stream: Stream,
    /// Headers of each load's requests.
    headers: Vec<Vec<(Box<str>, Box<str>)>>,
    written: Written,
    /// Every version of it so far, by its number.
    versions: Vec<Written>,
    /// The last that the control plane has pushed.
    pushed_version: u32,
    routed: Slab<Routed>,
    /// Endpoints of clusters that are more than a service: services with the weight of their addresses.
    weighted: Vec<Vec<names::ServicePart>>,
    /// What limit services have counted, by route; nothing before the first question.
    limits: Vec<Option<RateLimitService>>,
    /// Requests that reached servers, by route and deployment.
    reached: Vec<Vec<u64>>,
    splits: Vec<Split>,
    delivery: Option<Controller<'s>>,
    /// DNS answers nobody until then.
    dns_back_at: Nanos,
    control_plane: ControlPlane<'s>,
    lookaside: Lookaside<'s>,
    pushes: Slab<Push>,
    probes: Slab<Probe>,
    /// By the call's index, where somebody asks for load.
    trailers: Vec<Trailer>,
    /// What the policies of this strategy need to know.
    needs: Needs,
    /// Whether servers measure their load, as somebody asks for it.
    servers_measure: bool,
    /// By zone.
    localities: Vec<Arc<Locality>>,
    /// The keys of each load that has any.
    keys: Vec<Option<KeyShares>>,
    recorder: Recorder,
}

impl<'s> World<'s> {
    /// The cluster at time zero: the initial pods are ready and known, clients are about to start.
    pub(crate) fn new(scenario: &'s Scenario, strategy: &'s Strategy, seed: u64) -> Self {
        let mut queue = Queue::new();
        let places = Places::new(&scenario.cluster);
        let needs = configuration::needs(strategy);
        let lanes = Lanes {
            hops: Hop::ALL.map(|hop| queue.lane(places.latency(hop))),
            deadlines: scenario.loads.iter().map(|load| load.deadline.map(|d| queue.lane(d))).collect(),
        };
        let mut world = Self {
            scenario,
            strategy,
            seed,
            queue,
            lanes,
            places,
            zones: Zones::new(scenario.cluster.zones),
            deployments: Vec::new(),
            autoscalers: Vec::new(),
            services: Vec::new(),
            pods: Vec::new(),
            by_address: BTreeMap::new(),
            clients: Vec::new(),
            callers: Slab::new(),
            callers_made: 0,
            connections: Slab::new(),
            calls: Slab::new(),
            names_stream: stream(seed, Purpose::Names, 0),
            headers: scenario.loads.iter().map(headers).collect(),
            written: Written::new(strategy),
            versions: vec![Written::new(strategy)],
            pushed_version: 0,
            routed: Slab::new(),
            weighted: Vec::new(),
            limits: vec![None; strategy.routes.len()],
            reached: vec![vec![0; scenario.deployments.len()]; strategy.routes.len()],
            splits: Vec::new(),
            delivery: strategy.delivery.as_ref().map(Controller::new),
            dns_back_at: Nanos::ZERO,
            control_plane: ControlPlane::new(scenario, strategy),
            lookaside: Lookaside::new(scenario, strategy),
            pushes: Slab::new(),
            probes: Slab::new(),
            trailers: Vec::new(),
            needs,
            servers_measure: needs.load || needs.oob_load,
            localities: control_plane::localities(scenario, strategy),
            keys: scenario.loads.iter().map(|load| load.keys.as_ref().map(KeyShares::new)).collect(),
            recorder: Recorder::new(scenario.interval, scenario.warm_up, scenario.loads.len()),
        };
        world.deploy();
        world.start_autoscalers();
        let is_server: Vec<bool> = world.deployments.iter().map(|d| d.role == Role::Server).collect();
        world.recorder.tell_apart(&is_server);
        if let Some(delivery) = &strategy.delivery {
            world.queue.at(delivery.start, Event::Deliver);
        }
        for (index, event) in scenario.events.iter().enumerate() {
            world.queue.at(event.at, Event::Timeline(index as u32));
        }
        world
    }

    /// Runs to the scenario's end. `progress` gets the part of the time that has passed, now and then.
    pub(crate) fn run(&mut self, progress: &mut dyn FnMut(f64)) {
        let end = self.scenario.duration;
        while let Some(event) = self.queue.pop_before(end) {
            while self.recorder.bucket_end() <= self.queue.now() {
                self.close_bucket();
                progress(self.queue.now().as_secs_f64() / end.as_secs_f64());
            }
            self.happen(event);
        }
        while !self.recorder.is_complete(end) {
            self.close_bucket();
        }
        self.end_splits(end);
        progress(1.0);
        #[cfg(debug_assertions)]
        self.audit();
    }

    #[inline]
    fn happen(&mut self, event: Event) {
        match event {
            Event::Issue(client) => self.issue(client),
            Event::LocalFailure(call) => self.local_failure(call),
            Event::Reach(call) => self.reach(call),
            Event::Worked(call) => self.worked(call),
            Event::Answer(call) => self.answer(call),
            Event::Deadline(call) => self.deadline(call),
            Event::Wake(caller) => self.wake(caller),
            Event::DnsQuery(caller) => self.dns_query(caller),
            Event::DnsAnswer(caller) => self.dns_answer(caller),
            Event::DnsTimeout(caller) => self.dns_timeout(caller),
            Event::Subscribed(caller) => self.subscribed(caller),
            Event::Pushed(push) => self.pushed(push),
            Event::StreamBroken(caller) => self.stream_broken(caller),
            Event::ControlPlane(step, life) => self.control_plane(step, life),
            Event::Observe(pod, life) => self.observe(pod, life),
            Event::BalancerAsked(caller) => self.balancer_asked(caller),
            Event::BalancerObserves(pod) => self.balancer_observes(pod),
            Event::SendLists => self.send_lists(),
            Event::ReportLoad => self.report_load(),
            Event::LoadReported => self.load_reported(),
            Event::HealthWatch(connection) => self.health_watch(connection),
            Event::Healthy(connection) => self.health(connection, true),
            Event::Unhealthy(connection) => self.health(connection, false),
            Event::LoadReport(connection) => self.reported(connection),
            Event::Probe(probe) => self.probe_arrives(probe),
            Event::Probed(probe) => self.probed(probe),
            Event::Recovered(pod) => self.recovered(pod),
            Event::Knock(connection) => self.knock(connection),
            Event::Refused(connection) => self.refused(connection),
            Event::Established(connection) => self.established(connection),
            Event::Age(connection) => self.age(connection),
            Event::GoAway(connection) => self.goaway(connection),
            Event::Broken(connection) => self.broken(connection),
            Event::Keepalive(connection) => self.keepalive(connection),
            Event::Pong(connection) => self.pong(connection),
            Event::Started(pod) => self.started(pod),
            Event::Ready(pod) => self.ready(pod),
            Event::Slice(pod) => self.slice(pod),
            Event::PublishDns(pod) => self.publish_dns(pod),
            Event::SyncProxy(pod) => self.sync_proxy(pod),
            Event::Sigterm(pod) => self.sigterm(pod),
            Event::Kill(pod) => self.kill(pod),
            Event::NodesNotReady { event, zone } => self.nodes_not_ready(event, zone),
            Event::Evict { event, node } => self.evict(event, node),
            Event::ZoneBack(zone) => self.zone_back(zone),
            Event::Autoscale(index) => self.autoscale(index),
            Event::Timeline(index) => self.timeline(index),
            Event::Resume(call) => self.resume(call),
            Event::RouteTimeout(call) => self.route_timeout(call),
            Event::ClustersConfigured(pod, version) => self.configured(pod, version, Part::Clusters),
            Event::RoutesConfigured(pod, version) => self.configured(pod, version, Part::Routes),
            Event::Deliver => self.deliver(),
        }
    }

    fn close_bucket(&mut self) {
        for pod in &mut self.pods {
            pod.close_bucket();
        }
        self.recorder.close_bucket();
    }

    /// How long the run lasts.
    pub(crate) fn duration(&self) -> Nanos {
        self.scenario.duration
    }

    fn now(&self) -> Nanos {
        self.queue.now()
    }

    /// What is left when the run is over.
    pub(crate) fn into_parts(self) -> Parts<'s> {
        let deployments = self.deployments;
        let pods = self.pods.into_iter().map(|pod| {
            let deployment = &deployments[pod.deployment];
            let learnt = names::learnt(self.strategy, deployment.role);
            PodPart { deployment: &deployment.spec.name, role: deployment.role, learnt, pod }
        });
        let servers = deployments.iter().enumerate().filter(|(_, d)| d.role == Role::Server);
        let servers = servers.map(|(index, d)| (index, d.spec.name.as_str())).collect();
        Parts {
            scenario: self.scenario,
            strategy: self.strategy,
            pods: pods.collect(),
            servers,
            splits: self.splits,
            keys_moved: self.keys.iter().flatten().map(|keys| keys.moved).reduce(|a, b| a + b),
            recorder: self.recorder,
        }
    }
}

fn headers(load: &Load) -> Vec<(Box<str>, Box<str>)> {
    let fixed = load.headers.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    // That of the key comes last: its value is another for each request.
    fixed.chain(load.keys.iter().map(|keys| (keys.header.as_str().into(), "".into()))).collect()
}

/// A world at its end.
pub(crate) struct Parts<'s> {
    pub(crate) scenario: &'s Scenario,
    pub(crate) strategy: &'s Strategy,
    pub(crate) pods: Vec<PodPart<'s>>,
    pub(crate) splits: Vec<Split>,
    /// How often keys went to another pod than before; none if there are no keys.
    pub(crate) keys_moved: Option<u64>,
    /// Index and name of the deployments that answer.
    pub(crate) servers: Vec<(usize, &'s str)>,
    pub(crate) recorder: Recorder,
}

/// A pod at the end of its world.
pub(crate) struct PodPart<'s> {
    pub(crate) pod: Pod<'s>,
    pub(crate) deployment: &'s str,
    pub(crate) learnt: Learnt,
    pub(crate) role: Role,
}
