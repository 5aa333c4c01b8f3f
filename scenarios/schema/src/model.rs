//! The types of a scenario file. Doc comments become the descriptions of the JSON Schema.

use std::collections::BTreeMap;

use lb_core::channel::{ChannelConfig, KeepaliveConfig, ResolverConfig};
use lb_core::route::RouteConfig;
use lb_core::{Code, Nanos, PolicyConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::routing::{ClusterConfig, Configuration, Configure, ProgressiveDelivery};
use crate::values::{Bound, PodCount, Rate};

/// A situation, the strategies to compare in it, and what is expected of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The question in one line.
    pub title: String,
    /// How long the run lasts.
    pub duration: Nanos,
    /// Master seed; `--seed` overrides it.
    #[serde(default = "one")]
    pub seed: u64,
    /// Width of the timeline's buckets.
    #[serde(default = "second")]
    pub interval: Nanos,
    /// Figures begin here: requests issued earlier are in the timeline only, so that the filling of empty queues is not
    /// taken for the steady state. A few times what the system takes to settle; a whole number of intervals. 0 s, our choice.
    #[serde(default)]
    pub warm_up: Nanos,
    /// Nodes, zones and how far apart they are.
    #[serde(default)]
    pub cluster: Cluster,
    /// The EndpointSlices, from which DNS, kube-proxy and control planes learn of pods.
    #[serde(default)]
    pub endpoint_slices: EndpointSlices,
    /// The cluster's DNS.
    #[serde(default)]
    pub dns: Dns,
    /// kube-proxy, which gives a ClusterIP its backends.
    #[serde(default)]
    pub kube_proxy: KubeProxy,
    /// The control plane, for callers whose resolver is `xds`.
    #[serde(default)]
    pub control_plane: ControlPlane,
    /// The lookaside balancer, for clients whose resolver is `grpclb`.
    #[serde(default)]
    pub lookaside: Option<Lookaside>,
    /// What runs: each is a number of equal pods.
    #[serde(default, rename = "deployment")]
    pub deployments: Vec<Deployment>,
    /// Autoscalers, at most one a deployment.
    #[serde(default, rename = "hpa")]
    pub autoscalers: Vec<Hpa>,
    /// Names that clients can call.
    #[serde(default, rename = "service")]
    pub services: Vec<Service>,
    /// Who calls whom, and how much: one `[load]`, or several `[[load]]`.
    #[serde(rename = "load")]
    #[schemars(schema_with = "crate::schema::one_or_many::<Load>")]
    pub loads: Vec<Load>,
    /// What is compared, each on the same workload and the same random numbers.
    #[serde(default, rename = "strategy")]
    pub strategies: Vec<Strategy>,
    /// What happens while it runs.
    #[serde(default, rename = "event")]
    pub events: Vec<Event>,
    /// What must come out.
    #[serde(default, rename = "expect")]
    pub expectations: Vec<Expect>,
}

fn one() -> u64 {
    1
}

fn second() -> Nanos {
    Nanos::from_secs(1)
}

/// Nodes, zones and the latency between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Nodes; pods are spread over them as evenly as possible.
    pub nodes: u32,
    /// Zones; node i is in zone i mod zones.
    pub zones: u32,
    /// One-way latency of a message by how far it goes.
    pub hops: Hops,
    /// How long a node may be silent before it is NotReady and its pods leave the names. 50 s, kube-controller-manager
    /// `--node-monitor-grace-period` (40 s before Kubernetes 1.32).
    pub node_monitor_grace_period: Nanos,
    /// How long pods stay on a node that is NotReady before they are replaced elsewhere. 300 s, kube-apiserver
    /// `--default-unreachable-toleration-seconds`.
    pub default_unreachable_toleration: Nanos,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            nodes: 3,
            zones: 1,
            hops: Hops::default(),
            node_monitor_grace_period: Nanos::from_secs(50),
            default_unreachable_toleration: Nanos::from_secs(300),
        }
    }
}

/// One-way latency of a message, by distance. Defaults are our choice, typical of one cloud region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hops {
    /// Between containers of a pod, over loopback. 20 us.
    pub same_pod: Nanos,
    /// Between pods of a node. 50 us.
    pub same_node: Nanos,
    /// Between nodes of a zone. 250 us.
    pub same_zone: Nanos,
    /// Between zones. 1 ms.
    pub other_zone: Nanos,
}

