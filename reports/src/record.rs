//! The run record: what happened, in numbers, whoever hosted it.
//!
//! Times in `_s` fields are seconds from the start of the run; latencies are milliseconds as the client saw them.
//! Nothing here depends on the wall clock or on the machine, so that the same scenario and seed give the same bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the record's shape; raised when a field changes its meaning or goes away.
pub const RECORD_VERSION: u32 = 1;

/// One run of one scenario on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// Version of this record's shape, 1 today.
    pub version: u32,
    /// Name of the scenario: its file name without `.toml`.
    pub scenario: String,
    /// The scenario's question.
    pub title: String,
    /// FNV-1a of the scenario file's bytes, 64 bits as 16 hex digits, to tell whether two records are of the same file.
    pub scenario_hash: String,
    /// The scenario file as it was run; empty in records of before this field.
    #[serde(default)]
    pub scenario_text: String,
    /// What ran it: `sim`, `live`, `cluster`.
    pub host: String,
    /// Version of the program that wrote the record.
    pub program: String,
    /// Master seed.
    pub seed: u64,
    /// Length of the run.
    pub duration_s: f64,
    /// Width of a timeline bucket.
    pub interval_s: f64,
    /// Requests issued before are in the timeline only. 0 in records of before this field.
    #[serde(default)]
    pub warm_up_s: f64,
    /// The command that gives this record again.
    pub reproduce: String,
    /// What happened by the scenario's own timeline, in order.
    pub events: Vec<EventRecord>,
    /// One entry a strategy, in the scenario's order; the first is the baseline.
    pub strategies: Vec<StrategyRecord>,
    /// What was expected, and what was measured.
    pub expectations: Vec<ExpectationRecord>,
    /// The figures over several seeds, if the run was replicated; all else in the record is of the first seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replications: Option<Replications>,
}

/// When a run's figures are of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Times {
    /// Length of the run.
    pub duration_s: f64,
    /// Width of a timeline bucket.
    pub interval_s: f64,
    /// Requests issued before are in the timeline only.
    pub warm_up_s: f64,
}

impl Times {
    /// Seconds that the figures are of.
    #[must_use]
    pub fn measured_s(&self) -> f64 {
        self.duration_s - self.warm_up_s
    }
}

impl RunRecord {
    /// When its figures are of.
    #[must_use]
    pub fn times(&self) -> Times {
        Times { duration_s: self.duration_s, interval_s: self.interval_s, warm_up_s: self.warm_up_s }
    }
}

/// An event of the scenario's timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRecord {
    /// When.
    pub at_s: f64,
    /// What, in a few words: "scale server 3 → 5".
    pub label: String,
}

/// Everything measured under one strategy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StrategyRecord {
    /// The strategy's name.
    pub name: String,
    /// What it is in a few words: "client · round_robin · dns".
    pub summary: String,
    /// Requests of the clients issued after the warm-up.
    pub requests: Requests,
    /// Why requests failed: gRPC status name and how many.
    pub errors: Vec<ErrorCount>,
    /// Latency of requests that ended OK.
    pub latency_ms: Latency,
    /// Points of the latency distribution for the percentile plot: from 0 up to 1 − 1/requests.
    pub latency_quantiles: Vec<Quantile>,
    /// Borders between nodes that a request crossed on its way to the server that answered (one way).
    pub node_hops: Hops,
    /// Connections of clients and proxies, to whatever they call, of the whole run.
    pub connections: Connections,
    /// Most requests of a pod of the called service over the mean of all its pods, after the warm-up; 1 is even.
    pub imbalance: f64,
    /// Jain's fairness index of the same requests over the called service's pods: (Σx)² / (n·Σx²); 1 is even, 1/n is one pod.
    pub jain: f64,
    /// The same by load, in the scenario's order; empty in records of before this field.
    #[serde(default)]
    pub loads: Vec<LoadRecord>,
    /// What controllers did by themselves, in order: pods scaled, weights pushed, a rollback. Empty in records of before this
    /// field.
    #[serde(default)]
    pub happenings: Vec<EventRecord>,
    /// What balancers did to requests besides passing them on; all zero in records of before this field.
    #[serde(default)]
    pub interventions: Interventions,
    /// How often a request went to another pod than the one before it with the same key: what is lost of caches and sessions.
    /// `null` if requests have no keys, and in records of before this field.
    #[serde(default)]
    pub keys_moved: Option<u64>,
    /// The part of the error budget that failed requests used up, 1 is all of it: failed over what the loads' `slo` allows
    /// of their ended requests. `null` if nothing ended, and in records of before this field.
    #[serde(default)]
    pub error_budget_burned: Option<f64>,
    /// The deployments that answer, in the scenario's order: stable against canary. Empty in records of before this field.
    #[serde(default)]
    pub deployments: Vec<DeploymentRecord>,
    /// Every pod that ever existed, in order of creation.
    pub pods: Vec<PodRecord>,
    /// What share each target of a route got, by route and configuration.
    #[serde(default)]
    pub splits: Vec<SplitRecord>,
    /// How long changes of routes and clusters took to reach every balancer.
    #[serde(default)]
    pub configurations: Vec<ConfigurationRecord>,
    /// What happened in each bucket of `interval_s`.
    pub timeline: Timeline,
}

