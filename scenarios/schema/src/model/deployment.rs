//! What runs: Deployments, the pods they make, and the Services that select them.

use lb_core::{Code, Nanos};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::PodCount;

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
    /// What its pods report of their load to callers whose policy asks for it (ORCA).
    #[serde(default)]
    pub load_report: LoadReporting,
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

/// How a pod comes to the numbers of its load reports: requests per second, errors per second and utilisation (the busy part of
/// `concurrency`) are averages over the last whole period; requests in flight are those of the moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadReporting {
    /// The longer, the more a report lags behind. 1 s, our choice.
    pub period: Nanos,
    /// Reports apart from responses come no more often than this, whatever a client asks for. 30 s, grpc-go's and grpc-java's
    /// default of the OpenRCA service (`MinReportingInterval`).
    pub min_reporting_interval: Nanos,
}

impl Default for LoadReporting {
    fn default() -> Self {
        Self { period: Nanos::from_secs(1), min_reporting_interval: Nanos::from_secs(30) }
    }
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
    /// Which of its endpoints kube-proxy uses for a connection from a pod; all of them by default.
    #[serde(default)]
    pub traffic_distribution: Option<TrafficDistribution>,
}

/// `spec.trafficDistribution` of a Service. Where no endpoint qualifies, all do. The control plane's hints share each zone's
/// endpoints out to that zone whatever the load: a zone with few of them gets no help from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrafficDistribution {
    /// Endpoints of the pod's zone. "PreferClose", Kubernetes 1.30; the older name of "PreferSameZone".
    PreferClose,
    /// Endpoints of the pod's zone. "PreferSameZone", Kubernetes 1.34.
    PreferSameZone,
    /// Endpoints of the pod's node, then of its zone. "PreferSameNode", Kubernetes 1.34.
    PreferSameNode,
}

fn internal() -> Code {
    Code::Internal
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