impl Default for Hops {
    fn default() -> Self {
        Self {
            same_pod: Nanos::from_micros(20),
            same_node: Nanos::from_micros(50),
            same_zone: Nanos::from_micros(250),
            other_zone: Nanos::from_millis(1),
        }
    }
}

/// The EndpointSlices of the services: who is ready, by the EndpointSlice controller. Everything else that knows of pods
/// watches these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointSlices {
    /// From a pod's change (ready, deleted, gone) to the slice that says so. 500 ms, our choice: the kubelet's status
    /// update, the controller's work and two watches. The controller itself does not wait for more changes by default
    /// (kube-controller-manager `endpointslice-updates-batch-period`, 0).
    pub delay: Nanos,
}

impl Default for EndpointSlices {
    fn default() -> Self {
        Self { delay: Nanos::from_millis(500) }
    }
}

/// The cluster's DNS (CoreDNS).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// TTL of a record. 30 s, as kubeadm configures CoreDNS's kubernetes plugin (the plugin's own default is 5 s).
    pub ttl: Nanos,
    /// How long the resolver answers from its cache; an answer is never kept longer than its TTL. 30 s, as kubeadm
    /// configures CoreDNS's cache plugin. "0s": no cache.
    pub cache: Nanos,
    /// From an EndpointSlice's change to the authoritative answer. 500 ms, our choice: a watch and CoreDNS's own work. With
    /// the slice's delay a pod is in DNS 1 s after it is ready.
    pub publication_delay: Nanos,
    /// How long a query waits for its answer. 5 s, resolv.conf(5) `timeout`.
    pub timeout: Nanos,
    /// How often a query is sent before the look-up has failed. 2, resolv.conf(5) `attempts`.
    pub attempts: u32,
    /// Answers come in random order, as CoreDNS's loadbalance plugin gives them; else in order of creation.
    pub shuffle: bool,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            ttl: Nanos::from_secs(30),
            cache: Nanos::from_secs(30),
            publication_delay: Nanos::from_millis(500),
            timeout: Nanos::from_secs(5),
            attempts: 2,
            shuffle: true,
        }
    }
}

/// kube-proxy in iptables mode: every new connection to a ClusterIP goes to a random ready backend and stays there. If none
/// is ready, to one that terminates and still serves (KEP-1669 ProxyTerminatingEndpoints).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubeProxy {
    /// From an EndpointSlice's change to the node's rules. 1 s, kube-proxy `iptables.minSyncPeriod`: so long after the last
    /// sync the next may come.
    pub sync_period: Nanos,
}

impl Default for KubeProxy {
    fn default() -> Self {
        Self { sync_period: Nanos::from_secs(1) }
    }
}

/// A control plane that tells callers the endpoints of the services they call, by xDS. It runs on a node of its own, as DNS
/// does; a caller has a stream for each service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlPlane {
    /// How it learns of pods: "watch" (EndpointSlices) or `{ poll = "10s" }` (a loop of DNS look-ups, each so long after the
    /// last; what DNS publishes and caches is all it sees).
    pub discovery: Discovery,
    /// Push only pods that answer SERVING to a gRPC health check (grpc.health.v1): in each loop, or with "watch" when a pod is
    /// new and at every `health_check_interval`. False: readiness is enough.
    pub health_check: bool,
    /// Between health checks with "watch". 10 s, our choice: as Kubernetes' probes.
    pub health_check_interval: Nanos,
    /// How long it waits for more changes before it pushes one; 10 s after the first it waits no longer. 100 ms, istiod
    /// `PILOT_DEBOUNCE_AFTER`.
    pub push_delay: Nanos,
    /// Clusters and their endpoints go out before the routes that lead to them (ADS, "make before break"). If not, routes
    /// come first, and requests to a cluster not known yet fail until the next push. True, as control planes with one
    /// aggregated stream do it.
    pub ordered: bool,
    /// Answer a stream only when it has named every service there is, as go-control-plane's snapshot cache does with `ads`. A
    /// client that names the one it calls is then never answered if there are two. Proxies ask by wildcard and are.
    pub withhold_until_all_named: bool,
}

impl Default for ControlPlane {
    fn default() -> Self {
        Self {
            discovery: Discovery::Watch,
            health_check: false,
            health_check_interval: Nanos::from_secs(10),
            push_delay: Nanos::from_millis(100),
            ordered: true,
            withhold_until_all_named: false,
        }
    }
}

