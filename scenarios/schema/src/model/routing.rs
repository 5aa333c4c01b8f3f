//! The types around routes: clusters, how configuration spreads, and who changes it. The routes themselves are the core's.

use lb_core::delivery::DeliveryConfig;
use lb_core::route::ClusterWeight;
use lb_core::{Nanos, PolicyConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cluster in Envoy's sense: endpoints among which a policy picks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The name that routes use.
    pub name: String,
    /// The services whose pods are its endpoints.
    pub endpoints: Vec<ServiceWeight>,
    /// Which of its endpoints gets the next request; that of the strategy's proxy or client by default.
    #[serde(default)]
    pub policy: Option<PolicyConfig>,
}

/// A service in a cluster, as an Envoy `lb_endpoint` with a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceWeight {
    /// Its DNS name.
    pub service: String,
    /// Weight of *each* address that the name resolves to, for policies that take weights: a service of eleven pods with
    /// weight 10 outweighs one of a single pod with weight 90. envoy.config.endpoint.v3.LbEndpoint
    /// `load_balancing_weight`, as STRICT_DNS applies it (envoy#38958).
    #[serde(default = "one")]
    pub weight: u32,
    /// 0 is used first; the policy `priority` goes on to others when those before are short of healthy endpoints.
    /// envoy.config.endpoint.v3.LocalityLbEndpoints `priority`.
    #[serde(default)]
    pub priority: u32,
}

fn one() -> u32 {
    1
}

/// How a balancer gets to know its routes and clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Configuration {
    /// From a file that is read when the process starts: a change takes a restart.
    #[default]
    Static,
    /// From a control plane that pushes changes to every balancer.
    Xds,
}

/// `configure = { route = "split", clusters = [{ name = "v1", weight = 99 }, { name = "v2", weight = 1 }] }`, or
/// `configure = { cluster = "server", endpoints = [{ service = "server-v1", weight = 99 }, … ] }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// The route that changes, of every strategy that has it.
    #[serde(default)]
    pub route: Option<String>,
    /// Its new clusters.
    #[serde(default)]
    pub clusters: Vec<ClusterWeight>,
    /// The cluster that changes, of every strategy that has it.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Its new endpoints.
    #[serde(default)]
    pub endpoints: Vec<ServiceWeight>,
}

/// A canary that is shifted by a controller, as Argo Rollouts and Flagger do it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressiveDelivery {
    /// The route whose weights it sets.
    pub route: String,
    /// The cluster that has the traffic at the start.
    pub stable: String,
    /// The cluster that is to get it.
    pub canary: String,
    /// When it begins.
    pub start: Nanos,
    /// Its steps, and what must hold to take the next one.
    pub plan: DeliveryConfig,
}