/// The split of a route while one configuration was in force with every balancer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SplitRecord {
    /// The route.
    pub route: String,
    /// From when.
    pub from_s: f64,
    /// To when: the next change, or the end of the run.
    pub until_s: f64,
    /// Its targets: clusters, or the services of its only cluster.
    pub parts: Vec<SplitPart>,
}

/// A target of a route, and its share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SplitPart {
    /// The cluster or service.
    pub name: String,
    /// Its share as it is written, 0 to 1: its weight over the sum of the weights.
    pub configured: f64,
    /// Its share as a balancer reads it: the weight of a DNS name counts for each of its addresses.
    pub effective: f64,
    /// Requests it got.
    pub requests: u64,
    /// Its share of those that the targets got, 0 to 1; 0 if there were none.
    pub measured: f64,
}

/// A change of what balancers go by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigurationRecord {
    /// When it was written down.
    pub at_s: f64,
    /// When the last balancer had it; `null` if that did not happen before the next change or the end.
    pub last_s: Option<f64>,
}

/// The requests of one load, issued after the warm-up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LoadRecord {
    /// The load's name.
    pub name: String,
    /// The deployment whose pods call.
    pub from: String,
    /// The service they call.
    pub to: String,
    /// Its requests.
    pub requests: Requests,
    /// Why they failed.
    pub errors: Vec<ErrorCount>,
    /// Latency of those that ended OK.
    pub latency_ms: Latency,
    /// Those that ended OK, per second.
    pub goodput_per_s: f64,
    /// Those that each pod received (a client: sent) after the warm-up, in the order of `pods`.
    pub requests_per_pod: Vec<u64>,
}

/// Counts of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Requests {
    /// Sent by clients. Those in flight at the end are neither ok nor failed.
    pub started: u64,
    /// Answered OK.
    pub ok: u64,
    /// Ended with any other status.
    pub failed: u64,
}

/// A status and how often it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorCount {
    /// gRPC status name: "UNAVAILABLE".
    pub code: String,
    /// Where it came from: "queue full", "connection closed", "no ready endpoint".
    pub reason: String,
    /// How many requests.
    pub count: u64,
}

/// Milliseconds. All zero if nothing ended OK.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Slowest.
    pub max: f64,
}

/// A point of the latency distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantile {
    /// Part of the requests, 0 to 1.
    pub quantile: f64,
    /// That part took at most this long, in milliseconds.
    pub ms: f64,
}

/// Node borders crossed per request.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Hops {
    /// Mean over requests that ended OK.
    pub mean: f64,
    /// Most.
    pub max: u32,
}

/// Counts of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Established.
    pub opened: u64,
    /// Closed again, for whatever reason.
    pub closed: u64,
    /// GOAWAYs sent by servers and proxies.
    pub goaways: u64,
    /// Most at the same time.
    pub peak: u64,
}

/// What a pod does for a request. `imbalance`, `jain` and the time to first traffic are about the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends it.
    Client,
    /// Passes it on: an ingress proxy, a sidecar, a node's proxy.
    Proxy,
    /// Answers it: a pod of the called service.
    #[default]
    Server,
    /// Answers questions about it: a limit service.
    Support,
}

/// How callers come to know of a pod, which is what the moments between ready and connected are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Learnt {
    /// They ask DNS.
    #[default]
    Dns,
    /// They do not: they call a ClusterIP, and kube-proxy knows.
    KubeProxy,
    /// A control plane tells them (xDS).
    ControlPlane,
    /// A lookaside balancer tells them (grpclb).
    Balancer,
}