/// How a control plane learns of pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discovery {
    /// It watches EndpointSlices.
    Watch,
    /// It looks the services' headless names up, so long after the last time.
    Poll(Nanos),
}

/// A lookaside balancer (grpclb): it streams lists of servers to the clients, which choose among them by their own policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookaside {
    /// The deployment whose pods are the balancers; clients find them by a headless service of that name.
    pub deployment: String,
    /// Changes are sent once in so long. 1 s, our choice.
    #[serde(default = "second")]
    pub update_interval: Nanos,
    /// A server that has more to spare is in the list more often; clients need a policy that takes weights. False: each
    /// server once.
    #[serde(default)]
    pub load_aware: bool,
    /// How often servers report their requests in flight. 1 s, our choice.
    #[serde(default = "second")]
    pub report_interval: Nanos,
}

/// A Kubernetes Deployment: a number of equal pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Its name; pods are called NAME-0, NAME-1, …
    pub name: String,
    /// Pods at the start; they are ready at time zero.
    #[serde(default = "one_replica")]
    pub replicas: u32,
    /// Time a request takes when nothing waits. None by default: the pod answers at once.
    #[serde(default)]
    pub service_time: ServiceTime,
    /// Requests worked on at the same time.
    #[serde(default = "hundred")]
    pub concurrency: u32,
    /// Requests that may wait; one more is refused with RESOURCE_EXHAUSTED. 1000, our choice.
    #[serde(default = "thousand")]
    pub queue: u32,
    /// How fast its pods work: 2.0 halves every service time.
    #[serde(default = "unit")]
    pub speed: f64,
    /// The part of requests that it answers with an error after their work, 0 to 1. None by default. Whether a request is
    /// one of them is decided by its own random number, so the same requests fail under every strategy that sends them here.
    #[serde(default)]
    pub error_rate: f64,
    /// The status of those answers. "INTERNAL", our choice: what a server that throws answers in most languages.
    #[serde(default = "internal")]
    pub error_code: Code,
    /// A pod that comes later is slow at first (JIT, caches); not by default. Those of time zero are warm.
    #[serde(default)]
    pub warm_up: Option<WarmUp>,
    /// What its pods are labelled with in the report, such as "v2"; its name by default.
    #[serde(default)]
    pub version: Option<String>,
    /// Static weight of each pod for policies that take one.
    #[serde(default = "one_replica")]
    pub weight: u32,
    /// From creation (scheduling, image, process) until the process listens. 2 s, our choice.
    #[serde(default = "two_seconds")]
    pub start_up: Nanos,
    /// The readiness probe.
    #[serde(default)]
    pub readiness: Readiness,
    /// GOAWAY to connections of this age, give or take its jitter; never by default (gRFC A9 MAX_CONNECTION_AGE).
    #[serde(default)]
    pub max_connection_age: Option<Nanos>,
    /// The age of each connection is drawn from ± this part of it, 0 to 1. 0.1, gRFC A9; 0 tells all connections that were
    /// made together to go together.
    #[serde(default)]
    pub max_connection_age_jitter: Option<f64>,
    /// Time for requests in flight after that GOAWAY; unlimited by default (gRFC A9 MAX_CONNECTION_AGE_GRACE).
    #[serde(default)]
    pub max_connection_age_grace: Option<Nanos>,
    /// How many pods above its replicas a rolling update may add. "25%", Kubernetes `maxSurge`; rounded up.
    #[serde(default = "quarter")]
    pub max_surge: PodCount,
    /// How many of its replicas may be unavailable in a rolling update. "25%", Kubernetes `maxUnavailable`; rounded down.
    #[serde(default = "quarter")]
    pub max_unavailable: PodCount,
    /// From a pod's deletion to SIGTERM; it is no ready endpoint any more, but serves as before (a preStop hook that
    /// sleeps). 0 s, Kubernetes' default is no hook.
    #[serde(default)]
    pub pre_stop: Nanos,
    /// From a pod's deletion to SIGKILL, `pre_stop` included; requests in flight may finish. 30 s, Kubernetes
    /// `terminationGracePeriodSeconds`.
    #[serde(default = "thirty_seconds")]
    pub termination_grace_period: Nanos,
}

impl Deployment {
    /// The label of its pods.
    pub fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(&self.name)
    }
}

