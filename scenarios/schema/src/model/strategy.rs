//! What is compared: where the choice is made, how endpoints are learnt, which policy picks.

use lb_core::channel::{ChannelConfig, KeepaliveConfig, ResolverConfig};
use lb_core::route::RouteConfig;
use lb_core::{Nanos, PolicyConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::{ControlPlane, Lookaside};
use super::routing::{ClusterConfig, Configuration, ProgressiveDelivery};

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
