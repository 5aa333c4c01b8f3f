//! The types of a scenario file. Doc comments become the descriptions of the JSON Schema.

mod cluster;
mod deployment;
mod event;
mod expect;
mod load;
mod routing;
mod strategy;

use lb_core::Nanos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cluster::*;
pub use deployment::*;
pub use event::*;
pub use expect::*;
pub use load::*;
pub use routing::*;
pub use strategy::*;

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