fn internal() -> Code {
    Code::Internal
}
fn hello() -> String {
    "/hello.Hello/Say".into()
}
fn three_nines() -> f64 {
    0.999
}
fn one_replica() -> u32 {
    1
}
fn quarter() -> PodCount {
    PodCount::Percent(25)
}
fn hundred() -> u32 {
    100
}
fn thousand() -> u32 {
    1000
}
fn unit() -> f64 {
    1.0
}
fn two_seconds() -> Nanos {
    Nanos::from_secs(2)
}
fn thirty_seconds() -> Nanos {
    Nanos::from_secs(30)
}

/// `warm_up = { window = "30s", speed = 0.2 }`: from the moment a pod listens its speed grows in a straight line from this
/// part of `speed` to all of it. A request goes at the speed of the moment its work begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// How long it takes.
    pub window: Nanos,
    /// The part of `speed` it begins with, above 0 and at most 1.
    pub speed: f64,
}

/// A HorizontalPodAutoscaler (autoscaling/v2) on the part of a pod's `concurrency` that is busy. It acts on deployments that
/// have a number of pods of their own: not on sidecars and node proxies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hpa {
    /// Which deployment.
    pub deployment: String,
    /// Fewest pods. 1, Kubernetes `minReplicas`.
    #[serde(default = "one_replica")]
    pub min_replicas: u32,
    /// Most pods, Kubernetes `maxReplicas`.
    pub max_replicas: u32,
    /// The average part of `concurrency` that is to be busy, above 0 and at most 1. 0.8, the `averageUtilization` that
    /// Kubernetes takes where no metric is given.
    #[serde(default = "four_fifths")]
    pub target_utilization: f64,
    /// Between two looks at the pods, over which utilisation is averaged. 15 s, kube-controller-manager
    /// `--horizontal-pod-autoscaler-sync-period`.
    #[serde(default = "fifteen_seconds")]
    pub sync_period: Nanos,
    /// How far utilisation may be off, as a part of the target. 0.1, kube-controller-manager
    /// `--horizontal-pod-autoscaler-tolerance`.
    #[serde(default = "tenth")]
    pub tolerance: f64,
    /// It shrinks to the most that was desired in this time. 300 s, Kubernetes `behavior.scaleDown.stabilizationWindowSeconds`.
    #[serde(default = "five_minutes")]
    pub scale_down_stabilization: Nanos,
}

fn four_fifths() -> f64 {
    0.8
}
fn tenth() -> f64 {
    0.1
}
fn fifteen_seconds() -> Nanos {
    Nanos::from_secs(15)
}
fn five_minutes() -> Nanos {
    Nanos::from_secs(300)
}

/// A pod's readiness probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Readiness {
    /// From the start of the process to the first probe. 0 s, Kubernetes `initialDelaySeconds`.
    pub initial_delay: Nanos,
    /// Between probes; the pod is ready at the first one after it listens. 10 s, Kubernetes `periodSeconds`.
    pub period: Nanos,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { initial_delay: Nanos::ZERO, period: Nanos::from_secs(10) }
    }
}

/// How long a request is worked on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ServiceTime {
    /// Always the same: `{ constant = "10ms" }`.
    Constant(Nanos),
    /// Exponential with this mean: `{ exponential = "10ms" }`.
    Exponential(Nanos),
    /// Lognormal: `{ lognormal = { mean = "10ms", cv = 1.5 } }`.
    Lognormal(Lognormal),
}

impl Default for ServiceTime {
    fn default() -> Self {
        Self::Constant(Nanos::ZERO)
    }
}

/// A lognormal distribution by its mean and spread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lognormal {
    /// Mean.
    pub mean: Nanos,
    /// Coefficient of variation: standard deviation over mean.
    pub cv: f64,
}

/// A Kubernetes Service: a name over the ready pods of one or more deployments. It can be called by its ClusterIP
/// (strategies that balance at `kube_proxy`) and by its headless DNS name (all others).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its DNS name.
    pub name: String,
    /// The deployments whose pods it selects.
    pub deployments: Vec<String>,
}