/// A pod and the moments of its life, in seconds from the start of the run. `null`: did not happen.
///
/// The stages of its time to first traffic are the steps from one of `created_s`, `started_s`, `ready_s`,
/// `endpoint_slice_s`, `published_s`, `resolvable_s`, `resolved_s`, `connected_s`, `first_request_s` to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PodRecord {
    /// `server-3`; a sidecar's begins with that of the pod it is in: `client-0/proxy`.
    pub name: String,
    /// `server`.
    pub deployment: String,
    /// What it runs: `v2`. Empty in records from before versions.
    #[serde(default)]
    pub version: String,
    /// Its part in the run.
    pub role: Role,
    /// How its callers come to know of it; DNS in records of before this field.
    #[serde(default)]
    pub learnt: Learnt,
    /// `node-1`.
    pub node: String,
    /// Requests it received (a proxy: requests it forwarded; a client: requests it sent).
    pub requests: u64,
    /// Requests it sent, after the warm-up, that were answered OK; `null` for pods that are no clients.
    #[serde(default)]
    pub ok: Option<u64>,
    /// Its part of the requests of its deployment's pods, 0 to 1.
    pub share: f64,
    /// The Deployment asked for it.
    pub created_s: f64,
    /// Its process listens.
    pub started_s: Option<f64>,
    /// Its readiness probe passed.
    pub ready_s: Option<f64>,
    /// It was in an EndpointSlice as ready; `null` in records of before this field.
    #[serde(default)]
    pub endpoint_slice_s: Option<f64>,
    /// Its address was in the authoritative DNS answer; by `learnt`: in kube-proxy's rules, or known to the control plane or
    /// to the lookaside balancer as one to be used.
    pub published_s: Option<f64>,
    /// The cluster's resolver would have answered with it, as what it had cached before was over: from here on nobody asked.
    /// Only for DNS; `null` in records of before this field.
    #[serde(default)]
    pub resolvable_s: Option<f64>,
    /// The first caller got its address: it asked, or it was pushed.
    pub resolved_s: Option<f64>,
    /// The first connection to it was ready.
    pub connected_s: Option<f64>,
    /// It received its first request.
    pub first_request_s: Option<f64>,
    /// It was told to go, and has been terminating since.
    #[serde(default)]
    pub deleted_s: Option<f64>,
    /// It was gone.
    pub removed_s: Option<f64>,
}

impl PodRecord {
    /// The moments after its creation in their order, up to its first request.
    pub(crate) fn moments(&self) -> [Option<f64>; 8] {
        [
            self.started_s,
            self.ready_s,
            self.endpoint_slice_s,
            self.published_s,
            self.resolvable_s,
            self.resolved_s,
            self.connected_s,
            self.first_request_s,
        ]
    }
}

/// What balancers did to requests besides passing them on, over the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Interventions {
    /// Attempts after the first had failed.
    pub retries: u64,
    /// Attempts beside the first; left out if there were none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hedges: u64,
    /// Requests delayed or aborted by an injected fault.
    pub faults_injected: u64,
    /// Requests refused by a rate limit, or for want of its answer.
    pub rate_limited: u64,
    /// Questions that balancers asked servers about their load, besides requests.
    #[serde(default)]
    pub probes: u64,
    /// Requests that a policy turned away on purpose.
    #[serde(default)]
    pub turned_away: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What became of the requests that reached a deployment. A request is the deployment's whose pod its last attempt reached;
/// through a proxy that is the pod that answers the proxy. One that reached no server is nobody's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentRecord {
    /// `server-canary`.
    pub name: String,
    /// The called service that selects it, the first of several; where none does, because only routes lead to it, the first
    /// that is called.
    pub service: String,
    /// Its pods' part in the run.
    pub role: Role,
    /// Requests that reached it, issued after the warm-up, and ended: `ok` and `failed`.
    pub requests: u64,
    /// Of these ended OK.
    pub ok: u64,
    /// Ended with any other status, whoever gave it: the pod, a cut connection, a deadline.
    pub failed: u64,
    /// `failed` over `requests`; `null` without requests.
    pub error_rate: Option<f64>,
    /// Its part of the requests that reached a deployment of its service, 0 to 1.
    pub share: f64,
    /// After how many requests to the service its error rate is told from that of the service's other deployments, with 95 %
    /// power at 5 % significance; `null` if it is not higher, or too little to tell.
    pub detect_requests: Option<u64>,
    /// Latency of those that ended OK, to 1 %.
    pub latency_ms: DeploymentLatency,
    /// The same by bucket.
    pub timeline: DeploymentTimeline,
}

