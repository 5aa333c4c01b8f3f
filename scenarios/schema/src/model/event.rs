//! What happens while it runs.

use lb_core::Nanos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::routing::Configure;

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

fn one_replica() -> u32 {
    1
}
fn unit() -> f64 {
    1.0
}