/// Who calls whom, and how much. Loads of the same pods to the same service share a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Its name in expectations and in the report; that of the service by default.
    #[serde(default)]
    pub name: Option<String>,
    /// Deployment whose pods call.
    pub from: String,
    /// Service they call.
    pub to: String,
    /// The method, as routes see it: `:path` of the request.
    #[serde(default = "hello")]
    pub path: String,
    /// Request headers (gRPC metadata), as routes see them.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Batches of concurrent requests: send n, wait for all, repeat. Either this or `open`.
    #[serde(default)]
    pub closed: Option<Closed>,
    /// Requests that arrive whether or not earlier ones are answered. Either this or `closed`.
    #[serde(default)]
    pub open: Option<Open>,
    /// Whether a client keeps its connections or makes one per request.
    #[serde(default)]
    pub connection: ConnectionUse,
    /// Deadline of a request; none by default, as in gRPC.
    #[serde(default)]
    pub deadline: Option<Nanos>,
    /// Part of its requests that are to succeed, the service level objective; the rest is the error budget. 0.999, our choice.
    #[serde(default = "three_nines")]
    pub slo: f64,
}

impl Load {
    /// Its name, by default that of the service.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.to)
    }
}

/// A closed loop: each client pod sends a batch, waits for all answers, and starts again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// Requests of a batch.
    pub concurrency: u32,
    /// Pause between batches.
    #[serde(default)]
    pub pause: Nanos,
}

/// An open loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Requests of each client pod per second: "500/s".
    pub rate: Rate,
    /// How they are spaced.
    #[serde(default)]
    pub arrivals: Arrivals,
}

/// Spacing of an open loop's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Exponential gaps: independent callers.
    #[default]
    Poisson,
    /// Equal gaps.
    Constant,
}

/// Whether a client keeps its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionUse {
    /// One channel for the life of the client pod, as gRPC recommends.
    #[default]
    Shared,
    /// A new channel, name look-up and connection for every request.
    PerRequest,
}

/// A whole approach: where the choice is made, how endpoints are learnt, which policy picks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    /// Its name in the report.
    pub name: String,
    /// Where a request's backend is chosen.
    pub balancer: Balancer,
    /// The client application's channel (to the service, or to the proxy where there is one).
    #[serde(default)]
    pub client: ChannelConfig,
    /// The proxy between client and server, for `ingress`, `sidecar`, `node_proxy` and `mesh`; with its defaults where left out.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// `max_connection_age` of the called service's pods under this strategy; with `mesh`, where their sidecars accept the
    /// connections, of those.
    #[serde(default)]
    pub max_age: Option<Nanos>,
    /// `max_connection_age_jitter` of the called service's pods under this strategy.
    #[serde(default)]
    pub max_age_jitter: Option<f64>,
    /// `max_connection_age_grace` of the called service's pods under this strategy.
    #[serde(default)]
    pub max_age_grace: Option<Nanos>,
    /// `pre_stop` of the called service's pods under this strategy.
    #[serde(default)]
    pub pre_stop: Option<Nanos>,
    /// What the balancer does with a request by its path and headers; the first route that matches wins. Without routes a
    /// request goes to the service it calls. Proxies have routes, and clients where `balancer` is "client" (proxyless xDS).
    #[serde(default, rename = "route")]
    pub routes: Vec<RouteConfig>,
    /// The clusters that routes name, where they are not simply a service of that name.
    #[serde(default, rename = "cluster")]
    pub clusters: Vec<ClusterConfig>,
    /// How the balancers get to know their routes and clusters, and changes of them.
    #[serde(default)]
    pub configuration: Configuration,
    /// A controller that moves a route's traffic from one cluster to another, step by step.
    #[serde(default)]
    pub delivery: Option<ProgressiveDelivery>,
    /// The control plane under this strategy, in place of all of `[control_plane]`.
    #[serde(default)]
    pub control_plane: Option<ControlPlane>,
    /// The lookaside balancer under this strategy, in place of all of `[lookaside]`.
    #[serde(default)]
    pub lookaside: Option<Lookaside>,
}

/// Where a request's backend is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balancer {
    /// The client calls a ClusterIP; kube-proxy chooses a backend per connection.
    KubeProxy,
    /// The client resolves the headless name and chooses itself.
    Client,
    /// The client calls a proxy deployment by its headless name; each proxy chooses.
    Ingress,
    /// A proxy in every client pod chooses.
    Sidecar,
    /// A proxy on every node chooses for the clients of its node.
    NodeProxy,
    /// A proxy in every client pod chooses, and one in every server pod passes what comes to it on to its own server, as in
    /// Istio's sidecar mode. Both are of the same deployment, and so are its figures.
    Mesh,
}