/// Milliseconds. All zero if nothing ended OK.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentLatency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// Series with one value per bucket, in which the request ended; the warm-up is in them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentTimeline {
    /// Requests that reached it and ended.
    pub requests: Vec<u32>,
    /// Of these failed.
    pub failed: Vec<u32>,
    /// 99th percentile of the latency of the others, in milliseconds; `null` where there are none.
    pub p99_ms: Vec<Option<f64>>,
}

/// Series with one value per bucket of `interval_s`; bucket i covers i·interval_s up to (i+1)·interval_s. The warm-up is in them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Requests each pod received: in the order of `pods`, then by bucket.
    pub requests_per_pod: Vec<Vec<u32>>,
    /// Requests that clients issued; empty in records of before this field.
    #[serde(default)]
    pub started: Vec<u32>,
    /// Requests that ended OK.
    pub ok: Vec<u32>,
    /// Requests that failed.
    pub failed: Vec<u32>,
    /// Median latency of requests that ended OK in the bucket; `null` where none did.
    pub p50_ms: Vec<Option<f64>>,
    /// 99th percentile.
    pub p99_ms: Vec<Option<f64>>,
    /// Connections established in the bucket; empty in records of before this field.
    #[serde(default)]
    pub opened: Vec<u32>,
    /// Open connections at the end of the bucket.
    pub connections: Vec<u32>,
}

/// An expectation and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExpectationRecord {
    /// The sentence it stands for.
    pub text: String,
    /// The strategy it is about.
    pub strategy: String,
    /// What is measured, in words a reader can check: "share.max of new server pods from 60 s".
    pub metric: String,
    /// What it must satisfy: "<= 1.01".
    pub bound: String,
    /// What came out; `null` where there was nothing to measure (a pod that never got a request has no time of first request).
    pub measured: Option<f64>,
    /// Whether the bound holds, under every seed if the run was replicated; what can't be measured does not hold.
    pub holds: bool,
    /// Under how many seeds it holds, if the run was replicated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// How an expectation fared under the seeds of a replicated run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// Seeds under which the bound holds.
    pub seeds: u32,
    /// Seeds of the run.
    pub of: u32,
    /// The first seed under which it does not.
    pub failed: Option<FailedSeed>,
}

/// A seed under which an expectation does not hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailedSeed {
    /// The seed.
    pub seed: u64,
    /// What came out; `null` where there was nothing to measure.
    pub measured: Option<f64>,
}

/// The same scenario under several seeds. Within a seed all strategies have the same workload and the same random
/// numbers, so what they differ in is compared seed by seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replications {
    /// The master seeds, the record's own first.
    pub seeds: Vec<u64>,
    /// One entry a strategy, in the record's order.
    pub strategies: Vec<ReplicatedStrategy>,
}

/// A strategy's figures over the seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicatedStrategy {
    /// The strategy's name.
    pub name: String,
    /// The figures of the comparison, each with its interval.
    pub figures: Vec<FigureEstimate>,
    /// What they differ by from the first strategy's; empty for the first itself.
    pub against_baseline: Vec<DifferenceEstimate>,
    /// Between which latencies the seeds' distributions lie, at the points that all of them have.
    pub latency_band: Vec<QuantileBand>,
}

/// A figure over the seeds under which it could be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FigureEstimate {
    /// Which: "latency_ms.p99".
    pub metric: String,
    /// Mean over the seeds; `null` where none had anything to measure.
    pub mean: Option<f64>,
    /// Lower end of the 95 % interval of the mean (Student's t); `null` with fewer than two seeds.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// Seeds under which the figure could be measured.
    pub n: u32,
}

/// A figure minus the baseline's, seed by seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceEstimate {
    /// Which: "latency_ms.p99".
    pub metric: String,
    /// Mean of the differences; `null` where no seed had both to measure.
    pub mean: Option<f64>,
    /// Lower end of the 95 % interval of that mean (Student's t on the paired differences); `null` with fewer than two
    /// seeds. An interval with zero in it: no difference found.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// `mean` as a part of the baseline's mean over the same seeds, which is taken as known; `null` if that is not positive.
    pub relative: Option<f64>,
    /// `low` as such a part.
    pub relative_low: Option<f64>,
    /// `high` as such a part.
    pub relative_high: Option<f64>,
    /// Seeds under which both could be measured.
    pub n: u32,
}

/// Spread of a point of the latency distribution over the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuantileBand {
    /// Part of the requests, 0 to 1.
    pub quantile: f64,
    /// That part took at most this long under the fastest seed, in milliseconds.
    pub low_ms: f64,
    /// And under the slowest.
    pub high_ms: f64,
}