impl Balancer {
    /// Whether requests pass a proxy.
    pub fn has_proxy(self) -> bool {
        matches!(self, Self::Ingress | Self::Sidecar | Self::NodeProxy | Self::Mesh)
    }
}

/// A proxy that balances requests. Its container is described by a deployment: `ingress` runs that deployment with its
/// own replicas, `sidecar` puts one container into every client pod, `node_proxy` one pod on every node, `mesh` one
/// container into every client pod and one into every server pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// The deployment that describes the proxy's container (work per request, concurrency, queue, start-up).
    #[serde(default = "proxy_name")]
    pub deployment: String,
    /// How clients reach an `ingress` proxy.
    #[serde(default)]
    pub reached_by: ReachedBy,
    /// Which server gets the next request.
    #[serde(default = "round_robin")]
    pub policy: PolicyConfig,
    /// When the proxy looks the servers' name up again. Envoy's STRICT_DNS by default.
    #[serde(default = "strict_dns")]
    pub resolver: ResolverConfig,
    /// Age of the connections clients make to the proxy, give or take its jitter; never by default.
    #[serde(default)]
    pub max_age: Option<Nanos>,
    /// The part of that age that is jitter. 0.1, gRFC A9.
    #[serde(default)]
    pub max_age_jitter: Option<f64>,
    /// Time for requests in flight after that.
    #[serde(default)]
    pub max_age_grace: Option<Nanos>,
    /// Pings on the proxy's idle connections to the servers; none by default, as in Envoy
    /// (envoy.config.core.v3.Http2ProtocolOptions `connection_keepalive`).
    #[serde(default)]
    pub keepalive: Option<KeepaliveConfig>,
}

/// By which kind of Service clients reach a proxy deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReachedBy {
    /// A headless Service: the client resolves the proxies' addresses and balances over them by its own policy.
    #[default]
    Headless,
    /// A ClusterIP: kube-proxy chooses a proxy per connection.
    ClusterIp,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            deployment: proxy_name(),
            reached_by: ReachedBy::default(),
            policy: round_robin(),
            resolver: strict_dns(),
            max_age: None,
            max_age_jitter: None,
            max_age_grace: None,
            keepalive: None,
        }
    }
}

impl Proxy {
    /// The proxy's own channel to the servers.
    pub fn channel(&self) -> ChannelConfig {
        ChannelConfig {
            policy: self.policy.clone(),
            resolver: self.resolver.clone(),
            keepalive: self.keepalive,
            ..ChannelConfig::default()
        }
    }
}

fn proxy_name() -> String {
    "proxy".into()
}
fn round_robin() -> PolicyConfig {
    PolicyConfig::RoundRobin(Default::default())
}
fn strict_dns() -> ResolverConfig {
    ResolverConfig::StrictDns(Default::default())
}

/// Something that happens during the run: a time and exactly one action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, from the start of the run; above zero, as what is there at the start is said by `replicas`.
    pub at: Nanos,
    /// The strategies under which it happens, where it is part of how they are operated (a restart that only a file needs);
    /// all by default.
    #[serde(default)]
    pub strategies: Vec<String>,
    /// Change the number of replicas.
    #[serde(default)]
    pub scale: Option<Scale>,
    /// Replace every pod, a few at a time, as a Deployment does when its template changes: `max_surge` and
    /// `max_unavailable` say how many. Sidecars and node proxies are not rolled.
    #[serde(default)]
    pub rollout: Option<Rollout>,
    /// Delete every pod of a deployment and let new ones take their place (`kubectl delete pod -l app=…`).
    #[serde(default)]
    pub restart: Option<Restart>,
    /// Kill pods without notice (a crash, the OOM killer); they are replaced. Their peers notice at once, as connections
    /// are reset; `zone_loss` leaves them waiting.
    #[serde(default)]
    pub kill: Option<Kill>,
    /// Change the weights of a route's clusters, or of a cluster's services. Balancers follow as their strategy's
    /// `configuration` says.
    #[serde(default)]
    pub configure: Option<Configure>,
    /// Pods answer NOT_SERVING to gRPC health checks, and UNAVAILABLE to requests. Their readiness probe, which asks something
    /// else, goes on passing, so Kubernetes does nothing.
    #[serde(default)]
    pub unhealthy: Option<Unhealthy>,
    /// DNS answers nobody, not even from its cache, until this is over. There is no cache on the nodes.
    #[serde(default)]
    pub dns_outage: Option<Outage>,
    /// The control plane is gone until this is over: streams break, nothing is pushed. It comes back knowing nothing.
    #[serde(default)]
    pub control_plane_outage: Option<Outage>,
    /// Make pods slow or failing for a while, though their readiness probes pass.
    #[serde(default)]
    pub degrade: Option<Degrade>,
    /// Cut a zone off from the others: nothing over its border arrives, and nobody is told.
    #[serde(default)]
    pub zone_loss: Option<ZoneLoss>,
}

/// `unhealthy = { deployment = "server", pods = 1, for = "30s" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unhealthy {
    /// Which deployment.
    pub deployment: String,
    /// How many of its pods, the oldest first.
    #[serde(default = "one_replica")]
    pub pods: u32,
    /// How long.
    #[serde(rename = "for")]
    pub lasts: Nanos,
}

/// `dns_outage = { for = "60s" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// How long.
    #[serde(rename = "for")]
    pub lasts: Nanos,
}

/// `scale = { deployment = "server", replicas = 5 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Which deployment.
    pub deployment: String,
    /// Its new number of pods.
    pub replicas: u32,
}

/// `rollout = { deployment = "server", template = "server-fixed" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Which deployment.
    pub deployment: String,
    /// The deployment that describes the new pods (`kubectl set image`): `service_time`, `concurrency`, `queue`, `speed`,
    /// `error_rate`, `error_code`, `warm_up`, `version`, `weight`, `start_up` and `readiness` are taken from it, all else
    /// stays. Left out, they are as before (`kubectl rollout restart`).
    #[serde(default)]
    pub template: Option<String>,
}

/// `restart = { deployment = "client" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Which deployment.
    pub deployment: String,
}

/// `kill = { deployment = "server", pods = 1 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Which deployment.
    pub deployment: String,
    /// How many of its pods, the oldest first.
    #[serde(default = "one_replica")]
    pub pods: u32,
}

/// `degrade = { deployment = "server", speed = 0.1, for = "30s" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Degrade {
    /// Which deployment.
    pub deployment: String,
    /// How many of its pods, the oldest first.
    #[serde(default = "one_replica")]
    pub pods: u32,
    /// They work at this part of their speed; 1 by default. For requests whose work begins meanwhile.
    #[serde(default = "unit")]
    pub speed: f64,
    /// Their `error_rate` meanwhile; by default it stays.
    #[serde(default)]
    pub error_rate: Option<f64>,
    /// How long. A pod that is degraded again is so by the later event only; one that takes its place is healthy.
    #[serde(rename = "for")]
    pub lasts: Nanos,
}

/// `zone_loss = { zone = 1, for = "120s" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneLoss {
    /// Which zone, counted from 0. The DNS servers and the control plane are in the others.
    pub zone: u32,
    /// How long.
    #[serde(rename = "for")]
    pub lasts: Nanos,
}

/// Something that must hold of the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The sentence this stands for, as the report prints it.
    pub text: String,
    /// The strategy it is about.
    pub strategy: String,
    /// What is measured: a metric by its name.
    #[schemars(schema_with = "crate::metrics::json_schema")]
    pub metric: String,
    /// What it must satisfy: "== 0", "<= 1.01", "0.32..0.35".
    pub bound: Bound,
    /// Measure relative to this strategy: the metric is divided by that strategy's.
    #[serde(default)]
    pub against: Option<String>,
    /// For metrics of requests: those of this load only.
    #[serde(default)]
    pub load: Option<String>,
    /// For metrics of pods and of deployments: whose. Those that answer by default; the calling ones for `goodput.jain`.
    #[serde(default)]
    pub deployment: Option<String>,
    /// For metrics of pods: which of them.
    #[serde(default)]
    pub pods: PodSet,
    /// For metrics that can be counted in a part of the run: count from here, a whole number of intervals. The end of
    /// the warm-up by default.
    #[serde(default)]
    pub from: Option<Nanos>,
    /// For metrics that can be counted in a part of the run: count up to here, a whole number of intervals.
    #[serde(default)]
    pub until: Option<Nanos>,
}

/// Which pods of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PodSet {
    /// All that ever existed.
    #[default]
    All,
    /// Those that were there at time zero.
    Initial,
    /// Those that came later.
    New,
}
